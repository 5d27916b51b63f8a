"""What came of a run, as a FITS table and as a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fitsio
from numpy.typing import NDArray

from ._files import replacing

__all__ = ["write_summary", "write_text"]


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
    with replacing(path) as temporary, fitsio.FITS(str(temporary), "rw") as f:
        f.write(table, extname="FILES", header=cards)


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
    with replacing(path) as temporary:
        temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
