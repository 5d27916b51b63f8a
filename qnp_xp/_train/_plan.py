"""What a training needs, read and checked before it begins."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._classify import as_model
from .._data import EMBEDDED_NETWORK, data_file
from .._options import Options
from ..grids import wave
from ..io._files import ensure_name, ensure_writable
from ..io._truth import open_truth
from ..lines import LINES, LINES_BAL, rest_wavelengths
from ..model import QuasarNP
from ._examples import Examples, Files, hold_out, names_of, read_examples
from ._keras import SUFFIXES, import_keras
from ._settings import Goal, Settings

#: What names the network that ships with the package, where no file has that name.
_BUNDLED = "bundled"


@dataclass(frozen=True)
class Plan:
    """What is trained, from what and on what."""

    output: Path
    overwrite: bool
    goal: Goal
    settings: Settings
    #: The network that training begins with, if it is not random.
    start: QuasarNP | None
    examples: Examples
    held: Examples
    #: Why spectra are left out, and how many.
    left_out: dict[str, int]

    @property
    def steps(self) -> int:
        """Number of batches."""
        return self.settings.count_steps(self.examples.n, self.start is not None)

    def describe(self) -> list[str]:
        """Say it in lines."""
        begin = "random weights" if self.start is None else self.start.weights_name
        left = [f"{number} {why}" for why, number in self.left_out.items() if number]
        return [
            f"begins with: {begin}",
            f"trained on:  {self.examples.describe()}",
            f"held out:    {self.held.describe()}",
            f"left out:    {', '.join(left) or 'nothing'}",
            f"batches:     {self.steps} of {self.settings.batch_size} spectra",
        ]


def make_plan(
    data: Iterable[tuple[Files, Any]],
    output: str | Path,
    *,
    settings: Settings,
    options: Options,
    start: str | Path | None,
    negatives: Files,
    lines: Sequence[str] | None,
    lines_bal: Sequence[str] | None,
    overwrite: bool,
    dry_run: bool,
) -> Plan:
    """Check and read what `qnp_xp.train` is given."""
    pairs = [(files, open_truth(truth)) for files, truth in data]
    path = _ensure_output(output, overwrite, [x for x, _ in pairs], negatives, start)
    if not dry_run:
        _ensure_installed()
    model = None if start is None else _start(start, lines, lines_bal)
    goal = _goal(model, lines, lines_bal)
    found = read_examples(pairs, negatives, goal.wave, options)
    held = hold_out(found, settings.held, settings.seed)
    return Plan(
        path,
        overwrite,
        goal,
        settings,
        model,
        examples=found.take(~held),
        held=found.take(held),
        left_out=found.left_out,
    )


def _ensure_output(
    output: str | Path,
    overwrite: bool,
    data: Iterable[Files],
    negatives: Files,
    start: str | Path | None,
) -> Path:
    """Refuse an output that cannot be written, or that is an input."""
    ensure_name(output, "output")
    path = Path(output)
    if path.suffix not in SUFFIXES:
        msg = f"{path}: weights are written to {' or '.join(SUFFIXES)}"
        raise ValueError(msg)
    inputs = [data_file(EMBEDDED_NETWORK)]
    inputs += map(Path, itertools.chain(*map(names_of, [*data, negatives])))
    if start is not None:
        inputs.append(Path(start))
    ensure_writable(path, overwrite, inputs)
    return path


def _ensure_installed() -> None:
    """Refuse early, and without the seconds that importing them takes."""
    if not all(map(importlib.util.find_spec, ("keras", "torch"))):
        import_keras()


def _start(
    start: str | Path, lines: Sequence[str] | None, lines_bal: Sequence[str] | None
) -> QuasarNP:
    """Load the network that training begins with."""
    ensure_name(start, "start")
    path = Path(start)
    if str(start) == _BUNDLED and not path.exists():
        path = data_file(EMBEDDED_NETWORK)
    return as_model(path, lines=lines, lines_bal=lines_bal)


def _goal(
    model: QuasarNP | None, lines: Sequence[str] | None, lines_bal: Sequence[str] | None
) -> Goal:
    """Say which grid and lines the network is to have."""
    if model is not None:
        return Goal(model.wave, model.lines, model.lines_bal)
    goal = Goal(
        np.asarray(wave),
        tuple(LINES if lines is None else lines),
        tuple(LINES_BAL if lines is None and lines_bal is None else lines_bal or ()),
    )
    rest_wavelengths([*goal.lines, *goal.lines_bal])
    if not goal.lines:
        msg = "lines are empty, and quasars are found by emission lines"
        raise ValueError(msg)
    return goal
