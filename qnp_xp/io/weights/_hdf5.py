"""HDF5 files of unknown origin: arrays through h5py, texts and a few checks by hand.

libhdf5 trusts what a file says of its heaps. It follows a free list that leads back to
itself for ever, and so it does with an object of no size among texts of variable
length; a wrong length of one makes it write where it must not. These parts are read
here, within bounds. Their fields are those of the HDF5 File Format Specification 3.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import WeightsError

# Messages of a header, of which an attribute is one.
_EXTERNAL_FILES, _LAYOUT, _ATTRIBUTE, _CONTINUATION = 7, 8, 12, 16
_VIRTUAL = 3  # class of a layout

_GZIP, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE

# More than files of networks have.
_MOST_BYTES = 1 << 24  # of a block of a header, or of a collection of texts
_MOST_BLOCKS = 256  # of a header
_MOST_CHUNKS = 1 << 14  # of an array
_MOST_FREE = 256  # places in the free list of a group's names
_PIECE = 1 << 20  # bytes that are searched at once


@contextmanager
def open_hdf5(file: BinaryIO) -> Iterator[Hdf5]:
    """Open an HDF5 file, unless libhdf5 would never come to an end with it."""
    check_heaps(file)
    with h5py.File(file, "r") as h5:
        yield Hdf5(file, h5)


def read_array(dataset: h5py.Dataset) -> NDArray[Any]:
    """Read all of a dataset, in no more memory than its shape and its type take."""
    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.CHUNKED:
        return _read_chunks(dataset, properties)
    stored = dataset.id.get_storage_size()
    contiguous = properties.get_layout() == h5py.h5d.CONTIGUOUS
    if stored != dataset.nbytes or (contiguous and dataset.id.get_offset() is None):
        raise _refusal(dataset, "has not all of its data in the file")
    values: NDArray[Any] = dataset[()]
    return values


class Hdf5:
    """Finds the arrays and the texts of an open HDF5 file, and nothing outside it."""

    def __init__(self, file: BinaryIO, h5: h5py.File) -> None:
        self._file, self._root = file, h5.id
        self._collections: dict[int, dict[int, bytes]] = {}

    def names(self, path: str) -> list[str]:
        """List what is in a group; nothing if there is no such group."""
        node, _ = self._find(path)
        group = isinstance(node, h5py.h5g.GroupID)
        return [name.decode() for name in node] if group else []

    def dataset(self, path: str) -> h5py.Dataset | None:
        """Find an array of numbers, and leave it unread; None if nothing is there."""
        node, _ = self._find(path)
        if node is None:
            return None
        if not isinstance(node, h5py.h5d.DatasetID):
            raise WeightsError(f"{path!r} is not an array")
        found = h5py.Dataset(node)
        if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
            what = f"has type {found.dtype}, and plain numbers are needed"
            raise _refusal(found, what)
        return found

    def texts(self, path: str, attribute: str) -> list[str]:
        """Read the text or texts of an attribute; none if there is no attribute."""
        node, address = self._find(path)
        if node is None or not h5py.h5a.exists(node, attribute.encode()):
            return []
        found = h5py.h5a.open(node, attribute.encode())
        kind, count = found.get_type(), found.get_space().get_simple_extent_npoints()
        if not isinstance(kind, h5py.h5t.TypeStringID):
            raise WeightsError(f"attribute {attribute!r} is not text")
        variable = kind.is_variable_str()
        width = 16 if variable else kind.get_size()
        data = self._stored(address, attribute, width * count)
        items = [data[i : i + width] for i in range(0, len(data), width)]
        if variable:
            items = [self._variable(*struct.unpack("<IQI", item)) for item in items]
        return [item.split(b"\0", 1)[0].decode() for item in items]

    def _find(self, path: str) -> tuple[Any, int]:
        """Find an object, None if there is none, and where its header begins."""
        node, address = self._root, h5py.h5o.get_info(self._root).addr
        for name in filter(None, path.encode().split(b"/")):
            if not isinstance(node, h5py.h5g.GroupID) or not node.links.exists(name):
                return None, 0
            link = node.links.get_info(name)
            if link.type != h5py.h5l.TYPE_HARD:
                raise WeightsError(f"{path!r} is a link, not followed")
            address = link.u
            # Before it is opened: where it is virtual, libhdf5 looks into a heap.
            if any(_is_elsewhere(*message) for message in self._messages(address)):
                raise WeightsError(f"{path!r} has its data elsewhere, not followed")
            node = h5py.h5o.open(node, name)
        return node, address

    def _read(self, offset: int, size: int) -> bytes:
        """Read some bytes of the file, all of them or none."""
        self._file.seek(offset)
        content = self._file.read(min(size, _MOST_BYTES))
        if len(content) < size:
            raise WeightsError(f"{size} bytes at byte {offset}: not there, or too many")
        return content

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Yield the kind and the content of each message in the header of an object."""
        start = self._read(address, 16)
        if start[:4] == b"OHDR":
            flags = start[5]
            offset = address + 6
            offset += (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            size = int.from_bytes(self._read(offset, width), "little")
            blocks, frame = [(offset + width, size)], 4
            head = struct.Struct("<BHB2x" if flags & 4 else "<BHB")
        else:
            (size,) = struct.unpack_from("<I", start, 8)
            blocks, frame, head = [(address + 16, size)], 0, struct.Struct("<HHB3x")
        for block in blocks:  # which grow in number, without end where they circle
            content, offset = self._read(*block), 0
            while offset + head.size <= len(content):
                kind, size, _ = head.unpack_from(content, offset)
                offset += head.size
                message = content[offset : offset + size]
                offset += size
                if kind == _CONTINUATION:
                    more, size = struct.unpack_from("<QQ", message)
                    # Signature and checksum are around the messages.
                    blocks.append((more + frame, max(size - 2 * frame, 0)))
                yield kind, message
            if len(blocks) > _MOST_BLOCKS:
                raise WeightsError(f"the header at byte {address} has no end")

    def _stored(self, address: int, attribute: str, size: int) -> bytes:
        """Read the bytes of an attribute out of the header that has it."""
        for kind, content in self._messages(address):
            if kind == _ATTRIBUTE:
                version, *sizes = struct.unpack_from("<Bx3H", content)
                if version == 1:
                    sizes = [-(-n // 8) * 8 for n in sizes]
                offset = 9 if version == 3 else 8
                name = content[offset : offset + sizes[0]].rstrip(b"\0")
                data = content[offset + sum(sizes) :][:size]
                if name == attribute.encode() and len(data) == size:
                    return data
        raise WeightsError(f"attribute {attribute!r} is not in a header, not supported")

    def _variable(self, size: int, address: int, index: int) -> bytes:
        """Read a text of variable length from the collection that has it."""
        if size == 0:
            return b""
        if address not in self._collections:
            self._collections[address] = self._collection(address)
        found = self._collections[address].get(index, b"")
        if size > len(found):
            raise WeightsError(f"a text of {size} bytes, of which {len(found)} exist")
        return found[:size]

    def _collection(self, address: int) -> dict[int, bytes]:
        """Read the objects of a collection of the global heap, by their index."""
        signature, size = struct.unpack("<5s3xQ", self._read(address, 16))
        if signature != b"GCOL\1":
            raise WeightsError(f"no texts at byte {address}")
        content, offset = self._read(address, size), 16
        found: dict[int, bytes] = {}
        while offset + 16 <= size:
            index, length = struct.unpack_from("<H6xQ", content, offset)
            if index == 0:  # what is left is free
                break
            offset += 16
            if offset + length > size:
                raise WeightsError("an object is longer than the heap that it is in")
            found[index] = content[offset : offset + length]
            offset += -(-length // 8) * 8
        return found


def _refusal(dataset: h5py.Dataset, what: str) -> WeightsError:
    """Make an error that names a dataset."""
    return WeightsError(f"{dataset.name.lstrip('/')!r} {what}")


def _is_elsewhere(kind: int, content: bytes) -> bool:
    """Tell from a message whether data are in other files or in other datasets."""
    # The earliest layouts have the number of dimensions before the class.
    offset = 2 if content[:1] in (b"\1", b"\2") else 1
    virtual = content[offset : offset + 1] == bytes([_VIRTUAL])
    return kind == _EXTERNAL_FILES or (kind == _LAYOUT and virtual)


def _read_chunks(dataset: h5py.Dataset, properties: Any) -> NDArray[Any]:
    """Read a dataset in chunks, unpacking each to its size and no further."""
    # libhdf5 would take whatever a chunk unpacks to, more or less than its size.
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if not set(filters) <= {_GZIP, _SHUFFLE}:
        raise _refusal(dataset, "has a filter other than gzip and shuffle")
    shape, chunk, dtype = dataset.shape, dataset.chunks, dataset.dtype
    number = math.prod(-(-n // size) for n, size in zip(shape, chunk, strict=True))
    # A chunk may reach beyond the array, and is unpacked as a whole.
    most = max(2 ** len(chunk) * dataset.size, 1 << 16)
    if number > _MOST_CHUNKS or math.prod(chunk) > most:
        raise _refusal(dataset, f"has chunks of shape {chunk} for {shape}")
    size = math.prod(chunk) * dtype.itemsize
    values = np.empty(shape, dtype)
    for part in dataset.iter_chunks():
        start = tuple(axis.start for axis in part)
        info = dataset.id.get_chunk_info_by_coord(start)
        if info.byte_offset is None or info.size > 2 * size + 1024:
            raise _refusal(dataset, "has a chunk that is missing or much too long")
        unused, content = dataset.id.read_direct_chunk(start)
        for i, step in reversed(list(enumerate(filters))):
            if unused >> i & 1:
                continue
            if step == _GZIP:
                content = zlib.decompressobj().decompress(content, size + 1)
            elif len(content) == size:
                planes = np.frombuffer(content, np.uint8).reshape(dtype.itemsize, -1)
                content = planes.T.tobytes()
        if len(content) != size:
            raise _refusal(dataset, "has a chunk of another size than it should have")
        inside = tuple(slice(axis.stop - axis.start) for axis in part)
        values[part] = np.frombuffer(content, dtype).reshape(chunk)[inside]
    return values


def check_heaps(file: BinaryIO) -> None:
    """Refuse heaps of names beyond the file, or with a free list that has no end."""
    # HDF5 1.12 crashes at the former, and no version comes to an end with the latter.
    # Without the signature none takes anything for a heap of names.
    end = file.seek(0, 2)
    for start in range(0, end, _PIECE):
        file.seek(start)
        for match in re.finditer(b"HEAP\0", file.read(_PIECE + 4)):
            heap = start + match.start()
            file.seek(heap + 8)
            size, free, data = struct.unpack("<3Q", file.read(24).ljust(24, b"\0"))
            if size > end:
                raise WeightsError(f"the heap at byte {heap} is beyond the file")
            for _ in range(_MOST_FREE):
                # 1 ends the list; libhdf5 itself refuses a next place of 0, or outside.
                if free == 1 or free + 16 > size or data + free + 16 > end:
                    break
                file.seek(data + free)
                free = int.from_bytes(file.read(8), "little") or 1
            else:
                raise WeightsError(
                    f"the free list of the heap at byte {heap} has no end"
                )
