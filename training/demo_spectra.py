"""Spectra from formulas: quasars, galaxies, stars and featureless objects.

Everything here is an analytic function and a table of round numbers (rest
wavelengths, typical equivalent widths and line widths); no template and no
observed spectrum goes in. The aim is the variety that a demo network needs to
learn what a quasar is, not a faithful model of the sky.

All functions work on a whole ensemble at once and take the *edges* of the
wavelength bins, so that the same code fills the coarse grid of the network and
the 0.8 Angstrom pixels of a DESI coadd. Flux densities are averages over a bin
in arbitrary units.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr

Array = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Generator = np.random.Generator

C_KMS = 299792.458
LYA, LYB, LYMAN_LIMIT = 1215.67, 1025.72, 911.75

# Quasar emission lines. Equivalent width (Angstrom) and velocity width (standard
# deviation over that of the object's broad lines) are typical of the composite
# spectra in the literature; scatter is of ln(width), shift is in km/s.
#   rest wavelength, equivalent width, scatter, relative width, shift
BROAD_LINES = (
    (1033.0, 14.0, 0.3, 1.2, 0.0),  # Ly-beta and O VI
    (LYA, 38.0, 0.3, 0.6, 0.0),  # Ly-alpha, core
    (LYA, 45.0, 0.3, 1.7, 0.0),  # Ly-alpha, wings
    (1240.1, 18.0, 0.4, 1.0, -200.0),  # N V
    (1304.0, 3.0, 0.4, 0.9, 0.0),  # O I
    (1335.0, 1.5, 0.4, 0.9, 0.0),  # C II
    (1397.6, 10.0, 0.3, 1.1, -300.0),  # Si IV and O IV]
    (1549.06, 17.0, 0.3, 0.6, -500.0),  # C IV, core
    (1549.06, 17.0, 0.3, 1.4, -700.0),  # C IV, wings
    (1640.4, 6.0, 0.4, 1.5, -300.0),  # He II
    (1664.0, 2.5, 0.4, 1.2, 0.0),  # O III] and Al II
    (1857.4, 3.0, 0.4, 1.0, 0.0),  # Al III
    (1892.0, 4.0, 0.4, 1.0, 0.0),  # Si III]
    (1908.73, 20.0, 0.3, 1.2, -250.0),  # C III]
    (2325.0, 3.0, 0.4, 1.2, 0.0),  # C II]
    (2799.1, 22.0, 0.3, 0.7, 0.0),  # Mg II, core
    (2799.1, 14.0, 0.3, 1.6, 0.0),  # Mg II, wings
    (4102.9, 6.0, 0.4, 0.9, 0.0),  # H delta
    (4341.7, 13.0, 0.3, 0.9, 0.0),  # H gamma
    (4862.7, 45.0, 0.3, 0.9, 0.0),  # H beta
    (5877.2, 5.0, 0.4, 1.1, 0.0),  # He I
    (6564.6, 210.0, 0.3, 0.8, 0.0),  # H alpha
)

# Blends of Fe II and the small blue bump as broad Gaussians.
#   rest wavelength, equivalent width, width (Angstrom)
IRON_BUMPS = (
    (2080.0, 8.0, 50.0),
    (2330.0, 18.0, 80.0),
    (2500.0, 28.0, 70.0),
    (2640.0, 12.0, 40.0),
    (2960.0, 14.0, 60.0),
    (3300.0, 40.0, 200.0),
    (4570.0, 25.0, 60.0),
    (5190.0, 10.0, 40.0),
    (5320.0, 14.0, 45.0),
)

# Narrow lines: rest wavelength and the strength in a quasar (Angstrom).
NARROW_LINES = (
    (3426.8, 0.8),  # [Ne V]
    (3728.5, 1.5),  # [O II]
    (3869.9, 1.2),  # [Ne III]
    (4862.7, 1.5),  # H beta
    (4960.3, 5.0),  # [O III]
    (5008.2, 15.0),  # [O III]
    (6564.6, 8.0),  # H alpha
    (6585.3, 4.0),  # [N II]
    (6725.0, 4.0),  # [S II]
)

BALMER = (3836.5, 3890.2, 3971.2, 4102.9, 4341.7, 4862.7, 6564.6)

# Absorption in old galaxies: rest wavelength, equivalent width, width (Angstrom).
OLD_ABSORPTION = (
    (2600.0, 12.0, 18.0),
    (2798.0, 9.0, 9.0),
    (2852.0, 5.0, 6.0),
    (3830.0, 10.0, 18.0),
    (3934.8, 8.0, 6.0),
    (3969.6, 7.0, 6.0),
    (4227.9, 1.5, 5.0),
    (4305.6, 6.0, 12.0),
    (4384.0, 3.0, 9.0),
    (4862.7, 1.7, 5.0),
    (5110.0, 4.0, 35.0),
    (5176.6, 5.0, 11.0),
    (5270.0, 2.5, 7.0),
    (5335.0, 2.2, 7.0),
    (5895.6, 3.5, 5.0),
    (6190.0, 4.0, 25.0),
    (7130.0, 6.0, 40.0),
    (8500.0, 1.5, 5.0),
    (8544.0, 3.5, 6.0),
    (8664.0, 3.0, 6.0),
)

# Metal lines of F, G and K stars: as above, for a star of some 5000 K.
STAR_METALS = (
    (3750.0, 10.0, 30.0),
    (3830.0, 9.0, 15.0),
    (3934.8, 9.0, 6.0),
    (3969.6, 8.0, 6.0),
    (4046.0, 1.5, 4.0),
    (4227.9, 2.0, 3.0),
    (4305.6, 6.0, 11.0),
    (4384.0, 3.0, 6.0),
    (5120.0, 4.0, 35.0),
    (5176.6, 5.0, 9.0),
    (5270.0, 2.5, 4.0),
    (5335.0, 2.0, 4.0),
    (5895.6, 3.0, 3.0),
    (8500.0, 1.3, 3.0),
    (8544.0, 3.2, 4.0),
    (8664.0, 2.7, 4.0),
)

# Molecular bands of M stars degrade to the red: head, length (Angstrom), depth.
MOLECULAR_BANDS = (
    (4761.0, 120.0, 0.45),
    (4954.0, 150.0, 0.55),
    (5167.0, 200.0, 0.60),
    (5448.0, 170.0, 0.45),
    (5847.0, 200.0, 0.50),
    (6158.0, 220.0, 0.60),
    (6651.0, 180.0, 0.50),
    (7053.0, 220.0, 0.60),
    (7589.0, 220.0, 0.45),
    (8432.0, 200.0, 0.35),
    (8860.0, 200.0, 0.25),
    (9210.0, 220.0, 0.25),
)


@dataclass(frozen=True)
class Bins:
    """Wavelength bins.

    Parameters
    ----------
    edges : ndarray, shape (nbins + 1,), float64
        Edges of the bins in Angstrom.
    forest_scatter : float
        Scatter of ln(optical depth) of the Lyman-alpha forest from bin to bin. It
        falls with the width of the bins, which average over many absorbers.
    """

    edges: npt.NDArray[np.float64]
    forest_scatter: float

    @property
    def wave(self) -> Array:
        """Centres of the bins in Angstrom, shape (nbins,)."""
        return (0.5 * (self.edges[1:] + self.edges[:-1])).astype(np.float32)

    @property
    def ln_edges(self) -> Array:
        """Natural logarithm of the edges, shape (nbins + 1,)."""
        return np.log(self.edges).astype(np.float32)


def _column(values: npt.ArrayLike) -> Array:
    """Give one value an object the shape (n, 1), or (1, 1) for a scalar."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1)


