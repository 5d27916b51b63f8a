"""QuasarNET on torch: a network to train, its labels and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .._network.description import Conv, Dense, Head, Network, fold_batch_norm
from ..grids import Grid
from ..layers import conv_output, pad_width
from ..lines import LINES, LINES_BAL

_EPSILON = 1e-3
#: Instead of a box: the line is not there, or nobody knows.
ABSENT, UNKNOWN = -1, -2

# The loss averages positives and negatives apart, and there are some 50 times as many
# negative boxes, 90 times for broad absorption. With these weights the few boxes that
# are hard to tell count about as much as the positives. They are of emission lines, and
# of broad absorption, which is rarer and harder to see.
_NEGATIVE_WEIGHT = 40.0, 120.0
_HEAD_WEIGHT = 1.0, 6.0
_OFFSET_WEIGHT, _OFFSET_BETA = 10.0, 0.03
# A line this near to an edge, in boxes, counts in both boxes: which one it is in nobody
# can tell, and a confidence that is shared between two is too low in each.
_MARGIN = 0.05

_ACTIVATIONS = {"linear": nn.Identity(), "relu": torch.relu, "sigmoid": torch.sigmoid}


@dataclass(frozen=True)
class ConvShape:
    """What a convolution is without its weights."""

    filters: int
    kernel: int = 10
    stride: int = 2
    padding: str = "valid"
    activation: str = "relu"


@dataclass(frozen=True)
class Layout:
    """What a network is without its weights; by default DESI's QuasarNET."""

    nbins: int
    convs: tuple[ConvShape, ...] = (ConvShape(100),) * 4
    #: Units and activation of each layer after the flattening.
    trunk: tuple[tuple[int, str], ...] = ((100, "relu"),)
    nlines: int = len(LINES)
    nlines_bal: int = len(LINES_BAL)
    nboxes: int = 13
    #: What the offsets of each line are multiplied by, and what is then added: a
    #: sigmoid hardly reaches 0 or 1, and is stretched past both ends of the box.
    scale: tuple[float, ...] = (1.2,) * (len(LINES) + len(LINES_BAL))
    shift: tuple[float, ...] = (-0.1,) * (len(LINES) + len(LINES_BAL))
    #: Whether batch normalization follows each layer.
    norms: bool = True

    @classmethod
    def plain(cls, nbins: int, nlines: int, nlines_bal: int) -> Layout:
        """Describe DESI's QuasarNET for other lines."""
        heads = nlines + nlines_bal
        return cls(
            nbins,
            nlines=nlines,
            nlines_bal=nlines_bal,
            scale=(1.2,) * heads,
            shift=(-0.1,) * heads,
        )

    @classmethod
    def of(cls, network: Network, nlines: int) -> Layout:
        """Describe a network that was read, whose batch normalization is folded in."""
        convs = tuple(
            ConvShape(x.bias.size, len(x.kernel), x.stride, x.padding, x.activation)
            for x in network.convs
        )
        return cls(
            nbins=network.nbins,
            convs=convs,
            trunk=tuple((x.bias.size, x.activation) for x in network.trunk),
            nlines=nlines,
            nlines_bal=len(network.heads) - nlines,
            nboxes=network.nboxes,
            scale=tuple(head.scale for head in network.heads),
            shift=tuple(head.shift for head in network.heads),
            norms=False,
        )

    @property
    def nheads(self) -> int:
        """Number of lines of both kinds."""
        return self.nlines + self.nlines_bal


