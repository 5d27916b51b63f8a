"""What lies between a quasar's continuum and us: forest, troughs, dust, metals."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from templates import C_KMS, GRID_START, GRID_STEP, Array, Generator

from qnp_xp.grids import nbins

Bools = npt.NDArray[np.bool_]

LYA, LYMAN_LIMIT = 1215.67, 911.75
# Lyman series: rest wavelength and optical depth over that of the first line.
LYMAN = ((LYA, 1.0), (1025.72, 0.16), (972.54, 0.056), (949.74, 0.027), (937.80, 0.015))
NV, SIIV, CIV, ALIII, MGII = 1240.1, 1397.6, 1549.06, 1857.4, 2799.1
# Below this the troughs blueward of C IV are off the grid.
BAL_ZMIN = 1.5

# Middles of the bins in Angstrom.
CENTRE = (10 ** (GRID_START + GRID_STEP * (np.arange(nbins) + 0.5))).astype(np.float32)


def column(values: npt.ArrayLike) -> Array:
    """One value for each object, shape (n, 1)."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1)


def between(low: float, high: float) -> Bools:
    """Which bins lie between two wavelengths in Angstrom."""
    return (low <= CENTRE) & (high >= CENTRE)


def forest(rng: Generator, z: npt.ArrayLike) -> Array:
    """Transmission of the intergalactic medium.

    The mean optical depth of Lyman alpha is 0.0023 (1 + z)**3.64, and from z = 5.3 on
    2.6 ((1 + z) / 6.5)**10.9 (Fan et al. 2006, arXiv:astro-ph/0512082), with lognormal
    scatter from bin to bin and between lines of sight. Lyman-limit systems in 60% and
    damped systems in 25% of the spectra in which they could be.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the absorbers.
    z : array_like, shape (n,)
        Redshifts of the quasars.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """
    zp1 = 1 + column(z)
    n = len(zp1)
    clumps = rng.standard_normal((n, nbins), dtype=np.float32)
    clumps[:, 1:] += 0.5 * clumps[:, :-1]
    sightline = np.exp(0.15 * rng.standard_normal((n, 1))).astype(np.float32)
    clumps = sightline * np.exp(0.8 * clumps - 0.2)
    tau = np.zeros((n, nbins), dtype=np.float32)
    for rest, strength in LYMAN:
        far = 2.6 * (CENTRE / rest / 6.5) ** 10.9
        depth = strength * np.maximum(0.0023 * (CENTRE / rest) ** 3.64, far)
        tau += np.where(rest * zp1 > CENTRE, depth, 0)
    tau *= clumps
    limit = LYMAN_LIMIT * (zp1 - column(rng.exponential(0.3, n)))
    opacity = column(np.where(rng.random(n) < 0.6, rng.exponential(2.5, n), 0))
    tau += np.where(limit > CENTRE, opacity * (CENTRE / limit) ** 3, 0)

    damped = np.flatnonzero(rng.random(n) < 0.25)
    # Equivalent width 7.3 Angstrom (N / 1e20)**0.5, wings of 1 / distance**2.
    atoms = 10 ** np.minimum(rng.exponential(0.35, damped.size) + 0.2, 1.8)
    width = column(7.3 * atoms**0.5 / (2 * np.sqrt(np.pi)))
    at = LYA * (zp1[damped] - column(rng.uniform(0, 0.7, damped.size)))
    scale = width * at / LYA
    tau[damped] += (scale / np.maximum(np.abs(CENTRE - at), 3.0)) ** 2
    return np.exp(-tau)


def troughs(rng: Generator, z: npt.ArrayLike) -> Array:
    """Transmission of the broad absorption of quasars that have it.

    One to three troughs, the first of at least 2000 km/s, at outflow velocities of up
    to some 25,000 km/s. C IV shows them all, other ions a part of the depth; 15% have
    troughs of low ionisation.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the troughs.
    z : array_like, shape (n,)
        Redshifts.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """
    zp1 = 1 + column(z)
    n = len(zp1)
    transmission = np.ones((n, nbins), dtype=np.float32)
    low = np.where(rng.random(n) < 0.15, rng.uniform(0.3, 0.9, n), 0)
    ions = (
        (1033.8, rng.uniform(0.3, 1.0, n)),
        (LYA, np.where(rng.random(n) < 0.4, rng.uniform(0.1, 0.7, n), 0)),
        (NV, rng.uniform(0.4, 1.0, n)),
        (SIIV, rng.uniform(0.1, 0.9, n)),
        (CIV, np.ones(n)),
        (ALIII, low),
        (MGII, low),
    )
    count = rng.choice([1, 2, 3], n, p=(0.5, 0.3, 0.2))
    for number in range(3):
        start = np.where(
            rng.random(n) < 0.2, rng.uniform(0, 2500, n), rng.gamma(1.6, 4500, n)
        )
        start = np.minimum(start, 20000.0)
        width = 2000 + rng.gamma(1.5, 2000, n) if number == 0 else rng.gamma(2, 900, n)
        depth = rng.uniform(0.4, 1.0, n) * (number < count)
        edge = column(rng.uniform(150, 900, n))
        near, far = column(start), column(start + width)
        for rest, share in ions:
            speed = C_KMS * (1 - CENTRE / (rest * zp1))
            inside = expit((speed - near) / edge) * expit((far - speed) / edge)
            transmission *= 1 - column(depth * share) * inside
    return transmission


def metal_lines(rng: Generator, z: npt.ArrayLike) -> Array:
    """Transmission of narrow C IV, Mg II and Fe II lines of galaxies on the way.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the absorbers.
    z : array_like, shape (n,)
        Redshifts of the quasars.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """
    z = np.asarray(z, dtype=np.float32)
    n, bins = z.size, np.arange(nbins, dtype=np.float32) + 0.5
    transmission = np.ones((n, nbins), dtype=np.float32)
    for lines, share in (((CIV,), 0.3), ((MGII, 2600.17, 2382.76), 0.3)):
        present = rng.random(n) < share
        # A third of them belong to the quasar's surroundings.
        near = rng.random(n) < 0.33
        back = np.where(near, rng.exponential(0.01, n), rng.uniform(0, 1, n))
        zp1 = (1 + z) * (1 - back * (0.2 if lines[0] == CIV else 0.4))
        width = present * rng.exponential(1.5, n)
        for i, rest in enumerate(lines):
            place = (np.log10(rest * zp1) - GRID_START) / GRID_STEP
            kernel = np.maximum(1 - np.abs(bins - column(place)), 0)
            depth = width * (1 if i == 0 else 0.5) / (rest * GRID_STEP * np.log(10))
            transmission *= 1 - column(np.minimum(depth, 0.9)) * kernel
    return transmission


def dust(z: npt.ArrayLike, depth: npt.ArrayLike) -> Array:
    """Transmission of dust of the Small Magellanic Cloud's kind at redshift z.

    Parameters
    ----------
    z : array_like, shape (n,)
        Redshifts.
    depth : array_like, shape (n,)
        Optical depth at 2500 Angstrom at rest.

    Returns
    -------
    ndarray, shape (n, nbins), float32
        Of 1 at the red end of the grid.
    """
    zp1 = 1 + column(z)
    law = (CENTRE / zp1 / 2500) ** -1.2 - (CENTRE[-1] / zp1 / 2500) ** -1.2
    return np.exp(-column(depth) * law)
