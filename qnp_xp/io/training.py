"""The legacy readers of BOSS tables that QuasarNET was trained with."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from ..grids import nbins
from ..spectra import normalize

__all__ = ["read_data", "read_spall", "read_truth"]

_log = logging.getLogger(__name__)

_TRUTH = [
    "Z_VI",
    "PLATE",
    "MJD",
    "FIBERID",
    "CLASS_PERSON",
    "Z_CONF_PERSON",
    "BAL_FLAG_VI",
    "BI_CIV",
]
_STAR, _QSO, _GALAXY, _BAL = 1, 3, 4, 30  # values of CLASS_PERSON
_SURE = 3  # value of Z_CONF_PERSON


@contextlib.contextmanager
def _opened(filename: str | Path) -> Iterator[Any]:
    """A FITS file; complaints about it name it."""
    path = Path(filename)
    path.open("rb").close()  # the usual error where there is no such file
    try:
        with fitsio.FITS(str(path)) as h:
            yield h
    except (AttributeError, IndexError, KeyError, OSError, ValueError) as err:
        msg = f"{path}: not the table that is expected ({err})"
        raise SpectraError(msg) from err


def _table(hdu: Any, columns: list[str], rows: slice = slice(None)) -> NDArray[Any]:
    """Columns by their upper-case names, whatever case they have in the file."""
    names = {name.upper(): name for name in hdu.get_colnames()}
    missing = [column for column in columns if column not in names]
    if missing:
        msg = f"has no column {missing[0]}"
        raise ValueError(msg)
    table = hdu[[names[column] for column in columns]][rows]
    table.dtype.names = tuple(name.upper() for name in table.dtype.names)
    return np.asarray(table)


def read_truth(fi: Iterable[str | Path]) -> dict[int, SimpleNamespace]:
    """Read truth tables of visual inspections, DR12Q's superset for one.

    Parameters
    ----------
    fi
        FITS files with the columns THING_ID, Z_VI, PLATE, MJD, FIBERID, CLASS_PERSON,
        Z_CONF_PERSON, BAL_FLAG_VI and BI_CIV in their first table.

    Returns
    -------
    dict
        For each THING_ID an object with those columns, lower case, as attributes.

    Raises
    ------
    FileNotFoundError, SpectraError
        If a file is missing, or not such a table.
    """
    truth = {}
    for filename in fi:
        with _opened(filename) as h:
            table = _table(h[1], ["THING_ID", *_TRUTH])
        for row in table:
            values = {name.lower(): row[name] for name in _TRUTH}
            truth[int(row["THING_ID"])] = SimpleNamespace(**values)
    return truth


def read_spall(
    file_loc: str | Path,
) -> tuple[NDArray[np.int64], dict[tuple[int, int, int], int]]:
    """Read the identifiers in an ``spAll`` file.

    Parameters
    ----------
    file_loc
        The file.

    Returns
    -------
    tid : numpy.ndarray of int64
        THING_ID of each row, shape ``(n,)``.
    pmf2tid : dict
        THING_ID by (PLATE, MJD, FIBERID).

    Raises
    ------
    FileNotFoundError, SpectraError
        If the file is missing, or not such a table.
    """
    with _opened(file_loc) as h:
        table = _table(h[1], ["PLATE", "MJD", "FIBERID", "THING_ID"])
    tid = table["THING_ID"].astype(np.int64)
    keys = zip(
        *(table[name].tolist() for name in ("PLATE", "MJD", "FIBERID")), strict=True
    )
    return tid, dict(zip(keys, tid.tolist(), strict=True))


def read_data(
    fi: Iterable[str | Path],
    truth: Mapping[int, Any] | None = None,
    z_lim: float = 2.1,
    return_pmf: bool = False,
    nspec: int | None = None,
) -> tuple[NDArray[Any], ...]:
    """Read rebinned spectra as QuasarNET's ``parse_data`` writes them.

    Parameters
    ----------
    fi
        FITS files: in HDU 0 an image ``(n, 886)`` of 443 fluxes and 443 weights a
        spectrum, in HDU 1 a table with TARGETID, PLATE, MJD, FIBERID.
    truth
        As `read_truth` returns it; spectra without an entry are left out.
    z_lim
        Redshift that parts low from high in `Y`.
    return_pmf
        Return plate, mjd and fiber too.
    nspec
        Spectra to read of each file; None for all.

    Returns
    -------
    tids : numpy.ndarray of int64
        TARGETID of the spectra kept. Left out are those of -1, without weight,
        without variance, and those that `truth` lacks or nobody inspected.
    X : numpy.ndarray
        Normalised spectra, shape ``(n, 443)``, float64.
    Y : numpy.ndarray
        With `truth` only: one of five classes is 1 in each row, shape ``(n, 5)``: star,
        galaxy, quasar below `z_lim`, quasar from there up, unsure.
    z : numpy.ndarray
        With `truth` only: redshifts.
    bal : numpy.ndarray
        With `truth` only: 1 for a BAL quasar, -1 for none, 0 where flag and balnicity
        index contradict each other.
    plate, mjd, fid : numpy.ndarray
        With `return_pmf` only.

    Raises
    ------
    FileNotFoundError, SpectraError
        If a file is missing, or not of that form.
    ValueError
        If a spectrum fits none of the classes, or `nspec` is below 1.
    """
    if nspec is not None and nspec < 1:
        msg = f"nspec must be a whole number from 1 up, or None, got {nspec!r}"
        raise ValueError(msg)
    parts = [_read_one(filename, nspec, return_pmf) for filename in fi]
    if not parts:
        msg = "read_data() needs one file or more"
        raise ValueError(msg)
    pixels = np.concatenate([image for image, _ in parts]).astype(np.float64)
    table = np.concatenate([ids for _, ids in parts])
    known = table["TARGETID"] != -1
    if truth is not None:
        known &= np.isin(table["TARGETID"], np.fromiter(truth, dtype=np.int64))
    x, weighted, varied = normalize(pixels[:, :nbins], pixels[:, nbins:])
    keep = known & np.asarray(weighted) & np.asarray(varied)
    if truth is not None:
        people = [truth.get(t) for t in table["TARGETID"].tolist()]
        keep &= [
            p is not None and bool(p.class_person > 0 or p.z_conf_person > 0)
            for p in people
        ]
    _log.info("%d of %d spectra kept", keep.sum(), keep.size)
    table, x = table[keep], x[keep]
    result: list[NDArray[Any]] = [table["TARGETID"], x]
    if truth is not None:
        result += _labels([truth[t] for t in table["TARGETID"].tolist()], z_lim)
    if return_pmf:
        result += [table[name] for name in ("PLATE", "MJD", "FIBERID")]
    return tuple(result)


def _read_one(
    filename: str | Path, nspec: int | None, return_pmf: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    columns = ["TARGETID", *(("PLATE", "MJD", "FIBERID") if return_pmf else ())]
    with _opened(filename) as h:
        table = _table(h[1], columns, slice(0, nspec))
        dims = tuple(int(size) for size in h[0].get_info().get("dims", ()))
        if len(dims) != 2 or dims[0] < len(table) or dims[1] != 2 * nbins:
            msg = f"HDU 0 has shape {dims}, not {(len(table), 2 * nbins)}"
            raise ValueError(msg)
        image = np.asarray(h[0][0 : len(table), :])
    native = [(name, np.int64) for name in columns]
    return image, table.astype(native)


def _labels(people: list[Any], z_lim: float) -> list[NDArray[Any]]:
    """Class, redshift and BAL flag of visually inspected spectra."""
    kind = np.array([p.class_person for p in people], dtype=int)
    sure = np.array([p.z_conf_person for p in people], dtype=int) == _SURE
    z = np.array([p.z_vi for p in people], dtype=np.float64)
    flag = np.array([p.bal_flag_vi for p in people], dtype=bool)
    index = np.array([p.bi_civ for p in people], dtype=np.float64)
    quasar = np.isin(kind, [_QSO, _BAL])
    classes = [
        sure & (kind == _STAR),
        sure & (kind == _GALAXY),
        sure & quasar & (z < z_lim),
        sure & quasar & (z >= z_lim),
        ~sure,
    ]
    labels = np.stack(classes, axis=1).astype(np.float64)
    if not np.all(labels.sum(axis=1) == 1):
        kinds = sorted(set(kind[sure].tolist()))
        msg = f"CLASS_PERSON of a sure spectrum is 1, 3, 4 or 30, not so in {kinds}"
        raise ValueError(msg)
    bal = (flag & (index > 0)).astype(np.float64) - (~flag & (index == 0))
    return [labels, z, bal]
