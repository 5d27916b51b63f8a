"""Small computations for pictures, on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["box_edges", "flux_range", "smooth", "stagger", "without_spikes"]

Float64 = NDArray[np.float64]

# Of the smoothed spectrum, in per cent: the peaks of lines are to be seen.
_LOW, _HIGH = 0.5, 99.95
_NOISY = 5  # times the usual noise, as at the ends of an arm
_WINDOW = 5  # pixels of a running median
_REACH = 4  # of a Gaussian, in its widths
_NARROWEST = 0.1  # pixels; the neighbours of a pixel have no part in less


def smooth(flux: Float64, ivar: Float64, width: float) -> Float64:
    """A running mean, weighted by a Gaussian and by the inverse variance.

    Parameters
    ----------
    flux, ivar
        Flux and its inverse variance, shape ``(npix,)``, finite; pixels of weight 0
        count for nothing.
    width
        Standard deviation of the Gaussian in pixels, which ends at four of these; below
        0.1 the flux is left as it is.

    Returns
    -------
    numpy.ndarray
        Shape ``(npix,)``; NaN where no pixel within reach has weight.
    """
    if not flux.size:
        return np.empty(0)
    reach = min(int(np.ceil(_REACH * width)), flux.size - 1)
    reach = reach if width >= _NARROWEST else 0
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / width) ** 2) if reach else np.ones(1)
    # Weights of another size altogether would be lost in sums, or overflow.
    weight = ivar / max(float(ivar.max(initial=0)), np.finfo(float).tiny)
    middle = slice(reach, reach + flux.size)
    total = np.convolve(weight, kernel)[middle]
    mean = np.full(flux.shape, np.nan)
    known = total > 0
    mean[known] = np.convolve(flux * weight, kernel)[middle][known] / total[known]
    return mean


def without_spikes(flux: Float64, used: NDArray[np.bool_]) -> Float64:
    """A running median, which leaves out what is one or two pixels wide.

    Parameters
    ----------
    flux
        Flux, shape ``(npix,)``.
    used
        Which of these pixels count, shape ``(npix,)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(npix,)``: of each pixel that counts the median of five such pixels,
        itself in the middle; the flux of the others, and of all if they are few.
    """
    values = flux[used]
    calm: Float64 = flux.copy()
    if values.size >= _WINDOW:
        # At the ends the neighbours on one side stand for those that are lacking.
        padded = np.pad(values, _WINDOW // 2, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)
        calm[used] = np.median(windows, axis=1)
    return calm


def box_edges(wave: ArrayLike, nboxes: int) -> Float64:
    """Where the boxes of a line begin and end.

    Parameters
    ----------
    wave
        Grid of the network in Angstrom, shape ``(nbins,)``.
    nboxes
        Boxes of a line.

    Returns
    -------
    numpy.ndarray
        Wavelengths in Angstrom, shape ``(nboxes + 1,)``: those that
        `qnp_xp.decode.decode` gives a line at the offsets 0 and 1 of a box.
    """
    grid = np.asarray(wave, dtype=np.float64)
    position = np.arange(nboxes + 1) * (grid.size / nboxes)
    edges: Float64 = np.interp(position, np.arange(grid.size), grid)
    return edges


def flux_range(
    wave: Float64, flux: Float64, sigma: Float64, low: float, high: float
) -> tuple[float, float]:
    """The range of flux that shows a spectrum.

    Parameters
    ----------
    wave, flux, sigma
        Wavelengths of its pixels, their smoothed flux and the standard deviation of
        that of a pixel, shape ``(npix,)``; NaN counts for nothing.
    low, high
        The wavelengths between these count, if there is a pixel.

    Returns
    -------
    bottom, top : float
        Zero, and all but a few pixels of the smoothed flux, lie within, but for those
        of a noise far above the median.
    """
    known = np.isfinite(flux) & np.isfinite(sigma)
    inside = known & (wave >= low) & (wave <= high)
    chosen = inside if np.any(inside) else known
    values, noise = flux[chosen], sigma[chosen]
    if not values.size:
        return -1.0, 1.0
    values = values[noise <= _NOISY * np.median(noise)]
    bottom, top = np.percentile(values, [_LOW, _HIGH])
    bottom, top = min(float(bottom), 0.0), max(float(top), 0.0)
    return (bottom, top) if top > bottom else (-1.0, 1.0)


def stagger(positions: Sequence[float], room: float) -> list[int]:
    """Levels of labels beside each other, so that none covers another.

    Parameters
    ----------
    positions
        Their middles along an axis.
    room
        What each of them takes of it.

    Returns
    -------
    list of int
        From 0, the lowest that is free.
    """
    levels = [0] * len(positions)
    ends: list[float] = []
    for number in sorted(range(len(positions)), key=positions.__getitem__):
        start = positions[number] - room / 2
        free = (level for level, end in enumerate(ends) if end <= start)
        level = next(free, len(ends))
        ends[level : level + 1] = [start + room]
        levels[number] = level
    return levels
