"""Pictures of spectra and of tables, with matplotlib: the extra ``plot``."""

from __future__ import annotations

import io
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._classify import as_model, classify_source, takes_spectra
from .._options import Options
from ..errors import MissingLibraryError
from ..io._results import results_of
from ..io.memory import open_arrays
from ..io.open import one_group, open_group
from ..io.source import Source
from ..io.tables import read_catalog
from ..model import QuasarNP
from ..selection import Indices, check_indices, row_indices, target_indices
from ._draw import FONT, LARGE, draw_panels, draw_spectrum, set_title, spectrum_title
from ._panels import Panels, given_axes, png
from ._summary import draw_summary, summary_title
from ._views import summarize, views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Panels", "new_figure", "pdf", "png", "spectrum", "summary"]

# Nothing of pyplot is used, so that this works in batch jobs and in threads.
_SIZE = (10.0, 6.2)  # inches
_DPI = 110
_MOST_SPECTRA = 20  # in one picture
_DPI_OF_PAGES = 200  # of the pixels of spectra; everything else is lines and letters


@takes_spectra
def spectrum(
    spectra: Any,
    model: QuasarNP | str | Path | None = None,
    *,
    row: int | None = None,
    targetid: int | None = None,
    rows: ArrayLike | None = None,
    targetids: ArrayLike | None = None,
    smooth: float = 5,
    c_thresh: float | None = None,
    n_thresh: int = 1,
    use_mask: bool = False,
    saliency: str | None = None,
    figure: Figure | None = None,
    axes: Any = None,
) -> Panels:
    """Draw a spectrum, or some below each other, and what the network says of them.

    In a notebook the picture is displayed where the call ends a cell.

    Parameters
    ----------
    spectra, model : as for `qnp_xp.classify`
    row, targetid : int, optional
        Number of the spectrum, from 0 or negative from the end; or its TARGETID. The
        first spectrum by default.
    rows, targetids : array_like, optional
        As for `qnp_xp.classify`, for up to 20 spectra; no target may be unknown.
    smooth : float
        Standard deviation of the smoothing Gaussian in pixels, 0 (for none) to 1000.
    c_thresh, n_thresh, use_mask : as for `qnp_xp.classify`
    saliency : str, optional
        Line whose saliency is drawn between the spectrum and the boxes, named as for
        `qnp_xp.saliency`. The gradient is computed by PyTorch or JAX, on the CPU where
        the model is on neither.
    figure : matplotlib.figure.Figure, optional
        Empty figure to draw in; a new one by default.
    axes : matplotlib.axes.Axes, or a sequence of such, optional
        Draw one spectrum in these instead: on one the spectrum, on a second the boxes,
        on a third the saliency.

    Returns
    -------
    Panels
        A tuple of matplotlib.axes.Axes: for each spectrum those of the spectrum, of the
        boxes of each line, and of the saliency where it was asked for. ``figure`` is
        what they are all in. The range of flux follows ``set_xlim`` of the first.

    Raises
    ------
    MissingLibraryError
        If there is no matplotlib, or neither PyTorch nor JAX for `saliency`.
    FileNotFoundError, SpectraError, WeightsError, ValueError, TypeError
        As for `qnp_xp.classify`; or if there is no such row, or `targetid` has several.

    Examples
    --------
    >>> import numpy as np
    >>> from qnp_xp import plot
    >>> wave = np.arange(3600.0, 9800.0, 2.0)
    >>> axes = plot.spectrum((wave, np.sin(wave), np.ones(wave.size)), smooth=2)
    >>> axes[0].set_xlim(4000, 5000)
    (4000.0, 5000.0)
    >>> axes.figure.savefig("spectrum.png")  # doctest: +SKIP
    """
    given = None
    if axes is not None:
        given = given_axes(axes, figure, 2 if saliency is None else 3)
    options = Options(c_thresh, n_thresh, use_mask)
    asked = {"row": row, "targetid": targetid, "rows": rows, "targetids": targetids}
    names = [name for name, value in asked.items() if value is not None]
    if len(names) > 1:
        msg = f"{names[0]} and {names[1]} cannot be given both"
        raise ValueError(msg)
    whole: Any = new_figure() if given is None and figure is None else figure
    group, network = one_group(spectra), as_model(model)
    with open_arrays(spectra) if group is None else open_group(group) as source:
        indices = _indices(source, row, targetid, rows, targetids)
        if given is not None and indices.size > 1:
            msg = f"axes are for one spectrum, and {indices.size} are asked for"
            raise ValueError(msg)
        result = classify_source(
            source, network, options, indices=indices, keep_boxes=True
        )
        settings = (network, options, smooth, saliency)
        found = views(source, result, indices, *settings)
        physical = group is not None
        if given is not None:
            view = next(found)
            draw_panels(view, given, physical=physical)
            set_title(given[0], spectrum_title(view), FONT, "center")
            return Panels(given)
        parts = [whole]
        if indices.size > 1:
            whole.set_size_inches(_SIZE[0], _SIZE[1] * indices.size)
            parts = np.ravel(whole.subfigures(indices.size, 1)).tolist()
        drawn = [
            draw_spectrum(view, part, physical=physical)
            for view, part in zip(found, parts, strict=True)
        ]
    return Panels(panel for panels in drawn for panel in panels)


