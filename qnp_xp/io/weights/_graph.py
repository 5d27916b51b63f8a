"""The JSON in which Keras 2 and 3 describe a model, read as a graph of layers.

Which layer feeds which is read from the graph, never from names. Nothing in the
description is ever executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import WeightsError

__all__ = ["Graph", "Layer", "variable_names"]


@dataclass(frozen=True)
class Layer:
    """One layer of the description.

    Attributes
    ----------
    name, kind
        Its name and its Keras class.
    config
        Its settings, as Keras stores them.
    inputs
        Names of the layers that feed it.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]

    def unsupported(self, what: str) -> WeightsError:
        """An error that names this layer.

        Parameters
        ----------
        what
            What is wrong with it.

        Returns
        -------
        WeightsError
        """
        return WeightsError(f"layer {self.name!r} ({self.kind}): {what}")


@dataclass(frozen=True)
class Graph:
    """All layers of a model, and which of them are its outputs.

    Attributes
    ----------
    layers
        By name, in the order of the file.
    outputs
        Names of the output layers, in order.
    """

    layers: Mapping[str, Layer]
    outputs: tuple[str, ...]

    @classmethod
    def from_config(cls, model: Mapping[str, Any]) -> Graph:
        """Read the ``model_config`` of Keras 2 or 3.

        Parameters
        ----------
        model
            The decoded JSON.

        Returns
        -------
        Graph

        Raises
        ------
        WeightsError
            If it describes no functional model.
        """
        if model.get("class_name") not in ("Functional", "Model"):
            kind = model.get("class_name")
            msg = f"a functional Keras model is needed, the file holds a {kind!r}"
            raise WeightsError(msg)
        layers = {}
        for entry in model["config"]["layers"]:
            name = str(entry.get("name") or entry["config"]["name"])
            kind = str(entry["class_name"])
            inputs = _inputs(name, entry.get("inbound_nodes", []))
            layers[name] = Layer(name, kind, entry["config"], inputs)
        outputs = model["config"]["output_layers"]
        if outputs and isinstance(outputs[0], str):
            outputs = [outputs]  # Keras 3 writes a single output without its list
        names = tuple(str(output[0]) for output in outputs)
        if len(set(names)) != len(names):
            msg = "a layer is an output more than once, which is not supported"
            raise WeightsError(msg)
        return cls(layers, names)

    def layer(self, name: str) -> Layer:
        """The layer of a name.

        Parameters
        ----------
        name
            Name that another layer refers to.

        Returns
        -------
        Layer

        Raises
        ------
        WeightsError
            If there is none.
        """
        if name not in self.layers:
            msg = f"layer {name!r} is referred to and not described"
            raise WeightsError(msg)
        return self.layers[name]

    def only_input(self, layer: Layer) -> Layer:
        """The one layer that feeds another.

        Parameters
        ----------
        layer
            The layer that is fed.

        Returns
        -------
        Layer

        Raises
        ------
        WeightsError
            If it is fed by none, or by several.
        """
        if len(layer.inputs) != 1:
            raise layer.unsupported(f"needs one input, has {len(layer.inputs)}")
        return self.layer(layer.inputs[0])


def _inputs(name: str, nodes: Any) -> tuple[str, ...]:
    """Names of the layers that feed a layer, from either form of its nodes."""
    if len(nodes) > 1:
        msg = f"layer {name!r} is used more than once, which is not supported"
        raise WeightsError(msg)
    if not nodes:
        return ()
    if isinstance(nodes[0], Mapping):
        return tuple(_keras3_tensors(nodes[0].get("args", [])))
    return tuple(str(tensor[0]) for tensor in nodes[0])


def _keras3_tensors(args: Any) -> list[str]:
    if isinstance(args, Mapping):
        history = args.get("config", {}).get("keras_history")
        return [] if history is None else [str(history[0])]
    if isinstance(args, list):
        return [name for item in args for name in _keras3_tensors(item)]
    return []


def variable_names(layer: Layer) -> list[str]:
    """Names of a layer's arrays in the order in which Keras 3 numbers them.

    Parameters
    ----------
    layer
        A layer of any kind.

    Returns
    -------
    list of str
        Empty for layers without arrays.
    """
    config = layer.config
    if layer.kind in ("Conv1D", "Dense"):
        return ["kernel", "bias"] if config.get("use_bias", True) else ["kernel"]
    if layer.kind == "BatchNormalization":
        names = ["gamma"] if config.get("scale", True) else []
        names += ["beta"] if config.get("center", True) else []
        return [*names, "moving_mean", "moving_variance"]
    return []
