"""What networks before this one were blind to, or were taken in by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from absorption import CENTRE, Bools, between
from ensemble import median_flux
from noise import SDSS, normalise, observe
from objects import (
    disrupted,
    junk,
    narrow_line,
    odd,
    post_starburst,
    quasars,
    starlight,
)
from templates import (
    GRID_START,
    GRID_STEP,
    Array,
    Generator,
    Ints,
    draw_shift,
    redshift,
)
from world import World

from qnp_xp.grids import nbins
from qnp_xp.lines import LINES, rest_wavelengths

# Where the arms of DESI meet lies between these wavelengths (Angstrom).
ARMS = {"b": (3600, 5780), "r": (5780, 7570), "z": (7570, 9900)}
ARMS |= {"b and r": (3600, 7570), "r and z": (5780, 9900)}
# A redshift is good within this many times 1 + z.
CLOSE = 0.02
COUNT = 1500
# What is near the edge of a box, in boxes.
EDGE = 0.05


@dataclass(frozen=True)
class Spot:
    """Spectra of one kind at one signal-to-noise ratio.

    Parameters
    ----------
    snr : float
        Median of the bins.
    redshifts : tuple of float
        Range in which they are uniform.
    make : callable
        From a generator, the world and shifts to spectra without noise.
    quasar : bool
        Whether they ought to be found.
    seen : tuple of float
        Range of wavelengths with data, in Angstrom.
    """

    snr: float
    redshifts: tuple[float, float]
    make: Callable[[Generator, World, Ints], Array]
    quasar: bool = True
    seen: tuple[float, float] = (0, 1e5)


def _quasars(rng: Generator, world: World, shift: Ints) -> Array:
    none: Bools = np.zeros(shift.size, dtype=bool)
    return quasars(rng, world.library, shift, none, 0.0)


def _double(rng: Generator, world: World, shift: Ints) -> Array:
    return odd(rng, world.library, shift, np.full(shift.size, "double"))


def _displaced(rng: Generator, world: World, shift: Ints) -> Array:
    return odd(rng, world.library, shift, np.full(shift.size, "displaced"))


def _galaxies(
    change: Callable[[Generator, Array, Array], Array],
) -> Callable[[Generator, World, Ints], Array]:
    def make(rng: Generator, world: World, shift: Ints) -> Array:
        z = redshift(shift).astype(np.float32)
        return change(rng, z, starlight(rng, world.library, shift))

    return make


def _power_laws(rng: Generator, world: World, shift: Ints) -> Array:
    slope = rng.normal(-0.7, 1.5, (shift.size, 1)).astype(np.float32)
    return (CENTRE / 6000) ** slope


def _junk(rng: Generator, world: World, shift: Ints) -> Array:
    return junk(rng, shift.size)


SPOTS = (
    {
        "z of 5.1 to 6.5": Spot(4, (5.1, 6.5), _quasars),
        "z of 6.5 to 6.9": Spot(4, (6.5, 6.9), _quasars),
        "double-peaked Balmer lines": Spot(30, (0.1, 0.5), _double),
        "displaced Balmer lines": Spot(30, (0.1, 0.5), _displaced),
        "H alpha beyond 9200 Angstrom": Spot(15, (0.4, 0.47), _quasars, seen=SDSS),
        "z below 0.05": Spot(30, (0.01, 0.05), _quasars),
        "faint, z of 0.6 to 0.8": Spot(3, (0.6, 0.8), _quasars),
        "faint, z of 2.0 to 2.2": Spot(3, (2.0, 2.2), _quasars),
    }
    | {
        f"featureless, only arm {name}"
        if len(name) == 1
        else f"featureless, {name}": Spot(
            50, (0, 0), _power_laws, quasar=False, seen=seen
        )
        for name, seen in ARMS.items()
    }
    | {
        "junk": Spot(50, (0, 0), _junk, quasar=False),
        "narrow lines only": Spot(
            20, (0.02, 0.9), _galaxies(narrow_line), quasar=False
        ),
        "post-starburst": Spot(
            20, (0.02, 0.9), _galaxies(post_starburst), quasar=False
        ),
        "tidal disruption": Spot(20, (0.02, 0.4), _galaxies(disrupted), quasar=False),
    }
)


def blind_spots(
    judge: Any, world: World, rng: Generator, threshold: float
) -> dict[str, dict[str, float]]:
    """Count what is found of each kind.

    Parameters
    ----------
    judge : Judge
        The network.
    world : World
        Templates and noise.
    rng : numpy.random.Generator
        Source of objects and noise.
    threshold : float
        For the confidence.

    Returns
    -------
    dict
        By kind ``found``, and of quasars ``good``, with a good redshift too.
    """
    results = {}
    for name, spot in SPOTS.items():
        shift = draw_shift(rng, *spot.redshifts, COUNT)
        clean = spot.make(rng, world, shift)
        clean = clean / median_flux(clean)[:, None]
        snr = np.full(COUNT, spot.snr, dtype=np.float32)
        flux, ivar = observe(rng, clean, world.shapes, snr)
        outside = ~between(*spot.seen)
        ivar[:, outside] = flux[:, outside] = 0
        some = (ivar > 0).sum(axis=1) > 10
        said = judge(normalise(flux[some], ivar[some]))
        found = said.cbest > threshold
        z = redshift(shift[some])
        good = np.abs(said.zbest - z) < CLOSE * (1 + z)
        one = {"S/N": spot.snr, "found": round(float(found.mean()), 4)}
        if spot.quasar:
            one["good"] = round(float((found & good).mean()), 4)
        results[name] = one
    return results


def at_edges(judge: Any, world: World, rng: Generator) -> dict[str, float]:
    """Compare confidences of lines near the edge of a box with those of others.

    Parameters
    ----------
    judge, world, rng
        As for `blind_spots`.

    Returns
    -------
    dict
        Median confidences of all lines of bright quasars that are on the grid.
    """
    shift = draw_shift(rng, 0.3, 3.0, 2 * COUNT)
    clean = _quasars(rng, world, shift)
    clean = clean / median_flux(clean)[:, None]
    snr = np.full(shift.size, 20, dtype=np.float32)
    said = judge(normalise(*observe(rng, clean, world.shapes, snr)))
    rest = np.array(rest_wavelengths(LINES))[:, None]
    place = (np.log10(rest * (1 + redshift(shift))) - GRID_START) / GRID_STEP
    on_grid = (place > 5) & (place < nbins - 5)
    within = place * judge.model.nboxes / nbins % 1
    near = np.minimum(within, 1 - within) < EDGE
    return {
        name: round(float(np.median(said.c_line[on_grid & which])), 4)
        for name, which in (("near an edge", near), ("elsewhere", ~near))
    }