def _indices(
    source: Source,
    row: int | None,
    targetid: int | None,
    rows: ArrayLike | None,
    targetids: ArrayLike | None,
) -> Indices:
    """Find the rows that are drawn: by default the first."""
    known = source.identifiers.get("TARGETID")
    if rows is not None:
        indices = row_indices(rows, source.n)
    elif targetids is not None:
        indices = target_indices(targetids, known, source.name, all_known=True)
    elif targetid is not None:
        wanted = [operator.index(targetid)]
        indices = target_indices(wanted, known, source.name, all_known=True)
        if indices.size > 1:
            text = ", ".join(map(str, indices.tolist()))
            msg = f"{source.name}: target {targetid} has the rows {text}; name one"
            raise ValueError(msg)
    else:
        chosen = np.asarray([0 if row is None else operator.index(row)])
        indices = check_indices(chosen, source.n, "row")
    if not 1 <= indices.size <= _MOST_SPECTRA:
        msg = (
            f"{source.name}: {indices.size} spectra are asked for, and a picture has 1"
            f" to {_MOST_SPECTRA}; qnp_xp.inspect makes a page of many"
        )
        raise ValueError(msg)
    return indices


def summary(
    table: Any,
    *,
    rows: ArrayLike | None = None,
    targetids: ArrayLike | None = None,
    c_thresh: float | None = None,
    figure: Figure | None = None,
    axes: Any = None,
) -> Panels:
    """Draw redshifts, confidences and lines of the quasars of a table.

    In a notebook the picture is displayed where the call ends a cell.

    Parameters
    ----------
    table : ResultTable, numpy.ndarray, str or pathlib.Path
        What `qnp_xp.classify` returned, also as a table of astropy or pandas; or a file
        that it, ``qnp-xp classify`` or ``qnp-xp merge`` wrote.
    rows, targetids : array_like, optional
        Rows of the table, as for `qnp_xp.classify`.
    c_thresh : float, optional
        Lines above this confidence are counted; by default that of the table's header,
        else 0.5.
    figure : matplotlib.figure.Figure, optional
        As for `spectrum`.
    axes : matplotlib.axes.Axes, or a sequence of such, optional
        Draw in these instead, as many as there are of the four.

    Returns
    -------
    Panels
        A tuple of matplotlib.axes.Axes: redshifts, confidence by redshift, quasars by
        their number of lines, and quasars by line. ``figure`` is what they are in.

    Raises
    ------
    MissingLibraryError
        If there is no matplotlib.
    FileNotFoundError, SpectraError, ValueError, TypeError
        If it is no such table, or has no such rows.

    Examples
    --------
    >>> import numpy as np
    >>> from qnp_xp import classify, plot
    >>> wave = np.arange(3600.0, 9800.0, 2.0)
    >>> table = classify((wave, np.sin(wave), np.ones(wave.size)))
    >>> len(plot.summary(table))
    4
    """
    given = None if axes is None else given_axes(axes, figure, 4)
    whole: Any = new_figure() if given is None and figure is None else figure
    name = ""
    if isinstance(table, (str, Path)):
        name = Path(table).name
        table = read_catalog(Path(table))[0]
    found, header = results_of(table)
    if rows is not None and targetids is not None:
        msg = "rows and targetids cannot be given both"
        raise ValueError(msg)
    if rows is not None:
        found = found[row_indices(rows, found.size)]
    elif targetids is not None:
        known = "TARGETID" in (found.dtype.names or ())
        column = found["TARGETID"] if known else None
        found = found[target_indices(targetids, column, name or "table")]
    if c_thresh is None:
        c_thresh = float(header.get("C_THRESH", 0.5))
    view = summarize(found, c_thresh)
    title = summary_title(view, name)
    if given is not None:
        draw_summary(view, given)
        set_title(given[0], title, FONT, "center")
        return Panels(given)
    panels = Panels(whole.subplots(2, 2).ravel())
    draw_summary(view, panels)
    whole.suptitle(title, fontsize=LARGE, parse_math=False)
    return panels


def new_figure() -> Figure:
    """Make an empty figure of the usual size.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingLibraryError
        If there is no matplotlib.

    Examples
    --------
    >>> from qnp_xp import plot
    >>> plot.new_figure().axes
    []
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as err:
        msg = f"pictures need matplotlib: pip install '.[plot]' in a checkout ({err})"
        raise MissingLibraryError(msg) from err
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def pdf(figures: Iterable[Figure]) -> bytes:
    """Make the content of a PDF file whose pages are figures.

    Parameters
    ----------
    figures : iterable of matplotlib.figure.Figure
        One or more; each is asked for when the one before is done.

    Returns
    -------
    bytes

    Examples
    --------
    >>> from qnp_xp import plot
    >>> plot.pdf(plot.new_figure() for _ in range(2))[:5]
    b'%PDF-'
    """
    from matplotlib.backends.backend_pdf import PdfPages  # noqa: PLC0415

    buffer = io.BytesIO()
    # Without a date, so that the same input gives the same file.
    with PdfPages(buffer, metadata={"CreationDate": None}) as pages:
        for figure in figures:
            pages.savefig(figure, dpi=_DPI_OF_PAGES)
    return buffer.getvalue()
