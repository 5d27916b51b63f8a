"""Classify the spectra of FILE again and again, and print how long each stage takes.

No file is written.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from .._data import DEMO_COADD, data_file
from .._printing import say
from ._shared import DEVICE, add_compiled, add_dtype, add_model, adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    add("file FILE", "coadd (default: the simulated one)", nargs="?")
    add_model(add)
    add(
        "--spectra SPECTRA",
        "number of spectra in a round (default: %(default)s)",
        type=int,
        default=500,
    )
    add(
        "--repeats REPEATS",
        "number of rounds (default: %(default)s)",
        type=int,
        default=5,
    )
    add(*DEVICE, default="cpu")
    add_dtype(add)
    add_compiled(add)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import numpy as np

    from .._classify import as_model, classify_file
    from .._options import Options
    from .._xp.backend import permitted
    from ..io.open import open_spectra

    device = permitted(args.device)
    model = as_model(args.model, device, args.dtype, compiled=args.compiled)
    path = Path(args.file) if args.file else data_file(DEMO_COADD)
    spectra, repeats = args.spectra, args.repeats
    with open_spectra(path) as source:
        rows = source.n
    if min(spectra, repeats, rows) < 1:
        msg = "a benchmark needs one spectrum or more, and one round or more"
        raise ValueError(msg)
    # Those that the file has, again and again.
    indices = np.arange(spectra, dtype=np.int64) % rows
    x = np.random.default_rng(0).normal(size=(spectra, model.nbins))
    rounds: list[dict[str, float]] = []
    for _ in range(repeats + 1):  # the first does not count
        start = time.perf_counter()
        result = classify_file(path, model, Options(), indices=indices)
        middle = time.perf_counter()
        model.predict(x)
        end = time.perf_counter()
        stages = {f"  {stage}": seconds for stage, seconds in result.seconds.items()}
        if model.backend.is_host:
            del stages["  upload"]  # there is none
        whole = {"file to table": middle - start, "predict() alone": end - middle}
        rounds.append({**stages, **whole})
    say(
        f"{spectra} spectra of {path.name}, {model.weights_name}, {model.device},"
        f" {model.dtype}{', compiled' if model.compiled else ''},"
        f" {model.threads} threads; medians of {repeats}"
    )
    say(f"{'stage':<22} {'ms':>8} {'spectra/s':>11}")
    for name in rounds[0]:
        seconds = statistics.median(found[name] for found in rounds[1:])
        say(f"{name:<22} {1e3 * seconds:8.1f} {spectra / seconds:11.0f}")
    say("Stages are summed over threads that work at the same time.")
    return 0
