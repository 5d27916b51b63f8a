"""What older tables hold: whether they are in order, and of the kinds expected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from ._files import ensure_table_of_classify, ensure_writable
from ._fits import FitsFile
from ._table_forms import Card, form_of
from .source import identify


def rows_hash(table: NDArray[Any]) -> str:
    """Hash the columns of a table and their values, as a file gives them back."""
    sha = hashlib.sha256()
    for name in table.dtype.names or ():
        values = table[name]
        kind = "S" if values.dtype.kind in "SU" else values.dtype.newbyteorder("<")
        values = values.astype(kind)
        sha.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        sha.update(values.tobytes())
    return sha.hexdigest()[:16]


def current_table(path: Path, identity: Iterable[Card]) -> NDArray[Any] | None:
    """Read a sound table with these cards, and the rows it had; None where none is."""
    try:
        with FitsFile(path) as file:
            if any(file.value("QN", key) != value for key, value, _ in identity):
                return None
            table = file.table("QN")
            return table if file.value("QN", "QNHASH") == rows_hash(table) else None
    except (OSError, SpectraError, UnicodeError):
        return None


def ensure_output(
    path: Path, overwrite: bool, inputs: Iterable[str | Path] = ()
) -> None:
    """Refuse a table that cannot be written, or that would replace another's file."""
    form = form_of(path)
    ensure_writable(path, overwrite, inputs)
    ensure_table_of_classify(path, form)


def is_summary(path: Path) -> bool:
    """Tell whether a file is the summary of a run; False if it cannot be read."""
    try:
        with FitsFile(path) as file:
            return {"NAME", "OUTPUT", "STATE"} <= {*file.column_names("FILES")}
    except (OSError, SpectraError):
        return False


def is_table_of_classify(path: Path) -> bool:
    """Tell whether a file has a table of results that `merge` did not make."""
    try:
        with FitsFile(path) as file:
            return "QN" in file and file.value("QN", "QNTABLES") is None
    except (OSError, SpectraError):
        return False


def checked(
    table: NDArray[Any], types: Mapping[str, Any], problem: Callable[[str], Exception]
) -> NDArray[Any]:
    """Check the columns of known types, and spell their names as these are spelt.

    Integers and texts get their types; floats keep theirs, since they would be rounded.
    """
    spelt = {name.upper(): name for name in types}
    own = {spelt.get(name.upper(), name): name for name in table.dtype.names or ()}
    columns = {name: table[old] for name, old in own.items()}
    if len(columns) < len(table.dtype.names or ()):
        raise problem("has two columns whose names differ in case alone")
    known = {name: columns[name] for name in columns if name in types}
    for name, values in identify(known, table.size, problem, types).items():
        if columns[name].dtype.kind != "f":
            columns[name] = values
    dtype = [(name, x.dtype, x.shape[1:]) for name, x in columns.items()]
    found = np.empty(table.size, dtype)
    for name, values in columns.items():
        found[name] = values
    return found
