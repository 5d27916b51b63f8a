"""Spectra without noise on the network's grid: quasars, galaxies, stars, junk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absorption import CENTRE, Bools, column, dust, forest, metal_lines, troughs
from broad import BALMER, Names, broad_lines
from parents import Observed, Parents, fit_parents
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit
from templates import (
    BROADENINGS,
    C_KMS,
    GRID_START,
    GRID_STEP,
    REGIONS,
    Array,
    Generator,
    Ints,
    Templates,
    read_templates,
    redshift,
)

from qnp_xp.grids import nbins

STARS = ("A", "B", "CV", "F", "G", "K", "M", "WD")
# The two sets of quasar templates overlap here.
OVERLAP = (1.35, 1.65)
# The grid's red end at rest for the nearest objects (Angstrom).
RED_END = 9990.0
# Emission lines that galaxies may have beyond those of the templates.
NARROW = (3728.5, 3869.9, 4341.7, 4862.7, 4960.3, 5008.2, 6564.6, 6585.3, 6725.0)
# Those of narrow-line active galaxies, and equivalent widths over that of [O III].
SEYFERT = {
    2799.1: 0.03,
    3426.8: 0.08,
    3728.5: 0.25,
    3869.9: 0.08,
    4341.7: 0.04,
    4687.0: 0.03,
    4862.7: 0.09,
    4960.3: 0.33,
    5008.2: 1.0,
    6302.0: 0.05,
    6549.9: 0.1,
    6564.6: 0.3,
    6585.3: 0.3,
    6725.0: 0.15,
}


@dataclass(frozen=True)
class Library:
    """Templates and the coefficients of real objects.

    Parameters
    ----------
    high, low : Templates
        Quasars of high and of low redshift.
    high_parents, low_parents : Parents
        Real quasars.
    galaxy : Templates
        Galaxies.
    stars : dict of str to Templates
        Stars, by spectral type.
    """

    high: Templates
    low: Templates
    high_parents: Parents
    low_parents: Parents
    galaxy: Templates
    stars: dict[str, Templates]


def read_library(folder: Path, observed: Observed) -> Library:
    """Read Redrock's templates and fit those of quasars to real ones.

    Parameters
    ----------
    folder : Path
        Where the template files lie.
    observed : Observed
        The real quasars.

    Returns
    -------
    Library
    """
    high, low = (
        read_templates(
            folder / f"rrtemplate-QSO-{name}-v1.1.fits", split_lines=True, last=RED_END
        )
        for name in ("HIZ", "LOZ")
    )
    return Library(
        high,
        low,
        fit_parents(high, observed, OVERLAP[0], 5.0),
        fit_parents(low, observed, 0.05, OVERLAP[1]),
        read_templates(folder / "rrtemplate-galaxy-old.fits"),
        {
            name: read_templates(folder / f"rrtemplate-STAR-{name}-v0.1.fits")
            for name in STARS
        },
    )


def _unit(flux: Array) -> Array:
    """Scale spectra to a mean absolute value of 1."""
    return flux / np.abs(flux).mean(axis=1, keepdims=True)


def _raw_quasars(rng: Generator, library: Library, shift: Ints, low: bool) -> Array:
    """Draw sums of templates that are nowhere negative to speak of."""
    templates = library.low if low else library.high
    parents = library.low_parents if low else library.high_parents
    flux = np.zeros((shift.size, nbins), dtype=np.float32)
    todo = np.arange(shift.size)
    for attempt in range(8):
        m = todo.size
        # The templates have fewer parents at low redshift: let their lines vary more.
        scatter = 0.35 if low else 0.3
        overall = 0.2 * rng.standard_normal((m, 1))
        own = scatter * rng.standard_normal((m, len(REGIONS) + 1))
        gains = np.exp(overall + own).astype(np.float32)
        level = rng.choice(len(BROADENINGS), m, p=(0.6, 0.25, 0.15))
        noise = 0.45 if attempt < 6 else 0.0
        coefficients = parents.draw(rng, m, noise)
        made = templates.spectra(shift[todo], coefficients, gains, level)
        # Blueward of Lyman alpha the forest covers what is wrong.
        seen = column(redshift(shift[todo])) < CENTRE / 1100 - 1
        bad = ((made < 0.02) & seen).mean(axis=1) > 0.01
        last = attempt == 7
        done = np.ones(m, dtype=bool) if last else ~bad
        flux[todo[done]] = np.maximum(made[done], 0.01)
        todo = todo[~done]
        if not todo.size:
            break
    return flux


def starlight(rng: Generator, library: Library, shift: Ints) -> Array:
    """Galaxies as pairs of real ones, of a mean of 1."""
    n, known = shift.size, library.galaxy.coefficients
    one, two = rng.integers(0, len(known), (2, n))
    share = rng.random((n, 1), dtype=np.float32) * (rng.random((n, 1)) < 0.5)
    flux = 0
    for rows, part in ((one, 1 - share), (two, share)):
        flux = flux + part * _unit(library.galaxy.spectra(shift, known[rows]))
    return flux.astype(np.float32)


def odd(
    rng: Generator, library: Library, shift: Ints, shape: Names | None = None
) -> Array:
    """Quasars of a mean of 1 whose Balmer lines have shapes that templates lack.

    Parameters
    ----------
    rng, library, shift
        As for `quasars`.
    shape : ndarray of str, shape (n,), optional
        Which of `broad.SHAPES`. By default they are drawn.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """
    templates, n = library.low, shift.size
    coefficients = library.low_parents.draw(rng, n, 0.2)
    # What is left of the template's lines passes for those of the narrow-line region.
    gains = np.repeat(rng.uniform(0.05, 0.4, (n, 1)), len(REGIONS) + 1, axis=1)
    flux = templates.spectra(shift, coefficients, gains.astype(np.float32))
    flux = np.maximum(flux, 0.01) * (1 + broad_lines(rng, redshift(shift), shape))
    z = redshift(shift).astype(np.float32)
    return _unit(flux * narrow_lines(rng, z, SEYFERT, rng.exponential(30, n), 1.0))


def narrow_lines(
    rng: Generator, z: Array, lines: dict[float, float], width: Array, spread: float
) -> Array:
    """Continuum of 1 with unresolved lines, of equivalent widths in Angstrom."""
    flux = np.ones((z.size, nbins), dtype=np.float32)
    bins = np.arange(nbins, dtype=np.float32) + 0.5
    size = column(rng.uniform(1.0, 1.0 + spread, z.size))
    for rest, ratio in lines.items():
        own = width * ratio * np.exp(rng.normal(0, 0.4, z.size))
        place = (np.log10(rest * (1 + z)) - GRID_START) / GRID_STEP
        kernel = np.maximum(1 - np.abs(bins - column(place)) / size, 0) / size
        flux += column(own / (rest * GRID_STEP * np.log(10))) * kernel
    return flux


def quasars(
    rng: Generator, library: Library, shift: Ints, bal: Bools, odd_lines: float = 0.25
) -> Array:
    """Quasars.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the scatter among objects.
    library : Library
        Templates.
    shift : ndarray, shape (n,), int64
        log10(1 + z) in steps of the lattice.
    bal : ndarray, shape (n,), bool
        Whether the object has broad absorption lines.
    odd_lines : float
        Share of those below z = 1.1 whose Balmer lines are displaced, double or boxy.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """
    z = redshift(shift).astype(np.float32)
    n = z.size
    low = z < rng.uniform(*OVERLAP, n)
    flux = np.empty((n, nbins), dtype=np.float32)
    for is_low in (False, True):
        rows = low == is_low
        if rows.any():
            flux[rows] = _unit(_raw_quasars(rng, library, shift[rows], is_low))
    shaped = np.flatnonzero((z < 1.1) & (rng.random(n) < odd_lines))
    if shaped.size:
        flux[shaped] = odd(rng, library, shift[shaped])
    flux *= (CENTRE / 6000) ** column(rng.normal(0, 0.35, n))
    # Near ones are often seen through more dust, and beside more starlight.
    near = z < 0.3
    redder = np.where(near, 0.6, 0.35)
    flux *= dust(z, np.where(rng.random(n) < redder, rng.exponential(redder), 0))

    hosted = np.flatnonzero((z < 1) & (rng.random(n) < np.where(near, 0.75, 0.5)))
    if hosted.size:
        most = np.where(near[hosted], 0.75, 0.6)
        share = column(rng.uniform(0, most))
        host = starlight(rng, library, shift[hosted])
        flux[hosted] = (1 - share) * _unit(flux[hosted]) + share * host

    if bal.any():
        flux[bal] *= troughs(rng, z[bal])
    flux *= metal_lines(rng, z)
    far = z > 1.8
    if far.any():
        flux[far] *= forest(rng, z[far])
    return flux


def galaxies(rng: Generator, library: Library, shift: Ints) -> Array:
    """Galaxies, some of them with strong narrow emission lines.

    Parameters
    ----------
    rng, library, shift
        As for `quasars`.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """
    z = redshift(shift).astype(np.float32)
    n = z.size
    flux = starlight(rng, library, shift)
    flux *= (CENTRE / 6000) ** column(rng.normal(0, 0.3, n))
    flux *= dust(z, rng.exponential(0.2, n))
    lively = np.where(rng.random(n) < 0.4, rng.exponential(1.0, n), 0)
    for rest in NARROW:
        flux *= narrow_lines(
            rng, z, {rest: 1.0}, lively * rng.exponential(12.0, n), 0.0
        )
    special = rng.choice(4, n, p=(0.78, 0.1, 0.08, 0.04))
    rows = np.flatnonzero(special == 1)
    flux[rows] = narrow_line(rng, z[rows], flux[rows])
    rows = np.flatnonzero(special == 2)
    flux[rows] = post_starburst(rng, z[rows], flux[rows])
    rows = np.flatnonzero(special == 3)
    flux[rows] = disrupted(rng, z[rows], flux[rows])
    return flux


def narrow_line(rng: Generator, z: Array, flux: Array) -> Array:
    """Add the lines of an active galaxy whose broad ones are hidden."""
    width = np.exp(rng.normal(np.log(60), 1.0, z.size))
    return flux * narrow_lines(rng, z, SEYFERT, width, 0.8)


def post_starburst(rng: Generator, z: Array, flux: Array) -> Array:
    """Add a young continuum with the Balmer lines and jump of A stars."""
    n = z.size
    young = (CENTRE / (5000 * (1 + column(z)))) ** column(rng.normal(-1.5, 0.7, n))
    young *= 1 - column(rng.uniform(0.2, 0.6, n)) * expit(
        (3700 * (1 + column(z)) - CENTRE) / 60
    )
    depth, width = rng.uniform(0.2, 0.6, n), rng.uniform(700, 1800, n)
    series = [rest for rest, _ in BALMER[:4]] + [3971.2, 3890.2, 3836.5, 3798.9]
    for rest in series:
        speed = C_KMS * np.log(CENTRE / (rest * (1 + column(z))))
        share = 0.6 if rest > 6000 else 1.0
        young *= 1 - column(share * depth) * np.exp(-0.5 * (speed / column(width)) ** 2)
    share = column(rng.uniform(0.3, 0.95, n))
    return (1 - share) * _unit(flux) + share * _unit(young)


def disrupted(rng: Generator, z: Array, flux: Array) -> Array:
    """Add the flare of a star torn apart: a hot black body, lines very broad if any.

    None of the narrow lines of an active galaxy are beside it, nor Mg II.
    """
    n, zp1 = z.size, 1 + column(z)
    kelvin = column(rng.uniform(12_000, 40_000, n))
    wave = CENTRE / zp1
    flare = wave**-5.0 / np.expm1(1.4388e8 / (wave * kelvin))
    flare /= flare.mean(axis=1, keepdims=True)
    lines = ((6564.6, 120.0), (4862.7, 40.0), (4687.0, 60.0))
    for rest, strength in lines:
        width = rng.exponential(strength, n) * (rng.random(n) < 0.6)
        sigma = rng.uniform(3500, 7000, n)
        speed = C_KMS * np.log(wave / rest) - column(rng.normal(-1000, 2000, n))
        peak = width * C_KMS / (rest * sigma * np.sqrt(2 * np.pi))
        flare *= 1 + column(peak) * np.exp(-0.5 * (speed / column(sigma)) ** 2)
    share = column(rng.uniform(0.3, 0.9, n))
    return (1 - share) * _unit(flux) + share * flare.astype(np.float32)


def stars(rng: Generator, library: Library, n: int) -> Array:
    """Stars of all types, reddened; a tenth of them are pairs of two types.

    Parameters
    ----------
    rng, library
        As for `quasars`.
    n : int
        How many.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """

    def single(m: int) -> Array:
        flux = np.empty((m, nbins), dtype=np.float32)
        kind = rng.choice(len(STARS), m)
        shift = rng.integers(-6, 7, m)
        for i, name in enumerate(STARS):
            rows = np.flatnonzero(kind == i)
            templates = library.stars[name]
            known = templates.coefficients
            if known.size:
                one, two = rng.integers(0, len(known), (2, rows.size))
                share = rng.random((rows.size, 1), dtype=np.float32)
                # Coefficients hold the brightness too: mix shapes, not fluxes.
                made = (1 - share) * _unit(templates.spectra(shift[rows], known[one]))
                made += share * _unit(templates.spectra(shift[rows], known[two]))
            else:
                basis = rng.dirichlet(np.ones(templates.continuum.shape[1]), rows.size)
                made = templates.spectra(shift[rows], basis.astype(np.float32))
            flux[rows] = _unit(made)
        return flux

    flux = single(n)
    pairs = np.flatnonzero(rng.random(n) < 0.1)
    share = column(rng.uniform(0, 0.5, pairs.size))
    flux[pairs] = (1 - share) * flux[pairs] + share * single(pairs.size)
    flux *= dust(np.zeros(n), rng.exponential(0.15, n))
    return flux * (CENTRE / 6000) ** column(rng.normal(0, 0.1, n))


def junk(rng: Generator, n: int) -> Array:
    """Power laws, wavy continua, and breaks that look like Lyman alpha's.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the shapes.
    n : int
        How many.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """
    flux = (CENTRE / 6000) ** column(rng.normal(-0.7, 1.5, n))
    plain = rng.random(n) < 0.4
    for width in (12.0, 40.0):
        waves = gaussian_filter1d(rng.standard_normal((n, nbins)), width, axis=1)
        size = np.where(rng.random(n) < 0.5, rng.exponential(0.15, n), 0)
        size[plain] = 0
        flux *= np.exp(column(size) * waves / waves.std(axis=1, keepdims=True))
    broken = rng.random(n) < 0.25
    at = column(np.exp(rng.uniform(np.log(3700), np.log(9700), n)))
    sharp = column(np.exp(rng.uniform(np.log(5), np.log(150), n)))
    depth = np.where(rng.random(n) < 0.5, 1.0, rng.uniform(0.3, 1.0, n)) * broken
    return (flux * (1 - column(depth) * expit((at - CENTRE) / sharp))).astype(
        np.float32
    )
