"""Wavelength grids, the bin that a pixel falls into, and the matrices that sum bins.

A grid is a plain array of wavelengths in Angstrom, as QuasarNP has it: each value is
the lower edge of a bin, and the spacing is constant, either linear or in log10. All of
this is small and done once for a pair of grids, so it is numpy on the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BLOCK",
    "BinBlock",
    "Grid",
    "bin_blocks",
    "desi_wave",
    "from_key",
    "grid_key",
    "linear_wave",
    "nbins",
    "nbins_linear",
    "regrid",
    "wave",
]

Float64 = NDArray[np.float64]

#: Number of bins of `wave`.
nbins: int = 443
#: QuasarNET's logarithmic grid, 443 bins of 1e-3 in log10 from 3600 Angstrom up.
wave: Float64 = 10 ** (np.log10(3600.0) + 1e-3 * np.arange(nbins))

#: Number of bins of `linear_wave`.
nbins_linear: int = 458
#: QuasarNET's linear grid, 458 bins of 13.6 Angstrom (17 DESI pixels) from 3600 up.
linear_wave: Float64 = np.round(3600 + 13.6 * np.arange(nbins_linear), 1)

#: The pixels of DESI's spectra, 3600 to 9824 Angstrom in steps of 0.8.
desi_wave: Float64 = np.round(3600 + 0.8 * np.arange(7781), 1)

for _grid in (wave, linear_wave, desi_wave):
    _grid.setflags(write=False)

#: Bins of one block of the banded matrix.
BLOCK = 16

# How far a grid may stray from constant spacing, as a part of its step.
_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Grid:
    """A grid of constant spacing, linear or in log10 of the wavelength.

    Attributes
    ----------
    start
        Lower edge of the first bin: Angstrom, or its log10.
    step
        Width of a bin in the same unit.
    size
        Number of bins.
    log
        True where the spacing is constant in log10.
    """

    start: float
    step: float
    size: int
    log: bool

    @classmethod
    def from_wave(cls, grid: ArrayLike) -> Grid:
        """Find out what kind of grid an array of wavelengths is.

        Parameters
        ----------
        grid
            Increasing wavelengths in Angstrom, shape ``(nbins,)``.

        Returns
        -------
        Grid

        Raises
        ------
        ValueError, TypeError
            If the spacing is constant neither in wavelength nor in its log10, or these
            are no numbers.
        """
        try:
            values = np.asarray(grid, dtype=np.float64)
        except (TypeError, ValueError) as err:
            msg = f"a grid is made of wavelengths in Angstrom, which {grid!r} is not"
            raise TypeError(msg) from err
        if values.ndim != 1 or values.size < 2:
            msg = (
                f"a grid needs 2 or more wavelengths in 1 dimension, got {values.shape}"
            )
            raise ValueError(msg)
        if not np.all(np.isfinite(values)) or np.any(values <= 0):
            msg = "the wavelengths of a grid must be finite and positive"
            raise ValueError(msg)
        for log in (False, True):
            edges = np.log10(values) if log else values
            # Twelve digits of the step are more than rounded wavelengths carry, and
            # shed the noise that a difference of logarithms has in its last places.
            step = float(f"{(edges[-1] - edges[0]) / (edges.size - 1):.12g}")
            ideal = edges[0] + step * np.arange(edges.size)
            if step > 0 and np.max(np.abs(edges - ideal)) <= _TOLERANCE * step:
                return cls(float(edges[0]), step, edges.size, log)
        msg = (
            "the output grid must have constant spacing in wavelength or in its log10,"
            f" not so {values.size} values from {values[0]:.2f} to {values[-1]:.2f}"
        )
        raise ValueError(msg)

    def bins(self, wavelength: ArrayLike) -> NDArray[np.int64]:
        """Bin of each pixel; bins below 0 or from `size` on lie off the grid.

        Parameters
        ----------
        wavelength
            Wavelengths of pixels in Angstrom, of any shape.

        Returns
        -------
        numpy.ndarray of int64
            Of the same shape.

        Raises
        ------
        ValueError
            If a wavelength is not finite or not positive.

        Notes
        -----
        ``floor((log10 w - log10 g0) / dl)`` on logarithmic grids and
        ``floor(round((w - g0) / dw, 10))`` on linear ones, as QuasarNP 0.2 bins: the
        rounding keeps pixels on the edge of a linear bin (every 17th of DESI's) in
        the bin that they open.
        """
        values = np.asarray(wavelength, dtype=np.float64)
        if not np.all(np.isfinite(values)) or np.any(values <= 0):
            msg = "wavelengths must be finite and positive (Angstrom)"
            raise ValueError(msg)
        if self.log:
            position = (np.log10(values) - self.start) / self.step
        else:
            position = np.round((values - self.start) / self.step, 10)
        return np.floor(position).astype(np.int64)


def regrid(
    old_grid: ArrayLike, out_grid: ArrayLike = wave
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Map the pixels of one grid to the bins of another.

    Parameters
    ----------
    old_grid
        Wavelengths of the pixels in Angstrom, shape ``(npix,)``.
    out_grid
        Grid of constant linear or logarithmic spacing, shape ``(nbins,)``, Angstrom.

    Returns
    -------
    bins : numpy.ndarray of int64
        Bin of each pixel, shape ``(npix,)``; off the grid where `keep` is False.
    keep : numpy.ndarray of bool
        True for the pixels that lie on the grid.

    Raises
    ------
    ValueError
        If `out_grid` is of neither kind, or a wavelength is not finite or positive.
    """
    grid = Grid.from_wave(out_grid)
    bins = grid.bins(old_grid)
    return bins, (bins >= 0) & (bins < grid.size)


@dataclass(frozen=True)
class BinBlock:
    """One block of the banded matrix that sums pixels into bins.

    Attributes
    ----------
    pixels
        Slice of the pixels that fall into the bins of this block.
    matrix
        Zeros and ones, shape ``(npixels, 16)``, float64; the bins of a last block
        past the end of the grid stay empty.
    """

    pixels: slice
    matrix: Float64


def bin_blocks(
    wavelength: ArrayLike, out_grid: ArrayLike
) -> tuple[NDArray[np.int64] | None, tuple[BinBlock, ...]]:
    """Cut the matrix that sums pixels into bins into dense blocks of 16 bins.

    Neighbouring pixels fall into neighbouring bins, so nearly all of the matrix is
    zero, and what is not lies along its diagonal.

    Parameters
    ----------
    wavelength
        Wavelengths of the pixels in Angstrom, shape ``(npix,)``, in any order.
    out_grid
        Grid of constant linear or logarithmic spacing, shape ``(nbins,)``, Angstrom.

    Returns
    -------
    order : numpy.ndarray of int64 or None
        How the pixels are to be sorted first, shape ``(npix,)``; None where they
        increase already.
    blocks : tuple of BinBlock
        One for each 16 bins of the grid, in order.
    """
    bins, _ = regrid(wavelength, out_grid)
    size = np.asarray(out_grid).size
    # Pixels off the grid belong to no block: before the first or behind the last.
    bins = np.clip(bins, -1, size)
    order = None
    if np.any(np.diff(bins) < 0):
        order = np.argsort(bins, kind="stable")
        order.setflags(write=False)
        bins = bins[order]
    blocks = []
    for low in range(0, size, BLOCK):
        first, last = np.searchsorted(bins, [low, min(low + BLOCK, size)])
        here = low + np.arange(BLOCK)
        matrix = np.equal(bins[first:last, None], here).astype(np.float64)
        matrix.setflags(write=False)  # the next caller gets the same one
        blocks.append(BinBlock(slice(int(first), int(last)), matrix))
    return order, tuple(blocks)


def grid_key(wavelength: ArrayLike) -> bytes:
    """Wavelengths as something that a cache can look up.

    Parameters
    ----------
    wavelength
        Wavelengths in Angstrom, any shape.

    Returns
    -------
    bytes
        Their float64 numbers; `from_key` gives them back.
    """
    return np.asarray(wavelength, dtype=np.float64).tobytes()


def from_key(key: bytes) -> Float64:
    """Wavelengths from the key of a cache.

    Parameters
    ----------
    key
        As `grid_key` returns it.

    Returns
    -------
    numpy.ndarray
        Wavelengths in Angstrom, 1 dimension.
    """
    return np.frombuffer(key, dtype=np.float64)
