"""What ``qnp-xp classify`` says of the files of a run."""

from __future__ import annotations

import collections
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._classify import Result
from ..lines import column_names
from ..model import QuasarNP
from ._console import complain, count, note, say
from .jobs import Outcome

__all__ = ["Report", "verdict"]

_log = logging.getLogger(__name__)
_MOST_ROWS = 30  # of the table of quasars on a terminal


@dataclass(frozen=True)
class Report:
    """Says what came of each file, whoever did it.

    Attributes
    ----------
    model
        The network.
    quiet, verbose
        Say errors only; say times by stage.
    c_thresh
        Confidence above which a line is listed.
    """

    model: QuasarNP
    quiet: bool = False
    verbose: bool = False
    c_thresh: float = 0.5

    def follow(self, outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
        """Say what comes of files as they are done, beside a bar on a terminal.

        Parameters
        ----------
        outcomes
            Of the files.
        total
            How many there are.

        Yields
        ------
        Outcome
        """
        write: Callable[[str], None] = say
        if total > 1 and not self.quiet and sys.stderr.isatty():
            write, outcomes = _with_bar(outcomes, total)
        for outcome in outcomes:
            for level, line in outcome.notes:
                _log.log(level, "%s", line)
            self._say(outcome, write)
            yield outcome

    def _say(self, outcome: Outcome, write: Callable[[str], None]) -> None:
        name = Path(outcome.job.name).name
        if outcome.state == "failed":
            complain(outcome.message)
        elif outcome.state == "skipped":
            note(f"skipped: {outcome.message}")
        elif self.quiet:
            return
        elif outcome.state == "kept":
            write(f"{name}: kept, {outcome.message}")
        else:
            rows = count(outcome.rows, "row")
            quasars = count(outcome.quasars, "quasar")
            write(
                f"{name}: {rows}, {outcome.scored} scored, {quasars},"
                f" {outcome.seconds:.2f} s, {self.model.weights_name}"
                f" -> {outcome.job.output}"
            )
            if self.verbose:
                times = (f"{k} {1e3 * v:.1f} ms" for k, v in outcome.stages.items())
                write("  " + ", ".join(times))
            if outcome.result is not None and sys.stdout.isatty():
                for line in _quasars(outcome.result, self.model, self.c_thresh):
                    write(line)
        sys.stdout.flush()  # a log that is watched, and one of a run that is killed


def verdict(outcomes: Iterable[Outcome], targetids: Iterable[int] | None) -> int:
    """Say what is wrong with a run as a whole.

    Parameters
    ----------
    outcomes
        Of all its files.
    targetids
        The targets that were asked for.

    Returns
    -------
    int
        Exit status: 1 if a file failed, all were skipped, or a target is in no file.
    """
    states: collections.Counter[str] = collections.Counter()
    found: set[int] = set()
    for outcome in outcomes:
        states[outcome.state] += 1
        found |= outcome.targetids
    total = sum(states.values())
    if states["failed"] and total > 1:
        complain(f"{states['failed']} of {total} inputs failed")
    lost = sorted({*(targetids or ())} - found)
    if lost and not states["kept"]:  # whose targets are not known
        several = f"{len(lost)} TARGETIDs are in no file, {lost[0]} first"
        complain(several if lost[1:] else f"TARGETID {lost[0]} is in no file")
        return 1
    return 1 if states["failed"] or states["skipped"] == total else 0


def _with_bar(
    outcomes: Iterable[Outcome], total: int
) -> tuple[Callable[[str], None], Iterable[Outcome]]:
    """How to print a line, and the outcomes, with a bar where one can be drawn."""
    try:
        from tqdm import tqdm  # noqa: PLC0415
    except ImportError:
        return say, outcomes
    return tqdm.write, tqdm(outcomes, total=total, unit="file", leave=False)


def _quasars(result: Result, model: QuasarNP, c_thresh: float) -> list[str]:
    """The quasars of a file, as a table for a terminal."""
    rows = np.flatnonzero(result.table["IS_QSO_QN"] == 1)
    if not rows.size:
        return []
    names = column_names(model.lines)
    text = []
    if result.table.size > 1:  # else it would stand above each of many small files
        text.append(
            f"  {'row':>5} {'TARGETID':>20} {'Z_QN':>7} {'conf':>6}"
            "  lines above the threshold"
        )
    for number in rows[:_MOST_ROWS]:
        row = result.table[number]
        above = [
            f"{name} {row[f'C_{name}']:.2f}"
            for name in names
            if row[f"C_{name}"] > c_thresh
        ]
        text.append(
            f"  {number:>5} {row['TARGETID']:>20} {row['Z_QN']:7.4f}"
            f" {row['Z_QN_CONF']:6.3f}  {', '.join(above)}"
        )
    if rows.size > _MOST_ROWS:
        text.append(f"  ... and {rows.size - _MOST_ROWS} more")
    return text
