"""The jobs of a run in several processes of one machine."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from .._xp.threads import granted_cores
from ..model import QuasarNP
from .jobs import Job, JobResult, RunConfig, failed, largest_first, run_elsewhere

#: What libraries of numpy's read the number of their threads from, when they load.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

#: Model and configuration of a process that was started for them: executors hand jobs
#: to functions of modules, and models are too large to travel with each.
_here: dict[str, Any] = {}


def process_results(
    jobs: Sequence[Job], model: QuasarNP, config: RunConfig, nproc: int
) -> Iterator[JobResult]:
    """Do jobs in several processes, and give their results as they come.

    Each process is an executor of its own. One that dies breaks its executor, which
    says which job it died of; it is replaced, and the others do not notice.
    """
    nproc = min(nproc, len(jobs))
    threads = max(1, granted_cores() // nproc)
    model = model.with_nproc(threads)
    todo = collections.deque(largest_first(jobs))
    busy: dict[Future[JobResult], tuple[ProcessPoolExecutor, Job]] = {}
    idle = [_executor(model, config) for _ in range(nproc)]
    try:
        while todo or busy:
            while todo and idle:
                worker, job = idle.pop(), todo.popleft()
                try:
                    with _environment(threads):  # the first job starts the process
                        busy[worker.submit(_run, job)] = worker, job
                except BrokenExecutor:  # it died between two jobs
                    todo.appendleft(job)
                    idle.append(_executor(model, config))
            for future in futures.wait(busy, None, futures.FIRST_COMPLETED).done:
                worker, job = busy.pop(future)
                try:
                    result = future.result()
                except BrokenExecutor:
                    result = failed(job, "the process that worked on it died")
                    worker.shutdown(wait=False)
                    worker = _executor(model, config)
                idle.append(worker)
                yield result
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.shutdown()


def _executor(model: QuasarNP, config: RunConfig) -> ProcessPoolExecutor:
    level = logging.getLogger().getEffectiveLevel()
    # A fork would have the locks of this process' threads, and no threads.
    context, arguments = get_context("spawn"), (model, config, level)
    return ProcessPoolExecutor(1, context, _begin, arguments)


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Have processes that are started meanwhile hold BLAS to some threads."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _begin(model: QuasarNP, config: RunConfig, level: int) -> None:
    """Prepare a process for jobs."""
    # An interrupt reaches all processes of a terminal: this one finishes its file,
    # and the one that started it says what happened.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger().setLevel(level)
    _here.update(model=model, config=config)


def _run(job: Job) -> JobResult:
    return run_elsewhere(job, _here["model"], _here["config"])
