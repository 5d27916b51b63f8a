"""The tables that are written: of results, of redrock's priors, and of a run."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._data import EMBEDDED_NETWORK
from .._options import Options
from .._text import as_ascii
from .._version import __version__
from .._xp.backend import array_namespace, to_host
from ..decode import Decoded
from ..errors import SpectraError
from ..grids import Grid
from ..lines import column_names
from ..model import QuasarNP
from ..selection import RowRanges
from ..status import Status
from ._catalog import checked, rows_hash
from ._files import atomic_write, ensure_writable
from ._fits import FitsFile
from ._results import UNITS, ResultTable
from ._table_forms import Card, catalog_content, form_of
from .source import IDENTIFIERS, Source

__all__ = ["read_catalog"]

#: Keywords of weights and settings, which tables that are merged must share.
_SETTING = re.compile(
    r"QNSHA256|QNDTYPE|[CN]_THRESH|USEMASK|QNCOADD|QNFIT|QNFITSHA|QNLINE\d+|QNBAL\d+"
)
#: Columns of a fit, and their types.
FIT_COLUMNS = {"Z_FIT": "f4", "ZERR_FIT": "f4", "CHI2_FIT": "f4", "DZ_WARN": "i2"}
#: Columns that a table of results has.
_NEEDED = {"TARGETID", "IS_QSO_QN", "Z_QN", "Z_QN_CONF", "QN_STATUS"}
#: What keywords begin with that say how a table came about.
_OF_THE_RUN = ("QN", "C_THRESH", "N_THRESH", "USEMASK", "DEPNAM", "DEPVER")


def table_dtype(
    lines: Sequence[str],
    lines_bal: Sequence[str],
    identifiers: Sequence[str],
    fitted: bool,
) -> np.dtype[Any]:
    """Make the columns of results from lines and the identifiers that are known."""
    names = column_names(lines)
    columns: list[tuple[str, str]] = [("TARGETID", "i8")]
    known = set(identifiers) - {"TARGETID"}
    if not known.issuperset(UNITS):  # one coordinate alone says nothing
        known.difference_update(UNITS)
    columns += [(name, dtype) for name, dtype in IDENTIFIERS.items() if name in known]
    columns += [("IS_QSO_QN", "i2"), ("Z_QN", "f4"), ("Z_QN_CONF", "f4")]
    columns += [("N_LINES_QN", "i2"), *(FIT_COLUMNS.items() if fitted else ())]
    columns += [(f"{kind}_{name}", "f4") for kind in "CZ" for name in names]
    for name in column_names(lines_bal):
        columns += [(f"C_BAL_{name}", "f4"), (f"Z_BAL_{name}", "f4")]
    return np.dtype([*columns, ("QN_STATUS", "i4")])


def missing_value(column: str, dtype: np.dtype[Any]) -> Any:
    """Give what stands for an unknown identifier, None for columns that are none."""
    if column == "TARGETID" or column not in IDENTIFIERS:
        return None
    return {"f": np.nan, "i": -1}.get(dtype.kind, b"")


def empty_table(
    source: Source, indices: NDArray[np.int64], model: QuasarNP, fitted: bool
) -> NDArray[Any]:
    """Make a table without results: what the source says of its rows, else NaN."""
    known = source.identifiers
    dtype = table_dtype(model.lines, model.lines_bal, tuple(known), fitted)
    table = np.zeros(indices.size, dtype)
    table["TARGETID"] = -1
    for name in dtype.names or ():
        if name in known:
            table[name] = known[name][indices]
        elif dtype[name].kind == "f":
            table[name] = np.nan
    if source.missing:
        table["QN_STATUS"] |= int(Status.ARM_MISSING)
    if source.target is not None:
        table["QN_STATUS"][~source.target[indices]] |= int(Status.NOT_TARGET)
    return table


def result_columns(found: Decoded, model: QuasarNP) -> dict[str, NDArray[Any]]:
    """Bring confidences and redshifts to the host at once, by the name of a column."""
    kinds = (
        ("C", model.lines, found.c_line),
        ("Z", model.lines, found.z_line),
        ("C_BAL", model.lines_bal, found.c_line_bal),
        ("Z_BAL", model.lines_bal, found.z_line_bal),
    )
    names = [f"{kind}_{x}" for kind, lines, _ in kinds for x in column_names(lines)]
    best = found.zbest[None, :], found.cbest[None, :]
    xp = array_namespace(*best)
    values = xp.concat([*(values for *_, values in kinds), *best], axis=0)
    return dict(zip([*names, "Z_QN", "Z_QN_CONF"], to_host(values), strict=True))


def identity_cards(
    model: QuasarNP,
    options: Options,
    stamp: str,
    rows: ArrayLike | RowRanges | None,
    targetids: ArrayLike | None,
) -> list[Card]:
    """Say what a table depends on, which resuming compares: settings, rows and input.

    The stamp of the input is made before it is opened: one that is replaced meanwhile
    is another input later. It is empty for spectra in memory.
    """
    return [
        *_setting_cards(model, options),
        _selection_card(rows, targetids),
        ("QNSTAMP", stamp, "hash of the input's state"),
    ]


def _setting_cards(model: QuasarNP, options: Options) -> list[Card]:
    """Say which weights and settings results depend on."""
    basis = options.fit
    # cfitsio reads no smaller number than this one.
    c_thresh, origin = options.threshold(model.c_thresh)
    c_thresh = c_thresh if c_thresh >= np.finfo(np.float64).tiny else 0.0
    lines = [
        (f"QN{kind}{number:02d}", line, what)
        for kind, what, names in (
            ("LINE", "line of the network", model.lines),
            ("BAL", "broad absorption line of the network", model.lines_bal),
        )
        for number, line in enumerate(names)
    ]
    return [
        ("QNSHA256", model.weights_sha256, "SHA-256 of the weights file"),
        ("QNDTYPE", model.dtype, "what the network computed in"),
        ("QNCOMPIL", model.compiled, "by functions that LLVM compiled"),
        ("C_THRESH", c_thresh, f"lines count above it ({origin})"),
        ("N_THRESH", int(options.n_thresh), "lines that make a quasar"),
        ("USEMASK", bool(options.use_mask), "pixels with MASK left out"),
        ("QNCOADD", bool(options.coadd), "spectra of a target added up"),
        ("QNFIT", as_ascii(basis.name) if basis else "none", "templates of the fit"),
        *([("QNFITSHA", basis.sha256, "SHA-256 of their files")] if basis else []),
        *lines,
    ]


def is_setting(keyword: str) -> bool:
    """Tell whether a keyword is one of weights and settings."""
    return _SETTING.fullmatch(keyword) is not None


def _selection_card(
    rows: ArrayLike | RowRanges | None, targetids: ArrayLike | None
) -> Card:
    """Say which rows were asked for: ``all``, or the kind and a hash of them."""
    value = "all"
    for kind, chosen in (("rows", rows), ("targetids", targetids)):
        if chosen is not None:
            numbers = str(chosen)
            if not isinstance(chosen, RowRanges):
                numbers = ",".join(map(str, to_host(chosen).tolist()))
            value = f"{kind} {hashlib.sha256(numbers.encode()).hexdigest()[:16]}"
    return ("QNSELECT", value, "rows asked for, and a hash of which")


def header_cards(
    model: QuasarNP, identity: Sequence[Card], name: str, arms: Sequence[str]
) -> list[Card]:
    """Say what the table of a source, of some name and arms, was made with."""
    grid = Grid.from_wave(model.wave)
    own = model.weights_name == EMBEDDED_NETWORK
    origin = "ships with qnp_xp, not DESI's" if own else "weights file"
    cards: list[Card] = [
        ("QNINPUT", as_ascii(Path(name).name), "file of the spectra"),
        ("QNMODEL", as_ascii(model.weights_name), origin),
        ("QNDEVICE", model.device, "device of the network"),
        *identity,
        ("QNGRID", "log" if grid.log else "linear", "spacing of the wavelength grid"),
        ("QNNBINS", grid.size, "bins of the grid"),
        ("QNWMIN", float(model.wave[0]), "[Angstrom] first bin"),
        ("QNWMAX", float(model.wave[-1]), "[Angstrom] last bin"),
        ("QNARMS", "".join(arms), "arms used"),
    ]
    if not model.backend.is_host:
        cards.append(("QNTILE", model.tile, "spectra of one pass on the device"))
    libraries = ["numpy", "array-api-compat", "h5py", "fitsio"]
    libraries += ["cupy"] if model.backend.is_gpu else []
    versions = [("qnp_xp", __version__), *((lib, _version(lib)) for lib in libraries)]
    for number, (library, version) in enumerate(versions):
        cards.append((f"DEPNAM{number:02d}", library, "package"))
        cards.append((f"DEPVER{number:02d}", version, "its version"))
    return cards


@functools.cache
def _version(library: str) -> str:
    """Look the version of a library up; CuPy may be called cupy-cuda12x, say."""
    name = None if library == "cupy" else library
    found = importlib.metadata.distributions(name=name)
    versions = (d.version for d in found if name or d.name.startswith("cupy"))
    return next(versions, "unknown")  # array-api-compat may be missing


def read_catalog(path: str | Path) -> tuple[ResultTable, dict[str, tuple[Any, str]]]:
    """Read a table of results.

    Parameters
    ----------
    path : str or pathlib.Path
        File that `qnp_xp.classify`, ``qnp-xp classify`` or ``qnp-xp merge`` wrote.

    Returns
    -------
    table : ResultTable
        With the columns of `qnp_xp.classify`, and `header`.
    header : dict of str to (value, str)
        Values and comments by keyword, without those that describe columns and bits.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectraError
        If it is damaged, or holds no such table, or a column is of another kind.

    Examples
    --------
    >>> from qnp_xp.io.tables import read_catalog
    >>> table, header = read_catalog("qn-80605.fits")  # doctest: +SKIP
    >>> header["C_THRESH"]  # doctest: +SKIP
    (0.5, 'lines count above it (the default)')
    """
    path = Path(path)
    with FitsFile(path) as file:
        if "QN" not in file:
            raise SpectraError(f"{path}: holds no table of qnp-xp classify")
        cards = file.header("QN").records()
        if not _NEEDED.issubset(file.column_names("QN")):
            raise file.problem("QN", "lacks columns of a table of qnp-xp classify")
        table = file.table("QN")
        with file.reading("QN"):
            lines, lines_bal = (
                [str(x["value"]) for x in cards if re.fullmatch(key, x["name"])]
                for key in (r"QNLINE\d+", r"QNBAL\d+")
            )
            dtype = table_dtype(lines, lines_bal, tuple(IDENTIFIERS), fitted=True)
        types = {"QNINPUT": "S", **{name: dtype[name] for name in dtype.names or ()}}
        table = checked(table, types, functools.partial(file.problem, "QN"))
    header = {
        card["name"]: (card["value"], str(card.get("comment", "")))
        for card in cards
        if card["name"].startswith(_OF_THE_RUN) and not card["name"].startswith("QNBIT")
    }
    return ResultTable(table, header), header


def write_catalog(
    path: str | Path,
    table: NDArray[Any],
    header: Sequence[Card],
    *,
    overwrite: bool = False,
    inputs: NDArray[Any] | None = None,
) -> None:
    """Write a table of results in the form that its name ends in, whole or not at all.

    In FITS it is HDU QN, and the table `inputs` is HDU INPUTS.
    """
    form = form_of(Path(path))
    ensure_writable(Path(path), overwrite)
    write_rows(Path(path), form, table, header, inputs)


def write_rows(
    path: Path,
    form: str,
    table: NDArray[Any],
    header: Sequence[Card],
    inputs: NDArray[Any] | None = None,
) -> None:
    """Write a table of results in some form, whatever is there."""
    note = "hash of the columns and rows below"
    cards = [*header, ("QNHASH", rows_hash(table), note)]
    for bit in (status for status in Status if status != Status.UNSCORED):
        note = f"bit of value {int(bit)} in QN_STATUS"
        cards.append((f"QNBIT{bit.bit_length() - 1:02d}", bit.name, note))
    atomic_write(path, catalog_content(form, table, cards, inputs))
