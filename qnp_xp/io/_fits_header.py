"""A look at the headers of a FITS file before cfitsio reads them.

For an image compressed by tiles, cfitsio divides by what follows from the sizes of the
image and of its tiles. Where one of them is not positive, the process dies.
"""

from __future__ import annotations

import math
import re
from typing import IO

__all__ = ["tile_problem"]

_BLOCK, _CARD = 2880, 80
_POSITIVE = re.compile(rb"\+?0*[1-9]\d{0,8}")
_WANTED = re.compile(rb"BITPIX|[PG]COUNT|Z?NAXIS\d*|ZTILE\d+|ZIMAGE|END")
_Cards = list[tuple[bytes, bytes]]


def tile_problem(file: IO[bytes]) -> str | None:
    """What is wrong with the sizes of images that are compressed by tiles.

    Nothing else is looked at. Where the file is no FITS file or is cut short, the look
    ends, for cfitsio says so.

    Parameters
    ----------
    file
        The FITS file, unpacked.

    Returns
    -------
    str or None
        The HDU and the keyword, or None if all is well.
    """
    end = file.seek(0, 2)
    place, number = 0, 0
    while (cards := _header(file, place)) is not None:
        if any(key == b"ZIMAGE" for key, _ in cards):
            for key, value in cards:
                if re.match(rb"Z(NAXIS|TILE)", key) and not _POSITIVE.fullmatch(value):
                    text = f"{key.decode()} = {value.decode('ascii', 'replace')}"
                    return f"HDU {number}: {text}, where a positive number is needed"
        size = _data_size(dict(reversed(cards)))
        place = file.tell()
        if size is None or size > end - place:
            return None
        place += -(-size // _BLOCK) * _BLOCK
        number += 1
    return None


def _header(file: IO[bytes], place: int) -> _Cards | None:
    """Keywords and values of the header at a place; None if there is no whole one.

    The file is left where the header ends.
    """
    file.seek(place)
    cards: _Cards = []
    while len(block := file.read(_BLOCK)) == _BLOCK:
        for start in range(0, _BLOCK, _CARD):
            key = block[start : start + 8].rstrip()
            if not _WANTED.fullmatch(key):
                continue
            if key == b"END":
                return cards
            value = block[start + 9 : start + _CARD].split(b"/")[0]
            cards.append((key, value.strip()))
    return None


def _data_size(cards: dict[bytes, bytes]) -> int | None:
    """Bytes of data behind a header; None if the header does not say."""
    try:
        count = int(cards[b"NAXIS"])
        shape = [int(cards[b"NAXIS%d" % axis]) for axis in range(1, count + 1)]
        groups = int(cards.get(b"GCOUNT", b"1"))
        size = int(cards.get(b"PCOUNT", b"0")) + (math.prod(shape) if shape else 0)
        return max(abs(int(cards[b"BITPIX"])) // 8 * groups * size, 0)
    except (KeyError, ValueError):
        return None
