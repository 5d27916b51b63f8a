"""How fast this machine classifies: the short form of the scripts in benchmarks/."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from .._classify import classify_file
from .._data import DEMO_COADD, data_file
from .._options import Options
from ..io.open import open_spectra
from ..model import QuasarNP

__all__ = ["benchmark"]


def benchmark(
    model: QuasarNP,
    filename: str | Path | None = None,
    *,
    spectra: int = 500,
    repeats: int = 5,
) -> list[str]:
    """Classify the spectra of a file over and over, and say how long each stage takes.

    Parameters
    ----------
    model
        The network, on its device.
    filename
        Coadd or ``spectra-*`` file; the simulated coadd of the package by default.
    spectra
        How many to classify at a time; those of the file are taken again and again.
    repeats
        Rounds of which the median counts, behind one that does not.

    Returns
    -------
    list of str
        Lines of text.

    Raises
    ------
    FileNotFoundError, SpectraError
        If the file cannot be used.
    ValueError
        If `spectra` or `repeats` is below 1, or the file is empty.
    """
    path = Path(filename) if filename is not None else data_file(DEMO_COADD)
    with open_spectra(path) as source:
        rows = source.n
    if min(spectra, repeats, rows) < 1:
        msg = "a benchmark needs one spectrum or more, and one round or more"
        raise ValueError(msg)
    numbers = np.arange(spectra, dtype=np.int64) % rows
    options = Options()
    stages: list[dict[str, float]] = []
    whole, alone = [], []
    x = np.random.default_rng(0).normal(size=(spectra, model.nbins))
    for turn in range(repeats + 1):
        start = time.perf_counter()
        result = classify_file(path, model, options, indices=numbers)
        middle = time.perf_counter()
        model.predict(x)
        end = time.perf_counter()
        if turn:
            whole.append(middle - start)
            alone.append(end - middle)
            stages.append(result.seconds)
    text = [
        f"{spectra} spectra of {path.name}, {model.weights_name}, {model.device},"
        f" {model.dtype}, {model.threads} threads; medians of {repeats}",
        f"{'stage':<22} {'ms':>8} {'spectra/s':>11}",
    ]
    for stage in stages[0]:
        if stage == "upload" and model.backend.is_host:
            continue  # there is none
        seconds = statistics.median(found[stage] for found in stages)
        text.append(f"  {stage:<20} {1e3 * seconds:8.1f} {spectra / seconds:11.0f}")
    for name, values in (("file to table", whole), ("predict() alone", alone)):
        seconds = statistics.median(values)
        text.append(f"{name:<22} {1e3 * seconds:8.1f} {spectra / seconds:11.0f}")
    text.append("Stages are summed over threads that work at the same time.")
    return text
