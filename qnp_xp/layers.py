"""The layers of QuasarNET as pure array functions, with the argument order of QuasarNP.

Arrays are channels-last, as Keras has them, and hold real numbers of any dtype:
integers and bools become float64. What is no array, or not real, is a TypeError that
names the argument. `conv1d` is the plain, direct layer.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from ._xp.backend import Array, array_namespace, device, pad_or_cut, real_floating
from ._xp.shapes import check_shapes

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
    """Return the input itself.

    Parameters
    ----------
    x : array or float, any shape

    Returns
    -------
    array or float

    Examples
    --------
    >>> linear(-2.0)
    -2.0
    """
    return x


def relu(x: Array) -> Array:
    """Cut negative values, ``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : array or float, any shape

    Returns
    -------
    array, shape and dtype of `x`

    Examples
    --------
    >>> relu(np.asarray([-2.0, 3.0])).tolist()
    [0.0, 3.0]
    """
    (x,) = real_floating(x=x)
    xp = array_namespace(x)
    return xp.maximum(x, xp.zeros((), dtype=x.dtype, device=device(x)))


def sigmoid(x: Array) -> Array:
    """Compute the logistic function, ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    x : array or float, any shape

    Returns
    -------
    array, shape and dtype of `x`

    Examples
    --------
    >>> float(sigmoid(0.0))
    0.5
    """
    (x,) = real_floating(x=x)
    xp = array_namespace(x)
    decay = xp.exp(-xp.abs(x))  # of a negative number: it cannot overflow
    one = xp.ones((), dtype=x.dtype, device=device(x))
    return xp.where(x >= 0, one, decay) / (1 + decay)


def dense(x: Array, w: Array, b: Array, phi: Callable[[Array], Array]) -> Array:
    """Apply a fully connected layer, ``phi(x @ w + b)``.

    Parameters
    ----------
    x : array, shape (..., n_in)
    w : array, shape (n_in, n_out)
        Kernel.
    b : array, shape (n_out,)
        Bias.
    phi : callable
        Activation: `linear`, `relu`, `sigmoid` or any other function of an array.

    Returns
    -------
    array, shape (..., n_out)

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> w, b = np.asarray([[1.0], [10.0]]), np.asarray([-50.0])
    >>> dense(np.asarray([[1.0, 2.0], [5.0, 6.0]]), w, b, relu).tolist()
    [[0.0], [15.0]]
    """
    x, w, b = real_floating(x=x, w=w, b=b)
    check_shapes(x=(x, "... n_in"), w=(w, "n_in n_out"), **_vectors("n_out", b=b))
    xp = array_namespace(x, w, b)
    return phi(xp.matmul(x, w) + b)


def _vectors(axis: str, **vectors: Array) -> dict[str, tuple[Array, str]]:
    """Name the axis of vectors, but of those that are one number for all of it."""
    return {
        k: (v, axis) for k, v in vectors.items() if tuple(v.shape) not in ((), (1,))
    }


def batch_normalization(
    x: Array, mean: Array, var: Array, beta: Array, gamma: Array, epsilon: float
) -> Array:
    """Normalise with the moving statistics of a trained network.

    Parameters
    ----------
    x : array or float, shape (..., channels)
    mean, var : array or float, shape (channels,)
        Moving mean and variance.
    beta, gamma : array or float, shape (channels,)
        Offset and scale.
    epsilon : float
        Added to the variance; Keras' default is 1e-3.

    Returns
    -------
    array, shape of `x`
        ``(x - mean) / sqrt(var + epsilon) * gamma + beta``.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Ioffe & Szegedy 2015, arXiv:1502.03167, as Keras applies it at inference.

    Examples
    --------
    >>> float(batch_normalization(5.0, 1.0, 4.0, 0.5, 3.0, 0.0))
    6.5
    """
    x, mean, var, beta, gamma = real_floating(
        x=x, mean=mean, var=var, beta=beta, gamma=gamma
    )
    vectors = _vectors("channels", mean=mean, var=var, beta=beta, gamma=gamma)
    check_shapes(**({"x": (x, "... channels")} if x.ndim else {}), **vectors)
    xp = array_namespace(x, mean, var)
    return (x - mean) / xp.sqrt(var + epsilon) * gamma + beta


def flatten(x: Array) -> Array:
    """Join all dimensions but the first, the last one varying fastest.

    Parameters
    ----------
    x : array, shape (n, ...)

    Returns
    -------
    array, shape (n, prod(...))

    Examples
    --------
    >>> flatten(np.zeros((2, 3, 4))).shape
    (2, 12)
    """
    xp = array_namespace(x)
    check_shapes(x=(x, "n ..."))
    return xp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


def conv_output(length: int, kernel: int, stride: int, padding: str) -> int:
    """Count the outputs of a convolution over `length` inputs.

    Parameters
    ----------
    length, kernel, stride : int
        Sizes of the input and of the kernel, and the step between outputs.
    padding : {"valid", "same"}
        As for `conv1d`.

    Returns
    -------
    int
        May be 0 or negative where a valid convolution does not fit its input.

    Examples
    --------
    >>> conv_output(443, 10, 2, "valid"), conv_output(443, 10, 2, "same")
    (217, 222)
    """
    if padding == "same":
        return -(-length // stride)
    return (length - kernel) // stride + 1


def pad_width(length: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Count the zeros to put left and right of the input of a convolution.

    Parameters
    ----------
    length, kernel, stride, padding : as for `conv_output`

    Returns
    -------
    left, right : int

    Notes
    -----
    TensorFlow's SAME: ``max((ceil(n / s) - 1) * s + k - n, 0)`` zeros in all, the
    larger half of them on the right.

    Examples
    --------
    >>> pad_width(443, 10, 2, "valid"), pad_width(443, 10, 2, "same")
    ((0, 0), (4, 5))
    """
    if padding == "valid":
        return 0, 0
    outputs = conv_output(length, kernel, stride, padding)
    total = max((outputs - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def conv1d(
    x: Array, w: Array, stride: int = 1, b: Array | None = None, padding: str = "valid"
) -> Array:
    """Convolve along the second dimension (a cross-correlation, as in Keras).

    Parameters
    ----------
    x : array, shape (n, length, channels)
    w : array, shape (k, channels, filters)
        Kernel.
    stride : int, optional
        Step between outputs, 1 or more.
    b : array, shape (filters,), optional
        Bias.
    padding : {"valid", "same"}, optional
        None, or zeros as TensorFlow puts them; see `pad_width`.

    Returns
    -------
    array, shape (n, outputs, filters)
        See `conv_output` for ``outputs``.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `stride` or `padding` is none of the above.

    Notes
    -----
    A convolution of stride s is one of stride 1 over the s phases of its input stacked
    as channels, with a kernel of ``r = ceil(k / s)`` taps: ``(n, length, c)`` is read
    as ``(n, length / s, s * c)``, and r shifted matrix products are summed.

    Examples
    --------
    >>> x = np.asarray([[[1.0], [2.0], [3.0], [4.0]]])
    >>> conv1d(x, np.asarray([[[1.0]], [[10.0]]]), stride=2).tolist()
    [[[21.0], [43.0]]]
    """
    x, w = real_floating(x=x, w=w)
    xp = array_namespace(x, w)
    stride = operator.index(stride)
    if x.ndim != 3 or w.ndim != 3 or x.shape[2] != w.shape[1] or w.shape[0] < 1:
        msg = (
            "conv1d takes x (n, length, channels) and a kernel w (k, channels, filters)"
            f" with k from 1 up; got {tuple(x.shape)} and {tuple(w.shape)}"
        )
        raise ValueError(msg)
    if b is not None:
        (b,) = real_floating(b=b)
        if tuple(b.shape) != (w.shape[2],):
            msg = f"bias of shape {tuple(b.shape)} for {w.shape[2]} filters"
            raise ValueError(msg)
    if stride < 1 or padding not in ("valid", "same"):
        msg = (
            "conv1d knows strides from 1 up and padding 'valid' or 'same', not"
            f" {stride} and {padding!r}"
        )
        raise ValueError(msg)
    (n, length, channels), (k, _, filters) = x.shape, w.shape
    outputs = conv_output(length, k, stride, padding)
    if outputs < 1:
        msg = f"a kernel of {k} does not fit into an input of length {length}"
        raise ValueError(msg)
    taps = -(-k // stride)
    left, _ = pad_width(length, k, stride, padding)
    phases = pad_or_cut(x, left, (outputs - 1 + taps) * stride, axis=1)
    phases = xp.reshape(phases, (n, outputs - 1 + taps, stride * channels))
    kernel = pad_or_cut(w, 0, taps * stride, axis=0)
    kernel = xp.reshape(kernel, (taps, stride * channels, filters))
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
