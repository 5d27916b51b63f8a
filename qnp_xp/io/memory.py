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
from ._units import FLUX_UNIT, conversion, unit_name
from .source import IDENTIFIERS, Arm, HeldRows, Rows, Source, identify, science_targets

_HELP = (
    "expected a file, or (wave, flux, ivar), or a list of such, one for each arm, or"
    " spectra of specutils, or records of sparclclient"
)
_RECORD = ("wavelength", "flux", "ivar")
# The power of an uncertainty that is an inverse variance.
_POWERS = {"ivar": 1, "var": -1, "std": -2}
# Arms that share more than this part of the shorter one are no arms of one spectrum.
_SHARED = 0.5
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
        and not any(map(_is_spectrum, item))  # which have a shape as well
        and all(hasattr(part, "shape") or _is_numbers(part) for part in item)
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
    """Take each item for an arm, or for an object where they share wavelengths."""
    unit = unit_name(items[0][1])
    arms = [_arm(f"arm {i}", *item, unit=unit) for i, item in enumerate(items)]
    return Source("arrays", (_stack(arms),) if _are_objects(arms) else tuple(arms))


def _arm(
    origin: str,
    wave: Any,
    flux: Any,
    ivar: Any,
    *,
    unit: str,
    ivar_unit: str | None = None,
    mask: Any = None,
) -> Arm:
    """Make an arm of arrays, with flux in a unit, or without any for ``""``.

    Pixels that an array itself hides have no weight.
    """
    hidden = [_hidden(x) for x in (wave, flux, ivar)]
    own = unit_name(flux)
    if own and conversion(own, FLUX_UNIT) is None:
        msg = f"flux is in {own}, and is needed in {FLUX_UNIT} or a multiple"
        raise SpectraError(f"{origin}: {msg}")
    ivar_unit = unit_name(ivar) if ivar_unit is None else ivar_unit
    if own and not ivar_unit:
        ivar_unit = f"({own})-2"
    flux = _in_unit(_rows(flux, f"{origin}: flux"), own, unit, 1, f"{origin}: flux")
    ivar = _rows(ivar, f"{origin}: ivar")
    ivar = _in_unit(ivar, ivar_unit, unit, -2, f"{origin}: ivar")
    shape = tuple(ivar.shape)
    for pixels in hidden:
        if np.any(pixels) and np.atleast_2d(pixels).shape in {shape, (1, shape[-1])}:
            ivar = to_host(ivar)
            ivar = np.where(pixels, 0, ivar).astype(ivar.dtype)
    return Arm(
        origin.rpartition(" ")[2],
        _angstrom(wave, hidden[0], f"{origin}: wavelengths"),
        HeldRows(flux, f"{origin}: flux"),
        HeldRows(ivar, f"{origin}: ivar"),
        None if mask is None else HeldRows(np.atleast_2d(mask), f"{origin}: mask"),
    )


def _hidden(x: Any) -> NDArray[np.bool_]:
    """Find what an array hides: those of numpy and of astropy may have a mask."""
    mask = getattr(x, "mask", False) if isinstance(x, np.ndarray) else False
    return np.broadcast_to(mask, np.shape(x) if np.ndim(mask) else ())


def _numbers(x: Any, origin: str) -> Array:
    """Give real numbers without unit or mask, in the library that they came in."""
    try:
        xp = array_namespace(x)
    except TypeError:
        try:
            x = to_host(x)  # a list, or a column of a table
        except TypeError as err:
            raise TypeError(f"{origin}: {err}") from err
    if isinstance(x, np.ndarray):
        # Other libraries refuse the byte order that FITS files have.
        x = np.asarray(x).astype(x.dtype.newbyteorder("="), copy=False)
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, ("real floating", "integral")):
        raise TypeError(f"{origin}: real numbers are needed, got {x.dtype}")
    return x


def _rows(x: Any, origin: str) -> Array:
    """Give real numbers, a row for each spectrum."""
    x = _numbers(x, origin)
    return array_namespace(x).reshape(x, (1, -1)) if len(x.shape) == 1 else x


def _in_unit(x: Array, own: str, unit: str, power: int, origin: str) -> Array:
    """Convert numbers to a unit of flux raised to a power."""
    if own == unit == "":
        return x
    factor = conversion(own, unit, power)
    if factor is None:
        wanted = f"({unit}){power}" if unit and power != 1 else unit
        given = f"is in {own}" if own else "has no unit"
        msg = f"{origin} {given}, expected {wanted or 'no unit'} as of the first flux"
        raise SpectraError(msg)
    xp = array_namespace(x)
    return x if factor == 1 else xp.astype(x, xp.float64) * factor


def _angstrom(wave: Any, hidden: NDArray[np.bool_], origin: str) -> NDArray[np.float64]:
    """Give wavelengths on the host in Angstrom; hidden ones become those of others."""
    unit = unit_name(wave)
    factor = conversion(unit, "Angstrom") if unit else 1.0
    if factor is None:
        msg = f"{origin} are in {unit}, and are needed in Angstrom, nm or micron"
        raise SpectraError(msg)
    values = to_host(_numbers(wave, origin)).astype(np.float64) * factor
    if np.any(hidden):
        known = values[~hidden]
        values = np.where(hidden, known[0] if known.size else 1.0, values)
    return values


