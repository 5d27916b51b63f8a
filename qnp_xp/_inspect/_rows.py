"""Which spectra a page shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._classify import Result, classify_source
from .._data import NEAR
from .._options import Options
from ..io._match import match
from ..io._truth import Kind, Truth
from ..io.source import Source
from ..lines import column_names
from ..model import QuasarNP
from ..selection import Indices, RowRanges, check_indices, row_indices, target_indices
from ..status import Status
from ._catalog import Catalog

_APART = 0.01  # |dz| / (1 + z) above which redshifts differ


@dataclass(frozen=True)
class Ask:
    """Which spectra are asked for; all of them by default."""

    rows: ArrayLike | RowRanges | None = None
    targetids: ArrayLike | None = None
    quasars: bool = False
    near_threshold: bool = False
    #: With which the results are not to agree.
    truth: Truth | None = None

    def __post_init__(self) -> None:
        chosen = {
            "rows": self.rows is not None,
            "targetids": self.targetids is not None,
            "quasars": self.quasars,
            "near_threshold": self.near_threshold,
            "disagree": self.truth is not None,
        }
        names = [name for name, given in chosen.items() if given]
        if len(names) > 1:
            msg = f"{names[0]} and {names[1]} cannot be given both"
            raise ValueError(msg)

    @property
    def named(self) -> bool:
        """Whether the spectra are asked for one by one."""
        return self.rows is not None or self.targetids is not None

    @property
    def wanted(self) -> str:
        """What is asked of each spectrum, to say that none is so."""
        if self.quasars:
            return "is called a quasar"
        if self.near_threshold:
            return f"has a confidence within {NEAR} of the threshold"
        if self.truth is not None:
            return f"disagrees with {self.truth.name}"
        return "is as asked for"

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

    def kept(
        self, table: NDArray[Any], distances: NDArray[np.float64], known: Indices
    ) -> Indices:
        """Find the rows of a table that are asked for."""
        kept: NDArray[Any] = np.ones(table.size, dtype=bool)
        if self.quasars:
            kept = table["IS_QSO_QN"] == 1
        if self.near_threshold:
            target = (table["QN_STATUS"] & int(Status.NOT_TARGET)) == 0
            kept = (distances <= NEAR) & target
        if self.truth is not None:
            kept = _disagrees(table, self.truth, known)
        return np.flatnonzero(kept).astype(np.int64)

    def known(self, table: NDArray[Any]) -> Indices:
        """Find the row of truth of each row of a table, -1 without."""
        if self.truth is None:
            return np.full(table.size, -1, dtype=np.int64)
        return match(table, self.truth)


@dataclass(frozen=True)
class Part:
    """Spectra of one input that are shown, with their results."""

    open: Callable[[], Source]
    indices: Indices
    result: Result
    #: From the threshold to the confidence that decides.
    distances: NDArray[np.float64]
    #: Rows of truth, -1 without.
    known: Indices

    def take(self, rows: Indices) -> Part:
        """Keep some of the spectra."""
        facts = self.indices[rows], self.result.take(rows), self.distances[rows]
        return Part(self.open, *facts, self.known[rows])


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
        distances, known = _distances(table, model, options), ask.known(table)
        kept = ask.kept(table, distances, known)
        if catalog is None:
            result = result.take(kept)
        else:
            result = classify_source(
                source, model, options, indices=indices[kept], keep_boxes=True
            )
            result = replace(result, table=table[kept])
    return Part(open_source, indices[kept], result, distances[kept], known[kept])


def limited(parts: Sequence[Part], ask: Ask, limit: int) -> list[Part]:
    """Keep the first spectra, or those nearest to the threshold."""
    sizes = [part.indices.size for part in parts]
    order: NDArray[Any] = np.arange(sum(sizes))
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


def _disagrees(table: NDArray[Any], truth: Truth, known: Indices) -> NDArray[np.bool_]:
    """Tell where truth is sure, and the results are not like it."""
    sure = (known >= 0) & truth.sure[known] & (truth.kind[known] != int(Kind.UNKNOWN))
    found, is_quasar = table["IS_QSO_QN"] == 1, truth.is_quasar[known]
    apart = np.abs(table["Z_QN"] - truth.z[known]) > _APART * (1 + truth.z[known])
    wrong: NDArray[np.bool_] = sure & ((found != is_quasar) | (found & apart))
    return wrong
