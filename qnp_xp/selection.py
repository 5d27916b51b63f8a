"""Which rows of a source are taken, and which of them make one row of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._xp.backend import to_host

Indices = NDArray[np.int64]


def row_indices(rows: ArrayLike | None, n: int, name: str = "rows") -> Indices:
    """Turn None (all of n rows), a mask, zeros and ones, or indices into indices."""
    if rows is None:
        return np.arange(n, dtype=np.int64)
    values = to_host(rows)
    if values.ndim != 1:
        msg = f"{name} must have 1 dimension, got shape {values.shape}"
        raise ValueError(msg)
    if values.size == 0:
        return np.empty(0, dtype=np.int64)
    if values.dtype.kind not in "biu":
        msg = f"{name} must be boolean or integer, got {values.dtype}"
        raise TypeError(msg)
    if values.dtype.kind != "b":
        if values.size != n or not set(values.tolist()) <= {0, 1}:
            return check_indices(_int64(values, name), n, name)
        if n <= 2 and sorted(values.tolist()) == list(range(n)):
            msg = (
                f"{name}={values.tolist()} of {n} rows could be a mask or row numbers;"
                " pass a boolean mask"
            )
            raise ValueError(msg)
    if values.size != n:
        msg = f"{name} is a mask of length {values.size}, and there are {n} rows"
        raise ValueError(msg)
    return np.flatnonzero(values).astype(np.int64)


@dataclass(frozen=True)
class RowRanges:
    """Ranges of rows that may be longer than any array: no file is opened yet."""

    ranges: tuple[range, ...]

    def __str__(self) -> str:
        return ",".join(f"{part[0]}-{part[-1]}" for part in self.ranges)

    def indices(self, n: int, name: str) -> Indices:
        """Give the rows one by one, if there are so many."""
        ends = np.asarray([(part[0], part[-1]) for part in self.ranges], np.int64)
        check_indices(ends, n, name)
        parts = [np.arange(r.start, r.stop, dtype=np.int64) for r in self.ranges]
        return np.concatenate(parts)


def check_indices(indices: Indices | RowRanges, n: int, name: str) -> Indices:
    """Check that indices fit n rows, and count negative ones from n."""
    if isinstance(indices, RowRanges):
        return indices.indices(n, name)
    if indices.size and (indices.min() < -n or indices.max() >= n):
        msg = f"{name} has numbers from {indices.min()} to {indices.max()} of {n} rows"
        raise ValueError(msg)
    return np.where(indices < 0, indices + n, indices)


def target_indices(
    targetids: ArrayLike,
    known: NDArray[np.int64] | None,
    source: str,
    *,
    all_known: bool = False,
) -> Indices:
    """Find all rows of targets, in increasing order.

    `known` has the TARGETID of each row. A target without a row is passed over, as in a
    run over many files; with `all_known` it is an error. `source` is for messages.
    """
    if known is None:
        msg = f"{source}: has no TARGETIDs to select targets by"
        raise ValueError(msg)
    wanted = to_host(targetids)
    if wanted.size and wanted.dtype.kind not in "iu":
        msg = f"targetids must be integers, got {wanted.dtype}"
        raise TypeError(msg)
    # Of int64 and uint64 numpy makes float64, in which neighbouring targets are one.
    wanted = _int64(wanted, "targetids")
    lacking = wanted[~np.isin(wanted, known)].tolist()
    if all_known and lacking:
        msg = f"{source}: no target {', '.join(map(str, lacking[:5]))}"
        raise ValueError(msg)
    return np.flatnonzero(np.isin(known, wanted)).astype(np.int64)


def holds(dtype: np.dtype[Any], values: NDArray[Any]) -> bool:
    """Tell whether a type of integers has all of some integers."""
    limits = np.iinfo(dtype)
    return not values.size or (
        limits.min <= int(values.min()) and int(values.max()) <= limits.max
    )


def _int64(values: NDArray[Any], name: str) -> Indices:
    """Give integers of any type as int64, unless one of them has no room there."""
    if not holds(np.dtype(np.int64), values):
        msg = f"{name} has {values.max()}, which is no integer of 64 bits with a sign"
        raise ValueError(msg)
    return values.astype(np.int64)


@dataclass(frozen=True)
class Selection:
    """Rows of a source, side by side where they make one row of a table."""

    #: Rows of the source, shape ``(m,)``.
    indices: Indices
    #: For each row of the table, how many of these make it, shape ``(n,)``.
    counts: Indices

    @classmethod
    def of_rows(cls, indices: Indices) -> Selection:
        """Make a row of the table of each row."""
        return cls(indices, np.ones_like(indices))

    @classmethod
    def of_targets(cls, indices: Indices, targetids: NDArray[np.int64]) -> Selection:
        """Make a row of the table of each target, in the order of their first rows."""
        _, first, inverse = np.unique(targetids, return_index=True, return_inverse=True)
        unknown = targetids == -1  # rows of such stay alone
        owners = np.where(unknown, np.arange(targetids.size), first[inverse])
        counts = np.unique(owners, return_counts=True)[1]
        return cls(indices[np.argsort(owners, kind="stable")], counts)

    @property
    def first(self) -> Indices:
        """The first row of the source of each row of the table."""
        first: Indices = self.indices[np.cumsum(self.counts) - self.counts]
        return first

    @property
    def owners(self) -> Indices:
        """The row of the table that each row of the source belongs to."""
        return np.repeat(np.arange(self.counts.size), self.counts)

    def batches(self, size: int) -> Iterator[tuple[slice, Selection]]:
        """Cut it into whole rows of the table, of up to `size` spectra or one row."""
        ends = np.cumsum(self.counts)
        low, start = 0, 0
        while low < ends.size:
            high = max(int(np.searchsorted(ends, start + size, "right")), low + 1)
            stop = int(ends[high - 1])
            batch = Selection(self.indices[start:stop], self.counts[low:high])
            yield slice(low, high), batch
            low, start = high, stop
