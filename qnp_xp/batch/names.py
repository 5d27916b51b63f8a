"""Names of outputs."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from pathlib import Path

from ..io.open import stem


def output_paths(
    groups: Sequence[Sequence[Path]], outdir: Path, top: Path | None = None
) -> list[Path]:
    """Name the table of each group of files, as qn-*.

    They are in `outdir`; with `top`, in folders below it like those below `top`.
    coadd-X.fits and spectra-X.fits become qn-X.fits. Where two inputs would share that
    name, theirs become qn-coadd-X.fits and qn-spectra-X.fits.
    """
    paths = []
    for group in groups:
        folder = outdir / group[0].parent.relative_to(top) if top else outdir
        name = re.sub("^(coadd|spectra|cframe)-", "", stem(group))
        paths.append(folder / f"qn-{name}.fits")
    times = collections.Counter(paths)
    paths = [
        path if times[path] == 1 else path.with_name(f"qn-{stem(group)}.fits")
        for path, group in zip(paths, groups, strict=True)
    ]
    for path, times_left in collections.Counter(paths).items():
        if times_left > 1:
            msg = f"several inputs would be written to {path}; classify them apart"
            raise ValueError(msg)
    _make_folders(paths)
    return paths


def priors_paths(
    priors: str | None, outputs: Sequence[Path], outdir: Path, *, tree: bool
) -> Sequence[Path | None]:
    """Name the priors of each table: `priors` for a single one, else in that folder.

    In a tree of folders, they are in folders below it like those below `outdir`.
    """
    if not priors:
        return [None] * len(outputs)
    if len(outputs) == 1 and not tree:
        return [Path(priors)]
    paths = [Path(priors) / path.relative_to(outdir) for path in outputs]
    paths = [path.with_name(path.name.replace("qn-", "priors-", 1)) for path in paths]
    if tree:
        _make_folders(paths)
    return paths


def summary_paths(name: str | Path) -> tuple[Path, Path]:
    """Name the table and the text of a summary, with or without the ending .fits."""
    path = Path(name)
    base = path.name.removesuffix(".fits")
    return path.with_name(f"{base}.fits"), path.with_name(f"{base}.txt")


def _make_folders(paths: Sequence[Path]) -> None:
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
