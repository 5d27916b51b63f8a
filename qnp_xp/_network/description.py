"""What a network is, once its file has been read: folded weights on the host.

Plain data between the reader of weights files and the model that computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..layers import conv_output

Float64 = NDArray[np.float64]


def fold_batch_norm(
    kernel: Float64,
    bias: Float64,
    mean: Float64,
    var: Float64,
    beta: Float64,
    gamma: Float64,
    epsilon: float,
) -> tuple[Float64, Float64]:
    """Fold the batch normalisation that follows a linear layer into it."""
    scale = gamma / np.sqrt(var + epsilon)
    return kernel * scale, bias * scale + (beta - mean * scale)


@dataclass(frozen=True)
class Linear:
    """Hold what a convolution and a fully connected layer have in common."""

    name: str  #: Of the layer in the file.
    kernel: Float64 = field(repr=False)  #: Shape ``(..., outputs)``.
    bias: Float64 = field(repr=False)  #: Shape ``(outputs,)``.


@dataclass(frozen=True)
class Conv(Linear):
    """Describe a convolution; its kernel is ``(k, channels, filters)``."""

    stride: int
    padding: str  #: As for `qnp_xp.layers.conv1d`.
    activation: str = "linear"  #: A key of `qnp_xp.layers.ACTIVATIONS`.


@dataclass(frozen=True)
class Dense(Linear):
    """Describe a fully connected layer; its kernel is ``(n_in, n_out)``."""

    activation: str = "linear"


@dataclass(frozen=True)
class Head:
    """Describe the two layers that find one line, of as many outputs as boxes."""

    box: Dense
    offset: Dense
    scale: float = 1.0  #: What the offset is multiplied by,
    shift: float = 0.0  #: and what is then added to it.


@dataclass(frozen=True)
class Network:
    """Describe a QuasarNET."""

    nbins: int  #: Bins of the input.
    convs: tuple[Conv, ...]  #: Layers before the flattening, in order,
    trunk: tuple[Dense, ...]  #: and after it.
    heads: tuple[Head, ...]  #: One for each line.
    parameters: int  #: Weights in the file, those of batch norms included.

    @property
    def nboxes(self) -> int:
        """Boxes of each line."""
        return int(self.heads[0].box.bias.size)

    @property
    def rescaled(self) -> bool:
        """Whether any offset is rescaled."""
        return any((head.scale, head.shift) != (1.0, 0.0) for head in self.heads)

    @property
    def largest_activation(self) -> int:
        """Numbers that the largest output of a convolution has for one spectrum."""
        length, largest = self.nbins, self.nbins
        for conv in self.convs:
            kernel, _, filters = conv.kernel.shape
            length = conv_output(length, kernel, conv.stride, conv.padding)
            largest = max(largest, length * filters)
        return largest

    def joined_heads(self) -> tuple[Float64, Float64, Float64, Float64]:
        """Put all heads side by side: kernel, bias, scale and shift.

        Columns are the boxes and then the offsets of each line, in order; boxes have a
        scale of 1 and a shift of 0.
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
