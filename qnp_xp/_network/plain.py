"""A network on any device, by array functions of any library."""

from __future__ import annotations

import functools

from .. import layers
from .._xp.backend import Array, Backend, array_namespace, to_device
from .convolution import prepare
from .description import Network


class PlainNetwork:
    """Layers of a network, with their weights on a device."""

    def __init__(self, network: Network, backend: Backend, dtype: str) -> None:
        move = functools.partial(to_device, backend=backend, dtype=dtype)
        #: A product for each spectrum: BLAS kernels may sum the rows of one product in
        #: different orders, and a result would depend on the row that it is of.
        self._apart = backend.is_host
        self.convs = [
            (prepare(conv, backend, dtype), layers.ACTIVATIONS[conv.activation])
            for conv in network.convs
        ]
        self.trunk = [
            (move(dense.kernel), move(dense.bias), layers.ACTIVATIONS[dense.activation])
            for dense in network.trunk
        ]
        self.heads = tuple(map(move, network.joined_heads()))

    def __call__(self, x: Array) -> Array:
        """Compute the outputs of all lines side by side for shape ``(n, nbins)``."""
        xp = array_namespace(x)
        x = xp.expand_dims(x, axis=2)
        for convolve, activation in self.convs:
            x = activation(convolve(x))
        x = layers.flatten(x)
        if self._apart:
            x = xp.expand_dims(x, axis=1)
        for weights in self.trunk:
            x = layers.dense(x, *weights)
        kernel, bias, scale, shift = self.heads
        heads = layers.dense(x, kernel, bias, layers.sigmoid)
        return layers.flatten(heads * scale + shift)
