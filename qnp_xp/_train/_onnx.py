"""Networks as ONNX, for whatever runs it: the extra ``onnx``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._network.description import Network
from ..errors import MissingLibraryError
from ..io.weights._attributes import GRID, Attributes
from ..layers import conv_output, pad_width

#: Kept old, so that old runtimes take it.
_OPSET, _IR_VERSION = 17, 8
_NODES = {"relu": "Relu", "sigmoid": "Sigmoid"}


def import_onnx() -> Any:
    """Import ONNX, or say that it is missing."""
    try:
        import onnx  # noqa: PLC0415
    except ImportError as err:
        what = "ONNX files need onnx"
        msg = f"{what}: pip install '.[onnx]' in a checkout ({err})"
        raise MissingLibraryError(msg) from err
    return onnx


def onnx_network(network: Network, said: Attributes | None = None) -> Any:
    """Build a network in ONNX, and say in its metadata what a weights file says.

    Its input ``spectrum`` is float32 of shape ``(n, nbins)``, its output ``lines`` of
    shape ``(n, nlines, 2 * nboxes)``.
    """
    onnx = import_onnx()
    helper = onnx.helper
    nodes: list[Any] = []
    constants: list[Any] = []
    current = "spectrum"

    def step(kind: str, *arrays: NDArray[Any], **attributes: Any) -> None:
        nonlocal current
        names = [f"w{len(constants) + i}" for i in range(len(arrays))]
        pairs = zip(arrays, names, strict=True)
        constants.extend(onnx.numpy_helper.from_array(*pair) for pair in pairs)
        output = f"t{len(nodes)}"
        nodes.append(helper.make_node(kind, [current, *names], [output], **attributes))
        current = output

    def activate(activation: str) -> None:
        if activation != "linear":
            step(_NODES[activation])

    step("Unsqueeze", np.asarray([1]))
    length = network.nbins
    for conv in network.convs:
        size = conv.kernel.shape[0]
        pads = [*pad_width(length, size, conv.stride, conv.padding)]
        kernel = _float32(conv.kernel.transpose(2, 1, 0))
        step("Conv", kernel, _float32(conv.bias), strides=[conv.stride], pads=pads)
        activate(conv.activation)
        length = conv_output(length, size, conv.stride, conv.padding)
    step("Transpose", perm=[0, 2, 1])  # Keras flattens with the channels last
    step("Flatten")
    for dense in network.trunk:
        step("Gemm", _float32(dense.kernel), _float32(dense.bias))
        activate(dense.activation)
    kernel, bias, scale, shift = map(_float32, network.joined_heads())
    step("Gemm", kernel, bias)
    step("Sigmoid")
    step("Mul", scale)
    step("Add", shift)
    shape = len(network.heads), 2 * network.nboxes
    step("Reshape", np.asarray([-1, *shape]))
    nodes[-1].output[0] = "lines"
    real, info = onnx.TensorProto.FLOAT, helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "QuasarNET",
        [info("spectrum", real, ["n", network.nbins])],
        [info("lines", real, ["n", *shape])],
        constants,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
    model.producer_name = "qnp_xp"
    if said is not None:
        texts = {name: str(value) for name, value in said.texts().items()}
        if said.wave is not None:
            texts[GRID] = json.dumps(said.wave.tolist())
        helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    return model


def run_onnx(path: Path, spectra: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a file with the interpreter that comes with ONNX, slow and independent."""
    import_onnx()
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    (lines,) = ReferenceEvaluator(str(path)).run(None, {"spectrum": spectra})
    return np.asarray(lines)


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round weights to what ONNX stores."""
    return np.ascontiguousarray(values, dtype=np.float32)
