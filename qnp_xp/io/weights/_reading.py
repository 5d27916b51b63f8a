"""Weights files as data: Keras 2 and 3 HDF5, and Keras 3 archives.

Whatever is wrong with a file comes out as a `WeightsError` that names it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._network.description import Network
from ...errors import WeightsError
from ...grids import Grid, wave
from ._attributes import (
    ATTRIBUTES_MEMBER,
    GRID,
    GRID_MEMBER,
    Attributes,
    check_grid,
    names_of,
)
from ._build import Arrays, Plan, plan_network
from ._graph import Graph, Layer
from ._hdf5 import Hdf5, open_hdf5

_log = logging.getLogger(__name__)

Float64 = NDArray[np.float64]

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"

#: Bytes of a file, and of all that an archive unpacks to; QuasarNET's have 3 million.
_MOST_FILE = 1 << 28
_HOW_TO_SAVE = "save the network with Keras' model.save('network.keras')"
#: Bytes of a description; those of QuasarNET's networks have some 20 thousand.
_MOST_JSON = 1 << 20
#: Bytes of the weights in an archive: each in float64 and with several moments of an
#: optimizer beside it, and for each layer what HDF5 puts around that.
_PER_PARAMETER, _PER_LAYER = 40, 1 << 16
#: Bytes of a wavelength as text.
_PER_BIN = 64


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file."""

    path: Path
    #: All of the file.
    content: bytes
    sha256: str
    #: Of the Keras that wrote it, as it says.
    keras_version: str
    graph: Graph
    plan: Plan
    #: As they are stored.
    arrays: Arrays
    #: What the file says beside.
    attributes: Attributes

    def network(self) -> Network:
        """Build the network, with batch normalization folded in."""
        with _naming(self.path):
            return self.plan.build(self.arrays)

    def wave(self, nbins: int, asked: ArrayLike | None = None) -> Float64:
        """Return the file's own grid, else that asked for, else QuasarNET's."""
        own = self.attributes.wave
        if own is not None:
            with _naming(self.path):
                grid = Grid.from_wave(own)
            if asked is not None and not grid.is_like(Grid.from_wave(asked)):
                raise WeightsError(
                    f"{self.path}: holds a grid of its own, {grid}, and not the one"
                    " asked for (wave). qnp-xp embed-grid writes another into a copy"
                )
            return own
        if asked is not None:
            grid = Grid.from_wave(asked)
            if grid.size != nbins:
                what = f"takes {nbins} bins, and the grid (wave) has {grid.size}"
                raise WeightsError(f"{self.path}: the network {what}")
            return np.array(asked, dtype=np.float64)
        if nbins != wave.size:
            raise WeightsError(
                f"{self.path}: the network takes {nbins} bins, not the {wave.size} of"
                " the default grid. Name its grid (wave), or add it with qnp-xp"
                " embed-grid"
            )
        _log.warning(
            "%s has no model_grid: assuming QuasarNET's logarithmic grid", self.path
        )
        return wave


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make every complaint about a file's content a `WeightsError` that names it."""
    try:
        yield
    except WeightsError as err:
        raise WeightsError(f"{path}: {err}") from err
    except Exception as err:  # whatever a parser trips over
        what = f"damaged, or not a QuasarNET weights file ({err})"
        raise WeightsError(f"{path}: {what}") from err


def read_weights(filename: str | Path) -> WeightsFile:
    """Read a weights file of any of the three kinds, told apart by its first bytes."""
    path = Path(filename)
    content = _content(path)
    with _naming(path):
        read = _read_hdf5 if content.startswith(_HDF5) else _read_archive
        digest = hashlib.sha256(content).hexdigest()
        return WeightsFile(path, content, digest, *read(content))