def _are_objects(arms: Sequence[Arm]) -> bool:
    """Tell spectra of several objects from arms of the same ones.

    Arms of one spectrograph share a few pixels at their ends, and spectra of different
    objects share most of their wavelengths.
    """
    ranges = [(a.wave.min(), a.wave.max()) if a.wave.size else (0, 0) for a in arms]
    in_order = sorted(ranges)
    counts = {arm.flux.shape[0] for arm in arms}
    if not any(map(_share, in_order, in_order[1:])) or len(counts) > 1:
        return False
    if counts == {1} and all(_share(ranges[0], other) for other in ranges[1:]):
        return True
    raise SpectraError(
        f"{len(arms)} arms cover the same wavelengths, which arms do not; for several"
        " objects give one (wave, flux, ivar) with flux of shape (n, npix), and for"
        " exposures of the same objects one whose pixels numpy.concatenate joins"
    )


def _share(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Tell whether two ranges share more than arms of one spectrograph do."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return bool(shared > _SHARED * min(one[1] - one[0], other[1] - other[0]))


def _from_specutils(spectra: Sequence[Any]) -> Source:
    """Take spectra for arms, as of DESI, or for spectra of their own, as of SDSS."""
    dimensions = {np.ndim(spectrum.flux) for spectrum in spectra}
    if dimensions not in ({1}, {2}):
        msg = f"spectra of 1 or of 2 dimensions are needed, not {sorted(dimensions)}"
        raise SpectraError(msg)
    unit = unit_name(spectra[0].flux)
    arms = [_spectrum(s, f"spectrum {i}", unit) for i, s in enumerate(spectra)]
    if dimensions == {1} or _are_objects(arms):
        return Source("spectra", (_stack(arms),))
    fibermap: Any = (getattr(spectra[0], "meta", None) or {}).get("fibermap")
    known = _known(lambda name: fibermap[name], arms[0].flux.shape[0], "fibermap")
    objtype = known.pop("OBJTYPE", None)
    target = None if objtype is None else science_targets(objtype)
    return Source("spectra", tuple(arms), identifiers=known, target=target)


def _spectrum(spectrum: Any, origin: str, unit: str) -> Arm:
    """Make an arm of a ``Spectrum``, with flux in a unit."""
    uncertainty = spectrum.uncertainty
    kind = getattr(uncertainty, "uncertainty_type", None)
    if kind not in _POWERS:
        msg = f"{origin}: its uncertainty is {kind}, and ivar, var or std is needed"
        raise SpectraError(msg)
    power, own = _POWERS[kind], unit_name(uncertainty)
    values = _numbers(uncertainty.array, f"{origin}: uncertainty")
    with np.errstate(divide="ignore", over="ignore"):
        ivar = to_host(values).astype(np.float64) ** power
    own = f"({own}){power:+d}" if own else ""
    parts = spectrum.wavelength, spectrum.flux, ivar
    return _arm(origin, *parts, unit=unit, ivar_unit=own, mask=spectrum.mask)


def _from_records(records: Sequence[Any]) -> Source:
    """Take each record for a spectrum."""
    arms = []
    unit = next((unit_name(r["flux"]) for r in records if "flux" in r), "")
    for index, record in enumerate(records):
        if record.get("sparcl_id", "") is None:
            arms.append(_arm(f"record {index}", *_NO_PIXEL, unit=""))
            continue
        for name in _RECORD:
            if record.get(name) is None:
                msg = f"record {index}: has no {name}; name it in retrieve(include=)"
                raise SpectraError(msg)
        arms.append(_arm(f"record {index}", *(record[x] for x in _RECORD), unit=unit))
    known = _known(lambda name: _record_column(records, name), len(records), "records")
    nothing = np.zeros((2, 0, 1))
    arm = _stack(arms) if arms else _arm("spectra", _NO_PIXEL[0], *nothing, unit="")
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


def _stack(arms: Sequence[Arm]) -> Arm:
    """Make one arm of spectra of any lengths, filled up with pixels without weight."""
    for arm in arms:
        if arm.flux.shape[0] != 1 or not arm.wave.size:
            raise arm.flux.problem(f"needs one spectrum, has shape {arm.flux.shape}")
    shape = len(arms), max(arm.wave.size for arm in arms)
    wave = np.empty(shape)
    for row, arm in zip(wave, arms, strict=True):
        row[:] = arm.wave[..., -1]
        row[: arm.wave.size] = arm.wave
    masks = [arm.mask for arm in arms]
    return Arm(
        "spectra",
        wave,
        _stack_rows([arm.flux for arm in arms], shape, "spectra: flux"),
        _stack_rows([arm.ivar for arm in arms], shape, "spectra: ivar"),
        _stack_rows(masks, shape, "spectra: mask") if any(masks) else None,
    )


def _stack_rows(
    parts: Sequence[Rows | None], shape: tuple[int, int], origin: str
) -> HeldRows:
    """Put the one row of each array below each other, filled up with zeros."""
    first, nothing = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=bool)
    rows = [to_host(part.read_rows(first))[0] if part else nothing for part in parts]
    stack = np.zeros(shape, dtype=np.result_type(*rows))
    for row, values in zip(stack, rows, strict=True):
        row[: values.size] = values
    return HeldRows(stack, origin)


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
