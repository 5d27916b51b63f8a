"""Noise and defects of real spectra, and the package's normalisation on float32."""

from pathlib import Path

import fitsio
import numpy as np
from absorption import CENTRE, between, column
from parents import Observed
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from templates import Array, Generator

from qnp_xp.grids import nbins
from qnp_xp.spectra import combine

# Where arms meet (Angstrom): DESI's three, BOSS' two.
DESI_SPLITS, BOSS_SPLITS = (5780.0, 7570.0), (6000.0, 12000.0)
# The range of the first spectrograph of SDSS (Angstrom).
SDSS = (3800.0, 9200.0)
DESI_FILES = (
    "quasarnp/test_coadd.fits",
    "desi/coadd-special-dark-27247.fits",
    "desi/coadd-sv3-dark-26065.fits",
    "desi/coadd-4-80613-thru20210324.fits",
    "desi/coadd-5-169-thru20210419.fits",
    "desi/spectra-sv3-dark-26065.fits",
    "desi/spectra-5-169-thru20210419.fits",
)


def read_shapes(reference: Path, observed: Observed) -> tuple[Array, Array]:
    """Inverse variances of real spectra on the network's grid.

    Parameters
    ----------
    reference : Path
        Folder of the reference data.
    observed : Observed
        The BOSS spectra.

    Returns
    -------
    desi, boss : ndarray, shape (n, nbins), float32
        With a median of 1 over the bins that have weight.
    """
    rows = []
    for name in DESI_FILES:
        with fitsio.FITS(str(reference / name)) as f:
            arms = {hdu.get_extname()[0] for hdu in f if "IVAR" in hdu.get_extname()}
            data = [
                tuple(
                    f[f"{arm}_{what}"].read().astype(float)
                    for what in ("WAVELENGTH", "FLUX", "IVAR")
                )
                for arm in sorted(arms)
            ]
        rows.append(combine(data)[1])
    return _shapes(np.concatenate(rows)), _shapes(observed.ivar)


def _shapes(ivar: np.ndarray) -> Array:
    # A spectrum with half of its bins says what instruments do; a dead one does not.
    good = ivar[(ivar > 0).mean(axis=1) > 0.5]
    middle = [np.median(row[row > 0]) for row in good]
    return (good / np.array(middle)[:, None]).astype(np.float32)


def normalise(flux: Array, ivar: Array) -> Array:
    """Subtract the weighted mean and divide by the weighted rms about it.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, nbins), float32
        Rebinned spectra, each with some weight. Bins without hold a flux of 0.

    Returns
    -------
    ndarray, shape (n, nbins), float32
        As `qnp_xp.spectra.normalize` makes it in float64, in a third of the time.
    """
    total = ivar.sum(axis=1, keepdims=True)
    centred = flux - (flux * ivar).sum(axis=1, keepdims=True) / total
    rms = np.sqrt((centred**2 * ivar).sum(axis=1, keepdims=True) / total)
    return centred / rms