def _content(path: Path) -> bytes:
    """Read all of a file, once, if it may be one of weights."""
    if path.is_dir():
        raise WeightsError(f"{path}: a folder (of a SavedModel?), {_HOW_TO_SAVE}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such weights file")
    if not path.is_file():  # to open a FIFO takes as long as nobody writes to it
        raise WeightsError(f"{path}: not a regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not file.peek(len(_HDF5)).startswith((_HDF5, _ZIP)):
            raise WeightsError(
                f"{path}: neither an HDF5 file nor a .keras archive, {_HOW_TO_SAVE}"
            )
        if size > _MOST_FILE:
            what = f"has {size} bytes, and weights have at most {_MOST_FILE}"
            raise WeightsError(f"{path}: {what}")
        content = file.read(size + 1)
    if len(content) != size:
        raise WeightsError(f"{path}: was written to while it was read")
    return content


_Contents = tuple[str, Graph, Plan, Arrays, Attributes]


def _read_hdf5(content: bytes) -> _Contents:
    """Read what Keras 2 or 3 wrote as HDF5."""
    with open_hdf5(content) as h5:
        description = h5.texts("", "model_config")
        if not description:
            what = "no model_config (weights alone?): not saved by Keras' model.save"
            raise WeightsError(what)
        graph = Graph.from_config(json.loads(description[0]))
        plan = plan_network(graph)

        def paths(layer: Layer) -> Mapping[str, str]:
            group = f"model_weights/{layer.name}"
            if layer.config.get("lora_rank"):
                raise layer.unsupported("LoRA is supported in a .keras archive alone")
            names = h5.texts(group, "weight_names")
            # Keras 2 wrote `kernel:0`, Keras 3 writes `kernel`.
            keys = [name.rpartition("/")[2].partition(":")[0] for name in names]
            return dict(zip(keys, [f"{group}/{name}" for name in names], strict=True))

        arrays = _arrays(h5, plan, paths, "model_weights", graph.layers)
        dataset, _ = h5.dataset(GRID)
        grid = None
        if dataset is not None:
            check_grid(dataset.shape, plan.nbins)
            grid = h5.read(dataset)
        said = Attributes.checked(
            plan.nbins,
            len(plan.heads),
            grid,
            names_of(h5.texts("", "lines")),
            names_of(h5.texts("", "lines_bal")),
            h5.number("", "c_thresh"),
        )
        version = next(iter(h5.texts("", "keras_version")), "unknown")
    return version, graph, plan, arrays, said


def _read_archive(content: bytes) -> _Contents:
    """Read a Keras 3 archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(info.file_size for info in archive.infolist())
        if size > _MOST_FILE:
            what = f"and weights have at most {_MOST_FILE}"
            raise WeightsError(f"unpacks to {size} bytes, {what}")
        description = json.loads(_member(archive, "config.json", _MOST_JSON))
        graph = Graph.from_config(description)
        metadata = json.loads(_member(archive, "metadata.json", _MOST_JSON))
        plan = plan_network(graph)
        most = _PER_PARAMETER * plan.parameters + _PER_LAYER * len(graph.layers)
        weights = _member(archive, "model.weights.h5", most)
        grid, others = None, {}
        if GRID_MEMBER in archive.namelist():
            most = min(_PER_BIN * plan.nbins, _MOST_JSON)
            grid = json.loads(_member(archive, GRID_MEMBER, most))
        if ATTRIBUTES_MEMBER in archive.namelist():
            others = json.loads(_member(archive, ATTRIBUTES_MEMBER, _MOST_JSON))
        said = Attributes.checked(
            plan.nbins,
            len(plan.heads),
            grid,
            names_of([others.get("lines", "")]),
            names_of([others.get("lines_bal", "")]),
            others.get("c_thresh"),
        )
    with open_hdf5(weights) as h5:
        groups = _archive_groups(graph, h5)

        def paths(layer: Layer) -> Mapping[str, str]:
            group = f"layers/{groups[layer.name]}/vars"
            return {name: f"{group}/{i}" for i, name in enumerate(layer.variables)}

        owners = {group: graph.layers[name] for name, group in groups.items()}
        arrays = _arrays(h5, plan, paths, "layers", owners)
    return str(metadata["keras_version"]), graph, plan, arrays, said


def _arrays(
    h5: Hdf5,
    plan: Plan,
    paths: Callable[[Layer], Mapping[str, str]],
    root: str,
    owners: Mapping[str, Layer],
) -> Arrays:
    """Read the arrays that a network needs, each once its shape is right.

    The group `root` has one group for each of `owners`, and no array that is not read.
    """
    arrays, used = {}, set()
    for layer, shapes in plan.shapes():
        found, known = {}, paths(layer)
        for name in known.keys() - shapes.keys():
            raise layer.unsupported(f"its array {name!r} is not understood")
        for name, shape in shapes.items():
            dataset, address = h5.dataset(known[name]) if name in known else (None, 0)
            if dataset is None:
                raise layer.unsupported(f"its array {name!r} is missing")
            if dataset.shape != shape:
                what = f"its array {name!r} has shape {dataset.shape}, not {shape}"
                raise layer.unsupported(what)
            if dataset.dtype.kind != "f":
                what = f"its array {name!r} has type {dataset.dtype}, and real numbers"
                raise layer.unsupported(f"{what} are needed: quantized?")
            if address in used:
                raise layer.unsupported(f"its array {name!r} is also another one")
            used.add(address)
            found[name] = h5.read(dataset)
        arrays[layer.name] = found
    for path, address in h5.arrays(root):
        _, group, *parts = path.split("/")
        # The dropouts of Keras 3 keep the state of their random numbers.
        if address not in used and "seed_generator" not in parts:
            what = f"array {path!r} is not understood"
            owner = owners.get(group)
            raise owner.unsupported(f"its {what}") if owner else WeightsError(what)
    return arrays


def _archive_groups(graph: Graph, h5: Hdf5) -> Mapping[str, str]:
    """Find the group of each layer in the weights of an archive."""
    # They are named for the class of their layer and numbered within it. Later versions
    # also write down the layer's own name, which is taken where it is found.
    groups = {}
    counts: Counter[str] = Counter()
    for name, layer in graph.layers.items():
        stem = re.sub("(?<=[a-z])(?=[A-Z])", "_", layer.kind).lower()
        groups[name] = f"{stem}_{counts[stem]}" if counts[stem] else stem
        counts[stem] += 1
    for group in h5.names("layers"):
        for name in h5.texts(f"layers/{group}/vars", "name"):
            groups[name] = group
    return groups


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Read a member of an archive, unpacked only if it has a sensible size."""
    if name not in archive.namelist():
        raise WeightsError(f"no {name} in the archive, {_HOW_TO_SAVE}")
    info = archive.getinfo(name)
    size, method = info.file_size, info.compress_type
    if size > most:
        raise WeightsError(f"{name} has {size} bytes, and at most {most} are needed")
    # The others of zipfile's methods unpack all that there is, whatever was claimed.
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WeightsError(f"{name} is packed by method {method}, and not by deflate")
    with archive.open(info) as member:
        content = member.read(size)
        member.read(1)  # after the last byte the checksum is compared
    if len(content) != size:
        raise WeightsError(f"{name} has {len(content)} bytes of {size}")
    return content
