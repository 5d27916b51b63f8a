"""Lists that are given on a command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["id_list", "name_list", "row_list"]


def row_list(text: str) -> NDArray[np.int64]:
    """Row numbers.

    Parameters
    ----------
    text
        Numbers and ranges, as in ``0,3,5-9``.

    Returns
    -------
    numpy.ndarray of int64
        As they were given, shape ``(m,)``.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is anything else.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            msg = f"rows are numbers and ranges, as in 0,3,5-9; {part!r} is neither"
            raise argparse.ArgumentTypeError(msg)
        numbers += range(first, last + 1)
    return np.asarray(numbers, dtype=np.int64)


def id_list(text: str) -> NDArray[np.int64]:
    """TARGETIDs.

    Parameters
    ----------
    text
        Numbers, as in ``1,2,3``, or ``@FILE``, which holds one a line.

    Returns
    -------
    numpy.ndarray of int64
        As they were given, shape ``(m,)``.

    Raises
    ------
    ValueError
        If it is anything else, or there is no such file.
    """
    words: Iterable[str] = text.split(",")
    if text.startswith("@"):
        try:
            words = Path(text[1:]).read_text(encoding="utf-8").split()
        except (OSError, ValueError) as err:
            msg = f"{text}: no list of targets ({err})"
            raise ValueError(msg) from err
    try:
        return np.asarray([int(word) for word in words], dtype=np.int64)
    except (OverflowError, ValueError) as err:
        msg = f"{text}: TARGETIDs are integers of 64 bits ({err})"
        raise ValueError(msg) from err


def name_list(text: str) -> list[str]:
    """Names with commas between them.

    Parameters
    ----------
    text
        As ``LYA,CIV(1548)``.

    Returns
    -------
    list of str
    """
    return [name for name in text.split(",") if name]
