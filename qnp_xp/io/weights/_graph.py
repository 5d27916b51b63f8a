"""The JSON in which Keras 2 and 3 describe a model, read as a graph of layers.

Which layer feeds which is read from the graph, never from names. What is not known to
leave the outputs as they are is refused: kinds of layers, settings and arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import WeightsError

#: Layers of a description; QuasarNET has some sixty.
_MOST_LAYERS = 1 << 10

# Settings, with the values that are understood. None stands for any: the setting has no
# effect on a trained network, or is checked by those that read it.
_Settings = Mapping[str, tuple[Any, ...] | None]

_FLAG = (True, False)
#: Kinds of floating point numbers: how exactly Keras itself would compute.
_FLOATS = ("float32", "float64", "mixed_float16", "mixed_bfloat16", "float16", None)
_POLICIES = ("DTypePolicy", "FloatDTypePolicy", "Policy", "PolicyV1")

_OF_ALL: _Settings = {
    "name": None,
    "trainable": None,
    "dtype": _FLOATS,
    "batch_input_shape": None,
    "dynamic": (False,),
}
_OF_WEIGHTS: _Settings = {
    "activation": None,
    "use_bias": _FLAG,
    # In an archive Keras adds such changes of a kernel to the kernel itself.
    "lora_rank": None,
    "lora_alpha": None,
    "quantization_config": (None,),
}
_OF_IDENTITIES: _Settings = dict.fromkeys(
    ("rate", "noise_shape", "seed", "stddev", "l1", "l2")
)
# Of the training of any layer.
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")

#: Layers that do nothing once a network is trained.
_IDENTITIES = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout1D",
)

_KINDS: Mapping[str, _Settings] = {
    "InputLayer": {
        "batch_shape": None,
        "sparse": (False, None),
        "ragged": (False, None),
        "optional": (False,),
    },
    "Conv1D": {
        **_OF_WEIGHTS,
        "filters": None,
        "kernel_size": None,
        "strides": None,
        "padding": ("valid", "same"),
        "data_format": ("channels_last",),
        "dilation_rate": (1,),
        "groups": (1,),
    },
    "Dense": {**_OF_WEIGHTS, "units": None},
    "BatchNormalization": {
        "axis": None,
        "epsilon": None,
        "center": _FLAG,
        "scale": _FLAG,
        "momentum": None,
        "synchronized": None,
        "fused": None,
        "virtual_batch_size": (None,),
        "renorm": (False,),
        "renorm_clipping": None,
        "renorm_momentum": None,
    },
    "Activation": {"activation": None},
    "ReLU": {"max_value": (None,), "negative_slope": (0,), "threshold": (0,)},
    # In the other order the channels are flattened first.
    "Flatten": {"data_format": ("channels_last",)},
    "Concatenate": {"axis": (-1, 1)},
    "Rescaling": {"scale": None, "offset": None},
    "Lambda": {
        "function": None,
        "function_type": None,
        "module": None,
        "output_shape": None,
        "output_shape_type": None,
        "output_shape_module": None,
        "mask": (None,),
        "arguments": ({},),
    },
    **dict.fromkeys(_IDENTITIES, _OF_IDENTITIES),
}


@dataclass(frozen=True)
class Layer:
    """One layer of the description."""

    name: str
    #: Its class in Keras.
    kind: str
    #: Its settings, as Keras stores them.
    config: Mapping[str, Any]
    #: Names of the layers that feed it.
    inputs: tuple[str, ...] = ()

    def unsupported(self, what: str) -> WeightsError:
        """Make an error that names this layer."""
        return WeightsError(f"layer {self.name!r} ({self.kind}): {what}")

    def not_supported(self, key: str, value: Any) -> WeightsError:
        """Make an error that names a setting."""
        return self.unsupported(f"{f'{key}={value!r}':.200} is not supported")

    @property
    def is_identity(self) -> bool:
        """Whether its output is its input once the network is trained."""
        linear = self.config.get("activation") == "linear"
        return self.kind in _IDENTITIES or (self.kind == "Activation" and linear)

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

    def integer(self, key: str) -> int:
        """Read a setting that is a positive integer."""
        value = single(self.config[key])
        if type(value) is not int or value < 1:
            raise self.unsupported(f"{key} must be a positive integer, not {value!r}")
        return value

    def number(self, key: str) -> float:
        """Read a setting that is a number."""
        value = self.config[key]
        if type(value) not in (int, float):
            raise self.not_supported(key, value)
        return float(value)

    def check_settings(self) -> None:
        """Refuse a setting that is not known, or has a value that is not."""
        known = {**_OF_ALL, **_KINDS[self.kind]}
        for key, value in self.config.items():
            if key in known:
                values = known[key]
            else:
                values = None if key.endswith(_OF_TRAINING) else ()
            if values is not None and _plain(value) not in values:
                raise self.not_supported(key, value)


@dataclass(frozen=True)
class Graph:
    """All layers of a model, in the order of the file, and which are its outputs."""

    layers: Mapping[str, Layer]
    outputs: tuple[str, ...]

    @classmethod
    def from_config(cls, model: Mapping[str, Any]) -> Graph:
        """Read the decoded ``model_config`` of Keras 2 or 3."""
        if model.get("class_name") not in ("Functional", "Model") or _is_custom(model):
            what = f"the file holds a {model.get('class_name')!r}"
            raise WeightsError(f"a functional Keras model is needed, {what}")
        entries = model["config"]["layers"]
        if len(entries) > _MOST_LAYERS:
            what = f"and at most {_MOST_LAYERS} are supported"
            raise WeightsError(f"the network has {len(entries)} layers, {what}")
        layers: dict[str, Layer] = {}
        for entry in entries:
            layer = _layer(entry)
            if layer.name in layers:
                raise layer.unsupported("another layer has this name")
            layers[layer.name] = layer
        outputs = model["config"]["output_layers"]
        if isinstance(outputs, Mapping):
            raise WeightsError("outputs with keys are not supported, only a list")
        if outputs and isinstance(outputs[0], str):
            outputs = [outputs]  # Keras 3 writes a single output without its list
        names = tuple(str(output[0]) for output in outputs)
        if not names:
            raise WeightsError("the model has no outputs")
        if len(set(names)) != len(names):
            raise WeightsError("a layer is an output more than once: not supported")
        return cls(layers, names)

    def check_all_used(self) -> None:
        """Refuse a layer that no output depends on: it was meant for something."""
        used = {name for layer in self.layers.values() for name in layer.inputs}
        for name in self.layers.keys() - used - set(self.outputs):
            raise self.layers[name].unsupported("nothing takes its output")

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


def single(value: Any) -> Any:
    """Take the size of one dimension, which Keras may store as a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _plain(value: Any) -> Any:
    """Take a list of one as its item, and a policy of Keras as the type it names."""
    if isinstance(value, Mapping) and value.get("class_name") in _POLICIES:
        return value["config"]["name"]
    return single(value)


