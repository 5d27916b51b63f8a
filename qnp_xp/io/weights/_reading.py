"""Reading weights files: Keras 2 and 3 HDF5 and Keras 3 archives.

Whatever is wrong with a file comes out as a `WeightsError` that names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._network.description import Network
from ...errors import WeightsError
from ...grids import Grid, wave
from ._build import Shapes, build_network
from ._graph import Graph, Layer, variable_names
from ._hdf5 import Hdf5
from ._needs import needs

__all__ = ["GRID_MEMBER", "WeightsFile", "read_weights"]

_log = logging.getLogger(__name__)

#: Where a .keras archive keeps the grid for which HDF5 has the dataset model_grid.
GRID_MEMBER = "model_grid.json"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_GRID = "model_grid"

#: Bytes of a description; those of QuasarNET's networks have some 20 thousand.
_MOST_JSON = 1 << 20
#: Bytes of the weights in an archive: each in float64 and with several moments of an
#: optimizer beside it, and for each layer what HDF5 puts around that.
_PER_PARAMETER, _PER_LAYER = 40, 1 << 16
#: Bytes of a wavelength as text.
_PER_BIN = 64


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds.

    Attributes
    ----------
    path
        The file.
    sha256
        Of its bytes, hexadecimal.
    keras_version
        Version of Keras that wrote it, as it says.
    graph
        The description of the model.
    arrays
        For each layer its arrays by name (``kernel``, ``bias``, ...), of the shapes
        that are stored.
    grid
        Wavelengths in Angstrom from the file, shape ``(nbins,)``, or None.
    """

    path: Path
    sha256: str
    keras_version: str
    graph: Graph
    arrays: Mapping[str, Mapping[str, NDArray[Any]]]
    grid: NDArray[np.float64] | None

    def network(self) -> Network:
        """The network, with batch normalisation folded in.

        Returns
        -------
        Network

        Raises
        ------
        WeightsError
            See `qnp_xp.io.weights._build.build_network`.
        """
        with _naming(self.path):
            return build_network(
                self.graph, lambda layer, _: self.arrays.get(layer.name, {})
            )

    def wave(self, nbins: int) -> NDArray[np.float64]:
        """The grid of the network: the file's own, else QuasarNET's logarithmic one.

        Parameters
        ----------
        nbins
            Bins that the network takes.

        Returns
        -------
        numpy.ndarray
            Wavelengths in Angstrom, shape ``(nbins,)``.

        Raises
        ------
        WeightsError
            If the grid is neither linear nor logarithmic, or the file has none and the
            default one has another number of bins.
        """
        grid = self.grid
        if grid is None:
            if nbins != wave.size:
                msg = (
                    f"{self.path}: the network takes {nbins} bins, the file holds no"
                    f" model_grid, and the default grid has {wave.size} bins. Add"
                    " a grid with qnp-xp embed-grid"
                )
                raise WeightsError(msg)
            _log.warning(
                "%s has no model_grid: assuming QuasarNET's logarithmic grid", self.path
            )
            return wave
        with _naming(self.path):
            Grid.from_wave(grid)
        return grid


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make every complaint about a file's content a `WeightsError` that names it."""
    try:
        yield
    except WeightsError as err:
        msg = f"{path}: {err}"
        raise WeightsError(msg) from err
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        OSError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as err:
        msg = f"{path}: damaged, or not a QuasarNET weights file ({err})"
        raise WeightsError(msg) from err


def read_weights(filename: str | Path) -> WeightsFile:
    """Read a weights file of any of the three kinds.

    Parameters
    ----------
    filename
        Keras 2 or 3 HDF5 (``.h5``) or Keras 3 archive (``.keras``); told apart by
        their first bytes.

    Returns
    -------
    WeightsFile

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    WeightsError
        If the file is truncated, or of another kind.
    """
    path = Path(filename)
    digest = hashlib.sha256()
    with path.open("rb") as f:
        start = f.read(len(_HDF5))
        if not start.startswith((_HDF5, _ZIP)):
            msg = f"{path}: neither an HDF5 file nor a .keras archive"
            raise WeightsError(msg)
        digest.update(start)
        while block := f.read(1 << 20):
            digest.update(block)
    read = _read_hdf5 if start == _HDF5 else _read_archive
    with _naming(path):
        version, graph, arrays, grid = read(path)
    return WeightsFile(path, digest.hexdigest(), version, graph, arrays, grid)


_Contents = tuple[
    str, Graph, dict[str, dict[str, NDArray[Any]]], NDArray[np.float64] | None
]