def _line(
    bins: Bins, centre: npt.ArrayLike, width: npt.ArrayLike, ew: npt.ArrayLike
) -> Array:
    """Gaussian line averaged over the bins, over a continuum of 1.

    Parameters
    ----------
    bins : Bins
        The wavelength bins.
    centre : array_like, shape (n,)
        Observed wavelength in Angstrom.
    width : array_like, shape (n,)
        Standard deviation of ln(wavelength), that is velocity over c.
    ew : array_like, shape (n,)
        Equivalent width over wavelength, both at rest or both observed.

    Returns
    -------
    ndarray, shape (n, nbins), float32
        What the line adds to the continuum.
    """
    edges = bins.ln_edges
    x = (edges - np.log(_column(centre))) / _column(width)
    return _column(ew) * np.diff(ndtr(x), axis=1) / np.diff(edges)


def _lognormal(rng: Generator, median: float, scatter: float, n: int) -> Array:
    return (median * np.exp(scatter * rng.standard_normal(n))).astype(np.float32)


def _forest(rng: Generator, bins: Bins, z: npt.ArrayLike) -> Array:
    """Transmission of the intergalactic medium, shape (n, nbins).

    Mean optical depth 0.0023 (1 + z)**3.64 for Ly-alpha, a fifth of it for
    Ly-beta, and one Lyman-limit system in half of the spectra.
    """
    one_plus_z = 1 + _column(z)
    n, wave = len(one_plus_z), bins.wave
    scatter = bins.forest_scatter * rng.standard_normal((n, wave.size))
    clumps = np.exp(scatter - 0.5 * bins.forest_scatter**2).astype(np.float32)
    tau = np.zeros((n, wave.size), dtype=np.float32)
    for rest, strength in ((LYA, 1.0), (LYB, 0.2)):
        depth = strength * 0.0023 * (wave / rest) ** 3.64
        tau += np.where(wave < rest * one_plus_z, depth, 0)
    tau *= clumps
    limit = LYMAN_LIMIT * (one_plus_z - _column(rng.exponential(0.3, n)))
    tau_limit = np.where(rng.random(n) < 0.5, rng.exponential(2.0, n), 0)
    tau += np.where(wave < limit, _column(tau_limit) * (wave / limit) ** 3, 0)
    return np.exp(-tau)


