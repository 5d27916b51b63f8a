"""One catalogue of the tables of many files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from .tables import Card, missing_value, read_catalog

__all__ = ["Part", "merge_tables", "read_part", "without_duplicates"]

#: Keywords that must be the same in all tables, and what a difference means.
_SETTINGS = {
    "QNSHA256": "another network",
    "QNDTYPE": "another dtype",
    "C_THRESH": "another threshold",
    "N_THRESH": "another threshold",
    "USEMASK": "another use of masks",
    "QNCOADD": "spectra of a target added up, or not",
}
_MOST_NAMED = 3  # duplicates in an error, and files of each


@dataclass(frozen=True)
class Part:
    """The table of one input.

    Attributes
    ----------
    path
        Its file.
    table, header
        As `qnp_xp.io.tables.read_catalog` returns them.
    """

    path: Path
    table: NDArray[Any]
    header: Mapping[str, tuple[Any, str]]


def read_part(path: str | Path) -> Part:
    """Read a table.

    Parameters
    ----------
    path
        Its file.

    Returns
    -------
    Part

    Raises
    ------
    FileNotFoundError, SpectraError
        As for `qnp_xp.io.tables.read_catalog`.
    """
    return Part(Path(path), *read_catalog(Path(path)))


def merge_tables(parts: Sequence[Part]) -> tuple[NDArray[Any], list[Card]]:
    """Put tables one behind the other.

    Parameters
    ----------
    parts
        One or more.

    Returns
    -------
    table : numpy.ndarray
        Structured: rows in the order of the tables, with the column QNINPUT, the
        file of the spectrum. TARGET_RA, TARGET_DEC, PLATE, MJD and FIBERID are there if
        one table has them, and NaN or -1 in rows of those that have not.
    cards : list of (keyword, value, comment)
        Those that are the same in all tables; of libraries, all versions.

    Raises
    ------
    SpectraError
        If weights, settings or other columns differ.
    """
    for part in parts[1:]:
        _check_settings(parts[0], part)
    inputs = [str(_value(part, "QNINPUT", part.path.name)).encode() for part in parts]
    columns = _columns(parts)
    width = max(1, *map(len, inputs), *(_input_width(part) for part in parts))
    columns.append(("QNINPUT", np.dtype(f"S{width}")))
    merged = np.zeros(sum(part.table.size for part in parts), dtype=columns)
    first = 0
    for part, name in zip(parts, inputs, strict=True):
        rows = merged[first : first + part.table.size]
        first += part.table.size
        rows["QNINPUT"] = name
        for column, dtype in columns:
            if column in (part.table.dtype.names or ()):
                rows[column] = part.table[column]
            elif column != "QNINPUT":
                rows[column] = missing_value(column, dtype)
    return merged, _common_cards(parts)


def without_duplicates(table: NDArray[Any], which: str | None) -> NDArray[Any]:
    """Deal with targets that are in a table several times.

    Parameters
    ----------
    table
        As `merge_tables` returns it. A TARGETID of -1 is no target.
    which
        ``"keep"`` for all rows; ``"best"`` for the one of the highest Z_QN_CONF, the
        first of these, where NaN is the lowest; None if there must be no duplicates.

    Returns
    -------
    numpy.ndarray
        Structured: the rows that are kept, in their order.

    Raises
    ------
    SpectraError
        If there are duplicates that must not be.
    """
    if which == "keep":
        return table
    target, confidence = table["TARGETID"], table["Z_QN_CONF"].astype(np.float64)
    confidence = np.where(np.isnan(confidence), -np.inf, confidence)
    # By target, then the best first; lexsort is stable, so the first of equals.
    order = np.lexsort((-confidence, target))
    repeated = np.zeros(table.size, dtype=bool)
    ordered = target[order]
    repeated[order[1:]] = (ordered[1:] == ordered[:-1]) & (ordered[1:] != -1)
    if which is None and np.any(repeated):
        found = np.unique(target[repeated])
        named = []
        for number in found[:_MOST_NAMED].tolist():
            files = np.unique(table["QNINPUT"][target == number]).tolist()
            names = [name.decode() for name in files[:_MOST_NAMED]]
            names += ["..."] if len(files) > _MOST_NAMED else []
            named.append(f"{number} ({', '.join(names)})")
        msg = (
            f"{found.size} TARGETIDs are in several rows: {', '.join(named)}"
            f"{', ...' if found.size > _MOST_NAMED else ''}; --duplicates keep takes"
            " all of their rows, --duplicates best the most confident ones"
        )
        raise SpectraError(msg)
    return table[~repeated]


def _value(part: Part, keyword: str, default: Any = None) -> Any:
    return part.header.get(keyword, (default, ""))[0]


def _input_width(part: Part) -> int:
    """Length of the names in QNINPUT, which tables have that were merged before."""
    if "QNINPUT" not in (part.table.dtype.names or ()):
        return 0
    return part.table["QNINPUT"].astype("S").itemsize


def _check_settings(first: Part, other: Part) -> None:
    for keyword, meaning in _SETTINGS.items():
        values = _value(first, keyword), _value(other, keyword)
        if values[0] != values[1]:
            msg = (
                f"{other.path}: {meaning}: {keyword} is {values[1]}, and {values[0]} in"
                f" {first.path}"
            )
            raise SpectraError(msg)


def _columns(parts: Sequence[Part]) -> list[tuple[str, np.dtype[Any]]]:
    """Columns of all tables, in the order of the one with the most; less QNINPUT."""
    by_table = [
        {name: part.table.dtype[name] for name in part.table.dtype.names or ()}
        for part in parts
    ]
    known: dict[str, np.dtype[Any]] = {}
    for columns in by_table:
        for name, dtype in columns.items():
            known.setdefault(name, dtype)
    known.pop("QNINPUT", None)
    for part, columns in zip(parts, by_table, strict=True):
        for name, dtype in known.items():
            if name not in columns and missing_value(name, dtype) is None:
                msg = f"{part.path}: has no column {name}, and others have"
                raise SpectraError(msg)
            if columns.get(name, dtype) != dtype:
                msg = f"{part.path}: {name} is {columns[name]}, and {dtype} in others"
                raise SpectraError(msg)
    # Identifiers that the first table lacks belong behind TARGETID all the same.
    optional = [name for name in known if missing_value(name, known[name]) is not None]
    order = ["TARGETID", *optional]
    order += [name for name in known if name not in order]
    return [(name, known[name]) for name in order]


def _common_cards(parts: Sequence[Part]) -> list[Card]:
    cards: list[Card] = []
    for keyword, (value, comment) in parts[0].header.items():
        values = [_value(part, keyword) for part in parts]
        if all(other == value for other in values):
            cards.append((keyword, value, comment))
        elif keyword.startswith("DEPVER"):
            text = ", ".join(sorted({str(v) for v in values if v is not None}))
            cards.append((keyword, text, comment))
    return [*cards, ("QNTABLES", len(parts), "tables that were merged")]
