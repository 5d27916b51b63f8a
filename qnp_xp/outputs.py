"""Names of outputs."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

__all__ = ["output_paths"]


def output_paths(
    files: Sequence[str], output: str | None = None, outdir: str | None = None
) -> list[Path]:
    """Name the table of each input.

    Parameters
    ----------
    files
        Files of spectra.
    output
        The table of the only input.
    outdir
        Folder for the tables, made where it is missing; the current one by default.

    Returns
    -------
    list of pathlib.Path
        ``coadd-X.fits`` and ``spectra-X.fits.gz`` become ``qn-X.fits``, anything else
        ``qn-NAME.fits``. Where two inputs would share a name, as a coadd and the
        spectra that it was made of, theirs become ``qn-coadd-X.fits`` and
        ``qn-spectra-X.fits``.

    Raises
    ------
    ValueError
        If `output` is given for several inputs, two inputs still share a name, or an
        output would replace its input.
    """
    if output is not None:
        if len(files) > 1:
            msg = "-o names one table, and there are several inputs; use --outdir"
            raise ValueError(msg)
        paths = [Path(output)]
    else:
        folder = Path(outdir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        stems = [_stem(name) for name in files]
        short = [stem.removeprefix("coadd-").removeprefix("spectra-") for stem in stems]
        count = collections.Counter(short)
        paths = [
            folder / f"qn-{stem if count[s] > 1 else s}.fits"
            for stem, s in zip(stems, short, strict=True)
        ]
    counts = collections.Counter(paths)
    for path, name in zip(paths, files, strict=True):
        if counts[path] > 1:
            msg = f"several inputs would be written to {path}; classify them apart"
            raise ValueError(msg)
        if path.exists() and Path(name).exists() and path.samefile(name):
            msg = f"{path} is an input and cannot be the output"
            raise ValueError(msg)
    return paths


def _stem(name: str) -> str:
    stem = Path(name).name
    for ending in (".gz", ".fits", ".fit"):
        stem = stem.removesuffix(ending)
    return stem
