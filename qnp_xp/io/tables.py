"""The table of results, and redrock's priors, as FITS files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SpectraError
from ..lines import column_names
from ..status import Status
from ._files import atomic_write, ensure_writable, remove_leftovers
from ._fits import FitsFile

__all__ = [
    "Card",
    "is_current",
    "missing_value",
    "read_catalog",
    "remove_leftovers",
    "table_dtype",
    "write_catalog",
    "write_priors",
]

#: Keyword, value and comment of a header.
Card = tuple[str, Any, str]

_NOTES = {
    "TARGETID": "target, -1 where the input has none",
    "TARGET_RA": "right ascension",
    "TARGET_DEC": "declination",
    "PLATE": "plate of SDSS",
    "MJD": "its night, modified Julian date",
    "FIBERID": "fiber on the plate, from 1",
    "QNINPUT": "file of the spectrum",
    "IS_QSO_QN": "1 is a quasar by C_THRESH, N_THRESH",
    "Z_QN": "redshift of the most confident line",
    "Z_QN_CONF": "confidence of that line, 0 to 1",
    "QN_STATUS": "0 is scored, else bits: see QNBITnn",
}
_SDSS = ("PLATE", "MJD", "FIBERID")
#: What keywords begin with that say how a table came about.
_OF_THE_RUN = ("QN", "C_THRESH", "N_THRESH", "USEMASK", "DEPNAM", "DEPVER")
_UNITS = {"TARGET_RA": "deg", "TARGET_DEC": "deg"}


def table_dtype(
    lines: Sequence[str], lines_bal: Sequence[str], identifiers: Sequence[str]
) -> np.dtype[Any]:
    """Columns of the table of results.

    Parameters
    ----------
    lines, lines_bal
        Emission and broad absorption lines of the network.
    identifiers
        Those of the identifiers of spectra that are known.

    Returns
    -------
    numpy.dtype
        Structured: TARGETID, TARGET_RA and TARGET_DEC if both are known, those of
        PLATE, MJD and FIBERID that are, IS_QSO_QN, Z_QN, Z_QN_CONF, C_* and Z_* of
        each line, C_BAL_* and Z_BAL_*, QN_STATUS.
    """
    names, bal = column_names(lines), column_names(lines_bal)
    columns: list[tuple[str, str]] = [("TARGETID", "i8")]
    if {"TARGET_RA", "TARGET_DEC"} <= set(identifiers):
        columns += [("TARGET_RA", "f8"), ("TARGET_DEC", "f8")]
    columns += [(name, "i4") for name in _SDSS if name in identifiers]
    columns += [("IS_QSO_QN", "i2"), ("Z_QN", "f4"), ("Z_QN_CONF", "f4")]
    columns += [(f"C_{name}", "f4") for name in names]
    columns += [(f"Z_{name}", "f4") for name in names]
    for name in bal:
        columns += [(f"C_BAL_{name}", "f4"), (f"Z_BAL_{name}", "f4")]
    return np.dtype([*columns, ("QN_STATUS", "i4")])


def _note(column: str) -> str:
    if column in _NOTES:
        return _NOTES[column]
    what = "confidence of" if column.startswith("C_") else "redshift from"
    line = re.sub("^[CZ]_(BAL_)?", "", column)
    return f"{what} {'broad absorption in ' if '_BAL_' in column else ''}{line}"


def is_current(path: Path, header: Sequence[Card], newest: float) -> bool:
    """Whether a table is there that need not be made again.

    Parameters
    ----------
    path
        The table.
    header
        Keywords and values that it must have.
    newest
        When its input was changed last, seconds since 1970.

    Returns
    -------
    bool
        False as well where there is no such file, or it is damaged.
    """
    try:
        if path.stat().st_mtime < newest:
            return False
        file = FitsFile(path)
    except (FileNotFoundError, SpectraError):
        return False
    try:
        if "QN" not in file:
            return False
        cards = file.header("QN")
        return all(cards.get(key) == value for key, value, _ in header)
    except SpectraError:
        return False
    finally:
        file.close()


def missing_value(column: str, dtype: np.dtype[Any]) -> Any:
    """What stands for an identifier that is not known.

    Parameters
    ----------
    column, dtype
        Name and type of a column of a table of results.

    Returns
    -------
    number or None
        NaN or -1; None for a column that every table has.
    """
    if column not in (*_UNITS, *_SDSS):
        return None
    return np.nan if dtype.kind == "f" else -1


def read_catalog(path: Path) -> tuple[NDArray[Any], dict[str, tuple[Any, str]]]:
    """Read a table of results.

    Parameters
    ----------
    path
        File that `write_catalog` wrote.

    Returns
    -------
    table : numpy.ndarray
        Structured.
    header : dict
        Values and comments by keyword, without those that describe columns and bits.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectraError
        If it is damaged, or holds no such table.
    """
    file = FitsFile(path)
    try:
        if "QN" not in file:
            msg = f"{path}: holds no table of qnp-xp classify"
            raise SpectraError(msg)
        cards = file.header("QN").records()
        if not {"TARGETID", "Z_QN_CONF", "QN_STATUS"} <= {*file.column_names("QN")}:
            raise file.problem("QN", "lacks columns of a table of qnp-xp classify")
        table = fitsio.read(str(path), ext="QN")
    except OSError as err:
        raise SpectraError(f"{path}: cannot be read ({err})") from err
    finally:
        file.close()
    table = table.astype(table.dtype.newbyteorder("="))
    header = {
        card["name"]: (card["value"], str(card.get("comment", "")))
        for card in cards
        if card["name"].startswith(_OF_THE_RUN) and not card["name"].startswith("QNBIT")
    }
    return table, header


def write_catalog(
    path: str | Path,
    table: NDArray[Any],
    header: Sequence[Card],
    *,
    overwrite: bool = False,
) -> None:
    """Write a table of results, whole or not at all.

    Parameters
    ----------
    path
        File to write.
    table
        Structured array of the columns of `table_dtype`.
    header
        What else is to be known of the run: keywords, values and comments.
    overwrite
        Replace an older file.

    Raises
    ------
    OSError
        If it exists and is not to be replaced, or cannot be written.

    Notes
    -----
    HDU QN; units in TUNIT, what a column is in the comment of its TTYPE, the bits of
    QN_STATUS in QNBITnn.
    """
    cards = [{"name": key, "value": v, "comment": c} for key, v, c in header]
    cards += [
        {
            "name": f"QNBIT{bit.bit_length() - 1:02d}",
            "value": Status(bit).name,
            "comment": f"bit of value {bit} in QN_STATUS",
        }
        for bit in (int(status) for status in Status if status != Status.UNSCORED)
    ]
    names = list(table.dtype.names or ())
    units = [_UNITS.get(name, "") for name in names]
    path = Path(path)
    ensure_writable(path, overwrite, fits=True)
    # In memory first: of what goes wrong on the disk Python says more than cfitsio.
    with fitsio.FITS("mem://", "rw") as f:
        f.write(table, extname="QN", header=cards, units=units)
        for number, name in enumerate(names, start=1):
            f["QN"].write_key(f"TTYPE{number}", name, comment=_note(name))
        content = f.read_raw()
    atomic_write(path, content)


def write_priors(
    path: str | Path,
    targetid: ArrayLike,
    z: ArrayLike,
    width: ArrayLike,
    *,
    overwrite: bool = False,
) -> None:
    """Write priors for ``rrdesi --priors``, whole or not at all.

    Parameters
    ----------
    path
        File to write.
    targetid, z, width
        Targets, the redshifts at the middle of their priors, and the full widths of
        these; shape ``(n,)``.
    overwrite
        Replace an older file.

    Raises
    ------
    OSError
        If it exists and is not to be replaced, or cannot be written.

    Notes
    -----
    HDU PRIORS with TARGETID, FUNCTION = tophat, Z and SIGMA, as desispec's
    ``scripts/qsoqn.py`` writes it.
    """
    targets = np.asarray(targetid)
    columns = [("TARGETID", "i8"), ("FUNCTION", "S6"), ("Z", "f8"), ("SIGMA", "f8")]
    table = np.zeros(targets.size, dtype=columns)
    table["TARGETID"], table["FUNCTION"] = targets, b"tophat"
    table["Z"], table["SIGMA"] = z, width
    path = Path(path)
    ensure_writable(path, overwrite, fits=True)
    with fitsio.FITS("mem://", "rw") as f:
        f.write(table, extname="PRIORS")
        content = f.read_raw()
    atomic_write(path, content)
