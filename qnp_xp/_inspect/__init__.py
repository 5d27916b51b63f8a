"""Pages to look at spectra and judge them, with Bokeh: the extra ``inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from ..io._truth import open_truth
from ..model import QuasarNP
from ._make import make_page
from ._rows import Ask


def inspect(
    spectra: Any,
    model: QuasarNP | str | Path | None = None,
    *,
    output: str | Path,
    table: str | Path | None = None,
    rows: ArrayLike | None = None,
    targetids: ArrayLike | None = None,
    quasars: bool = False,
    near_threshold: bool = False,
    disagree: Any = None,
    limit: int = 300,
    overwrite: bool = False,
    c_thresh: float | None = None,
    n_thresh: int | None = None,
    use_mask: bool | None = None,
) -> Path:
    """Write a page to look at spectra and judge them.

    It is one file of HTML that any browser opens, without a network. Judgements are
    kept in the browser, and saved as the csv that DESI's prospect writes.

    Parameters
    ----------
    spectra, model : as for `qnp_xp.classify`
        Files in a list need not belong together here.
    output : str or pathlib.Path
        File to write, whose name ends in ``.html``.
    table : str or pathlib.Path, optional
        Table of these spectra that `qnp_xp.classify`, ``qnp-xp classify`` or
        ``qnp-xp merge`` wrote with the same weights. Its results are shown, and the
        redshifts of a column Z_FIT. Without it, the spectra are classified.
    rows, targetids : optional
        As for `qnp_xp.classify`; `rows` of one input only, and no target may be
        unknown.
    quasars : bool
        Show the quasars.
    near_threshold : bool
        Show the spectra whose deciding confidence is within 0.2 of `c_thresh`. It is
        that of the `n_thresh`-th most confident line. Where `limit` leaves some out,
        the nearest are shown.
    disagree : str, pathlib.Path, numpy.ndarray or dict, optional
        A table of truth, or its columns. Spectra are shown which it surely calls
        quasars and that were not found, or which were found and are none, or whose
        redshifts differ by more than 0.01 (1 + z).
    limit : int
        Largest number of spectra that `rows` or `targetids` do not name.
    overwrite : bool
        Replace `output` if it is there.
    c_thresh, n_thresh, use_mask : optional
        As for `qnp_xp.classify`; by default those of `table`, else the
        threshold of the network (or 0.5), 1 and False.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    MissingLibraryError
        If there is no Bokeh.
    FileNotFoundError, SpectraError, WeightsError, ValueError, TypeError
        As for `qnp_xp.classify`; or if there is no spectrum to show, or `table` is of
        other spectra or other weights.
    FileExistsError
        If `output` is there and is not to be replaced.

    Examples
    --------
    >>> from qnp_xp import inspect
    >>> inspect("coadd-0-80605-thru20210205.fits", output="vi.html")  # doctest: +SKIP
    PosixPath('vi.html')
    """
    truth = None if disagree is None else open_truth(disagree)
    make_page(
        *(spectra, model, output),
        ask=Ask(rows, targetids, quasars, near_threshold, truth),
        table=table,
        limit=limit,
        overwrite=overwrite,
        settings={"c_thresh": c_thresh, "n_thresh": n_thresh, "use_mask": use_mask},
    )
    return Path(output)
