"""Open files of spectra; what kind a file is of is told by its content.

Nothing of a spectrum is read before it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import NoSpectraError, SpectraError
from ._fits import FitsFile
from .desi import cframe_source, coadd_source, is_cframe, is_coadd
from .sdss import is_spec, is_spplate, spec_source, spplate_source
from .source import Source

__all__ = [
    "GROUPS",
    "cframes_in",
    "coadds_in",
    "group_inputs",
    "joint_name",
    "one_group",
    "open_cframes",
    "open_exposure",
    "open_group",
    "open_spectra",
    "read_lists",
    "stem",
]

_CFRAME = re.compile(r"cframe-([brz])(\d)-(\d+)\.fits(?:\.gz)?")


def cframes_in(folder: Path) -> list[Path]:
    """The cframes in the folder of an exposure.

    Parameters
    ----------
    folder
        As ``.../20210107/00071246``.

    Returns
    -------
    list of pathlib.Path
        Sorted; where a file is there plain and gzipped, the plain one.
    """
    paths = {p.name: p for p in folder.iterdir() if _CFRAME.fullmatch(p.name)}
    return [
        paths[name]
        for name in sorted(paths)
        if not (name.endswith(".gz") and name.removesuffix(".gz") in paths)
    ]


#: Folders of the coadds of a reduction, by the way in which its spectra are grouped.
GROUPS = {"cumulative": "tiles/cumulative/*/*", "healpix": "healpix/*/*/*/*"}


def coadds_in(specprod: Path, groups: Iterable[str]) -> list[Path]:
    """The coadds of a reduction.

    Parameters
    ----------
    specprod
        Its folder, as ``.../spectro/redux/loa``.
    groups
        ``"cumulative"`` for ``tiles/cumulative/TILE/NIGHT``, ``"healpix"`` for
        ``healpix/SURVEY/PROGRAM/PIXGROUP/PIXEL``.

    Returns
    -------
    list of pathlib.Path
        Sorted; where a file is there plain and gzipped, the plain one.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    found: list[Path] = []
    for group in dict.fromkeys(groups):
        plain = sorted(specprod.glob(f"{GROUPS[group]}/coadd-*.fits"))
        packed = set(specprod.glob(f"{GROUPS[group]}/coadd-*.fits.gz"))
        packed -= {path.with_name(f"{path.name}.gz") for path in plain}
        if not plain and not packed:
            msg = f"{specprod}: no {GROUPS[group]}/coadd-*.fits"
            raise FileNotFoundError(msg)
        found += sorted([*plain, *packed])
    return found


def read_lists(names: Iterable[str]) -> list[str]:
    """Put the names that lists hold in the place of the lists.

    Parameters
    ----------
    names
        Files, and lists of files as ``@list.txt``: one name a line; blank lines and
        those that begin with ``#`` do not count.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If a list cannot be read, or holds no names.
    """
    found: list[str] = []
    for name in names:
        if not name.startswith("@"):
            found.append(name)
            continue
        try:
            text = Path(name[1:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as err:
            msg = f"{name}: no list of files ({err})"
            raise ValueError(msg) from err
        lines = (line.strip() for line in text.splitlines())
        listed = [line for line in lines if line and not line.startswith("#")]
        if not listed:
            msg = f"{name}: holds no names of files"
            raise ValueError(msg)
        found += listed
    return found


def group_inputs(names: Iterable[str | Path]) -> list[tuple[Path, ...]]:
    """Sort what a user named into what is to be read together.

    Parameters
    ----------
    names
        Files, and folders of exposures.

    Returns
    -------
    list of tuple of pathlib.Path
        One file, or the cframes of one spectrograph in one exposure, in the order in
        which they were named first. What cannot be opened is a group of its own.
    """
    groups: dict[tuple[Path, str], list[Path]] = {}
    for name in names:
        path = Path(name)
        members = cframes_in(path) if path.is_dir() else []
        for member in members or [path]:
            groups.setdefault((member.parent, _exposure(member)), []).append(member)
    return [tuple(members) for members in groups.values()]


def one_group(spectra: Any) -> tuple[Path, ...] | None:
    """The files that a user means, which must belong together.

    Parameters
    ----------
    spectra
        A file, a folder of one exposure, a list of cframes, or anything else.

    Returns
    -------
    tuple of pathlib.Path, or None
        As of `group_inputs`; None where no files are meant, but arrays perhaps.

    Raises
    ------
    ValueError
        If the files do not belong together.
    """
    if isinstance(spectra, (str, Path)):
        spectra = [spectra]
    if not isinstance(spectra, (list, tuple)) or not spectra:
        return None
    if not all(isinstance(name, (str, Path)) for name in spectra):
        return None
    groups = group_inputs(spectra)
    if len(groups) > 1:
        names = ", ".join(str(group[0]) for group in groups[:3])
        msg = (
            f"{len(groups)} files or spectrographs, and one can be taken at a time:"
            f" {names}{', ...' if len(groups) > 3 else ''}"
        )
        raise ValueError(msg)
    return groups[0]


def _exposure(path: Path) -> str:
    """Cframes that differ in their arm alone have the same; other files, their name."""
    match = _CFRAME.fullmatch(path.name)
    return f"{match[2]}-{match[3]}" if match else path.name


def stem(paths: Sequence[Path]) -> str:
    """What outputs are named for.

    Parameters
    ----------
    paths
        One file, or the cframes of an exposure.

    Returns
    -------
    str
        The name of the file without its ending; ``cframe-0-00071246`` for cframes.
    """
    match = _CFRAME.fullmatch(paths[0].name)
    if match:
        return f"cframe-{match[2]}-{match[3]}"
    name = paths[0].name
    for ending in (".gz", ".fits", ".fit"):
        name = name.removesuffix(ending)
    return name


def joint_name(paths: Sequence[Path]) -> str:
    """What messages and headers call files that are read together.

    Parameters
    ----------
    paths
        One file, or the cframes of an exposure.

    Returns
    -------
    str
        ``DIR/cframe-[brz]0-00071246.fits`` for three arms.
    """
    matches = [_CFRAME.fullmatch(path.name) for path in paths]
    first = matches[0]
    if len(paths) == 1 or first is None:
        return ", ".join(str(path) for path in paths)
    arms = "".join(match[1] for match in matches if match)
    return str(paths[0].with_name(f"cframe-[{arms}]{first[2]}-{first[3]}.fits"))


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
        A group as `qnp_xp.io.open.group_inputs` returns it.

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
