"""Predict under each setting of OMP_NUM_THREADS: the rate, and whether bits differ.

Each setting has a process of its own, which reads it when it starts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
from common import header, median, model, parser

_SETTINGS = tuple(itertools.product((None, 1, 2, 4), (1, 2)))


def _measure(weights: str | None, nproc: int, rows: int) -> None:
    """Write seconds, seconds of processors, and a digest of the outputs."""
    network = model(weights, nproc=nproc, compiled=False)  # which needs no BLAS
    x = np.random.default_rng(0).normal(size=(rows, network.nbins)).astype(np.float32)
    network.predict(x)
    start, begun = time.perf_counter(), time.process_time()
    outputs = np.stack(network.predict(x))
    seconds, processor = time.perf_counter() - start, time.process_time() - begun
    digest = hashlib.sha256(outputs.tobytes()).hexdigest()[:12]
    json.dump([seconds, processor, digest], sys.stdout)


def _run(weights: str | None, rows: int, setting: tuple[int | None, int]) -> str:
    """Measure a setting in a process of its own."""
    threads, nproc = setting
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, __file__, "--measure", str(nproc), "--rows", str(rows)]
    command += ["-m", weights] if weights else []
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def main() -> None:
    """Print the rate of each setting, and the ratio of the worst to the best."""
    p = parser(__doc__)
    p.add_argument("--measure", type=int, metavar="NPROC", help="one setting, here")
    p.add_argument("--rows", type=int, default=1000, help="spectra of one round")
    args = p.parse_args()
    if args.measure:
        _measure(args.model, args.measure, args.rows)
        return
    header(rows=args.rows)
    seconds, processor = defaultdict(list), defaultdict(list)
    digests = set()
    for _, setting in itertools.product(range(args.repeats), _SETTINGS):
        found = json.loads(_run(args.model, args.rows, setting))
        seconds[setting].append(found[0])
        processor[setting].append(found[1])
        digests.add(found[2])
    for setting in _SETTINGS:
        threads, nproc = setting
        rate = args.rows / median(seconds[setting])
        own = args.rows / median(processor[setting])
        sys.stdout.write(
            f"OMP_NUM_THREADS={threads or 'unset':<6} nproc={nproc}  {rate:7,.0f}"
            f" spectra/s  {own:7,.0f} a second of processor\n"
        )
    for name, taken in (("spectra/s", seconds), ("a second of processor", processor)):
        for nproc in (1, 2):
            times = [median(taken[s]) for s in _SETTINGS if s[1] == nproc]
            ratio = min(times) / max(times)
            sys.stdout.write(f"nproc={nproc}, {name}: lowest to highest {ratio:.2f}\n")
    sys.stdout.write(f"{len(digests)} different results\n")


if __name__ == "__main__":
    main()
