"""Files of spectra as sources, and which files are read together.

The content of a file says of what kind it is, and the names of cframes which of them
belong together. Nothing of a spectrum is read before it is asked for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .._data import GROUPS
from .._text import explain, read_text
from ..errors import NoSpectraError, SpectraError
from ._files import ensure_name, real_path
from ._fits import FitsFile, open_files
from .desi import CFRAME, cframe_source, coadd_source, is_cframe, is_coadd
from .sdss import (
    is_spec,
    is_spplate,
    is_spspec,
    spec_source,
    spplate_source,
    spspec_source,
)
from .source import Source

_SDSS = {is_spec: spec_source, is_spspec: spspec_source, is_spplate: spplate_source}
# Tables that DESI's files of spectra begin with.
_BEFORE_SPECTRA = {"FIBERMAP", "COADD_FIBERMAP", "EXP_FIBERMAP", "SCORES"}

# What the header may call the telescopes of DESI and SDSS.
_TELESCOPES = re.compile("DESI|KPNO|MAYALL|SDSS|APO|LCO DU PONT", re.IGNORECASE)
# Surveys and instruments that other keywords may name; DESI has SURVEY='main' and more.
_OTHERS = re.compile(
    r"LAMOST|\b(GAMA|2dF|6dF|AAOmega|AAO|AAT|WHT|WEAVE|Subaru|PFS|4MOST|VISTA|ESO)\b",
    re.IGNORECASE,
)
# HDUs of flux, whose headers may name a survey as the first may.
_FLUX_HDU = re.compile("(?:.*_)?FLUX|COADD")
# HDUs by which what pipelines write beside spectra is told: of redrock (REDSHIFTS was
# ZBEST; models are of its fits), of fastspecfit, and of the steps before cframes.
_PRODUCTS = re.compile(
    "REDSHIFTS|ZBEST|[BRZ]{1,3}_MODEL|FASTSPEC|FASTPHOT|SKY|FLUXCALIB|FIBERFLAT"
    "|XTRACE|YTRACE|COEFF"
)


def cframes_in(folder: Path) -> list[Path]:
    """List the cframes in the folder of an exposure."""
    return _without_copies(p for p in folder.iterdir() if CFRAME.fullmatch(p.name))


def coadds_in(specprod: Path, groups: Iterable[str]) -> list[Path]:
    """List the coadds below a folder such as ``.../redux/loa``, in some of `GROUPS`."""
    found: list[Path] = []
    for group in dict.fromkeys(groups):
        pattern = f"{GROUPS[group]}/coadd-*.fits"
        coadds = [*specprod.glob(pattern), *specprod.glob(f"{pattern}.gz")]
        if not coadds:
            others = [name for name in GROUPS if any(specprod.glob(GROUPS[name]))]
            hint = f"; it has {', '.join(others)}" if others else ""
            raise FileNotFoundError(f"{specprod}: no {pattern}{hint}")
        found += _without_copies(coadds)
    return found


def _without_copies(paths: Iterable[Path]) -> list[Path]:
    """Sort files, without gzipped ones that are there unpacked as well."""
    found = set(paths)
    copies = {path.with_name(f"{path.name}.gz") for path in found}
    return sorted(found - copies)


def read_lists(names: Iterable[str]) -> list[str]:
    """Replace lists of files, named as ``@list.txt``, by the names in them.

    A list has one name a line. Blank lines and lines that begin with ``#`` are skipped.
    """
    found: list[str] = []
    for name in names:
        if not name.startswith("@"):
            found.append(name)
            continue
        try:
            text = read_text(Path(name[1:]))
        except (OSError, ValueError) as err:
            raise ValueError(f"{name}: no list of files ({explain(err)})") from err
        lines = (line.strip() for line in text.splitlines())
        listed = [line for line in lines if line and not line.startswith("#")]
        if not listed:
            raise ValueError(f"{name}: holds no names of files")
        found += listed
    return found


def group_inputs(names: Iterable[str | Path]) -> list[tuple[Path, ...]]:
    """Group files and folders of exposures by what is read together.

    A group is one file, or the cframes of one spectrograph in one exposure. Groups have
    the order of their first names. What cannot be opened is a group of its own.
    """
    groups: dict[tuple[Path, str], dict[str, Path]] = {}
    for name in names:
        ensure_name(name, "spectra")
        path = Path(name)
        members = cframes_in(path) if path.is_dir() else []
        for member in members or [path]:
            cframe = CFRAME.fullmatch(member.name)
            key = real_path(member.parent), cframe[2] if cframe else member.name
            # A file that is named twice is read once.
            groups.setdefault(key, {}).setdefault(member.name, member)
    return [tuple(members.values()) for members in groups.values()]


def groups_of(spectra: Any) -> list[tuple[Path, ...]] | None:
    """Group the files or folders that are meant; None where none are."""
    names = [spectra] if isinstance(spectra, (str, Path)) else spectra
    if not isinstance(names, (list, tuple)) or not names:
        return None
    if not all(isinstance(name, (str, Path)) for name in names):
        return None
    return group_inputs(names)


def one_group(spectra: Any) -> tuple[Path, ...] | None:
    """Give the one group that files or a folder make; None where no files are meant."""
    groups = groups_of(spectra)
    if groups is None:
        return None
    if len(groups) > 1:
        first = ", ".join(str(group[0]) for group in groups[:3])
        raise ValueError(
            f"{len(groups)} files or spectrographs, and one can be taken at a time:"
            f" {first}{', ...' if len(groups) > 3 else ''}"
        )
    return groups[0]


def stem(paths: Sequence[Path]) -> str:
    """Name the output of a group: a file's name without ending, or the exposure."""
    name = paths[0].name
    if match := CFRAME.fullmatch(name):
        return f"cframe-{match[2]}"
    for ending in (".gz", ".bz2", ".xz", ".fz", ".fits", ".fit"):
        name = name.removesuffix(ending)
    return name


