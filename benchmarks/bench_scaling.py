"""Cost from 1 to 100,000 spectra, over threads, and over the rows of a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_pipeline import peak
from common import coadd, header, interleave, median, model, parser, save

from qnp_xp._classify import classify_file
from qnp_xp._options import Options
from qnp_xp._xp.threads import granted_cores

SPECTRA = (1, 3, 10, 30, 100, 300, 1000, 10_000, 100_000)
ROWS = (500, 2000, 20_000)
FILES = 16  # of 500 rows, for threads against processes


def many_files(folder: Path, args: Any) -> list[tuple[int, int, float]]:
    """Classify many files in one process and in several, on the same cores."""
    paths = [folder / f"coadd-{i}.fits" for i in range(FILES)]
    coadd(paths[0], 500)
    for path in paths[1:]:
        shutil.copy(paths[0], path)
    command = [sys.executable, "-m", "qnp_xp", "classify", *map(str, paths), "-q"]
    command += ["--outdir", str(folder), "--overwrite", "--device", args.device]
    command += ["-m", args.model] if args.model else []
    cores = granted_cores()

    def run(threads: int, nproc: int) -> None:
        subprocess.run(
            [*command, "--nproc", str(nproc)],
            env={**os.environ, "OMP_NUM_THREADS": str(threads * nproc)},
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    settings = [(1, 1), (cores, 1), (1, cores)]
    runs = {
        f"{threads} {nproc}": lambda threads=threads, nproc=nproc: run(threads, nproc)
        for threads, nproc in settings
    }
    found = []
    for (threads, nproc), seconds in zip(
        settings, interleave(runs, 3).values(), strict=True
    ):
        rate = 500 * FILES / median(seconds)
        found.append((threads, nproc, rate))
        sys.stdout.write(
            f"classify {FILES} files of 500 rows, {nproc} processes of {threads}"
            f" threads: {median(seconds):.2f} s, {rate:8.0f} spectra/s\n"
        )
    return found


def main() -> None:
    """Measure and report."""
    p = parser(__doc__)
    p.add_argument("--device", default="cpu")
    p.add_argument("--most", type=int, default=SPECTRA[-1], help="spectra at the most")
    args = p.parse_args()
    network = model(args.model, device=args.device)
    facts = header(device=network.device)
    counts = [n for n in SPECTRA if n <= args.most]
    threads = sorted({1, 2, network.threads}) if network.backend.is_host else [1]
    x = np.random.default_rng(0).normal(size=(counts[-1], network.nbins))
    x = x.astype(np.float32)
    predict: dict[int, list[float]] = {}
    for count in threads:
        on = model(args.model, device=args.device, nproc=count)
        predict[count] = []
        for n in counts:
            repeats = args.repeats if n <= 1000 else 1
            run = {"": lambda on=on, n=n: on.predict(x[:n])}
            predict[count].append(median(interleave(run, repeats)[""]))
            rate = n / predict[count][-1]
            sys.stdout.write(
                f"predict  {n:7d} spectra  {count} threads"
                f"  {1e3 * predict[count][-1]:9.2f} ms  {rate:8.0f} spectra/s\n"
            )
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in [n for n in ROWS if n <= args.most]:
            path = Path(folder) / f"coadd-{rows}.fits"
            coadd(path, rows)
            run = {"": lambda path=path: classify_file(path, network, Options())}
            seconds = median(interleave(run, 3)[""])
            memory = peak(path, args)
            path.unlink()
            files.append((rows, seconds, memory))
            sys.stdout.write(
                f"classify {rows:7d} rows     {1e3 * seconds:9.1f} ms"
                f"  {rows / seconds:8.0f} spectra/s  peak memory {memory:.0f} MiB\n"
            )
        processes = many_files(Path(folder), args)
    result = {
        "environment": facts,
        "processes": processes,
        "spectra": counts,
        "predict": predict,
        "files": files,
    }
    draw(save(args, f"scaling-{args.device.replace(':', '')}", result), counts, predict)


def draw(path: Path, counts: list[int], predict: dict[int, list[float]]) -> None:
    """Spectra per second against their number, a line for each number of threads."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    styles: list[dict[str, Any]] = [
        {"color": "#0072B2", "marker": "o"},
        {"color": "#D55E00", "marker": "s"},
        {"color": "#009E73", "marker": "^"},
    ]
    for (count, seconds), style in zip(predict.items(), styles, strict=False):
        rates = [n / value for n, value in zip(counts, seconds, strict=True)]
        label = f"{count} thread{'s' if count > 1 else ''}"
        axes.plot(counts, rates, label=label, **style)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("spectra in one call of predict")
    axes.set_ylabel("spectra per second")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
