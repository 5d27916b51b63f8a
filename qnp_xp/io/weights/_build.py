"""From a graph of Keras layers and their arrays to a `Network`.

The graph is walked from its outputs back to its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._network.description import BatchNorm, Conv, Dense, Head, Network
from ...errors import WeightsError
from ...layers import ACTIVATIONS, conv_output
from ._graph import Graph, Layer, variable_names
from ._lambdas import lambda_scaling

__all__ = ["MOST_PARAMETERS", "Arrays", "Shapes", "build_network"]

Shapes = Mapping[str, tuple[int, ...]]

#: Gives the arrays of a layer by their names (``kernel``, ``bias``, ``gamma``, ...).
#: The shapes are those that they should have.
Arrays = Callable[[Layer, Shapes], Mapping[str, NDArray[Any]]]

#: Weights of a network; those of QuasarNET have less than a million.
MOST_PARAMETERS = 1 << 24

# Layers that do nothing once a network is trained.
_IDENTITIES = {
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
}


@np.errstate(over="ignore", invalid="ignore")  # the ends of it are checked
def build_network(graph: Graph, arrays: Arrays) -> Network:
    """Put a network together.

    Parameters
    ----------
    graph
        Layers and how they are connected.
    arrays
        Gives the arrays of a layer.

    Returns
    -------
    Network
        With batch normalisation folded into the layers before it, in float64.

    Raises
    ------
    WeightsError
        If a layer is of a kind that QuasarNET has not, or its arrays are missing, of
        the wrong shape or not finite; the message names the layer.
    """
    builder = _Builder(graph, arrays)
    if not graph.outputs:
        msg = "the model has no outputs"
        raise WeightsError(msg)
    ends = [builder.head(graph.layer(name)) for name in graph.outputs]
    tails = {tail.name for *_, tail in ends}
    if len(tails) > 1:
        msg = f"the heads hang on different layers: {', '.join(sorted(tails))}"
        raise WeightsError(msg)
    nbins, convs, trunk, width = builder.trunk(ends[0][-1])
    heads = tuple(
        Head(
            builder.dense(box, width, "sigmoid"),
            builder.dense(offset, width, "sigmoid"),
            scale,
            shift,
        )
        for box, offset, scale, shift, _ in ends
    )
    sizes = {layer.bias.size for head in heads for layer in (head.box, head.offset)}
    if len(sizes) > 1:
        msg = f"the heads have different numbers of boxes: {sorted(sizes)}"
        raise WeightsError(msg)
    network = Network(nbins, convs, trunk, heads, builder.parameters)
    _check_range(network)
    return network


def _check_range(network: Network) -> None:
    """Refuse weights that only float64 can hold once all is folded in."""
    halves = [half for head in network.heads for half in (head.box, head.offset)]
    layers = [*network.convs, *network.trunk, *halves]
    values: list[tuple[str, Any, Any]] = [(x.name, x.kernel, x.bias) for x in layers]
    values += [(x.offset.name, x.scale, x.shift) for x in network.heads]
    for name, factors, terms in values:
        for x in (factors, terms):
            if not np.all(np.abs(x) <= np.finfo(np.float32).max):
                msg = f"layer {name!r}: its weights are beyond the range of float32"
                raise WeightsError(msg)


class _Builder:
    """Walks the graph from its outputs to its input."""

    def __init__(self, graph: Graph, arrays: Arrays) -> None:
        self.graph = graph
        self.arrays = arrays
        self.parameters = 0

    def head(self, layer: Layer) -> tuple[Layer, Layer, float, float, Layer]:
        """Box layer, offset layer, scale, shift and what both hang on."""
        if layer.kind != "Concatenate" or len(layer.inputs) != 2:
            raise layer.unsupported("an output must join one box and one offset head")
        box, *box_scaling, box_tail = self._half(self.graph.layer(layer.inputs[0]))
        offset, scale, shift, tail = self._half(self.graph.layer(layer.inputs[1]))
        if box_scaling != [1.0, 0.0]:
            raise box.unsupported("its output is rescaled, and it is a box head")
        if box_tail.name != tail.name:
            raise layer.unsupported("its box and its offset head have different inputs")
        return box, offset, scale, shift, tail

    def _half(self, end: Layer) -> tuple[Layer, float, float, Layer]:
        """One of the two heads of a line: its layer, its scaling, what it hangs on."""
        scale, shift = 1.0, 0.0
        activation = None
        for layer in self._upwards(end):
            if layer.kind == "Dense":
                break
            factor, term = 1.0, 0.0
            if layer.kind == "Rescaling":
                factor, term = _rescaling(layer)
            elif layer.kind == "Lambda":
                factor, term = lambda_scaling(layer)
            elif layer.kind == "Activation" and activation is None:
                activation = layer.config["activation"]
            elif layer.kind not in _IDENTITIES:
                raise layer.unsupported("not supported in a head")
            if activation is not None and (factor, term) != (1.0, 0.0):
                raise layer.unsupported("rescaling before an activation")
            scale, shift = scale * factor, scale * term + shift
        own = layer.config.get("activation", "linear")
        if sorted([own, activation or "linear"]) != ["linear", "sigmoid"]:
            raise layer.unsupported("a head must have one activation, a sigmoid")
        return layer, scale, shift, self._skip(self.graph.only_input(layer))

    def _skip(self, end: Layer) -> Layer:
        return next(x for x in self._upwards(end) if x.kind not in _IDENTITIES)

    def _upwards(self, layer: Layer) -> Iterator[Layer]:
        """A layer, the one that feeds it, and so on up to the input."""
        for _ in self.graph.layers:
            yield layer
            if layer.kind == "InputLayer":
                return
            layer = self.graph.only_input(layer)
        raise layer.unsupported("the graph has a cycle")

    def trunk(
        self, tail: Layer
    ) -> tuple[int, tuple[Conv, ...], tuple[Dense, ...], int]:
        """Input width, layers before and behind the flattening, and output width."""
        source, *rest = reversed(list(self._upwards(tail)))
        nbins, channels = _input_shape(source)
        convs: list[Conv] = []
        dense: list[Dense] = []
        length, width = nbins, None
        for layer in rest:
            steps: list[Any] = dense if width is not None else convs
            if layer.kind in _IDENTITIES:
                continue
            if layer.kind == "Conv1D" and width is None:
                convs.append(self._conv(layer, channels))
                channels = convs[-1].bias.size
                kernel, stride = convs[-1].kernel.shape[0], convs[-1].stride
                length = conv_output(length, kernel, stride, convs[-1].padding)
                if length < 1:
                    raise layer.unsupported("its kernel is longer than its input")
            elif layer.kind == "Flatten" and width is None:
                width = length * channels
            elif layer.kind == "Dense" and width is not None:
                activation = layer.config.get("activation", "linear")
                dense.append(self.dense(layer, width, activation))
                width = dense[-1].bias.size
            elif steps:
                steps[-1] = self._followed(steps[-1], layer)
            else:
                raise layer.unsupported("not a layer that QuasarNET has here")
        if width is None:
            raise tail.unsupported("nothing flattens the convolutions before the heads")
        return nbins, tuple(convs), tuple(dense), width

    def _followed(self, step: Any, layer: Layer) -> Any:
        """A convolution or dense layer together with the layer behind it."""
        if layer.kind not in ("Activation", "BatchNormalization", "ReLU"):
            raise layer.unsupported("not a layer that QuasarNET has here")
        if step.activation != "linear":
            raise layer.unsupported("not supported behind an activation")
        if layer.kind == "BatchNormalization":
            return step.folded(self._batch_norm(layer, step.bias.size))
        return replace(step, activation=_activation(layer))

    def _conv(self, layer: Layer, channels: int) -> Conv:
        config = layer.config
        for key, wanted in (
            ("dilation_rate", 1),
            ("groups", 1),
            ("data_format", "channels_last"),
        ):
            if _single(config.get(key, wanted)) != wanted:
                raise layer.unsupported(f"{key}={config[key]!r} is not supported")
        if config["padding"] not in ("valid", "same"):
            raise layer.unsupported(f"padding={config['padding']!r} is not supported")
        filters = int(config["filters"])
        shape = (int(_single(config["kernel_size"])), channels, filters)
        stride = int(_single(config["strides"]))
        if min(*shape, stride) < 1:
            raise layer.unsupported("its sizes must be positive")
        found = self._read(layer, {"kernel": shape, "bias": (filters,)})
        return Conv(
            layer.name,
            found["kernel"],
            found.get("bias", np.zeros(filters)),
            stride,
            config["padding"],
            _known(layer, config.get("activation", "linear")),
        )

    def dense(self, layer: Layer, width: int, activation: str) -> Dense:
        """Read a fully connected layer that takes `width` inputs."""
        units = int(layer.config["units"])
        found = self._read(layer, {"kernel": (width, units), "bias": (units,)})
        return Dense(
            layer.name,
            found["kernel"],
            found.get("bias", np.zeros(units)),
            _known(layer, activation),
        )

    def _batch_norm(self, layer: Layer, channels: int) -> BatchNorm:
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        found = self._read(layer, dict.fromkeys(names, (channels,)))
        epsilon = float(layer.config["epsilon"])
        if not math.isfinite(epsilon) or np.any(
            found["moving_variance"] + epsilon <= 0
        ):
            raise layer.unsupported("its variance plus epsilon must be positive")
        return BatchNorm.from_moments(
            found["moving_mean"],
            found["moving_variance"],
            found.get("beta", np.zeros(channels)),
            found.get("gamma", np.ones(channels)),
            epsilon,
        )

    def _read(self, layer: Layer, shapes: Shapes) -> dict[str, NDArray[np.float64]]:
        """The arrays that the layer's settings promise, checked."""
        self.parameters += sum(math.prod(shapes[x]) for x in variable_names(layer))
        if self.parameters > MOST_PARAMETERS:
            raise layer.unsupported(
                f"with it the network has more than {MOST_PARAMETERS} weights"
            )
        given = self.arrays(layer, shapes)
        found = {}
        for name in variable_names(layer):
            if name not in given:
                raise layer.unsupported(f"its array {name!r} is missing")
            value = given[name]
            if value.shape != shapes[name]:
                raise layer.unsupported(
                    f"its array {name!r} has shape {value.shape}, not {shapes[name]}"
                )
            with np.errstate(invalid="ignore"):  # NaNs, of which the layer is told
                found[name] = np.asarray(value, dtype=np.float64)
            if not np.all(np.isfinite(found[name])):
                raise layer.unsupported(f"its array {name!r} has values not finite")
        return found


