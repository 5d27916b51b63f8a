"""A coadd from file to table by stage, against `predict` alone, with peak memory."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import coadd, header, interleave, median, model, parser, save

from qnp_xp._classify import classify_file
from qnp_xp._options import Options
from qnp_xp.io.tables import header_cards, identity_cards, write_catalog


def peak(path: Path, args: Any) -> float:
    """Peak memory in MiB of a new process that classifies the file once."""
    command = [sys.executable, __file__, "--only-memory", str(path)]
    command += ["--device", args.device]
    command += ["-m", args.model] if args.model else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure and report."""
    p = parser(__doc__)
    p.add_argument("--rows", type=int, default=500)
    p.add_argument("--device", default="cpu")
    p.add_argument("--only-memory", type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    network = model(args.model, device=args.device)
    options = Options()
    if args.only_memory:
        classify_file(args.only_memory, network, options)
        # Not getrusage: a child begins with the peak of its parent there.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak_kib = int(status.split("VmHWM:")[1].split()[0])
        sys.stdout.write(f"{peak_kib / 1024}\n")
        return
    facts = header(rows=args.rows, device=network.device, threads=network.threads)
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "coadd.fits", Path(folder) / "qn.fits"
        coadd(path, args.rows)
        x = np.random.default_rng(0).normal(size=(args.rows, network.nbins))
        x = x.astype(np.float32)
        results = []

        def classify() -> None:
            results.append(classify_file(path, network, options))

        def write() -> None:
            result = results[-1]
            identity = identity_cards(network, options, "", None, None)
            cards = header_cards(network, identity, result.name, result.arms)
            write_catalog(output, result.table, cards, overwrite=True)

        rivals = {"file to table": classify, "predict": lambda: network.predict(x)}
        seconds = interleave({**rivals, "write": write}, args.repeats)
        memory = peak(path, args)
    whole, alone = median(seconds["file to table"]), median(seconds["predict"])
    # Every round counts but the first.
    stages = {
        name: median([result.seconds[name] for result in results[1:]])
        for name in results[-1].seconds
    }
    stages["write"] = median(seconds["write"])
    for name, value in stages.items():
        rate = args.rows / value
        sys.stdout.write(f"  {name:<20} {1e3 * value:8.1f} ms {rate:10.0f} spectra/s\n")
    sys.stdout.write(
        f"file to decoded table  {1e3 * whole:8.1f} ms {args.rows / whole:10.0f}"
        f" spectra/s\npredict alone          {1e3 * alone:8.1f} ms"
        f" {args.rows / alone:10.0f} spectra/s\nratio {whole / alone:.2f};"
        f" peak memory of a process {memory:.0f} MiB\n"
    )
    result = {
        "environment": facts,
        "stages": stages,
        "whole": whole,
        "predict": alone,
        "ratio": whole / alone,
        "peak_mib": memory,
    }
    draw(save(args, f"pipeline-{args.device.replace(':', '')}", result), stages, whole)


def draw(path: Path, stages: dict[str, float], whole: float) -> None:
    """Bars of the time by stage, and the line of the whole."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
    names = list(stages)[::-1]
    axes.barh(names, [1e3 * stages[name] for name in names], color="#0072B2")
    axes.axvline(1e3 * whole, color="#D55E00", linestyle="--")
    axes.set_xlabel("ms, summed over threads; dashed: file to table, on the wall")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
