"""Which spectra a page shows, and their rows of a table that is there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._classify import Result, classify_source
from .._options import Options
from ..io.source import Source
from ..io.tables import read_catalog
from ..lines import column_names
from ..model import QuasarNP
from ..selection import Indices, RowRanges, check_indices, row_indices, target_indices
from ..status import Status

#: How far from the threshold the confidence may be that decides about a spectrum.
NEAR = 0.2

# Columns that tell spectra apart, the first that both a table and a source have.
_KEYS = (
    ("TARGETID",),
    ("PLATE", "MJD", "FIBERID"),
    ("FIELD", "MJD", "CATALOGID"),
    ("SPECID",),
    ("SPARCL_ID",),
)


@dataclass(frozen=True)
class Ask:
    """Which spectra are asked for; all of them by default."""

    rows: ArrayLike | RowRanges | None = None
    targetids: ArrayLike | None = None
    quasars: bool = False
    near_threshold: bool = False

    @property
    def named(self) -> bool:
        """Whether the spectra are asked for one by one."""
        return self.rows is not None or self.targetids is not None

    def indices(self, source: Source) -> Indices | None:
        """Find the rows of a source that are named, each once; None for all."""
        if self.targetids is not None:
            known = source.identifiers.get("TARGETID")
            return target_indices(self.targetids, known, source.name)
        if self.rows is None:
            return None
        if isinstance(self.rows, RowRanges):
            found = check_indices(self.rows, source.n, "rows")
        else:
            found = row_indices(self.rows, source.n)
        return np.asarray(list(dict.fromkeys(found.tolist())), dtype=np.int64)

    def kept(self, table: NDArray[Any], distances: NDArray[np.float64]) -> Indices:
        """Find the rows of a table that are asked for."""
        kept = np.ones(table.size, dtype=bool)
        if self.quasars:
            kept = table["IS_QSO_QN"] == 1
        if self.near_threshold:
            target = (table["QN_STATUS"] & int(Status.NOT_TARGET)) == 0
            kept = (distances <= NEAR) & target
        return np.flatnonzero(kept).astype(np.int64)


@dataclass(frozen=True)
class Part:
    """Spectra of one input that are shown, with their results."""

    open: Callable[[], Source]
    indices: Indices
    result: Result
    #: From the threshold to the confidence that decides.
    distances: NDArray[np.float64]

    def take(self, rows: Indices) -> Part:
        """Keep some of the spectra."""
        facts = self.indices[rows], self.result.take(rows), self.distances[rows]
        return Part(self.open, *facts)


def choose(
    open_source: Callable[[], Source],
    model: QuasarNP,
    options: Options,
    ask: Ask,
    catalog: Catalog | None,
) -> Part:
    """Classify the spectra of an input, or look them up, and choose among them."""
    with open_source() as source:
        if source.n == 0:
            msg = f"{source.name}: holds no spectra"
            raise ValueError(msg)
        indices = ask.indices(source)
        if catalog is None:
            result = classify_source(
                source, model, options, indices=indices, keep_boxes=True
            )
            table = result.table
            indices = row_indices(None, source.n) if indices is None else indices
        else:
            indices, table = catalog.rows_of(source, indices)
        distances = _distances(table, model, options)
        kept = ask.kept(table, distances)
        if catalog is None:
            result = result.take(kept)
        else:
            result = classify_source(
                source, model, options, indices=indices[kept], keep_boxes=True
            )
            result = replace(result, table=table[kept])
    return Part(open_source, indices[kept], result, distances[kept])


def limited(parts: Sequence[Part], ask: Ask, limit: int) -> list[Part]:
    """Keep the first spectra, or those nearest to the threshold."""
    sizes = [part.indices.size for part in parts]
    order = np.arange(sum(sizes))
    if ask.near_threshold:
        distances = np.concatenate([part.distances for part in parts])
        order = np.argsort(distances, kind="stable")
    kept = np.zeros(order.size, dtype=bool)
    kept[order if ask.named else order[:limit]] = True
    shares = np.split(kept, np.cumsum(sizes)[:-1])
    return [
        part.take(np.flatnonzero(share).astype(np.int64))
        for part, share in zip(parts, shares, strict=True)
    ]


def _distances(
    table: NDArray[Any], model: QuasarNP, options: Options
) -> NDArray[np.float64]:
    """Measure how far each spectrum is from the threshold; infinite without result."""
    lines = np.stack([table[f"C_{name}"] for name in column_names(model.lines)])
    number = int(options.n_thresh)
    if number > len(lines):  # no spectrum can be a quasar
        return np.full(table.size, np.inf)
    decisive = np.sort(lines.astype(np.float64), axis=0)[-number]
    return np.where(np.isnan(decisive), np.inf, np.abs(decisive - options.c_thresh))


@dataclass(frozen=True)
class Catalog:
    """A table that `classify` or `merge` wrote, whose results are shown."""

    path: Path
    table: NDArray[Any]
    header: dict[str, tuple[Any, str]]

    @classmethod
    def read(cls, path: str | Path) -> Catalog:
        """Read a table."""
        return cls(Path(path), *read_catalog(path))

    def ensure_made_by(self, model: QuasarNP) -> None:
        """Raise an error for a table of other weights, or of sums of spectra."""
        sha256, _ = self.header.get("QNSHA256", (model.weights_sha256, ""))
        if sha256 != model.weights_sha256:
            name, _ = self.header.get("QNMODEL", ("others", ""))
            msg = (
                f"{self.path}: was made with the weights {name} ({str(sha256)[:8]}...),"
                f" not with {model.weights_name}: name them with -m (model=)"
            )
            raise ValueError(msg)
        if self.header.get("QNCOADD", (False, ""))[0]:
            msg = f"{self.path}: its rows are sums of spectra, which no page shows"
            raise ValueError(msg)

    def setting(self, keyword: str, value: Any, default: Any) -> Any:
        """Give the value that a user asks for, else the table's, else the usual one."""
        return self.header.get(keyword, (default, ""))[0] if value is None else value

    def rows_of(
        self, source: Source, indices: Indices | None
    ) -> tuple[Indices, NDArray[Any]]:
        """Find the rows of a source, or those of some indices, that the table has."""
        table = self.table
        names = set(table.dtype.names or ())
        if "QNINPUT" in names:
            own = Path(source.name).name.encode("ascii", "backslashreplace")
            table = table[np.char.strip(table["QNINPUT"]) == own]
        known = source.identifiers
        shared = [key for key in _KEYS if names.issuperset(key) and known.keys() >= set(key)]
        if not shared:
            msg = f"{self.path}: has no columns that say which spectra of {source.name} its rows are"
            raise ValueError(msg)
        rows = list(zip(*(table[name].tolist() for name in shared[0]), strict=True))
        wanted = np.arange(source.n) if indices is None else indices
        asked = list(zip(*(known[n][wanted].tolist() for n in shared[0]), strict=True))
        number = {row: n for n, row in enumerate(rows)}
        if rows == asked:  # also where a target has several rows
            return wanted.astype(np.int64), table
        doubles = len(number) < len(rows)
        kept = [n for n, row in enumerate(asked) if row in number]
        if doubles or not kept:
            what = "several rows of a target" if doubles else f"no row of {source.name}"
            msg = f"{self.path}: has {what}"
            raise ValueError(msg)
        return wanted[kept], table[[number[asked[n]] for n in kept]]
