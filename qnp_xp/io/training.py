"""The legacy readers of BOSS tables that QuasarNET was trained with."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grids import nbins
from ..spectra import normalize
from ._fits import FitsFile

__all__ = ["read_data", "read_spall", "read_truth"]

_log = logging.getLogger(__name__)

_FIBER = ["PLATE", "MJD", "FIBERID"]
_VISUAL = ["Z_VI", *_FIBER, "CLASS_PERSON", "Z_CONF_PERSON", "BAL_FLAG_VI", "BI_CIV"]
_STAR, _QSO, _GALAXY, _BAL = 1, 3, 4, 30  # values of CLASS_PERSON
_SURE = 3  # value of Z_CONF_PERSON


def _columns(file: FitsFile, names: list[str]) -> dict[str, NDArray[Any]]:
    """Read columns of the first table, all of which must be there."""
    table = file.columns(1, names)
    for name in names:
        if name not in table:
            raise file.problem(1, f"has no column {name}")
    return table


def read_truth(fi: Iterable[str | Path]) -> dict[int, SimpleNamespace]:
    """Read truth tables of visual inspections, such as DR12Q's superset.

    Parameters
    ----------
    fi : iterable of str or pathlib.Path
        FITS files with the columns THING_ID, Z_VI, PLATE, MJD, FIBERID, CLASS_PERSON,
        Z_CONF_PERSON, BAL_FLAG_VI and BI_CIV in HDU 1.

    Returns
    -------
    dict of int to types.SimpleNamespace
        Those columns, lower case, by THING_ID; of a target in several files the last.

    Raises
    ------
    FileNotFoundError, SpectraError
        If a file is missing, or not such a table.

    Examples
    --------
    >>> truth = read_truth(["truth_dr12q.fits"])  # doctest: +SKIP
    >>> truth[32039].z_vi  # doctest: +SKIP
    2.31
    """
    truth = {}
    for filename in fi:
        with FitsFile(Path(filename)) as file:
            table = _columns(file, ["THING_ID", *_VISUAL])
        names = [name.lower() for name in _VISUAL]
        for thing, *values in zip(*table.values(), strict=True):
            truth[int(thing)] = SimpleNamespace(**dict(zip(names, values, strict=True)))
    return truth


def read_spall(
    file_loc: str | Path,
) -> tuple[NDArray[np.int64], dict[tuple[int, int, int], int]]:
    """Read the identifiers in an ``spAll`` file.

    Parameters
    ----------
    file_loc : str or pathlib.Path
        The file, with PLATE, MJD, FIBERID and THING_ID in HDU 1.

    Returns
    -------
    tid : array of int64, shape (n,)
        THING_ID of each row.
    pmf2tid : dict
        THING_ID by (PLATE, MJD, FIBERID).

    Raises
    ------
    FileNotFoundError, SpectraError
        If the file is missing, or not such a table.

    Examples
    --------
    >>> tid, pmf2tid = read_spall("spAll-DR12.fits")  # doctest: +SKIP
    >>> pmf2tid[3655, 55240, 2]  # doctest: +SKIP
    432118404
    """
    with FitsFile(Path(file_loc)) as file:
        table = _columns(file, [*_FIBER, "THING_ID"])
    tid = table["THING_ID"].astype(np.int64)
    keys = zip(*(table[name].tolist() for name in _FIBER), strict=True)
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
    fi : iterable of str or pathlib.Path
        FITS files: in HDU 0 an image (n, 886) of 443 fluxes and 443 inverse variances
        a spectrum, in HDU 1 a table with TARGETID, PLATE, MJD, FIBERID.
    truth : mapping, optional
        As `read_truth` returns it; spectra without an entry are left out.
    z_lim : float
        Redshift that parts low from high in `Y`.
    return_pmf : bool
        Return plate, mjd and fiber too.
    nspec : int, optional
        Spectra to read of each file; all by default.

    Returns
    -------
    tids : array of int64, shape (n,)
        TARGETID of the spectra kept. Left out are those of -1, without weight,
        without variance, and those that `truth` lacks or nobody inspected.
    X : array of float64, shape (n, 443)
        Normalised spectra.
    Y : array of float64, shape (n, 5)
        With `truth` only: 1 in the column of the class, else 0. Classes are star,
        galaxy, quasar below `z_lim`, quasar from there up, unsure.
    z : array of float64, shape (n,)
        With `truth` only: redshifts.
    bal : array of float64, shape (n,)
        With `truth` only: 1 for a BAL quasar, -1 for none, 0 where flag and balnicity
        index contradict each other.
    plate, mjd, fid : array of int64, shape (n,)
        With `return_pmf` only.

    Raises
    ------
    FileNotFoundError, SpectraError
        If a file is missing, or not of that form.
    ValueError
        If a spectrum fits none of the classes, or `nspec` is below 1.

    Examples
    --------
    >>> tids, x, y, z, bal = read_data(["data.fits"], truth)  # doctest: +SKIP
    """
    if nspec is not None and nspec < 1:
        msg = f"nspec must be a whole number from 1 up, or None, got {nspec!r}"
        raise ValueError(msg)
    names = ["TARGETID", *(_FIBER if return_pmf else ())]
    parts = [_read_file(Path(filename), names, nspec) for filename in fi]
    if not parts:
        raise ValueError("read_data() needs one file or more")
    pixels = np.concatenate([image for image, _ in parts]).astype(np.float64)
    table = np.concatenate([ids for _, ids in parts], axis=1)
    x, weighted, varied = normalize(pixels[:, :nbins], pixels[:, nbins:])
    keep = (table[0] != -1) & np.asarray(weighted) & np.asarray(varied)
    if truth is not None:
        people = [truth.get(target) for target in table[0].tolist()]
        keep &= [p is not None and _is_inspected(p) for p in people]
    _log.info("%d of %d spectra kept", keep.sum(), keep.size)
    targets, *fibers = table[:, keep]
    labels: list[NDArray[Any]] = []
    if truth is not None:
        labels = _labels([truth[target] for target in targets.tolist()], z_lim)
    return (targets, x[keep], *labels, *fibers)


def _read_file(
    path: Path, names: list[str], nspec: int | None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read pixels and identifiers of the first spectra of a file, or of all."""
    with FitsFile(path) as file:
        table = _columns(file, names)
        ids = np.asarray([table[name][:nspec] for name in names], dtype=np.int64)
        image, n = file.image(0), ids.shape[1]
        if len(image.shape) != 2 or image.shape[0] < n or image.shape[1] != 2 * nbins:
            raise image.problem(f"has shape {image.shape}, not {(n, 2 * nbins)}")
        return image.read_rows(np.arange(n)), ids


def _is_inspected(person: Any) -> bool:
    """Tell whether somebody looked at a spectrum."""
    return bool(person.class_person > 0 or person.z_conf_person > 0)


def _labels(people: list[Any], z_lim: float) -> list[NDArray[Any]]:
    """Give class, redshift and BAL flag of visually inspected spectra."""
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
