"""What an HDU holds, and where: from its header, or from cfitsio.

cfitsio takes 10 ms and more to read a header of 200 columns. Headers that leave nothing
open are read here, and all others by cfitsio.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ._fits_header import WIDTHS, Header

_IMAGES = {8: "u1", -64: ">f8", -32: ">f4", 16: ">i2", 32: ">i4", 64: ">i8"}
_FORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])(.*)")
_VARIABLE = re.compile(r"'\s*\d*[PQ]", re.IGNORECASE)
_TYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
# Keywords by which the values of a column are other than those in the file.
_CHANGES = ("TSCAL", "TZERO", "TNULL", "TDIM")
# cfitsio reads other spellings of their numbers, too.
_SPELT = re.compile("T(?:TYPE|FORM|SCAL|ZERO|NULL|DIM)[^1-9]")
_LETTERS = string.ascii_uppercase
_CHUNK = 1 << 24  # bytes of a table that are read at a time


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    offset: int = 0
    #: Type of its values in the file; None where cfitsio must read them.
    dtype: np.dtype[Any] | None = None
    #: Whether rows have arrays of any lengths.
    variable: bool = False


@dataclass(frozen=True)
class Layout:
    """What an HDU holds, and where."""

    name: str
    #: Shape of an image, C order; None for tables.
    shape: tuple[int, ...] | None = None
    #: Type of the pixels in the file; None where cfitsio alone can read them.
    dtype: np.dtype[Any] | None = None
    #: Where its data start, and those of the next HDU may.
    start: int = 0
    end: int = 0
    #: Of a table: bytes of a row, rows and columns.
    width: int = 0
    rows: int = 0
    columns: tuple[Column, ...] = ()


def layout_of(header: Header, first: bool) -> Layout:
    """Find the layout of an HDU; a ValueError where cfitsio might find another."""
    kind = "IMAGE" if first else header.value("XTENSION")
    begin = ["SIMPLE" if first else "XTENSION", "BITPIX", "NAXIS"]
    count = _integer(header, "NAXIS")
    axes = [f"NAXIS{i}" for i in range(1, count + 1)]
    # Each where the standard has it, or cfitsio reads something else.
    begin += axes if first else [*axes, "PCOUNT", "GCOUNT"]
    other = _integer(header, "PCOUNT", 0), _integer(header, "GCOUNT", 1)
    if list(header.cards)[: len(begin)] != begin or other[1] != 1:
        raise ValueError("keywords are missing, or in another order")
    if first and (header.value("SIMPLE") is not True or "GROUPS" in header.cards):
        raise ValueError("is not as the standard has it")
    sizes, bitpix = [_integer(header, axis) for axis in axes], header.value("BITPIX")
    name = header.value("EXTNAME") or header.value("HDUNAME") or ""
    common = str(name).strip(), header.start, header.end
    if kind == "IMAGE" and other[0] == 0:
        return _image(header, sizes, bitpix, *common)
    if kind == "BINTABLE" and bitpix == 8 and count == 2:
        return _table(header, sizes, *common)
    raise ValueError("is neither an image nor a binary table")


def _integer(header: Header, key: str, default: int | None = None) -> int:
    """Read an integer that is no less than 0."""
    value = header.value(key)
    value = default if value is None else value
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} must be an integer")
    return value


def _image(
    header: Header, sizes: list[int], bitpix: Any, name: str, start: int, end: int
) -> Layout:
    """Find the layout of an image that is not compressed."""
    if bitpix not in _IMAGES:
        raise ValueError("BITPIX is unknown")
    return Layout(name, tuple(reversed(sizes)), np.dtype(_IMAGES[bitpix]), start, end)


def _table(header: Header, sizes: list[int], name: str, start: int, end: int) -> Layout:
    """Find the layout of a binary table that is not a compressed image."""
    width, rows = sizes
    if "ZIMAGE" in header.cards:
        raise ValueError("is a compressed image")
    about = tuple(item for item in header.cards.items() if item[0].startswith("T"))
    columns = _columns(width, about, frozenset(header.twice))
    return Layout(name, None, None, start, end, width, rows, columns)


@functools.lru_cache(64)
def _columns(
    width: int, about: tuple[tuple[str, str], ...], twice: frozenset[str]
) -> tuple[Column, ...]:
    """Find the columns of a table, from those of its cards that tell of them.

    Files of one kind share them.
    """
    header = Header(dict(about), set(twice))
    if any(map(_SPELT.match, header.cards)):
        raise ValueError("has numbers of columns that are not as the standard has them")
    columns: list[Column] = []
    offset = 0
    changed = {key.lstrip(_LETTERS) for key in header.cards if key.startswith(_CHANGES)}
    for number in range(1, _integer(header, "TFIELDS") + 1):
        own, form = header.value(f"TTYPE{number}"), header.value(f"TFORM{number}")
        match = _FORM.fullmatch(form) if isinstance(form, str) else None
        if not isinstance(own, str) or match is None:
            raise ValueError(f"column {number} is not as the standard has it")
        count, letter, rest = int(match[1] or 1), match[2], match[3]
        plain = count and not rest and str(number) not in changed
        dtype = None
        if plain and (letter == "A" or letter in _TYPES):
            size = () if count == 1 else (count,)
            dtype = np.dtype(f"S{count}" if letter == "A" else (_TYPES[letter], size))
        columns.append(Column(own, offset, dtype, letter in "PQ"))
        offset += -(-count // 8) if letter == "X" else count * WIDTHS[letter]
    names = {column.name.upper() for column in columns}
    if offset != width or len(names) < len(columns):
        raise ValueError("has rows of another width, or two columns of a name")
    return tuple(columns)


def asked_layout(found: Any, header: Header) -> Layout:
    """Find the layout of an HDU of fitsio."""
    info, offsets = found.get_info(), found.get_offsets()
    name, start, end = found.get_extname(), offsets["data_start"], offsets["data_end"]
    if "dims" not in info:
        columns = [
            Column(own, variable=_VARIABLE.match(header.text(f"TFORM{i}")) is not None)
            for i, own in enumerate(getattr(found, "get_colnames", list)(), start=1)
        ]
        return Layout(name, start=start, end=end, columns=tuple(columns))
    shape = tuple(int(size) for size in info["dims"])
    own = None if found.is_compressed() else _IMAGES.get(info["img_type"])
    return Layout(name, shape, np.dtype(own) if own else None, start, end)


def read_plain(
    content: IO[bytes], layout: Layout, columns: Iterable[Column]
) -> NDArray[Any]:
    """Read columns of known types straight from the file, some rows at a time."""
    fields = {x.name: (x.dtype, x.offset) for x in columns}
    types, offsets = zip(*fields.values(), strict=True)
    row = np.dtype(
        {
            "names": list(fields),
            "formats": types,
            "offsets": offsets,
            "itemsize": layout.width,
        }
    )
    table = np.empty(layout.rows, [(name, row[name]) for name in fields])
    step = max(_CHUNK // max(layout.width, 1), 1)
    content.seek(layout.start)
    for low in range(0, layout.rows, step):
        part = table[low : low + step]
        part[:] = np.frombuffer(content.read(part.size * layout.width), row)
    return table
