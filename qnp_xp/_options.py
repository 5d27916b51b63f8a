"""How spectra are read and judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Options:
    """How spectra are read and judged; the arguments of `qnp_xp.classify`."""

    c_thresh: float = 0.5
    n_thresh: int = 1
    use_mask: bool = False
    batch_size: int = 256
    coadd: bool = False

    def __post_init__(self) -> None:
        for names, kind, what in (
            (("c_thresh", "n_thresh", "batch_size"), (int, float, np.number), "number"),
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
            if not (np.isfinite(value) and value == np.floor(value) and value >= 1):
                msg = f"{name} must be a whole number from 1 up, got {value!r}"
                raise ValueError(msg)
