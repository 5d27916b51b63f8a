"""Open files of DESI spectra: coadds, ``spectra-*`` files, cframes of an exposure.

Nothing of a spectrum is read before it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import NoSpectraError, SpectraError
from ._fits import FitsFile, Image

__all__ = ["Arm", "SpectraFile", "open_exposure", "open_spectra"]

_ARMS = ("B", "R", "Z")
_FIBERMAP = ["TARGETID", "TARGET_RA", "TARGET_DEC", "OBJTYPE"]


@dataclass(frozen=True)
class Arm:
    """One arm of the spectrograph in a file.

    Attributes
    ----------
    name
        ``"B"``, ``"R"``, ``"Z"``, or ``"BRZ"`` for arms coadded together.
    wave
        Wavelengths in Angstrom, shape ``(npix,)``.
    flux, ivar, mask
        Images of shape ``(n, npix)``; a file may have no mask.
    """

    name: str
    wave: NDArray[np.float64]
    flux: Image
    ivar: Image
    mask: Image | None

    def read(
        self, rows: NDArray[np.int64], use_mask: bool
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Flux and inverse variance of some spectra.

        Parameters
        ----------
        rows
            Numbers of the spectra.
        use_mask
            Give no weight to pixels whose mask is not zero.

        Returns
        -------
        flux, ivar : numpy.ndarray
            Shape ``(rows.size, npix)``; flux in 1e-17 erg / (s cm2 Angstrom).

        Raises
        ------
        SpectraError
            If the file is damaged, or there is no mask and it is to be used.
        """
        flux, ivar = self.flux.read_rows(rows), self.ivar.read_rows(rows)
        if use_mask:
            if self.mask is None:
                name = self.flux.name.replace("FLUX", "MASK")
                raise self.flux.file.problem(name, "missing, and use_mask asks for it")
            ivar = np.where(self.mask.read_rows(rows) == 0, ivar, 0).astype(ivar.dtype)
        return _floating(flux), _floating(ivar)


def _floating(x: NDArray[Any]) -> NDArray[Any]:
    return x if x.dtype.kind == "f" else x.astype(np.float64)


