"""What a run was asked for, what came of it, and what its output says of both."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._data import EMBEDDED_NETWORK
from ._options import Options
from ._version import __version__
from .grids import Grid
from .io.tables import Card
from .model import QuasarNP
from .status import Status

__all__ = [
    "Result",
    "header_cards",
    "selection_card",
    "setting_cards",
]


@dataclass(frozen=True)
class Result:
    """What came of one source.

    Attributes
    ----------
    name
        The file, or what messages call the source.
    table
        Structured: one row for each selected row, or for each target of these, in
        order.
    arms, missing
        Arms that were used, and those that are lacking.
    seconds
        Time by stage, summed over threads: read, upload, rebin, normalise, predict,
        decode.
    boxes
        Activations of each row, shape ``(n, nlines, nboxes)``, where they are kept; NaN
        where a row cannot be scored.
    """

    name: str
    table: NDArray[Any]
    arms: tuple[str, ...]
    missing: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    boxes: NDArray[np.float64] | None = None

    @property
    def scored(self) -> int:
        """Number of rows with a result."""
        return int(np.sum((self.table["QN_STATUS"] & int(Status.UNSCORED)) == 0))

    @property
    def quasars(self) -> int:
        """Number of quasars."""
        return int(np.sum(self.table["IS_QSO_QN"]))


def setting_cards(model: QuasarNP, options: Options) -> list[Card]:
    """What a header says of the weights and settings that results depend on.

    Parameters
    ----------
    model, options
        What an output is made with.

    Returns
    -------
    list of (keyword, value, comment)
    """
    return [
        ("QNSHA256", model.weights_sha256, "SHA-256 of the weights file"),
        ("QNDTYPE", model.dtype, "what the network computed in"),
        ("C_THRESH", float(options.c_thresh), "a line counts above this confidence"),
        ("N_THRESH", int(options.n_thresh), "lines that make a quasar"),
        ("USEMASK", bool(options.use_mask), "pixels with MASK left out"),
        ("QNCOADD", bool(options.coadd), "spectra of a target added up"),
    ]


def selection_card(rows: ArrayLike | None, targetids: ArrayLike | None) -> Card:
    """What a header says of the rows that were asked for.

    Parameters
    ----------
    rows, targetids
        As for `qnp_xp.classify`.

    Returns
    -------
    (keyword, value, comment)
        ``all``, or the kind of the selection and a hash of it.
    """
    value = "all"
    for kind, chosen in (("rows", rows), ("targetids", targetids)):
        if chosen is not None:
            numbers = ",".join(str(number) for number in np.asarray(chosen).tolist())
            value = f"{kind} {hashlib.sha256(numbers.encode()).hexdigest()[:16]}"
    return ("QNSELECT", value, "rows asked for, and a hash of which")


def header_cards(model: QuasarNP, options: Options, result: Result) -> list[Card]:
    """What the header of an output says of its run.

    Parameters
    ----------
    model, options, result
        What it was made with, and what came of it.

    Returns
    -------
    list of (keyword, value, comment)
    """
    grid = Grid.from_wave(model.wave)
    libraries = ["numpy", "array-api-compat", "h5py", "fitsio"]
    if model.device.startswith("gpu"):
        libraries.append("cupy")
    versions = [("qnp_xp", __version__)]
    versions += [(name, _library_version(name)) for name in libraries]
    cards: list[Card] = [
        ("QNINPUT", _ascii(Path(result.name).name), "file of the spectra"),
        ("QNMODEL", _ascii(model.weights_name), _origin(model)),
        ("QNDEVICE", model.device, "device of the network"),
        *setting_cards(model, options),
        ("QNGRID", "log" if grid.log else "linear", "spacing of the wavelength grid"),
        ("QNNBINS", grid.size, "bins of the grid"),
        ("QNWMIN", float(model.wave[0]), "[Angstrom] first bin"),
        ("QNWMAX", float(model.wave[-1]), "[Angstrom] last bin"),
        ("QNARMS", "".join(result.arms), "arms used"),
    ]
    if not model.backend.is_host:
        cards.append(("QNTILE", model.tile, "spectra of one pass on the device"))
    for number, (name, version) in enumerate(versions):
        cards.append((f"DEPNAM{number:02d}", name, "package"))
        cards.append((f"DEPVER{number:02d}", version, "its version"))
    return cards


def _origin(model: QuasarNP) -> str:
    own = model.weights_name == EMBEDDED_NETWORK
    return "ships with qnp_xp, not DESI's" if own else "weights file"


def _ascii(name: str) -> str:
    """A name as a header can hold it; other letters become their escapes."""
    return name.encode("ascii", "backslashreplace").decode("ascii")


def _library_version(name: str) -> str:
    if name == "cupy":
        # Its distribution is called cupy-cuda12x, cupy-cuda13x or cupy.
        installed = (
            d for d in importlib.metadata.distributions() if d.name.startswith("cupy")
        )
        return next((d.version for d in installed), "unknown")
    return importlib.metadata.version(name)
