"""From a file of spectra to a table of quasars."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._backend import Array, to_device, to_host
from ._clock import Clock
from ._threads import worker_pool
from .decode import Decoded, decode, is_quasar
from .io.catalog import check_output, table_dtype, write_catalog
from .io.rows import row_numbers, select_rows
from .io.spectra_file import SpectraFile, open_spectra
from .io.weights import load_model
from .lines import column_names
from .model import QuasarNP
from .outputs import keep_inputs
from .results import Options, Result, header_cards
from .spectra import combine, normalize
from .status import Status

__all__ = ["as_model", "classify", "classify_file"]

_log = logging.getLogger(__name__)


def as_model(
    model: QuasarNP | str | Path | None,
    device: Any = "cpu",
    dtype: str = "float32",
    *,
    lines: Sequence[str] | None = None,
    lines_bal: Sequence[str] | None = None,
) -> QuasarNP:
    """The model that a user means.

    Parameters
    ----------
    model
        A model; or the name of its weights file; or None for ``$QN_MODEL_FILE``.
    device, dtype, lines, lines_bal
        As for `qnp_xp.load_model`, for a model that is yet to be loaded.

    Returns
    -------
    QuasarNP

    Raises
    ------
    ValueError
        If None is given and ``$QN_MODEL_FILE`` is not set, or the lines of the
        network have no names.
    """
    if model is None:
        model = os.environ.get("QN_MODEL_FILE")
        if not model:
            msg = "no network: name a weights file (-m, model=) or set $QN_MODEL_FILE"
            raise ValueError(msg)
    if not isinstance(model, QuasarNP):
        model = load_model(model, device, dtype=dtype, lines=lines, lines_bal=lines_bal)
    if not model.lines:
        msg = (
            f"{model.weights_name} has {model.nlines} outputs, which are not DESI's"
            " seven: name them with lines= and lines_bal= (--lines, --lines-bal)"
        )
        raise ValueError(msg)
    return model


def classify(
    filename: str | Path,
    model: QuasarNP | str | Path | None = None,
    *,
    rows: ArrayLike | None = None,
    targetids: ArrayLike | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    device: Any = "cpu",
    dtype: str = "float32",
    c_thresh: float = 0.5,
    n_thresh: int = 1,
    use_mask: bool = False,
    batch_size: int = 256,
) -> NDArray[Any]:
    """Find the quasars in a DESI coadd or ``spectra-*`` file.

    Parameters
    ----------
    filename
        The file, plain or compressed by gzip.
    model
        A model from `qnp_xp.load_model`; or the name of a weights file; or None for
        ``$QN_MODEL_FILE``.
    rows
        None for all; a boolean mask or an array of zeros and ones for all rows of the
        file; or an array of row numbers.
    targetids
        TARGETIDs of the rows to take, instead of `rows`.
    output
        File to write the table to as well.
    overwrite
        Replace `output` if it is there.
    device, dtype
        As for `qnp_xp.load_model`; not used with a model that is loaded already.
    c_thresh, n_thresh
        A quasar has `n_thresh` lines or more of a confidence above `c_thresh`.
    use_mask
        Give no weight to pixels whose MASK is not zero.
    batch_size
        Spectra that are read at a time; up to three times as many are in memory.
        Results do not depend on it.

    Returns
    -------
    numpy.ndarray
        Structured, one row for each selected row, in order: TARGETID, TARGET_RA and
        TARGET_DEC where the file has them (degrees), IS_QSO_QN, Z_QN, Z_QN_CONF, C_*
        and Z_* for each line, C_BAL_CIV and Z_BAL_CIV, QN_STATUS (bits of
        `qnp_xp.Status`). Rows that cannot be scored hold NaN.

    Raises
    ------
    FileNotFoundError, SpectraError, WeightsError, DeviceError
        If a file or a device cannot be used.
    ValueError, TypeError
        If an argument is none of the above.
    """
    options = Options(c_thresh, n_thresh, use_mask, batch_size)
    if output is not None:
        check_output(Path(output), overwrite)
        read = [filename]
        weights = model or os.environ.get("QN_MODEL_FILE")
        if isinstance(weights, (str, Path)):
            read.append(weights)
        keep_inputs([Path(output)], read)
    network = as_model(model, device, dtype)
    result = classify_file(filename, network, options, rows=rows, targetids=targetids)
    if output is not None:
        cards = header_cards(network, options, result)
        write_catalog(output, result.table, cards, overwrite=overwrite)
    return result.table


def classify_file(
    filename: str | Path,
    model: QuasarNP,
    options: Options,
    *,
    rows: ArrayLike | None = None,
    numbers: NDArray[np.int64] | None = None,
    targetids: ArrayLike | None = None,
) -> Result:
    """Classify the spectra of one file.

    Parameters
    ----------
    filename, rows, targetids
        As for `classify`; TARGETIDs that the file lacks are passed over.
    numbers
        Row numbers, which `rows` might take for a mask in files of one or two rows.
    model, options
        What to do it with.

    Returns
    -------
    Result

    Raises
    ------
    FileNotFoundError, SpectraError, ValueError, TypeError
        As for `classify`.
    """
    clock = Clock()
    with clock("read"):
        source = open_spectra(filename)
    with source, worker_pool(model.threads) as pool:
        numbers = _numbers(source, rows, numbers, targetids)
        table = _empty_table(source, numbers, model)
        if source.missing:
            _log.warning("%s: no arm %s", source.path, ", ".join(source.missing))
            table["QN_STATUS"] |= int(Status.ARM_MISSING)
        # This thread prepares a batch while the others compute the one before.
        waiting: list[tuple[NDArray[Any], _Ready, list[Future[Array]]]] = []
        for first in range(0, numbers.size, options.batch_size):
            batch = slice(first, first + options.batch_size)
            with clock("read"):
                arms = list(source.read(numbers[batch], options.use_mask))
            ready = _prepare(model, arms, clock)
            n, step = ready.x.shape[0], model.block
            outputs = [
                pool.submit(
                    _forward, model, ready.x[low : min(low + step, n), :], clock
                )
                for low in range(0, max(n, 1), step)
            ]
            waiting.append((table[batch], ready, outputs))
            if len(waiting) > 1:
                _finish(*waiting.pop(0), model, options, clock)
        for done in waiting:
            _finish(*done, model, options, clock)
    return Result(source.path, table, source.missing, clock.seconds)


@dataclass(frozen=True)
class _Ready:
    """A batch of spectra, ready for the network.

    Attributes
    ----------
    x
        Those that could be normalised, on the device.
    weighted, varied, cleaned
        Which spectra could be, and why not; see `qnp_xp.spectra`.
    """

    x: Array
    weighted: NDArray[np.bool_]
    varied: NDArray[np.bool_]
    cleaned: NDArray[np.bool_]


def _prepare(
    model: QuasarNP,
    arms: list[tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]],
    clock: Clock,
) -> _Ready:
    """Rebin and normalise a batch on the device."""
    backend = model.backend
    with backend.active():
        with clock("upload"):
            on_device = [
                (w, to_device(flux, backend), to_device(ivar, backend))
                for w, flux, ivar in arms
            ]
        with clock("rebin"):
            flux, ivar, cleaned = combine(on_device, model.wave)
        with clock("normalise"):
            x, weighted, varied = normalize(flux, ivar)
            flags = [to_host(flag) for flag in (weighted, varied, cleaned)]
            good = np.flatnonzero(flags[0] & flags[1])
            x = backend.xp.take(x, to_device(good, backend), axis=0)
            return _Ready(x, *flags)


def _forward(model: QuasarNP, x: Array, clock: Clock) -> Array:
    with clock("predict"):
        return model.forward(x)


def _finish(
    table: NDArray[Any],
    ready: _Ready,
    outputs: list[Future[Array]],
    model: QuasarNP,
    options: Options,
    clock: Clock,
) -> None:
    """Wait for the outputs of a batch, decode them, and fill its rows of the table."""
    done = [output.result() for output in outputs]
    good = np.flatnonzero(ready.weighted & ready.varied)
    constant = ready.weighted & ~ready.varied
    with clock("decode"), model.backend.active():
        preds = model.split(model.backend.xp.concat(done, axis=0))
        found = decode(preds, model.lines, model.lines_bal, model.wave)
        quasar = to_host(is_quasar(found.c_line, options.c_thresh, options.n_thresh))
        table["QN_STATUS"] |= (
            np.where(ready.weighted, 0, int(Status.NO_GOOD_PIXEL))
            | np.where(constant, int(Status.ZERO_VARIANCE), 0)
            | np.where(ready.cleaned, int(Status.PIXELS_CLEANED), 0)
        ).astype(np.int32)
        _fill(table, good, found, model)
        target = (table["QN_STATUS"][good] & int(Status.NOT_TARGET)) == 0
        table["IS_QSO_QN"][good] = quasar & target


def _numbers(
    source: SpectraFile,
    rows: ArrayLike | None,
    numbers: NDArray[np.int64] | None,
    targetids: ArrayLike | None,
) -> NDArray[np.int64]:
    """Numbers of the selected rows."""
    if numbers is not None:
        return row_numbers(numbers, source.n, "rows")
    if targetids is None:
        return select_rows(rows, source.n)
    if rows is not None:
        msg = "rows and targetids cannot be given both"
        raise ValueError(msg)
    if "TARGETID" not in source.fibermap:
        msg = f"{source.path}: has no FIBERMAP with TARGETID to select targets by"
        raise ValueError(msg)
    wanted = np.asarray(targetids)
    if wanted.dtype.kind not in "iu":
        msg = f"targetids must be integers, got {wanted.dtype}"
        raise TypeError(msg)
    return np.flatnonzero(np.isin(source.fibermap["TARGETID"], wanted)).astype(np.int64)


def _empty_table(
    source: SpectraFile, numbers: NDArray[np.int64], model: QuasarNP
) -> NDArray[Any]:
    """A table without results: identifiers, NaN, and what the fibermap says."""
    fibermap = source.fibermap
    coordinates = "TARGET_RA" in fibermap and "TARGET_DEC" in fibermap
    dtype = table_dtype(model.lines, model.lines_bal, coordinates)
    table = np.zeros(numbers.size, dtype=dtype)
    table["TARGETID"] = -1
    for name in dtype.names or ():
        if name in fibermap:
            table[name] = fibermap[name][numbers]
        elif dtype[name].kind == "f":
            table[name] = np.nan
    if "OBJTYPE" in fibermap:
        objtype = np.char.strip(fibermap["OBJTYPE"][numbers].astype("U"))
        table["QN_STATUS"] |= np.where(objtype == "TGT", 0, int(Status.NOT_TARGET))
    return table


def _fill(
    table: NDArray[Any], good: NDArray[np.intp], found: Decoded, model: QuasarNP
) -> None:
    table["Z_QN"][good] = to_host(found.zbest)
    table["Z_QN_CONF"][good] = to_host(found.cbest)
    for prefix, names, confidences, redshifts in (
        ("", column_names(model.lines), found.c_line, found.z_line),
        ("BAL_", column_names(model.lines_bal), found.c_line_bal, found.z_line_bal),
    ):
        c, z = to_host(confidences), to_host(redshifts)
        for line, name in enumerate(names):
            table[f"C_{prefix}{name}"][good] = c[line]
            table[f"Z_{prefix}{name}"][good] = z[line]
