"""Spectra without noise on the network's grid: quasars, galaxies, stars, junk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absorption import CENTRE, Bools, column, dust, forest, metal_lines, troughs
from parents import Observed, Parents, fit_parents
from scipy.ndimage import gaussian_filter1d
from templates import (
    BROADENINGS,
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
# Emission lines that galaxies may have beyond those of the templates.
NARROW = (3728.5, 3869.9, 4341.7, 4862.7, 4960.3, 5008.2, 6564.6, 6585.3, 6725.0)


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
        read_templates(folder / f"rrtemplate-QSO-{name}-v1.1.fits", split_lines=True)
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


def _starlight(rng: Generator, library: Library, shift: Ints) -> Array:
    """Galaxies as pairs of real ones, of a mean of 1."""
    n, known = shift.size, library.galaxy.coefficients
    one, two = rng.integers(0, len(known), (2, n))
    share = rng.random((n, 1), dtype=np.float32) * (rng.random((n, 1)) < 0.5)
    flux = 0
    for rows, part in ((one, 1 - share), (two, share)):
        flux = flux + part * _unit(library.galaxy.spectra(shift, known[rows]))
    return flux.astype(np.float32)


def quasars(rng: Generator, library: Library, shift: Ints, bal: Bools) -> Array:
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
    flux *= (CENTRE / 6000) ** column(rng.normal(0, 0.35, n))
    flux *= dust(z, np.where(rng.random(n) < 0.35, rng.exponential(0.35, n), 0))

    hosted = np.flatnonzero((z < 1) & (rng.random(n) < 0.5))
    if hosted.size:
        share = column(rng.uniform(0, 0.6, hosted.size))
        host = _starlight(rng, library, shift[hosted])
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
    flux = _starlight(rng, library, shift)
    flux *= (CENTRE / 6000) ** column(rng.normal(0, 0.3, n))
    flux *= dust(z, rng.exponential(0.2, n))
    lively = np.where(rng.random(n) < 0.4, rng.exponential(1.0, n), 0)
    bins = np.arange(nbins, dtype=np.float32) + 0.5
    for rest in NARROW:
        width = lively * rng.exponential(12.0, n)
        place = (np.log10(rest * (1 + z)) - GRID_START) / GRID_STEP
        kernel = np.maximum(1 - np.abs(bins - column(place)), 0)
        flux *= 1 + column(width / (rest * GRID_STEP * np.log(10))) * kernel
    return flux


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
    """Power laws and wavy continua.

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
    for width in (12.0, 40.0):
        waves = gaussian_filter1d(rng.standard_normal((n, nbins)), width, axis=1)
        size = np.where(rng.random(n) < 0.5, rng.exponential(0.15, n), 0)
        flux *= np.exp(column(size) * waves / waves.std(axis=1, keepdims=True))
    return flux.astype(np.float32)
