"""Steps that numba compiles, for numpy's arrays on a CPU.

All products are made of one kernel, of as many rows and columns as a processor has
registers for. It adds the terms of a number one after the other, wherever its row
stands, so that bits do not depend on the other rows. BLAS does not promise that: with
it each spectrum needs a product of its own, of few rows, which is half as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .backend import pad_or_cut
from .jit import LANES, WIDE, compile_now, make_kernel

Single = NDArray[np.float32]

# Rows, and vectors of columns, of what a kernel computes at once. Products of AVX-512
# have narrower ones: 100 filters would be filled up to 128.
_SHAPE = (8, 1) if WIDE else (4, 2)
_ROWS, _COLUMNS = _SHAPE[0], _SHAPE[1] * LANES
_OF_TRANSFORMS = (4, 2)  # of as many rows as a tile has outputs
_WIDTH = _OF_TRANSFORMS[1] * LANES
_multiply = make_kernel(*_SHAPE)

OUTPUTS = 4  #: of a tile of Toom-Cook

_NO_FLOOR = np.float32(-np.inf)
_LARGEST = np.float32(np.finfo(np.float32).max)


def _products(
    parts: int,
    pieces: int,
    a: int,
    a_part: int,
    a_step: int,
    rows: int,
    depth: int,
    b: int,
    b_part: int,
    b_piece: int,
    b_step: int,
    packed: int,
    c: int,
    c_piece: int,
    c_step: int,
    columns: int,
    bias: int,
    floor: float,
) -> None:
    """Multiply matrices, of each part by those of its pieces, one after the other.

    Matrices are given by the address of the first, and by numbers from one part, piece
    or row to the next. Columns of `b` are packed in panels or not. The last panel and
    rows may overlap others: what is computed twice has the same bits.
    """
    part = 0  # loops of `range` take numba longer
    while part < parts:
        piece = 0
        while piece < pieces:
            left = a + 4 * part * a_part
            right = b + 4 * (part * b_part + piece * b_piece)
            to = c + 4 * (part * pieces + piece) * c_piece
            first = 0
            while first < columns:
                column = first if first < columns - _COLUMNS else columns - _COLUMNS
                panel = right + 4 * (first * depth if packed else column)
                start = 0
                while start < rows:
                    row = start if start < rows - _ROWS else rows - _ROWS
                    _multiply(
                        left + 4 * row * a_step, a_step, panel, b_step,
                        to + 4 * (row * c_step + column), c_step, depth,
                        bias + 4 * column, floor,
                    )  # fmt: skip
                    start += _ROWS
                first += _COLUMNS
            piece += 1
        part += 1


def _with_kernel(rows: int, vectors: int) -> Any:
    """Compile products of a kernel of another shape; numba keeps no closures."""
    names = {**globals(), "_multiply": make_kernel(rows, vectors)}
    names |= {"_ROWS": rows, "_COLUMNS": vectors * LANES}
    name = f"_products_{rows}_{vectors}"
    return compile_now(_OF_PRODUCTS)(FunctionType(_products.__code__, names, name))


_OF_PRODUCTS = f"void({'intp,' * 17}float32)"
_multiply_all = compile_now(_OF_PRODUCTS)(_products)
_transform_all = _multiply_all
if _SHAPE != _OF_TRANSFORMS:
    _transform_all = _with_kernel(*_OF_TRANSFORMS)

_SINGLES, _DOUBLES = "CPointer(float32)", "CPointer(float64)"


@compile_now(
    f"void(intp,intp,intp,{_SINGLES},{_SINGLES},CPointer(intp),float32,{_SINGLES},"
    f"{_SINGLES},{_DOUBLES},{_DOUBLES},CPointer(uint8))"
)
def _sum_pixels(
    n: int,
    npix: int,
    nbins: int,
    flux: Any,
    ivar: Any,
    bins: Any,
    largest: float,
    product: Any,
    weight: Any,
    flux_sum: Any,
    ivar_sum: Any,
    cleaned: Any,
) -> None:
    """Add the pixels of an arm to sums, in their order; see `sum_pixels`."""
    i = 0
    while i < n:
        lost = 0
        for j in range(npix):  # without a branch, for vectors
            f, w = flux[i * npix + j], ivar[i * npix + j]
            p = f * w
            used = (w > 0) & (w <= largest) & (abs(f) <= largest) & (abs(p) <= largest)
            weight[j] = w if used else np.float32(0)
            product[j] = p if used else np.float32(0)
            lost += weight[j] != w
        if lost > 0:
            cleaned[i] = 1
        j = 0
        while j < npix:
            bin_, flux_here, ivar_here = bins[j], 0.0, 0.0
            while j < npix and bins[j] == bin_:
                flux_here += product[j]
                ivar_here += weight[j]
                j += 1
            if bin_ >= 0:
                flux_sum[i * nbins + bin_] += flux_here
                ivar_sum[i * nbins + bin_] += ivar_here
        i += 1


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
    sums = [x.ctypes.data for x in (flux_sum, ivar_sum, cleaned)]
    for bins, *pixels in arms:
        flux, ivar = map(np.ascontiguousarray, pixels)
        where = np.ascontiguousarray(bins, dtype=np.intp)
        scratch = np.empty((2, bins.size), dtype=np.float32)
        given = _address(flux), _address(ivar), where.ctypes.data, _LARGEST
        _sum_pixels(n, bins.size, nbins, *given, *map(_address, scratch), *sums)
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
    _multiply_all(
        1, 1, x_at, 0, depth, rows, depth, kernel, 0, 0, _COLUMNS, True, y_at, 0,
        columns, columns, bias, by.floor,
    )  # fmt: skip
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
    _multiply_all(
        n, 1, x_at, x.shape[1], step, rows, depth, kernel, 0, 0, _COLUMNS, True, y_at,
        rows * columns, columns, columns, bias, by.floor,
    )  # fmt: skip
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
    padded = -(-points // OUTPUTS) * OUTPUTS
    before = pad_or_cut(before, 0, padded, axis=0)
    v = np.empty((padded, rows, width), dtype=np.float32)
    v[:, n * tiles :, :] = 0
    y = np.empty((points, rows, columns), dtype=np.float32)
    z = np.empty((n, tiles * OUTPUTS, columns), dtype=np.float32)
    nothing = np.zeros(max(width, columns), dtype=np.float32)
    arrays = x, before, v, by.kernel, y, after, z, by.bias, nothing
    x_at, before_at, v_at, kernel, y_at, after_at, z_at, bias, zeros = map(
        _address, arrays
    )
    length, of_point, panels = x.shape[1] * x.shape[2], rows * width, by.kernel[0].size
    _transform_all(  # what each tile sees, of each spectrum
        n, tiles, before_at, 0, points, padded, points, x_at, length, step, width,
        False, v_at, width, of_point, width, zeros, _NO_FLOOR,
    )  # fmt: skip
    _multiply_all(  # point by point
        points, 1, v_at, of_point, width, rows, width, kernel, panels, 0, _COLUMNS,
        True, y_at, rows * columns, columns, columns, zeros, _NO_FLOOR,
    )  # fmt: skip
    _transform_all(  # back to the outputs of each tile
        n * tiles, 1, after_at, 0, points, OUTPUTS, points, y_at, columns, 0,
        rows * columns, False, z_at, OUTPUTS * columns, columns, columns, bias,
        by.floor,
    )  # fmt: skip
    return z


def _address(x: NDArray[Any]) -> int:
    """Give the place of an array in memory, which is all that compiled code gets."""
    if x.dtype != np.float32 or not x.flags.c_contiguous:
        msg = "compiled functions take float32 in C order"
        raise TypeError(msg)
    return int(x.ctypes.data)
