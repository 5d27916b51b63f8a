"""HDF5 files as data: texts and arrays at places that stay within the file.

libhdf5 finds the objects. What they hold is read here, within the bounds that a caller
knows: a file of a few bytes can claim, or unpack to, more than there is memory.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import WeightsError
from ._hdf5_check import check_groups
from ._hdf5_header import Texts, data_within, is_stored_elsewhere, messages

__all__ = ["Hdf5", "Stored"]

_GZIP, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
_MOST_CHUNKS = 1 << 14  # of one dataset


class Hdf5:
    """An open HDF5 file; a context manager.

    Parameters
    ----------
    path
        The file as libhdf5 takes it: its path, or an open binary file.
    file
        The file once more, open for reading.

    Raises
    ------
    WeightsError
        If libhdf5 would never come to an end with it.
    """

    def __init__(self, path: Path | BinaryIO, file: BinaryIO) -> None:
        self._file = file
        check_groups(file)
        self._h5 = h5py.File(path, "r")
        self._texts = Texts(file)

    def __enter__(self) -> Hdf5:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._h5.close()

    def _find(self, place: str) -> tuple[Any, int] | None:
        """The object at a place, and where its header begins; None if there is none.

        A link that leads anywhere but to an object of this file is refused.
        """
        here = self._h5.id
        address = h5py.h5o.get_info(here).addr
        for part in filter(None, place.split("/")):
            name = part.encode()
            if not isinstance(here, h5py.h5g.GroupID):
                return None
            if part in (".", "..") or not here.links.exists(name):
                return None
            if here.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                msg = f"{place!r} is a link to something else, not followed"
                raise WeightsError(msg)
            address = h5py.h5o.get_info(here, name).addr
            if is_stored_elsewhere(messages(self._file, address)):
                msg = f"{place!r} has its data elsewhere, not followed"
                raise WeightsError(msg)
            here = h5py.h5o.open(here, name)
        return here, address

    def __contains__(self, place: str) -> bool:
        return self._find(place) is not None

    def names(self, place: str) -> list[str]:
        """Names of what is in a group; none if there is no such group."""
        found = self._find(place)
        if found is None or not isinstance(found[0], h5py.h5g.GroupID):
            return []
        return [name.decode() for name in found[0]]

    def texts(self, place: str, attribute: str) -> list[str]:
        """The text or texts in an attribute; none if there is no such attribute."""
        found = self._find(place)
        return [] if found is None else self._texts.read(found[1], attribute) or []

    def array(self, place: str) -> Stored | None:
        """The dataset at a place, not read yet; None if there is none."""
        found = self._find(place)
        if found is None or not isinstance(found[0], h5py.h5d.DatasetID):
            return None
        return Stored(place, *found, self._file)


class Stored:
    """A dataset of numbers that is read when it is asked for.

    Parameters
    ----------
    place
        Where it is in the file.
    dataset
        The dataset of h5py.
    address
        Where its header begins.
    file
        The file, open for reading.

    Raises
    ------
    WeightsError
        If it does not hold plain numbers.
    """

    def __init__(
        self, place: str, dataset: h5py.h5d.DatasetID, address: int, file: BinaryIO
    ) -> None:
        self.place, self._address = place, address
        self._dataset, self._file = dataset, file
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        if self.dtype.kind not in "fiu" or self.dtype.itemsize > 8:
            raise self._problem(f"has type {self.dtype}, and plain numbers are needed")

    def _problem(self, what: str) -> WeightsError:
        return WeightsError(f"{self.place!r} {what}")

    def read(self) -> NDArray[Any]:
        """The numbers, as they are stored.

        The memory that it takes is what `shape` and `dtype` say, and no more.

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        WeightsError
            If the file does not hold all of them, or has them in a way that is not
            supported.
        """
        layout = self._dataset.get_create_plist().get_layout()
        out = np.empty(self.shape, dtype=self.dtype)
        if out.size == 0:
            return out
        if layout == h5py.h5d.CHUNKED:
            self._read_chunks(out)
        elif layout == h5py.h5d.CONTIGUOUS:
            content = self._bytes(self._dataset.get_offset(), out.nbytes)
            out[...] = np.frombuffer(content, self.dtype).reshape(self.shape)
        elif layout == h5py.h5d.COMPACT:
            # HDF5 1.12 copies what its shape says, whether it is there or not.
            found = data_within(messages(self._file, self._address))
            if found is None or len(found) != out.nbytes:
                raise self._problem("has not all of its data in its header")
            out[...] = np.frombuffer(found, self.dtype).reshape(self.shape)
        else:
            raise self._problem("is stored in a way that is not supported")
        return out

    def _bytes(self, place: int | None, size: int) -> bytes:
        end = self._file.seek(0, 2)
        if place is None or place + size > end:
            raise self._problem("has not all of its data in the file")
        self._file.seek(place)
        return self._file.read(size)

    def _read_chunks(self, out: NDArray[Any]) -> None:
        """Fill an array from the chunks of the dataset."""
        properties = self._dataset.get_create_plist()
        sizes = properties.get_chunk()
        filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
        steps = [code for code, *_ in filters]
        if not set(steps) <= {_GZIP, _SHUFFLE}:
            raise self._problem("has a filter other than gzip and shuffle")
        starts = [range(0, n, size) for n, size in zip(out.shape, sizes, strict=True)]
        # A chunk may stick out of the dataset, and is unpacked as a whole.
        if math.prod(map(len, starts)) > _MOST_CHUNKS or math.prod(sizes) > max(
            2 ** len(sizes) * out.size, 1 << 16
        ):
            raise self._problem(f"has chunks of shape {sizes} for {out.shape}")
        for start in itertools.product(*starts):
            info = self._dataset.get_chunk_info_by_coord(start)
            if info.size > 2 * math.prod(sizes) * out.itemsize + 1024:
                raise self._problem("has a chunk that is longer than what it holds")
            packed = self._bytes(info.byte_offset, info.size)
            used = [x for i, x in enumerate(steps) if not info.filter_mask >> i & 1]
            chunk = self._unpacked(packed, used, sizes)
            part = tuple(slice(a, a + n) for a, n in zip(start, sizes, strict=True))
            shape = out[part].shape
            out[part] = chunk[tuple(slice(n) for n in shape)]

    def _unpacked(
        self, content: bytes, steps: Sequence[int], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        size = math.prod(shape) * self.dtype.itemsize
        for step in reversed(steps):
            if step == _GZIP:
                content = zlib.decompressobj().decompress(content, size + 1)
            else:
                width = self.dtype.itemsize
                if len(content) == size:
                    planes = np.frombuffer(content, np.uint8).reshape(width, -1)
                    content = planes.T.tobytes()
        if len(content) != size:
            raise self._problem("has a chunk of another size than it should have")
        return np.frombuffer(content, self.dtype).reshape(shape)
