"""A table that is there already, whose results a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._text import as_ascii
from ..io.source import Source
from ..io.tables import read_catalog
from ..model import QuasarNP
from ..selection import Indices, row_indices

# Columns that tell spectra apart; the first counts that both a table and a source have.
_KEYS = (
    ("TARGETID",),
    ("PLATE", "MJD", "FIBERID"),
    ("FIELD", "MJD", "CATALOGID"),
    ("SPECID",),
    ("SPARCL_ID",),
)

_UNKNOWN = {"TARGETID": -1}  # where an input has none


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

    def rows_of(
        self, source: Source, indices: Indices | None
    ) -> tuple[Indices, NDArray[Any]]:
        """Find the rows of a source, or those of some indices, that the table has."""
        table = self.table
        names = set(table.dtype.names or ())
        if "QNINPUT" in names:
            own = as_ascii(Path(source.name).name).encode()
            table = table[np.char.strip(table["QNINPUT"].astype("S")) == own]
        known = source.identifiers
        key = next((k for k in _KEYS if _tells(k, table) and {*k} <= {*known}), None)
        if key is None:
            msg = f"{self.path}: no column says which spectra of {source.name} it has"
            raise ValueError(msg)
        wanted = row_indices(None, source.n) if indices is None else indices
        rows = _tuples([table[name] for name in key])
        asked = _tuples([known[name] for name in key])
        if rows == asked:  # also where a target has several rows
            return wanted, table[wanted]
        number = {row: place for place, row in enumerate(rows)}
        if len(number) < len(rows):
            msg = f"{self.path}: has several rows of a target of {source.name}"
            raise ValueError(msg)
        kept = np.asarray([row for row in wanted.tolist() if asked[row] in number])
        if not kept.size:
            msg = f"{self.path}: has no row of {source.name} that is to be shown"
            raise ValueError(msg)
        return kept, table[[number[asked[row]] for row in kept.tolist()]]


def _tells(key: Sequence[str], table: NDArray[Any]) -> bool:
    """Tell whether columns are there, and say of each row which spectrum it is."""
    names = table.dtype.names or ()
    return {*key} <= {*names} and not np.any(table[key[0]] == _UNKNOWN.get(key[0]))


def _tuples(columns: Sequence[NDArray[Any]]) -> list[tuple[Any, ...]]:
    """Make a tuple of the values of each row."""
    return list(zip(*(column.tolist() for column in columns), strict=True))
