"""One catalogue of the tables of many files."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from ._table_forms import Card
from .source import IDENTIFIERS
from .tables import is_setting, missing_value

# Keywords that are about one table: its input and its rows.
_OF_ONE_FILE = ("QNSTAMP", "QNHASH")
# What they begin with that are about the inputs of one run.
_OF_ONE_RUN = ("QNFILES", "QNFAIL", "QNSKIP", "QNBAD")
_MOST_NAMED = 3  # duplicates in an error, and files of each


@dataclass(frozen=True)
class Part:
    """The table of one input, as `qnp_xp.io.tables.read_catalog` returns it."""

    path: Path
    table: NDArray[Any]
    header: Mapping[str, tuple[Any, str]]

    def value(self, keyword: str, default: Any = None) -> Any:
        """Look a value of the header up."""
        return self.header.get(keyword, (default, ""))[0]

    @functools.cached_property
    def columns(self) -> dict[str, np.dtype[Any]]:
        """Types of the columns by name."""
        return {name: self.table.dtype[name] for name in self.table.dtype.names or ()}

    def column(self, name: str, missing: Any) -> NDArray[Any]:
        """Give the values of a column, all of them `missing` where it is not there."""
        if name in self.columns:
            return self.table[name]
        return np.full(self.table.size, missing)


def merge_tables(parts: Sequence[Part]) -> tuple[NDArray[Any], list[Card]]:
    """Join the rows of one or more tables of the same settings, in their order.

    The column QNINPUT names the file of each spectrum. Identifiers that only some of
    the tables have are NaN or -1 in the rows of the others. The cards are those that
    are the same in all tables; of libraries, all versions.
    """
    for part in parts[1:]:
        _check_settings(parts[0], part)
    columns = _columns(parts)
    inputs = np.concatenate([_inputs(part) for part in parts])
    merged = np.zeros(inputs.size, [*columns.items(), ("QNINPUT", inputs.dtype)])
    merged["QNINPUT"] = inputs
    for name, dtype in columns.items():
        missing = missing_value(name, dtype)
        merged[name] = np.concatenate([part.column(name, missing) for part in parts])
    return merged, _common_cards(parts)


def ensure_no_copies(parts: Sequence[Part]) -> None:
    """Refuse two tables of the same spectra, which no TARGETID tells apart."""
    found: dict[tuple[str, Any, Any], Part] = {}
    for part in parts:
        if not np.any(part.table["TARGETID"] == -1):
            continue
        for keyword in _OF_ONE_FILE:
            value = part.value(keyword)
            first = found.setdefault((keyword, value, part.value("QNSELECT")), part)
            if value and first is not part:
                raise SpectraError(
                    f"{first.path} and {part.path}: of the same spectra ({keyword}),"
                    " some without TARGETID; --duplicates keep takes all of their rows"
                )


def without_duplicates(table: NDArray[Any], which: str | None) -> NDArray[Any]:
    """Choose between the rows of targets that a merged table has several times.

    ``"keep"`` takes all of them; ``"best"`` takes the one of the highest Z_QN_CONF, the
    first of equals, where NaN is the lowest; None makes them an error. A TARGETID of -1
    is no target.
    """
    if which == "keep":
        return table
    # By target, then the best first and NaN last; of equals, the first in the table.
    target: NDArray[np.int64] = table["TARGETID"]
    order = np.lexsort((-table["Z_QN_CONF"], target))
    kept: NDArray[np.bool_] = target == -1
    kept[order[np.unique(target[order], return_index=True)[1]]] = True
    if which is None and not np.all(kept):
        raise _duplicates(table, np.unique(target[~kept]))
    return table[kept]


def _duplicates(table: NDArray[Any], targets: NDArray[np.int64]) -> SpectraError:
    """Make an error that names some targets, and the files that have them."""
    named = []
    for target in targets[:_MOST_NAMED].tolist():
        files = np.unique(table["QNINPUT"][table["TARGETID"] == target]).tolist()
        names = [name.decode() for name in files[:_MOST_NAMED]]
        names += ["..."] if len(files) > _MOST_NAMED else []
        named.append(f"{target} ({', '.join(names)})")
    named += ["..."] if targets.size > _MOST_NAMED else []
    return SpectraError(
        f"{targets.size} TARGETIDs are in several rows: {', '.join(named)};"
        " --duplicates keep takes all of their rows, --duplicates best the most"
        " confident ones"
    )


def _inputs(part: Part) -> NDArray[Any]:
    """Name the file of each spectrum, as a table says that was merged before."""
    name = str(part.value("QNINPUT", part.path.name)).encode()
    return part.column("QNINPUT", name).astype("S")


def _check_settings(first: Part, other: Part) -> None:
    """Refuse tables of different settings."""
    for keyword, (_, meaning) in {**other.header, **first.header}.items():
        expected, found = first.value(keyword), other.value(keyword)
        if is_setting(keyword) and found != expected:
            msg = f"{other.path}: {keyword} ({meaning}) is {found}, and {expected} in"
            raise SpectraError(f"{msg} {first.path}")


def _columns(parts: Sequence[Part]) -> dict[str, np.dtype[Any]]:
    """Collect the columns of all tables but QNINPUT, identifiers after TARGETID."""
    known: dict[str, np.dtype[Any]] = {}
    for part in parts:
        for name, dtype in part.columns.items():
            known.setdefault(name, dtype)
    known.pop("QNINPUT", None)
    optional = [name for name in known if missing_value(name, known[name]) is not None]
    for part in parts:
        for name, dtype in known.items():
            if name not in part.columns and name not in optional:
                raise SpectraError(
                    f"{part.path}: has no column {name}, and others have"
                )
            own = part.columns.get(name, dtype)
            if own != dtype:
                msg = f"{part.path}: {name} is {own}, and {dtype} in others"
                raise SpectraError(msg)
    optional.sort(key=list(IDENTIFIERS).index)  # whichever table comes first
    order = dict.fromkeys(["TARGETID", *optional, *known])
    return {name: known[name] for name in order}


def _common_cards(parts: Sequence[Part]) -> list[Card]:
    """Keep the cards that all tables share, and every version of a library."""
    cards: list[Card] = []
    for keyword, (value, comment) in parts[0].header.items():
        if keyword in _OF_ONE_FILE or keyword.startswith(_OF_ONE_RUN):
            continue
        values = [part.value(keyword) for part in parts]
        if all(other == value for other in values):
            cards.append((keyword, value, comment))
        elif keyword.startswith("DEPVER"):
            text = ", ".join(sorted({str(v) for v in values if v is not None}))
            cards.append((keyword, text, comment))
    return [*cards, ("QNTABLES", len(parts), "tables that were merged")]
