"""A check of the headers of a FITS file before cfitsio reads them.

cfitsio believes what a file says. It makes room for all pixels and rows that a header
claims, reads to the end of the file where a header does not end, divides by sizes of
tiles, and unpacks a tile whether there is room for it or not.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import struct
from dataclasses import dataclass, field
from typing import IO

from ._packed import FIRST, most_unpacked

_BLOCK, _CARD = 2880, 80  # bytes
_LONGEST = 10_000  # blocks of a header
# Cards without a value that cfitsio takes for nothing else: it also reads ``BZERO = 1``
# of no standard form, and the last word of HIERARCH where it is as short as a keyword.
_TEXTS = re.compile(" {8}|COMMENT|HISTORY|CONTINUE|HIERARCH(?! +[^ =]{1,8} *=)")
_NEXT = b"XTENSION="  # the first bytes of every HDU but the first
_KEY = re.compile("[A-Z0-9_ -]{8}")
_OF_TILES = re.compile(r"ZNAXIS\d*|ZTILE\d+|ZIMAGE|ZCMPTYPE")
_POSITIVE = re.compile(r"\+?0*[1-9]\d{0,8}")
# What follows a keyword, where nothing can be misunderstood.
_VALUE = re.compile(
    r"= *(?:'((?:[^']|'')*)'|([TF])|([+-]?\d{1,18})"
    r"|([+-]?(?:\d+\.\d*|\.\d+|\d+(?=E))(?:E[+-]?\d{1,2})?)) *(?:/.*)?"
)
#: Bytes of a value in a column of a table, by the letter of its type.
WIDTHS = dict(zip("LBAIJKEDCMPQ", (1, 1, 1, 2, 4, 8, 4, 8, 8, 16, 8, 16), strict=True))
_LAYOUTS = {"P": ">2i", "Q": ">2q"}  # of the length and the start of a stream
_FORM = re.compile(r"'(\d*)([LBAIJKEDCMPQ])([BIJ]?)")
_PLANES = 64  # of bits that the numbers of HCOMPRESS may have


@dataclass
class Header:
    """Cards of a header, whose values are read when they are asked for."""

    #: What follows a keyword, from the ``=`` on; of two cards the first.
    cards: dict[str, str] = field(default_factory=dict)
    #: Keywords with two cards that differ.
    twice: set[str] = field(default_factory=set)
    #: Whether there are cards of other forms, in which cfitsio might find values.
    odd: bool = False
    #: Where its data start and end, and what may follow starts.
    start: int = 0
    end: int = 0

    def value(self, key: str) -> str | bool | int | float | None:
        """Read the value of a keyword, None where it is not there.

        What cfitsio might read in another way is a ValueError.
        """
        if self.odd:
            raise ValueError("has cards that are not as the standard has them")
        card = self.cards.get(key)
        if card is None:
            return None
        found = _parse(card)
        if found is None or key in self.twice:
            raise ValueError(f"{key} has a value that may mean several")
        return found

    def text(self, key: str) -> str:
        """Give what stands after a keyword as it is; empty where it is not there."""
        text = self.cards.get(key, "=")[1:].split("/")[0].strip()
        return re.sub("[^ -~]", "?", text)


@functools.lru_cache(4096)
def _parse(card: str) -> str | bool | int | float | None:
    """Read a value; None for what cfitsio might read in another way.

    Files of one kind share most of their cards.
    """
    match = _VALUE.fullmatch(card) if card.isascii() and card.isprintable() else None
    if match is None:
        return None
    text, logical, integer, real = match.groups()
    if text is not None:
        text = text.replace("''", "'").rstrip(" ")
        return None if text.endswith("&") else text  # which the next card goes on with
    if logical:
        return logical == "T"
    return int(integer) if integer else float(real)


def check_headers(file: IO[bytes]) -> list[Header]:
    """Read headers, and raise an OSError for one that cfitsio might not survive."""
    end = file.seek(0, 2)
    offset = 0
    headers: list[Header] = []
    try:
        while header := _header(file, offset, _NEXT if headers else FIRST):
            size = _data_size(header)
            _check_claims(header, size, end, end - header.start)
            if "ZIMAGE" in header.cards:
                _check_tiles(header, end)
                _check_streams(file, header, header.start)
            offset = header.end = header.start + -(-size // _BLOCK) * _BLOCK
            headers.append(header)
    except (LookupError, ValueError, struct.error) as err:
        raise OSError(f"HDU {len(headers)}: {err}") from err
    return headers


def _header(file: IO[bytes], offset: int, first: bytes) -> Header | None:
    """Read a header; there is none where the file does not go on with `first`."""
    file.seek(offset)
    header = Header()
    cards = header.cards
    for count in range(_LONGEST):
        block = file.read(_BLOCK)
        if count == 0 and not block.startswith(first):
            return None
        text = block.decode("latin-1")
        lines = [text[start : start + _CARD] for start in range(0, len(text), _CARD)]
        if len(block) < _BLOCK or not any(map(_KEY.match, lines)):
            break
        for line in lines:
            key, card = line[:8].rstrip(), line[8:]
            if key == "END":
                header.start = file.tell()
                return header
            if card[:1] != "=":
                header.odd |= _TEXTS.match(line) is None
                continue
            header.odd |= key != key.upper()
            if cards.setdefault(key, card) != card:
                header.twice.add(key)
                # Of two, cfitsio takes one here and the other there.
                other = Header({key: card}).text(key)
                if _OF_TILES.fullmatch(key) and header.text(key) != other:
                    raise ValueError(f"{key} has two values")
    raise ValueError("the file ends within its header")


def _integer(header: Header, key: str, default: int | None = None) -> int:
    """Read an integer in a header."""
    if default is not None and key not in header.cards:
        return default
    if not re.fullmatch(r"[+-]?\d{1,19}", text := header.text(key)):
        raise ValueError(f"{key} = {text}, where an integer is needed")
    return int(text)


def _data_size(header: Header) -> int:
    """Count the bytes of data after a header."""
    axes = range(1, _integer(header, "NAXIS") + 1)
    shape = [_integer(header, f"NAXIS{axis}") for axis in axes]
    count = _integer(header, "PCOUNT", 0) + (math.prod(shape) if shape else 0)
    width = abs(_integer(header, "BITPIX")) // 8
    return max(width * _integer(header, "GCOUNT", 1) * count, 0)


def _check_claims(header: Header, size: int, end: int, left: int) -> None:
    """Raise a ValueError where a header claims more than the file can hold."""
    if size > left:
        raise ValueError(f"cut short, {left} of {size} bytes are there")
    # Rows of no width, and compressed pixels, need no bytes of their own.
    for key in header.cards:
        named = "NAXIS" in key and re.fullmatch(r"Z?NAXIS\d+", key)
        if named and _integer(header, key) > end:
            text = header.text(key)
            raise ValueError(f"{key} = {text}, in a file of {end} bytes")


def _check_tiles(header: Header, end: int) -> None:
    """Raise a ValueError where tiles make no sense, or unpack to far too much."""
    for key in header.cards:
        text = header.text(key)
        if re.fullmatch(r"Z(NAXIS\d*|TILE\d+)", key) and not _POSITIVE.fullmatch(text):
            raise ValueError(f"{key} = {text}, where a positive number is needed")
    claimed = 8 * math.prod(max(sizes) for sizes in _tiling(header))
    if claimed > most_unpacked(end):
        raise ValueError(f"claims {claimed} bytes, in a file of {end} bytes")


def _tiling(header: Header) -> list[tuple[int, int]]:
    """Give the size of an image and of its tiles along each axis, the fastest first."""
    sizes = [
        _integer(header, f"ZNAXIS{i + 1}") for i in range(int(header.text("ZNAXIS")))
    ]
    rows = [sizes[0], *[1] * (len(sizes) - 1)]
    tiles = [_integer(header, f"ZTILE{i + 1}", row) for i, row in enumerate(rows)]
    return list(zip(sizes, tiles, strict=True))


def _check_streams(file: IO[bytes], header: Header, offset: int) -> None:
    """Raise a ValueError where a tile unpacks to more than its size.

    Of HCOMPRESS and PLIO, cfitsio writes or reads as much as the tile itself says.
    """
    kind = header.text("ZCMPTYPE").strip("' ")
    is_sound = {"HCOMPRESS_1": _is_hcompress, "PLIO_1": _is_plio}.get(kind)
    if is_sound is None:
        return
    parts = [[min(t, n - i) for i in range(0, n, t)] for n, t in _tiling(header)]
    sizes = map(math.prod, itertools.product(*reversed(parts)))
    if math.prod(map(len, parts)) != _integer(header, "NAXIS2"):
        raise ValueError("has another number of tiles than its image")
    for pixels, (start, length) in zip(
        sizes, _tiles(file, header, offset), strict=True
    ):
        file.seek(start)
        if length and not is_sound(file.read(min(length, 25)), length, pixels):
            raise ValueError(f"a tile of its image, at byte {start}, is damaged")


def _tiles(file: IO[bytes], header: Header, offset: int) -> list[tuple[int, int]]:
    """List where the stream of each tile starts, and how many bytes it has."""
    before = 0
    column = 1
    while True:
        form = _FORM.match(header.text(f"TFORM{column}"))
        if form is None:
            raise ValueError("has no streams in a column COMPRESSED_DATA")
        if header.text(f"TTYPE{column}").strip("' ") == "COMPRESSED_DATA":
            break
        column += 1
        before += int(form[1] or 1) * WIDTHS[form[2]]
    width, rows = _integer(header, "NAXIS1"), _integer(header, "NAXIS2")
    heap = offset + _integer(header, "THEAP", width * rows)
    file.seek(offset)
    table = file.read(width * rows)
    layout, unit = _LAYOUTS[form[2]], WIDTHS[form[3]]
    found = [struct.unpack_from(layout, table, i * width + before) for i in range(rows)]
    return [(heap + max(start, 0), max(length, 0) * unit) for length, start in found]


def _is_hcompress(first: bytes, _: int, pixels: int) -> bool:
    """Tell whether a stream of HCOMPRESS is of so many pixels."""
    if len(first) < 25:
        return False
    magic, rows, columns = struct.unpack(">H2i", first[:10])
    fits = min(rows, columns) > 0 and rows * columns == pixels
    return bool(magic == 0xDD99 and fits and max(first[22:25]) <= _PLANES)


def _is_plio(first: bytes, length: int, _: int) -> bool:
    """Tell whether a stream of PLIO has the words that it says."""
    if len(first) < 14:
        return False
    _, begin, old, low, high = struct.unpack(">5h", first[:10])
    words = old if old > 0 else (high << 15) + low
    return bool(begin >= 0 and 0 <= words <= length // 2)
