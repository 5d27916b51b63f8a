"""A comparison as a page of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plot._draw import (
    BLUE,
    GREEN,
    GREY,
    VERMILION,
    label_axes,
    plain,
    write_in_middle,
)
from ._compare import Comparison

Axes = Any
Figure = Any

_SIZE = (10.0, 12.0)  # inches
_RATES = {
    "PURITY": ("purity", VERMILION, "s"),
    "COMPLETENESS": ("completeness", BLUE, "o"),
    "GOOD_Z": ("good redshifts", GREEN, "^"),
}
_FEW = 3000  # points that are drawn one by one
_LEAST = 10  # velocities of which a median is drawn
_SMALL, _LARGE = 8.5, 11.5


def draw_report(first: Comparison, other: Comparison | None, figure: Figure) -> Figure:
    """Draw a comparison, and that of another table with dashed lines."""
    figure.set_size_inches(*_SIZE)
    found = [first] if other is None else [first, other]
    lines = list(dict.fromkeys(line for each in found for line in each.offsets))
    rows = -(-len(lines) // 3)
    grid = figure.add_gridspec(4 + rows, 6)
    panels = [
        figure.add_subplot(grid[2 * row : 2 * row + 2, 3 * column : 3 * column + 3])
        for row in range(2)
        for column in range(2)
    ]
    for number, each in enumerate(found):
        _draw_rates(panels, each, number)
    _finish_rates(panels, found)
    shared: Axes = None
    for number, line in enumerate(lines):
        row, column = divmod(number, 3)
        cell = grid[4 + row, 2 * column : 2 * column + 2]
        axes = figure.add_subplot(cell, sharex=shared, sharey=shared)
        shared = shared or axes
        _draw_velocities(axes, found, line)
        label_axes(
            axes,
            "true redshift" if number + 3 >= len(lines) else "",
            "dv [km/s]" if column == 0 else "",
        )
    shared.set_ylim(*_velocity_range(found))
    figure.suptitle(_title(found), fontsize=_LARGE, parse_math=False)
    return figure


def _title(found: list[Comparison]) -> str:
    """Name tables and truth, and what is drawn how."""
    names = [plain(Path(each.name).name) for each in found]
    drawn = names[0]
    if names[1:]:
        drawn = f"{names[0]} (solid, circles) and {names[1]} (dashed, crosses)"
    return f"{drawn} against {plain(Path(found[0].truth_name).name)}"


def _draw_rates(panels: list[Axes], found: Comparison, number: int) -> None:
    """Draw the rates of a table against threshold, redshift and signal."""
    style = {"linestyle": "-" if number == 0 else "--"}
    curve = found.by_threshold
    for name, (label, colour, marker) in _RATES.items():
        kind = {"color": colour, **style, "label": label if number == 0 else None}
        x = curve["C_THRESH"]
        panels[0].plot(x, curve[name], linewidth=1.3, **kind)
        band = curve[f"{name}_LOW"], curve[f"{name}_HIGH"]
        if number == 0:
            panels[0].fill_between(x, *band, color=colour, alpha=0.2, linewidth=0)
        for axes, table, axis in (
            (panels[2 if name == "PURITY" else 1], found.by_redshift, "Z"),
            (panels[3], found.by_signal, "SN"),
        ):
            _draw_bins(axes, table, axis, name, number, {"marker": marker, **kind})
    panels[0].axvline(found.c_thresh, color=GREY, linewidth=1, **style)
    if np.isfinite(found.threshold):
        panels[0].axvline(found.threshold, color=VERMILION, linewidth=1, **style)


def _draw_bins(
    axes: Axes, table: NDArray[Any], axis: str, name: str, number: int, style: Any
) -> None:
    """Draw a rate in bins with its errors, a little aside for another table."""
    table = table[np.isfinite(table[name])]
    low, high = table[f"{axis}_LOW"], table[f"{axis}_HIGH"]
    x = low + (high - low) * (0.5 + 0.12 * number)
    errors = [table[name] - table[f"{name}_LOW"], table[f"{name}_HIGH"] - table[name]]
    fill = {} if number == 0 else {"markerfacecolor": "white"}
    axes.errorbar(
        x, table[name], np.abs(errors), markersize=4, linewidth=1, **fill, **style
    )


def _finish_rates(panels: list[Axes], found: list[Comparison]) -> None:
    """Name the axes of the rates, and say what is not known."""
    names = (
        "threshold of confidence",
        "true redshift",
        "redshift of the table",
        f"signal to noise ratio ({found[0].signal_name})",
    )
    for axes, name in zip(panels, names, strict=True):
        label_axes(axes, name, "fraction")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=_SMALL, loc="lower left")
    if any(each.by_signal.size for each in found):
        panels[3].set_xscale("log")
    else:
        label_axes(panels[3])
        _say_instead(panels[3], "no signal to noise ratio\nin the table or in truth")
    if not any(each.has_others for each in found):
        text = "purity is not known:\ntruth has nothing but quasars"
        _say_instead(panels[2], text)
    elif not any(each.purity.total for each in found):
        _say_instead(panels[2], "no row is called a quasar")


def _say_instead(axes: Axes, text: str) -> None:
    """Write on axes where there is nothing to draw."""
    axes.get_legend().remove()
    write_in_middle(axes, text, _LARGE)


def _draw_velocities(axes: Axes, found: list[Comparison], line: str) -> None:
    """Draw the velocities of a line: their medians, and points where these are few."""
    axes.set_title(line, fontsize=_SMALL, loc="left")
    axes.axhline(0, color=GREY, linewidth=0.6)
    drawn = False
    for number, each in enumerate(found):
        z, dv = each.offsets.get(line, (np.empty(0), np.empty(0)))
        drawn = drawn or z.size > 0
        colour = BLUE if number == 0 else VERMILION
        if z.size <= _FEW:
            style = {"markersize": 2.5, "alpha": 0.5, "rasterized": True}
            marker = "o" if number == 0 else "x"
            axes.plot(z, dv, marker, color=colour, **style)
        table = each.by_velocity
        chosen = (table["LINE"] == line.encode()) & (table["N"] >= _LEAST)
        table = table[chosen]
        middle = (table["Z_LOW"] + table["Z_HIGH"]) / 2
        dashes = "-" if number == 0 else "--"
        axes.plot(middle, table["DV"], dashes, color=colour, linewidth=1.2)
        if number == 0:
            spread = table["DV_P16"], table["DV_P84"]
            axes.fill_between(middle, *spread, color=colour, alpha=0.2, linewidth=0)
    if not drawn:
        write_in_middle(axes, "no line above the threshold", _SMALL)


def _velocity_range(found: list[Comparison]) -> tuple[float, float]:
    """Find the range of nearly all velocities, the same to both sides of zero."""
    dv = np.concatenate([dv for each in found for _, dv in each.offsets.values()])
    size = 1.3 * float(np.percentile(np.abs(dv), 95)) if dv.size else 0.0
    return -max(size, 100.0), max(size, 100.0)