def _is_custom(entry: Mapping[str, Any]) -> bool:
    """Tell whether a class is somebody's own, whatever it is called."""
    package = str(entry.get("module") or "keras").partition(".")[0]
    own = ">" in str(entry.get("registered_name"))
    return own or package not in ("keras", "tf_keras", "tensorflow")


def _layer(entry: Mapping[str, Any]) -> Layer:
    """Read one layer, if it is understood."""
    config = entry["config"]
    name = str(entry.get("name") or config["name"])
    layer = Layer(name, str(entry["class_name"]), config)
    if layer.kind not in _KINDS or _is_custom(entry):
        raise layer.unsupported(
            "not a layer that QuasarNET has. Build the network of Keras' own layers,"
            " with a Rescaling layer for arithmetic, and save it again"
        )
    layer.check_settings()
    nodes = entry.get("inbound_nodes", [])
    if len(nodes) > 1:
        raise layer.unsupported("used more than once: not supported")
    inputs = tuple(name for node in nodes for name in _inputs(layer, node))
    return Layer(layer.name, layer.kind, config, inputs)


def _inputs(layer: Layer, node: Any) -> Iterator[str]:
    """Name the layers that feed a layer, from either form of a node."""
    if isinstance(node, Mapping):
        yield from _tensors(layer, node.get("args", []))
        arguments = dict(node.get("kwargs") or {})
    else:
        arguments = {}
        for tensor in node:
            if not isinstance(tensor, list) or not isinstance(tensor[0], str):
                raise layer.unsupported(f"its input {tensor!r:.50} is not a layer")
            yield tensor[0]
            arguments.update(*tensor[3:])
    for key, value in arguments.items():
        # Such as training=True, which turns the dropouts on.
        if value not in (None, False):
            raise layer.unsupported(f"it is called with {f'{key}={value!r}':.200}")


def _tensors(layer: Layer, argument: Any) -> Iterator[str]:
    """Name the layers that an argument of Keras 3 comes from."""
    if isinstance(argument, list):
        for item in argument:
            yield from _tensors(layer, item)
    elif isinstance(argument, Mapping) and "keras_history" in argument["config"]:
        yield str(argument["config"]["keras_history"][0])
    elif argument not in (None, False):
        raise layer.unsupported(f"it is called with {argument!r:.200}")
