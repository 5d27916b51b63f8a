"""The forms of files in which a table is written: FITS, csv, ECSV and Parquet.

The ending of a file's name says which of them is meant.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from ..errors import MissingLibraryError
from ._results import UNITS, column_note

#: Keyword, value and comment of a header.
Card = tuple[str, Any, str]

_BLOCK = 2880  # bytes of a header in FITS
_FITS = (".fits", ".fit")
_TEXTS = (".csv", ".ecsv")
_PARQUET = ".parquet"


def form_of(path: Path) -> str:
    """Tell the form of a table by the ending of its name, before there is a table."""
    ending = Path(path.name.removesuffix(".gz")).suffix
    if ending in _FITS:
        return _FITS[0]
    if ending == _PARQUET and not path.name.endswith(".gz"):
        _pyarrow()
    elif ending not in _TEXTS:
        msg = f"{path}: tables end in .fits, .csv or .ecsv, also with .gz, or .parquet"
        raise ValueError(msg)
    return ending


def catalog_content(
    form: str, table: NDArray[Any], cards: Sequence[Card], inputs: NDArray[Any] | None
) -> bytes:
    """Make a file of a table of results, and in FITS of what became of its inputs."""
    if form == ".csv":
        return _csv(table, missing="")
    if form == ".ecsv":
        return _ecsv_header(table, cards) + _csv(table, missing="nan")
    if form == _PARQUET:
        return _parquet(table, cards)
    content = table_content("QN", table, cards, described=True)
    if inputs is not None:
        # Behind the first header, which is as long as a block and has no data.
        content += table_content("INPUTS", inputs)[_BLOCK:]
    return content


def table_content(
    name: str,
    table: NDArray[Any],
    header: Sequence[Card] = (),
    *,
    described: bool = False,
) -> bytes:
    """Make a file of a table as an HDU, its columns described or not."""
    cards = [{"name": key, "value": v, "comment": note} for key, v, note in header]
    columns = table.dtype.names or ()
    units = [UNITS.get(column, "") for column in columns] if described else None
    # In memory first: of what goes wrong on the disk Python says more than cfitsio.
    with fitsio.FITS("mem://", "rw") as f:
        f.write(table, extname=name, header=cards, units=units)
        for number, column in enumerate(columns if described else (), start=1):
            f[name].write_key(f"TTYPE{number}", column, comment=column_note(column))
        content: bytes = f.read_raw()
    for key, value, note in header:
        if isinstance(value, float) and float(f"{value:.15g}") != value:
            # cfitsio writes 15 digits, of the 17 that a number may have.
            start = content.index(f"{key:<8}= ".encode())
            card = f"{key:<8}= {repr(float(value)).upper():>20} / {note}"[:80].ljust(80)
            content = content[:start] + card.encode() + content[start + 80 :]
    return content


def _texts(values: NDArray[Any], missing: str) -> list[str]:
    """Write the values of a column, floats with as many digits as they need."""
    if values.dtype.kind == "S":
        texts = np.char.decode(values, "ascii", "backslashreplace")
    else:
        texts = values.astype("U")
    if values.dtype.kind == "f":
        texts[np.isnan(values)] = missing
    found: list[str] = texts.tolist()
    return found


def _csv(table: NDArray[Any], missing: str) -> bytes:
    """Write a line of names and a line for each row."""
    columns = table.dtype.names or ()
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    texts = (_texts(table[name], missing) for name in columns)
    lines.writerows(zip(*texts, strict=True))
    return text.getvalue().encode()


def _ecsv_header(table: NDArray[Any], cards: Sequence[Card]) -> bytes:
    """Describe columns and keep a header, as astropy's ECSV 1.0 has it."""
    lines = ["%ECSV 1.0", "---", "delimiter: ','", "datatype:"]
    for name in table.dtype.names or ():
        dtype = table.dtype[name]
        kind = "string" if dtype.kind == "S" else dtype.name
        unit = {"unit": UNITS[name]} if name in UNITS else {}
        facts = {"name": name, **unit, "datatype": kind}
        facts["description"] = column_note(name)
        lines.append(f"- {json.dumps(facts)}")
    lines.append("meta: !!omap")
    lines += [f"- {json.dumps({key: value})}" for key, value in _plain(cards).items()]
    lines.append("schema: astropy-2.0")
    return "".join(f"# {line}\n" for line in lines).encode()


def _parquet(table: NDArray[Any], cards: Sequence[Card]) -> bytes:
    """Write columns with their units, and a header as metadata of the table."""
    arrow, parquet = _pyarrow()
    fields, arrays = [], []
    for name in table.dtype.names or ():
        values = np.ascontiguousarray(table[name])
        if values.dtype.kind == "S":
            values = np.asarray(_texts(values, ""), dtype=object)
        arrays.append(arrow.array(values))
        about = {"description": column_note(name)}
        about |= {"unit": UNITS[name]} if name in UNITS else {}
        fields.append(arrow.field(name, arrays[-1].type, metadata=about))
    header = {key: json.dumps(value) for key, value in _plain(cards).items()}
    schema = arrow.schema(fields, metadata=header)
    content = io.BytesIO()
    parquet.write_table(arrow.Table.from_arrays(arrays, schema=schema), content)
    return content.getvalue()


def _plain(cards: Sequence[Card]) -> dict[str, Any]:
    """Make the values of a header ones of Python's."""
    return {key: getattr(value, "item", lambda v=value: v)() for key, value, _ in cards}


def _pyarrow() -> tuple[Any, Any]:
    """Import what Parquet needs."""
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as err:
        what = "tables in Parquet need pyarrow: pip install '.[parquet]' in a checkout"
        msg = f"{what} ({err})"
        raise MissingLibraryError(msg) from err
    return pyarrow, pyarrow.parquet
