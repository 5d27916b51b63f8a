"""Wavelength grids, and the bin that a pixel falls into.

A grid is a plain array of wavelengths in Angstrom, as QuasarNP has it: each value is
the lower edge of a bin, and the spacing is constant, either linear or in log10. All of
this is small and done once for a pair of grids, so it is numpy on the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Grid",
    "desi_wave",
    "dl",
    "l_max",
    "l_min",
    "linear_wave",
    "nbins",
    "nbins_linear",
    "regrid",
    "wave",
    "wdelta",
    "wdelta_qnet",
    "wmax",
    "wmin",
]

Float64 = NDArray[np.float64]

#: First and last pixel of DESI's spectra, and the step between pixels, in Angstrom.
wmin: float = 3600.0
wmax: float = 9824.0
wdelta: float = 0.8
#: Width of a bin of `linear_wave` in Angstrom: 17 of DESI's pixels.
wdelta_qnet: float = 17 * wdelta
#: Ends of QuasarNET's logarithmic grid and the width of its bins, in log10 of Angstrom.
l_min = np.log10(3600.0)
l_max = np.log10(10000.0)
dl: float = 1e-3

#: Number of bins of `wave`.
nbins: int = 443
#: QuasarNET's logarithmic grid, 443 bins of 1e-3 in log10 from 3600 Angstrom up.
wave: Float64 = 10 ** (l_min + dl * np.arange(nbins))

#: Number of bins of `linear_wave`.
nbins_linear: int = 458
#: QuasarNET's linear grid, 458 bins of 13.6 Angstrom (17 DESI pixels) from 3600 up.
linear_wave: Float64 = np.round(wmin + wdelta_qnet * np.arange(nbins_linear), 1)

#: The pixels of DESI's spectra, 3600 to 9824 Angstrom in steps of 0.8.
desi_wave: Float64 = np.round(wmin + wdelta * np.arange(7781), 1)

for _grid in (wave, linear_wave, desi_wave):
    _grid.setflags(write=False)

# How far a grid may stray from constant spacing, as a part of its step.
_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Grid:
    """Describe a grid of constant spacing, linear or in log10 of the wavelength."""

    start: float  #: Lower edge of the first bin: Angstrom, or its log10.
    step: float  #: Width of a bin in the same unit.
    size: int
    log: bool

    @classmethod
    def from_wave(cls, grid: ArrayLike) -> Grid:
        """Find out what kind of grid an array of wavelengths is."""
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
            step = float(edges[-1] - edges[0]) / (edges.size - 1)
            ideal = edges[0] + step * np.arange(edges.size)
            if step > 0 and np.max(np.abs(edges - ideal)) <= _TOLERANCE * step:
                return cls(float(edges[0]), step, edges.size, log)
        msg = (
            "the output grid must have constant spacing in wavelength or in its log10,"
            f" not so {values.size} values from {values[0]:.2f} to {values[-1]:.2f}"
        )
        raise ValueError(msg)

    def __str__(self) -> str:
        start = 10**self.start if self.log else self.start
        unit = "in log10" if self.log else "Angstrom"
        return f"{self.size} bins of {self.step:g} {unit} from {start:.1f} Angstrom"

    def is_like(self, other: Grid) -> bool:
        """Tell whether another grid has the same bins, but for rounding."""
        if (self.size, self.log) != (other.size, other.log):
            return False
        ends = (self.start, self.start + self.step * self.size)
        others = (other.start, other.start + other.step * other.size)
        strays = (abs(a - b) for a, b in zip(ends, others, strict=True))
        return max(strays) <= _TOLERANCE * self.step

    def bins(self, wavelength: ArrayLike) -> NDArray[np.int64]:
        """Find the bin of each pixel; below 0 or from `size` on it is off the grid."""
        values = np.asarray(wavelength, dtype=np.float64)
        if not np.all(np.isfinite(values)) or np.any(values <= 0):
            msg = "wavelengths must be finite and positive (Angstrom)"
            raise ValueError(msg)
        if self.log:
            values = np.log10(values)
        # The rounding keeps a pixel on the edge of a bin in the bin that it opens.
        position = np.round((values - self.start) / self.step, 9)
        return np.floor(position).astype(np.int64)


def regrid(
    old_grid: ArrayLike, out_grid: ArrayLike = wave
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Map the pixels of one grid to the bins of another.

    Parameters
    ----------
    old_grid : array_like, shape (npix,)
        Wavelengths of the pixels in Angstrom.
    out_grid : array_like, shape (nbins,), optional
        Grid of constant linear or logarithmic spacing in Angstrom.

    Returns
    -------
    bins : numpy.ndarray of int64, shape (npix,)
        Bin of each pixel; off the grid where `keep` is False.
    keep : numpy.ndarray of bool, shape (npix,)
        True for the pixels that lie on the grid.

    Raises
    ------
    ValueError
        If `out_grid` is of neither kind, or a wavelength is not finite or positive.

    Notes
    -----
    ``floor(round((log10 w - log10 g0) / dl, 9))`` on logarithmic grids and
    ``floor(round((w - g0) / dw, 9))`` on linear ones. A pixel on the edge of a bin lies
    in the bin that it opens.

    Examples
    --------
    >>> bins, keep = regrid([3599.0, 3601.0, 3700.0])
    >>> bins.tolist(), keep.tolist()
    ([-1, 0, 11], [False, True, True])
    """
    grid = Grid.from_wave(out_grid)
    bins = grid.bins(old_grid)
    return bins, (bins >= 0) & (bins < grid.size)
