"""A check of the headers of a FITS file before cfitsio reads them.

For an image compressed by tiles, cfitsio divides by what follows from the sizes of the
image and of its tiles. Where one of them is not positive, the process dies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import IO

_BLOCK, _CARD = 2880, 80  # bytes
_POSITIVE = re.compile(rb"\+?0*[1-9]\d{0,8}")
_WANTED = re.compile(rb"BITPIX|[PG]COUNT|Z?NAXIS\d*|ZTILE\d+|ZIMAGE")
_Cards = list[tuple[bytes, bytes]]


def tile_problem(file: IO[bytes]) -> str | None:
    """Name the first size of an image compressed by tiles that is not positive."""
    for number, cards in enumerate(_headers(file)):
        if any(key == b"ZIMAGE" for key, _ in cards):
            for key, value in cards:
                if re.match(rb"Z(NAXIS|TILE)", key) and not _POSITIVE.fullmatch(value):
                    text = f"{key.decode()} = {value.decode('ascii', 'replace')}"
                    return f"HDU {number}: {text}, where a positive number is needed"
    return None


def _headers(file: IO[bytes]) -> Iterator[_Cards]:
    """Yield the cards of each header, up to one that makes no sense."""
    end = file.seek(0, 2)
    offset = 0
    while (cards := _header(file, offset)) is not None:
        yield cards
        size = _data_size(dict(reversed(cards)))
        offset = file.tell()
        if size is None or size > end - offset:
            return
        offset += -(-size // _BLOCK) * _BLOCK


def _header(file: IO[bytes], offset: int) -> _Cards | None:
    """Read the keywords and values of a header; None if there is no whole one."""
    file.seek(offset)
    cards: _Cards = []
    while len(block := file.read(_BLOCK)) == _BLOCK:
        for start in range(0, _BLOCK, _CARD):
            key = block[start : start + 8].rstrip()
            if key == b"END":
                return cards
            if _WANTED.fullmatch(key):
                value = block[start + 9 : start + _CARD].split(b"/")[0]
                cards.append((key, value.strip()))
    return None


def _data_size(cards: dict[bytes, bytes]) -> int | None:
    """Count the bytes of data after a header; None if the header does not say."""
    try:
        count = int(cards[b"NAXIS"])
        shape = [int(cards[b"NAXIS%d" % axis]) for axis in range(1, count + 1)]
        groups = int(cards.get(b"GCOUNT", b"1"))
        size = int(cards.get(b"PCOUNT", b"0")) + (math.prod(shape) if shape else 0)
        return max(abs(int(cards[b"BITPIX"])) // 8 * groups * size, 0)
    except (KeyError, ValueError):
        return None
