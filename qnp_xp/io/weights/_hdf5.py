"""HDF5 files of unknown origin: arrays through h5py, texts and a few checks by hand.

libhdf5 trusts what a file says of its heaps and trees. It follows a free list that
leads back to itself for ever, and so it does with a tree, and with an object of no size
among texts of variable length; a wrong length of one makes it write where it must not.
These parts are read here, within bounds. Their fields are those of the HDF5 File Format
Specification 3.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import WeightsError
from ._chunks import count_chunks, read_chunks, refusal

# Messages of a header, of which an attribute is one.
_EXTERNAL_FILES, _LAYOUT, _ATTRIBUTE, _CONTINUATION, _SYMBOLS = 7, 8, 12, 16, 17
_CHUNKED, _VIRTUAL = 2, 3  # classes of a layout
_NOWHERE = (1 << 64) - 1

# More than files of networks have.
_MOST_BYTES = 1 << 22  # of headers, trees and texts together
_MOST_CHUNKS = 1 << 11  # of all arrays that are read; libhdf5 searches all for each
_MOST_OBJECTS, _MOST_LEVELS = 1 << 14, 16  # of groups in groups
_MOST_TEXT = 1 << 20  # of an attribute
_MOST_NODE, _MOST_DEPTH = 1 << 12, 2  # of trees of the second version


@contextmanager
def open_hdf5(content: bytes) -> Iterator[Hdf5]:
    """Open an HDF5 file, unless libhdf5 would never come to an end with it."""
    check_heaps(content)
    for match in re.finditer(b"BTHD\0.(....)..(..)", content, re.DOTALL):
        size, depth = (int.from_bytes(x, "little") for x in match.groups())
        if size > _MOST_NODE or depth > _MOST_DEPTH:
            raise WeightsError(f"the tree at byte {match.start()} is too large")
    with h5py.File(io.BytesIO(content), "r") as h5:
        yield Hdf5(content, h5)


class Hdf5:
    """Finds the arrays and the texts of an open HDF5 file, and nothing outside it."""

    def __init__(self, content: bytes, h5: h5py.File) -> None:
        self._content = content
        self._left, self._chunks_left = _MOST_BYTES, _MOST_CHUNKS
        self._headers: dict[int, list[tuple[int, bytes]]] = {}
        self._collections: dict[int, dict[int, bytes]] = {}
        root = _address(h5.id)
        self._check(root, "/")
        self._nodes: dict[str, tuple[Any, int]] = {"": (h5.id, root)}

    def names(self, path: str) -> list[str]:
        """List what is in a group; nothing if there is no such group."""
        node, _ = self._find(path)
        if not isinstance(node, h5py.h5g.GroupID):
            return []
        if node.get_num_objs() > _MOST_OBJECTS:
            raise WeightsError(f"{path!r} holds too many objects")
        return [name.decode() for name in node]

    def dataset(self, path: str) -> tuple[h5py.Dataset | None, int]:
        """Find an array of numbers, unread, None if there is none, and its header."""
        node, address = self._find(path)
        if node is None:
            return None, 0
        if not isinstance(node, h5py.h5d.DatasetID):
            raise WeightsError(f"{path!r} is not an array")
        found = h5py.Dataset(node)
        if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
            what = f"has type {found.dtype}, and plain numbers are needed"
            raise refusal(found, what)
        return found, address

    def read(self, dataset: h5py.Dataset) -> NDArray[Any]:
        """Read all of a dataset, in no more memory than its shape and its type take."""
        properties = dataset.id.get_create_plist()
        if properties.get_layout() == h5py.h5d.CHUNKED:
            self._chunks_left -= count_chunks(dataset)
            if self._chunks_left < 0:
                raise refusal(dataset, "has too many chunks")
            return read_chunks(dataset, properties)
        stored = dataset.id.get_storage_size()
        contiguous = properties.get_layout() == h5py.h5d.CONTIGUOUS
        if stored != dataset.nbytes or (contiguous and dataset.id.get_offset() is None):
            raise refusal(dataset, "has not all of its data in the file")
        values: NDArray[Any] = dataset[()]
        return values

    def arrays(self, path: str) -> Iterator[tuple[str, int]]:
        """Yield all arrays in a group and those in it: where, and their headers."""
        paths, seen = [path], set()
        for found in paths:  # which grow in number
            node, address = self._find(found)
            if address in seen:
                continue
            seen.add(address)
            if isinstance(node, h5py.h5g.GroupID):
                paths += [f"{found}/{name}" for name in self.names(found)]
            elif node is not None:
                yield found, address
            if len(paths) > _MOST_OBJECTS or found.count("/") > _MOST_LEVELS:
                raise WeightsError(f"{path!r} holds too many objects")

    def texts(self, path: str, attribute: str) -> list[str]:
        """Read the text or texts of an attribute; none if there is no attribute."""
        found, address = self._attribute(path, attribute)
        if found is None:
            return []
        kind, count = found.get_type(), found.get_space().get_simple_extent_npoints()
        if not isinstance(kind, h5py.h5t.TypeStringID):
            raise WeightsError(f"attribute {attribute!r} is not text")
        variable = kind.is_variable_str()
        width = 16 if variable else kind.get_size()
        data = self._stored(address, attribute, width * count)
        items = [data[i : i + width] for i in range(0, len(data), width)]
        if variable:
            references = [struct.unpack("<IQI", item) for item in items]
            # Any number of them may refer to the same text.
            if sum(size for size, *_ in references) > _MOST_TEXT:
                raise WeightsError(f"attribute {attribute!r} has too much text")
            items = [self._variable(*reference) for reference in references]
        return [item.split(b"\0", 1)[0].decode() for item in items]

    def number(self, path: str, attribute: str) -> float | None:
        """Read an attribute that is one number; None if there is no attribute."""
        found, address = self._attribute(path, attribute)
        if found is None:
            return None
        count, dtype = found.get_space().get_simple_extent_npoints(), found.dtype
        if dtype.kind not in "fiu" or dtype.itemsize > 8 or count != 1:
            raise WeightsError(f"attribute {attribute!r} is not a number")
        data = self._stored(address, attribute, dtype.itemsize)
        return float(np.frombuffer(data, dtype)[0])

    def _attribute(self, path: str, name: str) -> tuple[Any, int]:
        """Find an attribute, None if there is none, and the header that has it."""
        node, address = self._find(path)
        if node is None or not h5py.h5a.exists(node, name.encode()):
            return None, 0
        return h5py.h5a.open(node, name.encode()), address

    def _find(self, path: str) -> tuple[Any, int]:
        """Find an object, None if there is none, and where its header begins."""
        if path not in self._nodes:
            parent, _, name = path.rpartition("/")
            self._nodes[path] = self._child(path, *self._find(parent), name.encode())
        return self._nodes[path]

    def _child(self, path: str, parent: Any, address: int, name: bytes) -> Any:
        """Find an object in a group."""
        if not name:
            return parent, address
        if not isinstance(parent, h5py.h5g.GroupID) or not parent.links.exists(name):
            return None, 0
        link = parent.links.get_info(name)
        if link.type != h5py.h5l.TYPE_HARD:
            raise WeightsError(f"{path!r} is a link, not followed")
        self._check(link.u, path)
        return h5py.h5o.open(parent, name), link.u

    def _check(self, address: int, path: str) -> None:
        """Refuse an object that libhdf5 must not open."""
        if address in self._headers:
            return
        for kind, content in self._messages(address):
            if kind == _SYMBOLS:
                self._check_tree(int.from_bytes(content[:8], "little"), 8)
            if kind in (_LAYOUT, _EXTERNAL_FILES):
                # The earliest layouts have the number of dimensions first.
                early = content[0] < 3
                rank, layout = content[1:3] if early else content[2:0:-1]
                # Where it is virtual, libhdf5 looks into a heap.
                if kind == _EXTERNAL_FILES or layout == _VIRTUAL:
                    raise WeightsError(f"{path!r} has its data elsewhere, not followed")
                if layout == _CHUNKED and content[0] < 4:
                    start = 8 if early else 3
                    tree = int.from_bytes(content[start : start + 8], "little")
                    self._check_tree(tree, 8 * rank + 8)

    def _check_tree(self, address: int, key: int, above: int = 256) -> None:
        """Refuse a tree whose branches do not come to an end."""
        if address == _NOWHERE:
            return
        level, count = struct.unpack("<5xBH", self._read(address, 8))
        if level >= above:
            raise WeightsError(f"the tree at byte {address} leads back to itself")
        branches = self._read(address + 24 + key, count * (key + 8))
        if level:
            for (branch,) in struct.iter_unpack(f"<Q{key}x", branches):
                self._check_tree(branch, key, level)

    def _read(self, offset: int, size: int) -> bytes:
        """Read some bytes of the file, all of them or none."""
        # In a sound file no two of these parts overlap.
        self._left -= size
        content = self._content[offset : offset + size]
        if len(content) < size or self._left < 0:
            raise WeightsError(f"{size} bytes at byte {offset}: not there, or too many")
        return content

    def _messages(self, address: int) -> list[tuple[int, bytes]]:
        """List the kind and the content of each message in the header of an object."""
        if address in self._headers:
            return self._headers[address]
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
        messages = []
        for block in blocks:  # which grow in number, until _read has enough of it
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
                messages.append((kind, message))
        self._headers[address] = messages
        return messages

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


def _address(node: Any) -> int:
    """Find where the header of an object begins."""
    # get_info would walk through its tree, which may not have been checked.
    return int(h5py.h5g.get_objinfo(node).objno[0])


def check_heaps(content: bytes) -> None:
    """Refuse heaps of names beyond the file, or with a free list that has no end."""
    # HDF5 1.12 crashes at the former, and no version comes to an end with the latter.
    # Without the signature none takes anything for a heap of names.
    end = len(content)
    left = end // 16  # a free place takes as many bytes, and is in one list
    for match in re.finditer(b"HEAP\0", content):
        heap = match.start()
        head = content[heap + 8 : heap + 32].ljust(24, b"\0")
        size, free, data = struct.unpack("<3Q", head)
        if size > end:
            raise WeightsError(f"the heap at byte {heap} is beyond the file")
        # 1 ends the list; libhdf5 itself refuses a next place of 0, or outside.
        while free != 1 and free + 16 <= size and data + free + 16 <= end:
            left -= 1
            if left < 0:
                raise WeightsError(
                    f"the free list of the heap at byte {heap} has no end"
                )
            place = data + free
            free = int.from_bytes(content[place : place + 8], "little") or 1
