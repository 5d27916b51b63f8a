"""The layers of QuasarNET as pure array functions, with the argument order of QuasarNP.

Arrays are channels-last, as Keras has them. `conv1d` is the plain, direct layer.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from ._xp.backend import Array, array_namespace
from .padding import fit_length, phase_kernel

__all__ = [
    "ACTIVATIONS",
    "batch_normalization",
    "conv1d",
    "conv_output",
    "dense",
    "flatten",
    "linear",
    "pad_width",
    "relu",
    "sigmoid",
]


def linear(x: Array) -> Array:
    """Identity activation.

    Parameters
    ----------
    x
        Array of any shape.

    Returns
    -------
    array
        `x` itself, of whatever shape.
    """
    return x


def relu(x: Array) -> Array:
    """Rectified linear activation, ``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x
        Real array of any shape.

    Returns
    -------
    array
        Of the shape and dtype of `x`.
    """
    xp = array_namespace(x)
    return xp.maximum(x, xp.zeros_like(x))


def sigmoid(x: Array) -> Array:
    """Logistic activation, ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    x
        Floating-point array of any shape.

    Returns
    -------
    array
        Of the shape and dtype of `x`.

    Notes
    -----
    Only ever takes the exponential of a negative number, so that it cannot overflow.
    """
    xp = array_namespace(x)
    decay = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + decay), decay / (1 + decay))


def dense(x: Array, w: Array, b: Array, phi: Callable[[Array], Array]) -> Array:
    """Fully connected layer, ``phi(x @ w + b)``.

    Parameters
    ----------
    x
        Input, shape ``(..., n_in)``.
    w
        Kernel, shape ``(n_in, n_out)``.
    b
        Bias, shape ``(n_out,)``.
    phi
        Activation: `linear`, `relu`, `sigmoid` or any other function of an array.

    Returns
    -------
    array
        Shape ``(..., n_out)``.
    """
    xp = array_namespace(x, w, b)
    return phi(xp.matmul(x, w) + b)


def batch_normalization(
    x: Array, mean: Array, var: Array, beta: Array, gamma: Array, epsilon: float
) -> Array:
    """Batch normalisation with the moving statistics of a trained network.

    Parameters
    ----------
    x
        Input, shape ``(..., channels)``.
    mean, var
        Moving mean and variance, shape ``(channels,)``.
    beta, gamma
        Offset and scale, shape ``(channels,)``.
    epsilon
        Added to the variance; Keras' default is 1e-3.

    Returns
    -------
    array
        ``(x - mean) / sqrt(var + epsilon) * gamma + beta``, of the shape of `x`.

    Notes
    -----
    Ioffe & Szegedy 2015, arXiv:1502.03167, as Keras applies it at inference.
    """
    xp = array_namespace(x, mean, var)
    return (x - mean) / xp.sqrt(var + epsilon) * gamma + beta


def flatten(x: Array) -> Array:
    """Join all dimensions but the first, the last one varying fastest.

    Parameters
    ----------
    x
        Shape ``(n, ...)``; n may be 0.

    Returns
    -------
    array
        Shape ``(n, prod(...))``.
    """
    xp = array_namespace(x)
    return xp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


def conv_output(length: int, kernel: int, stride: int, padding: str) -> int:
    """Number of outputs of a convolution over `length` inputs.

    Parameters
    ----------
    length, kernel, stride
        Sizes of the input and of the kernel, and the step between outputs.
    padding
        ``"valid"`` or ``"same"``.

    Returns
    -------
    int
        May be 0 or negative where a valid convolution does not fit its input.
    """
    if padding == "same":
        return -(-length // stride)
    return (length - kernel) // stride + 1


def pad_width(length: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros to put left and right of the input of a convolution.

    Parameters
    ----------
    length, kernel, stride, padding
        As for `conv_output`.

    Returns
    -------
    left, right : int

    Notes
    -----
    TensorFlow's SAME: ``max((ceil(n / s) - 1) * s + k - n, 0)`` zeros in all, the
    larger half of them on the right.
    """
    if padding == "valid":
        return 0, 0
    outputs = conv_output(length, kernel, stride, padding)
    total = max((outputs - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def conv1d(
    x: Array,
    w: Array,
    stride: int = 1,
    b: Array | None = None,
    padding: str = "valid",
) -> Array:
    """Convolution along the second dimension (a cross-correlation, as in Keras).

    Parameters
    ----------
    x
        Input, shape ``(n, length, channels)``.
    w
        Kernel, shape ``(k, channels, filters)``.
    stride
        Step between outputs, 1 or more.
    b
        Bias, shape ``(filters,)``; None adds nothing.
    padding
        ``"valid"``, or ``"same"`` as TensorFlow pads.

    Returns
    -------
    array
        Shape ``(n, outputs, filters)``; see `conv_output` for ``outputs``.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `stride` or `padding` is none of the above.

    Notes
    -----
    A convolution of stride s is one of stride 1 over the s phases of its input stacked
    as channels, with a kernel of ``r = ceil(k / s)`` taps: ``(n, length, c)`` is read
    as ``(n, length / s, s * c)``, and r shifted matrix products are summed.
    """
    xp = array_namespace(x, w)
    stride = operator.index(stride)
    if x.ndim != 3 or w.ndim != 3 or x.shape[2] != w.shape[1]:
        msg = (
            "conv1d takes x (n, length, channels) and w (k, channels, filters); got"
            f" {tuple(x.shape)} and {tuple(w.shape)}"
        )
        raise ValueError(msg)
    if w.shape[0] < 1:
        msg = "the kernel of conv1d needs one tap or more"
        raise ValueError(msg)
    if b is not None and tuple(b.shape) != (w.shape[2],):
        msg = f"bias of shape {tuple(b.shape)} for {w.shape[2]} filters"
        raise ValueError(msg)
    if stride < 1 or padding not in ("valid", "same"):
        msg = (
            "conv1d knows strides from 1 up and padding 'valid' or 'same', not"
            f" {stride} and {padding!r}"
        )
        raise ValueError(msg)
    (n, length, channels), k = x.shape, w.shape[0]
    outputs = conv_output(length, k, stride, padding)
    if outputs < 1:
        msg = f"a kernel of {k} does not fit into an input of length {length}"
        raise ValueError(msg)
    taps = -(-k // stride)
    left, _ = pad_width(length, k, stride, padding)
    phases = fit_length(x, left, (outputs - 1 + taps) * stride)
    phases = xp.reshape(phases, (n, outputs - 1 + taps, stride * channels))
    kernel = phase_kernel(w, stride)
    y = xp.matmul(phases[:, :outputs, :], kernel[0, ...])
    for tap in range(1, taps):
        y = y + xp.matmul(phases[:, tap : tap + outputs, :], kernel[tap, ...])
    return y if b is None else y + b


#: Activations by the names that Keras stores.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": linear,
    "relu": relu,
    "sigmoid": sigmoid,
}
