"""Open files of spectra; what kind a file is of is told by its content.

Nothing of a spectrum is read before it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import NoSpectraError, SpectraError
from ._fits import FitsFile
from ._inputs import joint_name
from .desi import cframe_source, coadd_source, is_cframe, is_coadd
from .sdss import is_spec, is_spplate, spec_source, spplate_source
from .source import Source

__all__ = ["open_cframes", "open_exposure", "open_group", "open_spectra"]


def open_spectra(filename: str | Path) -> Source:
    """Open a file of spectra.

    Parameters
    ----------
    filename
        A coadd, ``spectra-*`` file or cframe of DESI, a ``spec-*`` or ``spPlate-*``
        file of SDSS; plain or compressed by gzip.

    Returns
    -------
    Source

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    SpectraError
        If it is damaged, holds no spectra, or its parts contradict each other.
    """
    path = Path(filename)
    if path.is_dir():
        msg = f"{path}: a folder without cframes; name files in it, as coadd-*.fits"
        raise IsADirectoryError(msg)
    file = FitsFile(path)
    try:
        if is_coadd(file):
            return coadd_source(file)
        if is_cframe(file):
            return cframe_source([file], str(path))
        if is_spec(file):
            return spec_source(file)
        if is_spplate(file):
            return spplate_source(file)
        raise _no_spectra(file)
    except BaseException:
        file.close()
        raise


def _no_spectra(file: FitsFile) -> SpectraError:
    """Tables that lie beside spectra are in order; anything else is a mistake."""
    tables = [hdu for hdu in range(len(file)) if file.column_names(hdu)]
    images = [hdu for hdu in range(len(file)) if file.image_shape(hdu)]
    msg = (
        f"{file.path}: holds no spectra of DESI or SDSS, only"
        f" {', '.join(file.names) or 'HDUs without a name'}"
    )
    catalog = any({"PLATE", "FIBERID"} <= set(file.column_names(hdu)) for hdu in tables)
    if catalog or (tables and not images):
        return NoSpectraError(msg)
    return SpectraError(msg)


def open_cframes(filenames: Sequence[str | Path]) -> Source:
    """Open the cframes of one spectrograph in one exposure.

    Parameters
    ----------
    filenames
        One file for each arm, in any order, plain or compressed by gzip.

    Returns
    -------
    Source

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectraError
        If a file is damaged or no cframe, or the files do not belong together.
    """
    paths = [Path(name) for name in filenames]
    files: list[FitsFile] = []
    try:
        for path in paths:
            files.append(FitsFile(path))
            if not is_cframe(files[-1]):
                msg = f"{path}: is no cframe: it needs FLUX, IVAR and WAVELENGTH"
                raise SpectraError(msg)
        return cframe_source(files, joint_name(paths))
    except BaseException:
        for file in files:
            file.close()
        raise


def open_group(paths: Sequence[Path]) -> Source:
    """Open a file, or files that belong together.

    Parameters
    ----------
    paths
        A group as `qnp_xp.io._inputs.group_inputs` returns it.

    Returns
    -------
    Source

    Raises
    ------
    FileNotFoundError, IsADirectoryError, SpectraError
        As for `open_spectra` and `open_cframes`.
    """
    return open_spectra(paths[0]) if len(paths) == 1 else open_cframes(paths)


def open_exposure(dir_name: str | Path, spec_number: int) -> Source:
    """Open the cframes of one spectrograph in the folder of an exposure.

    Parameters
    ----------
    dir_name
        Folder named for the exposure, as ``.../20210107/00071246``.
    spec_number
        Spectrograph (petal), 0 to 9.

    Returns
    -------
    Source

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
    paths = []
    for arm in "brz":
        stem = f"cframe-{arm}{spec_number}-{expid}.fits"
        present = [p for p in (folder / stem, folder / f"{stem}.gz") if p.exists()]
        paths += present[:1]
    if not paths:
        msg = f"{folder}: no cframe-[brz]{spec_number}-{expid}.fits or .fits.gz"
        raise FileNotFoundError(msg)
    return open_cframes(paths)
