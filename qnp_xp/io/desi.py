"""DESI's files of spectra: coadds, ``spectra-*`` files, cframes of an exposure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from ._fits import FitsFile
from ._units import ensure_angstrom
from .source import Arm, Source, identify, science_targets

_ARMS = ("B", "R", "Z")
#: Names of cframes: arm; spectrograph and exposure.
CFRAME = re.compile(r"cframe-([brz])(\d-\d+)\.fits(?:\.gz)?")
# Arms that are coadded to one have the name of those that there are: BRZ, or BR.
_FLUX = re.compile("([BRZ]{1,3})_FLUX")
# The name of the table before July 2021 comes second.
_FIBERMAPS = ("FIBERMAP", "COADD_FIBERMAP")


def is_coadd(file: FitsFile) -> bool:
    """Tell whether a file has the HDUs of a coadd or a ``spectra-*`` file."""
    return any(map(_FLUX.fullmatch, file.indices))


def is_cframe(file: FitsFile) -> bool:
    """Tell whether a file has the HDUs of a cframe: one arm of one spectrograph."""
    return {"FLUX", "IVAR", "WAVELENGTH"} <= file.indices.keys()


def coadd_source(file: FitsFile) -> Source:
    """Make a source of a coadd or a ``spectra-*`` file."""
    found = [match[1] for match in map(_FLUX.fullmatch, file.indices) if match]
    names = [arm for arm in _ARMS if arm in found] or [max(found, key=len)]
    arms = [_arm(file, name, f"{name}_") for name in names]
    return _source(str(file.path), arms, [file])


def cframe_source(files: Sequence[FitsFile], name: str) -> Source:
    """Make a source of cframes, one of each arm of a spectrograph in an exposure."""
    arms: dict[str, Arm] = {}
    for file in files:
        if not is_cframe(file):
            what = "is no cframe: it needs FLUX, IVAR and WAVELENGTH"
            raise SpectraError(f"{file.path}: {what}")
        camera = str(file.value("FLUX", "CAMERA") or "").strip()
        match = CFRAME.fullmatch(file.path.name)
        if camera:
            match = re.fullmatch(r"([BRZbrz])\d?", camera)
        if not match:
            raise file.problem("FLUX", f"CAMERA={camera!r} is not b, r or z")
        arm = match[1].upper()
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
    maps = [(file, [hdu for hdu in _FIBERMAPS if hdu in file]) for file in files]
    mapped = [(file, hdus[0]) for file, hdus in maps if hdus]
    wanted = ["TARGETID", "TARGET_RA", "TARGET_DEC", "OBJTYPE"]
    known = _fibers(*mapped[0], wanted, arms[0].flux.shape[0]) if mapped else {}
    objtype = known.pop("OBJTYPE", None)
    present = "".join(arm.name for arm in arms)
    source = Source(
        name,
        tuple(arms),
        missing=tuple(arm for arm in _ARMS if arm not in present),
        identifiers=known,
        target=None if objtype is None else science_targets(objtype),
        columns=lambda names: (
            mapped[0][0].columns(mapped[0][1], names) if mapped else {}
        ),
        closing=tuple(file.close for file in files),
    )
    for file, hdu in mapped[1:]:
        for column, targets in _fibers(file, hdu, ["TARGETID"], source.n).items():
            if not np.array_equal(targets, known.get(column, targets)):
                what = f"has other targets than {mapped[0][0].path.name}"
                raise file.problem(hdu, what)
    return source


def _fibers(
    file: FitsFile, hdu: str, wanted: list[str], n: int
) -> dict[str, NDArray[Any]]:
    """Read columns of a table of fibers."""
    found = file.columns(hdu, wanted, n)
    return identify(found, n, lambda what: file.problem(hdu, what))
