"""What is to be done with each file of a run, and what became of it."""

from __future__ import annotations

import dataclasses
import enum
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._classify import Result, classify_file
from .._options import Options
from .._text import explain
from ..decode import prior_width
from ..errors import USER_ERRORS, NoSpectraError
from ..io import tables
from ..io._catalog import current_table
from ..io._files import (
    atomic_write,
    ensure_apart,
    ensure_not_input,
    ensure_own,
    ensure_writable,
    file_stamp,
    has_content,
    is_own,
    real_path,
    remove_leftovers,
    remove_output,
)
from ..io._merge import without_duplicates
from ..io._table_forms import Card, table_content
from ..io.open import joint_name
from ..io.sdss import with_zbest
from ..model import QuasarNP
from ..selection import RowRanges

_log = logging.getLogger(__name__)


class Outcome(enum.Enum):
    """What can become of a job, as the column STATE of a summary has it."""

    DONE = "done"
    KEPT = "kept"  # resuming found its outputs in order
    SKIPPED = "skipped"  # a table that lies beside spectra
    FAILED = "failed"

    @property
    def word(self) -> str:
        """What the text of a summary calls it."""
        return "classified" if self is Outcome.DONE else self.value


@dataclass(frozen=True)
class Job:
    """Files that are read together, and what is written of them."""

    #: One file, or the cframes of one spectrograph in one exposure.
    files: tuple[Path, ...]
    #: Its own table; None where its rows go to one of all jobs.
    output: Path | None
    #: Priors for redrock, where they are wanted.
    priors: Path | None = None

    @property
    def name(self) -> str:
        """What messages call the input."""
        return joint_name(self.files)

    @property
    def inputs(self) -> list[Path]:
        """All files that are read."""
        return with_zbest(self.files)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files that are written."""
        return tuple(path for path in (self.output, self.priors) if path is not None)


@dataclass(frozen=True)
class RunConfig:
    """What is the same for all jobs of a run."""

    options: Options = field(default_factory=Options)
    #: Rows to take of each file, by number or by target; all without either.
    indices: RowRanges | None = None
    targetids: NDArray[np.int64] | None = None
    #: Replace older outputs.
    overwrite: bool = False
    #: Keep older outputs that are in order; replace the others.
    resume: bool = False


@dataclass(frozen=True)
class JobResult:
    """What became of a job."""

    job: Job
    outcome: Outcome
    #: Why it is not done.
    message: str = ""
    #: Without a table where another process wrote it.
    table: NDArray[Any] | None = None
    seconds: float = 0.0
    #: Rows of the table, those of them with a result, and quasars.
    rows: int = 0
    scored: int = 0
    quasars: int = 0
    #: Seconds by stage.
    stages: dict[str, float] = field(default_factory=dict)
    #: Targets of the table, where targets were asked for.
    targetids: frozenset[int] = frozenset()
    #: Names of the arms that were used.
    arms: str = ""
    #: Hash of the state of the files.
    stamp: str = ""
    #: What another process logged meanwhile: levels of `logging`, and lines.
    notes: tuple[tuple[int, str], ...] = ()


def prepare_outputs(
    jobs: Sequence[Job], inputs: Iterable[str | Path], others: Iterable[Path] = ()
) -> None:
    """Refuse outputs that are inputs or share a name, and remove leftovers of old runs.

    `inputs` and `others` are what a run reads and writes beside the files of its jobs.
    """
    outputs = [*others, *(path for job in jobs for path in job.outputs)]
    ensure_apart(outputs)
    ensure_not_input(outputs, [*inputs, *(path for job in jobs for path in job.inputs)])
    for folder in {real_path(path).parent for path in outputs}:
        remove_leftovers(folder)


def run_job(job: Job, model: QuasarNP, config: RunConfig) -> JobResult:
    """Do a job, and put whatever goes wrong into its result."""
    start = time.perf_counter()
    try:
        stamp = file_stamp(job.inputs)
        identity = tables.identity_cards(
            model, config.options, stamp, config.indices, config.targetids
        )
        for path in job.outputs:
            ensure_writable(path, config.overwrite or config.resume)
        if config.resume:
            for path, kind in zip(job.outputs, ("QN", "PRIORS"), strict=False):
                ensure_own(path, kind)
        if config.resume and job.output is not None:
            table = current_table(job.output, identity)
            if table is not None:
                return _kept(job, table, model)
        found = _classify(job, model, config, identity)
    except NoSpectraError as err:  # wildcards catch tables that lie beside spectra
        return JobResult(job, Outcome.SKIPPED, str(err))
    except USER_ERRORS as err:
        return failed(job, explain(err))
    except Exception as err:
        # One file of thousands must not end a run, whatever nobody thought of.
        _log.info("%s", job.name, exc_info=True)
        return failed(job, f"{type(err).__name__}: {err}")
    asked = [] if config.targetids is None else found.table["TARGETID"].tolist()
    return JobResult(
        job,
        Outcome.DONE,
        table=found.table,
        seconds=time.perf_counter() - start,
        rows=found.table.size,
        scored=found.scored,
        quasars=found.quasars,
        stages=found.seconds,
        targetids=frozenset(asked),
        arms="".join(found.arms),
        stamp=stamp,
    )


def _kept(job: Job, table: NDArray[Any], model: QuasarNP) -> JobResult:
    """Keep the table of an earlier run, and see to the priors of its quasars."""
    if job.priors is not None:
        _write_priors(job, job.priors, table, model)
    return JobResult(
        *(job, Outcome.KEPT, f"{job.output} is in order"),
        rows=table.size,
        quasars=int(np.sum(table["IS_QSO_QN"])),
    )


def failed(job: Job, reason: str) -> JobResult:
    """Say why a job failed, with its name if the reason does not have it."""
    named = any(str(path) in reason for path in job.files)
    return JobResult(job, Outcome.FAILED, reason if named else f"{job.name}: {reason}")


def run_elsewhere(job: Job, model: QuasarNP, config: RunConfig) -> JobResult:
    """Do a job in a process whose output nobody reads, and return what it logged."""
    logger = logging.getLogger("qnp_xp")
    handler = BufferingHandler(sys.maxsize)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        result = run_job(job, model, config)
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
    notes = [(record.levelno, handler.format(record)) for record in handler.buffer]
    if job.output is not None:
        result = dataclasses.replace(result, table=None)
    return dataclasses.replace(result, notes=tuple(notes))


def largest_first(jobs: Iterable[Job]) -> list[Job]:
    """Sort jobs by size, so that no long one begins when the others end."""
    return sorted(jobs, key=_size, reverse=True)


def _size(job: Job) -> int:
    try:
        return sum(path.stat().st_size for path in job.files)
    except OSError:  # it will say so when its turn comes
        return 0


def _classify(
    job: Job, model: QuasarNP, config: RunConfig, identity: Sequence[Card]
) -> Result:
    """Classify the files of a job, and write its outputs, if it has its own."""
    selection = {"indices": config.indices, "targetids": config.targetids}
    result = classify_file(job.files, model, config.options, **selection)
    if job.priors is not None:
        _write_priors(job, job.priors, result.table, model)
    if job.output is not None:
        cards = tables.header_cards(model, identity, result.name, result.arms)
        replace = config.overwrite or config.resume
        # Last, since resuming goes by it.
        tables.write_catalog(job.output, result.table, cards, overwrite=replace)
    return result


def _write_priors(job: Job, path: Path, table: NDArray[Any], model: QuasarNP) -> None:
    """Write priors of the quasars in a table, unless they are there already.

    Redrock keeps the last prior of a target, and stops at a file without any.
    """
    quasars = without_duplicates(table[table["IS_QSO_QN"] == 1], "best")
    targetids, z = quasars["TARGETID"], quasars["Z_QN"].astype(np.float64)
    if np.any(targetids == -1):
        msg = f"{job.name}: has no TARGETIDs, which priors need"
        raise ValueError(msg)
    if not quasars.size:
        _log.warning("%s: has no quasars, and so no priors", job.name)
        if path.exists() and not is_own(path, "PRIORS"):
            _log.warning("%s: holds no priors of qnp-xp, and is left as it is", path)
            return
        remove_output(path)
        return
    width = prior_width(z, model.wave, model.nboxes)
    content = _priors(targetids, z, width)
    if not has_content(path, content):
        atomic_write(path, content)


def _priors(targetid: ArrayLike, z: ArrayLike, width: ArrayLike) -> bytes:
    """Make priors for ``rrdesi --priors``, as desispec's ``scripts/qsoqn.py`` does."""
    columns = [("TARGETID", "i8"), ("FUNCTION", "S6"), ("Z", "f8"), ("SIGMA", "f8")]
    table = np.zeros(np.asarray(targetid).size, dtype=columns)
    table["TARGETID"], table["FUNCTION"] = targetid, b"tophat"
    table["Z"], table["SIGMA"] = z, width
    return table_content("PRIORS", table)
