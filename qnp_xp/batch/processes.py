"""The jobs of a run in several processes of one machine."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from .._xp.backend import device_of_rank, resolve
from .._xp.threads import granted_cores
from ..model import QuasarNP
from .jobs import Job, JobResult, RunConfig, failed, largest_first, run_elsewhere

#: What libraries of numpy's read the number of their threads from, when they load.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

#: What reaches all processes of a terminal or of a batch job at once.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def process_results(
    jobs: Sequence[Job],
    model: QuasarNP,
    config: RunConfig,
    nproc: int,
    device: str = "cpu",
) -> Generator[JobResult, None, None]:
    """Do jobs in several processes, and give their results as they come.

    One that dies is replaced, and its job is known: the others do not notice. They
    share the visible GPUs where the device is one that does not say which.
    """
    nproc = min(nproc, max(len(jobs), 1))
    threads = max(1, granted_cores() // nproc)
    started = itertools.count()
    todo = collections.deque(largest_first(jobs))
    busy: dict[Any, tuple[_Worker, Job]] = {}
    idle: list[_Worker] = []
    try:
        while todo or busy:
            while todo and len(busy) < nproc:
                if not idle:
                    make = _recipe(model, threads, device, next(started))
                    idle.append(_Worker(make, config, threads))
                worker = idle.pop()
                if not worker.process.is_alive():  # it died between two jobs
                    continue
                job = todo.popleft()
                busy[worker.jobs] = worker, job
                with contextlib.suppress(OSError):  # it died now: there is no result
                    worker.jobs.send(job)
            for ready in wait(list(busy)):
                worker, job = busy.pop(ready)
                try:
                    result = worker.jobs.recv()
                    idle.append(worker)
                except (EOFError, OSError):
                    result = failed(job, "the process that worked on it died")
                yield result
    finally:
        for worker, _ in busy.values():  # where the run ends early
            worker.process.terminate()
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.jobs.close()
            worker.process.join()


def _recipe(
    model: QuasarNP, threads: int, device: str, number: int
) -> Callable[[], QuasarNP]:
    """Say how the process of a number makes the model."""
    if not model.backend.is_gpu:
        return model.recipe(nproc=threads)
    backend = resolve(device_of_rank(device, number))
    return model.recipe(nproc=threads, backend=backend)


class _Worker:
    """A process that does one job after the other."""

    def __init__(
        self, make: Callable[[], QuasarNP], config: RunConfig, threads: int
    ) -> None:
        # A fork would have the locks of this process' threads, and no threads.
        context = get_context("spawn")
        self.jobs, other_end = context.Pipe()
        level = logging.getLogger().getEffectiveLevel()
        arguments = other_end, make, config, level
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        with _environment(threads), _signals_later():
            self.process.start()
        other_end.close()


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


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Have processes that are started meanwhile get no signal until they ask."""
    resource_tracker.ensure_running()  # it lets signals through when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    jobs: Connection, make: Callable[[], QuasarNP], config: RunConfig, level: int
) -> None:
    """Do the jobs that arrive, until there are no more."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once: temporary files are being removed
        sys.exit(128 + number)

    # The process that started this one says what happened, and ends it if it must.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    # The thread starts first: who handles signals is the main thread.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    logging.getLogger().setLevel(level)
    model = make()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            jobs.send(run_elsewhere(jobs.recv(), model, config))


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, however that was."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
