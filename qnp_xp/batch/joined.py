"""The one table of a run, which grows by what becomes of each file."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from .._text import as_ascii, explain, printable
from ..io import tables
from ..io._files import file_stamp
from ..io._joined import Input, join_tables, read_joined
from ..io._table_forms import form_of
from ..model import QuasarNP
from .jobs import Job, JobResult, Outcome, RunConfig

_log = logging.getLogger(__name__)

#: Seconds between two copies of what is done so far, and a share of the time.
_PAUSE = 60.0
_SHARE = 0.02


def so_far(output: Path) -> Path:
    """Name what is kept of a joined table until it is whole, for resuming."""
    return output.with_name(f".{output.name}.so-far")


class JoinedTable:
    """Rows of all files of a run, in the order of these, and the file they go to."""

    def __init__(
        self, output: Path, jobs: Sequence[Job], model: QuasarNP, config: RunConfig
    ) -> None:
        self.output = output
        self._jobs = jobs
        self._config = config
        options = config.options, "", config.indices, config.targetids
        self._identity = tables.identity_cards(model, *options)
        self._cards = tables.header_cards(model, self._identity, "", "")
        self._found: dict[tuple[Path, ...], Input] = {}
        self._resumable = form_of(output) == ".fits"
        self._next = time.monotonic() + _PAUSE

    def kept(self) -> list[JobResult]:
        """Take over what an earlier run did, of files that are as they were."""
        by_stamp = {file_stamp(job.inputs): job for job in self._jobs}
        named = {as_ascii(printable(job.name)) for job in self._jobs}
        for path in (self.output, so_far(self.output)):
            left_out = []
            for known in read_joined(path, self._identity):
                job = by_stamp.get(known.stamp)
                if job:
                    self._found.setdefault(job.files, replace(known, name=job.name))
                elif known.name not in named:
                    left_out.append(known.name)
            if left_out:
                some = ", ".join(left_out[:3]) + ", ..." * (len(left_out) > 3)
                _log.warning(
                    "%s: rows of %d files are left out, as these are not named now: %s",
                    *(path, len(left_out), some),
                )
        return [
            JobResult(
                *(job, Outcome.KEPT, f"its rows are in {self.output}"),
                rows=found.table.size,
                quasars=int(found.table["IS_QSO_QN"].sum()),
            )
            for job in self._jobs
            if (found := self._found.get(job.files)) and found.table is not None
        ]

    def collect(
        self, results: Generator[JobResult, None, None]
    ) -> Generator[JobResult, None, None]:
        """Pass results on, and take their rows."""
        try:
            for result in results:
                self._add(result)
                yield result
        finally:
            results.close()

    def write(self) -> bool:
        """Write the table, and remove what was kept until now; False without rows."""
        inputs = [self._found[job.files] for job in self._jobs]
        if all(found.table is None for found in inputs):
            return False
        self._write(self.output, inputs)
        so_far(self.output).unlink(missing_ok=True)
        return True

    def save(self) -> bool:
        """Keep what is done so far, for resuming; False where there is nothing."""
        inputs = [self._found[x.files] for x in self._jobs if x.files in self._found]
        done = [found for found in inputs if found.table is not None]
        if not self._resumable or not done:
            return False
        try:
            self._write(so_far(self.output), done)
        except OSError as err:
            _log.warning("%s", explain(err))
            return False
        return True

    def _add(self, result: JobResult) -> None:
        if result.outcome is not Outcome.KEPT:
            facts = result.arms, result.stamp, result.message
            found = Input(result.job.name, result.outcome.value, result.table, *facts)
            self._found[result.job.files] = found
        start = time.monotonic()
        if start > self._next:
            self.save()
            seconds = time.monotonic() - start
            self._next = start + max(_PAUSE, seconds / _SHARE)

    def _write(self, path: Path, inputs: Sequence[Input]) -> None:
        table, cards, parts = join_tables(inputs, self._cards)
        tables.write_rows(path, form_of(self.output), table, cards, parts)
