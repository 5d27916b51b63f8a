"""How spectra are read and judged."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from ._basis import Basis


@dataclass(frozen=True)
class Options:
    """Say how spectra are selected and judged."""

    c_thresh: float = 0.5  #: A line counts where its confidence is above this.
    n_thresh: int = 1  #: Lines that make a quasar.
    use_mask: bool = False  #: Give no weight to pixels whose MASK is not zero.
    batch_size: int = 256  #: Spectra that are read at a time.
    coadd: bool = False  #: Add up the spectra of each target.
    fit: Basis | None = None  #: Fit redshifts of the quasars with these templates.

    def __post_init__(self) -> None:
        real = (int, float, np.integer, np.floating)
        for names, kind, what in (
            (("c_thresh", "n_thresh", "batch_size"), real, "number"),
            (("use_mask", "coadd"), (bool, np.bool_), "boolean"),
        ):
            for name in names:
                if not isinstance(getattr(self, name), kind):
                    msg = f"{name} must be a {what}, got {getattr(self, name)!r}"
                    raise TypeError(msg)
        if not 0 <= self.c_thresh <= 1:
            msg = f"c_thresh must be between 0 and 1, got {self.c_thresh!r}"
            raise ValueError(msg)
        for name in ("n_thresh", "batch_size"):
            value = getattr(self, name)
            if not (1 <= value <= sys.maxsize and value % 1 == 0):
                wanted = f"a whole number from 1 to {sys.maxsize}"
                msg = f"{name} must be {wanted}, got {value!r}"
                raise ValueError(msg)
