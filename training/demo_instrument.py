"""The instrument in numbers: arms of DESI, noise, rebinning, normalisation."""

import numpy as np
import numpy.typing as npt
from demo_spectra import Array, Bins, Generator
from scipy.special import expit

PIXEL = 0.8
# First wavelength (Angstrom) and number of pixels of the arms. All arms share one
# lattice of pixels, 3600 + 0.8 i.
ARMS = {"B": (3600.0, 2751), "R": (5760.0, 2326), "Z": (7520.0, 2881)}
LATTICE_SIZE = 7781

# The grid of DESI's networks.
NBINS = 443
GRID_START, GRID_STEP = np.log10(3600.0), 1e-3
GRID = 10 ** (GRID_START + GRID_STEP * np.arange(NBINS))

# Night-sky lines as wavelength (Angstrom) and strength over the sky continuum.
# fmt: off
SKY_LINES = (
    (5577.3, 60.0), (5891.6, 8.0), (6300.3, 25.0), (6363.8, 9.0), (6498.7, 3.0),
    (6533.0, 4.0), (6864.0, 5.0), (6923.2, 5.0), (7276.4, 10.0), (7316.3, 12.0),
    (7340.9, 10.0), (7369.2, 5.0), (7524.1, 5.0), (7571.7, 5.0), (7750.6, 14.0),
    (7794.1, 15.0), (7821.5, 11.0), (7853.2, 6.0), (7913.7, 20.0), (7964.6, 18.0),
    (7993.3, 16.0), (8025.8, 9.0), (8062.4, 5.0), (8344.6, 18.0), (8399.2, 22.0),
    (8430.2, 20.0), (8465.4, 14.0), (8504.6, 9.0), (8761.0, 9.0), (8778.3, 14.0),
    (8827.1, 28.0), (8867.6, 20.0), (8885.9, 30.0), (8919.6, 28.0), (8958.1, 22.0),
    (9001.3, 12.0), (9038.1, 9.0), (9313.7, 20.0), (9337.9, 24.0), (9375.9, 28.0),
    (9419.7, 18.0), (9439.7, 22.0), (9476.9, 14.0), (9502.8, 18.0), (9567.6, 14.0),
    (9620.6, 14.0), (9700.0, 16.0), (9720.0, 18.0), (9790.8, 20.0),
)
# fmt: on


def coarse_bins() -> Bins:
    """Return the bins of the network's grid, whose values are lower edges."""
    edges = 10 ** (GRID_START + GRID_STEP * np.arange(NBINS + 1))
    return Bins(edges, forest_scatter=0.6)


def fine_bins() -> Bins:
    """Return the pixels of 0.8 Angstrom that the three arms share."""
    edges = 3600.0 + PIXEL * (np.arange(LATTICE_SIZE + 1) - 0.5)
    return Bins(edges, forest_scatter=1.4)


def arm_wave(arm: str) -> npt.NDArray[np.float64]:
    """Wavelengths of an arm's pixels in Angstrom, shape (npixels,)."""
    start, size = ARMS[arm]
    return start + PIXEL * np.arange(size)


def arm_slice(arm: str) -> slice:
    """Pixels of an arm on the lattice of `fine_bins`."""
    start, size = ARMS[arm]
    first = round((start - 3600.0) / PIXEL)
    return slice(first, first + size)


def arm_ivar(rng: Generator, arm: str) -> Array:
    """Inverse variance of a sky spectrum in one arm.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the differences between fibers and nights.
    arm : {"B", "R", "Z"}
        The arm.

    Returns
    -------
    ndarray, shape (npixels,), float32
        Inverse variance, of order 1 to 10 for units of 1e-17 erg/(s cm2 Angstrom).
    """
    wave = arm_wave(arm)
    blue_end = rng.uniform(4000, 4300)
    throughput = {
        "B": (0.12 + 0.88 * expit((wave - blue_end) / 180)) * expit((5840 - wave) / 20),
        "R": expit((wave - 5735) / 20) * expit((7660 - wave) / 22),
        "Z": expit((wave - 7490) / 22) * (1 - 0.6 * expit((wave - 9650) / 90)),
    }[arm]
    sky = 1 + 0.4 * ((wave - 3600) / 6000) ** 2
    brightness = rng.uniform(0.6, 1.4)
    for centre, strength in SKY_LINES:
        bright = brightness * strength * rng.uniform(0.7, 1.3)
        sky = sky + bright * np.exp(-0.5 * ((wave - centre) / 0.9) ** 2)
    readout = 0.6 * rng.uniform(0.7, 1.3)
    depth = 6.0 * rng.uniform(0.8, 1.25)
    return (depth * throughput**2 / (readout + throughput * sky)).astype(np.float32)


