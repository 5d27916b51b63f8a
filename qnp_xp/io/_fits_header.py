"""A check of the headers of a FITS file before cfitsio reads them.

cfitsio believes what a file says. It makes room for all pixels and rows that a header
claims, reads to the end of the file where a header does not end, divides by sizes of
tiles, and unpacks a tile whether there is room for it or not.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from typing import IO

from ._packed import FIRST, most_unpacked

_BLOCK, _CARD = 2880, 80  # bytes
_LONGEST = 10_000  # blocks of a header
_NEXT = b"XTENSION="  # the first bytes of every HDU but the first
_KEY = re.compile(rb"[A-Z0-9_ -]{8}")
_WANTED = re.compile(
    rb"BITPIX|[PG]COUNT|Z?NAXIS\d*|ZTILE\d+|ZIMAGE|ZCMPTYPE|THEAP|T(TYPE|FORM)\d+"
)
_POSITIVE = re.compile(rb"\+?0*[1-9]\d{0,8}")
# Bytes of a value in a column of a table, by the letter of its type.
_WIDTHS = dict(zip("LBAIJKEDCMPQ", (1, 1, 1, 2, 4, 8, 4, 8, 8, 16, 8, 16), strict=True))
_LAYOUTS = {"P": ">2i", "Q": ">2q"}  # of the length and the start of a stream
_FORM = re.compile(r"'(\d*)([LBAIJKEDCMPQ])([BIJ]?)")
_PLANES = 64  # of bits that the numbers of HCOMPRESS may have
_Cards = dict[str, str]


def check_headers(file: IO[bytes]) -> list[_Cards]:
    """Raise an OSError for the first HDU that cfitsio might not survive.

    Some cards of each header are returned.
    """
    end = file.seek(0, 2)
    number, offset = 0, 0
    headers: list[_Cards] = []
    try:
        while cards := _header(file, offset, _NEXT if number else FIRST):
            offset = file.tell()
            size = _data_size(cards)
            _check_claims(cards, size, end, end - offset)
            if "ZIMAGE" in cards:
                _check_tiles(cards, end)
                _check_streams(file, cards, offset)
            number, offset = number + 1, offset + -(-size // _BLOCK) * _BLOCK
            headers.append(cards)
    except (LookupError, ValueError, struct.error) as err:
        raise OSError(f"HDU {number}: {err}") from err
    return headers


def _header(file: IO[bytes], offset: int, first: bytes) -> _Cards:
    """Read the values of some keywords of a header; none where there is no header."""
    file.seek(offset)
    cards: _Cards = {}
    for count in range(_LONGEST):
        block = file.read(_BLOCK)
        if count == 0 and not block.startswith(first):
            return {}
        lines = [block[start : start + _CARD] for start in range(0, len(block), _CARD)]
        if len(block) < _BLOCK or not any(_KEY.match(line) for line in lines):
            break
        for line in lines:
            name = line[:8].rstrip()
            if name == b"END":
                return cards
            if _WANTED.fullmatch(name) and line[8:9] == b"=":
                key, value = name.decode(), line[9:].split(b"/")[0].strip()
                text = re.sub("[^ -~]", "?", value.decode("latin-1"))
                # Of two, cfitsio takes one here and the other there.
                if cards.setdefault(key, text) != text and key.startswith("Z"):
                    raise ValueError(f"{key} has two values")
    raise ValueError("the file ends within its header")


def _integer(cards: _Cards, key: str, default: int | None = None) -> int:
    """Read an integer in a header."""
    if default is not None and key not in cards:
        return default
    if not re.fullmatch(r"[+-]?\d{1,19}", text := cards.get(key, "")):
        raise ValueError(f"{key} = {text}, where an integer is needed")
    return int(text)


def _data_size(cards: _Cards) -> int:
    """Count the bytes of data after a header."""
    axes = range(1, _integer(cards, "NAXIS") + 1)
    shape = [_integer(cards, f"NAXIS{axis}") for axis in axes]
    count = _integer(cards, "PCOUNT", 0) + (math.prod(shape) if shape else 0)
    width = abs(_integer(cards, "BITPIX")) // 8
    return max(width * _integer(cards, "GCOUNT", 1) * count, 0)


def _check_claims(cards: _Cards, size: int, end: int, left: int) -> None:
    """Raise a ValueError where a header claims more than the file can hold."""
    if size > left:
        raise ValueError(f"cut short, {left} of {size} bytes are there")
    # Rows of no width, and compressed pixels, need no bytes of their own.
    for key in cards:
        if re.fullmatch(r"Z?NAXIS\d+", key) and _integer(cards, key) > end:
            raise ValueError(f"{key} = {cards[key]}, in a file of {end} bytes")


def _check_tiles(cards: _Cards, end: int) -> None:
    """Raise a ValueError where tiles make no sense, or unpack to far too much."""
    for key, text in cards.items():
        if re.match("Z(NAXIS|TILE)", key) and not _POSITIVE.fullmatch(text.encode()):
            raise ValueError(f"{key} = {text}, where a positive number is needed")
    claimed = 8 * math.prod(max(sizes) for sizes in _tiling(cards))
    if claimed > most_unpacked(end):
        raise ValueError(f"claims {claimed} bytes, in a file of {end} bytes")


def _tiling(cards: _Cards) -> list[tuple[int, int]]:
    """Give the size of an image and of its tiles along each axis, the fastest first."""
    sizes = [_integer(cards, f"ZNAXIS{i + 1}") for i in range(int(cards["ZNAXIS"]))]
    rows = [sizes[0], *[1] * (len(sizes) - 1)]
    tiles = [_integer(cards, f"ZTILE{i + 1}", row) for i, row in enumerate(rows)]
    return list(zip(sizes, tiles, strict=True))


def _check_streams(file: IO[bytes], cards: _Cards, offset: int) -> None:
    """Raise a ValueError where a tile unpacks to more than its size.

    Of HCOMPRESS and PLIO, cfitsio writes or reads as much as the tile itself says.
    """
    kind = cards.get("ZCMPTYPE", "").strip("' ")
    is_sound = {"HCOMPRESS_1": _is_hcompress, "PLIO_1": _is_plio}.get(kind)
    if is_sound is None:
        return
    parts = [[min(t, n - i) for i in range(0, n, t)] for n, t in _tiling(cards)]
    sizes = map(math.prod, itertools.product(*reversed(parts)))
    if math.prod(map(len, parts)) != _integer(cards, "NAXIS2"):
        raise ValueError("has another number of tiles than its image")
    for pixels, (start, length) in zip(sizes, _tiles(file, cards, offset), strict=True):
        file.seek(start)
        if length and not is_sound(file.read(min(length, 25)), length, pixels):
            raise ValueError(f"a tile of its image, at byte {start}, is damaged")


def _tiles(file: IO[bytes], cards: _Cards, offset: int) -> list[tuple[int, int]]:
    """List where the stream of each tile starts, and how many bytes it has."""
    before = 0
    column = 1
    while True:
        form = _FORM.match(cards.get(f"TFORM{column}", ""))
        if form is None:
            raise ValueError("has no streams in a column COMPRESSED_DATA")
        if cards.get(f"TTYPE{column}", "").strip("' ") == "COMPRESSED_DATA":
            break
        column += 1
        before += int(form[1] or 1) * _WIDTHS[form[2]]
    width, rows = _integer(cards, "NAXIS1"), _integer(cards, "NAXIS2")
    heap = offset + _integer(cards, "THEAP", width * rows)
    file.seek(offset)
    table = file.read(width * rows)
    layout, unit = _LAYOUTS[form[2]], _WIDTHS[form[3]]
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
