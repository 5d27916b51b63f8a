"""Networks from weights files, and the grid that such a file should hold."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._data import EMBEDDED_NETWORK, data_file
from ..._xp.backend import resolve
from ...errors import WeightsError
from ...grids import Grid, linear_wave
from ...grids import wave as log_wave
from ...lines import LINES, LINES_BAL, rest_wavelengths
from ...model import QuasarNP
from .._files import atomic_path, ensure_writable
from ._attributes import embed
from ._reading import read_weights

__all__ = ["embed_grid", "load_file", "load_model", "weights_path"]

_log = logging.getLogger(__name__)

_GRIDS = {"log": log_wave, "linear": linear_wave}


def load_model(
    filename: str | Path | None = None,
    device: Any = "cpu",
    *,
    dtype: str = "float32",
    xp: Any = None,
    wave: ArrayLike | None = None,
    lines: Sequence[str] | None = None,
    lines_bal: Sequence[str] | None = None,
    nproc: int | None = None,
    compiled: bool | None = None,
) -> QuasarNP:
    """Load a trained network onto a device.

    Parameters
    ----------
    filename : str or pathlib.Path, optional
        Keras 2 or 3 HDF5, or a Keras 3 archive. Without it, the file that
        ``$QN_MODEL_FILE`` names is used, else the bundled network, which is not DESI's.
    device : str or object
        ``"cpu"``, ``"gpu"``, ``"gpu:1"``, or ``"auto"`` for a GPU if there is one;
        with `xp`, that library's own device object, or its name for one.
    dtype : {"float32", "float64"}
        What to compute in.
    xp : module, optional
        Any namespace of the array API standard, 2023.12 or later; by default numpy on
        the CPU and CuPy on a GPU.
    wave : array_like, shape (nbins,), optional
        Grid of the network in Angstrom: lower edges of its bins, of constant spacing in
        wavelength or in its log10. For files that hold none; a file's own grid cannot
        be another one. By default 443 bins are QuasarNET's logarithmic grid.
    lines, lines_bal : sequence of str, optional
        Names of the emission and broad absorption lines in the order of the outputs,
        instead of those in the file. By default seven outputs of a file that names none
        are DESI's six lines and one.
    nproc : int, optional
        Threads to predict with on a CPU; by default ``$OMP_NUM_THREADS``, or the cores
        that the process was granted. Results do not depend on it.
    compiled : bool, optional
        Have LLVM compile the network, which is for float32 on a CPU: True, False, or
        None for True where llvmlite is installed. Both give the same to some 1e-6.

    Returns
    -------
    QuasarNP
        The model; it also unpacks as ``model, grid = load_model(filename)``.

    Raises
    ------
    FileNotFoundError, DeviceError, MissingLibraryError
        If there is no such file, or the device cannot be used, or there is no llvmlite
        to compile with.
    WeightsError
        If the file is damaged, or holds a network of another kind, or of another grid
        than `wave`.
    ValueError
        If `dtype`, `device` or a line is unknown, `wave` is no grid, or the number of
        lines is wrong.

    Examples
    --------
    >>> load_model().lines
    ('LYA', 'CIV(1548)', 'CIII(1909)', 'MgII(2796)', 'Hbeta', 'Halpha')
    """
    backend = resolve(device, xp)
    path = weights_path(filename)
    if filename is None and path == data_file(EMBEDDED_NETWORK):
        _log.warning(
            "the bundled network is used, which was trained on simulations and is not"
            " for survey catalogues"
        )
    weights = read_weights(path)
    network, own = weights.network(), weights.attributes
    count = len(network.heads)
    if lines is None and lines_bal is None:
        lines, lines_bal = own.lines, own.lines_bal
        if not lines and not lines_bal and count == len(LINES) + len(LINES_BAL):
            lines, lines_bal = LINES, LINES_BAL
    else:
        lines, lines_bal = tuple(lines or ()), tuple(lines_bal or ())
        rest_wavelengths([*lines, *lines_bal])
        if len(lines) + len(lines_bal) != count:
            raise ValueError(
                f"{path} has {count} outputs; lines and lines_bal name"
                f" {len(lines)} and {len(lines_bal)}"
            )
    return QuasarNP(
        network=network,
        wave=weights.wave(network.nbins, wave),
        lines=lines,
        lines_bal=lines_bal,
        dtype=dtype,
        weights_name=path.name,
        weights_sha256=weights.sha256,
        backend=backend,
        nproc=nproc,
        compiled=compiled,
        c_thresh=own.c_thresh,
    )


def weights_path(filename: str | Path | None = None) -> Path:
    """Return the named weights file, else ``$QN_MODEL_FILE``, else the bundled one."""
    otherwise = "leave out -m (filename, model)"
    if filename is None:
        otherwise = "unset $QN_MODEL_FILE, which names it,"
        filename = os.environ.get("QN_MODEL_FILE") or data_file(EMBEDDED_NETWORK)
    path = Path(filename)
    if not path.exists():
        what = f"no such weights file; {otherwise} to use the bundled network"
        raise FileNotFoundError(f"{path}: {what}")
    return path


def load_file(
    filename: str | Path,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], NDArray[np.float64]]:
    """Read a weights file into dictionaries, as QuasarNP 0.2 returns them.

    Parameters
    ----------
    filename : str or pathlib.Path
        Weights file of any of the kinds that `load_model` takes.

    Returns
    -------
    weights : dict
        The arrays of each layer by name (``kernel``, ``bias``, ...). Batch norms count
        from ``batch_normalization_1``, whatever the file counts from. A layer named
        ``lambda`` is there, empty.
    config : dict
        ``padding`` and ``strides`` of each convolution.
    grid : numpy.ndarray, shape (nbins,)
        Wavelengths in Angstrom: the file's own, else QuasarNET's logarithmic grid.

    Raises
    ------
    FileNotFoundError, WeightsError
        As for `load_model`.

    Examples
    --------
    >>> weights, config, grid = load_file("weights.h5")  # doctest: +SKIP
    """
    file = read_weights(filename)
    stem = "batch_normalization"
    shift = 1 if stem in file.graph.layers else 0
    weights: dict[str, Any] = {}
    config = {}
    for name, layer in file.graph.layers.items():
        if layer.kind == "Conv1D":
            config[name] = {key: layer.config[key] for key in ("padding", "strides")}
        if name == "lambda":
            weights[name] = []
        if arrays := file.arrays.get(name):
            match = re.fullmatch(rf"{stem}(?:_(\d+))?", name)
            key = f"{stem}_{int(match[1] or 0) + shift}" if match else name
            weights[key] = dict(arrays)
    own = file.attributes.wave
    return weights, config, log_wave if own is None else own


def embed_grid(
    filename: str | Path,
    output: str | Path,
    grid: str | ArrayLike = "log",
    *,
    overwrite: bool = False,
) -> None:
    """Copy a weights file and write the wavelength grid of its network into the copy.

    Parameters
    ----------
    filename, output : str or pathlib.Path
        Weights file, and the copy, which may replace it with `overwrite`.
    grid : {"log", "linear"} or array_like, shape (nbins,)
        `qnp_xp.utils.wave`, `qnp_xp.utils.linear_wave`, or wavelengths in Angstrom:
        lower edges of bins of constant spacing in wavelength or in its log10.
    overwrite : bool
        Replace `output` if it is there.

    Raises
    ------
    FileExistsError
        If `output` is there and is not to be replaced.
    WeightsError
        If the file is none, or its network takes another number of bins.
    ValueError
        If `grid` is none of these.

    Notes
    -----
    As QuasarNP's ``scripts/post_process_weights.py``, it writes a dataset
    ``model_grid`` and an attribute ``grid_spacing``; into a ``.keras`` archive, a
    member ``model_grid.json``, which Keras passes over.

    Examples
    --------
    >>> embed_grid("keras.h5", "weights.h5", "linear")  # doctest: +SKIP
    """
    if isinstance(grid, str) and grid not in _GRIDS:
        raise ValueError(f"grid={grid!r} is not one of 'log', 'linear'")
    values = _GRIDS[grid] if isinstance(grid, str) else np.asarray(grid, np.float64)
    Grid.from_wave(values)
    source, target = Path(filename), Path(output)
    ensure_writable(target, overwrite)
    file = read_weights(source)
    nbins = file.network().nbins
    if nbins != values.size:
        name = f"{grid} grid" if isinstance(grid, str) else "grid"
        msg = f"{source}: takes {nbins} bins, and the {name} has {values.size}"
        raise WeightsError(msg)
    with atomic_path(target) as temporary:
        embed(file.content, temporary, replace(file.attributes, wave=values))
