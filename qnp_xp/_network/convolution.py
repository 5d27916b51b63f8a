"""Convolutions made ready for a device: kernels transformed once, then applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import layers
from .._xp.backend import Array, Backend, array_namespace, device, pad_or_cut, to_device
from .description import Conv, Float64
from .toomcook import MOST_TAPS, ToomCook, toom_cook

# With fewer channels or filters the transforms cost more than the products they save.
_FEWEST_CHANNELS = 32


@dataclass(frozen=True)
class Shape:
    """Hold the shape of a convolution."""

    size: int
    stride: int
    padding: str

    def fit(self, length: int) -> tuple[int, int]:
        """Count the outputs for an input's length, and the zeros to put before it."""
        shape = (length, self.size, self.stride, self.padding)
        return layers.conv_output(*shape), layers.pad_width(*shape)[0]


@dataclass(frozen=True)
class DirectConv(Shape):
    """Convolve by one matrix product over the windows of the input."""

    #: Shape ``(size * channels + 1, filters)``; its last row is the bias, which meets
    #: a column of ones.
    kernel: Array
    joined: bool  #: As in `ToomCookConv`.

    def __call__(self, x: Array) -> Array:
        """Convolve, as `qnp_xp.layers.conv1d` does."""
        xp = array_namespace(x)
        n, length, channels = x.shape
        outputs, left = self.fit(length)
        taps = -(-self.size // self.stride)
        x = pad_or_cut(x, left, (outputs - 1 + taps) * self.stride, axis=1)
        x = xp.reshape(x, (n, outputs - 1 + taps, self.stride * channels))
        windows = [x[:, tap : tap + outputs, :] for tap in range(taps)]
        rest = self.size * channels - (taps - 1) * self.stride * channels
        windows[-1] = windows[-1][:, :, :rest]
        ones = xp.ones((n, outputs, 1), dtype=x.dtype, device=device(x))
        x = xp.concat([*windows, ones], axis=2)
        if self.joined:
            x = xp.reshape(x, (n * outputs, self.kernel.shape[0]))
        y = xp.matmul(x, self.kernel)
        return xp.reshape(y, (n, outputs, self.kernel.shape[1]))


@dataclass(frozen=True)
class ToomCookConv(Shape):
    """Convolve by Toom-Cook: fewer products, between two transforms."""

    kernel: Array  #: Transformed, shape ``(points, stride * channels, filters)``.
    bias: Array  #: Shape ``(filters,)``.
    input: Array  #: As in `qnp_xp._network.toomcook.ToomCook`.
    output: Array
    #: Join the rows of all spectra in one product for each point. Otherwise each
    #: spectrum has its own, and its bits depend on no other: OpenBLAS sums the rows of
    #: one product in different orders.
    joined: bool

    def __call__(self, x: Array) -> Array:
        """Convolve, as `qnp_xp.layers.conv1d` does."""
        xp = array_namespace(x)
        n, length, channels = x.shape
        m, points = self.output.shape
        width, filters = self.stride * channels, self.bias.shape[0]
        outputs, left = self.fit(length)
        tiles = -(-outputs // m)
        # For m outputs a tile sees `points` phases: its own m and some of the next.
        seen = -(-points // m)
        x = pad_or_cut(x, left, (tiles - 1 + seen) * m * self.stride, axis=1)
        x = xp.reshape(x, (n, tiles - 1 + seen, m, width))
        # Points come first from here on, so that all products are of plain matrices:
        # no library copies its input to put the dimensions into another order.
        products, rows = (1, n * tiles) if self.joined else (n, tiles)
        phases = [x[:, j // m : j // m + tiles, j % m, :] for j in range(points)]
        y = xp.stack(phases, axis=0 if self.joined else 1)
        y = xp.matmul(self.input, xp.reshape(y, (products, points, rows * width)))
        y = xp.matmul(xp.reshape(y, (products, points, rows, width)), self.kernel)
        y = xp.matmul(self.output, xp.reshape(y, (products, points, rows * filters)))
        y = xp.reshape(y, (products, m, n // max(products, 1), tiles, filters))
        y = xp.reshape(xp.permute_dims(y, (0, 2, 3, 1, 4)), (n, tiles * m, filters))
        return y[:, :outputs, :] + self.bias


def toom_cook_kernel(
    conv: Conv, fewest_channels: int | None = None
) -> tuple[ToomCook, Float64] | None:
    """Transform a kernel for Toom-Cook; None where that costs more than it saves.

    Its shape is ``(points, stride * channels, filters)``.
    """
    size, channels, filters = conv.kernel.shape
    taps = -(-size // conv.stride)
    fewest = _FEWEST_CHANNELS if fewest_channels is None else fewest_channels
    if min(channels, filters) < fewest or not 2 <= taps <= MOST_TAPS:
        return None
    transform = toom_cook(taps)
    phases = pad_or_cut(conv.kernel, 0, taps * conv.stride, axis=0)
    phases = phases.reshape(taps, conv.stride * channels, filters)
    kernel = np.tensordot(transform.kernel, phases, axes=1)
    return transform, np.asarray(kernel, dtype=np.float64)


def prepare(
    conv: Conv, backend: Backend, dtype: str, fewest_channels: int | None = None
) -> Callable[[Array], Array]:
    """Put a convolution onto a device in the form that is fastest there."""
    size, channels, filters = conv.kernel.shape
    shape = (size, conv.stride, conv.padding)
    found = toom_cook_kernel(conv, fewest_channels)
    if found is None:
        windows = conv.kernel.reshape(size * channels, filters)
        kernel = np.concatenate([windows, conv.bias[None, :]])
        kernel = to_device(kernel, backend, dtype)
        return DirectConv(*shape, kernel, not backend.is_host)
    transform, kernel = found
    arrays = (kernel, conv.bias, transform.input, transform.output)
    kernel, bias, before, after = (to_device(x, backend, dtype) for x in arrays)
    return ToomCookConv(*shape, kernel, bias, before, after, not backend.is_host)