def rebin(
    arms: list[tuple[npt.NDArray[np.float64], Array, Array]],
) -> tuple[Array, Array]:
    """Sum the pixels of all arms into the network's grid, weighted by ivar.

    Parameters
    ----------
    arms : list of (wave, flux, ivar)
        Wavelengths, shape (npixels,), and fluxes and inverse variances, shape
        (n, npixels), of each arm.

    Returns
    -------
    flux, ivar : ndarray, shape (n, 443), float32
        Weighted mean flux, 0 where there is no weight, and summed weight.
    """
    n = len(arms[0][1])
    weighted, weight = np.zeros((n, NBINS)), np.zeros((n, NBINS))
    for wave, flux, ivar in arms:
        index = np.floor((np.log10(wave) - GRID_START) / GRID_STEP).astype(int)
        # Each row of `members` picks the pixels of one bin.
        members = (index == np.arange(NBINS)[:, None]).astype(float)
        weighted += (flux * ivar).astype(float) @ members.T
        weight += ivar.astype(float) @ members.T
    mean = np.divide(weighted, weight, out=np.zeros_like(weight), where=weight > 0)
    return mean.astype(np.float32), weight.astype(np.float32)


def normalise(flux: Array, ivar: Array) -> Array:
    """Subtract the weighted mean and divide by the weighted rms about it.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, nbins), float32
        Rebinned spectra, each with some weight.

    Returns
    -------
    ndarray, shape (n, nbins), float32
        What the network reads. Bins without weight hold a flux of 0 before.
    """
    total = ivar.sum(axis=1, keepdims=True)
    centred = flux - (flux * ivar).sum(axis=1, keepdims=True) / total
    rms = np.sqrt((centred**2 * ivar).sum(axis=1, keepdims=True) / total)
    return centred / rms


def noise_shapes(rng: Generator, n: int) -> Array:
    """Inverse variance on the network's grid for `n` different fibers.

    Returns
    -------
    ndarray, shape (n, 443), float32
        Inverse variances with a median of 1.
    """
    arms = []
    for arm in ARMS:
        ivar = np.stack([arm_ivar(rng, arm) for _ in range(n)])
        arms.append((arm_wave(arm), np.zeros_like(ivar), ivar))
    _, weight = rebin(arms)
    return weight / np.median(weight, axis=1, keepdims=True)


def observe(
    rng: Generator, clean: Array, shapes: Array, snr: Array
) -> tuple[Array, Array]:
    """Add noise and the usual defects to spectra on the network's grid.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the noise.
    clean : ndarray, shape (n, 443), float32
        Spectra without noise and of mean 1, or 0 throughout for an empty sky.
    shapes : ndarray, shape (m, 443), float32
        Inverse variances to choose from.
    snr : ndarray, shape (n,), float32
        Signal-to-noise ratio of a bin with median ivar.

    Returns
    -------
    flux, ivar : ndarray, shape (n, 443), float32
        Noisy spectra, 0 where ivar is 0, and the inverse variances they claim.
    """
    n = len(clean)
    x = np.linspace(-1, 1, NBINS, dtype=np.float32)
    ivar = shapes[rng.integers(0, len(shapes), n)] * snr[:, None] ** 2
    tilt, bend = rng.normal(0, 0.3, (2, n, 1)).astype(np.float32)
    ivar *= np.exp(tilt * x + bend * (2 * x**2 - 1))
    # Bright objects bring their own photon noise.
    photons = (rng.random((n, 1)) * np.minimum(snr[:, None] / 20, 1)).astype(np.float32)
    ivar /= 1 + photons * np.clip(clean, 0, 5)

    # Flux calibration is off by a few per cent, differently in each arm.
    flux = clean * (1 + rng.normal(0, 0.04, (n, 1)).astype(np.float32) * x)
    step = rng.normal(0, 0.03, (n, 3)).astype(np.float32)
    flux = flux * (1 + step[:, np.searchsorted((5780.0, 7570.0), GRID)])

    # The pipeline's errors are a little too small, above all near sky lines.
    excess = 1 + 0.1 * rng.exponential(1.0, (n, 1)).astype(np.float32)
    noise = rng.standard_normal((n, NBINS), dtype=np.float32) * excess
    spikes = (rng.random((n, NBINS), dtype=np.float32) < 4e-4) * 8.0
    noise += spikes * rng.standard_normal((n, NBINS), dtype=np.float32)
    # The grid runs a little past the reddest pixel: no weight there, ever.
    lost = ivar == 0
    flux = flux + noise / np.sqrt(np.where(lost, 1, ivar))

    start = rng.integers(0, NBINS, (n, 1))
    size = np.where(rng.random((n, 1)) < 0.08, rng.integers(2, 30, (n, 1)), 0)
    bins = np.arange(NBINS)
    lost |= (bins >= start) & (bins < start + size)
    dead = rng.integers(0, 3, n)
    arm = np.searchsorted((5780.0, 7570.0), GRID)
    lost |= (arm == dead[:, None]) & (rng.random((n, 1)) < 0.02)
    return np.where(lost, 0, flux), np.where(lost, 0, ivar)
