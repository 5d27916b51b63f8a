"""Many files on one and on two ranks of MPI: time, and memory over the run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from common import coadd, header, median, model, parser, save

from qnp_xp.batch.jobs import Job, Outcome, RunConfig
from qnp_xp.batch.mpi import mpi_results, serve, world
from qnp_xp.model import QuasarNP


def main() -> None:
    """Measure and report."""
    p = parser(__doc__)
    p.add_argument("--files", type=int, default=200)
    p.add_argument("--rows", type=int, default=500)
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    p.add_argument("--mpiexec", default=str(Path(sys.executable).with_name("mpiexec")))
    p.add_argument("--on-a-rank", type=Path, help=argparse.SUPPRESS)
    p.set_defaults(repeats=3)
    args = p.parse_args()
    if args.on_a_rank:
        run(args.on_a_rank, args.files, args.model)
        return
    facts = header(files=args.files, rows=args.rows)
    found: dict[int, list[dict[str, Any]]] = {ranks: [] for ranks in args.ranks}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        coadd(folder / "coadd-0.fits", args.rows)
        for number in range(1, args.files):
            (folder / f"coadd-{number}.fits").hardlink_to(folder / "coadd-0.fits")
        for _ in range(args.repeats):
            for ranks in args.ranks:
                found[ranks].append(measure(folder, ranks, args))
    result: dict[str, Any] = {"environment": facts, "ranks": {}}
    base = None
    for ranks, rounds in found.items():
        wall = median([one["wall"] for one in rounds])
        whole = median([one["whole"] for one in rounds])
        cpu = median([one["cpu"] for one in rounds])
        base = base or (wall, whole)
        early, late = (max(one[part] for one in rounds) for part in ("early", "late"))
        result["ranks"][ranks] = {"wall": wall, "whole": whole, "rounds": rounds}
        sys.stdout.write(
            f"{ranks} ranks  {wall:7.2f} s  {args.files * args.rows / wall:7.0f}"
            f" spectra/s  {wall / base[0]:.2f} of {args.ranks[0]} ranks' time; with"
            f" start and end {whole:.2f} s, {whole / base[1]:.2f}; {cpu:.2f} s of"
            f" processors, {100 * cpu / wall / ranks:.0f}% of the ranks' time; most"
            f" memory of a rank {early:.0f} MiB in the first quarter, {late:.0f} MiB in"
            " the last\n"
        )
    save(args, "mpi", result)


def measure(folder: Path, ranks: int, args: argparse.Namespace) -> dict[str, Any]:
    """Start ranks of one thread, and read what the root says."""
    command = [args.mpiexec, "-n", str(ranks), sys.executable, __file__]
    command += ["--on-a-rank", str(folder), "--files", str(args.files)]
    command += ["-m", args.model] if args.model else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    )
    whole = time.perf_counter() - start
    found: dict[str, Any] = {"whole": whole, **json.loads(done.stdout)}
    return found


def run(folder: Path, files: int, weights: str | None) -> None:
    """Do what ``qnp-xp classify --mpi`` does, on one of the ranks."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    jobs = [
        Job((folder / f"coadd-{i}.fits",), out / f"qn-{i}.fits") for i in range(files)
    ]
    config = RunConfig(overwrite=True)
    memory: list[float] = []
    threading.Thread(target=watch, args=(memory,), daemon=True).start()
    with world() as ranks:
        shared = ranks.share(lambda: model(weights))
        network: QuasarNP = shared.with_nproc(ranks.threads)
        ranks.comm.barrier()
        start, used = time.perf_counter(), time.process_time()
        if ranks.root:
            for result in mpi_results(ranks, jobs, network, config):
                if result.outcome is not Outcome.DONE:
                    raise RuntimeError(result.message)
        else:
            serve(ranks, network, config)
        wall, used = time.perf_counter() - start, time.process_time() - used
        quarter = max(len(memory) // 4, 1)
        facts = (max(memory[:quarter]), max(memory[-quarter:]), used)
        every = ranks.comm.gather(facts, root=0)
    if ranks.root:
        early, late, seconds = zip(*every, strict=True)
        found = {"wall": wall, "cpu": sum(seconds), "early": max(early)}
        sys.stdout.write(json.dumps({**found, "late": max(late)}))


def watch(memory: list[float]) -> None:
    """Note the resident memory of this process in MiB, for as long as it lives."""
    while True:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
