"""The mixture of objects that the network is trained and tried on."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from absorption import BAL_ZMIN, Bools, column
from objects import Library, galaxies, junk, quasars, stars
from templates import Array, Generator, Ints, draw_shift, redshift

from qnp_xp.grids import nbins

KINDS = ("QSO", "GALAXY", "STAR", "JUNK", "SKY")
SHARES = (0.53, 0.18, 0.16, 0.08, 0.05)


@dataclass(frozen=True)
class Ensemble:
    """Simulated spectra without noise on the network's grid.

    Parameters
    ----------
    flux : ndarray, shape (n, nbins), float32
        Of a median of 1 where they are not dark.
    kind : ndarray, shape (n,), int64
        Place in `KINDS`.
    z : ndarray, shape (n,), float64
        Redshift of the quasars, NaN for others.
    bal : ndarray, shape (n,), bool
        Whether it is a quasar with broad absorption lines.
    """

    flux: Array
    kind: Ints
    z: npt.NDArray[np.float64]
    bal: Bools


@dataclass(frozen=True)
class Mixture:
    """Which quasars there are.

    Parameters
    ----------
    redshifts : tuple of (float, float, float)
        Ranges of redshift, in which it is uniform, and their shares of the quasars.
    bal : float
        Share of those above `BAL_ZMIN` that have broad absorption.
    odd_lines : float
        Share of those below z = 1.1 whose Balmer lines have shapes of their own.
    """

    redshifts: tuple[tuple[float, float, float], ...]
    bal: float
    odd_lines: float


# What is near or has broad absorption is hard, and more often trained on than tried on.
TRAINING = Mixture(
    (
        (0.01, 0.12, 0.03),
        (0.05, 1.1, 0.34),
        (1.0, 2.3, 0.31),
        (2.0, 3.5, 0.18),
        (3.3, 5.1, 0.08),
        (4.9, 7.0, 0.06),
    ),
    bal=0.5,
    odd_lines=0.25,
)
EVALUATION = Mixture(((0.05, 5.1, 0.65), (0.4, 3.5, 0.35)), bal=0.3, odd_lines=0.05)


def quasar_shifts(rng: Generator, mixture: Mixture, n: int) -> Ints:
    """Redshifts of quasars as shifts on the lattice.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draws.
    mixture : Mixture
        `TRAINING` or `EVALUATION`.
    n : int
        How many.

    Returns
    -------
    ndarray, shape (n,), int64
    """
    ranges = mixture.redshifts
    pick = rng.choice(len(ranges), n, p=[share for _, _, share in ranges])
    draws = [draw_shift(rng, low, high, n) for low, high, _ in ranges]
    return np.choose(pick, draws)


def _simulate_chunk(
    rng: Generator, library: Library, mixture: Mixture, n: int
) -> tuple[Array, Ints, npt.NDArray[np.float64], Bools]:
    kind = rng.choice(len(KINDS), n, p=SHARES)
    flux = np.ones((n, nbins), dtype=np.float32)
    z, bal = np.full(n, np.nan), np.zeros(n, dtype=bool)
    rows = {name: np.flatnonzero(kind == i) for i, name in enumerate(KINDS)}
    m = rows["QSO"].size
    shift = quasar_shifts(rng, mixture, m)
    z[rows["QSO"]] = redshift(shift)
    broad = (redshift(shift) > BAL_ZMIN) & (rng.random(m) < mixture.bal)
    bal[rows["QSO"]] = broad
    flux[rows["QSO"]] = quasars(rng, library, shift, broad, mixture.odd_lines)
    far = draw_shift(rng, 0.0, 1.7, rows["GALAXY"].size)
    flux[rows["GALAXY"]] = galaxies(rng, library, far)
    flux[rows["STAR"]] = stars(rng, library, rows["STAR"].size)
    flux[rows["JUNK"]] = junk(rng, rows["JUNK"].size)
    return flux / column(median_flux(flux)), kind, z, bal


def median_flux(flux: Array) -> Array:
    """Median of the bins that are not dark, as beyond a Lyman break most can be."""
    size = np.abs(flux)
    dark = size < 0.1 * np.quantile(size, 0.95, axis=1, keepdims=True)
    return np.maximum(np.nanmedian(np.where(dark, np.nan, size), axis=1), 1e-6)


def simulate(
    seeds: np.random.SeedSequence,
    library: Library,
    n: int,
    mixture: Mixture = TRAINING,
    chunk: int = 2000,
) -> Ensemble:
    """Draw objects of all kinds.

    Parameters
    ----------
    seeds : numpy.random.SeedSequence
        Each chunk has a stream of its own, so that threads make no difference.
    library : Library
        Templates.
    n : int
        Number of objects.
    mixture : Mixture
        `TRAINING` or `EVALUATION`.
    chunk : int
        Number of objects made at once.

    Returns
    -------
    Ensemble
    """
    sizes = [min(chunk, n - start) for start in range(0, n, chunk)]
    streams = seeds.spawn(len(sizes))

    def make(task: tuple[np.random.SeedSequence, int]) -> tuple:
        rng = np.random.default_rng(task[0])
        return _simulate_chunk(rng, library, mixture, task[1])

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(make, zip(streams, sizes, strict=True)))
    return Ensemble(*(np.concatenate(part) for part in zip(*parts, strict=True)))
