"""Tables for QuasarNET's readers, from any spectra and any truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._binning import Rebinner
from .._xp.backend import resolve
from ..errors import SpectraError
from ..grids import nbins, wave
from ..selection import Selection, row_indices
from ..spectra import average
from ._files import atomic_write, ensure_name, ensure_writable
from ._match import match
from ._prepare import Preparer
from ._truth import Int64, Kind, open_truth
from ._truth_forms import FIBER
from .memory import open_arrays
from .open import groups_of, open_group
from .source import Source

_log = logging.getLogger(__name__)

_BATCH = 512  # spectra that are in memory at a time
# Values of CLASS_PERSON and Z_CONF_PERSON.
_CLASSES = {Kind.STAR: 1, Kind.QUASAR: 3, Kind.GALAXY: 4, Kind.UNKNOWN: 0}
_BAL_CLASS, _SURE, _UNSURE = 30, 3, 1


def write_data(
    filename: str | Path,
    spectra: Any,
    *,
    rows: ArrayLike | None = None,
    use_mask: bool = False,
    overwrite: bool = False,
) -> int:
    """Write spectra as QuasarNET's tables of data, which `read_data` reads.

    Parameters
    ----------
    filename : str or pathlib.Path
        File to write: flux and inverse variance on QuasarNET's 443 bins as the image of
        HDU 0, and TARGETID, PLATE, MJD and FIBERID in HDU 1, -1 where they are not
        known.
    spectra : as for `qnp_xp.classify`, or a list of files
        Spectra of any of its formats; of a list of files all, one after the other.
    rows : array_like, optional
        Rows to take, as for `qnp_xp.classify`; of one file, exposure or set of arrays.
    use_mask : bool
        Give no weight to pixels whose MASK is not zero.
    overwrite : bool
        Replace the file if it is there.

    Returns
    -------
    int
        Number of spectra, which have the order of the input. Those without a TARGETID
        or a good pixel are written as well; `read_data` leaves them out.

    Raises
    ------
    FileNotFoundError, SpectraError
        If a file is missing or damaged, or no spectrum has a TARGETID.
    FileExistsError
        If `filename` is there and is not to be replaced.
    ValueError, TypeError
        If an argument is none of the above.

    Examples
    --------
    >>> from qnp_xp.io import read_data, write_data
    >>> write_data("data.fits", ["coadd-1.fits", "coadd-2.fits"])  # doctest: +SKIP
    1000
    >>> tids, x = read_data(["data.fits"])  # doctest: +SKIP
    """
    path = _checked(filename)
    groups: list[Any] = groups_of(spectra) or [None]
    if rows is not None and len(groups) > 1:
        msg = f"rows are of one file, and there are {len(groups)}"
        raise ValueError(msg)
    ensure_writable(path, overwrite, [name for g in groups for name in g or ()])
    parts = []
    for group in groups:
        with open_arrays(spectra) if group is None else open_group(group) as source:
            parts.append(_rebinned(source, row_indices(rows, source.n), use_mask))
    images, tables = zip(*parts, strict=True)
    table = np.concatenate(tables)
    unknown = int(np.sum(table["TARGETID"] == -1))
    if unknown and unknown == table.size:
        raise SpectraError("no spectrum has a TARGETID, by which truth is found")
    if unknown:
        _log.warning("%d of %d spectra have no TARGETID", unknown, table.size)
    _write(path, np.concatenate(images), table, "TARGETS")
    return int(table.size)


def _rebinned(
    source: Source, indices: Int64, use_mask: bool
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Give flux and inverse variance on the bins, and what identifies the spectra."""
    rebinner = Rebinner(wave, resolve("cpu"))
    prepare = Preparer(source, rebinner, rebinner.backend, use_mask)
    image = np.empty((indices.size, 2 * nbins), dtype=np.float32)
    for rows, batch in Selection.of_rows(indices).batches(_BATCH):
        flux, ivar, *_ = prepare.sums(batch)
        image[rows, :nbins], image[rows, nbins:] = average(flux, ivar), ivar
    table = np.full(indices.size, -1, [(x, "i8") for x in ("TARGETID", *FIBER)])
    for name in table.dtype.names or ():
        if name in source.identifiers:
            table[name] = source.identifiers[name][indices]
    return image, table


