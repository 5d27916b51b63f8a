"""What is to be done with each file of a run, and what came of it."""

from __future__ import annotations

import collections
import dataclasses
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .._classify import Result, classify_file
from .._options import Options
from ..decode import prior_width
from ..errors import USER_ERRORS, NoSpectraError
from ..io._files import ensure_not_input, ensure_writable, remove_leftovers
from ..io.open import joint_name
from ..io.tables import (
    header_cards,
    is_current,
    selection_card,
    setting_cards,
    write_catalog,
    write_priors,
)
from ..model import QuasarNP

__all__ = [
    "Job",
    "Outcome",
    "RunConfig",
    "largest_first",
    "prepare_jobs",
    "run_elsewhere",
    "run_job",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Files that are read together, and what is to be written.

    Attributes
    ----------
    files
        One file, or the cframes of one spectrograph in one exposure.
    output
        Its table.
    priors
        Its priors for redrock, if they are wanted.
    """

    files: tuple[Path, ...]
    output: Path
    priors: Path | None = None

    @property
    def name(self) -> str:
        """What messages call the input."""
        return joint_name(self.files)

    @property
    def written(self) -> tuple[Path, ...]:
        """The outputs."""
        return (self.output,) if self.priors is None else (self.output, self.priors)


@dataclass(frozen=True)
class RunConfig:
    """What is the same for all files of a run.

    Attributes
    ----------
    options
        How spectra are judged.
    indices, targetids
        Rows to take of each file, by number or by target, shape ``(m,)``; all of them
        without either.
    overwrite
        Replace older outputs.
    resume
        Keep outputs that are whole, newer than their input, and made with the same
        weights and settings; replace the others.
    """

    options: Options = field(default_factory=Options)
    indices: NDArray[np.int64] | None = None
    targetids: NDArray[np.int64] | None = None
    overwrite: bool = False
    resume: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes
    ----------
    job
        The job.
    state
        ``"done"``; ``"kept"`` where resuming found the output in order; ``"skipped"``
        for tables that lie beside spectra; ``"failed"``.
    message
        Why, where it is not done.
    result
        What was found, where it is done and the table did not have to travel.
    seconds
        How long it took.
    rows, scored, quasars
        Numbers of rows, where it is done.
    stages
        Time by stage, where it is done.
    targetids
        Which of the targets that were asked for it has.
    notes
        What another process logged meanwhile: levels of `logging`, and lines.
    """

    job: Job
    state: str
    message: str = ""
    result: Result | None = None
    seconds: float = 0.0
    rows: int = 0
    scored: int = 0
    quasars: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    targetids: frozenset[int] = frozenset()
    notes: tuple[tuple[int, str], ...] = ()


def prepare_jobs(
    jobs: Sequence[Job],
    inputs: Iterable[str | Path],
    outputs: Iterable[Path] = (),
) -> None:
    """Check the outputs of a run against each other and against what is read.

    Parameters
    ----------
    jobs
        All of them.
    inputs, outputs
        What else is read, the weights; and written, the summary.

    Raises
    ------
    ValueError
        If two outputs have one name, or one is an input.

    Notes
    -----
    What runs that were killed left behind in the folders of the outputs is removed.
    """
    written = [*outputs, *(path for job in jobs for path in job.written)]
    for path, count in collections.Counter(written).items():
        if count > 1:
            msg = f"{path}: tables, priors and summary need files of their own"
            raise ValueError(msg)
    ensure_not_input(written, [*inputs, *(path for job in jobs for path in job.files)])
    for folder in {path.parent for path in written}:
        remove_leftovers(folder)


def run_job(job: Job, model: QuasarNP, config: RunConfig) -> Outcome:
    """Do a job; whatever goes wrong is in the outcome.

    Parameters
    ----------
    job, model, config
        What to do.

    Returns
    -------
    Outcome

    Notes
    -----
    One file of thousands must not end a run: an error that nobody thought of fails it
    as others do, and its traceback is logged at level INFO.
    """
    start = time.perf_counter()
    try:
        if config.resume and _is_current(job, model, config):
            return Outcome(job, "kept", f"{job.output} is in order")
        result = _classify(job, model, config)
    except NoSpectraError as err:
        # Wildcards catch the tables that lie beside the spectra.
        return Outcome(job, "skipped", str(err))
    except USER_ERRORS as err:
        named = any(str(path) in str(err) for path in job.files)
        return Outcome(job, "failed", f"{err}" if named else f"{job.name}: {err}")
    except Exception as err:
        _log.info("%s", job.name, exc_info=True)
        return Outcome(job, "failed", f"{job.name}: {type(err).__name__}: {err}")
    targetids: frozenset[int] = frozenset()
    if config.targetids is not None:
        targetids = frozenset(result.table["TARGETID"].tolist())
    return Outcome(
        job,
        "done",
        result=result,
        seconds=time.perf_counter() - start,
        rows=result.table.size,
        scored=result.scored,
        quasars=result.quasars,
        stages=result.seconds,
        targetids=targetids,
    )


def run_elsewhere(job: Job, model: QuasarNP, config: RunConfig) -> Outcome:
    """Do a job in a process whose output nobody reads.

    Parameters
    ----------
    job, model, config
        As for `run_job`.

    Returns
    -------
    Outcome
        Without its table, which is in the output and need not travel; with what was
        logged meanwhile.
    """
    logger = logging.getLogger("qnp_xp")
    notes = _Notes()
    before = logger.propagate
    logger.addHandler(notes)
    logger.propagate = False
    try:
        outcome = run_job(job, model, config)
    finally:
        logger.removeHandler(notes)
        logger.propagate = before
    return dataclasses.replace(outcome, result=None, notes=tuple(notes.lines))


class _Notes(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, self.format(record)))


def largest_first(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order in which they are dealt to several workers.

    Parameters
    ----------
    jobs
        What is to be done.

    Returns
    -------
    list of Job
        By the size of their files, so that no long one begins when the others end.
    """
    return sorted(jobs, key=_size, reverse=True)


def _size(job: Job) -> int:
    try:
        return sum(path.stat().st_size for path in job.files)
    except OSError:  # it will say so when its turn comes
        return 0


def _is_current(job: Job, model: QuasarNP, config: RunConfig) -> bool:
    cards = setting_cards(model, config.options)
    cards.append(selection_card(config.indices, config.targetids))
    newest = max(path.stat().st_mtime for path in job.files)
    priors = job.priors
    if priors and not (priors.exists() and priors.stat().st_mtime >= newest):
        return False
    return is_current(job.output, cards, newest)


def _classify(job: Job, model: QuasarNP, config: RunConfig) -> Result:
    replace = config.overwrite or config.resume
    for path in job.written:
        ensure_writable(path, replace, fits=True)
    result = classify_file(
        job.files,
        model,
        config.options,
        indices=config.indices,
        targetids=config.targetids,
    )
    quasars = result.table[result.table["IS_QSO_QN"] == 1]
    if job.priors is not None and np.any(quasars["TARGETID"] == -1):
        msg = f"{job.name}: has no TARGETIDs, which priors need"
        raise ValueError(msg)
    cards = header_cards(model, config.options, result.name, result.arms)
    cards.append(selection_card(config.indices, config.targetids))
    if job.priors is not None:
        z = quasars["Z_QN"].astype(np.float64)
        width = prior_width(z, model.wave, model.nboxes)
        write_priors(job.priors, quasars["TARGETID"], z, width, overwrite=replace)
    # Last, since resuming goes by it.
    write_catalog(job.output, result.table, cards, overwrite=replace)
    return result
