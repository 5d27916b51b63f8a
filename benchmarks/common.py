"""What the benchmarks share: a network, a coadd, timing and reporting."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

from qnp_xp import load_model
from qnp_xp._data import DEMO_COADD, EMBEDDED_NETWORK, data_file
from qnp_xp._network.description import Conv, Dense, Head, Network
from qnp_xp._xp.threads import granted_cores
from qnp_xp.layers import conv_output, pad_width
from qnp_xp.model import QuasarNP

_PAUSE = 0.25  # seconds; Intel's OpenMP spins for 0.2

#: Multiply-adds of the network below for one spectrum, times two.
FLOP_PER_SPECTRUM = 35.2e6


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that all scripts take."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument("-m", "--model", help="weights file; a random 4 x 100 by default")
    p.add_argument("--out", type=Path, default=Path(), help="folder for JSON and PNG")
    p.add_argument("--repeats", type=int, default=15, help="rounds of each rival")
    return p


def network(filters: int = 100, seed: int = 1) -> Network:
    """Make a QuasarNET of DESI's size with random weights of a sensible scale."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))

    convs, length, channels = [], 443, 1
    for number in range(4):
        kernel = weights(10, channels, filters)
        bias = 0.1 * rng.normal(size=filters)
        convs.append(Conv(f"conv_{number + 1}", kernel, bias, 2, "valid", "relu"))
        length, channels = conv_output(length, 10, 2, "valid"), filters
    trunk = Dense(
        "fc_common", weights(length * channels, filters), np.zeros(filters), "relu"
    )
    heads = tuple(
        Head(
            Dense(f"fc_box_{line}", weights(filters, 13), np.zeros(13), "sigmoid"),
            Dense(f"fc_offset_{line}", weights(filters, 13), np.zeros(13), "sigmoid"),
            1.2,
            -0.1,
        )
        for line in range(7)
    )
    return Network(443, tuple(convs), (trunk,), heads, 0)


def pads(net: Network) -> list[tuple[int, int]]:
    """Zeros before and after the input of each convolution."""
    widths, length = [], net.nbins
    for conv in net.convs:
        shape = (length, conv.kernel.shape[0], conv.stride, conv.padding)
        widths.append(pad_width(*shape))
        length = conv_output(*shape)
    return widths


def torch_network(net: Network, device: str = "cpu") -> Callable[[Any], Any]:
    """Make the network in PyTorch, for a tensor of spectra."""
    import torch  # noqa: PLC0415
    from torch.nn import functional  # noqa: PLC0415

    def tensor(x: np.ndarray) -> Any:
        return torch.tensor(np.ascontiguousarray(x, dtype=np.float32), device=device)

    convs = [
        (tensor(conv.kernel.transpose(2, 1, 0)), tensor(conv.bias), conv.stride, width)
        for conv, width in zip(net.convs, pads(net), strict=True)
    ]
    trunk = [(tensor(dense.kernel.T), tensor(dense.bias)) for dense in net.trunk]
    last, *rest = net.joined_heads()
    heads, offset, scale, shift = map(tensor, (last.T, *rest))

    def run(x: Any) -> Any:
        y = x[:, None, :]
        for kernel, bias, stride, width in convs:
            padded = functional.pad(y, width) if any(width) else y
            y = functional.relu_(functional.conv1d(padded, kernel, bias, stride))
        y = y.transpose(1, 2).flatten(1)
        for kernel, bias in trunk:
            y = functional.relu_(functional.linear(y, kernel, bias))
        return torch.sigmoid(functional.linear(y, heads, offset)) * scale + shift

    return run


def model(weights: str | None, **changes: Any) -> QuasarNP:
    """Load the model to measure, from a file or the random one."""
    device = changes.pop("device", "cpu")
    loaded = load_model(weights or data_file(EMBEDDED_NETWORK), device)
    if weights is None:
        changes["network"] = network()
    return loaded.__replace__(**changes)


def coadd(path: Path, rows: int) -> None:
    """Write a coadd of the demo's spectra, repeated."""
    with (
        fitsio.FITS(str(data_file(DEMO_COADD))) as source,
        fitsio.FITS(str(path), "rw", clobber=True) as f,
    ):
        fibermap = source["FIBERMAP"].read()
        take = np.arange(rows) % len(fibermap)
        fibermap = fibermap[take]
        fibermap["TARGETID"] += np.arange(rows)
        f.write(fibermap, extname="FIBERMAP")
        for arm in "BRZ":
            wavelength = source[f"{arm}_WAVELENGTH"].read()
            f.write(wavelength, extname=f"{arm}_WAVELENGTH")
            for name in ("FLUX", "IVAR"):
                f.write(source[f"{arm}_{name}"].read()[take], extname=f"{arm}_{name}")


def interleave(
    rivals: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
    """Time each rival in turn, round after round.

    Thread pools go on spinning for a while after their work, on the cores of the next
    rival: each gets a pause before its turn, and one run that does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repeats):
        for name, run in rivals.items():
            time.sleep(_PAUSE)
            run()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median(values: list[float]) -> float:
    """Return the middle one."""
    return statistics.median(values)


def header(**more: Any) -> dict[str, Any]:
    """Print and return what the figures hold for."""
    facts: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "cores": granted_cores(),
        **more,
        **versions(),
        "blas": _blas(),
    }
    if "OPENBLAS_CORETYPE" in os.environ:
        facts["OPENBLAS_CORETYPE"] = os.environ["OPENBLAS_CORETYPE"]
    for name, value in facts.items():
        sys.stdout.write(f"# {name}: {value}\n")
    return facts


def versions() -> dict[str, str]:
    """Find the versions of Python and of the packages that figures depend on."""
    names = ["qnp-xp", "numpy", "array-api-compat", "h5py", "fitsio", "threadpoolctl"]
    names += ["cupy", *(f"cupy-cuda{version}x" for version in (11, 12, 13))]
    names += ["onnxruntime", "torch", "keras"]
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def processor() -> str:
    """Name the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _blas() -> str:
    try:
        from threadpoolctl import threadpool_info  # noqa: PLC0415
    except ImportError:
        return "unknown (no threadpoolctl)"
    libraries = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    return ", ".join(
        f"{lib['internal_api']} {lib['version']} {lib.get('architecture', '')}".strip()
        for lib in libraries
    )


def save(args: argparse.Namespace, name: str, result: dict[str, Any]) -> Path:
    """Write the figures as JSON; return the name for a picture beside it."""
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    (args.out / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    return Path(args.out / f"{name}.png")
