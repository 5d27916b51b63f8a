"""DESI's files of spectra: coadds, ``spectra-*`` files, cframes of an exposure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._fits import FitsFile
from .source import Arm, Source, assemble, make_arm, science_targets

__all__ = ["cframe_source", "coadd_source", "is_cframe", "is_coadd"]

_ARMS = ("B", "R", "Z")
_IDENTIFIERS = ["TARGETID", "TARGET_RA", "TARGET_DEC"]


def is_coadd(file: FitsFile) -> bool:
    """Whether a file has the HDUs of a coadd or a ``spectra-*`` file.

    Parameters
    ----------
    file
        Any FITS file.

    Returns
    -------
    bool
    """
    return any(f"{arm}_FLUX" in file for arm in (*_ARMS, "BRZ"))


def is_cframe(file: FitsFile) -> bool:
    """Whether a file has the HDUs of a cframe: one arm of one spectrograph.

    Parameters
    ----------
    file
        Any FITS file.

    Returns
    -------
    bool
    """
    return all(name in file for name in ("FLUX", "IVAR", "WAVELENGTH"))


def coadd_source(file: FitsFile) -> Source:
    """The spectra of a coadd or a ``spectra-*`` file.

    Parameters
    ----------
    file
        The open file; the source closes it.

    Returns
    -------
    Source

    Raises
    ------
    SpectraError
        If the file is damaged, or its parts contradict each other.
    """
    names = [arm for arm in _ARMS if f"{arm}_FLUX" in file] or ["BRZ"]
    arms = [_arm(file, name, f"{name}_") for name in names]
    missing = () if names == ["BRZ"] else _missing(arms)
    return _source(str(file.path), arms, [file], missing)


def cframe_source(files: Sequence[FitsFile], name: str) -> Source:
    """The spectra of the cframes of one spectrograph in one exposure.

    Parameters
    ----------
    files
        One open file for each arm, in any order; the source closes them.
    name
        What messages call the exposure.

    Returns
    -------
    Source

    Raises
    ------
    SpectraError
        If a file is damaged or not calibrated, or the files do not belong together.
    """
    arms: dict[str, Arm] = {}
    for file in files:
        camera = str(file.header("FLUX").get("CAMERA", ""))
        arm = (camera or file.path.name.removeprefix("cframe-"))[:1].upper()
        if arm not in _ARMS:
            raise file.problem("FLUX", f"CAMERA={camera!r} is not b, r or z")
        if arm in arms:
            raise file.problem("FLUX", f"a second file of arm {arm} in one exposure")
        arms[arm] = _arm(file, arm, "")
    ordered = [arms[arm] for arm in _ARMS if arm in arms]
    source = _source(name, ordered, files, _missing(ordered))
    for file in _mapped(files):
        for column, values in file.columns("FIBERMAP", ["TARGETID"]).items():
            if not np.array_equal(values, source.identifiers.get(column, values)):
                what = f"has other targets than {_mapped(files)[0].path.name}"
                raise file.problem("FIBERMAP", what)
    return source


def _mapped(files: Sequence[FitsFile]) -> list[FitsFile]:
    return [file for file in files if "FIBERMAP" in file]


def _missing(arms: Sequence[Arm]) -> tuple[str, ...]:
    return tuple(name for name in _ARMS if name not in {arm.name for arm in arms})


def _arm(file: FitsFile, name: str, prefix: str) -> Arm:
    """The arm whose HDUs have names with a prefix."""
    flux, ivar = file.image(f"{prefix}FLUX"), file.image(f"{prefix}IVAR")
    unit = str(file.header(f"{prefix}FLUX").get("BUNIT", ""))
    if any(word in unit.lower() for word in ("electron", "photon", "count", "adu")):
        raise flux.problem(f"is in {unit}, and flux is needed: a cframe, not a frame")
    wave = file.image(f"{prefix}WAVELENGTH")
    mask = file.image(f"{prefix}MASK") if f"{prefix}MASK" in file else None
    return make_arm(name, wave.read(), flux, ivar, mask, about_wave=wave.problem)


def _source(
    name: str,
    arms: Sequence[Arm],
    files: Sequence[FitsFile],
    missing: tuple[str, ...],
) -> Source:
    """The arms with what the fibermap of the first file says of them."""
    file = next(iter(_mapped(files)), None)
    identifiers: dict[str, NDArray[Any]] = {}
    target = None
    if file is not None:
        identifiers = file.columns("FIBERMAP", [*_IDENTIFIERS, "OBJTYPE"])
        for values in identifiers.values():
            if len(values) != arms[0].flux.shape[0]:
                what = f"has {len(values)} rows for {arms[0].flux.shape[0]} spectra"
                raise file.problem("FIBERMAP", what)
        objtype = identifiers.pop("OBJTYPE", None)
        if objtype is not None:
            target = science_targets(objtype)

    def columns(names: list[str]) -> dict[str, NDArray[Any]]:
        return {} if file is None else file.columns("FIBERMAP", names)

    return assemble(
        name,
        arms,
        missing=missing,
        identifiers=identifiers,
        target=target,
        columns=columns,
        closing=tuple(file.close for file in files),
    )
