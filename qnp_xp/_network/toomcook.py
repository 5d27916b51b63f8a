"""Matrices of Toom-Cook convolution: m outputs from m + r - 1 products, not m * r.

Also known as Winograd's; the matrices are made in exact fractions and are small, so all
of this is Python on the host, once for a network.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_TAPS", "ToomCook", "toom_cook"]

Float64 = NDArray[np.float64]
_Rows = list[list[Fraction]]

# Where the polynomials are evaluated, besides infinity. More points than these 7 would
# need larger numbers, and the error in float32 would grow beyond 3e-6.
_POINTS = [Fraction(p) for p in (0, 1, -1, "1/2", "-1/2", 2, -2)]

#: Outputs of one tile: 4 where the points suffice.
_OUTPUTS = 4

#: Most taps that a kernel may have for a tile of two outputs.
MOST_TAPS = len(_POINTS)


@dataclass(frozen=True)
class ToomCook:
    """The transforms of F(m, r): ``y = a @ ((g @ kernel) * (b @ x))``.

    Attributes
    ----------
    input
        ``b``, shape ``(n, n)`` with ``n = m + r - 1``; the largest number of each row
        is 1.
    kernel
        ``g``, shape ``(n, r)``.
    output
        ``a``, shape ``(m, n)``.
    """

    input: Float64
    kernel: Float64
    output: Float64


@functools.cache
def toom_cook(taps: int) -> ToomCook:
    """Make the matrices for a kernel of stride 1.

    Parameters
    ----------
    taps
        Length r of the kernel, 2 to `MOST_TAPS`.

    Returns
    -------
    ToomCook
        For 4 outputs where 7 points and infinity suffice, for fewer otherwise.

    Raises
    ------
    ValueError
        If `taps` is out of range.

    Notes
    -----
    The full convolution of kernel g and outputs y is the product of two polynomials,
    found by evaluating both at n points, multiplying, and interpolating:
    ``V_n^-1 diag(V_r g) V_m``. Its transpose correlates: ``V_m^T diag(V_r g) V_n^-T``
    (Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016,
    arXiv:1509.09308). Each row of ``V_n^-T`` is scaled to a largest number of 1, and
    ``V_r`` by the inverse, which keeps float32 errors at 1e-6.
    """
    if not 2 <= taps <= MOST_TAPS:
        msg = f"Toom-Cook convolution takes 2 to {MOST_TAPS} taps, not {taps}"
        raise ValueError(msg)
    outputs = min(_OUTPUTS, len(_POINTS) + 2 - taps)
    size = outputs + taps - 1
    points = _POINTS[: size - 1]
    data = _transpose(_inverse(_powers(points, size)))
    kernel = _powers(points, taps)
    for row, weights in zip(data, kernel, strict=True):
        largest = max(abs(x) for x in row)
        row[:] = [x / largest for x in row]
        weights[:] = [x * largest for x in weights]
    output = _transpose(_powers(points, outputs))
    return ToomCook(_floats(data), _floats(kernel), _floats(output))


def _powers(points: list[Fraction], width: int) -> _Rows:
    """Rows that evaluate a polynomial of `width` coefficients, the last at infinity."""
    rows = [[p**power for power in range(width)] for p in points]
    return [*rows, [Fraction(power == width - 1) for power in range(width)]]


def _transpose(rows: _Rows) -> _Rows:
    return [list(column) for column in zip(*rows, strict=True)]


def _inverse(rows: _Rows) -> _Rows:
    """Gauss-Jordan elimination, exact."""
    size = len(rows)
    work = [
        [*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(rows)
    ]
    for column in range(size):
        pivot = next(i for i in range(column, size) if work[i][column])
        work[column], work[pivot] = work[pivot], work[column]
        work[column] = [x / work[column][column] for x in work[column]]
        for i in range(size):
            if i != column:
                factor = work[i][column]
                work[i] = [
                    x - factor * y for x, y in zip(work[i], work[column], strict=True)
                ]
    return [row[size:] for row in work]


def _floats(rows: _Rows) -> Float64:
    return np.array([[float(x) for x in row] for row in rows])