def _broad_absorption(rng: Generator, bins: Bins, z: Array) -> Array:
    """Transmission of the troughs of broad absorption line quasars, (n, nbins)."""
    n, wave = len(z), bins.wave
    speed = rng.uniform(2500, 16000, n)
    half_width = np.minimum(rng.uniform(1000, 4500, n), speed - 1000)
    depth = rng.uniform(0.45, 0.98, n)
    low_ions = np.where(rng.random(n) < 0.15, 0.7, 0)
    transmission = np.ones((n, wave.size), dtype=np.float32)
    for rest, share in (
        (LYA, rng.uniform(0.2, 0.8, n)),
        (1240.1, rng.uniform(0.4, 1.0, n)),
        (1397.6, rng.uniform(0.2, 0.9, n)),
        (1549.06, np.ones(n)),
        (1857.4, low_ions),
        (2799.1, low_ions),
    ):
        velocity = C_KMS * (1 - wave / (rest * (1 + _column(z))))
        inside = expit(
            (_column(half_width) - np.abs(velocity - _column(speed))) / 300.0
        )
        transmission *= 1 - _column(depth * share) * inside
    return transmission


def quasars(rng: Generator, bins: Bins, z: npt.ArrayLike, bal: Bools) -> Array:
    """Quasars: broken power law, broad and narrow lines, iron, forest, troughs.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the scatter among objects.
    bins : Bins
        The wavelength bins.
    z : array_like, shape (n,)
        Redshifts.
    bal : ndarray, shape (n,), bool
        Whether the object has broad absorption lines.

    Returns
    -------
    ndarray, shape (n, nbins), float32
        Flux densities.
    """
    z = np.asarray(z, dtype=np.float32)
    n, wave = z.size, bins.wave
    rest = wave / (1 + _column(z))
    slope = rng.normal(-1.5, 0.4, n)
    flux = (rest / 2500) ** _column(slope)
    # The continuum flattens redward of H beta and softens blueward of Ly-alpha.
    flux *= np.maximum(rest / 4900, 1) ** _column(rng.normal(0.9, 0.3, n))
    flux *= np.minimum(rest / 1200, 1) ** _column(rng.normal(1.0, 0.5, n))
    dust = rng.exponential(0.15, n)
    flux *= np.exp(-_column(dust) * (rest / 2500) ** -1.2)

    sigma = _lognormal(rng, 1900.0, 0.3, n)
    strength = _lognormal(rng, 1.0, 0.25, n)
    lines = np.ones((n, wave.size), dtype=np.float32)
    for centre, ew, scatter, width, shift in BROAD_LINES:
        velocity = shift * rng.exponential(1.0, n) + rng.normal(0, 150, n)
        lines += _line(
            bins,
            centre * (1 + z) * (1 + velocity / C_KMS),
            sigma * _lognormal(rng, width, 0.12, n) / C_KMS,
            strength * _lognormal(rng, ew, scatter, n) / centre,
        )
    iron = _lognormal(rng, 1.0, 0.4, n)
    for centre, ew, width in IRON_BUMPS:
        share = iron * _lognormal(rng, ew, 0.3, n)
        lines += _line(bins, centre * (1 + z), width / centre, share / centre)
    narrow = _lognormal(rng, 1.0, 0.7, n)
    narrow_sigma = _lognormal(rng, 220.0, 0.3, n) / C_KMS
    for centre, ew in NARROW_LINES:
        lines += _line(bins, centre * (1 + z), narrow_sigma, narrow * ew / centre)
    flux *= lines

    # Below z = 1 the host galaxy shows; by wavelength it is what dilutes H beta.
    host_share = np.where(rng.random(n) < 0.5, rng.uniform(0, 0.6, n), 0) * (z < 1)
    host = _stellar_light(rng, bins, z, np.ones(n, dtype=np.float32))
    anchor = np.argmin(np.abs(rest - 5000), axis=1)[:, None]
    scale = np.take_along_axis(flux, anchor, axis=1) / np.take_along_axis(
        host, anchor, axis=1
    )
    flux += _column(host_share) * scale * host

    flux[bal] *= _broad_absorption(rng, bins, z[bal])
    return flux * _forest(rng, bins, z)


