"""A network on a CPU in float32, by functions that LLVM compiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import layers
from .._xp import kernels
from .._xp.backend import pad_or_cut
from .._xp.kernels import Single, Weights
from .convolution import Shape, toom_cook_kernel
from .description import Conv, Network


class CompiledNetwork:
    """Layers of a network, whose bits depend on nothing but the spectrum."""

    def __init__(self, network: Network) -> None:
        self.convs = [_prepare(conv) for conv in network.convs]
        self.trunk = [
            _Product.of(dense.kernel, dense.bias, dense.activation)
            for dense in network.trunk
        ]
        kernel, bias, scale, shift = network.joined_heads()
        self.heads = _Product.of(kernel, bias, "sigmoid")
        self._scale = np.asarray(scale, dtype=np.float32)
        self._shift = np.asarray(shift, dtype=np.float32)

    def __call__(self, x: Single) -> Single:
        """Compute the outputs of all lines side by side for shape ``(n, nbins)``."""
        x = x[:, :, None]
        for convolve in self.convs:
            x = convolve(np.ascontiguousarray(x))
        x = layers.flatten(x)
        for dense in (*self.trunk, self.heads):
            x = dense.finish(kernels.multiply(x, dense.weights))
        return np.asarray(x * self._scale + self._shift)


@dataclass(frozen=True)
class _Product:
    """Weights of a layer, and what becomes of its products."""

    weights: Weights
    outputs: int
    activation: Callable[[Any], Any] | None  #: None where the floor does all of it.

    @classmethod
    def of(cls, kernel: NDArray[Any], bias: NDArray[Any], activation: str) -> _Product:
        """Put weights into the form that products take."""
        floor = 0 if activation == "relu" else -np.inf
        function = layers.ACTIVATIONS[activation]
        rest = None if activation in ("linear", "relu") else function
        return cls(kernels.weights(kernel, bias, floor), bias.size, rest)

    def finish(self, y: Single) -> Single:
        """Cut columns that were filled up, and apply what is no floor."""
        y = y[..., : self.outputs]
        return y if self.activation is None else self.activation(y)


@dataclass(frozen=True)
class _DirectConv(Shape):
    """Convolve by a product over the windows of the input."""

    product: _Product

    def __call__(self, x: Single) -> Single:
        """Convolve, as `qnp_xp.layers.conv1d` does, and apply the activation."""
        n, length, channels = x.shape
        outputs, left = self.fit(length)
        x = pad_or_cut(x, left, left + length, axis=1)
        step = self.stride * channels
        x = x.reshape(n, (left + length) * channels)
        y = kernels.convolve(x, self.product.weights, outputs, step)
        return self.product.finish(y)


@dataclass(frozen=True)
class _ToomCookConv(Shape):
    """Convolve by Toom-Cook, with tiles of four outputs."""

    product: _Product
    before: Single  #: `input` and `output` of `qnp_xp._network.toomcook.ToomCook`.
    after: Single

    def __call__(self, x: Single) -> Single:
        """Convolve, as `qnp_xp.layers.conv1d` does, and apply the activation."""
        m, points = self.after.shape
        outputs, left = self.fit(x.shape[1])
        tiles = -(-outputs // m)
        needed = ((tiles - 1) * m + points) * self.stride
        if left or needed > x.shape[1]:
            x = pad_or_cut(x, left, needed, axis=1)
        step = m * self.stride * x.shape[2]
        y = kernels.toom_cook(
            x, self.before, self.product.weights, self.after, tiles, step
        )
        return self.product.finish(y[:, :outputs, :])


def _prepare(conv: Conv) -> Callable[[Single], Single]:
    """Put a convolution into the form that is fastest."""
    size, channels, filters = conv.kernel.shape
    shape = (size, conv.stride, conv.padding)
    found = toom_cook_kernel(conv)
    if found is None or found[0].output.shape[0] != kernels.OUTPUTS:
        windows = conv.kernel.reshape(size * channels, filters)
        return _DirectConv(*shape, _Product.of(windows, conv.bias, conv.activation))
    transform, kernel = found
    before, after = (
        np.asarray(matrix, dtype=np.float32)
        for matrix in (transform.input, transform.output)
    )
    product = _Product.of(kernel, conv.bias, conv.activation)
    return _ToomCookConv(*shape, product, before, after)
