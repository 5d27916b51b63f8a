"""Work spread over threads, with BLAS held to one thread in each."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_KEPT = 30 << 20  # bytes; glibc learns from arrays of up to 32 MiB


def own_cores() -> set[int]:
    """Give the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def granted_cores() -> int:
    """Count the cores of ``$OMP_NUM_THREADS``, or else those the scheduler grants."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(own_cores())


class _Blas(NamedTuple):
    """The libraries that set how many threads BLAS takes."""

    shared: list[Any]  #: Those with one number for the process.
    own: list[Any]  #: Those with one for each thread, as OpenMP and MKL.


@functools.cache
def _blas() -> _Blas | None:
    """Find the BLAS libraries of this process; None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController  # noqa: PLC0415
    except ImportError:
        return None
    controller = ThreadpoolController()
    shared, own = [], []
    for library in controller.select(user_api="blas").lib_controllers:
        kind = library.internal_api, getattr(library, "threading_layer", None)
        if kind == ("openblas", "openmp"):  # it asks OpenMP in the thread that calls
            own += controller.select(user_api="openmp").lib_controllers
        elif "MKL_Set_Num_Threads_Local" in getattr(library, "check_symbols", ()):
            own.append(library)  # as threadpoolctl does it since 3.7
        else:
            shared.append(library)
    return _Blas(shared, own)


@functools.cache
def _keep_memory() -> None:
    """Have the C library keep the memory of arrays that come and go."""
    # By itself glibc gives arrays of some 100 kB back to the system and takes them
    # anew, zeroed page by page, which costs more than computing them. It keeps what is
    # smaller than the largest array that it ever got back; this one is never touched.
    np.empty(_KEPT, dtype=np.uint8)


def _set(libraries: list[Any], numbers: Iterable[int]) -> None:
    """Give libraries so many threads each."""
    for library, number in zip(libraries, numbers, strict=False):
        library.set_num_threads(number)
        # Since 3.8 one thread alone may set the number, until it says so.
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread()


class _Hold:
    """BLAS held to one thread as long as any call of the process computes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[object] = set()
        self._original: list[int] = []

    @contextmanager
    def __call__(self, blas: _Blas) -> Iterator[None]:
        """Hold it for a block; the last of those at once gives it its threads back."""
        call = object()
        own = [library.get_num_threads() for library in blas.own]
        try:
            with self._lock:
                if not self._calls:
                    self._original = [x.get_num_threads() for x in blas.shared]
                self._calls.add(call)
                self.here(blas)
            yield
        finally:
            with self._lock:
                _set(blas.own, own)
                self._calls.discard(call)
                if not self._calls:
                    _set(blas.shared, self._original)
                    self._original = []

    @staticmethod
    def here(blas: _Blas) -> None:
        """Hold it in the thread that calls, which OpenMP asks of each."""
        _set(blas.shared + blas.own, itertools.repeat(1))


_hold = _Hold()


@contextmanager
def worker_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of threads, with BLAS held to one thread in each.

    Without threadpoolctl there is one thread, and BLAS spreads each product as it
    likes. What waits for a thread at the end, after an error or an interrupt, is not
    done any more.
    """
    _keep_memory()
    blas = _blas()
    if blas is None:
        hold: AbstractContextManager[None] = nullcontext()
        pool = ThreadPoolExecutor(1)
    else:
        hold = _hold(blas)
        pool = ThreadPoolExecutor(
            max(threads, 1), initializer=_hold.here, initargs=(blas,)
        )
    with hold:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def thread_map(
    function: Callable[[Item], Outcome], items: Iterable[Item], threads: int
) -> list[Outcome]:
    """Apply a function to items in a `worker_pool`; outcomes come in their order."""
    work = list(items)
    with worker_pool(min(threads, len(work))) as pool:
        return list(pool.map(function, work))