def _stellar_light(rng: Generator, bins: Bins, z: Array, old: Array) -> Array:
    """Starlight of galaxies, `old` in 0 (star-forming) to 1 (passive)."""
    n, wave = z.size, bins.wave
    rest = wave / (1 + _column(z))
    absorbed = np.ones((n, wave.size), dtype=np.float32)
    dispersion = _lognormal(rng, 190.0, 0.3, n) / C_KMS
    metals = _lognormal(rng, 1.0, 0.2, n)
    for centre, ew, width in OLD_ABSORPTION:
        sigma = np.hypot(width / centre, dispersion)
        absorbed -= _line(bins, centre * (1 + z), sigma, metals * ew / centre)
    break_depth = _column(rng.uniform(0.4, 0.6, n))
    red = (rest / 5000) ** _column(rng.normal(0.2, 0.4, n))
    red *= 1 - break_depth * expit((3985 - rest) / 25)
    red *= np.exp(-np.maximum(3800 - rest, 0) / _column(rng.uniform(500, 1200, n)))
    red *= np.maximum(absorbed, 0.1)

    absorbed = np.ones((n, wave.size), dtype=np.float32)
    for centre in BALMER:
        ew = _lognormal(rng, 4.0, 0.3, n)
        absorbed -= _line(bins, centre * (1 + z), 7.0 / centre, ew / centre)
    blue = (rest / 5000) ** _column(rng.normal(-1.2, 0.5, n))
    blue *= 1 - _column(rng.uniform(0.1, 0.45, n)) * expit((3720 - rest) / 30)
    blue *= np.maximum(absorbed, 0.1)
    return _column(old) * red + (1 - _column(old)) * blue


def galaxies(rng: Generator, bins: Bins, z: npt.ArrayLike, old: npt.ArrayLike) -> Array:
    """Galaxies: 4000 Angstrom break, absorption lines, narrow emission lines.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the scatter among objects.
    bins : Bins
        The wavelength bins.
    z : array_like, shape (n,)
        Redshifts.
    old : array_like, shape (n,)
        Share of old stars at 5000 Angstrom, from 0 to 1. Emission lines fade
        with it.

    Returns
    -------
    ndarray, shape (n, nbins), float32
        Flux densities.
    """
    z = np.asarray(z, dtype=np.float32)
    old = np.asarray(old, dtype=np.float32)
    n = z.size
    flux = _stellar_light(rng, bins, z, old)
    rate = (1 - old) * _lognormal(rng, 1.0, 0.7, n)
    # A few have the strong, high-excitation lines of an obscured active nucleus.
    excitation = _lognormal(rng, 1.0, 0.8, n)
    sigma = _lognormal(rng, 100.0, 0.4, n) / C_KMS
    lines = np.ones_like(flux)
    for centre, ew in (
        (3728.5, 35.0),
        (3869.9, 3.0 * excitation),
        (4341.7, 5.0),
        (4862.7, 12.0),
        (4960.3, 7.0 * excitation),
        (5008.2, 21.0 * excitation),
        (6549.9, 6.0),
        (6564.6, 50.0),
        (6585.3, 18.0),
        (6718.3, 9.0),
        (6732.7, 7.0),
    ):
        share = rate * ew * _lognormal(rng, 1.0, 0.15, n)
        lines += _line(bins, centre * (1 + z), sigma, share / centre)
    return flux * lines


