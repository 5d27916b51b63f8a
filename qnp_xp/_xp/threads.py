"""Work spread over threads, with BLAS held to one thread in each."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

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


@functools.cache
def _blas() -> Any:
    """Find the BLAS libraries of this process; None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController  # noqa: PLC0415
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


@functools.cache
def _keep_memory() -> None:
    """Have the C library keep the memory of arrays that come and go."""
    # By itself glibc gives arrays of some 100 kB back to the system and takes them
    # anew, zeroed page by page, which costs more than computing them. It keeps what is
    # smaller than the largest array that it ever got back; this one is never touched.
    np.empty(_KEPT, dtype=np.uint8)


class _Hold:
    """BLAS held to one thread as long as any call of the process computes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[object] = set()
        self._limit: Any = None

    @contextmanager
    def __call__(self, blas: Any) -> Iterator[None]:
        """Hold it for a block; the last of those at once gives it its threads back."""
        call = object()
        try:
            with self._lock:
                self._limit = self._limit or blas.limit(limits=1)
                self._calls.add(call)
            yield
        finally:
            with self._lock:
                self._calls.discard(call)
                if not self._calls and self._limit is not None:
                    self._limit.restore_original_limits()
                    self._limit = None
                # Since 3.8 one thread alone may set the number, until it says so.
                for library in blas.lib_controllers:
                    if hasattr(library, "clear_controlling_thread"):
                        library.clear_controlling_thread()


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
    with nullcontext() if blas is None else _hold(blas):
        pool = ThreadPoolExecutor(1 if blas is None else max(threads, 1))
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
