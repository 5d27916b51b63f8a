"""`predict` against onnxruntime, PyTorch and Keras with the same weights."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from common import (
    FLOP_PER_SPECTRUM,
    header,
    interleave,
    median,
    model,
    pads,
    parser,
    save,
    torch_network,
)

from qnp_xp._network.description import Network

Run = Callable[[np.ndarray], np.ndarray]

_PRODUCTS = 50


def onnxruntime(net: Network, threads: int) -> Run:
    """Write the network as ONNX."""
    import onnx  # noqa: PLC0415
    import onnxruntime as ort  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    nodes: list[Any] = []
    constants: list[Any] = []
    current = "x"

    def step(kind: str, *arrays: np.ndarray, **attributes: Any) -> None:
        nonlocal current
        names = []
        for array in arrays:
            names.append(f"w{len(constants)}")
            contiguous = np.ascontiguousarray(array, dtype=np.float32)
            constants.append(numpy_helper.from_array(contiguous, names[-1]))
        output = f"t{len(nodes)}"
        node = helper.make_node(kind, [current, *names], [output], **attributes)
        nodes.append(node)
        current = output

    for conv, width in zip(net.convs, pads(net), strict=True):
        kernel = conv.kernel.transpose(2, 1, 0)
        step("Conv", kernel, conv.bias, strides=[conv.stride], pads=[*width])
        step("Relu")
    step("Transpose", perm=[0, 2, 1])
    step("Flatten")
    for dense in net.trunk:
        step("Gemm", dense.kernel, dense.bias)
        step("Relu")
    kernel, bias, scale, shift = net.joined_heads()
    step("Gemm", kernel, bias)
    step("Sigmoid")
    step("Mul", scale)
    step("Add", shift)
    graph = helper.make_graph(
        nodes,
        "quasarnet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, net.nbins])],
        [helper.make_tensor_value_info(current, TensorProto.FLOAT, ["n", None])],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    file = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(file)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(file.SerializeToString(), options, providers)
    return lambda x: session.run(None, {"x": x.reshape(-1, 1, net.nbins)})[0]


def pytorch(net: Network, threads: int) -> Run:
    """Make the network in PyTorch, in batches of 64, its fastest."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    network = torch_network(net)

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batches = torch.from_numpy(x).split(64)
            return np.concatenate([network(batch).numpy() for batch in batches])

    return run


def keras(net: Network, threads: int) -> Run:
    """Make the network in Keras 3 on PyTorch; the threads are PyTorch's."""
    del threads
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as k  # noqa: PLC0415

    y = start = k.Input((net.nbins, 1))
    for conv in net.convs:
        size, _, filters = conv.kernel.shape
        layer = k.layers.Conv1D(
            filters, size, conv.stride, conv.padding, activation="relu"
        )
        y = layer(y)
        layer.set_weights([conv.kernel, conv.bias])
    y = k.layers.Flatten()(y)
    for dense in net.trunk:
        layer = k.layers.Dense(dense.bias.size, activation="relu")
        y = layer(y)
        layer.set_weights([dense.kernel, dense.bias])
    kernel, bias, scale, shift = net.joined_heads()
    layer = k.layers.Dense(bias.size, activation="sigmoid")
    y = layer(y)
    layer.set_weights([kernel, bias])
    built = k.Model(start, k.layers.Rescaling(scale.tolist(), shift.tolist())(y))
    return lambda x: built.predict(x[:, :, None], batch_size=64, verbose=0)


def main() -> None:
    """Measure and report."""
    p = parser(__doc__)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--spectra", type=int, default=480)
    args = p.parse_args()
    ours = model(args.model, nproc=args.threads)
    net = ours.network
    x = np.random.default_rng(1).normal(size=(args.spectra, net.nbins))
    x = x.astype(np.float32)
    rivals: dict[str, Run] = {
        "qnp_xp": lambda x: np.concatenate(ours.predict(x), axis=1)
    }
    for build in (onnxruntime, pytorch, keras):
        try:
            rivals[build.__name__] = build(net, args.threads)
        except ImportError as err:
            sys.stdout.write(f"# {build.__name__} left out: {err}\n")
    facts = header(threads=args.threads, spectra=args.spectra)
    expected = rivals["qnp_xp"](x)
    for name, run in rivals.items():
        difference = float(np.abs(run(x) - expected).max())
        sys.stdout.write(f"# {name} differs from qnp_xp by {difference:.1e}\n")
        if difference > 1e-5:
            msg = f"{name} computes another network"
            raise SystemExit(msg)
    # Products of the shape that a direct convolution of this network needs.
    rng = np.random.default_rng(2)
    a, b = (rng.normal(size=s).astype(np.float32) for s in ((2048, 200), (200, 100)))
    c = np.empty((2048, 100), np.float32)
    runs: dict[str, Callable[[], Any]] = {
        name: lambda run=run: run(x)
        for name, run in rivals.items()  # type: ignore[misc]
    }
    runs["sgemm"] = lambda: limited(args.threads, lambda: products(a, b, c))
    seconds = {name: median(v) for name, v in interleave(runs, args.repeats).items()}
    flop = 2 * _PRODUCTS * a.size * b.shape[1]
    sgemm = flop / seconds.pop("sgemm")
    rates = {name: args.spectra / value for name, value in seconds.items()}
    for name, rate in rates.items():
        ratio = rates["qnp_xp"] / rate
        sys.stdout.write(
            f"{name:<12} {rate:8.0f} spectra/s   qnp_xp is {ratio:.2f} x\n"
        )
    direct = FLOP_PER_SPECTRUM * rates["qnp_xp"] / sgemm if args.model is None else None
    if direct:
        sys.stdout.write(
            f"sgemm        {sgemm / 1e9:8.0f} GFLOP/s; qnp_xp's spectra/s times 35.2"
            f" MFLOP are {direct:.2f} of it\n"
        )
    result = {"environment": facts, "rates": rates, "sgemm": sgemm, "of_sgemm": direct}
    draw(save(args, f"predict-{args.threads}-threads", result), rates, sgemm, facts)


def products(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """Products into memory that is there already, so that only they are timed."""
    for _ in range(_PRODUCTS):
        np.matmul(a, b, out=c)


def limited(threads: int, run: Callable[[], Any]) -> Any:
    """Run with BLAS on so many threads."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    with threadpool_limits(threads, "blas"):
        return run()


def draw(
    path: Any, rates: dict[str, float], sgemm: float, facts: dict[str, Any]
) -> None:
    """Bars of spectra per second, and the line that direct convolution cannot pass."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
    names = list(rates)[::-1]
    colours = ["#0072B2" if name == "qnp_xp" else "#999999" for name in names]
    axes.barh(names, [rates[name] for name in names], color=colours)
    limit = sgemm / FLOP_PER_SPECTRUM
    axes.axvline(limit, color="#D55E00", linestyle="--")
    axes.text(
        limit, -0.42, " direct convolution at the rate of sgemm ", color="#D55E00",
        fontsize=8, ha="right" if limit > 0.6 * max(rates.values()) else "left",
    )  # fmt: skip
    threads = facts["threads"]
    axes.set_xlabel(f"spectra per second, {threads} thread{'s' if threads > 1 else ''}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
