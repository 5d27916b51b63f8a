"""Arrays of HDF5 files that are stored in chunks, perhaps packed."""

from __future__ import annotations

import math
import zlib
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import WeightsError

_GZIP, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE


def refusal(dataset: h5py.Dataset, what: str) -> WeightsError:
    """Make an error that names a dataset."""
    return WeightsError(f"{dataset.name.lstrip('/')!r} {what}")


def count_chunks(dataset: h5py.Dataset) -> int:
    """Count the chunks of a dataset."""
    pairs = zip(dataset.shape, dataset.chunks, strict=True)
    return math.prod(-(-n // size) for n, size in pairs)


def read_chunks(dataset: h5py.Dataset, properties: Any) -> NDArray[Any]:
    """Read a dataset in chunks, unpacking each to its size and no further."""
    # libhdf5 would take whatever a chunk unpacks to, more or less than its size.
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if not set(filters) <= {_GZIP, _SHUFFLE}:
        raise refusal(dataset, "has a filter other than gzip and shuffle")
    shape, chunk, dtype = dataset.shape, dataset.chunks, dataset.dtype
    # A chunk may reach beyond the array, and is unpacked as a whole.
    most = max(2 ** len(chunk) * dataset.size, 1 << 16)
    if math.prod(chunk) > most:
        raise refusal(dataset, f"has chunks of shape {chunk} for {shape}")
    size = math.prod(chunk) * dtype.itemsize
    values = np.empty(shape, dtype)
    for part in dataset.iter_chunks():
        start = tuple(axis.start for axis in part)
        info = dataset.id.get_chunk_info_by_coord(start)
        if info.byte_offset is None or info.size > 2 * size + 1024:
            raise refusal(dataset, "has a chunk that is missing or much too long")
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
            raise refusal(dataset, "has a chunk of another size than it should have")
        inside = tuple(slice(axis.stop - axis.start) for axis in part)
        values[part] = np.frombuffer(content, dtype).reshape(chunk)[inside]
    return values
