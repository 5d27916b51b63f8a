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
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..grids import Grid, wave
from ..network import Network
from .keras_build import build_network
from .keras_graph import Graph, Layer, variable_names

__all__ = ["GRID_MEMBER", "WeightsFile", "read_weights"]

_log = logging.getLogger(__name__)

#: Where a .keras archive keeps the grid for which HDF5 has the dataset model_grid.
GRID_MEMBER = "model_grid.json"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


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
        For each layer its arrays by name (``kernel``, ``bias``, ...), as stored.
    grid
        Wavelengths in Angstrom from the file, or None.
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
            See `qnp_xp.io.keras_build.build_network`.
        """
        with _naming(self.path):
            return build_network(self.graph, lambda name: self.arrays.get(name, {}))

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
            If the grid has another number of bins or is neither linear nor logarithmic.
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
        if grid.shape != (nbins,):
            msg = (
                f"{self.path}: model_grid has shape {grid.shape}, and the network takes"
                f" {nbins} bins"
            )
            raise WeightsError(msg)
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
    with h5py.File(path, "r") as f:
        if "model_config" not in f.attrs or "model_weights" not in f:
            msg = "no model_config or model_weights: not saved by Keras' model.save"
            raise WeightsError(msg)
        graph = Graph.from_config(json.loads(f.attrs["model_config"]))
        arrays = {}
        for name, group in f["model_weights"].items():
            arrays[name] = {
                # Keras 2 wrote `kernel:0`, Keras 3 writes `kernel`.
                variable.rsplit("/", 1)[-1].split(":")[0]: group[variable][()]
                for variable in map(_text, group.attrs.get("weight_names", ()))
                if variable in group
            }
        grid = f["model_grid"][()] if "model_grid" in f else None
        version = _text(f.attrs.get("keras_version", "unknown"))
    return version, graph, arrays, _as_grid(grid)


def _read_archive(path: Path) -> _Contents:
    with zipfile.ZipFile(path) as archive:
        model = json.loads(archive.read("config.json"))
        version = str(json.loads(archive.read("metadata.json"))["keras_version"])
        content = archive.read("model.weights.h5")
        grid = None
        if GRID_MEMBER in archive.namelist():
            grid = json.loads(archive.read(GRID_MEMBER))
    graph = Graph.from_config(model)
    with h5py.File(io.BytesIO(content), "r") as f:
        groups = f["layers"]
        places = _archive_places(graph, groups)
        arrays = {
            name: {
                variable: groups[places[name]]["vars"][str(number)][()]
                for number, variable in enumerate(variable_names(layer))
                if f"{places[name]}/vars/{number}" in groups
            }
            for name, layer in graph.layers.items()
            if variable_names(layer)
        }
    return version, graph, arrays, _as_grid(grid)


def _archive_places(graph: Graph, groups: Any) -> dict[str, str]:
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
    for place, group in groups.items():
        if "vars" in group and "name" in group["vars"].attrs:
            places[_text(group["vars"].attrs["name"])] = place
    return places


def _snake_case(layer: Layer) -> str:
    name = re.sub(r"\W+", "", layer.kind)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _as_grid(grid: Any) -> NDArray[np.float64] | None:
    return None if grid is None else np.asarray(grid, dtype=np.float64)
