"""The JSON in which Keras 2 and 3 describe a model, read as a graph of layers.

Which layer feeds which is read from the graph, never from names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import WeightsError


@dataclass(frozen=True)
class Layer:
    """One layer of the description."""

    name: str
    #: Its class in Keras.
    kind: str
    #: Its settings, as Keras stores them.
    config: Mapping[str, Any]
    #: Names of the layers that feed it.
    inputs: tuple[str, ...]

    def unsupported(self, what: str) -> WeightsError:
        """Make an error that names this layer."""
        return WeightsError(f"layer {self.name!r} ({self.kind}): {what}")

    @property
    def variables(self) -> list[str]:
        """Names of its arrays, in the order in which Keras 3 numbers them."""
        config = self.config
        if self.kind in ("Conv1D", "Dense"):
            return ["kernel", "bias"] if config.get("use_bias", True) else ["kernel"]
        if self.kind == "BatchNormalization":
            names = ["gamma"] if config.get("scale", True) else []
            names += ["beta"] if config.get("center", True) else []
            return [*names, "moving_mean", "moving_variance"]
        return []


@dataclass(frozen=True)
class Graph:
    """All layers of a model, in the order of the file, and which are its outputs."""

    layers: Mapping[str, Layer]
    outputs: tuple[str, ...]

    @classmethod
    def from_config(cls, model: Mapping[str, Any]) -> Graph:
        """Read the decoded ``model_config`` of Keras 2 or 3."""
        if model.get("class_name") not in ("Functional", "Model"):
            what = f"the file holds a {model.get('class_name')!r}"
            raise WeightsError(f"a functional Keras model is needed, {what}")
        layers = {}
        for entry in model["config"]["layers"]:
            name = str(entry.get("name") or entry["config"]["name"])
            inputs = _inputs(name, entry.get("inbound_nodes", []))
            layers[name] = Layer(
                name, str(entry["class_name"]), entry["config"], inputs
            )
        outputs = model["config"]["output_layers"]
        if outputs and isinstance(outputs[0], str):
            outputs = [outputs]  # Keras 3 writes a single output without its list
        names = tuple(str(output[0]) for output in outputs)
        if not names:
            raise WeightsError("the model has no outputs")
        if len(set(names)) != len(names):
            raise WeightsError("a layer is an output more than once: not supported")
        return cls(layers, names)

    def layer(self, name: str) -> Layer:
        """Find the layer that another one refers to."""
        if name not in self.layers:
            raise WeightsError(f"layer {name!r} is referred to and not described")
        return self.layers[name]

    def upwards(self, name: str) -> Iterator[Layer]:
        """Yield a layer, the one that feeds it, and so on up to the input."""
        for _ in self.layers:
            layer = self.layer(name)
            yield layer
            if layer.kind == "InputLayer":
                return
            if len(layer.inputs) != 1:
                raise layer.unsupported(f"needs one input, has {len(layer.inputs)}")
            (name,) = layer.inputs
        raise self.layer(name).unsupported("the graph has a cycle")


def _inputs(name: str, nodes: Any) -> tuple[str, ...]:
    """Name the layers that feed a layer, from either form of its nodes."""
    if len(nodes) > 1:
        raise WeightsError(f"layer {name!r} is used more than once: not supported")
    if not nodes:
        return ()
    if isinstance(nodes[0], Mapping):
        return tuple(_keras3_tensors(nodes[0].get("args", [])))
    return tuple(str(tensor[0]) for tensor in nodes[0])


def _keras3_tensors(args: Any) -> list[str]:
    """Name the layers that the arguments of a call come from."""
    if isinstance(args, Mapping):
        history = args.get("config", {}).get("keras_history")
        return [] if history is None else [str(history[0])]
    if isinstance(args, list):
        return [name for item in args for name in _keras3_tensors(item)]
    return []