class QuasarNet(nn.Module):  # type: ignore[misc]
    """QuasarNET on torch; the convolutions are two-dimensional, of height 1.

    On a CPU that is much faster, with channels last and bfloat16, than `Conv1d`.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        self.pads: list[tuple[int, int]] = []
        length, channels = layout.nbins, 1
        for x in layout.convs:
            kernel, stride = (1, x.kernel), (1, x.stride)
            self.convolutions.append(nn.Conv2d(channels, x.filters, kernel, stride))
            self.norms.append(_norm(nn.BatchNorm2d, x.filters, layout))
            self.pads.append(pad_width(length, x.kernel, x.stride, x.padding))
            length = conv_output(length, x.kernel, x.stride, x.padding)
            channels = x.filters
        self.trunk, self.trunk_norms = nn.ModuleList(), nn.ModuleList()
        width = length * channels
        for units, _ in layout.trunk:
            self.trunk.append(nn.Linear(width, units))
            self.trunk_norms.append(_norm(nn.BatchNorm1d, units, layout))
            width = units
        self.heads = nn.Linear(width, layout.nheads * 2 * layout.nboxes)

    def forward(self, x: Any) -> Any:
        """Compute what the sigmoids get, ``(n, nheads, 2, nboxes)``.

        Spectra are ``(n, nbins)``; boxes come first, then offsets.
        """
        x = x[:, None, None, :].to(memory_format=torch.channels_last)
        layers = (self.layout.convs, self.pads, self.convolutions, self.norms)
        for shape, pad, convolution, norm in zip(*layers, strict=True):
            if any(pad):
                x = nn.functional.pad(x, pad)
            x = _ACTIVATIONS[shape.activation](norm(convolution(x)))
        # Keras flattens with the channels last.
        x = x.permute(0, 2, 3, 1).flatten(1)
        # Eight bits are too few for places within boxes, and this part is cheap.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            dense_layers = (self.layout.trunk, self.trunk, self.trunk_norms)
            for (_, activation), dense, norm in zip(*dense_layers, strict=True):
                x = _ACTIVATIONS[activation](norm(dense(x)))
            layout = self.layout
            return self.heads(x).view(-1, layout.nheads, 2, layout.nboxes)

    def loss(self, said: Any, box: Any, offset: Any) -> Any:
        """Sum cross-entropy of the boxes and error of the offsets over all heads."""
        layout, said = self.layout, said.float()
        boxes = torch.arange(layout.nboxes, device=box.device)
        scale, shift = (
            torch.tensor(x, device=box.device)[:, None]
            for x in (layout.scale, layout.shift)
        )
        # Offsets reach past the edges of a box only as far as their scale lets them.
        margin = torch.minimum(-shift, scale + shift - 1).clamp(0, 2 * _MARGIN) / 2
        distance = (box + offset)[..., None] - boxes
        inside = (distance >= -margin) & (distance < 1 + margin)
        hit = (inside & (box >= 0)[..., None]).float()
        missed = (1 - hit) * (box != UNKNOWN).float()[..., None]
        # Averages over the batch, head by head, so that rare lines count as well.
        npositive = hit.sum(dim=(0, 2)).clamp(min=1)
        nnegative = missed.sum(dim=(0, 2)).clamp(min=1)
        entropy = nn.functional.binary_cross_entropy_with_logits(
            said[:, :, 0], hit, reduction="none"
        )
        positive = (hit * entropy).sum(dim=(0, 2)) / npositive
        negative = (missed * entropy).sum(dim=(0, 2)) / nnegative
        place = shift + scale * torch.sigmoid(said[:, :, 1])
        error = nn.functional.smooth_l1_loss(
            place, distance, reduction="none", beta=_OFFSET_BETA
        )
        wrong = (hit * error).sum(dim=(0, 2)) / npositive
        counts = torch.tensor([layout.nlines, layout.nlines_bal], device=box.device)
        negatives, weights = (
            torch.tensor(x, device=box.device).repeat_interleave(counts)
            for x in (_NEGATIVE_WEIGHT, _HEAD_WEIGHT)
        )
        each = positive + negatives * negative + _OFFSET_WEIGHT * wrong
        return (weights * each).sum()

    def copy_weights(self, network: Network) -> None:
        """Take the weights of a network that was read, whose layout this one has."""
        dense = zip(self.trunk, network.trunk, strict=True)
        pairs = [(layer, x.kernel.T, x.bias) for layer, x in dense]
        for layer, x in zip(self.convolutions, network.convs, strict=True):
            pairs.append((layer, x.kernel.transpose(2, 1, 0)[:, :, None], x.bias))
        kernel, bias, *_ = network.joined_heads()
        with torch.no_grad():
            for layer, weight, shift in (*pairs, (self.heads, kernel.T, bias)):
                layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
                layer.bias.copy_(torch.from_numpy(shift))

    def to_network(self) -> Network:
        """Describe this network as the package does, its batch normalization folded."""
        layout = self.layout
        convs = []
        for i, (shape, layer) in enumerate(
            zip(layout.convs, self.convolutions, strict=True)
        ):
            kernel = _float64(layer.weight)[:, :, 0].transpose(2, 1, 0)
            folded = _folded(kernel, layer, self.norms[i])
            name, settings = f"conv_{i + 1}", (shape.padding, shape.activation)
            convs.append(Conv(name, *folded, shape.stride, *settings))
        trunk = []
        for i, ((_, activation), layer) in enumerate(
            zip(layout.trunk, self.trunk, strict=True)
        ):
            folded = _folded(_float64(layer.weight).T, layer, self.trunk_norms[i])
            name = "fc_common" if i == 0 else f"fc_common_{i + 1}"
            trunk.append(Dense(name, *folded, activation))
        size = (layout.nheads, 2, layout.nboxes)
        weight = _float64(self.heads.weight).reshape((*size, -1))
        bias = _float64(self.heads.bias).reshape(size)
        heads = tuple(
            Head(
                Dense(f"fc_box_{i}", weight[i, 0].T, bias[i, 0], "sigmoid"),
                Dense(f"fc_offset_{i}", weight[i, 1].T, bias[i, 1], "sigmoid"),
                layout.scale[i],
                layout.shift[i],
            )
            for i in range(layout.nheads)
        )
        parameters = sum(x.numel() for x in self.parameters())
        return Network(layout.nbins, tuple(convs), tuple(trunk), heads, parameters)


def _norm(kind: Any, channels: int, layout: Layout) -> Any:
    return kind(channels, eps=_EPSILON) if layout.norms else nn.Identity()


def _float64(x: Any) -> NDArray[np.float64]:
    return np.asarray(x.detach().cpu().numpy(), dtype=np.float64)


def _folded(
    kernel: NDArray[np.float64], layer: Any, norm: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give kernel and bias of a layer with the batch normalization after it."""
    bias = _float64(layer.bias)
    if isinstance(norm, nn.Identity):
        return kernel, bias
    mean, var = _float64(norm.running_mean), _float64(norm.running_var)
    beta, gamma = _float64(norm.bias), _float64(norm.weight)
    return fold_batch_norm(kernel, bias, mean, var, beta, gamma, norm.eps)


