"""Matrices of Toom-Cook convolution: m outputs from m + r - 1 products, not m * r.

Also known as Winograd's. The matrices are small, and made once for a network.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Where the polynomials are evaluated, besides infinity. More points than these 7 would
# need larger numbers, and the error in float32 would grow beyond 3e-6.
_POINTS = np.array([0, 1, -1, 0.5, -0.5, 2, -2])

_OUTPUTS = 4  # of one tile, where the points suffice

#: Most taps that a kernel may have for a tile of two outputs.
MOST_TAPS = len(_POINTS)


@dataclass(frozen=True)
class ToomCook:
    """The transforms of F(m, r): ``y = output @ ((kernel @ g) * (input @ x))``."""

    input: Float64  #: Shape ``(n, n)`` with ``n = m + r - 1``; each row's largest is 1.
    kernel: Float64  #: Shape ``(n, r)``.
    output: Float64  #: Shape ``(m, n)``.


@functools.cache
def toom_cook(taps: int) -> ToomCook:
    """Make the matrices for a kernel of stride 1 and of 2 to `MOST_TAPS` taps."""
    if not 2 <= taps <= MOST_TAPS:
        msg = f"Toom-Cook convolution takes 2 to {MOST_TAPS} taps, not {taps}"
        raise ValueError(msg)
    outputs = min(_OUTPUTS, len(_POINTS) + 2 - taps)
    size = outputs + taps - 1
    # The full convolution of kernel g and outputs y is the product of two polynomials,
    # found by evaluating both at n points, multiplying, and interpolating:
    # V_n^-1 diag(V_r g) V_m. Its transpose correlates: V_m^T diag(V_r g) V_n^-T
    # (Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016,
    # arXiv:1509.09308). Each row of V_n^-T is scaled to a largest number of 1, and V_r
    # by the inverse, which keeps float32 errors at 1e-6.
    lagrange, below = _interpolation(_POINTS[: size - 1])
    largest = np.max(np.abs(lagrange), axis=1, keepdims=True)
    return ToomCook(
        input=lagrange / largest,
        kernel=_powers(size, taps) * largest / below,
        output=np.ascontiguousarray(_powers(size, outputs).T),
    )


def _powers(size: int, width: int) -> Float64:
    """Evaluate `width` coefficients at `size` points, the last of them infinity."""
    finite = np.vander(_POINTS[: size - 1], width, increasing=True)
    return np.concatenate([finite, np.eye(width)[-1:]])


def _interpolation(points: Float64) -> tuple[Float64, Float64]:
    """Return V_n^-T for some points and infinity, as numerators and denominators."""
    # Lagrange's polynomials: one is 1 at its own point and 0 at the others. Products
    # of these points are exact, where np.linalg.inv would round.
    others = [np.delete(points, i) for i in range(points.size)]
    rows = [
        *(np.append(np.poly(rest)[::-1], 0) for rest in others),
        np.poly(points)[::-1],
    ]
    products = [np.prod(p - rest) for p, rest in zip(points, others, strict=True)]
    below = np.array([*products, 1.0])[:, None]
    # No zero is negative: the next products have the bits of exact fractions.
    return np.array(rows) * np.sign(below) + 0.0, np.abs(below)
