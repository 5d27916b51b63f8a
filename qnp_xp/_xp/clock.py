"""Time by stage, summed over threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Add up the time that is spent in each stage of a run."""

    def __init__(self) -> None:
        #: Time by stage, in the order of their first use. Stages of several threads at
        #: once add up to more than the clock on the wall.
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of a block for a stage."""
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
