"""What came of a run over many files."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..io._files import atomic_write
from ..io.tables import Card, write_table
from ..model import QuasarNP
from .jobs import Outcome

__all__ = ["STATES", "Summary", "summary_paths"]

#: What can become of an input, and what a summary calls it.
STATES = {
    "done": "classified",
    "kept": "kept",
    "skipped": "skipped",
    "failed": "failed",
}
_STAGES = ("read", "upload", "rebin", "normalise", "predict", "decode")


def summary_paths(name: str | Path) -> tuple[Path, Path]:
    """The files of a summary.

    Parameters
    ----------
    name
        Their name, with or without the ending ``.fits``.

    Returns
    -------
    (pathlib.Path, pathlib.Path)
        The table and the text.
    """
    path = Path(name)
    base = path.name.removesuffix(".fits")
    return path.with_name(f"{base}.fits"), path.with_name(f"{base}.txt")


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Attributes
    ----------
    outcomes
        Of all its jobs.
    model
        The network.
    wall
        Seconds that it took.
    workers
        Processes that did it.
    """

    outcomes: Sequence[Outcome]
    model: QuasarNP
    wall: float
    workers: int

    def write(self, name: str | Path) -> None:
        """Write it as a table and as a text.

        Parameters
        ----------
        name
            As for `summary_paths`.
        """
        table, text = summary_paths(name)
        write_table(table, "FILES", self.table(), self.cards())
        atomic_write(text, "\n".join([*self.lines(), ""]).encode())

    @property
    def counts(self) -> dict[str, int]:
        """Inputs by state."""
        found = collections.Counter(outcome.state for outcome in self.outcomes)
        return {state: found[state] for state in STATES}

    @property
    def rows(self) -> int:
        """Rows of the inputs that are done."""
        return sum(outcome.rows for outcome in self.outcomes)

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage, summed over threads, processes and files."""
        return {
            stage: sum(outcome.stages.get(stage, 0.0) for outcome in self.outcomes)
            for stage in _STAGES
        }

    def table(self) -> NDArray[Any]:
        """A row for each input, by name.

        Returns
        -------
        numpy.ndarray
            Structured. Numbers of rows are -1 where the input is not done in this run.
        """
        found = sorted(self.outcomes, key=lambda outcome: outcome.job.name)
        texts = {
            "NAME": [_ascii(outcome.job.name) for outcome in found],
            "OUTPUT": [_ascii(str(outcome.job.output)) for outcome in found],
            "STATE": [_ascii(outcome.state) for outcome in found],
            "MESSAGE": [_ascii(outcome.message) for outcome in found],
        }
        # FITS has no strings of no width.
        width = {name: max([1, *map(len, column)]) for name, column in texts.items()}
        columns = [(name, f"S{width[name]}") for name in ("NAME", "OUTPUT", "STATE")]
        columns += [(name, "i8") for name in ("ROWS", "SCORED", "QUASARS")]
        columns += [("SECONDS", "f8")]
        columns += [(f"T_{stage.upper()}", "f8") for stage in _STAGES]
        columns += [("MESSAGE", f"S{width['MESSAGE']}")]
        table = np.zeros(len(found), dtype=columns)
        for name, column in texts.items():
            table[name] = column
        for row, outcome in zip(table, found, strict=True):
            done = outcome.state == "done"
            row["ROWS"] = outcome.rows if done else -1
            row["SCORED"] = outcome.scored if done else -1
            row["QUASARS"] = outcome.quasars if done else -1
            row["SECONDS"] = outcome.seconds
            for stage in _STAGES:
                row[f"T_{stage.upper()}"] = outcome.stages.get(stage, 0.0)
        return table

    def cards(self) -> list[Card]:
        """What holds for all inputs, for a header.

        Returns
        -------
        list of (keyword, value, comment)
        """
        cards: list[Card] = [
            ("QNFILES", len(self.outcomes), "inputs"),
            ("QNDONE", self.counts["done"], "of these, classified in this run"),
            ("QNKEPT", self.counts["kept"], "in order since an earlier run"),
            ("QNSKIP", self.counts["skipped"], "hold no spectra"),
            ("QNFAIL", self.counts["failed"], "failed"),
            ("QNROWS", self.rows, "rows classified in this run"),
            ("QNSCORED", sum(o.scored for o in self.outcomes), "of these, scored"),
            ("QNQUASAR", sum(o.quasars for o in self.outcomes), "of these, quasars"),
            ("QNWALL", self.wall, "[s] time of the run"),
            ("QNRATE", _rate(self.rows, self.wall), "rows per second of the run"),
            ("QNRANKS", self.workers, "processes"),
        ]
        for stage, seconds in self.stages.items():
            comment = f"rows per second of {stage}, in one thread"
            cards.append(
                (f"QR_{stage[:5].upper()}", _rate(self.rows, seconds), comment)
            )
        return [
            *cards,
            ("QNMODEL", self.model.weights_name, "weights file"),
            ("QNSHA256", self.model.weights_sha256, "SHA-256 of the weights file"),
            ("DEPNAM00", "qnp_xp", "package"),
            ("DEPVER00", __version__, "its version"),
        ]

    def lines(self) -> list[str]:
        """The same in words, with the reason of each input that is not done.

        Returns
        -------
        list of str
        """
        counts = ", ".join(f"{n} {STATES[state]}" for state, n in self.counts.items())
        scored = sum(outcome.scored for outcome in self.outcomes)
        quasars = sum(outcome.quasars for outcome in self.outcomes)
        lines = [
            f"qnp_xp {__version__}, {self.model.weights_name}"
            f" (sha256 {self.model.weights_sha256})",
            f"{len(self.outcomes)} inputs: {counts}",
            f"{self.rows} rows, {scored} scored, {quasars} quasars",
            f"{self.wall:.1f} s in {self.workers} processes,"
            f" {_rate(self.rows, self.wall):.0f} rows/s",
            "",
            f"{'stage':<10} {'seconds':>10} {'rows/s in one thread':>22}",
        ]
        for stage, seconds in self.stages.items():
            rate = _rate(self.rows, seconds)
            lines.append(f"{stage:<10} {seconds:>10.2f} {rate:>22.0f}")
        for state in ("failed", "skipped"):
            found = [o.message for o in self.outcomes if o.state == state]
            lines += ["", f"{STATES[state]}:"] if found else []
            lines += [f"  {message}" for message in sorted(found)]
        return lines


def _rate(rows: int, seconds: float) -> float:
    return rows / seconds if seconds > 0 else 0.0


def _ascii(text: str) -> bytes:
    """Text as FITS can hold it."""
    return text.encode("ascii", "backslashreplace")
