"""What a table of results holds, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._draw import (
    BARS,
    BLUE,
    GREEN,
    GREY,
    LARGE,
    ORANGE,
    SMALL,
    VERMILION,
    label_axes,
    plain,
    write_in_middle,
)
from ._views import SummaryView

Axes = Any

# More rows than these are drawn as densities: markers would cover each other.
_MOST_MARKERS = 2000
_CELLS = (120, 60)  # of a density, by redshift and by confidence


def draw_summary(view: SummaryView, panels: Sequence[Axes]) -> None:
    """Draw what a table holds on axes, as many as there are of the four."""
    draw = (_draw_redshifts, _draw_confidences, _draw_line_counts, _draw_lines)
    for panel, draw_panel in zip(panels, draw, strict=False):
        draw_panel(panel, view)
        if draw_panel is not _draw_confidences and not np.any(view.quasar):
            write_in_middle(panel, "no quasar", LARGE)


def summary_title(view: SummaryView, name: str) -> str:
    """Name a table, and count what it holds."""
    first = f"{plain(name)}: " if name else ""
    quasars = int(view.quasar.sum())
    return f"{first}{view.total} rows, {view.z.size} scored, {quasars} quasars"


def _draw_redshifts(axes: Axes, view: SummaryView) -> None:
    """Draw how many quasars there are in each tenth of redshift."""
    z = view.z[view.quasar]
    low, high = np.floor(10 * z.min(initial=0)), np.ceil(10 * z.max(initial=1))
    axes.hist(z, bins=np.arange(low, high + 1) / 10, color=GREEN, **BARS)
    label_axes(axes, "Z_QN of the quasars", "quasars")
    axes.yaxis.get_major_locator().set_params(integer=True)


def _draw_confidences(axes: Axes, view: SummaryView) -> None:
    """Draw the confidence of each row by its redshift, or how many there are."""
    kinds = (
        (~view.quasar, "others", GREY, "x", "Greys"),
        (view.quasar, "quasars", BLUE, "o", "Blues"),
    )
    many = view.z.size > _MOST_MARKERS
    # The cells of both kinds are the same.
    ends = (min(view.z.min(initial=0), 0), max(view.z.max(initial=1), 1)), (0, 1)
    cells = [np.linspace(*end, n + 1) for end, n in zip(ends, _CELLS, strict=True)]
    for chosen, name, colour, marker, colours in kinds:
        z, confidence = view.z[chosen], view.confidence[chosen]
        if many:
            counts = np.histogram2d(z, confidence, cells)[0]
            label = _draw_density(axes, cells, counts, colours)
            axes.plot([], [], "s", color=colour, label=f"{name}{label}")
        else:
            style: dict[str, Any] = {"markersize": 4, "alpha": 0.7, "rasterized": True}
            style |= {"color": colour, "label": name}
            axes.plot(z, confidence, marker, **style)
    axes.axhline(view.c_thresh, color=VERMILION, linestyle="--", label="threshold")
    axes.set_ylim(-0.03, 1.05)
    label_axes(axes, "Z_QN", "Z_QN_CONF")
    axes.legend(fontsize=SMALL, loc="center right" if many else "best")


def _draw_density(
    axes: Axes, cells: list[NDArray[Any]], counts: NDArray[Any], colours: str
) -> str:
    """Draw how many rows are in each cell, and say what the shades mean."""
    most = int(counts.max())
    if not most:
        return ""
    shades = np.where(counts.T > 0, counts.T, np.nan)
    style = {"cmap": colours, "norm": "log", "rasterized": True}
    mesh = axes.pcolormesh(*cells, shades, **style)
    # The palest shades could not be told from the paper.
    mesh.set_clim(0.1, max(most, 2))
    return f", 1 (pale) to {most} in a cell"


def _draw_line_counts(axes: Axes, view: SummaryView) -> None:
    """Draw how many quasars have how many lines above the threshold."""
    numbers = [str(number) for number in range(len(view.names) + 1)]
    counts = np.bincount(view.above.sum(axis=0)[view.quasar], minlength=len(numbers))
    label_axes(axes, f"lines with a confidence above {view.c_thresh:g}", "quasars")
    _draw_bars(axes, numbers, counts, color=BLUE)


def _draw_lines(axes: Axes, view: SummaryView) -> None:
    """Draw how many quasars have each line above the threshold."""
    label_axes(axes, f"line, with a confidence above {view.c_thresh:g}", "quasars")
    _draw_bars(axes, view.names, view.above.sum(axis=1), color=ORANGE, hatch="//")


def _draw_bars(axes: Axes, names: Sequence[str], counts: Any, **style: Any) -> None:
    """Draw a bar of each count, with its name below and its number above."""
    bars = axes.bar(range(len(names)), counts, **style, **BARS)
    axes.bar_label(bars, fmt="%d", padding=1, fontsize=SMALL)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1.15 * max(1, int(counts.max(initial=0))))
