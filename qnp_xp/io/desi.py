"""DESI's files of spectra: coadds, ``spectra-*`` files, cframes of an exposure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from ._fits import FitsFile
from ._units import ensure_angstrom
from .source import Arm, Source, science_targets

_ARMS = ("B", "R", "Z")
_JOINED = "BRZ"  # what DESI calls arms that are coadded to one


def is_coadd(file: FitsFile) -> bool:
    """Tell whether a file has the HDUs of a coadd or a ``spectra-*`` file."""
    return any(f"{arm}_FLUX" in file for arm in (*_ARMS, _JOINED))


def is_cframe(file: FitsFile) -> bool:
    """Tell whether a file has the HDUs of a cframe: one arm of one spectrograph."""
    return {"FLUX", "IVAR", "WAVELENGTH"} <= file.indices.keys()


def coadd_source(file: FitsFile) -> Source:
    """Make a source of a coadd or a ``spectra-*`` file."""
    names = [arm for arm in _ARMS if f"{arm}_FLUX" in file] or [_JOINED]
    arms = [_arm(file, name, f"{name}_") for name in names]
    return _source(str(file.path), arms, [file])


def cframe_source(files: Sequence[FitsFile], name: str) -> Source:
    """Make a source of cframes, one of each arm of a spectrograph in an exposure."""
    arms: dict[str, Arm] = {}
    for file in files:
        if not is_cframe(file):
            what = "is no cframe: it needs FLUX, IVAR and WAVELENGTH"
            raise SpectraError(f"{file.path}: {what}")
        camera = str(file.header("FLUX").get("CAMERA", ""))
        arm = (camera or file.path.name.removeprefix("cframe-"))[:1].upper()
        if arm not in _ARMS:
            raise file.problem("FLUX", f"CAMERA={camera!r} is not b, r or z")
        if arm in arms:
            raise file.problem("FLUX", f"a second file of arm {arm} in one exposure")
        arms[arm] = _arm(file, arm, "")
    return _source(name, [arms[arm] for arm in _ARMS if arm in arms], files)


def _arm(file: FitsFile, name: str, prefix: str) -> Arm:
    """Make an arm of the HDUs whose names have a prefix."""
    flux, ivar = file.image(f"{prefix}FLUX"), file.image(f"{prefix}IVAR")
    wave = file.image(f"{prefix}WAVELENGTH")
    ensure_angstrom(wave)
    mask = file.image(f"{prefix}MASK") if f"{prefix}MASK" in file else None
    return Arm(name, wave.read().astype(np.float64), flux, ivar, mask, wave.problem)


def _source(name: str, arms: Sequence[Arm], files: Sequence[FitsFile]) -> Source:
    """Make a source of arms and of the FIBERMAP, which must be that of all files."""
    mapped = [file for file in files if "FIBERMAP" in file]
    known: dict[str, NDArray[Any]] = {}
    if mapped:
        wanted = ["TARGETID", "TARGET_RA", "TARGET_DEC", "OBJTYPE"]
        known = mapped[0].columns("FIBERMAP", wanted, arms[0].flux.shape[0])
    objtype = known.pop("OBJTYPE", None)
    present = {arm.name for arm in arms}
    source = Source(
        name,
        tuple(arms),
        missing=tuple(arm for arm in _ARMS if present.isdisjoint({arm, _JOINED})),
        identifiers=known,
        target=None if objtype is None else science_targets(objtype),
        columns=lambda names: mapped[0].columns("FIBERMAP", names) if mapped else {},
        closing=tuple(file.close for file in files),
    )
    for file in mapped[1:]:
        for column, targets in file.columns("FIBERMAP", ["TARGETID"]).items():
            if not np.array_equal(targets, known.get(column, targets)):
                what = f"has other targets than {mapped[0].path.name}"
                raise file.problem("FIBERMAP", what)
    return source
