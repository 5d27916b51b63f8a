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
from .source import IDENTIFIERS, Arm, HeldRows, Source

_FIBER = ("PLATE", "MJD", "FIBERID")
_SPECTRUM = ["FLUX", "IVAR", "LOGLAM"]
_OBJECT = ["THING_ID", "PLUG_RA", "PLUG_DEC", *_FIBER, "OBJTYPE"]
# Identifiers by what SDSS calls them, with or without PLUG_ before it.
_NAMES = {"RA": "TARGET_RA", "DEC": "TARGET_DEC", "PLATEID": "PLATE"}
_FLUX, _IVAR, _AND_MASK, _PLUGMAP = 0, 1, 2, 5  # HDUs of an spPlate file
# Columns that a table of objects may lack, and keywords of the first header for them.
_KEYWORDS = ("PLATEID", *_FIBER, "PLUG_RA", "PLUG_DEC")


def is_spec(file: FitsFile) -> bool:
    """Tell whether a file holds one spectrum as SDSS writes it."""
    return len(file) > 1 and set(_SPECTRUM) <= set(file.column_names(1))


def is_spplate(file: FitsFile) -> bool:
    """Tell whether a file holds the spectra of a plate as SDSS writes them."""
    if len(file) <= _PLUGMAP or len(file.image_shape(_FLUX)) != 2:
        return False
    return file.header(_FLUX).get("COEFF1") is not None


def spec_source(file: FitsFile) -> Source:
    """Make a source of the one spectrum of a ``spec`` file."""
    table = file.columns(1, [*_SPECTRUM, "AND_MASK"])
    rows = {
        name: HeldRows(values.reshape(1, -1), f"{file.path}[1], column {name}", unit)
        for name, values in table.items()
        for unit in [file.column_unit(1, name)]
    }
    with np.errstate(over="ignore"):
        wave = 10.0 ** table["LOGLAM"].astype(np.float64)
    flux, ivar, loglam = (rows[name] for name in _SPECTRUM)
    arm = Arm("SDSS", wave, flux, ivar, rows.get("AND_MASK"), loglam.problem)
    known = file.columns(2, _OBJECT) if len(file) > 2 and file.column_names(2) else {}
    known = {name: values for name, values in known.items() if len(values) == 1}
    return _source(file, arm, known)


def spplate_source(file: FitsFile) -> Source:
    """Make a source of an ``spPlate`` file, with targets of the ``spZbest`` file."""
    header = file.header(_FLUX)
    flux, ivar = file.image(_FLUX), file.image(_IVAR)
    n, npix = flux.shape
    start, step = header.get("COEFF0"), header.get("COEFF1")
    if not all(isinstance(value, (int, float)) for value in (start, step)):
        raise flux.problem("COEFF0 and COEFF1 must be numbers")
    with np.errstate(over="ignore"):
        wave = 10.0 ** (start + step * np.arange(npix, dtype=np.float64))
    mask = file.image(_AND_MASK) if len(file.image_shape(_AND_MASK)) == 2 else None
    arm = Arm("SDSS", wave, flux, ivar, mask)
    known = file.columns(_PLUGMAP, ["FIBERID", "RA", "DEC", "OBJTYPE"], n)
    known.setdefault("FIBERID", np.arange(1, n + 1))
    things = _thing_ids(file.path)
    if things:
        fibers = known["FIBERID"].tolist()
        known["THING_ID"] = np.asarray([things.get(fiber, -1) for fiber in fibers])
    return _source(file, arm, known)


def _thing_ids(path: Path) -> dict[int, int]:
    """Read THING_ID by FIBERID from the ``spZbest`` file beside an ``spPlate`` file."""
    beside = path.with_name(path.name.replace("spPlate", "spZbest", 1))
    if beside == path or not beside.exists():
        return {}
    with FitsFile(beside) as file:
        table = file.columns(1, ["FIBERID", "THING_ID"])
    if len(table) < 2:
        return {}
    return dict(zip(table["FIBERID"].tolist(), table["THING_ID"].tolist(), strict=True))


def _identifier(name: str) -> str:
    """Give the name that a column or keyword of SDSS has in tables of results."""
    return _NAMES.get(name.removeprefix("PLUG_"), name)


def _source(file: FitsFile, arm: Arm, known: dict[str, NDArray[Any]]) -> Source:
    """Make a source of an arm, and of what is known by SDSS' names of its spectra."""
    n, header = arm.flux.shape[0], file.header(0)
    known = {_identifier(name): values for name, values in known.items()}
    for key in _KEYWORDS:
        if header.get(key) is not None:
            known.setdefault(_identifier(key), np.full(n, header.get(key)))
    if "THING_ID" in known:  # -1 where there is none
        things = known["THING_ID"].astype(np.int64)
        known["TARGETID"] = np.where(things > 0, things, -1)
    target = None
    if "OBJTYPE" in known:
        target = np.char.strip(known["OBJTYPE"].astype("U")) != "SKY"
    return Source(
        str(file.path),
        (arm,),
        identifiers={k: known[k].reshape(n) for k in IDENTIFIERS if k in known},
        target=target,
        closing=(file.close,),
    )
