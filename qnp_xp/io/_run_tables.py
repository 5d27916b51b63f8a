"""What came of a run, as a FITS table and as a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fitsio
from numpy.typing import NDArray

from ..errors import SpectraError
from ._files import atomic_write
from ._fits import FitsFile

__all__ = ["is_summary", "write_summary", "write_text"]


def write_summary(
    path: Path, table: NDArray[Any], header: Sequence[tuple[str, Any, str]]
) -> None:
    """Write a row for each input, whole or not at all.

    Parameters
    ----------
    path
        File to write; an older one is replaced.
    table
        Structured array.
    header
        What holds for all of them: keywords, values and comments.

    Raises
    ------
    OSError
        If it cannot be written.

    Notes
    -----
    HDU FILES.
    """
    cards = [{"name": key, "value": v, "comment": c} for key, v, c in header]
    with fitsio.FITS("mem://", "rw") as f:
        f.write(table, extname="FILES", header=cards)
        content = f.read_raw()
    atomic_write(path, content)


def is_summary(path: Path) -> bool:
    """Whether a file is one that `write_summary` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bool
        False as well where it cannot be read: whoever reads it can say why.
    """
    try:
        file = FitsFile(path)
    except (OSError, SpectraError):
        return False
    try:
        return file.names == ["FILES"] and {"NAME", "OUTPUT", "STATE"} <= {
            *file.column_names("FILES")
        }
    finally:
        file.close()


def write_text(path: Path, lines: Sequence[str]) -> None:
    """Write lines, whole or not at all.

    Parameters
    ----------
    path
        File to write; an older one is replaced.
    lines
        What to write.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    atomic_write(path, "\n".join([*lines, ""]).encode())
