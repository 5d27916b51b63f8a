"""Zeros before, behind and below arrays, and kernels cut into phases."""

from __future__ import annotations

from ._xp.backend import Array, array_namespace, device

__all__ = ["fill_rows", "fit_length", "phase_kernel"]


def fill_rows(x: Array, rows: int) -> Array:
    """Add rows of zeros up to a number of rows.

    Parameters
    ----------
    x
        Shape ``(n, width)``.
    rows
        Number of rows to reach, n or more.

    Returns
    -------
    array
        Shape ``(rows, width)``; `x` itself where it has them.
    """
    n, width = x.shape
    if n == rows:
        return x
    xp = array_namespace(x)
    zeros = xp.zeros((rows - n, width), dtype=x.dtype, device=device(x))
    return xp.concat([x, zeros], axis=0)


def fit_length(x: Array, left: int, length: int) -> Array:
    """Put zeros before the second dimension, then cut or pad its end to a length.

    Parameters
    ----------
    x
        Shape ``(n, any, channels)``.
    left
        Zeros to put before it.
    length
        Length to reach.

    Returns
    -------
    array
        Shape ``(n, length, channels)``.
    """
    xp = array_namespace(x)
    n, _, channels = x.shape
    if not left and length <= x.shape[1]:
        return x[:, :length, :]
    x = x[:, : min(x.shape[1], length - left), :]
    right = length - left - x.shape[1]
    before = xp.zeros((n, left, channels), dtype=x.dtype, device=device(x))
    behind = xp.zeros((n, right, channels), dtype=x.dtype, device=device(x))
    return xp.concat([before, x, behind], axis=1)


def phase_kernel(w: Array, stride: int) -> Array:
    """Kernel of the convolution of stride 1 that equals one of another stride.

    Parameters
    ----------
    w
        Kernel, shape ``(k, channels, filters)``.
    stride
        Stride of the convolution.

    Returns
    -------
    array
        Shape ``(ceil(k / stride), stride * channels, filters)``.
    """
    xp = array_namespace(w)
    k, channels, filters = w.shape
    taps = -(-k // stride)
    rest = (taps * stride - k, channels, filters)
    zeros = xp.zeros(rest, dtype=w.dtype, device=device(w))
    return xp.reshape(xp.concat([w, zeros], axis=0), (taps, stride * channels, filters))