def labels(
    z: NDArray[np.float64],
    bal: NDArray[np.bool_],
    rest: Sequence[float],
    grid: Grid,
    layout: Layout,
) -> tuple[Any, Any]:
    """Give box and offset of each line, as QuasarNET defines them.

    Redshifts are NaN for what is not a quasar, and `bal` says which have broad
    absorption; `rest` are the wavelengths of all lines. A box is `ABSENT` where the
    line is not there; offsets run from 0 to 1.
    """
    wavelength = np.asarray(rest) * (1 + z[:, None])
    place = (
        (np.log10(wavelength) if grid.log else wavelength) - grid.start
    ) / grid.step
    there = (place >= 0) & (place < grid.size)
    there[:, layout.nlines :] &= bal[:, None]
    place = np.where(there, place * layout.nboxes / grid.size, 0)
    box = np.floor(place).astype(np.int64)
    offset = (place - box).astype(np.float32)
    return torch.from_numpy(np.where(there, box, ABSENT)), torch.from_numpy(offset)


def run(model: QuasarNet, spectra: NDArray[np.float32], chunk: int = 2000) -> Any:
    """Compute what the sigmoids of all heads get, for evaluation and not for training.

    The result is a tensor as `QuasarNet.forward` gives it.
    """
    model.eval()
    with torch.no_grad():
        starts = range(0, len(spectra), chunk)
        parts = [torch.from_numpy(spectra[i : i + chunk]) for i in starts]
        return torch.cat([model(part) for part in parts])


def settle_norms(model: QuasarNet, batches: Sequence[Any]) -> None:
    """Take the statistics of the batch norms anew, in float32, of the final weights."""
    for norm in (*model.norms, *model.trunk_norms):
        if not isinstance(norm, nn.Identity):
            norm.reset_running_stats()
            norm.momentum = None  # average over all batches alike
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    model.eval()
