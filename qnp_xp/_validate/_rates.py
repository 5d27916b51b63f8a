"""Numbers of rows as rates: against threshold, redshift and signal to noise ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_LIGHT_SPEED = 299_792.458  # km/s
_THRESHOLDS = np.append(np.arange(100) / 100, [0.995, 0.999])
_Z_STEP = 0.25
_LOG_STEP = 0.005  # of log10(1 + z), about a seventh of a box of DESI's network
_PERCENTILES = (50.0, 16.0, 84.0)

#: Counted rows: true quasars; those of them that are found, with a redshift of both
#: sides, with a good one; rows that are called quasars, and those that are some.
_COUNTS = ("N_QSO", "N_FOUND", "N_Z", "N_GOOD", "N_CALLED", "N_RIGHT")
#: Rates by what they are called, as counts of these.
_RATES = {
    "PURITY": ("N_RIGHT", "N_CALLED"),
    "COMPLETENESS": ("N_FOUND", "N_QSO"),
    "GOOD_Z": ("N_GOOD", "N_Z"),
}


@dataclass(frozen=True)
class Rate:
    """A part of a number of rows, with its binomial error.

    Attributes
    ----------
    count, total : int
        Rows that count, of how many.
    """

    count: int
    total: int

    @property
    def value(self) -> float:
        """The part; NaN of no rows."""
        return self.count / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of Wilson's interval of 68.3 per cent."""
        low, high = wilson(self.count, self.total)
        return float(low), float(high)

    @classmethod
    def of(cls, chosen: Bool, total: Any) -> Rate:
        """Count the rows that are chosen, of a number of them."""
        return cls(int(np.sum(chosen)), int(total))

    def __str__(self) -> str:
        if not self.total:
            return "not known (of no rows)"
        low, high = self.interval
        errors = f"+{high - self.value:.3f} -{self.value - low:.3f}"
        return f"{self.value:.3f} {errors} ({self.count} of {self.total})"


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a table whose truth is known."""

    #: Highest threshold below which each is called a quasar.
    score: Float64
    #: Redshifts of the table, and of truth (NaN where it is not known).
    z: Float64
    true_z: Float64
    #: Whether each is called a quasar at the threshold, and whether it is one.
    called: Bool
    quasar: Bool
    #: Whether the redshifts agree.
    near: Bool

    @property
    def has_others(self) -> bool:
        """Whether there is anything but quasars, without which purity is not known."""
        return not np.all(self.quasar)


def wilson(count: ArrayLike, total: ArrayLike) -> tuple[Float64, Float64]:
    """Give the ends of Wilson's interval of one standard deviation."""
    k, n = (np.asarray(x, dtype=np.float64) for x in (count, total))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = k / n
        middle = (part + 0.5 / n) / (1 + 1 / n)
        half = np.sqrt(part * (1 - part) / n + 0.25 / n**2) / (1 + 1 / n)
    # At the ends rounding may leave the part itself outside.
    return np.fmin(np.maximum(middle - half, 0), part), np.fmax(
        np.minimum(middle + half, 1), part
    )


def velocity(z: Float64, true_z: Float64) -> Float64:
    """Give velocities in km/s by which redshifts are off."""
    return _LIGHT_SPEED * (z - true_z) / (1 + true_z)


def by_threshold(rows: Rows) -> NDArray[Any]:
    """Count rows above each of many thresholds."""
    known = rows.quasar & np.isfinite(rows.true_z)
    parts = {
        "N_FOUND": rows.quasar,
        "N_Z": known,
        "N_GOOD": known & rows.near,
        "N_CALLED": np.ones(rows.score.size, dtype=bool),
        "N_RIGHT": rows.quasar,
    }
    counts = {
        name: above(rows.score[chosen], _THRESHOLDS) for name, chosen in parts.items()
    }
    counts["N_QSO"] = np.full(_THRESHOLDS.size, np.sum(rows.quasar))
    return _table(rows, {"C_THRESH": _THRESHOLDS}, counts)


def above(scores: Float64, thresholds: Float64) -> NDArray[np.int64]:
    """Count the scores above each threshold."""
    return scores.size - np.searchsorted(np.sort(scores), thresholds, "right")


def by_redshift(rows: Rows) -> NDArray[Any]:
    """Count rows in bins of redshift: the true one of quasars, else the table's."""
    known = rows.quasar & np.isfinite(rows.true_z)
    values = np.concatenate([rows.true_z[known], rows.z[rows.called]])
    low, high = np.floor(values.min(initial=0) / _Z_STEP), values.max(initial=0.01)
    edges = np.arange(low, np.ceil(high / _Z_STEP) + 1) * _Z_STEP
    return _table(rows, {"Z": edges}, _binned(rows, rows.true_z, rows.z, edges))