def write_truth(filename: str | Path, truth: Any, *, overwrite: bool = False) -> int:
    """Write truth as QuasarNET's tables of it, which `read_truth` reads.

    Parameters
    ----------
    filename : str or pathlib.Path
        File to write: THING_ID (or TARGETID), Z_VI, PLATE, MJD, FIBERID, CLASS_PERSON,
        Z_CONF_PERSON (3 if sure, else 1), BAL_FLAG_VI and BI_CIV in HDU 1. Of BI_CIV
        the sign alone means something: 1 with broad absorption, 0 without, -1 unknown.
    truth : as for `qnp_xp.validate`
        Truth in any form.
    overwrite : bool
        Replace the file if it is there.

    Returns
    -------
    int
        Number of targets, each of them once. Left out, with a warning, are objects
        without an identifier, and targets whose labels contradict each other.

    Raises
    ------
    FileNotFoundError, SpectraError
        If a file is missing, or is no truth, or has neither TARGETID nor THING_ID.
    FileExistsError
        If `filename` is there and is not to be replaced.

    Examples
    --------
    >>> from qnp_xp.io import read_truth, write_truth
    >>> write_truth("truth.fits", "vi.csv")  # doctest: +SKIP
    1368
    >>> truth = read_truth(["truth.fits"])  # doctest: +SKIP
    """
    path = _checked(filename)
    inputs = [truth] if isinstance(truth, (str, Path)) else []
    ensure_writable(path, overwrite, inputs)
    known = open_truth(truth)
    name = next((x for x in ("TARGETID", "THING_ID") if x in known.identifiers), "")
    if not name:
        raise SpectraError(f"{known.name}: neither TARGETID nor THING_ID in it")
    ids = known.identifiers[name]
    named = ids != -1 if name == "TARGETID" else ids > 0
    if not np.any(named):
        raise SpectraError(f"{known.name}: no object has a {name}")
    if not np.all(named):
        lost = int(np.sum(~named))
        _log.warning("%s: %d of %d rows have no %s", known.name, lost, known.n, name)
    ids = np.unique(ids[named])
    rows = match({"TARGETID": ids}, known)
    ids, rows = ids[rows >= 0], rows[rows >= 0]
    kind, bal, z = known.kind[rows], known.bal[rows], known.z[rows]
    classes = np.asarray([_CLASSES[k] for k in sorted(_CLASSES)], dtype="i2")
    table = np.zeros(ids.size, dtype=_truth_dtype())
    table["THING_ID"] = ids
    table["Z_VI"] = np.where(np.isfinite(z), z, -1)
    for column in FIBER:
        table[column] = -1
        if column in known.identifiers:
            table[column] = known.identifiers[column][rows]
    table["CLASS_PERSON"] = np.where(bal == 1, _BAL_CLASS, classes[kind])
    # Nobody has looked at what is unknown.
    conf = np.where(known.sure[rows] & np.isfinite(z), _SURE, _UNSURE)
    table["Z_CONF_PERSON"] = np.where(kind == int(Kind.UNKNOWN), 0, conf)
    table["BAL_FLAG_VI"] = bal == 1
    table["BI_CIV"] = bal
    _write(path, None, table, "TRUTH")
    return int(ids.size)


def _truth_dtype() -> list[tuple[str, str]]:
    """List the columns of QuasarNET's truth."""
    columns = [("THING_ID", "i8"), ("Z_VI", "f8"), *((x, "i4") for x in FIBER)]
    columns += [(x, "i2") for x in ("CLASS_PERSON", "Z_CONF_PERSON", "BAL_FLAG_VI")]
    return [*columns, ("BI_CIV", "f8")]


def _checked(filename: Any) -> Path:
    """Check the name of a file to write."""
    ensure_name(filename, "filename")
    return Path(filename)


def _write(path: Path, image: Any, table: NDArray[Any], name: str) -> None:
    """Write an image or none as HDU 0, and a table as HDU 1."""
    with fitsio.FITS("mem://", "rw") as f:
        f.write(image)
        f.write(table, extname=name)
        content: bytes = f.read_raw()
    atomic_write(path, content)