@dataclass(frozen=True)
class SpectraFile:
    """An open file, or an exposure of several, of spectra; a context manager.

    Attributes
    ----------
    path
        The file, or the folder of the exposure.
    n
        Number of spectra.
    arms
        Those that are there.
    missing
        Names of the arms b, r, z that are not.
    fibermap
        The columns TARGETID, TARGET_RA, TARGET_DEC and OBJTYPE, those that are there.
    """

    path: Path
    n: int
    arms: tuple[Arm, ...]
    missing: tuple[str, ...]
    fibermap: dict[str, NDArray[Any]]
    _files: tuple[FitsFile, ...] = field(repr=False)

    def __enter__(self) -> SpectraFile:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def columns(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Further columns of the FIBERMAP, those of them that it has.

        Parameters
        ----------
        names
            Names of columns.

        Returns
        -------
        dict of numpy.ndarray
        """
        return self._files[0].columns("FIBERMAP", list(names))

    def read(
        self, rows: NDArray[np.int64], use_mask: bool = False
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]]:
        """Wavelength, flux and inverse variance of some spectra, arm by arm.

        Parameters
        ----------
        rows, use_mask
            As for `Arm.read`.

        Yields
        ------
        wave, flux, ivar : numpy.ndarray
        """
        for arm in self.arms:
            yield (arm.wave, *arm.read(rows, use_mask))


def _arm(file: FitsFile, name: str, prefix: str) -> Arm:
    """The arm whose HDUs have names with a prefix, its shapes checked."""
    flux, ivar = file.image(f"{prefix}FLUX"), file.image(f"{prefix}IVAR")
    wavelength = np.asarray(file.image(f"{prefix}WAVELENGTH").read(), dtype=np.float64)
    mask = file.image(f"{prefix}MASK") if f"{prefix}MASK" in file else None
    if len(flux.shape) != 2:
        raise file.problem(flux.name, f"needs 2 dimensions, has shape {flux.shape}")
    for image in (ivar, mask):
        if image is not None and image.shape != flux.shape:
            shapes = f"has shape {image.shape}, and {flux.name} {flux.shape}"
            raise file.problem(image.name, shapes)
    if wavelength.shape != flux.shape[1:]:
        shapes = f"has shape {wavelength.shape}, and {flux.name} {flux.shape}"
        raise file.problem(f"{prefix}WAVELENGTH", shapes)
    if not np.all(np.isfinite(wavelength)) or np.any(wavelength <= 0):
        raise file.problem(f"{prefix}WAVELENGTH", "must be finite and positive")
    return Arm(name, wavelength, flux, ivar, mask)


def _assemble(
    path: Path, arms: Sequence[Arm], files: Sequence[FitsFile]
) -> SpectraFile:
    """Check the arms against each other and against the fibermap."""
    n = arms[0].flux.shape[0]
    for arm in arms:
        if arm.flux.shape[0] != n:
            what = f"has {arm.flux.shape[0]} spectra, and {arms[0].flux.name} has {n}"
            raise arm.flux.file.problem(arm.flux.name, what)
    fibermap: dict[str, NDArray[Any]] = {}
    if "FIBERMAP" in files[0]:
        fibermap = files[0].columns("FIBERMAP", _FIBERMAP)
        if any(len(column) != n for column in fibermap.values()):
            rows = len(next(iter(fibermap.values())))
            raise files[0].problem("FIBERMAP", f"has {rows} rows for {n} spectra")
    names = {arm.name for arm in arms}
    missing = () if "BRZ" in names else tuple(a for a in _ARMS if a not in names)
    return SpectraFile(path, n, tuple(arms), missing, fibermap, tuple(files))


def open_spectra(filename: str | Path) -> SpectraFile:
    """Open a coadd or a ``spectra-*`` file.

    Parameters
    ----------
    filename
        The file, plain or compressed by gzip.

    Returns
    -------
    SpectraFile

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectraError
        If it is damaged, holds no spectra, or its parts contradict each other.
    """
    path = Path(filename)
    file = FitsFile(path)
    try:
        names = [arm for arm in _ARMS if f"{arm}_FLUX" in file]
        if not names and "BRZ_FLUX" in file:
            names = ["BRZ"]
        if not names:
            msg = (
                f"{path}: holds no spectra: no HDU B_FLUX, R_FLUX or Z_FLUX, only"
                f" {', '.join(file.names) or 'HDUs without a name'}"
            )
            tables = {"FIBERMAP", "PRIORS", "QN", "REDSHIFTS"} & set(file.names)
            raise NoSpectraError(msg) if tables else SpectraError(msg)
        arms = [_arm(file, name, f"{name}_") for name in names]
        return _assemble(path, arms, [file])
    except BaseException:
        file.close()
        raise


def open_exposure(dir_name: str | Path, spec_number: int) -> SpectraFile:
    """Open the cframes of one spectrograph in the folder of an exposure.

    Parameters
    ----------
    dir_name
        Folder named for the exposure, as ``.../20210107/00071246``.
    spec_number
        Spectrograph (petal), 0 to 9.

    Returns
    -------
    SpectraFile

    Raises
    ------
    FileNotFoundError
        If no arm of this spectrograph is there.
    SpectraError
        If a file is damaged, or the arms contradict each other.
    """
    folder = Path(dir_name)
    if spec_number not in range(10):
        msg = f"spec_number must be 0 to 9, got {spec_number!r}"
        raise ValueError(msg)
    expid = folder.resolve().name
    files: list[FitsFile] = []
    arms = []
    try:
        for name in _ARMS:
            stem = f"cframe-{name.lower()}{spec_number}-{expid}.fits"
            for path in (folder / stem, folder / f"{stem}.gz"):
                if path.exists():
                    files.append(FitsFile(path))
                    arms.append(_arm(files[-1], name, ""))
                    break
        if not arms:
            msg = f"{folder}: no cframe-[brz]{spec_number}-{expid}.fits or .fits.gz"
            raise FileNotFoundError(msg)
        return _assemble(folder, arms, files)
    except BaseException:
        for file in files:
            file.close()
        raise