def by_signal(rows: Rows, signal: Float64) -> NDArray[Any]:
    """Count rows in bins of the signal to noise ratio, each twice as far as the last.

    Rows without one that is above zero are left out.
    """
    known = signal[np.isfinite(signal) & (signal > 0)]
    if not known.size:
        return _table(
            rows, {"SN": np.zeros(1)}, {name: np.zeros(0) for name in _COUNTS}
        )
    ends = np.log2([known.min(), known.max()])
    edges = 2.0 ** np.arange(np.floor(ends[0]), np.floor(ends[1]) + 2)
    return _table(rows, {"SN": edges}, _binned(rows, signal, signal, edges))


def _binned(
    rows: Rows, of_truth: Float64, of_table: Float64, edges: Float64
) -> dict[str, NDArray[Any]]:
    """Count rows in bins of a value of truth, or of the table where it is called so."""
    found = rows.quasar & rows.called
    known = found & np.isfinite(rows.true_z)
    parts = {
        "N_QSO": (of_truth, rows.quasar),
        "N_FOUND": (of_truth, found),
        "N_Z": (of_truth, known),
        "N_GOOD": (of_truth, known & rows.near),
        "N_CALLED": (of_table, rows.called),
        "N_RIGHT": (of_table, found),
    }
    return {
        name: np.histogram(values[chosen & np.isfinite(values)], edges)[0]
        for name, (values, chosen) in parts.items()
    }


def _table(
    rows: Rows, axis: dict[str, Float64], counts: dict[str, NDArray[Any]]
) -> NDArray[Any]:
    """Make a table of counts and their rates, by one value or the edges of bins."""
    ((name, values),) = axis.items()
    columns: dict[str, NDArray[Any]] = {name: values}
    if values.size != counts["N_QSO"].size:
        columns = {f"{name}_LOW": values[:-1], f"{name}_HIGH": values[1:]}
    columns |= {name: counts[name].astype(np.int64) for name in _COUNTS}
    for name, (count, total) in _RATES.items():
        k, n = columns[count], columns[total]
        if name == "PURITY" and not rows.has_others:
            n = np.zeros_like(n)
        part = np.divide(k, n, out=np.full(k.shape, np.nan), where=n > 0)
        low, high = wilson(k, n)
        columns |= {name: part, f"{name}_LOW": low, f"{name}_HIGH": high}
    return structured(columns)


def by_velocity(offsets: dict[str, tuple[Float64, Float64]]) -> NDArray[Any]:
    """Find the median velocity of each line, and its spread, in bins of redshift.

    `offsets` has true redshifts and velocities in km/s by the name of a line.
    """
    parts = []
    for line, (z, dv) in offsets.items():
        step = np.floor(np.log10(1 + z) / _LOG_STEP).astype(np.int64)
        order = np.argsort(step, kind="stable")
        groups = np.split(dv[order], np.flatnonzero(np.diff(step[order])) + 1)
        values = [np.percentile(group, _PERCENTILES) for group in groups if group.size]
        middle, low, high = np.reshape(values, (-1, 3)).T
        first = np.unique(step)
        columns = {
            "LINE": np.full(first.size, line, dtype="S12"),
            "Z_LOW": 10.0 ** (first * _LOG_STEP) - 1,
            "Z_HIGH": 10.0 ** ((first + 1) * _LOG_STEP) - 1,
            "N": np.asarray([g.size for g in groups if g.size], dtype=np.int64),
            "DV": middle,
            "DV_P16": low,
            "DV_P84": high,
        }
        parts.append(structured(columns))
    return np.concatenate(parts)


def structured(columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Make a table of columns."""
    dtype = [(name, x.dtype, x.shape[1:]) for name, x in columns.items()]
    table = np.empty(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        table[name] = values
    return table


def threshold_for(rows: Rows, purity: float) -> tuple[float, Rate, Rate]:
    """Find the lowest threshold that gives a purity, NaN if none does.

    Purity and completeness there come with it.
    """
    total = int(np.sum(rows.quasar))
    order = np.argsort(rows.score, kind="stable")
    order = order[rows.score[order] > 0]
    scores, right = rows.score[order], rows.quasar[order]
    # One threshold between each two scores that differ, and one below all.
    starts = np.flatnonzero(np.diff(scores, prepend=0.0))
    called = scores.size - starts
    found = np.cumsum(right[::-1])[::-1][starts]
    good = np.flatnonzero(found / called >= purity)
    if not good.size:
        return float("nan"), Rate(0, 0), Rate(0, total)
    first = int(good[0])
    start = int(starts[first])
    low = float(scores[start - 1]) if start else 0.0
    rates = Rate(int(found[first]), int(called[first])), Rate(int(found[first]), total)
    return (_short(low, float(scores[start])), *rates)


def _short(low: float, high: float) -> float:
    """Find a number of few digits that is not below one number, and below another."""
    rounded = (round((low + high) / 2, digits) for digits in range(1, 16))
    return next((number for number in rounded if low <= number < high), low)
