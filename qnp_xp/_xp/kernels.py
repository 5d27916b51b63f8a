"""Steps that LLVM compiles, for numpy's arrays on a CPU.

All products are made of one kernel, of as many rows and columns as a processor has
registers for. It adds the terms of a number one after the other, wherever its row
stands, so that bits do not depend on the other rows. BLAS does not promise that: with
it each spectrum needs a product of its own, of few rows, which is half as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from .backend import pad_or_cut
from .jit import (
    DOUBLE,
    INT,
    LANES,
    SINGLE,
    WIDE,
    Function,
    Int,
    compile_functions,
    write_kernel,
)

Single = NDArray[np.float32]

# Rows, and vectors of columns, of what a kernel computes at once. Products of AVX-512
# have narrower ones: 100 filters would be filled up to 128.
_SHAPE = (8, 1) if WIDE else (4, 2)
_ROWS, _COLUMNS = _SHAPE[0], _SHAPE[1] * LANES
_OF_TRANSFORMS = (4, 2)  # of as many rows as a tile has outputs
_WIDTH = _OF_TRANSFORMS[1] * LANES
OUTPUTS = 4  #: of a tile of Toom-Cook

_NO_FLOOR = np.float32(-np.inf)
_LARGEST = np.float32(np.finfo(np.float32).max)


def _write_products(module: ir.Module, name: str, shape: tuple[int, int]) -> None:
    """Write products of matrices, of each part by those of its pieces.

    Matrices are given by the address of the first, and by numbers from one part, piece
    or row to the next. A panel of columns of `b` begins `b_panel` numbers after that of
    its first column. The last panel and rows may overlap others: what is computed twice
    has the same bits.
    """
    function = Function(module, name, [INT] * 17 + [SINGLE])
    parts, pieces, a, a_part, a_step, rows, depth, *others = function.arguments
    b, b_part, b_piece, b_step, packed, c, c_piece, c_step, columns, *cut = others
    bias, floor = cut
    builder, (height, vectors) = function.builder, shape
    width = vectors * LANES
    with function.loop(parts) as part, function.loop(pieces) as piece:
        left = a + part * a_part * 4
        right = b + (part * b_part + piece * b_piece) * 4
        to = c + (part * pieces + piece) * c_piece * 4

        def write_panel(shape: tuple[int, int], first: Int, skipped: int) -> None:
            """Write all rows of the panel that begins with a column, or its end."""
            column = first.least(columns + -width)
            offset = builder.select(
                packed.compare("!=", 0), (first * depth).value, column.value
            )
            panel = right + (Int(builder, offset) + skipped) * 4
            column = column + skipped
            with function.loop(rows, shape[0]) as start:
                row = start.least(rows + -shape[0])
                write_kernel(
                    builder, shape, left + row * a_step * 4, a_step, panel, b_step,
                    to + (row * c_step + column) * 4, c_step, depth, bias + column * 4,
                    floor,
                )  # fmt: skip

        # Of a last panel with columns for one vector, no more than that is computed.
        rest, fewest = columns % width, LANES if vectors > 1 else 0
        is_narrow = builder.and_(rest.compare(">", 0), rest.compare("<=", fewest))
        is_narrow = builder.and_(is_narrow, rows.compare(">=", height * vectors))
        narrow = Int(builder, builder.select(is_narrow, rest.value, Int.zero))
        whole = columns + narrow * -1
        with function.loop(whole, width) as first:
            write_panel(shape, first, 0)
        with builder.if_then(is_narrow):
            write_panel((height * vectors, 1), whole, width - LANES)
    builder.ret_void()


def _write_sums(module: ir.Module, name: str) -> None:
    """Write the sums of the pixels of an arm, in their order; see `sum_pixels`."""
    integers = [kind.as_pointer() for kind in (INT, ir.IntType(8))]
    singles, doubles = [SINGLE.as_pointer()] * 2, [DOUBLE.as_pointer()] * 2
    kinds = [INT, INT, INT, *singles, *singles, *doubles, *integers, SINGLE]
    function = Function(module, name, kinds)
    n, npix, nbins, flux, ivar, product, weight, *others = function.arguments
    flux_sum, ivar_sum, bins, cleaned, largest = others
    for array in (product, weight):
        array.add_attribute("noalias")
    builder, item = function.builder, function.item
    lost, nothing = function.variable(INT), ir.Constant(INT, 0)
    none, empty = ir.Constant(SINGLE, 0), ir.Constant(DOUBLE, 0)
    least = builder.fsub(ir.Constant(SINGLE, -0.0), largest)
    sums = [(product, flux_sum), (weight, ivar_sum)]
    here = [function.variable(DOUBLE) for _ in sums]

    def is_sound(x: Any) -> Any:
        above, below = (
            builder.fcmp_ordered(*c) for c in (("<=", x, largest), (">=", x, least))
        )
        return builder.and_(above, below)

    with function.loop(n) as i:
        builder.store(nothing, lost)
        with function.loop(npix) as j:  # without a branch, for vectors
            f, w = (builder.load(item(x, i * npix + j)) for x in (flux, ivar))
            p = builder.fmul(f, w)
            used = builder.fcmp_ordered(">", w, none)
            for value in (w, f, p):
                used = builder.and_(used, is_sound(value))
            kept = builder.select(used, w, none)
            builder.store(kept, item(weight, j))
            builder.store(builder.select(used, p, none), item(product, j))
            changed = builder.zext(builder.fcmp_unordered("!=", kept, w), INT)
            builder.store(builder.add(builder.load(lost), changed), lost)
        with builder.if_then(builder.icmp_signed(">", builder.load(lost), nothing)):
            builder.store(ir.Constant(ir.IntType(8), 1), item(cleaned, i))
        for total in here:
            builder.store(empty, total)
        with function.loop(npix) as j:
            for total, (values, _) in zip(here, sums, strict=True):
                value = builder.fpext(builder.load(item(values, j)), DOUBLE)
                builder.store(builder.fadd(builder.load(total), value), total)
            bin_ = Int(builder, builder.load(item(bins, j)))
            after = Int(builder, builder.load(item(bins, (j + 1).least(npix + -1))))
            is_end = builder.or_((j + 1).compare("==", npix), after.compare("!=", bin_))
            with builder.if_then(is_end):
                with builder.if_then(bin_.compare(">=", 0)):
                    for total, (_, whole) in zip(here, sums, strict=True):
                        where = item(whole, i * nbins + bin_)
                        value = builder.fadd(builder.load(where), builder.load(total))
                        builder.store(value, where)
                for total in here:
                    builder.store(empty, total)
    builder.ret_void()


def _compile() -> tuple[Callable[..., None], Callable[..., None], Callable[..., None]]:
    """Compile products, transforms and sums of pixels."""
    module = ir.Module("qnp_xp")
    _write_products(module, "multiply", _SHAPE)
    if _SHAPE != _OF_TRANSFORMS:
        _write_products(module, "transform", _OF_TRANSFORMS)
    _write_sums(module, "sum_pixels")
    found = compile_functions(module)
    multiply = found["multiply"]
    return multiply, found.get("transform", multiply), found["sum_pixels"]


_multiply_all, _transform_all, _sum_pixels = _compile()


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
    sums = flux_sum.ctypes.data, ivar_sum.ctypes.data
    for bins, *pixels in arms:
        flux, ivar = map(np.ascontiguousarray, pixels)
        where = np.ascontiguousarray(bins, dtype=np.intp)
        scratch = np.empty((2, bins.size), dtype=np.float32)
        _sum_pixels(
            *(n, bins.size, nbins, *map(_address, (flux, ivar, *scratch)), *sums),
            *(where.ctypes.data, cleaned.ctypes.data, _LARGEST),
        )
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
