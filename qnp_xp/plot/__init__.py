"""Pictures of spectra and of tables, with matplotlib: the extra ``plot``."""

from __future__ import annotations

import io
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._classify import as_model, classify_source
from .._options import Options
from ..errors import MissingLibraryError
from ..io.memory import open_arrays
from ..io.open import one_group, open_group
from ..io.tables import read_catalog
from ..model import QuasarNP
from ..selection import check_indices, target_indices
from ._draw import draw_spectrum, draw_summary
from ._views import summarize, views

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["new_figure", "pdf", "png", "spectrum", "summary"]

# Nothing of pyplot is used, so that this works in batch jobs and in threads.
_SIZE = (10.0, 6.2)  # inches
_DPI = 110
_DPI_OF_PAGES = 200  # of the pixels of spectra; everything else is lines and letters


def spectrum(
    spectra: Any,
    model: QuasarNP | str | Path | None = None,
    *,
    row: int | None = None,
    targetid: int | None = None,
    smooth: float = 5,
    c_thresh: float | None = None,
    n_thresh: int = 1,
    use_mask: bool = False,
    saliency: str | None = None,
    figure: Figure | None = None,
) -> tuple[Axes, ...]:
    """Draw a spectrum and what the network says of it.

    Parameters
    ----------
    spectra, model : as for `qnp_xp.classify`
    row, targetid : int, optional
        Number of the spectrum, from 0 or negative from the end; or its TARGETID. The
        first spectrum by default.
    smooth : float
        Standard deviation of the smoothing Gaussian in pixels, 0 (for none) to 1000.
    c_thresh, n_thresh, use_mask : as for `qnp_xp.classify`
    saliency : str, optional
        Line whose saliency is drawn between the spectrum and the boxes, named as for
        `qnp_xp.saliency`. The gradient is computed by PyTorch or JAX, on the CPU where
        the model is on neither.
    figure : matplotlib.figure.Figure, optional
        Empty figure to draw in; a new one by default.

    Returns
    -------
    axes : tuple of matplotlib.axes.Axes
        The spectrum, the boxes of each line, and the saliency where it was asked for;
        all in ``axes[0].figure``.

    Raises
    ------
    MissingLibraryError
        If there is no matplotlib, or neither PyTorch nor JAX for `saliency`.
    FileNotFoundError, SpectraError, WeightsError, ValueError, TypeError
        As for `qnp_xp.classify`; or if there is no such row, or a target has several.

    Examples
    --------
    >>> import numpy as np
    >>> from qnp_xp import plot
    >>> wave = np.arange(3600.0, 9800.0, 2.0)
    >>> axes = plot.spectrum((wave, np.sin(wave), np.ones(wave.size)), smooth=2)
    >>> axes[0].figure.savefig("spectrum.png")  # doctest: +SKIP
    """
    figure = new_figure() if figure is None else figure
    options = Options(c_thresh, n_thresh, use_mask)
    if row is not None and targetid is not None:
        msg = "row and targetid cannot be given both"
        raise ValueError(msg)
    group, network = one_group(spectra), as_model(model)
    with open_arrays(spectra) if group is None else open_group(group) as source:
        chosen = np.asarray([0 if row is None else operator.index(row)])
        indices = check_indices(chosen, source.n, "row")
        if targetid is not None:
            wanted = [operator.index(targetid)]
            known = source.identifiers.get("TARGETID")
            indices = target_indices(wanted, known, source.name, all_known=True)
            if indices.size > 1:
                rows = ", ".join(map(str, indices.tolist()))
                msg = f"{source.name}: target {targetid} has the rows {rows}; name one"
                raise ValueError(msg)
        result = classify_source(
            source, network, options, indices=indices, keep_boxes=True
        )
        settings = (network, options, smooth, saliency)
        view = next(views(source, result, indices, *settings))
    return draw_spectrum(view, figure, physical=group is not None)


def summary(
    table: Any, *, c_thresh: float | None = None, figure: Figure | None = None
) -> tuple[Axes, ...]:
    """Draw redshifts, confidences and lines of the quasars of a table.

    Parameters
    ----------
    table : numpy.ndarray, str or pathlib.Path
        What `qnp_xp.classify` returned, or a file that it, ``qnp-xp classify`` or
        ``qnp-xp merge`` wrote.
    c_thresh : float, optional
        Lines above this confidence are counted; by default that of the file, else 0.5.
    figure : matplotlib.figure.Figure, optional
        As for `spectrum`.

    Returns
    -------
    axes : tuple of matplotlib.axes.Axes
        Redshifts, confidence by redshift, quasars by their number of lines, and
        quasars by line, in ``axes[0].figure``.

    Raises
    ------
    MissingLibraryError
        If there is no matplotlib.
    FileNotFoundError, SpectraError, ValueError
        If it is no such table.

    Examples
    --------
    >>> import numpy as np
    >>> from qnp_xp import classify, plot
    >>> wave = np.arange(3600.0, 9800.0, 2.0)
    >>> table = classify((wave, np.sin(wave), np.ones(wave.size)))
    >>> len(plot.summary(table))
    4
    """
    figure = new_figure() if figure is None else figure
    title, threshold = "", 0.5
    if isinstance(table, (str, Path)):
        title = Path(table).name
        table, header = read_catalog(Path(table))
        threshold = float(header.get("C_THRESH", (threshold, ""))[0])
    view = summarize(np.asarray(table), threshold if c_thresh is None else c_thresh)
    return draw_summary(view, figure, title)


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


def png(figure: Figure) -> bytes:
    """Make the content of a PNG file of a figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to write.

    Returns
    -------
    bytes

    Examples
    --------
    >>> from qnp_xp import plot
    >>> plot.png(plot.new_figure())[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


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
