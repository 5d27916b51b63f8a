"""What a network is, once its file has been read: folded weights on the host.

Plain data between the reader of weights files and the model that computes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchNorm", "Conv", "Dense", "Head", "Linear", "Network"]

Float64 = NDArray[np.float64]

Layer = TypeVar("Layer", bound="Linear")


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation as the factor and the term that it comes to.

    Attributes
    ----------
    scale, shift
        ``gamma / sqrt(var + epsilon)`` and ``beta - mean * scale``, shape
        ``(channels,)``.
    """

    scale: Float64
    shift: Float64

    @classmethod
    def from_moments(
        cls, mean: Float64, var: Float64, beta: Float64, gamma: Float64, epsilon: float
    ) -> BatchNorm:
        """Make it from what Keras stores.

        Parameters
        ----------
        mean, var, beta, gamma, epsilon
            As for `qnp_xp.layers.batch_normalization`.

        Returns
        -------
        BatchNorm
        """
        scale = gamma / np.sqrt(var + epsilon)
        return cls(scale, beta - mean * scale)

    def fold(self, kernel: Float64, bias: Float64) -> tuple[Float64, Float64]:
        """Kernel and bias of a linear layer with this normalisation behind it.

        Parameters
        ----------
        kernel
            Shape ``(..., channels)``.
        bias
            Shape ``(channels,)``.

        Returns
        -------
        kernel, bias : numpy.ndarray
            Of the same shapes.
        """
        return kernel * self.scale, bias * self.scale + self.shift


@dataclass(frozen=True)
class Linear:
    """What a convolution and a fully connected layer have in common.

    Attributes
    ----------
    name
        Name of the layer in the file.
    kernel
        Shape ``(..., outputs)``, float64.
    bias
        Shape ``(outputs,)``, float64.
    """

    name: str
    kernel: Float64
    bias: Float64

    def folded(self: Layer, norm: BatchNorm) -> Layer:
        """Fold the batch normalisation behind this layer into it.

        Parameters
        ----------
        norm
            For as many channels as the layer has outputs.

        Returns
        -------
        of the same class
        """
        kernel, bias = norm.fold(self.kernel, self.bias)
        return dataclasses.replace(self, kernel=kernel, bias=bias)


@dataclass(frozen=True)
class Conv(Linear):
    """A convolution with its activation; the kernel is ``(k, channels, filters)``.

    Attributes
    ----------
    stride, padding
        As for `qnp_xp.layers.conv1d`.
    activation
        Name of a function of `qnp_xp.layers`.
    """

    stride: int
    padding: str
    activation: str = "linear"


@dataclass(frozen=True)
class Dense(Linear):
    """A fully connected layer with its activation; the kernel is ``(n_in, n_out)``.

    Attributes
    ----------
    activation
        Name of a function of `qnp_xp.layers`.
    """

    activation: str = "linear"


@dataclass(frozen=True)
class Head:
    """The two layers that find one line.

    Attributes
    ----------
    box, offset
        Layers of `nboxes` outputs each, with a sigmoid.
    scale, shift
        What the offset is multiplied by, and what is then added to it.
    """

    box: Dense
    offset: Dense
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Network:
    """A QuasarNET: convolutions, fully connected layers, and a head for each line.

    Attributes
    ----------
    nbins
        Bins of the input.
    convs, trunk
        Layers before and behind the flattening, in order.
    heads
        One for each line.
    parameters
        Number of the weights in the file that count, batch norms included.
    """

    nbins: int
    convs: tuple[Conv, ...]
    trunk: tuple[Dense, ...]
    heads: tuple[Head, ...]
    parameters: int

    @property
    def nboxes(self) -> int:
        """Boxes of each line."""
        return int(self.heads[0].box.bias.size)

    @property
    def rescaled(self) -> bool:
        """Whether any offset is rescaled."""
        return any((head.scale, head.shift) != (1.0, 0.0) for head in self.heads)

    def joined_heads(self) -> tuple[Float64, Float64, Float64, Float64]:
        """All heads side by side: the box and the offset of each line, in order.

        Returns
        -------
        kernel : numpy.ndarray
            Shape ``(width, nlines * 2 * nboxes)``.
        bias, scale, shift : numpy.ndarray
            One for each column; boxes have a scale of 1 and a shift of 0.
        """
        layers = [layer for head in self.heads for layer in (head.box, head.offset)]
        factors = [(1.0, 0.0, head.scale, head.shift) for head in self.heads]
        boxes = np.reshape(factors, (-1, 2))
        return (
            np.concatenate([layer.kernel for layer in layers], axis=1),
            np.concatenate([layer.bias for layer in layers]),
            np.repeat(boxes[:, 0], self.nboxes),
            np.repeat(boxes[:, 1], self.nboxes),
        )
