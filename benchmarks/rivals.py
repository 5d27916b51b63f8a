"""The same network in other libraries, each in a process of its own."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qnp_xp._network.description import Network

Batches = Sequence[np.ndarray]
Run = Callable[[Batches], list[np.ndarray]]

#: Spectra that a rival may take at once; the fastest is used.
_BATCHES = (8, 16, 32, 64, 128, 480)


def qnp_xp(net: Network, threads: int, *, compiled: bool = True) -> Run:
    """Predict with this package."""
    from common import model  # noqa: PLC0415

    ours = model(None, network=net, nproc=threads, compiled=compiled)
    return lambda batches: [np.concatenate(ours.predict(x), axis=1) for x in batches]


def plain(net: Network, threads: int) -> Run:
    """Predict with this package and numpy alone."""
    return qnp_xp(net, threads, compiled=False)


def _onnx(net: Network) -> bytes:
    """Write the network as ONNX."""
    from qnp_xp._train._onnx import onnx_network  # noqa: PLC0415

    return bytes(onnx_network(net).SerializeToString())


def onnxruntime(net: Network, threads: int) -> Run:
    """Run onnxruntime."""
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(_onnx(net), options, providers)
    return lambda batches: [session.run(None, {"spectrum": x})[0] for x in batches]


def _openvino(net: Network, threads: int, hint: str, precision: str) -> Run:
    """Run OpenVINO: a batch after the other on all threads, or several at once."""
    import openvino as ov  # noqa: PLC0415

    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    network = core.compile_model(
        core.read_model(io.BytesIO(_onnx(net))), "CPU", settings
    )

    def run(batches: Batches) -> list[np.ndarray]:
        found: list[Any] = [None] * len(batches)

        def keep(request: Any, i: int) -> None:
            found[i] = request.get_output_tensor(0).data.copy()

        queue = ov.AsyncInferQueue(network, 1 if hint == "LATENCY" else 0)
        queue.set_callback(keep)
        for i, x in enumerate(batches):
            queue.start_async({0: x}, i)
        queue.wait_all()
        return found

    return run


def openvino(net: Network, threads: int) -> Run:
    """Run OpenVINO for latency."""
    return _openvino(net, threads, "LATENCY", "f32")


def openvino_streams(net: Network, threads: int) -> Run:
    """Run OpenVINO for throughput."""
    return _openvino(net, threads, "THROUGHPUT", "f32")


def openvino_bf16(net: Network, threads: int) -> Run:
    """Run OpenVINO in bfloat16, where the processor has it."""
    return _openvino(net, threads, "THROUGHPUT", "bf16")


def pytorch(net: Network, threads: int, *, compiled: bool = False) -> Run:
    """Run PyTorch."""
    import torch  # noqa: PLC0415
    from common import torch_network  # noqa: PLC0415

    torch.set_num_threads(threads)
    network = torch_network(net)
    if compiled:
        network = torch.compile(network)

    def run(batches: Batches) -> list[np.ndarray]:
        with torch.inference_mode():
            return [network(torch.from_numpy(x)).numpy() for x in batches]

    return run


def pytorch_compiled(net: Network, threads: int) -> Run:
    """Run PyTorch after torch.compile."""
    return pytorch(net, threads, compiled=True)


def jax(net: Network, threads: int) -> Run:
    """Run JAX, whose threads are the cores that the process may use."""
    del threads
    import jax as library  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    convs = [
        (jnp.asarray(c.kernel, "float32"), jnp.asarray(c.bias, "float32"), c)
        for c in net.convs
    ]
    trunk = [
        (jnp.asarray(d.kernel, "float32"), jnp.asarray(d.bias, "float32"))
        for d in net.trunk
    ]
    kernel, bias, scale, shift = (jnp.asarray(x, "float32") for x in net.joined_heads())

    @library.jit
    def forward(x: Any) -> Any:
        x = x[:, :, None]
        for weights, add, conv in convs:
            x = library.lax.conv_general_dilated(
                x, weights, (conv.stride,), conv.padding.upper(),
                dimension_numbers=("NWC", "WIO", "NWC"),
            )  # fmt: skip
            x = library.nn.relu(x + add)
        x = x.reshape(x.shape[0], -1)
        for weights, add in trunk:
            x = library.nn.relu(x @ weights + add)
        return library.nn.sigmoid(x @ kernel + bias) * scale + shift

    return lambda batches: [np.asarray(forward(x)) for x in batches]


def keras(net: Network, threads: int) -> Run:
    """Run Keras 3 on PyTorch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import torch  # noqa: PLC0415
    from qnp_xp._train._keras import keras_network  # noqa: PLC0415

    torch.set_num_threads(threads)
    network = keras_network(net)

    def run(batches: Batches) -> list[np.ndarray]:
        return [
            np.concatenate(
                network.predict(x[:, :, None], batch_size=x.shape[0], verbose=0), axis=1
            )
            for x in batches
        ]

    return run


#: Each with the package that its version is of.
RIVALS: dict[str, tuple[Callable[[Network, int], Run], str]] = {
    "qnp_xp": (qnp_xp, "qnp-xp"),
    "qnp_xp, numpy alone": (plain, "numpy"),
    "OpenVINO, latency": (openvino, "openvino"),
    "OpenVINO, streams": (openvino_streams, "openvino"),
    "onnxruntime": (onnxruntime, "onnxruntime"),
    "PyTorch": (pytorch, "torch"),
    "PyTorch, compiled": (pytorch_compiled, "torch"),
    "JAX": (jax, "jax"),
    "Keras": (keras, "keras"),
    "OpenVINO in bfloat16": (openvino_bf16, "openvino"),
}


def serve(name: str, network: Network, threads: int, spectra: Path) -> None:
    """Build a rival and run it each time a line comes; write seconds as JSON.

    The first line written has its version, its best batch, and its outputs' file.
    """
    build, package = RIVALS[name]
    x = np.load(spectra)
    try:
        run = build(network, threads)
    except ImportError as err:
        json.dump({"missing": str(err)}, sys.stdout)
        return

    def measure(batch: int) -> float:
        batches = [
            np.ascontiguousarray(x[i : i + batch]) for i in range(0, x.shape[0], batch)
        ]
        start = time.perf_counter()
        run(batches)
        return time.perf_counter() - start

    sizes = [b for b in _BATCHES if b <= x.shape[0]]
    best: dict[int, float] = {}
    for size in sizes:
        measure(size)
        best[size] = min(measure(size) for _ in range(3))
    batch = min(best, key=lambda size: best[size])
    outputs = spectra.with_name(f"{build.__name__}.npy")
    np.save(outputs, np.concatenate([y.reshape(len(y), -1) for y in run([x])]))
    version = importlib.metadata.version(package)
    facts = {"version": version, "batch": batch, "outputs": str(outputs)}
    sys.stdout.write(f"{json.dumps(facts)}\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(f"{measure(batch)}\n")
        sys.stdout.flush()
