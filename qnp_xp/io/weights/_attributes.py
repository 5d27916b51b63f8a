"""What a weights file says beside its network: grid, names of lines, and threshold."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import WeightsError
from ...grids import Grid
from ...lines import rest_wavelengths

#: Where a .keras archive keeps the grid for which HDF5 has the dataset model_grid, and
#: what HDF5 has as attributes.
GRID_MEMBER, ATTRIBUTES_MEMBER = "model_grid.json", "model_attributes.json"
GRID = "model_grid"

_ZIP = b"PK"


@dataclass(frozen=True)
class Attributes:
    """What a weights file says beside its network, or nothing of it."""

    #: Wavelengths in Angstrom.
    wave: NDArray[np.float64] | None = None
    #: Names of the outputs, in order; none where both are empty.
    lines: tuple[str, ...] = ()
    lines_bal: tuple[str, ...] = ()
    #: Confidence above which a line of this network counts.
    c_thresh: float | None = None

    @classmethod
    def checked(
        cls,
        nbins: int,
        noutputs: int,
        wave: ArrayLike | None,
        lines: Iterable[str] = (),
        lines_bal: Iterable[str] = (),
        c_thresh: Any = None,
    ) -> Attributes:
        """Refuse what does not fit a network of so many bins and outputs."""
        if wave is not None:
            wave = np.asarray(wave, dtype=np.float64)
            check_grid(wave.shape, nbins)
        lines, lines_bal = tuple(lines), tuple(lines_bal)
        try:
            rest_wavelengths([*lines, *lines_bal])
        except ValueError as err:
            raise WeightsError(str(err)) from err
        count = len(lines) + len(lines_bal)
        if count not in (0, noutputs):
            what = f"lines and lines_bal name {len(lines)} and {len(lines_bal)}"
            raise WeightsError(f"the network has {noutputs} outputs; {what}")
        if c_thresh is not None:
            known = isinstance(c_thresh, (int, float, np.integer, np.floating))
            if not known or isinstance(c_thresh, bool) or not 0 <= c_thresh <= 1:
                what = f"{c_thresh!r:.50}"
                raise WeightsError(f"c_thresh must be from 0 to 1, and is {what}")
            c_thresh = float(c_thresh)
        return cls(wave, lines, lines_bal, c_thresh)

    def texts(self) -> dict[str, Any]:
        """Give names and threshold by the names of their attributes."""
        found: dict[str, Any] = {}
        if self.lines or self.lines_bal:
            found["lines"] = ",".join(self.lines)
            found["lines_bal"] = ",".join(self.lines_bal)
        if self.c_thresh is not None:
            found["c_thresh"] = self.c_thresh
        return found


def check_grid(shape: tuple[int, ...], nbins: int) -> None:
    """Refuse a grid of another size than the network's input."""
    if shape != (nbins,):
        what = f"has shape {shape}, and the network takes {nbins} bins"
        raise WeightsError(f"{GRID} {what}")


def names_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Part names of lines, of which a text may have several with commas between."""
    return tuple(name for text in texts for name in text.split(",") if name)


def embed(
    content: bytes, target: Path, said: Attributes, *, repack: bool = False
) -> None:
    """Write a copy of a weights file that says what it is told to, and nothing else.

    With `repack`, HDF5 is written anew in the layout of HDF5 1.8, which takes less.
    """
    if content.startswith(_ZIP):
        _embed_archive(content, target, said)
        return
    how: dict[str, Any] = {"mode": "r+"}
    if repack:
        # Keras makes some 75 groups, each of over 1 kB in the oldest layout.
        how = {"mode": "w", "libver": ("v108", "v108")}
    else:
        target.write_bytes(content)
    with h5py.File(target, **how) as f:
        if repack:
            with h5py.File(io.BytesIO(content), "r") as old:
                _copy_group(old, f)
        if said.wave is not None:
            if GRID in f:
                del f[GRID]
            f[GRID] = said.wave
            log = Grid.from_wave(said.wave).log
            f.attrs["grid_spacing"] = "logarithmic" if log else "linear"
        for name, value in said.texts().items():
            f.attrs[name] = np.bytes_(value) if isinstance(value, str) else value


def _copy_group(source: h5py.Group, target: h5py.Group) -> None:
    """Copy attributes, arrays and groups."""
    for name, value in source.attrs.items():
        target.attrs[name] = value
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_group(item, target.create_group(name))
        else:
            target.create_dataset(name, data=item[()])


def _embed_archive(content: bytes, target: Path, said: Attributes) -> None:
    """Write an archive with what is said in members that Keras passes over."""
    members: Mapping[str, Any] = {ATTRIBUTES_MEMBER: said.texts()}
    if said.wave is not None:
        members = {GRID_MEMBER: said.wave.tolist(), **members}
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(target, "w") as new,
    ):
        for member in old.infolist():
            if member.filename not in (GRID_MEMBER, ATTRIBUTES_MEMBER):
                # A member that is none of ours may be of any size.
                with old.open(member) as f, new.open(member, "w") as g:
                    shutil.copyfileobj(f, g)
        for name, value in members.items():
            if value:
                new.writestr(name, json.dumps(value))
