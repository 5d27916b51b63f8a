"""Spectra of SDSS, from its first release to SDSS-V.

The data model of SDSS, https://data.sdss.org/datamodel: a ``spec`` file is one coadded
spectrum as a table, an ``spPlate`` or ``spField`` file holds those of a plate or field
as images, and an ``spSpec`` file of the releases up to DR7 is an image of one spectrum.
All have flux in 1e-17 erg / (s cm2 Angstrom) and wavelengths of constant spacing in
log10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from ._fits import FitsFile
from ._units import conversion
from .source import IDENTIFIERS, Arm, HeldRows, Source, identify

_SPECTRUM = ["FLUX", "IVAR", "LOGLAM"]
# Columns of a table of objects. Where it lacks them, the first header may have them.
_OBJECT = [
    *("THING_ID", "OBJTYPE", "RA", "DEC", "PLUG_RA", "PLUG_DEC", "PLATE", "MJD"),
    *("FIBERID", "FIELD", "CATALOGID", "ICATALOGID", "SDSS_ID"),
]
_KEYWORDS = [
    *("PLATEID", "PLATE", "MJD", "FIBERID", "FIELDID", "FIELD"),
    *("PLUG_RA", "PLUG_DEC", "RAOBJ", "DECOBJ"),
]
# What tables of results call them; the last of a name counts. An ICATALOGID is a
# CATALOGID that is no text, and PLUG_RA is of the fiber where RA is of a catalogue.
_NAMES = {
    **dict.fromkeys(("RA", "PLUG_RA", "RAOBJ"), "TARGET_RA"),
    **dict.fromkeys(("DEC", "PLUG_DEC", "DECOBJ"), "TARGET_DEC"),
    **{"PLATEID": "PLATE", "FIELDID": "FIELD", "ICATALOGID": "CATALOGID"},
}
_FLUX, _IVAR, _AND_MASK, _PLUGMAP = 0, 1, 2, 5  # HDUs of an spPlate file
_NOISE, _MASK = 2, 3  # rows of the image of an spSpec file, after flux and flux again

# BUNIT of spSpec files, where a square was forgotten.
_MISSPELT = "1.0E-17 erg/cm/s/Ang"

# The bits of SPPIXMASK, https://www.sdss4.org/dr17/algorithms/bitmasks/#SPPIXMASK, that
# say that a pixel is bad. Bits 0 to 15 are remarks on the whole fiber, and the others
# on pixels that can be used: near a bad one, of low throughput, or partly rejected.
_BAD_BITS = {
    "FULLREJECT": 18,
    "NOSKY": 22,
    "BRIGHTSKY": 23,
    "NODATA": 24,
    "COMBINEREJ": 25,
    "BADFLUXFACTOR": 26,
    "BADSKYCHI": 27,
    "REDMONSTER": 28,
}
_BAD = sum(1 << bit for bit in _BAD_BITS.values())


def is_spec(file: FitsFile) -> bool:
    """Tell whether a file holds one spectrum as a table."""
    return len(file) > 1 and set(_SPECTRUM) <= set(file.column_names(1))


def is_spspec(file: FitsFile) -> bool:
    """Tell whether a file holds one spectrum as the rows of an image."""
    rows = file.image_shape(_FLUX)[:-1]
    alone = len(file) == 1 or not file.image_shape(_IVAR)
    return rows in {(4,), (5,)} and alone and _is_log(file)


def is_spplate(file: FitsFile) -> bool:
    """Tell whether a file holds the spectra of a plate or field as images."""
    shape = file.image_shape(_FLUX)
    return len(file) > _PLUGMAP and len(shape) == 2 and _is_log(file)


def _is_log(file: FitsFile) -> bool:
    """Tell whether the first header has a spacing in log10."""
    return file.value(_FLUX, "COEFF1") is not None


def spec_source(file: FitsFile) -> Source:
    """Make a source of the one spectrum of a ``spec`` file."""
    table = file.columns(1, [*_SPECTRUM, "AND_MASK"])
    for name, values in table.items():
        if values.dtype.kind not in "iuf":
            raise file.problem(1, f"column {name} has {values.dtype}, and no numbers")
    bunit = _bunit(file, 1) or _bunit(file, 0)
    rows = {
        name: HeldRows(values.reshape(1, -1), f"{file.path}[1], column {name}", unit)
        for name, values in table.items()
        for unit in [file.column_unit(1, name) or (bunit if name == "FLUX" else "")]
    }
    wave = _power(table["LOGLAM"].reshape(-1))
    flux, ivar, loglam = (rows[name] for name in _SPECTRUM)
    mask = rows.get("AND_MASK")
    arm = Arm("SDSS", wave, flux, ivar, mask, loglam.problem, _BAD)
    known = file.columns(2, _OBJECT) if len(file) > 2 and file.column_names(2) else {}
    single = all(len(values) == 1 for values in known.values())
    return _source(file, arm, known if single else {}, 2)


def spspec_source(file: FitsFile) -> Source:
    """Make a source of the one spectrum of an ``spSpec`` file."""
    image = file.image(_FLUX)
    values = image.read()
    noise = values[_NOISE].astype(np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        ivar = np.where(noise > 0, noise**-2.0, 0.0)
    name = f"{file.path}[{_FLUX}]"
    unit = _bunit(file, _FLUX)
    if conversion(unit, _MISSPELT):
        unit = ""
    flux = HeldRows(values[:1], name, unit)
    rows = ivar.reshape(1, -1), values[_MASK : _MASK + 1]
    ivar_rows, mask = (HeldRows(x, name) for x in rows)
    wave = _grid(file, image.shape[1])
    arm = Arm("SDSS", wave, flux, ivar_rows, mask, bad_bits=_BAD)
    objtype = file.value(_FLUX, "OBJTYPE")
    known = {} if objtype is None else {"OBJTYPE": np.asarray([str(objtype)])}
    return _source(file, arm, known, _FLUX)


def spplate_source(file: FitsFile) -> Source:
    """Make a source of an ``spPlate`` file, with targets of the ``spZbest`` file."""
    flux, ivar = file.image(_FLUX), file.image(_IVAR)
    n, npix = flux.shape
    mask = file.image(_AND_MASK) if len(file.image_shape(_AND_MASK)) == 2 else None
    arm = Arm("SDSS", _grid(file, npix), flux, ivar, mask, bad_bits=_BAD)
    known = file.columns(_PLUGMAP, _OBJECT, n)
    known.setdefault("FIBERID", np.arange(1, n + 1))
    things = _thing_ids(file)
    if things:
        fibers = known["FIBERID"].ravel().tolist()
        known["THING_ID"] = np.asarray([things.get(fiber, -1) for fiber in fibers])
    return _source(file, arm, known, _PLUGMAP)


def _bunit(file: FitsFile, hdu: int) -> str:
    """Give the unit that the header of an HDU names; empty where there is none."""
    return str(file.value(hdu, "BUNIT") or "").strip()


def _grid(file: FitsFile, npix: int) -> NDArray[np.float64]:
    """Make the wavelengths that a header gives by their start and spacing in log10."""
    start, step = file.value(_FLUX, "COEFF0"), file.value(_FLUX, "COEFF1")
    if not all(isinstance(value, (int, float)) for value in (start, step)):
        raise file.problem(_FLUX, "COEFF0 and COEFF1 must be numbers")
    return _power(start + step * np.arange(npix, dtype=np.float64))


def _power(loglam: NDArray[Any]) -> NDArray[np.float64]:
    """Give wavelengths of their log10; too large ones are infinite, and refused."""
    with np.errstate(over="ignore"):
        return np.asarray(10.0 ** loglam.astype(np.float64))


def zbest_path(path: Path) -> Path:
    """Name the ``spZbest`` file beside an ``spPlate`` file; else the file itself."""
    name = path.name.replace("spPlate", "spZbest", 1)
    return path if name == path.name else path.with_name(name)


def with_zbest(paths: Iterable[Path]) -> list[Path]:
    """Add to files those that are read with them."""
    return list(dict.fromkeys(p for path in paths for p in (path, zbest_path(path))))


def _thing_ids(plate: FitsFile) -> dict[int, int]:
    """Read THING_ID by FIBERID from the ``spZbest`` file beside an ``spPlate`` file."""
    beside = zbest_path(plate.path)
    if beside == plate.path or not beside.exists():
        return {}
    with FitsFile(beside) as file:
        for name, key in (("PLATE", "PLATEID"), ("MJD", "MJD")):
            wanted = plate.value(_FLUX, key)
            for values in file.columns(1, [name]).values():
                if isinstance(wanted, int) and np.any(values != wanted):
                    what = f"has another {name} than {wanted} of {plate.path.name}"
                    raise file.problem(1, what)
        table = file.columns(1, ["FIBERID", "THING_ID"])
        if len(table) < 2:
            return {}
        found = {"FIBERID": table["FIBERID"], "TARGETID": table["THING_ID"]}
        size = len(table["FIBERID"])
        found = identify(found, size, lambda what: file.problem(1, what))
    return dict(zip(*(values.tolist() for values in found.values()), strict=True))


def _source(
    file: FitsFile, arm: Arm, columns: Mapping[str, NDArray[Any]], hdu: int
) -> Source:
    """Make a source of an arm, and of what an HDU and the first header say of it."""
    n = arm.flux.shape[0]
    found = {_NAMES.get(name, name): values for name, values in columns.items()}
    for key in _KEYWORDS:
        if (value := file.value(0, key)) not in (None, ""):
            found.setdefault(_NAMES.get(key, key), np.full(n, value))
    things = found.pop("THING_ID", None)
    if things is not None:
        found["TARGETID"] = things

    def problem(what: str) -> SpectraError:
        return file.problem(hdu, what)

    known = identify({k: _numbers(k, x) for k, x in found.items()}, n, problem)
    if things is not None:  # 0 or less where there is none
        known["TARGETID"] = np.where(known["TARGETID"] > 0, known["TARGETID"], -1)
    objtype = known.pop("OBJTYPE", None)
    target = None
    if objtype is not None:  # SDSS-V has SKY_BOSS and OPS_SKY as well
        target = np.char.find(np.char.upper(objtype.astype("U")), "SKY") < 0
    return Source(
        str(file.path), (arm,), identifiers=known, target=target, closing=(file.close,)
    )


def _numbers(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Read integers that are written as texts, as -1 where a text is none."""
    if not IDENTIFIERS.get(name, "").startswith("i") or values.dtype.kind not in "SU":
        return values
    texts = np.char.strip(values.astype("U")).ravel().tolist()
    found = [int(text) if re.fullmatch(r"\d{1,19}", text) else -1 for text in texts]
    found = [number if number < 1 << 63 else -1 for number in found]
    return np.asarray(found, dtype=np.int64).reshape(values.shape)
