"""Templates for fits of redshifts: the package's own, Redrock's, or those of a file."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from .._basis import Basis, Templates
from .._data import QUASAR_BASIS, data_file
from ..errors import SpectraError
from ._fits import FitsFile

_MOST = 20  # templates of a file: more of them fit anything


def read_basis(which: bool | str | Path) -> Basis | None:
    """Read the basis that a user names: True for the package's, False for none."""
    given: Any = which
    if isinstance(given, (bool, np.bool_)):
        return _read([data_file(QUASAR_BASIS)]) if given else None
    if not isinstance(given, (str, Path)):
        msg = f"fit must be a boolean, 'redrock' or a file, got {given!r}"
        raise TypeError(msg)
    return _read(_of_redrock() if given == "redrock" else [Path(given)])


def _of_redrock() -> list[Path]:
    """Find Redrock's newest templates of near and of far quasars."""
    folder = os.environ.get("RR_TEMPLATE_DIR")
    if not folder:
        msg = "fit basis redrock: $RR_TEMPLATE_DIR is not set; it names the folder of"
        raise ValueError(f"{msg} Redrock's templates")
    newest = []
    for kind in ("LOZ", "HIZ"):
        found = list(Path(folder).glob(f"rrtemplate-QSO-{kind}-v*.fits"))
        if not found:
            msg = f"{folder}: has no rrtemplate-QSO-{kind}-*.fits ($RR_TEMPLATE_DIR)"
            raise FileNotFoundError(msg)
        newest.append(max(found, key=_version))
    return newest


def _version(path: Path) -> list[int]:
    """Take the numbers of a version from the name of a file."""
    return [int(number) for number in re.findall(r"\d+", path.stem)]


def _read(paths: list[Path]) -> Basis:
    """Read the templates of all files."""
    sha, parts = hashlib.sha256(), []
    for path in paths:
        with FitsFile(path) as file:
            found = [_templates(file, hdu) for hdu in range(len(file))]
            file.content.seek(0)
            sha.update(file.content.read())
        parts += [part for part in found if part is not None]
    if not 1 <= len(parts) <= 2:
        what = f"has {len(parts)} sets of templates; one is needed, or two"
        raise SpectraError(f"{paths[0]}: {what} (images with CRVAL1 and CDELT1)")
    parts.sort(key=lambda part: -float(part.edges[0]))
    return Basis(tuple(paths), sha.hexdigest(), tuple(parts))


def _templates(file: FitsFile, hdu: int) -> Templates | None:
    """Read an image as Redrock's template files have it; None where it is another."""
    start, step = file.value(hdu, "CRVAL1"), file.value(hdu, "CDELT1")
    if len(file.image_shape(hdu)) != 2 or start is None or step is None:
        return None
    flux = np.asarray(file.image(hdu).read(), dtype=np.float64)
    count, npix = flux.shape
    try:
        edges = float(start) + float(step) * (np.arange(npix + 1) - 0.5)
    except (TypeError, ValueError) as err:
        raise file.problem(hdu, "CRVAL1 and CDELT1 are not numbers") from err
    sound = npix > 1 and float(step) > 0 and np.all(np.isfinite(flux))
    if not file.value(hdu, "LOGLAM"):
        sound = sound and edges[0] > 0
        edges = np.log10(np.where(edges > 0, edges, 1))
    if not (sound and 1 <= count <= _MOST and 2 <= edges[0] < edges[-1] <= 6):
        what = f"no 1 to {_MOST} templates of finite flux by rising wavelength"
        raise file.problem(hdu, f"{what} (Angstrom, or its log10 with LOGLAM)")
    return Templates(np.asarray(edges, dtype=np.float64), flux)
