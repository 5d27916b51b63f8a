"""DESI's spectra as input for the network, under QuasarNP's names."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._binning import Rebinner
from .._xp.backend import Array, resolve, to_device
from ..grids import wave
from ..selection import Selection, row_indices
from ._prepare import Preparer
from .open import open_exposure, open_spectra
from .source import Source

_log = logging.getLogger(__name__)

_NERSC = "/global/cfs/cdirs/desi/spectro/redux"
_BATCH = 512  # spectra that are in memory at a time


def _load(
    opened: Source,
    rows: ArrayLike | None,
    name: str,
    out_grid: ArrayLike | None,
    use_mask: bool,
    device: Any,
    xp: Any,
) -> tuple[Array, NDArray[np.int64]]:
    """Prepare the selected spectra of a source, and close it."""
    with opened as source:
        selection = Selection.of_rows(row_indices(rows, source.n, name))
        backend = resolve(device, xp)
        rebinner = Rebinner(wave if out_grid is None else out_grid, backend)
        prepare = Preparer(source, rebinner, rebinner.backend, use_mask)
        if source.missing:
            _log.warning("%s: no arm %s", source.name, ", ".join(source.missing))
        # Once even for no rows: the result needs its width, and the grid its check.
        batches = list(selection.batches(_BATCH)) or [(slice(0, 0), selection)]
        with backend.active():
            prepared = [(part.start, prepare(batch)) for part, batch in batches]
            x = rebinner.backend.xp.concat([batch.x for _, batch in prepared], axis=0)
            data = to_device(x, backend)
        return data, np.concatenate([start + batch.good for start, batch in prepared])


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
    filename : str or pathlib.Path
        The file, plain or compressed by gzip.
    rows : array_like, optional
        None for all; a boolean mask or an array of zeros and ones of shape ``(n,)``,
        for all rows of the file; or an array of row numbers.
    out_grid : array_like, shape (nbins,), optional
        Grid of the network in Angstrom, of constant linear or logarithmic spacing;
        None is QuasarNET's logarithmic one.
    use_mask : bool
        Give no weight to pixels whose MASK is not zero.
    device : str or device object
        Where the result is to be, as for `qnp_xp.load_model`.
    xp : array API namespace, optional
        Library of the result, as for `qnp_xp.load_model`; numpy by default.

    Returns
    -------
    data : array, shape (nkept, nbins)
        Normalised spectra, float64. Spectra without weight or without variance are
        left out.
    w : numpy.ndarray of int64, shape (nkept,)
        Positions of the kept spectra within the selection.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectraError
        If it is damaged, holds no spectra, or its parts contradict each other.
    ValueError, TypeError
        If `rows` or `out_grid` is none of the above.

    Examples
    --------
    >>> from qnp_xp.io import load_desi_coadd, load_model
    >>> model, grid = load_model("weights.h5")  # doctest: +SKIP
    >>> data, w = load_desi_coadd(
    ...     "coadd-0-80605-thru20210205.fits", rows=[0, 2, 5], out_grid=grid
    ... )  # doctest: +SKIP
    >>> preds = model.predict(data)  # doctest: +SKIP
    """
    source = open_spectra(filename)
    return _load(source, rows, "rows", out_grid, use_mask, device, xp)


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
    dir_name : str or pathlib.Path
        Folder named for the exposure, with ``cframe-{b,r,z}{spec}-{expid}.fits`` or
        ``.fits.gz`` in it.
    spec_number : int
        Spectrograph (petal), 0 to 9.
    fibers : array_like, optional
        Selection of fibers, as `rows` of `load_desi_coadd`.
    out_grid, use_mask, device, xp : as for `load_desi_coadd`

    Returns
    -------
    data : array, shape (nkept, nbins)
    w : numpy.ndarray of int64, shape (nkept,)
        As for `load_desi_coadd`.

    Raises
    ------
    FileNotFoundError
        If no arm of this spectrograph is there; one or two missing arms are logged.
    SpectraError, ValueError, TypeError
        As for `load_desi_coadd`.

    Examples
    --------
    >>> from qnp_xp.io import load_desi_exposure
    >>> data, w = load_desi_exposure("20210107/00071246", 3)  # doctest: +SKIP
    """
    source = open_exposure(dir_name, spec_number)
    return _load(source, fibers, "fibers", out_grid, use_mask, device, xp)


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
    night, exp_id : int or str
        As 20210107 and 71246.
    spec_number, fibers, out_grid : as for `load_desi_exposure`
    root : str or pathlib.Path, optional
        Folder with the nights; by default ``$DESI_SPECTRO_REDUX/daily/exposures``,
        and without that variable DESI's place at NERSC.
    use_mask, device, xp : as for `load_desi_coadd`

    Returns
    -------
    data : array, shape (nkept, nbins)
    w : numpy.ndarray of int64, shape (nkept,)
        As for `load_desi_coadd`.

    Raises
    ------
    FileNotFoundError, SpectraError, ValueError, TypeError
        As for `load_desi_exposure`.

    Examples
    --------
    >>> from qnp_xp.io import load_desi_daily
    >>> data, w = load_desi_daily(20210107, 71246, 3)  # doctest: +SKIP
    """
    if root is None:
        root = Path(os.environ.get("DESI_SPECTRO_REDUX", _NERSC), "daily", "exposures")
    folder = Path(root, str(night), str(exp_id).zfill(8))
    return load_desi_exposure(
        folder, spec_number, fibers, out_grid, use_mask=use_mask, device=device, xp=xp
    )
