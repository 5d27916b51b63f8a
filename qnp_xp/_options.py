"""How spectra are read and judged."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

#: Threshold of networks whose files hold none.
_DEFAULT = 0.5


class Threshold(NamedTuple):
    """Confidence above which a line counts, and whose it is."""

    value: float
    origin: str

    def __str__(self) -> str:
        return f"{self.value:g} ({self.origin})"


@dataclass(frozen=True)
class Options:
    """Say how spectra are selected and judged."""

    #: A line counts where its confidence is above this; None for the network's own.
    c_thresh: float | None = None
    n_thresh: int = 1  #: Lines that make a quasar.
    use_mask: bool = False  #: Give no weight to pixels whose MASK is not zero.
    batch_size: int = 256  #: Spectra that are read at a time.
    coadd: bool = False  #: Add up the spectra of each target.

    def __post_init__(self) -> None:
        real = (int, float, np.integer, np.floating)
        for names, kind, what in (
            (("c_thresh", "n_thresh", "batch_size"), real, "number"),
            (("use_mask", "coadd"), (bool, np.bool_), "boolean"),
        ):
            for name in names:
                value = getattr(self, name)
                absent = name == "c_thresh" and value is None
                if not absent and not isinstance(value, kind):
                    msg = f"{name} must be a {what}, got {value!r}"
                    raise TypeError(msg)
        if self.c_thresh is not None and not 0 <= self.c_thresh <= 1:
            msg = f"c_thresh must be between 0 and 1, got {self.c_thresh!r}"
            raise ValueError(msg)
        for name in ("n_thresh", "batch_size"):
            value = getattr(self, name)
            if not (1 <= value <= sys.maxsize and value % 1 == 0):
                wanted = f"a whole number from 1 to {sys.maxsize}"
                msg = f"{name} must be {wanted}, got {value!r}"
                raise ValueError(msg)

    def threshold(self, own: float | None) -> Threshold:
        """Choose the threshold that was asked for, else that of the network."""
        if self.c_thresh is not None:
            return Threshold(float(self.c_thresh), "asked for")
        if own is not None:
            return Threshold(own, "the network's own")
        return Threshold(_DEFAULT, "the default")
