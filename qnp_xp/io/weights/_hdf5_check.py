"""A look at the groups of an HDF5 file before libhdf5 reads them.

A local heap holds the names in a group. Its free places are a chain, and libhdf5
follows it for ever, taking memory at every step, where it leads back to itself. Sizes
and addresses that are next to the largest integer make HDF5 1.12 read and write where
it must not.

Structures are found by their signatures: wherever it is led, libhdf5 takes nothing for
one of them that has another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ...errors import WeightsError

__all__ = ["check_groups"]

# A local heap; a tree of the nodes of a group, and a node, which has its objects; the
# messages of headers that say where heap and tree are, and where a header goes on.
_HEAP, _TREE, _NODE = b"HEAP\0", b"TREE\0", b"SNOD\1\0"
_TABLE, _MORE = b"\x11\0\x10\0", b"\x10\0\x10\0"
_ANY = (_HEAP, _TREE, _NODE, _TABLE, _MORE)
_LONGEST = 6
_HEAP_HEADER = "<8xQQQ"
_ENTRY = "<8xQL4xQQ"  # of a node: the object, whether it is a group, and then its parts
_GROUP, _SOFT_LINK = 1, 2  # kinds of entries
_END = 1  # of the chain of free places
_FAR = 1 << 62
_BLOCK = 1 << 20


def check_groups(file: BinaryIO) -> None:
    """Refuse a file with a group that leads out of it, or in a circle.

    Parameters
    ----------
    file
        The HDF5 file.

    Raises
    ------
    WeightsError
        If there is one.
    """
    end = file.seek(0, 2)
    for place, signature in _places(file):
        if signature == _HEAP:
            _check_heap(file, place, end)
        elif signature == _TREE:
            count = int.from_bytes(_read(file, place + 6, 2), "little")
            # Each address has a key before it.
            pairs = struct.iter_unpack("<8xQ", _read(file, place + 24, 16 * count))
            _check_addresses(place, [target for (target,) in pairs])
        elif signature == _NODE:
            count = int.from_bytes(_read(file, place + 6, 2), "little")
            entries = _read(file, place + 8, 40 * count)
            for target, kind, *parts in struct.iter_unpack(_ENTRY, entries):
                if kind != _SOFT_LINK:  # which has no object
                    inner = parts if kind == _GROUP else []
                    _check_addresses(place, [target, *inner])
        elif _read(file, place + 5, 3) == bytes(3):
            table = struct.unpack("<QQ", _read(file, place + 8, 16) or bytes(16))
            _check_addresses(place, table)


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    """Bytes of a file; none where it ends before them."""
    file.seek(place)
    content = file.read(size)
    return content if len(content) == size else b""


def _check_addresses(place: int, targets: Sequence[int]) -> None:
    """Refuse addresses with which no sum can be trusted.

    Others beyond the end of the file are left to libhdf5: what is left of a group that
    was deleted may have some, and they are never followed.
    """
    for target in targets:
        if target >= _FAR:
            msg = f"the group at byte {place} leads to byte {target}"
            raise WeightsError(msg)


def _check_heap(file: BinaryIO, place: int, end: int) -> None:
    header = _read(file, place, struct.calcsize(_HEAP_HEADER))
    if not header:
        return
    size, free, data = struct.unpack(_HEAP_HEADER, header)
    if size > end:
        msg = f"the heap at byte {place} has {size} bytes, and the file {end}"
        raise WeightsError(msg)
    _check_addresses(place, [data])
    seen: set[int] = set()
    # libhdf5 itself complains of a place beyond the heap, and of a next one at 0.
    while free != _END and free + 16 <= size and data + free + 16 <= end:
        if free in seen:
            msg = f"the free places of the heap at byte {place} have no end"
            raise WeightsError(msg)
        seen.add(free)
        free = int.from_bytes(_read(file, data + free, 8), "little")
        if free == 0:
            return


def _places(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Where heaps, nodes and messages seem to begin."""
    start = 0
    file.seek(0)
    while content := file.read(_BLOCK + _LONGEST):
        for signature in _ANY:
            found = content.find(signature)
            while 0 <= found < _BLOCK:  # the others are in the next block as well
                yield start + found, signature
                found = content.find(signature, found + 1)
        start += _BLOCK
        file.seek(start)
