"""DESI's spectra as input for the network, under QuasarNP's names."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._xp.backend import Array, resolve, to_device, to_host
from ..grids import Grid, wave
from ..selection import row_indices
from ..spectra import combine, normalize
from .open import open_exposure, open_spectra
from .source import Source

__all__ = ["load_desi_coadd", "load_desi_daily", "load_desi_exposure"]

_log = logging.getLogger(__name__)

_NERSC = "/global/cfs/cdirs/desi/spectro/redux"
_CHUNK = 512  # spectra that are in memory at a time


def _load(
    source: Source,
    rows: NDArray[np.int64],
    out_grid: ArrayLike | None,
    use_mask: bool,
    device: Any,
    xp: Any,
) -> tuple[Array, NDArray[np.int64]]:
    """Rebin and normalise the selected spectra of a file."""
    backend = resolve(device, xp)
    grid = wave
    if out_grid is not None:
        grid = to_host(out_grid)
        Grid.from_wave(grid)  # complains of what is none
        grid = grid.astype(np.float64)
    if source.missing:
        _log.warning("%s: no arm %s", source.name, ", ".join(source.missing))
    spectra, kept = [], []
    with backend.active():
        # Once even for no rows: the result needs its width, and the grid its check.
        for first in range(0, max(rows.size, 1), _CHUNK):
            chunk = rows[first : first + _CHUNK]
            arms = [
                (w, to_device(flux, backend), to_device(ivar, backend))
                for w, flux, ivar in source.read(chunk, use_mask)
            ]
            flux, ivar, _ = combine(arms, grid)
            x, weighted, varied = normalize(flux, ivar)
            good = np.flatnonzero(to_host(weighted & varied)).astype(np.int64)
            spectra.append(backend.xp.take(x, to_device(good, backend), axis=0))
            kept.append(good + first)
        return backend.xp.concat(spectra, axis=0), np.concatenate(kept)


def load_desi_coadd(
    filename: str | Path,
    rows: ArrayLike | None = None,
    out_grid: ArrayLike | None = None,
    *,
    use_mask: bool = False,
    device: Any = "cpu",
    xp: Any = None,
) -> tuple[Array, NDArray[np.int64]]:
    """Load spectra from a coadd or ``spectra-*`` file as input for the network.

    Parameters
    ----------
    filename
        The file, plain or compressed by gzip.
    rows
        None for all; a boolean mask or an array of zeros and ones of shape ``(n,)``,
        for all rows of the file; or an array of row numbers.
    out_grid
        Grid of the network in Angstrom, shape ``(nbins,)``, of constant linear or
        logarithmic spacing; None is QuasarNET's logarithmic one.
    use_mask
        Give no weight to pixels whose MASK is not zero.
    device, xp
        Where the result is to be, as for `qnp_xp.load_model`; host numpy by default.

    Returns
    -------
    data : array
        Normalised spectra, shape ``(nkept, nbins)``, float64. Spectra without weight
        or without variance are left out.
    w : numpy.ndarray of int64
        Positions of the kept spectra within the selection.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectraError
        If it is damaged, holds no spectra, or its parts contradict each other.
    ValueError, TypeError
        If `rows` or `out_grid` is none of the above.
    """
    with open_spectra(filename) as source:
        numbers = row_indices(rows, source.n)
        return _load(source, numbers, out_grid, use_mask, device, xp)


def load_desi_exposure(
    dir_name: str | Path,
    spec_number: int,
    fibers: ArrayLike | None = None,
    out_grid: ArrayLike | None = None,
    *,
    use_mask: bool = False,
    device: Any = "cpu",
    xp: Any = None,
) -> tuple[Array, NDArray[np.int64]]:
    """Load one spectrograph of an exposure from its cframes.

    Parameters
    ----------
    dir_name
        Folder named for the exposure, with ``cframe-{b,r,z}{spec}-{expid}.fits`` or
        ``.fits.gz`` in it.
    spec_number
        Spectrograph (petal), 0 to 9.
    fibers
        Selection of fibers, as `rows` of `load_desi_coadd`.
    out_grid, use_mask, device, xp
        As for `load_desi_coadd`.

    Returns
    -------
    data : array
        Normalised spectra, shape ``(nkept, nbins)``, float64.
    w : numpy.ndarray of int64
        Positions of the kept spectra within the selection.

    Raises
    ------
    FileNotFoundError
        If no arm of this spectrograph is there; one or two missing arms are logged.
    SpectraError, ValueError, TypeError
        As for `load_desi_coadd`.
    """
    with open_exposure(dir_name, spec_number) as source:
        numbers = row_indices(fibers, source.n, "fibers")
        return _load(source, numbers, out_grid, use_mask, device, xp)


def load_desi_daily(
    night: int | str,
    exp_id: int | str,
    spec_number: int,
    fibers: ArrayLike | None = None,
    out_grid: ArrayLike | None = None,
    root: str | Path | None = None,
    *,
    use_mask: bool = False,
    device: Any = "cpu",
    xp: Any = None,
) -> tuple[Array, NDArray[np.int64]]:
    """Load one spectrograph of an exposure of DESI's daily reductions.

    Parameters
    ----------
    night, exp_id
        As 20210107 and 71246; numbers or strings.
    spec_number, fibers, out_grid
        As for `load_desi_exposure`.
    root
        Folder with the nights; by default ``$DESI_SPECTRO_REDUX/daily/exposures``,
        and without that variable DESI's place at NERSC.
    use_mask, device, xp
        As for `load_desi_coadd`.

    Returns
    -------
    data, w
        As for `load_desi_exposure`.

    Raises
    ------
    FileNotFoundError, SpectraError, ValueError, TypeError
        As for `load_desi_exposure`.
    """
    if root is None:
        root = Path(os.environ.get("DESI_SPECTRO_REDUX", _NERSC), "daily", "exposures")
    folder = Path(root, str(night), str(exp_id).zfill(8))
    return load_desi_exposure(
        folder, spec_number, fibers, out_grid, use_mask=use_mask, device=device, xp=xp
    )
