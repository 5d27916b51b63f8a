"""The headers of objects in an HDF5 file, and the texts among their attributes.

Read in plain Python, within bounds: libhdf5 trusts what a file says of its global
heap, from which it copies strings of variable length. A size of zero there makes it
run in a circle, and a wrong length makes it write where it must not.

What the fields mean is in the HDF5 File Format Specification, version 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ...errors import WeightsError

__all__ = ["Message", "Texts", "data_within", "is_stored_elsewhere", "messages"]

_DATASPACE_NULL = 2
_EXTERNAL_FILES, _LAYOUT, _ATTRIBUTE, _CONTINUATION, _MANY = 0x7, 0x8, 0xC, 0x10, 0x15
_VIRTUAL = 3  # a class of layout
_SHARED = 2  # a flag of a message
_STRING, _VARIABLE = 3, 9  # classes of types
_UNDEFINED = (1 << 64) - 1

_MOST_CHUNKS = 256  # of one header
_MOST_BYTES = 1 << 24  # of one of them, or of a collection of a global heap


@dataclass(frozen=True)
class Message:
    """One message of the header of an object.

    Attributes
    ----------
    kind, flags
        Its number in the specification, and its flags.
    data
        Its content.
    """

    kind: int
    flags: int
    data: bytes


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    """Bytes of a file, all of them or none."""
    if size > _MOST_BYTES:
        raise WeightsError(f"a part of {size} bytes at byte {place}, which none needs")
    end = file.seek(0, 2)
    if place + size > end:
        raise WeightsError(f"{size} bytes at byte {place} of a file of {end}")
    file.seek(place)
    return file.read(size)


def messages(file: BinaryIO, place: int) -> list[Message]:
    """All messages in the header of an object.

    Parameters
    ----------
    file
        The HDF5 file.
    place
        Byte at which the header begins.

    Returns
    -------
    list of Message

    Raises
    ------
    WeightsError
        If the header is damaged.
    """
    start = _read(file, place, 16)
    if start[:4] == b"OHDR":
        flags = start[5]
        width = 1 << (flags & 3)
        begin = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        head = _read(file, place, begin + width)
        size = int.from_bytes(head[begin:], "little")
        chunks = [(place + begin + width, size, 0)]
        new, ordered = True, bool(flags & 4)
    else:
        new, ordered = False, False
        chunks = [(place + 16, *struct.unpack_from("<I", start, 8), 0)]
    found = []
    for first, size, frame in chunks:  # which grows, without end where they circle
        if len(chunks) > _MOST_CHUNKS:
            raise WeightsError(f"the header at byte {place} has no end")
        # A chunk of the newer kind has a signature before and a checksum behind it.
        content = _read(file, first + frame, max(size - 2 * frame, 0))
        for message in _split(content, new, ordered):
            if message.kind == _CONTINUATION:
                there, length = struct.unpack_from("<QQ", message.data)
                chunks.append((there, length, 4 if new else 0))
            found.append(message)
    return found


def _split(content: bytes, new: bool, ordered: bool) -> Iterator[Message]:
    """The messages in a chunk of a header."""
    head = "<BHB" if new else "<HHB3x"
    size = struct.calcsize(head) + (2 if ordered else 0)
    place = 0
    while place + size <= len(content):
        kind, length, flags = struct.unpack_from(head, content, place)
        place += size
        if place + length > len(content):
            raise WeightsError("a message is longer than the header that it is in")
        yield Message(kind, flags, content[place : place + length])
        place += length


def is_stored_elsewhere(found: list[Message]) -> bool:
    """Whether a dataset has its data in other files or in other datasets.

    Parameters
    ----------
    found
        The messages of its header.

    Returns
    -------
    bool
    """
    for message in found:
        if message.kind == _EXTERNAL_FILES:
            return True
        if message.kind == _LAYOUT:
            # The earliest versions have the number of dimensions before the class.
            place = 2 if message.data[:1] in (b"\1", b"\2") else 1
            if message.data[place : place + 1] == bytes([_VIRTUAL]):
                return True
    return False


def data_within(found: list[Message]) -> bytes | None:
    """The data of a dataset that has them in its header; None if they are not there.

    Parameters
    ----------
    found
        The messages of its header.

    Returns
    -------
    bytes or None
    """
    for message in found:
        if message.kind == _LAYOUT and message.data[:2] in (b"\3\0", b"\4\0"):
            (size,) = struct.unpack_from("<H", message.data, 2)
            return message.data[4 : 4 + size]
    return None


class Texts:
    """Texts among the attributes of the objects of an HDF5 file.

    Parameters
    ----------
    file
        The HDF5 file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._heaps: dict[int, dict[int, bytes]] = {}

    def read(self, place: int, name: str) -> list[str] | None:
        """The text or texts in an attribute.

        Parameters
        ----------
        place
            Byte at which the header of the object begins.
        name
            Of the attribute.

        Returns
        -------
        list of str or None
            None if there is no such attribute.

        Raises
        ------
        WeightsError
            If it is damaged, or something else than text.
        """
        many = False
        for message in messages(self._file, place):
            if message.kind == _ATTRIBUTE:
                if message.flags & _SHARED:
                    raise WeightsError("shared attributes are not supported")
                found = self._attribute(message.data, name.encode())
                if found is not None:
                    return found
            elif message.kind == _MANY:
                # Behind the flags, and a counter that one of them says is there.
                counted = message.data[1] & 1
                (heap,) = struct.unpack_from("<Q", message.data, 4 if counted else 2)
                many |= heap != _UNDEFINED
        if many:
            raise WeightsError(f"attribute {name!r} may be in a heap, not supported")
        return None

    def _attribute(self, data: bytes, name: bytes) -> list[str] | None:
        version, flags = data[0], data[1]
        sizes = struct.unpack_from("<3H", data, 2)
        place = 9 if version == 3 else 8
        parts = []
        for size in sizes:
            parts.append(data[place : place + size])
            place += -(-size // 8) * 8 if version == 1 else size
        label, kind, space = parts
        if label.rstrip(b"\0") != name:
            return None
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise WeightsError(
                f"attribute {name.decode()!r}: its type is not supported"
            )
        count, width = _count(space), *struct.unpack_from("<I", kind, 4)
        if place + count * width > len(data):
            raise WeightsError(f"attribute {name.decode()!r} ends before its data do")
        items = [data[place + i * width :][:width] for i in range(count)]
        if kind[0] & 15 == _VARIABLE and kind[1] & 15 == 1 and width == 16:
            items = [self._variable(*struct.unpack("<IQI", item)) for item in items]
        elif kind[0] & 15 != _STRING:
            raise WeightsError(f"attribute {name.decode()!r} is not text")
        return [item.split(b"\0", 1)[0].decode() for item in items]

    def _variable(self, length: int, place: int, number: int) -> bytes:
        """A string of variable length, from the heap."""
        if length == 0:
            return b""
        if place not in self._heaps:
            self._heaps[place] = dict(_heap(self._file, place))
        found = self._heaps[place].get(number, b"")
        if length > len(found):
            raise WeightsError(f"a text of {length} bytes, of which {len(found)} exist")
        return found[:length]


def _count(space: bytes) -> int:
    """Number of elements that a dataspace counts."""
    version, rank = space[0], space[1]
    if version == 2 and space[3] == _DATASPACE_NULL:
        return 0
    return math.prod(struct.unpack_from(f"<{rank}Q", space, 8 if version == 1 else 4))


def _heap(file: BinaryIO, place: int) -> Iterator[tuple[int, bytes]]:
    """Objects of a collection of the global heap by their numbers."""
    start = _read(file, place, 16)
    if start[:5] != b"GCOL\1":
        raise WeightsError(f"no heap at byte {place}")
    content = _read(file, place, *struct.unpack_from("<Q", start, 8))
    place = 16
    while place + 16 <= len(content):
        number, size = struct.unpack_from("<H6xQ", content, place)
        if number == 0:  # what is left is free
            return
        place += 16
        if place + size > len(content):
            raise WeightsError("an object is longer than the heap that it is in")
        yield number, content[place : place + size]
        place += -(-size // 8) * 8
