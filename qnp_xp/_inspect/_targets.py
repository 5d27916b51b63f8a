"""What the page holds of each spectrum, in the types of JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io.source import IDENTIFIERS, Source
from ..plot._views import SpectrumView, Trace
from ..plot._zoom import view_range
from ..status import status_words
from ._pack import pack_values, pack_wave, scaled

#: First and last pixel of each run.
Runs = list[list[int]]

#: Columns of redshifts, by what the page calls them.
_REDSHIFTS = {"qn": "Z_QN", "fit": "Z_FIT"}
_COORDINATES = ("TARGET_RA", "TARGET_DEC")


@dataclass
class Targets:
    """Spectra of a page, and what they share: wavelengths, and names of arms."""

    spectra: list[dict[str, Any]] = field(default_factory=list)
    grids: dict[str, int] = field(default_factory=dict)
    arms: dict[str, int] = field(default_factory=dict)

    def add(
        self, view: SpectrumView, flagged: Sequence[Runs], truth: str, true_z: float
    ) -> None:
        """Add a spectrum, runs of flagged pixels by arm, and what is known of it."""
        row, names = view.row, view.row.dtype.names
        known = {name: _plain(row[name]) for name in names if name in IDENTIFIERS}
        coordinates = [known.pop(name, math.nan) for name in _COORDINATES]
        redshifts = {name: row[c] for name, c in _REDSHIFTS.items() if c in names}
        redshifts |= {"truth": true_z} if truth else {}
        flux = [scaled(trace.flux) for trace in view.traces]
        sigma = [scaled(trace.sigma) for trace in view.traces]
        numbers = zip(flux, sigma, strict=True)
        exponents = zip(view.traces, flagged, flux, sigma, strict=True)
        self.spectra.append(
            {
                "targetid": str(known.pop("TARGETID")),
                "label": view.label or f"row {view.index}",
                "file": Path(view.name).name,
                "row": view.index,
                "sky": [_number(x, 9) for x in coordinates],
                "known": {name: str(value) for name, value in known.items()},
                "scored": view.scored,
                "quasar": bool(row["IS_QSO_QN"]),
                "confidence": _number(row["Z_QN_CONF"]),
                "status": status_words(int(row["QN_STATUS"])),
                "z": {name: _number(z) for name, z in redshifts.items()},
                "truth": truth,
                "lines": [
                    [_number(x.confidence), _number(x.found)] for x in view.lines
                ],
                "boxes": [[_number(x, 3) for x in boxes] for boxes in view.boxes],
                "range": [_number(x) for x in view_range(view)],
                "arms": [self._arm(x, run, f[1], s[1]) for x, run, f, s in exponents],
                "values": pack_values(*(part for pair in numbers for part, _ in pair)),
            }
        )

    def _arm(
        self, trace: Trace, flagged: Runs, flux: int, sigma: int
    ) -> dict[str, Any]:
        """Say which arm a trace is of, and how its numbers are packed."""
        return {
            "arm": self.arms.setdefault(trace.name, len(self.arms)),
            "grid": self.grids.setdefault(pack_wave(trace.wave), len(self.grids)),
            "size": trace.wave.size,
            "flux": flux,
            "sigma": sigma,
            "flagged": flagged,
        }


def flagged_runs(source: Source, view: SpectrumView) -> list[Runs]:
    """Find the pixels of each arm that have weight although their MASK is set."""
    one = np.asarray([view.index], dtype=np.int64)
    found: list[Runs] = []
    for arm, trace in zip(source.arms, view.traces, strict=True):
        if arm.mask is None:
            found.append([])
            continue
        mask = np.asarray(arm.mask.read_rows(one))[0].astype(np.int64)
        if arm.bad_bits is not None:
            mask &= arm.bad_bits
        wave = arm.wave if arm.wave.ndim == 1 else arm.wave[view.index]
        flagged = mask[np.argsort(wave, kind="stable")] != 0
        found.append(_runs(flagged & np.isfinite(trace.sigma)))
    return found


def _runs(marked: NDArray[np.bool_]) -> Runs:
    """Find the first and last pixel of each run of pixels."""
    steps = np.diff(marked.astype(np.int8), prepend=0, append=0)
    first, end = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [list(run) for run in zip(first.tolist(), (end - 1).tolist(), strict=True)]


def needed_columns(spectra: Sequence[dict[str, Any]]) -> list[str]:
    """Name what must stand beside TARGETID in a csv so that no two rows are one."""
    targetids = [target["targetid"] for target in spectra]
    if "-1" not in targetids and len(set(targetids)) == len(targetids):
        return []
    known = [n for n in IDENTIFIERS if any(n in target["known"] for target in spectra)]
    return [*known, "FILE", "ROW"]


def _number(value: Any, digits: int = 6) -> float | None:
    """Round a number to significant digits; None where it is not finite."""
    number = float(value)
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None


def _plain(value: Any) -> Any:
    """Make a value of a table one of Python's."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value
