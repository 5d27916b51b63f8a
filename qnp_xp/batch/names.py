"""Names of outputs."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

from ..io.open import stem

__all__ = ["mirrored_paths", "output_paths"]


_KINDS = ("coadd-", "spectra-", "cframe-")


def output_paths(
    groups: Sequence[Sequence[Path]],
    output: str | None = None,
    outdir: str | None = None,
) -> list[Path]:
    """Name the table of each input.

    Parameters
    ----------
    groups
        Files of spectra, as `qnp_xp.io.open.group_inputs` returns them.
    output
        The table of the only input.
    outdir
        Folder for the tables, made where it is missing; the current one by default.

    Returns
    -------
    list of pathlib.Path
        ``coadd-X.fits`` and ``spectra-X.fits.gz`` become ``qn-X.fits``, the cframes of
        an exposure ``qn-0-00071246.fits``, anything else ``qn-NAME.fits``. Where two
        inputs would share a name, as a coadd and the spectra it was made of, theirs
        become ``qn-coadd-X.fits`` and ``qn-spectra-X.fits``.

    Raises
    ------
    ValueError
        If `output` is given for several inputs, or two inputs still share a name.
    """
    if output is not None:
        if len(groups) > 1:
            msg = "-o names one table, and there are several inputs; use --outdir"
            raise ValueError(msg)
        paths = [Path(output)]
    else:
        folder = Path(outdir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in _table_names(groups)]
    counts = collections.Counter(paths)
    for path in paths:
        if counts[path] > 1:
            msg = f"several inputs would be written to {path}; classify them apart"
            raise ValueError(msg)
    return paths


def mirrored_paths(
    groups: Sequence[Sequence[Path]], top: Path, outdir: Path
) -> list[Path]:
    """Name the table of each input of a tree of folders.

    Parameters
    ----------
    groups
        Files of spectra below `top`, as `qnp_xp.io.open.group_inputs` returns them.
    top
        Folder of the tree.
    outdir
        Folder for the tree of the tables.

    Returns
    -------
    list of pathlib.Path
        ``outdir/tiles/cumulative/TILE/NIGHT/qn-X.fits`` for
        ``top/tiles/cumulative/TILE/NIGHT/coadd-X.fits``. Their folders are made.
    """
    names = [f"qn-{_without_kind(stem(group))}.fits" for group in groups]
    folders = [outdir / group[0].parent.relative_to(top) for group in groups]
    for folder in dict.fromkeys(folders):
        folder.mkdir(parents=True, exist_ok=True)
    return [folder / name for folder, name in zip(folders, names, strict=True)]


def _table_names(groups: Sequence[Sequence[Path]]) -> list[str]:
    stems = [stem(group) for group in groups]
    short = [_without_kind(name) for name in stems]
    count = collections.Counter(short)
    return [
        f"qn-{name if count[s] > 1 else s}.fits"
        for name, s in zip(stems, short, strict=True)
    ]


def _without_kind(name: str) -> str:
    kind = next((kind for kind in _KINDS if name.startswith(kind)), "")
    return name.removeprefix(kind)
