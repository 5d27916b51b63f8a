"""What a network is trained for, and how."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Gets the step, their number, the running loss, and that of what is held out.
Progress = Callable[[int, int, float, float], None]

# From random weights, and from those of another network.
_STEPS, _RATES = (6000, 600), (2e-3, 1e-4)


@dataclass(frozen=True)
class Goal:
    """Grid and lines of the network that is trained."""

    wave: NDArray[np.float64]
    lines: tuple[str, ...]
    lines_bal: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """How to train."""

    steps: int | None = None  #: Batches; or
    epochs: float | None = None  #: passes over the spectra.
    minutes: float = math.inf  #: The most that training may take.
    held: float = 0.2  #: Share of the targets that is held out.
    seed: int = 0
    rate: float | None = None  #: Largest learning rate.
    batch_size: int = 64
    noise: float = 3.0  #: The most that errors are multiplied by.
    shift: int = 30  #: The most bins that a spectrum is moved by.
    threads: int = 1

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            msg = "steps and epochs cannot be given both"
            raise ValueError(msg)
        for name, low, high, whole in (
            ("steps", 1, 10**9, True),
            ("epochs", 0, 10**9, False),
            ("minutes", 0, math.inf, False),
            ("held", 0, 0.9, False),
            ("seed", 0, 2**63 - 1, True),
            ("rate", 0, 1, False),
            ("batch_size", 2, 2**16, True),
            ("noise", 1, 100, False),
            ("shift", 0, 100, True),
            ("threads", 1, 2**10, True),
        ):
            _ensure_within(name, getattr(self, name), low, high, whole)

    def count_steps(self, n: int, tuning: bool) -> int:
        """Say how many batches there are of n spectra."""
        if self.epochs is not None:
            return math.ceil(self.epochs * n / self.batch_size)
        return _STEPS[tuning] if self.steps is None else int(self.steps)

    def get_rate(self, tuning: bool) -> float:
        """Give the largest learning rate."""
        return _RATES[tuning] if self.rate is None else float(self.rate)


def _ensure_within(name: str, value: Any, low: int, high: float, whole: bool) -> None:
    """Refuse what is no number from `low` to `high`; 0 itself is none of real ones."""
    if value is None:
        return
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if not isinstance(value, kinds) or isinstance(value, bool):
        what = "whole number" if whole else "number"
        msg = f"{name} must be a {what}, got {value!r}"
        raise TypeError(msg)
    if not low <= value <= high or (not whole and value == 0):
        limits = f"from {low} up" if high in (math.inf, 10**9) else f"{low} to {high}"
        limits = limits if low or whole else "above 0"
        msg = f"{name} must be {limits}, got {value!r}"
        raise ValueError(msg)
