"""Steps that numba compiles, for numpy's arrays on a CPU.

All products are made of one kernel, of as many rows and columns as a processor has
registers for. It adds the terms of a number one after the other, wherever its row
stands, so that bits do not depend on the other rows. BLAS does not promise that: with
it each spectrum needs a product of its own, of few rows, which is half as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .backend import pad_or_cut
from .jit import LANES, WIDE, compile_now, make_kernel

Single = NDArray[np.float32]

# Rows, and vectors of columns, of what a kernel computes at once. Products of AVX-512
# have narrower ones: 100 filters would be filled up to 128.
_ROWS, _VECTORS = (8, 1) if WIDE else (4, 2)
_COLUMNS = _VECTORS * LANES
_multiply = make_kernel(_ROWS, _VECTORS)
_WIDTH = 2 * LANES
_POINTS = 4  # that are computed at once, as many as a tile has outputs
_transform = make_kernel(_POINTS, 2)

OUTPUTS = 4  #: of a tile of Toom-Cook

_NO_FLOOR = np.float32(-np.inf)
_LARGEST = np.float32(np.finfo(np.float32).max)


@compile_now("void(intp,intp,intp,intp,intp,intp,intp,intp,float32)")
def _product(
    a: int,
    a_step: int,
    rows: int,
    depth: int,
    panels: int,
    c: int,
    columns: int,
    bias: int,
    floor: float,
) -> None:
    """Multiply `a` by a matrix in panels; the last panel and rows may overlap others.

    What is computed twice has the same bits.
    """
    for first in range(0, columns, _COLUMNS):
        column = min(first, columns - _COLUMNS)
        panel = panels + 4 * first * depth
        for start in range(0, rows, _ROWS):
            row = min(start, rows - _ROWS)
            left, to = a + 4 * row * a_step, c + 4 * (row * columns + column)
            _multiply(
                left, a_step, panel, _COLUMNS, to, columns, depth, bias + 4 * column,
                floor,
            )  # fmt: skip


@compile_now("void(intp,intp,intp,intp,intp,intp,intp,intp,intp,intp,float32)")
def _convolve(
    x: int,
    spectra: int,
    length: int,
    step: int,
    depth: int,
    panels: int,
    y: int,
    outputs: int,
    filters: int,
    bias: int,
    floor: float,
) -> None:
    """Multiply the windows of each spectrum, which overlap in memory, by the kernel."""
    for i in range(spectra):
        window, to = x + 4 * i * length, y + 4 * i * outputs * filters
        _product(window, step, outputs, depth, panels, to, filters, bias, floor)


@compile_now(f"void({'intp,' * 17}float32)")
def _toom_cook(
    x: int,
    spectra: int,
    length: int,
    width: int,
    tiles: int,
    tile: int,
    before: int,
    points: int,
    v: int,
    rows: int,
    kernel: int,
    y: int,
    filters: int,
    after: int,
    z: int,
    bias: int,
    zeros: int,
    floor: float,
) -> None:
    """Transform what each tile sees, multiply point by point, and transform back."""
    step = rows * width
    for i in range(spectra):
        for t in range(tiles):
            seen = x + 4 * (i * length + t * tile)
            to = v + 4 * (i * tiles + t) * width
            for first in range(0, width, _WIDTH):
                column = 4 * min(first, width - _WIDTH)
                for p in range(0, points, _POINTS):
                    _transform(
                        before + 4 * p * points, points, seen + column, width,
                        to + column + 4 * p * step, step, points, zeros, _NO_FLOOR,
                    )  # fmt: skip
    panel = 4 * width * _COLUMNS * ((filters + _COLUMNS - 1) // _COLUMNS)
    for p in range(points):
        left, right, to = (
            v + 4 * p * step,
            kernel + p * panel,
            y + 4 * p * rows * filters,
        )
        _product(left, width, rows, width, right, to, filters, zeros, _NO_FLOOR)
    for row in range(spectra * tiles):
        for first in range(0, filters, _WIDTH):
            column = 4 * min(first, filters - _WIDTH)
            _transform(
                after, points, y + 4 * row * filters + column, rows * filters,
                z + 4 * row * OUTPUTS * filters + column, filters, points,
                bias + column, floor,
            )  # fmt: skip


@compile_now(
    "void(float32[:,::1],float32[:,::1],intp[::1],float32,float32[::1],float32[::1],"
    "float64[:,::1],float64[:,::1],boolean[::1])"
)
def _sum_pixels(
    flux: Single,
    ivar: Single,
    bins: NDArray[np.intp],
    largest: float,
    product: Single,
    weight: Single,
    flux_sum: NDArray[np.float64],
    ivar_sum: NDArray[np.float64],
    cleaned: NDArray[np.bool_],
) -> None:
    """Add the pixels of an arm to sums, in their order; see `sum_pixels`."""
    for i in range(flux.shape[0]):
        lost = 0
        for j in range(bins.size):  # without a branch, for vectors
            f, w = flux[i, j], ivar[i, j]
            p = f * w
            used = (w > 0) & (w <= largest) & (abs(f) <= largest) & (abs(p) <= largest)
            weight[j] = w if used else np.float32(0)
            product[j] = p if used else np.float32(0)
            lost += weight[j] != w
        cleaned[i] |= lost > 0
        bin_ = bins[0]
        flux_here, ivar_here = 0.0, 0.0
        for j in range(bins.size):
            if bins[j] != bin_:
                if bin_ >= 0:
                    flux_sum[i, bin_] += flux_here
                    ivar_sum[i, bin_] += ivar_here
                flux_here, ivar_here, bin_ = 0.0, 0.0, bins[j]
            flux_here += product[j]
            ivar_here += weight[j]
        if bin_ >= 0:
            flux_sum[i, bin_] += flux_here
            ivar_sum[i, bin_] += ivar_here


def sum_pixels(
    arms: Sequence[tuple[NDArray[np.intp], Single, Single]], nbins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Sum pixels as `qnp_xp.spectra.sum_arms` does.

    Arms are the bins of the pixels, -1 for those off the grid, and flux and inverse
    variance of shape ``(n, npix)``.
    """
    n = arms[0][1].shape[0]
    flux_sum, ivar_sum = np.zeros((n, nbins)), np.zeros((n, nbins))
    cleaned = np.zeros(n, dtype=np.bool_)
    for bins, *pixels in arms:
        flux, ivar = (np.require(x, requirements=["C", "W"]) for x in pixels)
        scratch = np.empty((2, bins.size), dtype=np.float32)
        sums = flux_sum, ivar_sum, cleaned
        if bins.size:
            _sum_pixels(flux, ivar, bins, _LARGEST, *scratch, *sums)
    return flux_sum, ivar_sum, cleaned