def _waves(rng: Generator, n: int, width: float) -> Array:
    """Smooth random curves of unit scatter, shape (n, nbins)."""
    step = max(int(width / 2), 1)
    knots = rng.standard_normal((n, nbins // step + 4), dtype=np.float32)
    knots = gaussian_filter1d(knots, 1.0, axis=1) * np.float32(1.9)
    place = np.arange(nbins, dtype=np.float32) / step + 1
    left = place.astype(int)
    part = place - left
    return knots[:, left] * (1 - part) + knots[:, left + 1] * part


def _ivar(rng: Generator, shapes: tuple[Array, Array], desi: np.ndarray) -> Array:
    """Mixtures of two real shapes, warped smoothly."""
    n = desi.size
    mixed = np.empty((n, nbins), dtype=np.float32)
    for pool, rows in zip(shapes, (desi, ~desi), strict=True):
        m = int(rows.sum())
        one, two = pool[rng.integers(0, len(pool), (2, m))]
        share = rng.random((m, 1), dtype=np.float32) * (rng.random((m, 1)) < 0.7)
        both = (one > 0) & (two > 0)
        ratio = np.where(both, two, 1) / np.where(both, one, 1)
        mixed[rows] = one * ratio**share
    x = np.linspace(-1, 1, nbins, dtype=np.float32)
    warp = column(rng.normal(0, 0.35, n)) * x
    warp += column(rng.normal(0, 0.25, n)) * (2 * x**2 - 1)
    return mixed * np.exp(warp + 0.15 * _waves(rng, n, 30.0))


def _lost(rng: Generator, arm: np.ndarray, partial: float) -> np.ndarray:
    """Bins that have no data: bad pixels, gaps, dead arms, edges that are cut."""
    n, bins = len(arm), np.arange(nbins)
    lost = rng.random((n, nbins), dtype=np.float32) < 1e-3
    start = rng.integers(0, nbins, (n, 1))
    size = np.where(rng.random((n, 1)) < 0.08, rng.integers(2, 40, (n, 1)), 0)
    lost |= (bins >= start) & (bins < start + size)
    dead = np.where(rng.random((n, 1)) < 0.025, rng.integers(0, 3, (n, 1)), -1)
    lost |= arm == dead
    cut = rng.random((2, n, 1)) < 0.12
    blue, red = np.where(cut, rng.integers(1, 25, (2, n, 1)), 0)
    return lost | (bins < blue) | (bins >= nbins - red) | _unseen(rng, arm, partial)


def _unseen(rng: Generator, arm: np.ndarray, partial: float) -> np.ndarray:
    """Ranges without data of the share of spectra that have only a part of the grid."""
    n, bins = len(arm), np.arange(nbins)
    one = rng.integers(0, 3, (n, 1))
    # At least a quarter of the grid is left of what is cut anywhere.
    width = rng.integers(nbins // 4, nbins, (n, 1))
    first = (rng.random((n, 1)) * (nbins - width)).astype(int)
    choice = np.where(rng.random(n) < partial, rng.integers(0, 4, n), -1)
    return np.select(
        [column(choice) == number for number in range(4)],
        [
            arm == one,
            arm != one,
            ~between(*SDSS),
            (bins < first) | (bins >= first + width),
        ],
        False,
    )


def observe(
    rng: Generator,
    clean: Array,
    shapes: tuple[Array, Array],
    snr: Array,
    partial: float = 0.0,
) -> tuple[Array, Array]:
    """Add noise and the usual defects.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the noise.
    clean : ndarray, shape (n, nbins), float32
        Spectra without noise, of a median of 1 where they are not dark.
    shapes : tuple of ndarray
        Inverse variances of real spectra, from `read_shapes`.
    snr : ndarray, shape (n,), float32
        Median signal-to-noise ratio of the bins that are not dark, by the errors that
        are claimed.
    partial : float
        Share of the spectra that have only a part of the grid: some arms, the range of
        SDSS, any range.

    Returns
    -------
    flux, ivar : ndarray, shape (n, nbins), float32
        Noisy spectra, 0 where ivar is 0, and the inverse variances they claim.
    """
    n = len(clean)
    # Faint spectra are DESI's more often than not.
    desi = rng.random(n) < np.where(snr < 1.5, 0.75, 0.55)
    ivar = _ivar(rng, shapes, desi)
    # Bright objects bring their own photon noise.
    photons = rng.random(n) * np.minimum(np.asarray(snr) / 15, 1)
    ivar /= 1 + column(photons) * np.clip(clean, 0, 10)
    arm = np.where(
        desi[:, None],
        np.searchsorted(DESI_SPLITS, CENTRE),
        np.searchsorted(BOSS_SPLITS, CENTRE),
    )
    lost = _lost(rng, arm, partial) | (ivar == 0)
    # A spectrum that has lost nearly all is not the network's business.
    lost[lost.mean(axis=1) > 0.8] = False
    lost |= ivar == 0
    ivar = np.where(lost, 0, ivar)
    dark = np.abs(clean) < 0.1
    # Where all that is left is dark, its noise is that of the bright bins elsewhere.
    dark &= (~lost & ~dark).any(axis=1, keepdims=True)
    ratio = np.where(lost | dark, np.nan, np.maximum(np.abs(clean), 0.1) * ivar**0.5)
    ivar *= column(snr / np.nanmedian(ratio, axis=1)) ** 2
    sigma = 1 / np.sqrt(np.where(lost, 1, ivar))

    # Flux calibration is off by some per cent, differently in each arm.
    flux = clean * (1 + column(rng.normal(0, 0.03, n)) * _waves(rng, n, 60.0))
    step = rng.normal(0, 0.03, (n, 3)).astype(np.float32)
    step *= 1 + 3 * (rng.random((n, 1)) < 0.08)
    flux = flux * (1 + np.take_along_axis(step, arm, axis=1))
    # So is the sky that was subtracted: steps and waves of the size of the noise.
    offset = rng.normal(0, 0.15, (n, 3)).astype(np.float32)
    waves = column(rng.exponential(0.12, n)) * _waves(rng, n, 16.0)
    flux += sigma * (np.take_along_axis(offset, arm, axis=1) + waves)

    # Claimed errors are a little off, above all where sky lines are.
    size = np.exp(column(rng.normal(0.03, 0.08, n)))
    level = np.log(sigma)
    bright = np.maximum(level - uniform_filter1d(level, 31, axis=1), 0)
    size = size * (1 + column(rng.exponential(0.4, n)) * np.minimum(2 * bright, 2))
    noise = rng.standard_normal((n, nbins), dtype=np.float32) * size
    spikes = rng.random((n, nbins), dtype=np.float32) < 6e-4
    noise += spikes * (4 + 10 * rng.standard_normal((n, nbins), dtype=np.float32))
    flux += sigma * noise
    # The reddest bins are often wrong altogether, and some bluest ones.
    for end in (slice(nbins - 12, nbins), slice(0, 8)):
        wrong = column((rng.random(n) < 0.08) * rng.normal(0, 4, n))
        flux[:, end] += wrong * sigma[:, end]
    return np.where(lost, 0, flux).astype(np.float32), ivar.astype(np.float32)


def draw_snr(rng: Generator, kind: np.ndarray, sky: int, top: float = 60.0) -> Array:
    """Signal-to-noise ratios: log-uniform from 0.4; sky has next to none.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draws.
    kind : ndarray, shape (n,), int64
        Kinds of the objects.
    sky : int
        The kind that is an empty sky.
    top : float
        The largest.

    Returns
    -------
    ndarray, shape (n,), float32
    """
    snr = np.exp(rng.uniform(np.log(0.4), np.log(top), kind.size))
    return np.where(kind == sky, 0.02, snr).astype(np.float32)
