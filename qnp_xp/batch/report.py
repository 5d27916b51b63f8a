"""What a command says, and what became of a run: lines, summary and exit status.

Tables are what a run is for: trouble with what is printed does not end it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._options import Threshold
from .._printing import complain, count, flush, note, say
from .._text import as_ascii, printable
from .._version import __version__
from ..io._files import atomic_write
from ..io._table_forms import Card, table_content
from ..lines import column_names
from ..model import QuasarNP
from ..status import status_words
from .jobs import JobResult, Outcome
from .names import summary_paths

_log = logging.getLogger(__name__)
_MOST_ROWS = 30  # of the table of quasars on a terminal
_MOST_NAMED = 3  # inputs that failed, in the last line
_STAGES = ("read", "upload", "rebin", "normalise", "predict", "decode", "fit")


class Report:
    """What became of the files of a run, whoever classified them."""

    def __init__(
        self, model: QuasarNP, quiet: bool, verbose: bool, threshold: Threshold
    ) -> None:
        self.model = model
        self.quiet = quiet
        self.verbose = verbose
        self.threshold = threshold
        self.results: list[JobResult] = []
        self.outcomes: collections.Counter[Outcome] = collections.Counter()
        #: Rows, those of them with a result, and quasars of this run.
        self.rows = self.scored = self.quasars = 0
        #: Seconds of each stage, summed over threads, processes and files.
        self.stages = dict.fromkeys(_STAGES, 0.0)
        self.seconds = 0.0
        #: Whether a list of quasars has been printed, with its heading.
        self._headed = False

    def follow(self, results: Iterable[JobResult], total: int) -> None:
        """Print a line for each file as it is done, beside a bar on a terminal."""
        start = time.perf_counter()
        write: Callable[[str], None] = say
        if total > 1 and not self.quiet and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm  # noqa: PLC0415

                results = tqdm(results, total=total, unit="file", leave=False)
                write = _above(tqdm)
        try:
            for result in results:
                for level, line in result.notes:
                    _log.log(level, "%s", line)
                self._print(result, write)
                flush("stdout")  # a log that is watched, or of a run that is killed
                self._add(result)
        finally:
            self.seconds = time.perf_counter() - start

    def close(self, total: int, end: str) -> None:
        """Print the last line: what became of so many files, and an end."""
        done = len(self.results)
        failed = [r.job for r in self.results if r.outcome is Outcome.FAILED]
        names = ", ".join(Path(job.name).name for job in failed[:_MOST_NAMED])
        names += ", ..." if len(failed) > _MOST_NAMED else ""
        said = [
            count(total, "file") if done == total else f"{done} of {total} files",
            count(sum(result.rows for result in self.results), "row"),
            count(sum(result.quasars for result in self.results), "quasar"),
            f"{len(failed)} failed" + (f" ({names})" if names else ""),
            f"{self.outcomes[Outcome.SKIPPED]} skipped",
        ]
        if self.outcomes[Outcome.KEPT]:
            said.append(f"{self.outcomes[Outcome.KEPT]} kept")
        said.append(f"{self.seconds:.1f} s")
        say(f"{', '.join(said)}{end}")

    def _add(self, result: JobResult) -> None:
        # Tables would fill the memory.
        self.results.append(dataclasses.replace(result, table=None))
        self.outcomes[result.outcome] += 1
        if result.outcome is Outcome.DONE:
            self.rows += result.rows
            self.scored += result.scored
            self.quasars += result.quasars
        for stage in _STAGES:
            self.stages[stage] += result.stages.get(stage, 0.0)

    def exit_status(self, targetids: NDArray[np.int64] | None) -> int:
        """Print what is wrong with the run as a whole, and return the exit status."""
        failed, total = self.outcomes[Outcome.FAILED], len(self.results)
        if failed and total > 1:
            complain(f"{failed} of {total} inputs failed")
        lost: list[int] = []
        # The targets of outputs that were kept are not known.
        if targetids is not None and not self.outcomes[Outcome.KEPT]:
            found = frozenset().union(*(result.targetids for result in self.results))
            lost = sorted({*targetids.tolist()} - found)
        if lost:
            several = f"{len(lost)} TARGETIDs are in no file, {lost[0]} first"
            complain(several if lost[1:] else f"TARGETID {lost[0]} is in no file")
        return int(bool(failed or lost or self.outcomes[Outcome.SKIPPED] == total))

    def write_summary(self, name: str | Path, workers: int) -> None:
        """Write what became of each file and of the run, as a table and as a text."""
        table, text = summary_paths(name)
        content = table_content("FILES", self._table(), self._cards(workers))
        atomic_write(table, content)
        lines = map(printable, self._lines(workers))
        atomic_write(text, "\n".join([*lines, ""]).encode())

    def _print(self, result: JobResult, write: Callable[[str], None]) -> None:
        name = Path(result.job.name).name
        if result.outcome is Outcome.FAILED:
            complain(result.message)
        elif result.outcome is Outcome.SKIPPED:
            note(f"skipped: {result.message}")
        elif self.quiet:
            return
        elif result.outcome is Outcome.KEPT:
            write(f"{name}: kept, {result.message}")
        else:
            write(
                f"{name}: {count(result.rows, 'row')}, {result.scored} scored,"
                f" {count(result.quasars, 'quasar')}, {result.seconds:.2f} s,"
                f" {self.model.weights_name}, threshold {self.threshold}"
                + ("" if result.job.output is None else f" -> {result.job.output}")
            )
            if self.verbose:
                times = (f"{k} {1e3 * v:.1f} ms" for k, v in result.stages.items())
                write("  " + ", ".join(times))
            if result.table is not None and sys.stdout.isatty():
                # One heading above many small files.
                headed = result.table.size > 1 or not self._headed
                self._headed |= result.quasars > 0
                above = self.threshold.value
                for line in _quasars(result.table, self.model, above, headed=headed):
                    write(line)

    def _table(self) -> NDArray[Any]:
        """Make a row for each input, by name."""
        found = sorted(self.results, key=lambda result: result.job.name)
        done = np.array([result.outcome is Outcome.DONE for result in found])
        columns = {
            "NAME": [_cell(result.job.name) for result in found],
            "OUTPUT": [_cell(str(result.job.output or "")) for result in found],
            "STATE": [_cell(result.outcome.value) for result in found],
            "ROWS": np.where(done, [result.rows for result in found], -1),
            "SCORED": np.where(done, [result.scored for result in found], -1),
            "QUASARS": np.where(done, [result.quasars for result in found], -1),
            "SECONDS": [result.seconds for result in found],
        }
        for stage in _STAGES:
            seconds = [result.stages.get(stage, 0.0) for result in found]
            columns[f"T_{stage.upper()}"] = seconds
        columns["MESSAGE"] = [_cell(result.message) for result in found]
        arrays = [np.asarray(values) for values in columns.values()]
        dtype = [(name, a.dtype) for name, a in zip(columns, arrays, strict=True)]
        return np.rec.fromarrays(arrays, dtype=dtype)

    def _cards(self, workers: int) -> list[Card]:
        """Describe the run for a header."""
        cards: list[Card] = [
            ("QNFILES", len(self.results), "inputs"),
            ("QNDONE", self.outcomes[Outcome.DONE], "of these, classified in this run"),
            ("QNKEPT", self.outcomes[Outcome.KEPT], "in order since an earlier run"),
            ("QNSKIP", self.outcomes[Outcome.SKIPPED], "hold no spectra"),
            ("QNFAIL", self.outcomes[Outcome.FAILED], "failed"),
            ("QNROWS", self.rows, "rows classified in this run"),
            ("QNSCORED", self.scored, "of these, scored"),
            ("QNQUASAR", self.quasars, "of these, quasars"),
            ("QNWALL", self.seconds, "[s] time of the run"),
            ("QNRATE", self._rate(self.seconds), "rows per second of the run"),
            ("QNRANKS", workers, "processes"),
        ]
        for stage, seconds in self.stages.items():
            comment = f"rows per second of {stage}, in one thread"
            cards.append((f"QR_{stage[:5].upper()}", self._rate(seconds), comment))
        return [
            *cards,
            ("QNMODEL", self.model.weights_name, "weights file"),
            ("QNSHA256", self.model.weights_sha256, "SHA-256 of the weights file"),
            ("C_THRESH", self.threshold.value, f"of lines ({self.threshold.origin})"),
            ("DEPNAM00", "qnp_xp", "package"),
            ("DEPVER00", __version__, "its version"),
        ]

    def _lines(self, workers: int) -> list[str]:
        """Say the same in words, with the reason of each input that is not done."""
        lines = [
            f"qnp_xp {__version__}, {self.model.weights_name}"
            f" (sha256 {self.model.weights_sha256}), threshold {self.threshold}",
            f"{len(self.results)} inputs: "
            + ", ".join(f"{self.outcomes[known]} {known.word}" for known in Outcome),
            f"{self.rows} rows, {self.scored} scored, {self.quasars} quasars",
            f"{self.seconds:.1f} s in {workers} processes,"
            f" {self._rate(self.seconds):.0f} rows/s",
            "",
            f"{'stage':<10} {'seconds':>10} {'rows/s in one thread':>22}",
        ]
        for stage, seconds in self.stages.items():
            lines.append(f"{stage:<10} {seconds:>10.2f} {self._rate(seconds):>22.0f}")
        for outcome in (Outcome.FAILED, Outcome.SKIPPED):
            found = [r.message for r in self.results if r.outcome is outcome]
            lines += ["", f"{outcome.word}:"] if found else []
            lines += [f"  {message}" for message in sorted(found)]
        return lines

    def _rate(self, seconds: float) -> float:
        return self.rows / seconds if seconds > 0 else 0.0


def _above(bar: Any) -> Callable[[str], None]:
    """Make a function that prints a line above the bars of a class."""

    def write(text: str) -> None:
        with bar.external_write_mode():
            say(text)

    return write


def _quasars(
    table: NDArray[Any], model: QuasarNP, c_thresh: float, *, headed: bool
) -> Iterator[str]:
    """List the quasars of a file for a terminal, and count rows of each status."""
    rows = np.flatnonzero(table["IS_QSO_QN"] == 1)
    names = table.dtype.names or ()
    sky = [name for name in ("TARGET_RA", "TARGET_DEC") if name in names]
    bal = [f"C_BAL_{name}" for name in column_names(model.lines_bal)]
    if rows.size and headed:
        places = "".join(f" {name[7:]:>9}" for name in sky)
        columns = f"{'row':>5} {'TARGETID':>20}{places} {'Z_QN':>7} {'conf':>6}"
        yield f"  {columns} {'BAL':>4}  lines above the threshold"
    for index in rows[:_MOST_ROWS]:
        row = table[index]
        found = {name: row[f"C_{name}"] for name in column_names(model.lines)}
        above = [f"{name} {c:.2f}" for name, c in found.items() if c > c_thresh]
        places = "".join(f" {row[name]:9.4f}" for name in sky)
        best = f"{row['Z_QN']:7.4f} {row['Z_QN_CONF']:6.3f}"
        highest = max((float(row[name]) for name in bal), default=0.0)
        broad = f"{highest:.2f}" if highest > c_thresh else ""
        remark = status_words(int(row["QN_STATUS"])).removeprefix("scored")
        text = f"{index:>5} {row['TARGETID']:>20}{places} {best} {broad:>4}"
        yield f"  {text}  {', '.join(above)}{remark}"
    if rows.size > _MOST_ROWS:
        yield f"  ... and {rows.size - _MOST_ROWS} more"
    others = table["QN_STATUS"][table["QN_STATUS"] != 0].tolist()
    if others:
        times = collections.Counter(map(status_words, others))
        yield f"  QN_STATUS: {', '.join(f'{n} {words}' for words, n in times.items())}"


def _cell(text: str) -> bytes:
    """Encode a text for a column of a FITS table."""
    return as_ascii(printable(text)).encode()