def _single(value: Any) -> Any:
    """Keras stores the sizes of one dimension as a list of one."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(value) == 1 else value
    return value


def _rescaling(layer: Layer) -> tuple[float, float]:
    scale, shift = float(layer.config["scale"]), float(layer.config["offset"])
    if not math.isfinite(scale) or not math.isfinite(shift):
        raise layer.unsupported("its scale and its offset must be finite")
    return scale, shift


def _input_shape(layer: Layer) -> tuple[int, int]:
    shape = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
    if not isinstance(shape, list) or len(shape) != 3 or not shape[1] or shape[2] != 1:
        raise layer.unsupported(f"its shape must be (None, bins, 1), it is {shape}")
    return int(shape[1]), int(shape[2])


def _known(layer: Layer, activation: Any) -> str:
    if activation not in ACTIVATIONS:
        raise layer.unsupported(f"activation {activation!r} is not supported")
    return str(activation)


def _activation(layer: Layer) -> str:
    if layer.kind == "Activation":
        return _known(layer, layer.config["activation"])
    plain = (None, 0.0, 0.0)
    keys = ("max_value", "negative_slope", "threshold")
    found = tuple(
        _single(layer.config.get(key, value))
        for key, value in zip(keys, plain, strict=True)
    )
    if found != plain:
        raise layer.unsupported("only the plain ReLU is supported")
    return "relu"
