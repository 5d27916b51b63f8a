"""From the spectra of one source to a table of quasars."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._options import Options
from ._scorer import score
from ._xp.clock import Clock
from .io._basis import read_basis
from .io._catalog import ensure_output
from .io._files import ensure_name, file_stamp
from .io._joined import each_input, join_tables
from .io._results import ResultTable, result_table
from .io.memory import open_arrays
from .io.open import groups_of, open_group
from .io.sdss import with_zbest
from .io.source import Source
from .io.tables import empty_table, header_cards, identity_cards, write_catalog
from .io.weights import load_model, weights_path
from .model import QuasarNP
from .selection import (
    Indices,
    RowRanges,
    Selection,
    check_indices,
    row_indices,
    target_indices,
)
from .status import Status

_log = logging.getLogger(__name__)

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Result:
    """The table of one source, and how it came about."""

    #: The file, or what messages call the source.
    name: str
    #: As `classify` returns it.
    table: NDArray[Any]
    #: Names of the arms that were used.
    arms: tuple[str, ...]
    #: Time by stage, summed over threads: read, upload, rebin, normalise, predict,
    #: decode, fit.
    seconds: dict[str, float] = field(default_factory=dict)
    #: Activations of each row, shape ``(n, nlines, nboxes)``, where they are kept; NaN
    #: where a row cannot be scored.
    boxes: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[np.int64]) -> Result:
        """Keep some rows of the table, and their boxes."""
        boxes = None if self.boxes is None else self.boxes[rows]
        return replace(self, table=self.table[rows], boxes=boxes)

    @property
    def scored(self) -> int:
        """Number of rows with a result."""
        return int(np.sum((self.table["QN_STATUS"] & int(Status.UNSCORED)) == 0))

    @property
    def quasars(self) -> int:
        """Number of quasars."""
        return int(np.sum(self.table["IS_QSO_QN"]))


def as_model(
    model: QuasarNP | str | Path | None,
    device: Any = "cpu",
    dtype: str = "float32",
    **settings: Any,
) -> QuasarNP:
    """Load the model that a user names, unless it is loaded already."""
    given: Any = model
    if not isinstance(given, (QuasarNP, str, Path, type(None))):
        kind = type(given).__name__
        msg = f"model must be a model, the name of a weights file or None, got {kind}"
        if _is_array(given):
            msg += "; arrays of spectra are one argument: (wave, flux, ivar)"
        raise TypeError(msg)
    if not isinstance(model, QuasarNP):
        model = load_model(model, device, dtype=dtype, **settings)
    if not model.lines:
        msg = (
            f"{model.weights_name} has {model.nlines} outputs, which are not DESI's"
            " seven: name them with lines= and lines_bal= (--lines, --lines-bal)"
        )
        raise ValueError(msg)
    return model


def _is_array(given: Any) -> bool:
    return hasattr(given, "shape") or isinstance(given, list)


def takes_spectra(function: _Function) -> _Function:
    """Have a function name the right call where arrays are given one by one."""

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        if len(args) > 2 and all(map(_is_array, args)):
            name = function.__name__
            msg = f"arrays of spectra are one argument: {name}((wave, flux, ivar))"
            raise TypeError(msg)
        return function(*args, **options)

    return cast(_Function, checked)


@takes_spectra
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
    compiled: bool | None = None,
    c_thresh: float | None = None,
    n_thresh: int = 1,
    use_mask: bool = False,
    coadd: bool = False,
    batch_size: int = 256,
    fit: bool | str | Path = False,
) -> ResultTable:
    """Find the quasars among spectra.

    Parameters
    ----------
    spectra : str, pathlib.Path, tuple, list or object
        A file, plain or compressed by gzip: a coadd, ``spectra-*`` file or cframe of
        DESI, a ``spec-*`` or ``spPlate-*`` file of SDSS. Or the cframes of one
        spectrograph in one exposure, as a list or as the folder that holds them. Or
        arrays ``(wave, flux, ivar)`` of any library, or a list of such for several
        arms: wavelengths in Angstrom ``(npix,)``, or ``(n, npix)`` where each spectrum
        has its own; flux per wavelength and its inverse variance ``(n, npix)``, or
        ``(npix,)`` for one spectrum. Units of quantities and columns are converted. A
        list of single spectra that share most of their wavelengths is one of objects.
        Or spectra of specutils, or records of sparclclient. Or a list of many files,
        for one table of them all.
    model : QuasarNP, str, pathlib.Path or None
        A model from `qnp_xp.load_model`; or the name of a weights file; or None for
        ``$QN_MODEL_FILE``, and the network that ships with the package without it.
    rows : array_like, optional
        None for all; a boolean mask or an array of zeros and ones of shape ``(n,)``,
        for all rows of the file; or an array of row numbers. Of many files, those of
        each.
    targetids : array_like of int, shape (m,), optional
        TARGETIDs of the rows to take, instead of `rows`. Those that the file lacks are
        passed over.
    output : str or pathlib.Path, optional
        File to write the table to as well: its name ends in .fits, .csv, .ecsv or
        .parquet (which needs pyarrow).
    overwrite : bool
        Replace `output` if it is there.
    device, dtype, compiled : str, str and bool
        As for `qnp_xp.load_model`; not used with a model that is loaded already.
    c_thresh : float, optional
        Confidence above which a line counts, 0 to 1. By default that of the network
        (``model.c_thresh``), or 0.5 where its file holds none.
    n_thresh : int
        Number of such lines that makes a quasar.
    use_mask : bool
        Give no weight to pixels whose MASK is not zero, nor to those that the mask of a
        spectrum of specutils marks.
    coadd : bool
        Add up the spectra of each target, and classify the sum.
    batch_size : int
        Spectra that are read at a time; up to three times as many are in memory.
        Results do not depend on it.
    fit : bool, str or pathlib.Path
        Fit the redshift of each quasar to within 4,100 km/s of Z_QN: True for the
        templates that ship with the package, ``"redrock"`` for Redrock's in
        ``$RR_TEMPLATE_DIR``, or a file of templates in Redrock's layout.

    Returns
    -------
    ResultTable
        A structured array of numpy that knows how it was made, and becomes a table of
        astropy or pandas by `ResultTable.to_table` and `ResultTable.to_pandas`. It has
        one row for each selected row, in order, or with `coadd` one for each target:
        TARGETID, -1 where it is not known; TARGET_RA and TARGET_DEC
        (degrees) and SDSS' PLATE, MJD and FIBERID, where the input has them;
        IS_QSO_QN, Z_QN, Z_QN_CONF, N_LINES_QN (lines above the threshold where there
        are pixels), C_* and Z_* for each line, C_BAL_CIV and Z_BAL_CIV, QN_STATUS (bits
        of `qnp_xp.Status`). Rows that cannot be scored hold NaN. With `fit` also Z_FIT,
        ZERR_FIT, CHI2_FIT (per degree of freedom) and DZ_WARN. The first three are NaN
        for other objects than quasars, and where the fit fails, which DZ_WARN says.
        Of many files, QNINPUT names the file of each row; what cannot be read is
        logged, and lacks in the table.

    Raises
    ------
    FileNotFoundError, SpectraError, WeightsError, DeviceError
        If a file or a device cannot be used; of many files, if none can.
    FileExistsError
        If `output` is there and is not to be replaced.
    ValueError, TypeError
        If an argument is none of the above.

    Examples
    --------
    A quasar of redshift 2.3 with three broad lines, and a spectrum without any:

    >>> import numpy as np
    >>> from qnp_xp import classify
    >>> wave = np.arange(3600.0, 9824.0, 0.8)
    >>> flux, ivar = np.ones((2, wave.size)), np.full((2, wave.size), 100.0)
    >>> for line in (1215.67, 1548.2, 1908.7):
    ...     flux[0] += 3 * np.exp(-0.5 * ((wave / 3.3 - line) / 12) ** 2)
    >>> table = classify((wave, flux, ivar))
    >>> table["IS_QSO_QN"].tolist(), table["QN_STATUS"].tolist()
    ([1, 0], [0, 2])
    >>> round(float(table["Z_QN"][0]), 1)
    2.3
    """
    basis = read_basis(fit)
    options = Options(c_thresh, n_thresh, use_mask, batch_size, coadd, basis)
    if rows is not None and targetids is not None:
        msg = "rows and targetids cannot be given both"
        raise ValueError(msg)
    groups = groups_of(spectra)
    inputs = [path for group in groups or () for path in with_zbest(group)]
    stamp = file_stamp(inputs)
    if output is not None:
        ensure_name(output, "output")
        if model is None or isinstance(model, (str, Path)):
            inputs.append(weights_path(model))
        inputs += basis.paths if basis else ()
        ensure_output(Path(output), overwrite, inputs)
    network = as_model(model, device, dtype, compiled=compiled)

    def score_source(source: Source) -> Result:
        """Classify what is asked for of an open source."""
        indices = None if rows is None else row_indices(rows, source.n)
        return classify_source(
            source, network, options, indices=indices, targetids=targetids
        )

    if groups is not None and len(groups) > 1:
        found = each_input(groups, score_source)
        identity = identity_cards(network, options, "", rows, targetids)
        cards = header_cards(network, identity, "", "")
        table, cards, parts = join_tables(found, cards)
    else:
        group = groups[0] if groups else None
        with open_arrays(spectra) if group is None else open_group(group) as source:
            result = score_source(source)
        table, parts = result.table, None
        identity = identity_cards(network, options, stamp, rows, targetids)
        cards = header_cards(network, identity, result.name, result.arms)
    if output is not None:
        write_catalog(output, table, cards, overwrite=overwrite, inputs=parts)
    return result_table(table, cards)


def classify_file(
    paths: Path | Sequence[Path], model: QuasarNP, options: Options, **selection: Any
) -> Result:
    """Classify the spectra of one file, or of files that belong together."""
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
    indices: Indices | RowRanges | None = None,
    targetids: ArrayLike | None = None,
    clock: Clock | None = None,
    keep_boxes: bool = False,
) -> Result:
    """Classify the spectra of an open source: all of them, or some rows or targets.

    `clock` has the time that it took to open the source.
    """
    clock = clock or Clock()
    selection = _select(source, indices, targetids, options.coadd)
    if source.missing:
        _log.warning("%s: no arm %s", source.name, ", ".join(source.missing))
    _warn_off_grid(source, model)
    fitted = options.fit is not None
    table = empty_table(source, selection.first, model, fitted)
    boxes = None
    if keep_boxes:
        boxes = np.full((table.size, model.nlines, model.nboxes), np.nan)
    score(source, selection, model, options, table, boxes, clock)
    arms = tuple(arm.name for arm in source.arms)
    return Result(source.name, table, arms, clock.seconds, boxes)


def _select(
    source: Source,
    indices: Indices | RowRanges | None,
    targetids: ArrayLike | None,
    coadd: bool,
) -> Selection:
    """Find the rows that are asked for, those of a target together with `coadd`."""
    known = source.identifiers.get("TARGETID")
    if indices is not None:
        chosen = check_indices(indices, source.n, "rows")
    elif targetids is not None:
        chosen = target_indices(targetids, known, source.name)
    else:
        chosen = row_indices(None, source.n)
    return source.select(chosen, coadd)


def _warn_off_grid(source: Source, model: QuasarNP) -> None:
    """Warn where no pixel can be used: wavelengths may be in another unit."""
    low, high = float(model.wave[0]), float(model.wave[-1])
    inside = ((low <= arm.wave) & (arm.wave <= high) for arm in source.arms)
    if not any(map(np.any, inside)):
        _log.warning(
            "%s: no wavelength lies on the network's grid, %.0f to %.0f Angstrom;"
            " are they in Angstrom?",
            *(source.name, low, high),
        )
