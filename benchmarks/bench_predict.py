"""`predict` against the same network in other libraries, on the same cores.

Each has a process of its own that may run on those cores alone, and its best number of
spectra at once. They take turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from common import FLOP_PER_SPECTRUM, header, median, network, parser, save
from rivals import RIVALS, serve

_APART = "OpenVINO in bfloat16"  # not the same accuracy
_PAUSE = 0.1  # seconds; threads of a rival may spin for a while


class Rival:
    """A process that computes when it is told to."""

    def __init__(self, name: str, cores: list[int], spectra: Path) -> None:
        command = [sys.executable, __file__, "--rival", name, "--spectra", str(spectra)]
        command += ["--threads", str(len(cores))]
        numbers = {"OMP_NUM_THREADS": str(len(cores))}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **numbers}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)
        self.facts: dict[str, Any] = json.loads(self._read() or '{"missing": "failed"}')

    def _read(self) -> str:
        return self._output.readline()

    def seconds(self) -> float:
        """Compute all spectra once."""
        time.sleep(_PAUSE)
        self._input.write("\n")
        self._input.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process, also where its library hangs at the end."""
        self._process.kill()
        self._process.communicate()


def _products(cores: list[int], repeats: int) -> float:
    """Rate of products of the shape that a direct convolution of this network needs."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    rng = np.random.default_rng(2)
    a, b = (rng.normal(size=s).astype(np.float32) for s in ((2048, 200), (200, 100)))
    c = np.empty((2048, 100), np.float32)
    seconds = []
    with threadpool_limits(len(cores), "blas"):
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(50):
                np.matmul(a, b, out=c)
            seconds.append(time.perf_counter() - start)
    return 50 * 2 * a.size * b.shape[1] / median(seconds)


def main() -> None:
    """Measure and report."""
    p = parser(__doc__)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--spectra", default="480", help="how many")
    p.add_argument("--rival", help="run one of them in this process")
    p.add_argument("--only", nargs="+", metavar="RIVAL", help="leave out the others")
    args = p.parse_args()
    if args.rival:
        serve(args.rival, network(), args.threads, Path(args.spectra))
        return
    cores = sorted(os.sched_getaffinity(0))[: args.threads]
    os.sched_setaffinity(0, cores)
    facts = header(threads=args.threads, spectra=args.spectra)
    n = int(args.spectra)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as open_:
        spectra = Path(folder) / "spectra.npy"
        x = np.random.default_rng(1).normal(size=(n, network().nbins))
        np.save(spectra, x.astype(np.float32))
        rivals: dict[str, Rival] = {}
        for name in args.only or RIVALS:
            rival = Rival(name, cores, spectra)
            open_.callback(rival.close)
            if "missing" in rival.facts:
                sys.stdout.write(f"# {name} left out: {rival.facts['missing']}\n")
                continue
            rivals[name] = rival
            _agree(name, rival, next(iter(rivals.values())))
        for _ in range(args.repeats):
            for name, rival in rivals.items():
                seconds.setdefault(name, []).append(rival.seconds())
        found = {name: rival.facts for name, rival in rivals.items()}
    sgemm = _products(cores, args.repeats)
    rates = {name: n / median(values) for name, values in seconds.items()}
    first = next(iter(rates.values()))
    for name, rate in rates.items():
        version, batch = found[name]["version"], found[name]["batch"]
        sys.stdout.write(
            f"{name:<22} {version:<28} {batch:4d} at once {rate:8.0f} spectra/s"
            f"   qnp_xp is {first / rate:.2f} x\n"
        )
    share = FLOP_PER_SPECTRUM * first / sgemm
    sys.stdout.write(
        f"sgemm {sgemm / 1e9:.0f} GFLOP/s; qnp_xp's spectra/s times 35.2 MFLOP are"
        f" {share:.2f} of it\n"
    )
    result = {"environment": facts, "rates": rates, "sgemm": sgemm, "of_sgemm": share}
    result["rivals"] = found
    draw(save(args, f"predict-{args.threads}-threads", result), rates, sgemm, facts)


def _agree(name: str, rival: Rival, first: Rival) -> None:
    """Refuse a rival that computes another network."""
    found, expected = (np.load(each.facts["outputs"]) for each in (rival, first))
    difference = float(np.abs(found - expected).max())
    sys.stdout.write(f"# {name} differs from qnp_xp by {difference:.1e}\n")
    if difference > 1e-5 and name != _APART:
        msg = f"{name} computes another network"
        raise SystemExit(msg)


def draw(
    path: Path, rates: dict[str, float], sgemm: float, facts: dict[str, Any]
) -> None:
    """Bars of spectra per second, and the line that direct convolution cannot pass."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    names = [name for name in rates if name != _APART][::-1]
    colours = ["#0072B2" if name.startswith("qnp") else "#999999" for name in names]
    axes.barh(names, [rates[name] for name in names], color=colours)
    limit = sgemm / FLOP_PER_SPECTRUM
    label = "direct convolution at the rate of sgemm"
    axes.axvline(limit, color="#D55E00", linestyle="--", label=label)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.14), frameon=False)
    threads = facts["threads"]
    axes.set_xlabel(f"spectra per second, {threads} thread{'s' if threads > 1 else ''}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
