"""Spectra of SDSS, BOSS and eBOSS: ``spec-*`` and ``spPlate-*`` files.

The data model of SDSS, https://data.sdss.org/datamodel: a ``spec`` file is one coadded
spectrum as a table, an ``spPlate`` file holds those of a plate as images. Both have
flux in 1e-17 erg / (s cm2 Angstrom) and wavelengths of constant spacing in log10.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._fits import FitsFile
from .source import Arm, HeldRows, Source, assemble, make_arm

__all__ = ["is_spec", "is_spplate", "spec_source", "spplate_source"]

_SPECTRUM = ["FLUX", "IVAR", "LOGLAM"]
_OBJECT = ["THING_ID", "PLUG_RA", "PLUG_DEC", "PLATE", "MJD", "FIBERID", "OBJTYPE"]
_PLUGGED = {"RA": "PLUG_RA", "DEC": "PLUG_DEC"}
_FLUX, _IVAR, _AND_MASK, _PLUGMAP = 0, 1, 2, 5  # HDUs of an spPlate file


def is_spec(file: FitsFile) -> bool:
    """Whether a file holds one spectrum as SDSS writes it.

    Parameters
    ----------
    file
        Any FITS file.

    Returns
    -------
    bool
    """
    return len(file) > 1 and set(_SPECTRUM) <= set(file.column_names(1))


def is_spplate(file: FitsFile) -> bool:
    """Whether a file holds the spectra of a plate as SDSS writes them.

    Parameters
    ----------
    file
        Any FITS file.

    Returns
    -------
    bool
    """
    return (
        len(file) > _PLUGMAP
        and len(file.image_shape(_FLUX)) == 2
        and file.header(_FLUX).get("COEFF1") is not None
    )


def spec_source(file: FitsFile) -> Source:
    """The spectrum of a ``spec`` file.

    Parameters
    ----------
    file
        The open file; the source closes it.

    Returns
    -------
    Source
        Of one row; TARGETID is the THING_ID, -1 where there is none.

    Raises
    ------
    SpectraError
        If the file is damaged, or its parts contradict each other.
    """
    table = file.columns(1, [*_SPECTRUM, "AND_MASK"])
    rows = {
        name: HeldRows(values.reshape(1, -1), f"{file.path}[1], column {name}")
        for name, values in table.items()
    }
    with np.errstate(over="ignore"):
        wave = 10.0 ** table["LOGLAM"].astype(np.float64)
    arm = make_arm(
        "SDSS",
        wave,
        rows["FLUX"],
        rows["IVAR"],
        rows.get("AND_MASK"),
        about_wave=rows["LOGLAM"].problem,
    )
    header = file.header(0)
    table = file.columns(2, _OBJECT) if _is_table(file, 2) else {}
    known = {name: values for name, values in table.items() if len(values) == 1}
    for column, keys in (
        ("PLATE", ("PLATEID", "PLATE")),
        ("MJD", ("MJD",)),
        ("FIBERID", ("FIBERID",)),
        ("PLUG_RA", ("PLUG_RA",)),
        ("PLUG_DEC", ("PLUG_DEC",)),
    ):
        for key in keys:
            if column not in known and header.get(key) is not None:
                known[column] = np.asarray([header.get(key)])
    return _source(file, arm, known)


def spplate_source(file: FitsFile) -> Source:
    """The spectra of an ``spPlate`` file.

    Parameters
    ----------
    file
        The open file; the source closes it.

    Returns
    -------
    Source
        TARGETID is the THING_ID of the ``spZbest`` file of the same plate and night
        that lies beside it, -1 where there is none.

    Raises
    ------
    SpectraError
        If a file is damaged, or its parts contradict each other.
    """
    header = file.header(_FLUX)
    flux, ivar = file.image(_FLUX), file.image(_IVAR)
    npix = flux.shape[1]
    start, step = header.get("COEFF0"), header.get("COEFF1")
    if not all(isinstance(value, (int, float)) for value in (start, step)):
        raise flux.problem("COEFF0 and COEFF1 must be numbers")
    with np.errstate(over="ignore"):
        wave = 10.0 ** (start + step * np.arange(npix, dtype=np.float64))
    mask = file.image(_AND_MASK) if len(file.image_shape(_AND_MASK)) == 2 else None
    arm = make_arm("SDSS", wave, flux, ivar, mask)
    known = file.columns(_PLUGMAP, ["FIBERID", "RA", "DEC", "OBJTYPE"])
    n = flux.shape[0]
    for values in known.values():
        if len(values) != n:
            what = f"has {len(values)} rows for {n} spectra"
            raise file.problem(_PLUGMAP, what)
    known = {_PLUGGED.get(name, name): values for name, values in known.items()}
    known.setdefault("FIBERID", np.arange(1, n + 1))
    for column, key in (("PLATE", "PLATEID"), ("MJD", "MJD")):
        if header.get(key) is not None:
            known[column] = np.full(n, header.get(key))
    things = _thing_ids(file.path)
    if things:
        fibers = known["FIBERID"].tolist()
        known["THING_ID"] = np.asarray([things.get(fiber, -1) for fiber in fibers])
    return _source(file, arm, known)


def _is_table(file: FitsFile, hdu: int) -> bool:
    return len(file) > hdu and bool(file.column_names(hdu))


def _thing_ids(path: Path) -> dict[int, int]:
    """THING_ID by FIBERID from the ``spZbest`` file beside an ``spPlate`` file."""
    name = path.name.replace("spPlate", "spZbest", 1)
    if name == path.name or not path.with_name(name).exists():
        return {}
    file = FitsFile(path.with_name(name))
    try:
        table = file.columns(1, ["FIBERID", "THING_ID"])
    finally:
        file.close()
    if len(table) < 2:
        return {}
    return dict(zip(table["FIBERID"].tolist(), table["THING_ID"].tolist(), strict=True))


def _source(file: FitsFile, arm: Arm, known: dict[str, NDArray[Any]]) -> Source:
    """The spectra with what is known of them under the names of the output."""
    n = arm.flux.shape[0]
    identifiers: dict[str, NDArray[Any]] = {
        name: np.asarray(known[name])
        for name in ("PLATE", "MJD", "FIBERID")
        if name in known
    }
    if "THING_ID" in known:
        things = known["THING_ID"].astype(np.int64)
        identifiers["TARGETID"] = np.where(things > 0, things, -1)
    if "PLUG_RA" in known and "PLUG_DEC" in known:
        identifiers["TARGET_RA"] = known["PLUG_RA"]
        identifiers["TARGET_DEC"] = known["PLUG_DEC"]
    target = None
    if "OBJTYPE" in known:
        objtype = np.char.strip(known["OBJTYPE"].astype("U"))
        target = objtype != "SKY"
    return assemble(
        str(file.path),
        [arm],
        identifiers={name: v.reshape(n) for name, v in identifiers.items()},
        target=target,
        closing=(file.close,),
    )