class Weights(NamedTuple):
    """What a product takes, and the number that its results are cut at."""

    #: In panels of columns, of which the last may overlap another: shape ``(..., depth,
    #: columns)`` becomes ``(..., panels, depth, columns of a panel)``.
    kernel: Single
    bias: Single  #: Shape ``(columns,)``.
    floor: np.float32


def weights(kernel: NDArray[Any], bias: NDArray[Any], floor: float) -> Weights:
    """Make weights of one width or more: a narrower kernel is given zeros."""
    columns = max(bias.size, _WIDTH)
    kernel = pad_or_cut(kernel, 0, columns, axis=kernel.ndim - 1)
    firsts = [min(i, columns - _COLUMNS) for i in range(0, columns, _COLUMNS)]
    panels = np.stack([kernel[..., i : i + _COLUMNS] for i in firsts], axis=-3)
    bias = np.asarray(pad_or_cut(bias, 0, columns, axis=0), dtype=np.float32)
    return Weights(
        np.ascontiguousarray(panels, dtype=np.float32), bias, np.float32(floor)
    )


def multiply(x: Single, by: Weights) -> Single:
    """Compute ``max(bias + x @ kernel, floor)``."""
    n, depth = x.shape
    rows, columns = max(n, _ROWS), by.bias.size
    x = pad_or_cut(np.ascontiguousarray(x), 0, rows, axis=0)
    y = np.empty((rows, columns), dtype=np.float32)
    x_at, kernel, bias, y_at = map(_address, (x, by.kernel, by.bias, y))
    _product(x_at, depth, rows, depth, kernel, y_at, columns, bias, by.floor)
    return y[:n]


def convolve(x: Single, by: Weights, outputs: int, step: int) -> Single:
    """Multiply windows of each spectrum that are `step` apart, where they lie.

    From shape ``(n, numbers)`` to ``(n, outputs, columns)``.
    """
    n, depth, columns = x.shape[0], by.kernel.shape[1], by.bias.size
    rows = max(outputs, _ROWS)
    x = pad_or_cut(x, 0, max(x.shape[1], (rows - 1) * step + depth), axis=1)
    y = np.empty((n, rows, columns), dtype=np.float32)
    x_at, kernel, bias, y_at = map(_address, (x, by.kernel, by.bias, y))
    length = x.shape[1]
    _convolve(x_at, n, length, step, depth, kernel, y_at, rows, columns, bias, by.floor)
    return y[:, :outputs, :]


def toom_cook(
    x: Single, before: Single, by: Weights, after: Single, tiles: int, step: int
) -> Single:
    """Convolve by Toom-Cook, as `qnp_xp._network.convolution` does.

    Tiles begin `step` numbers apart, and the weights have a kernel for each point. From
    shape ``(n, length, channels)`` to ``(n, tiles * OUTPUTS, columns)``.
    """
    n, points = x.shape[0], before.shape[0]
    width, columns = by.kernel.shape[2], by.bias.size
    rows = max(n * tiles, _ROWS)
    padded = -(-points // _POINTS) * _POINTS
    before = pad_or_cut(before, 0, padded, axis=0)
    v = np.empty((padded, rows, width), dtype=np.float32)
    v[:, n * tiles :, :] = 0
    y = np.empty((points, rows, columns), dtype=np.float32)
    z = np.empty((n, tiles * OUTPUTS, columns), dtype=np.float32)
    arrays = x, before, v, by.kernel, y, after, z, by.bias, np.zeros_like(by.bias)
    x_at, before_at, v_at, kernel, y_at, after_at, z_at, bias, zeros = map(
        _address, arrays
    )
    length = x.shape[1] * x.shape[2]
    _toom_cook(
        x_at, n, length, width, tiles, step, before_at, points, v_at, rows, kernel,
        y_at, columns, after_at, z_at, bias, zeros, by.floor,
    )  # fmt: skip
    return z


def _address(x: NDArray[Any]) -> int:
    """Give the place of an array in memory, which is all that compiled code gets."""
    if x.dtype != np.float32 or not x.flags.c_contiguous:
        msg = "compiled functions take float32 in C order"
        raise TypeError(msg)
    return int(x.ctypes.data)
