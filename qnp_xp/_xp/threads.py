"""Work spread over threads, with BLAS held to one thread in each."""

from __future__ import annotations

import functools
import os
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


@contextmanager
def worker_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of threads, with BLAS held to one thread in each.

    Without threadpoolctl there is one thread, and BLAS spreads each product as it
    likes.
    """
    _keep_memory()
    blas = _blas()
    held = nullcontext() if blas is None else blas.limit(limits=1)
    with held, ThreadPoolExecutor(1 if blas is None else max(threads, 1)) as pool:
        yield pool


def thread_map(
    function: Callable[[Item], Outcome], items: Iterable[Item], threads: int
) -> list[Outcome]:
    """Apply a function to items in a `worker_pool`; outcomes come in their order."""
    work = list(items)
    with worker_pool(min(threads, len(work))) as pool:
        return list(pool.map(function, work))