def _read_hdf5(path: Path) -> _Contents:
    with path.open("rb") as file, Hdf5(path, file) as h5:
        config = h5.texts("", "model_config")
        if not config or "model_weights" not in h5:
            msg = "no model_config or model_weights: not saved by Keras' model.save"
            raise WeightsError(msg)
        graph = Graph.from_config(_json(config[0]))
        needed = needs(graph)
        arrays = {}
        for name, shapes in needed.shapes.items():
            group = f"model_weights/{name}"
            places = {
                # Keras 2 wrote `kernel:0`, Keras 3 writes `kernel`.
                place.rsplit("/", 1)[-1].split(":")[0]: f"{group}/{place}"
                for place in h5.texts(group, "weight_names")
            }
            arrays[name] = _arrays(h5, graph.layer(name), shapes, places)
        grid = None
        if _GRID in h5:
            stored = h5.array(_GRID)
            _check_grid(() if stored is None else stored.shape, needed.nbins)
            grid = None if stored is None else stored.read()
        version = [*h5.texts("", "keras_version"), "unknown"][0]
    return version, graph, arrays, _as_grid(grid)


def _arrays(
    h5: Hdf5, layer: Layer, shapes: Shapes, places: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """The arrays of a layer, those that are there, read once their shapes are right."""
    arrays = {}
    for name, shape in shapes.items():
        stored = h5.array(places[name]) if name in places else None
        if stored is not None:
            if stored.shape != shape:
                raise layer.unsupported(
                    f"its array {name!r} has shape {stored.shape}, not {shape}"
                )
            arrays[name] = stored.read()
    return arrays


def _read_archive(path: Path) -> _Contents:
    with zipfile.ZipFile(path) as archive:
        graph = Graph.from_config(_json(_member(archive, "config.json", _MOST_JSON)))
        metadata = _json(_member(archive, "metadata.json", _MOST_JSON))
        needed = needs(graph)
        most = _PER_PARAMETER * needed.parameters + _PER_LAYER * len(graph.layers)
        content = _member(archive, "model.weights.h5", most)
        grid = None
        if GRID_MEMBER in archive.namelist():
            most = _PER_BIN * needed.nbins
            grid = _json(_member(archive, GRID_MEMBER, min(most, _MOST_JSON)))
    file = io.BytesIO(content)
    with Hdf5(file, io.BytesIO(content)) as h5:
        groups = _archive_places(graph, h5)
        arrays = {}
        for name, shapes in needed.shapes.items():
            layer = graph.layer(name)
            places = {
                variable: f"layers/{groups[name]}/vars/{number}"
                for number, variable in enumerate(variable_names(layer))
            }
            arrays[name] = _arrays(h5, layer, shapes, places)
    if grid is not None:
        _check_grid(np.shape(grid), needed.nbins)
    return str(metadata["keras_version"]), graph, arrays, _as_grid(grid)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member of an archive, unpacked only if it has a sensible size."""
    info = archive.getinfo(name)
    if info.file_size > most:
        msg = f"{name} has {info.file_size} bytes, and at most {most} are needed"
        raise WeightsError(msg)
    # The others of zipfile's methods unpack all that there is, whatever was claimed.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        msg = f"{name} is packed by method {info.compress_type}, and not by deflate"
        raise WeightsError(msg)
    with archive.open(info) as member:
        content = member.read(info.file_size)
        # Behind the last byte the checksum is compared.
        member.read(1)
    if len(content) != info.file_size:
        msg = f"{name} has {len(content)} bytes of {info.file_size}"
        raise WeightsError(msg)
    return content


def _json(text: str | bytes) -> Any:
    if len(text) > _MOST_JSON:
        msg = f"a description of {len(text)} bytes, and at most {_MOST_JSON} are needed"
        raise WeightsError(msg)
    return json.loads(text)


def _check_grid(shape: tuple[int, ...], nbins: int) -> None:
    if shape != (nbins,):
        msg = f"model_grid has shape {shape}, and the network takes {nbins} bins"
        raise WeightsError(msg)


def _archive_places(graph: Graph, h5: Hdf5) -> dict[str, str]:
    """Group of each layer in a .keras archive.

    Groups are named for the class of their layer and numbered within it; later
    versions also write down the layer's own name, which is taken where it is found.
    """
    places = {}
    counts: dict[str, int] = {}
    for name, layer in graph.layers.items():
        stem = _snake_case(layer)
        count = counts.get(stem, 0)
        counts[stem] = count + 1
        places[name] = f"{stem}_{count}" if count else stem
    for place in h5.names("layers"):
        for name in h5.texts(f"layers/{place}/vars", "name"):
            places[name] = place
    return places


def _snake_case(layer: Layer) -> str:
    name = re.sub(r"\W+", "", layer.kind)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _as_grid(grid: Any) -> NDArray[np.float64] | None:
    return None if grid is None else np.asarray(grid, dtype=np.float64)
