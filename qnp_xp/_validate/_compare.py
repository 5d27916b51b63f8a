"""From a table of results and truth to the numbers that compare them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._options import Options
from ..errors import SpectraError
from ..io._catalog import is_summary
from ..io._files import different_files
from ..io._match import match
from ..io._merge import Part, merge_tables
from ..io._results import results_of
from ..io._truth import Bool, Float64, Int64, Kind, Truth
from ..io._truth_forms import RESULTS, SIGNAL
from ..io.tables import read_catalog
from ..status import Status
from ._rates import (
    Rate,
    Rows,
    by_redshift,
    by_signal,
    by_threshold,
    by_velocity,
    structured,
    threshold_for,
    velocity,
)

_log = logging.getLogger(__name__)

#: True redshifts, and velocities in km/s, by the name of a line.
Offsets = dict[str, tuple[Float64, Float64]]


@dataclass(frozen=True, repr=False)
class Comparison:
    """The numbers that compare a table with truth; see `Validation`."""

    name: str
    truth_name: str
    c_thresh: float
    n_thresh: int
    dz: float
    counts: dict[str, int]
    purity: Rate
    completeness: Rate
    good_z: Rate
    bal_recall: Rate
    bal_purity: Rate
    by_threshold: NDArray[Any]
    by_redshift: NDArray[Any]
    by_signal: NDArray[Any]
    by_velocity: NDArray[Any]
    disagreeing: NDArray[Any]
    asked_purity: float | None
    threshold: float
    at_threshold: tuple[Rate, Rate]
    signal_name: str
    #: Of each line of the quasars that are found.
    offsets: Offsets

    @property
    def has_others(self) -> bool:
        """Whether truth has anything but quasars, without which purity is not known."""
        return self.counts["scored"] > self.counts["quasar"]


@dataclass(frozen=True)
class Table:
    """A table of results, and what makes a quasar in it."""

    name: str
    rows: NDArray[Any]
    c_thresh: float
    n_thresh: int
    #: Whether nothing says that these are what IS_QSO_QN was made with.
    assumed: bool = False

    @property
    def lines(self) -> list[str]:
        """Emission lines, as columns have their names."""
        found = [x for x in self.rows.dtype.names or () if x.startswith("C_")]
        return [x.removeprefix("C_") for x in found if not x.startswith("C_BAL_")]


def open_results(table: Any, c_thresh: float | None, n_thresh: int | None) -> Table:
    """Read a table of results, and find what makes a quasar in it."""
    name = "table"
    if isinstance(table, (str, Path)):
        table = [table]
    if isinstance(table, (list, tuple)):
        rows, header, name = _read(table)
    else:
        rows, header = results_of(table)
    lacking = {"TARGETID", *RESULTS} - {*(rows.dtype.names or ())}
    if lacking or rows.ndim != 1:
        lacks = f": it has no column {min(lacking)}" if lacking else ""
        msg = f"{name}: no table of qnp-xp classify{lacks}"
        raise ValueError(msg)
    assumed = (c_thresh is None or n_thresh is None) and not header
    if c_thresh is None:
        c_thresh = float(header.get("C_THRESH", 0.5))
    if n_thresh is None:
        n_thresh = int(header.get("N_THRESH", 1))
    found = Table(name, rows, c_thresh, n_thresh, assumed)
    lines = len(found.lines)
    Options(c_thresh, n_thresh)  # which checks them
    if n_thresh > lines:
        msg = f"{name}: n_thresh is {n_thresh}, of {lines} lines"
        raise ValueError(msg)
    return found


def _read(paths: Sequence[Any]) -> tuple[NDArray[Any], dict[str, Any], str]:
    """Read one file of results or more, all of one network and threshold."""
    parts = []
    for path in different_files(map(Path, paths)):
        try:
            parts.append(Part(path, *read_catalog(path)))
        except SpectraError:
            if len(paths) == 1 or not is_summary(path):  # which lies beside the tables
                raise
    if not parts:
        msg = "no table of results"
        raise ValueError(msg)
    rows, cards = merge_tables(parts)
    name = str(parts[0].path)
    if len(parts) > 1:
        name = f"{name} ... {parts[-1].path.name}"
    return rows, {key: value for key, value, _ in cards}, name


def compare(table: Table, truth: Truth, dz: float, purity: float | None) -> Comparison:
    """Compare a table with truth."""
    scored, true, counts = _join(table, truth)
    rows, kind = table.rows[scored], truth.kind[true]
    data = _facts(table, rows, truth, true, dz)
    for known in (Kind.QUASAR, Kind.GALAXY, Kind.STAR):
        counts[known.name.lower()] = int(np.sum(kind == int(known)))
    found = data.quasar & data.called
    known_z = found & np.isfinite(data.true_z)
    called = np.sum(data.called) if data.has_others else 0
    signal, signal_name = _signal(rows, truth, true)
    offsets = _offsets(table, rows, data)
    asked = purity if purity is not None and data.has_others else np.inf
    threshold, *there = threshold_for(data, asked)
    return Comparison(
        name=table.name,
        truth_name=truth.name,
        c_thresh=table.c_thresh,
        n_thresh=table.n_thresh,
        dz=dz,
        counts=counts,
        purity=Rate.of(found if data.has_others else found & False, called),
        completeness=Rate.of(found, counts["quasar"]),
        good_z=Rate.of(known_z & data.near, known_z.sum()),
        **_broad_absorption(table, rows, truth.bal[true]),
        by_threshold=by_threshold(data),
        by_redshift=by_redshift(data),
        by_signal=by_signal(data, signal),
        by_velocity=by_velocity(offsets),
        disagreeing=_disagreeing(rows, scored, data, kind),
        asked_purity=purity,
        threshold=threshold,
        at_threshold=(there[0], there[1]),
        signal_name=signal_name,
        offsets=offsets,
    )


def _join(table: Table, truth: Truth) -> tuple[Int64, Int64, dict[str, int]]:
    """Find the rows with a result and sure truth, the rows of this, and count all."""
    place = match(table.rows, truth)
    matched = np.flatnonzero(place >= 0)
    if not matched.size:
        known = ", ".join(truth.identifiers)
        msg = (
            f"{truth.name}: none of its {truth.n} objects is in the {table.rows.size}"
            f" rows of {table.name}; objects are known by {known}"
        )
        raise ValueError(msg)
    sure = matched[truth.sure[place[matched]]]
    scored = sure[(table.rows["QN_STATUS"][sure] & int(Status.UNSCORED)) == 0]
    if not scored.size:
        what = "have a result" if sure.size else "have sure truth"
        msg = (
            f"{truth.name}: none of the {matched.size} rows of {table.name} that it"
            f" knows {what}"
        )
        raise ValueError(msg)
    sizes = table.rows.size, matched.size, sure.size, scored.size
    counts = dict(zip(("rows", "matched", "sure", "scored"), sizes, strict=True))
    return scored, place[scored], counts


def _facts(
    table: Table, rows: NDArray[Any], truth: Truth, true: Int64, dz: float
) -> Rows:
    """Find what is known of rows whose truth has the rows `true`."""
    confidences = np.stack([rows[f"C_{name}"] for name in table.lines])
    score = np.sort(confidences.astype(np.float64), axis=0)[-table.n_thresh]
    score[(rows["QN_STATUS"] & int(Status.NOT_TARGET)) != 0] = -np.inf
    z, true_z = rows["Z_QN"].astype(np.float64), truth.z[true]
    near = np.abs(z - true_z) <= dz * (1 + true_z)
    called = score > table.c_thresh
    if table.assumed and np.any(called != (rows["IS_QSO_QN"] == 1)):
        _log.warning(
            "%s: IS_QSO_QN was made with another threshold than %g in %d lines; name it"
            " by c_thresh and n_thresh",
            *(table.name, table.c_thresh, table.n_thresh),
        )
    return Rows(score, z, true_z, called, truth.is_quasar[true], near)


def _signal(rows: NDArray[Any], truth: Truth, true: Int64) -> tuple[Float64, str]:
    """Find signal to noise ratios, of the table or of truth, and what has them."""
    names = rows.dtype.names or ()
    for name in (name for name in SIGNAL if name in names):
        return rows[name].astype(np.float64), f"{name} of the table"
    if truth.signal is None:
        return np.full(rows.size, np.nan), ""
    return truth.signal[true], f"{truth.signal_name} of truth"


def _offsets(table: Table, rows: NDArray[Any], data: Rows) -> Offsets:
    """Find the velocities by which lines above the threshold are off."""
    found = data.quasar & data.called & np.isfinite(data.true_z)
    offsets = {}
    for name in table.lines:
        chosen = found & (rows[f"C_{name}"] > table.c_thresh)
        true_z, z = data.true_z[chosen], rows[f"Z_{name}"][chosen].astype(np.float64)
        offsets[name] = true_z, velocity(z, true_z)
    return offsets


def _broad_absorption(
    table: Table, rows: NDArray[Any], bal: NDArray[np.int8]
) -> dict[str, Rate]:
    """Compare broad absorption lines of quasars of which truth says something."""
    names = [x for x in rows.dtype.names or () if x.startswith("C_BAL_")]
    flagged: Bool = np.zeros(rows.size, dtype=bool)
    for name in names:
        flagged |= (rows[name] > table.c_thresh) & (bal >= 0)
    both = flagged & (bal == 1)
    total = np.sum(bal == 1) if names else 0
    known = flagged.sum() if np.any(bal == 0) else 0
    return {
        "bal_recall": Rate.of(both, total),
        "bal_purity": Rate.of(both if known else both & False, known),
    }


def _disagreeing(
    rows: NDArray[Any], numbers: Int64, data: Rows, kind: NDArray[np.int8]
) -> NDArray[Any]:
    """Take the rows of a table, which have numbers, that disagree with truth."""
    found = data.quasar & data.called
    far = found & np.isfinite(data.true_z) & ~data.near
    conditions = [data.quasar & ~data.called, ~data.quasar & data.called, far]
    problems = np.select(conditions, [b"missed", b"false", b"redshift"], b"")
    chosen = np.flatnonzero(problems != b"")
    classes = {int(known): known.name.encode() for known in Kind}
    classes[int(Kind.QUASAR)] = b"QSO"
    columns = {
        "ROW": numbers[chosen],
        "PROBLEM": problems[chosen].astype("S8"),
        "TRUE_CLASS": np.asarray([classes[k] for k in kind[chosen].tolist()], "S7"),
        "TRUE_Z": data.true_z[chosen],
        "DV": np.where(data.quasar, velocity(data.z, data.true_z), np.nan)[chosen],
    }
    own = {name: rows[name][chosen] for name in rows.dtype.names or ()}
    return structured({**columns, **own})
