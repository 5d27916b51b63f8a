"""A look at the local heaps of an HDF5 file before libhdf5 reads them.

A local heap holds the names in a group. Its free places are a chain, and libhdf5
follows it for ever, taking memory at every step, where it leads back to itself. The
size of a heap is added to that of its header, and HDF5 1.12 writes where it must not
if the sum is more than an integer holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import WeightsError

__all__ = ["check_heaps"]

# Signature and version; libhdf5 takes nothing else for a heap, wherever it is led.
_START = b"HEAP\0"
_HEADER = "<5s3xQQQ"
_END = 1  # of the chain
_BLOCK = 1 << 20


def check_heaps(file: BinaryIO) -> None:
    """Refuse a file with a heap that has no end.

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
    for place in _places(file):
        file.seek(place)
        header = file.read(struct.calcsize(_HEADER))
        if len(header) < struct.calcsize(_HEADER):
            return
        _, size, free, data = struct.unpack(_HEADER, header)
        if size > end:
            msg = f"the heap at byte {place} has {size} bytes, and the file {end}"
            raise WeightsError(msg)
        seen: set[int] = set()
        # libhdf5 itself complains of a place beyond the heap, and of a next one at 0.
        while free != _END and free + 16 <= size and data + free + 16 <= end:
            if free in seen:
                msg = f"the free places of the heap at byte {place} have no end"
                raise WeightsError(msg)
            seen.add(free)
            file.seek(data + free)
            (free,) = struct.unpack("<Q", file.read(8))
            if free == 0:
                break


def _places(file: BinaryIO) -> Iterator[int]:
    """Where heaps seem to begin."""
    start, tail = 0, b""
    file.seek(0)
    while block := file.read(_BLOCK):
        content = tail + block
        found = content.find(_START)
        while found >= 0:
            yield start + found
            found = content.find(_START, found + 1)
        tail = content[-len(_START) + 1 :]
        start += len(content) - len(tail)
        file.seek(start + len(tail))
