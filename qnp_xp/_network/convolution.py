"""Convolutions made ready for a device: kernels transformed once, then applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import layers
from .._xp.backend import Array, Backend, array_namespace, device, to_device
from ..padding import fit_length, phase_kernel
from .description import Conv
from .toomcook import MOST_TAPS, toom_cook

__all__ = ["DirectConv", "ToomCookConv", "prepare"]

# With fewer channels or filters the transforms cost more than the products they save.
_FEWEST_CHANNELS = 32


@dataclass(frozen=True)
class _Prepared:
    """What both kinds of convolution know of their shape.

    Attributes
    ----------
    size, stride, padding
        Of the kernel, and as for `qnp_xp.layers.conv1d`.
    """

    size: int
    stride: int
    padding: str

    def place(self, length: int) -> tuple[int, int]:
        """Number of outputs, and of zeros before the input, for an input's length."""
        shape = (length, self.size, self.stride, self.padding)
        return layers.conv_output(*shape), layers.pad_width(*shape)[0]


@dataclass(frozen=True)
class DirectConv(_Prepared):
    """A convolution as one matrix product over the windows of its input.

    Attributes
    ----------
    kernel
        Shape ``(size * channels + 1, filters)``; its last row is the bias, which meets
        a column of ones.
    """

    kernel: Array

    def __call__(self, x: Array) -> Array:
        """Convolve, as `qnp_xp.layers.conv1d` does."""
        xp = array_namespace(x)
        n, length, channels = x.shape
        outputs, left = self.place(length)
        taps = -(-self.size // self.stride)
        x = fit_length(x, left, (outputs - 1 + taps) * self.stride)
        x = xp.reshape(x, (n, outputs - 1 + taps, self.stride * channels))
        windows = [x[:, tap : tap + outputs, :] for tap in range(taps)]
        rest = self.size * channels - (taps - 1) * self.stride * channels
        windows[-1] = windows[-1][:, :, :rest]
        ones = xp.ones((n, outputs, 1), dtype=x.dtype, device=device(x))
        return xp.matmul(xp.concat([*windows, ones], axis=2), self.kernel)


@dataclass(frozen=True)
class ToomCookConv(_Prepared):
    """A convolution by Toom-Cook: fewer products, with transforms before and behind.

    Attributes
    ----------
    kernel
        Transformed, shape ``(points, stride * channels, filters)``.
    bias
        Shape ``(filters,)``.
    before, behind
        The transforms ``input``, shape ``(points, points)``, and ``output``, shape
        ``(m, points)``, of `qnp_xp._network.toomcook.ToomCook`.
    joined
        Join the rows of all spectra in one product for each point. Otherwise each
        spectrum has its own, and its bits depend on no other: OpenBLAS sums the rows
        of one product in different orders.
    """

    kernel: Array
    bias: Array
    before: Array
    behind: Array
    joined: bool

    def __call__(self, x: Array) -> Array:
        """Convolve, as `qnp_xp.layers.conv1d` does."""
        xp = array_namespace(x)
        n, length, channels = x.shape
        m, points = self.behind.shape
        width, filters = self.stride * channels, self.bias.shape[0]
        outputs, left = self.place(length)
        tiles = -(-outputs // m)
        # For m outputs a tile sees `points` phases: its own m and some of those behind.
        seen = -(-points // m)
        x = fit_length(x, left, (tiles - 1 + seen) * m * self.stride)
        x = xp.reshape(x, (n, tiles - 1 + seen, m, width))
        windows = xp.concat([x[:, i : i + tiles, :, :] for i in range(seen)], axis=2)
        y = xp.matmul(self.before, windows[:, :, :points, :])
        rows = (1, n * tiles) if self.joined else (n, tiles)
        y = xp.reshape(y, (*rows, points, width))
        y = xp.matmul(xp.permute_dims(y, (0, 2, 1, 3)), self.kernel)
        y = xp.matmul(self.behind, xp.permute_dims(y, (0, 2, 1, 3)))
        return xp.reshape(y, (n, tiles * m, filters))[:, :outputs, :] + self.bias


def prepare(
    conv: Conv, backend: Backend, dtype: str, fewest_channels: int | None = None
) -> Callable[[Array], Array]:
    """Put a convolution onto a device in the form that is fastest there.

    Parameters
    ----------
    conv
        The layer, batch normalisation folded in.
    backend, dtype
        Where it is to compute, and in what.
    fewest_channels
        Channels and filters from which Toom-Cook is taken, 32 by default.

    Returns
    -------
    callable
        Takes ``(n, length, channels)`` and returns ``(n, outputs, filters)``.
    """
    size, channels, filters = conv.kernel.shape
    shape = (size, conv.stride, conv.padding)
    taps = -(-size // conv.stride)
    fewest = _FEWEST_CHANNELS if fewest_channels is None else fewest_channels
    if min(channels, filters) < fewest or not 2 <= taps <= MOST_TAPS:
        windows = conv.kernel.reshape(size * channels, filters)
        kernel = np.concatenate([windows, conv.bias[None, :]])
        return DirectConv(*shape, to_device(kernel, backend, dtype))
    transform = toom_cook(taps)
    phases = phase_kernel(conv.kernel, conv.stride)
    kernel = np.tensordot(transform.kernel, phases, axes=1)
    arrays = (kernel, conv.bias, transform.input, transform.output)
    kernel, bias, before, behind = (to_device(x, backend, dtype) for x in arrays)
    joined = not backend.is_host
    return ToomCookConv(*shape, kernel, bias, before, behind, joined)
