"""The jobs of a run, in this process or in several of one machine."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from multiprocessing import get_context
from typing import Any

from .._xp.threads import granted_cores
from ..model import QuasarNP
from .jobs import Job, Outcome, RunConfig, largest_first, run_elsewhere, run_job

__all__ = ["process_outcomes", "serial_outcomes"]

#: What libraries of numpy's read the number of their threads from, when they load.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

#: Model and orders of a process that was started for them: executors hand jobs to
#: functions of modules, and models are too large to travel with each.
_here: dict[str, Any] = {}


def serial_outcomes(
    jobs: Sequence[Job], model: QuasarNP, config: RunConfig
) -> Iterator[Outcome]:
    """Do jobs one after the other.

    Parameters
    ----------
    jobs, model, config
        What to do.

    Yields
    ------
    Outcome
        In the order of the jobs.
    """
    for job in jobs:
        yield run_job(job, model, config)


def process_outcomes(
    jobs: Sequence[Job], model: QuasarNP, config: RunConfig, nproc: int
) -> Iterator[Outcome]:
    """Do jobs in several processes, which share the cores that are granted to this one.

    Parameters
    ----------
    jobs, model, config
        What to do.
    nproc
        How many processes.

    Yields
    ------
    Outcome
        As they come.

    Notes
    -----
    Each process is an executor of its own. One that dies breaks its executor, which
    says which job it died of; it is replaced, and the others do not notice.
    """
    nproc = min(nproc, len(jobs))
    threads = max(1, granted_cores() // max(nproc, 1))
    model = model.with_nproc(threads)
    todo = collections.deque(largest_first(jobs))
    busy: dict[Future[Outcome], tuple[ProcessPoolExecutor, Job]] = {}
    idle = [_executor(model, config) for _ in range(nproc)]
    try:
        while todo or busy:
            while todo and idle:
                worker, job = idle.pop(), todo.popleft()
                try:
                    with _environment(threads):  # the first job starts the process
                        future = worker.submit(_run, job)
                except BrokenExecutor:  # it died between two jobs
                    todo.appendleft(job)
                    idle.append(_executor(model, config))
                else:
                    busy[future] = worker, job
            done, _ = wait(busy, return_when=FIRST_COMPLETED)
            for future in done:
                worker, job = busy.pop(future)
                try:
                    outcome = future.result()
                except BrokenExecutor:
                    message = f"{job.name}: the process that worked on it died"
                    outcome = Outcome(job, "failed", message)
                    worker.shutdown(wait=False)
                    worker = _executor(model, config)
                idle.append(worker)
                yield outcome
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.shutdown()


def _executor(model: QuasarNP, config: RunConfig) -> ProcessPoolExecutor:
    level = logging.getLogger().getEffectiveLevel()
    return ProcessPoolExecutor(
        1,
        # A fork would have the locks of this process' threads, and no threads.
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(model, config, level),
    )


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Have processes that are started meanwhile hold BLAS to some threads."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(model: QuasarNP, config: RunConfig, level: int) -> None:
    # An interrupt reaches all processes of a terminal: this one finishes its file,
    # and the one that started it says what happened.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger().setLevel(level)
    _here.update(model=model, config=config)


def _run(job: Job) -> Outcome:
    return run_elsewhere(job, _here["model"], _here["config"])