def joint_name(paths: Sequence[Path]) -> str:
    """Name a group in messages and headers, as ``DIR/cframe-[brz]0-00071246.fits``."""
    cframes = [match for p in paths if (match := CFRAME.fullmatch(p.name))]
    if len(paths) == 1 or not cframes:
        return ", ".join(str(path) for path in paths)
    arms = "".join(match[1] for match in cframes)
    return str(paths[0].with_name(f"cframe-[{arms}]{cframes[0][2]}.fits"))


def open_group(paths: Sequence[Path]) -> Source:
    """Open a file, or the cframes of one spectrograph in one exposure."""
    for path in paths:
        if path.is_dir():
            what = "a folder without cframes; name files in it, as coadd-*.fits"
            raise IsADirectoryError(f"{path}: {what}")
    with contextlib.ExitStack() as opened:
        files = open_files(paths)
        for file in files:
            opened.callback(file.close)
        source = _source(files, joint_name(paths))
        opened.pop_all()
    return source


def open_spectra(filename: str | Path) -> Source:
    """Open a file of DESI or SDSS, plain or gzipped."""
    return open_group([Path(filename)])


def open_exposure(dir_name: str | Path, spec_number: int) -> Source:
    """Open the cframes of one spectrograph in the folder of an exposure."""
    folder = Path(dir_name)
    if spec_number not in range(10):
        raise ValueError(f"spec_number must be 0 to 9, got {spec_number!r}")
    name = f"{spec_number}-{folder.resolve().name}.fits"
    named = [folder / f"cframe-{a}{name}{gz}" for a in "brz" for gz in ("", ".gz")]
    paths = _without_copies(path for path in named if path.exists())
    if not paths:
        raise FileNotFoundError(f"{folder}: no cframe-[brz]{name}, plain or gzipped")
    return open_group(paths)


def _ensure_survey(file: FitsFile) -> None:
    """Refuse a file that says it is of another survey than DESI or SDSS."""
    hdus: list[str | int] = [0, *filter(_FLUX_HDU.fullmatch, file.indices)]
    for hdu in hdus:
        for key in ("TELESCOP", "ORIGIN", "SURVEY", "INSTRUME"):
            name = str(file.value(hdu, key) or "").strip()
            unknown = key == "TELESCOP" and name and not _TELESCOPES.search(name)
            if unknown or _OTHERS.search(name):
                what = f"{key}={name!r}, and spectra of DESI or SDSS are needed"
                raise file.problem(hdu, what)


def _source(files: Sequence[FitsFile], name: str) -> Source:
    """Make a source of open files by what they hold."""
    file = files[0]
    for each in files:
        _ensure_survey(each)
    if len(files) == 1 and is_coadd(file):
        return coadd_source(file)
    if len(files) > 1 or is_cframe(file):
        return cframe_source(files, name)
    for is_kind, source in _SDSS.items():
        if is_kind(file):
            return source(file)
    # What lies beside spectra is in order; anything else is a mistake.
    tables = [set(file.column_names(hdu)) for hdu in range(len(file))]
    catalog = any({"PLATE", "FIBERID"} <= columns for columns in tables)
    product = any(map(_PRODUCTS.fullmatch, file.indices))
    images = any(file.image_shape(hdu) for hdu in range(len(file)))
    sound = catalog or product or (any(tables) and not images)
    names = ", ".join(file.indices) or "HDUs without a name"
    what = f"{file.path}: holds no spectra of DESI or SDSS, only {names}"
    if _BEFORE_SPECTRA.issuperset(file.indices) and file.indices:
        raise SpectraError(f"{what}; a file of spectra that is cut short?")
    raise (NoSpectraError if sound else SpectraError)(what)
