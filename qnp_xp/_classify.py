"""From a file of spectra to a table of quasars."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._options import Options
from ._results import Result, header_cards, selection_card
from ._scorer import Selection, score
from ._xp.clock import Clock
from .errors import SpectraError
from .io._files import ensure_writable
from .io.memory import open_arrays
from .io.open import one_group, open_group
from .io.source import Source
from .io.tables import table_dtype, write_catalog
from .io.weights import load_model, weights_path
from .model import QuasarNP
from .selection import check_indices, row_indices
from .status import Status

__all__ = ["as_model", "classify", "classify_file", "classify_source"]

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
        A model; or the name of its weights file; or None, as for `qnp_xp.load_model`.
    device, dtype, lines, lines_bal
        As for `qnp_xp.load_model`, for a model that is yet to be loaded.

    Returns
    -------
    QuasarNP

    Raises
    ------
    ValueError, TypeError
        If the lines of the network have no names, or the model is none of the above.
    """
    given: Any = model
    if not isinstance(given, (QuasarNP, str, Path, type(None))):
        kind = type(given).__name__
        msg = f"model must be a model, the name of a weights file or None, got {kind}"
        raise TypeError(msg)
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
    spectra: Any,
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
    coadd: bool = False,
    batch_size: int = 256,
) -> NDArray[Any]:
    """Find the quasars among spectra.

    Parameters
    ----------
    spectra
        A file, plain or compressed by gzip: a coadd, ``spectra-*`` file or cframe of
        DESI, a ``spec-*`` or ``spPlate-*`` file of SDSS. Or the cframes of one
        spectrograph in one exposure, as a list or as the folder that holds them. Or
        arrays ``(wave, flux, ivar)`` of any library, or a list of such for several
        arms: wavelengths in Angstrom ``(npix,)``, or ``(n, npix)`` where each spectrum
        has its own; flux per wavelength and its inverse variance ``(n, npix)``, or
        ``(npix,)`` for one spectrum. Or spectra of specutils, or records of
        sparclclient.
    model
        A model from `qnp_xp.load_model`; or the name of a weights file; or None for
        ``$QN_MODEL_FILE``, and the network that ships with the package without it.
    rows
        None for all; a boolean mask or an array of zeros and ones of shape ``(n,)``,
        for all rows of the file; or an array of row numbers.
    targetids
        TARGETIDs of the rows to take, shape ``(m,)``, instead of `rows`.
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
    coadd
        Add up the spectra of each target, and classify the sum.
    batch_size
        Spectra that are read at a time; up to three times as many are in memory.
        Results do not depend on it.

    Returns
    -------
    numpy.ndarray
        Structured, one row for each selected row, in order, or with `coadd` one for
        each target: TARGETID, -1 where it is not known; TARGET_RA and TARGET_DEC
        (degrees) and SDSS' PLATE, MJD and FIBERID, where the input has them;
        IS_QSO_QN, Z_QN, Z_QN_CONF, C_* and Z_* for each line, C_BAL_CIV and Z_BAL_CIV,
        QN_STATUS (bits of `qnp_xp.Status`). Rows that cannot be scored hold NaN.

    Raises
    ------
    FileNotFoundError, SpectraError, WeightsError, DeviceError
        If a file or a device cannot be used.
    ValueError, TypeError
        If an argument is none of the above.
    """
    options = Options(c_thresh, n_thresh, use_mask, batch_size, coadd)
    group = one_group(spectra)
    if output is not None:
        read = list(group or ())
        if model is None or isinstance(model, (str, Path)):
            read.append(weights_path(model))
        ensure_writable(Path(output), overwrite, read, fits=True)
    network = as_model(model, device, dtype)
    if group is not None:
        result = classify_file(group, network, options, rows=rows, targetids=targetids)
    else:
        source = open_arrays(spectra)
        result = classify_source(
            source, network, options, rows=rows, targetids=targetids
        )
    if output is not None:
        cards = header_cards(network, options, result)
        cards.append(selection_card(rows, targetids))
        write_catalog(output, result.table, cards, overwrite=overwrite)
    return result.table


def classify_file(
    paths: Path | Sequence[Path], model: QuasarNP, options: Options, **selection: Any
) -> Result:
    """Classify the spectra of one file, or of files that belong together.

    Parameters
    ----------
    paths
        A file, or a group as `qnp_xp.io.open.group_inputs` returns it.
    model, options
        What to do with it.
    **selection
        `rows`, `indices` or `targetids`, as for `classify_source`.

    Returns
    -------
    Result

    Raises
    ------
    FileNotFoundError, SpectraError, ValueError, TypeError
        As for `classify`.
    """
    group = (paths,) if isinstance(paths, Path) else tuple(paths)
    clock = Clock()
    with clock("read"):
        source = open_group(group)
    with source:
        return classify_source(source, model, options, clock=clock, **selection)


