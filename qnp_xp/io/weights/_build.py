"""From a graph of Keras layers to a `Network`: first a plan of it, then its weights.

The plan says which arrays of which shapes are needed, before any of them is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._network.description import Conv, Dense, Head, Network, fold_batch_norm
from ...errors import WeightsError
from ...layers import ACTIVATIONS, conv_output
from ._graph import Graph, Layer, single
from ._lambdas import lambda_scaling

Float64 = NDArray[np.float64]
Shapes = Mapping[str, tuple[int, ...]]

#: For each layer its arrays by name (``kernel``, ``bias``, ``gamma``, ...).
Arrays = Mapping[str, Mapping[str, NDArray[Any]]]

# More than any QuasarNET has: one with six convolutions of 100 filters has 443 bins,
# 0.6 million weights, and 24 million multiplications in convolutions of a spectrum.
_MOST_BINS = 1 << 16
_MOST_PARAMETERS = 1 << 24
_MOST_MULTIPLICATIONS = 1 << 28
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Step:
    """A convolution or a dense layer, with the batch normalizations after it."""

    layer: Layer
    #: Shape of its kernel.
    shape: tuple[int, ...]
    activation: str
    #: Of a convolution.
    stride: int = 0
    padding: str = ""
    norms: tuple[Layer, ...] = ()

    @property
    def units(self) -> int:
        """Number of its outputs."""
        return self.shape[-1]

    def shapes(self) -> Iterator[tuple[Layer, Shapes]]:
        """Yield each layer and the shapes of its arrays."""
        for layer in (self.layer, *self.norms):
            names, others = layer.variables, (self.units,)
            yield layer, {x: self.shape if x == "kernel" else others for x in names}

    def folded(self, arrays: Arrays) -> tuple[Float64, Float64]:
        """Fold the batch normalizations into kernel and bias."""
        own = _finite(self.layer, arrays)
        kernel, bias = own["kernel"], own.get("bias", np.zeros(self.units))
        for norm in self.norms:
            moments = _moments(norm, arrays, self.units)
            kernel, bias = fold_batch_norm(kernel, bias, *moments)
        if not all(np.all(np.abs(x) <= _LARGEST) for x in (kernel, bias)):
            raise self.layer.unsupported("its weights are beyond the range of float32")
        return kernel, bias


@dataclass(frozen=True)
class Plan:
    """A network without its weights."""

    nbins: int
    convs: tuple[_Step, ...]
    trunk: tuple[_Step, ...]
    #: Box layer, offset layer, scale and shift of the offset.
    heads: tuple[tuple[_Step, _Step, float, float], ...]

    def shapes(self) -> Iterator[tuple[Layer, Shapes]]:
        """Yield each layer with weights and the shapes of its arrays."""
        halves = (step for head in self.heads for step in head[:2])
        for step in (*self.convs, *self.trunk, *halves):
            yield from step.shapes()

    @property
    def parameters(self) -> int:
        """Number of the weights, batch normalizations included."""
        return sum(math.prod(x) for _, shapes in self.shapes() for x in shapes.values())

    @np.errstate(over="ignore", invalid="ignore")  # the ends of it are checked
    def build(self, arrays: Arrays) -> Network:
        """Build the network in float64, with batch normalization folded in."""

        def dense(step: _Step) -> Dense:
            return Dense(step.layer.name, *step.folded(arrays), step.activation)

        convs = tuple(
            Conv(x.layer.name, *x.folded(arrays), x.stride, x.padding, x.activation)
            for x in self.convs
        )
        trunk = tuple(dense(step) for step in self.trunk)
        heads = tuple(
            Head(dense(box), dense(offset), scale, shift)
            for box, offset, scale, shift in self.heads
        )
        return Network(self.nbins, convs, trunk, heads, self.parameters)


def plan_network(graph: Graph) -> Plan:
    """Plan a network from its description alone."""
    ends = [_head(graph, graph.layer(name)) for name in graph.outputs]
    tails = {tail.name for *_, tail in ends}
    if len(tails) > 1:
        names = ", ".join(map(repr, sorted(tails)))
        raise WeightsError(f"the heads hang on different layers: {names}")
    nbins, convs, trunk, width = _trunk(graph, ends[0][-1])
    heads = tuple(
        (_dense(box, width, "sigmoid"), _dense(offset, width, "sigmoid"), scale, shift)
        for box, offset, scale, shift, _ in ends
    )
    sizes = sorted({step.units for head in heads for step in head[:2]})
    if len(sizes) > 1:
        raise WeightsError(f"the heads have different numbers of boxes: {sizes}")
    plan = Plan(nbins, convs, trunk, heads)
    _check_size("weights", plan.parameters, _MOST_PARAMETERS)
    graph.check_all_used()
    return plan


def _check_size(what: str, number: int, most: int) -> None:
    """Refuse a network that takes more than any QuasarNET does."""
    if number > most:
        raise WeightsError(
            f"the network has {number} {what}, and at most {most} are supported"
        )


def _head(graph: Graph, layer: Layer) -> tuple[Layer, Layer, float, float, Layer]:
    """Find box layer, offset layer, its scale and shift, and what both hang on."""
    if layer.kind != "Concatenate" or len(layer.inputs) != 2:
        raise layer.unsupported("an output must join one box and one offset head")
    box, *scaling, box_tail = _half(graph, layer.inputs[0])
    offset, scale, shift, tail = _half(graph, layer.inputs[1])
    if scaling != [1.0, 0.0]:
        raise box.unsupported("its output is rescaled, and it is a box head")
    if box_tail.name != tail.name:
        raise layer.unsupported("its box and its offset head have different inputs")
    return box, offset, scale, shift, tail


def _half(graph: Graph, name: str) -> tuple[Layer, float, float, Layer]:
    """Find one of the two heads of a line, its scaling, and what it hangs on."""
    scale, shift = 1.0, 0.0
    activation = None
    layers = graph.upwards(name)
    for layer in layers:
        if layer.kind == "Dense":
            break
        factor, term = 1.0, 0.0
        if layer.kind == "Rescaling":
            factor, term = layer.number("scale"), layer.number("offset")
        elif layer.kind == "Lambda":
            factor, term = lambda_scaling(layer)
        elif layer.is_identity:
            continue
        elif layer.kind == "Activation" and activation is None:
            activation = layer.config["activation"]
        else:
            raise layer.unsupported("not supported in a head")
        if activation is not None and (factor, term) != (1.0, 0.0):
            raise layer.unsupported("rescaling before an activation")
        scale, shift = scale * factor, scale * term + shift
        if not all(abs(x) <= _LARGEST for x in (scale, shift)):
            raise layer.unsupported("its scaling is not a finite float32")
    own = layer.config.get("activation", "linear")
    if [own, activation] not in (["linear", "sigmoid"], ["sigmoid", None]):
        raise layer.unsupported("a head must have one activation, a sigmoid")
    tail = next(x for x in layers if not x.is_identity)
    return layer, scale, shift, tail


def _trunk(
    graph: Graph, tail: Layer
) -> tuple[int, tuple[_Step, ...], tuple[_Step, ...], int]:
    """Plan input width, layers before and after the flattening, and output width."""
    source, *rest = reversed(list(graph.upwards(tail.name)))
    nbins, channels = _nbins(source), 1
    convs: list[_Step] = []
    dense: list[_Step] = []
    length, width = nbins, None
    work = 0
    for layer in rest:
        steps = dense if width is not None else convs
        if layer.is_identity:
            continue
        if layer.kind == "Conv1D" and width is None:
            conv = _conv(layer, channels)
            convs.append(conv)
            channels = conv.units
            length = conv_output(length, conv.shape[0], conv.stride, conv.padding)
            if length < 1:
                raise layer.unsupported("its kernel is longer than its input")
            work += length * math.prod(conv.shape)
            _check_size("multiplications", work, _MOST_MULTIPLICATIONS)
        elif layer.kind == "Flatten" and width is None:
            width = length * channels
        elif layer.kind == "Dense" and width is not None:
            dense.append(_dense(layer, width, layer.config.get("activation", "linear")))
            width = dense[-1].units
        elif steps:
            steps[-1] = _followed(steps[-1], layer)
        else:
            raise layer.unsupported("not a layer that QuasarNET has here")
    if width is None:
        raise tail.unsupported("nothing flattens the convolutions before the heads")
    return nbins, tuple(convs), tuple(dense), width


def _nbins(layer: Layer) -> int:
    """Read the number of bins of the input."""
    shape = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
    match shape:
        case [_, int(nbins), 1] if nbins > 0:
            _check_size("bins", nbins, _MOST_BINS)
            return nbins
    raise layer.unsupported(f"its shape must be (None, bins, 1), it is {shape}")


def _conv(layer: Layer, channels: int) -> _Step:
    """Plan a convolution over some channels."""
    shape = layer.integer("kernel_size"), channels, layer.integer("filters")
    activation = _known(layer, layer.config.get("activation", "linear"))
    stride, padding = layer.integer("strides"), str(layer.config["padding"])
    return _Step(layer, shape, activation, stride, padding)


def _dense(layer: Layer, width: int, activation: str) -> _Step:
    """Plan a fully connected layer that takes `width` inputs."""
    shape = width, layer.integer("units")
    return _Step(layer, shape, _known(layer, activation))


def _followed(step: _Step, layer: Layer) -> _Step:
    """Plan a convolution or dense layer together with the layer after it."""
    if layer.kind not in ("Activation", "BatchNormalization", "ReLU"):
        raise layer.unsupported("not a layer that QuasarNET has here")
    if step.activation != "linear":
        raise layer.unsupported("not supported after an activation")
    if layer.kind == "BatchNormalization":
        axis = layer.config["axis"]
        if single(axis) not in (-1, len(step.shape) - 1):  # that of the channels
            raise layer.not_supported("axis", axis)
        return replace(step, norms=(*step.norms, layer))
    if layer.kind == "Activation":
        return replace(step, activation=_known(layer, layer.config["activation"]))
    return replace(step, activation="relu")


def _known(layer: Layer, activation: Any) -> str:
    """Return the name of an activation that there is."""
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise layer.not_supported("activation", activation)
    return activation


def _moments(
    layer: Layer, arrays: Arrays, channels: int
) -> tuple[Float64, Float64, Float64, Float64, float]:
    """Take mean, variance, beta, gamma and epsilon of a batch normalization."""
    found, epsilon = _finite(layer, arrays), layer.number("epsilon")
    variance = found["moving_variance"]
    if not math.isfinite(epsilon) or np.any(variance + epsilon <= 0):
        raise layer.unsupported("its variance plus epsilon must be positive")
    beta = found.get("beta", np.zeros(channels))
    gamma = found.get("gamma", np.ones(channels))
    return found["moving_mean"], variance, beta, gamma, epsilon


def _finite(layer: Layer, arrays: Arrays) -> dict[str, Float64]:
    """Take the arrays of a layer in float64, which must be finite."""
    found = {}
    for name, value in arrays[layer.name].items():
        found[name] = np.asarray(value, dtype=np.float64)
        if not np.all(np.isfinite(found[name])):
            raise layer.unsupported(f"its array {name!r} has values not finite")
    return found