def stars(rng: Generator, bins: Bins, temperature: npt.ArrayLike) -> Array:
    """Stars: Planck continuum, Balmer, metal and molecular absorption.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the scatter among objects.
    bins : Bins
        The wavelength bins.
    temperature : array_like, shape (n,)
        Effective temperatures in kelvin, 2600 to 40000. A third of those above
        8000 K become white dwarfs.

    Returns
    -------
    ndarray, shape (n, nbins), float32
        Flux densities, 1 at 6000 Angstrom before absorption.
    """
    kelvin = np.asarray(temperature, dtype=np.float32)
    n, wave = kelvin.size, bins.wave
    z = (rng.normal(0, 120, n) / C_KMS).astype(np.float32)

    def planck(angstrom: npt.ArrayLike) -> Array:
        scaled = np.asarray(angstrom, dtype=np.float32) / 6000
        return scaled**-5 / np.expm1(1.43878e8 / 6000 / (scaled * _column(kelvin)))

    flux = planck(wave) / planck(6000.0)

    dwarf = (kelvin > 8000) & (rng.random(n) < 0.33)
    # Balmer lines peak in A stars, and are broadened by pressure in white dwarfs.
    balmer = 13 * np.exp(-0.5 * (np.log(kelvin / 9200) / 0.3) ** 2)
    balmer = np.where(dwarf, rng.uniform(10, 40, n), np.maximum(balmer, 0.5))
    width = np.where(dwarf, rng.uniform(18, 45, n), 3 + 0.6 * balmer)
    absorbed = np.ones((n, wave.size), dtype=np.float32)
    for centre in BALMER:
        ew = balmer * _lognormal(rng, 1.0, 0.1, n)
        absorbed -= _line(bins, centre * (1 + z), width / centre, ew / centre)
    metals = _lognormal(rng, 1.0, 0.4, n) * np.exp(
        -0.5 * (np.log(kelvin / 4600) / 0.22) ** 2
    )
    for centre, ew, spread in STAR_METALS:
        absorbed -= _line(bins, centre * (1 + z), spread / centre, metals * ew / centre)
    flux *= np.maximum(absorbed, 0.08)

    # Balmer jump of hot stars, line blanketing of cool ones.
    jump = np.where(dwarf, 0.05, balmer / 30)
    flux *= 1 - _column(jump) * expit((3690 - wave) / 20)
    blanket = np.clip(0.45 * metals, 0, 0.7)
    flux *= 1 - _column(blanket) * expit((4000 - wave) / 120)

    cool = np.clip((4100 - kelvin) / 900, 0, 1.3)
    for head, length, depth in MOLECULAR_BANDS:
        beyond = np.maximum(wave - head, 0) / length
        band = expit((wave - head) / 4) * np.exp(-beyond)
        flux *= 1 - _column(np.clip(cool * depth, 0, 0.9)) * band
    reddening = _column(rng.exponential(0.15, n))
    return flux * np.exp(-reddening * (6000 / wave))


def featureless(rng: Generator, bins: Bins, n: int) -> Array:
    """Power laws with slow waves, as of BL Lac objects and bad calibration.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the scatter among objects.
    bins : Bins
        The wavelength bins.
    n : int
        Number of spectra.

    Returns
    -------
    ndarray, shape (n, nbins), float32
        Flux densities, 1 at 6000 Angstrom before the waves.
    """
    wave = bins.wave
    flux = (wave / 6000) ** _column(rng.normal(-0.8, 1.3, n))
    phase = np.log(wave / 3600) / np.log(9824 / 3600)
    for order in (1, 2, 3):
        size = _column(rng.normal(0, 0.12 / order, n))
        flux *= 1 + size * np.cos(np.pi * (order * phase + _column(rng.random(n))))
    return flux.astype(np.float32)
