"""Spectra that are in memory: arrays of any library, and other packages' objects.

Those of specutils and sparclclient are told by their attributes and not by their
types, so that neither package is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._xp.backend import Array, array_namespace, to_host
from ..errors import SpectraError
from .source import IDENTIFIERS, Arm, HeldRows, Source, identify, science_targets

_HELP = (
    "expected a file, or (wave, flux, ivar), or a list of such, one for each arm, or"
    " spectra of specutils, or records of sparclclient"
)
# Per wavelength and not per frequency: that is what the networks were trained on.
_FLUX_UNIT = "erg / (s cm2 Angstrom)"
_RECORD = ("wavelength", "flux", "ivar")
_RECORD_NAMES = {
    **{"TARGETID": "targetid", "TARGET_RA": "ra", "TARGET_DEC": "dec"},
    **{"SPECID": "specid", "SPARCL_ID": "sparcl_id"},
}
_UNKNOWN = {"i": -1, "f": np.nan, "S": ""}
# Stands for a record that SPARCL does not have: a pixel without weight.
_NO_PIXEL = [np.full(1, 5000.0), np.zeros(1), np.zeros(1)]


def open_arrays(spectra: Any) -> Source:
    """Make a source of arrays, spectra of specutils or records of sparclclient."""
    retrieved = hasattr(spectra, "records")
    spectra = getattr(spectra, "records", spectra)
    kinds = {
        _is_arm: _from_arrays,
        _is_spectrum: _from_specutils,
        _is_record: _from_records,
    }
    if any(is_kind(spectra) for is_kind in kinds):
        spectra = [spectra]
    items = list(spectra) if isinstance(spectra, Sequence) else []
    if retrieved and not items:
        return _from_records(items)
    for is_kind, source in kinds.items():
        if items and all(map(is_kind, items)):
            return source(items)
    names = ", ".join(sorted({type(item).__name__ for item in items}))
    given = type(spectra).__name__ + (f" of {names}" if names else "")
    raise TypeError(f"{given}: {_HELP}")


def _is_arm(item: Any) -> bool:
    """Tell three arrays from three arms of three arrays, and from three spectra."""
    return (
        isinstance(item, (tuple, list))
        and len(item) == 3
        and all(hasattr(part, "shape") or _is_numbers(part) for part in item)
        and not any(map(_is_spectrum, item))  # which have a shape as well
    )


def _is_numbers(part: Any) -> bool:
    """Tell whether an object is a number, or a list of them."""
    while isinstance(part, list) and part:
        part = part[0]
    return isinstance(part, (int, float, np.number))


def _is_spectrum(item: Any) -> bool:
    """Tell whether an object is a ``Spectrum`` of specutils."""
    return all(hasattr(item, name) for name in ("flux", "wavelength", "uncertainty"))


def _is_record(item: Any) -> bool:
    """Tell whether an object is a record of sparclclient."""
    return isinstance(item, Mapping) and ("flux" in item or "sparcl_id" in item)


def _from_arrays(items: Sequence[Any]) -> Source:
    """Take each item for an arm."""
    arms = [_arm(f"arm {index}", *item) for index, item in enumerate(items)]
    return Source("arrays", tuple(arms))


def _arm(origin: str, wave: Any, flux: Any, ivar: Any) -> Arm:
    """Make an arm of arrays; pixels that a masked array hides have no weight."""
    _check_unit(flux, origin)
    hidden = [np.ma.getmaskarray(x) for x in (flux, ivar) if np.ma.isMaskedArray(x)]
    flux = _rows(flux, f"{origin}: flux")
    ivar = _rows(ivar, f"{origin}: ivar")
    for mask in hidden:
        if np.atleast_2d(mask).shape == tuple(ivar.shape):
            ivar = np.where(mask, 0, ivar)
    return Arm(
        origin.rpartition(" ")[2],
        _angstrom(wave, origin),
        HeldRows(flux, f"{origin}: flux"),
        HeldRows(ivar, f"{origin}: ivar"),
    )


def _rows(x: Any, origin: str) -> Array:
    """Give real numbers, a row for each spectrum, in the library that they came in."""
    x = getattr(x, "value", x)  # of a Quantity
    if isinstance(x, np.ndarray) or not hasattr(x, "shape"):
        x = np.asarray(x)
        # Other libraries refuse the byte order that FITS files have.
        x = x.astype(x.dtype.newbyteorder("="), copy=False)
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, ("real floating", "integral")):
        raise TypeError(f"{origin}: real numbers are needed, got {x.dtype}")
    return xp.reshape(x, (1, -1)) if len(x.shape) == 1 else x


def _check_unit(flux: Any, origin: str) -> None:
    """Refuse flux in a unit that is none of flux per wavelength."""
    unit = getattr(flux, "unit", None)
    if unit is None or str(unit) == "" or unit.is_equivalent(_FLUX_UNIT):
        return
    msg = f"{origin}: flux is in {unit}, and is needed in {_FLUX_UNIT} or a multiple"
    raise SpectraError(msg)


def _angstrom(wave: Any, origin: str) -> NDArray[np.float64]:
    """Give wavelengths on the host, converted to Angstrom if they have a unit."""
    if hasattr(wave, "to_value"):
        wave = wave.to_value("Angstrom")
    try:
        return to_host(wave).astype(np.float64)
    except (TypeError, ValueError) as err:
        raise TypeError(f"{origin}: wavelengths must be numbers ({err})") from err


def _from_specutils(spectra: Sequence[Any]) -> Source:
    """Take spectra for arms, as of DESI, or for spectra of their own, as of SDSS."""
    parts = [_specutils_parts(s, f"spectrum {i}") for i, s in enumerate(spectra)]
    dimensions = {np.ndim(flux) for _, flux, _ in parts}
    if dimensions == {1}:
        return Source("spectra", (_stack(parts),))
    if dimensions != {2}:
        msg = f"spectra of 1 or of 2 dimensions are needed, not {sorted(dimensions)}"
        raise SpectraError(msg)
    arms = tuple(_arm(f"spectrum {i}", *part) for i, part in enumerate(parts))
    fibermap: Any = (getattr(spectra[0], "meta", None) or {}).get("fibermap")
    known = _known(lambda name: fibermap[name], arms[0].flux.shape[0], "fibermap")
    objtype = known.pop("OBJTYPE", None)
    target = None if objtype is None else science_targets(objtype)
    return Source("spectra", arms, identifiers=known, target=target)


def _specutils_parts(spectrum: Any, origin: str) -> tuple[Any, Any, Any]:
    """Give wavelengths, flux and inverse variance of a ``Spectrum``."""
    _check_unit(spectrum.flux, origin)
    uncertainty = spectrum.uncertainty
    kind = getattr(uncertainty, "uncertainty_type", None)
    powers = {"ivar": 1, "var": -1, "std": -2}
    if kind not in powers:
        msg = f"{origin}: its uncertainty is {kind}, and ivar, var or std is needed"
        raise SpectraError(msg)
    with np.errstate(divide="ignore"):
        ivar = np.asarray(uncertainty.array, dtype=np.float64) ** powers[kind]
    if spectrum.mask is not None:
        ivar = np.where(spectrum.mask, 0, ivar)
    return _angstrom(spectrum.wavelength, origin), np.asarray(spectrum.flux.value), ivar


def _from_records(records: Sequence[Any]) -> Source:
    """Take each record for a spectrum."""
    parts = []
    for index, record in enumerate(records):
        if record.get("sparcl_id", "") is None:
            parts.append(_NO_PIXEL)
            continue
        for name in _RECORD:
            if record.get(name) is None:
                msg = f"record {index}: has no {name}; name it in retrieve(include=)"
                raise SpectraError(msg)
        parts.append([np.asarray(record[name], np.float64) for name in _RECORD])
    known = _known(lambda name: _record_column(records, name), len(records), "records")
    nothing = np.zeros((2, 0, 1))
    arm = _stack(parts) if parts else _arm("spectra", _NO_PIXEL[0], *nothing)
    return Source("records", (arm,), identifiers=known)


def _record_column(records: Sequence[Any], name: str) -> list[Any]:
    """Collect an identifier from records; the specid of DESI's is their TARGETID."""
    values = [record.get(_RECORD_NAMES[name]) for record in records]
    if name == "TARGETID":
        desi = [str(record.get("_dr", "")).startswith("DESI") for record in records]
        specids = [record.get("specid") for record in records]
        values = [
            specid if value is None and own else value
            for value, specid, own in zip(values, specids, desi, strict=True)
        ]
    if all(value is None for value in values):
        raise KeyError(name)
    unknown = _UNKNOWN[IDENTIFIERS[name][0]]
    return [unknown if value is None else value for value in values]


def _stack(parts: Sequence[Sequence[Any]]) -> Arm:
    """Make one arm of spectra of any lengths, filled up with pixels without weight."""
    for index, part in enumerate(parts):
        shapes = [np.shape(x) for x in part]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
            msg = f"spectrum {index}: wavelengths, flux and ivar have shapes {shapes}"
            raise SpectraError(msg)
    width = max(part[0].size for part in parts)
    wave, flux, ivar = np.zeros((3, len(parts), width))
    for row, part in enumerate(parts):
        size = part[0].size
        wave[row], flux[row, :size], ivar[row, :size] = part[0][-1], part[1], part[2]
        wave[row, :size] = part[0]
    return _arm("spectra", wave, flux, ivar)


def _known(
    column: Callable[[str], Any], n: int, origin: str
) -> dict[str, NDArray[Any]]:
    """Collect the identifiers, and OBJTYPE, that are there for n spectra."""
    known = {}
    for name in (*IDENTIFIERS, "OBJTYPE"):
        # A TypeError is where there is no table.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            known[name] = np.asarray(column(name))
    return identify(known, n, lambda what: SpectraError(f"{origin}: {what}"))