def classify_source(
    source: Source,
    model: QuasarNP,
    options: Options,
    *,
    rows: ArrayLike | None = None,
    indices: NDArray[np.int64] | None = None,
    targetids: ArrayLike | None = None,
    clock: Clock | None = None,
    keep_boxes: bool = False,
) -> Result:
    """Classify the spectra of a source.

    Parameters
    ----------
    source
        An open source.
    model, options
        What to do with it.
    rows, targetids
        As for `classify`; TARGETIDs that the source lacks are passed over.
    indices
        Row numbers, shape ``(m,)``, which `rows` might take for a mask in files of one
        or two rows.
    clock
        Has the time that it took to open the source.
    keep_boxes
        Keep the activations of the boxes of each line, for pictures.

    Returns
    -------
    Result

    Raises
    ------
    SpectraError, ValueError, TypeError
        As for `classify`.
    """
    clock = clock or Clock()
    chosen = _indices(source, rows, indices, targetids)
    if options.coadd:
        if "TARGETID" not in source.identifiers:
            msg = f"{source.name}: has no TARGETIDs to coadd spectra by"
            raise SpectraError(msg)
        targets = source.identifiers["TARGETID"][chosen]
        selection = Selection.of_targets(chosen, targets)
    else:
        selection = Selection(chosen, np.ones(chosen.size, dtype=np.int64))
    table = _empty_table(source, selection.first, model)
    if source.missing:
        _log.warning("%s: no arm %s", source.name, ", ".join(source.missing))
        table["QN_STATUS"] |= int(Status.ARM_MISSING)
    _warn_off_grid(source, model)
    boxes = None
    if keep_boxes:
        boxes = np.full((table.size, model.nlines, model.nboxes), np.nan)
    score(source, selection, model, options, table, clock, boxes)
    names = tuple(arm.name for arm in source.arms)
    return Result(source.name, table, names, source.missing, clock.seconds, boxes)


def _warn_off_grid(source: Source, model: QuasarNP) -> None:
    """Say so where no pixel can be used: wavelengths may be in another unit."""
    low, high = float(model.wave[0]), float(model.wave[-1])
    spans = [(arm.wave.min(), arm.wave.max()) for arm in source.arms if arm.wave.size]
    if not any(first <= high and last >= low for first, last in spans):
        _log.warning(
            "%s: no wavelength lies on the network's grid, %.0f to %.0f Angstrom; are"
            " they in Angstrom?", source.name, low, high,
        )  # fmt: skip


def _indices(
    source: Source,
    rows: ArrayLike | None,
    indices: NDArray[np.int64] | None,
    targetids: ArrayLike | None,
) -> NDArray[np.int64]:
    """The selected rows, by number."""
    if indices is not None:
        return check_indices(indices, source.n, "rows")
    if targetids is None:
        return row_indices(rows, source.n)
    if rows is not None:
        msg = "rows and targetids cannot be given both"
        raise ValueError(msg)
    if "TARGETID" not in source.identifiers:
        msg = f"{source.name}: has no TARGETIDs to select targets by"
        raise ValueError(msg)
    wanted = np.asarray(targetids)
    if wanted.dtype.kind not in "iu":
        msg = f"targetids must be integers, got {wanted.dtype}"
        raise TypeError(msg)
    found = np.isin(source.identifiers["TARGETID"], wanted)
    return np.flatnonzero(found).astype(np.int64)


def _empty_table(
    source: Source, numbers: NDArray[np.int64], model: QuasarNP
) -> NDArray[Any]:
    """A table without results: identifiers, NaN, and what the fibermap says."""
    known = source.identifiers
    dtype = table_dtype(model.lines, model.lines_bal, tuple(known))
    table = np.zeros(numbers.size, dtype=dtype)
    table["TARGETID"] = -1
    for name in dtype.names or ():
        if name in known:
            table[name] = known[name][numbers]
        elif dtype[name].kind == "f":
            table[name] = np.nan
    if source.target is not None:
        status = np.where(source.target[numbers], 0, int(Status.NOT_TARGET))
        table["QN_STATUS"] |= status.astype(np.int32)
    return table
