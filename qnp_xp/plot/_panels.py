"""The axes of a picture: those that a user gave, and those that a notebook shows."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

Axes = Any
Figure = Any


class Panels(tuple[Any, ...]):
    """The axes of a picture, a tuple that notebooks show as the picture.

    Where it ends a cell of a notebook, the picture is displayed. Figures of pyplot are
    left to pyplot, which displays them at the end of the cell.

    Examples
    --------
    >>> import numpy as np
    >>> from qnp_xp import plot
    >>> wave = np.arange(3600.0, 9800.0, 2.0)
    >>> panels = plot.spectrum((wave, np.sin(wave), np.ones(wave.size)))
    >>> panels
    <picture of 2 panels>
    >>> panels.figure.savefig("spectrum.png")  # doctest: +SKIP
    """

    __slots__ = ()

    @property
    def figure(self) -> Figure:
        """The figure of matplotlib that the axes are in."""
        return self[0].figure.figure  # of a subfigure: the whole

    def __repr__(self) -> str:
        return f"<picture of {len(self)} panel{'' if len(self) == 1 else 's'}>"

    def _repr_png_(self) -> bytes | None:
        of_pyplot = getattr(self.figure.canvas, "manager", None) is not None
        return None if of_pyplot else png(self.figure)


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


def given_axes(axes: Any, figure: Any, panels: int) -> list[Axes]:
    """Check the axes that a user gave: one, or up to as many as there are panels."""
    if figure is not None:
        msg = "figure and axes cannot be given both"
        raise ValueError(msg)
    found: list[Axes] = np.ravel(np.asarray(axes, dtype=object)).tolist()
    for one in found:
        if not hasattr(one, "transAxes"):
            msg = f"axes are those of matplotlib, got {type(one).__name__}"
            raise TypeError(msg)
    if not 1 <= len(found) <= panels:
        msg = f"axes has {len(found)} of them, and the picture has {panels} panels"
        raise ValueError(msg)
    return found
