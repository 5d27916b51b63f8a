"""Tables of a report as files: several in one of FITS, or one as a text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from ._table_forms import Card


def fits_content(tables: Mapping[str, NDArray[Any]], cards: Sequence[Card]) -> bytes:
    """Make a file of tables by the names of their HDUs; the first has the cards."""
    header = [{"name": key, "value": x, "comment": note} for key, x, note in cards]
    with fitsio.FITS("mem://", "rw") as f:
        for number, (name, table) in enumerate(tables.items()):
            f.write(table, extname=name, header=None if number else header)
        content: bytes = f.read_raw()
    return content


def csv_content(table: NDArray[Any]) -> bytes:
    """Make a text of a table, with a line of names and commas between values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.dtype.names or ())
    columns = [
        np.char.decode(table[name]) if table[name].dtype.kind == "S" else table[name]
        for name in table.dtype.names or ()
    ]
    # Shortest decimals that give the same number again.
    writer.writerows(zip(*(column.astype("U") for column in columns), strict=True))
    return text.getvalue().encode()
