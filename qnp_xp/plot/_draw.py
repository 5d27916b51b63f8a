"""What pictures show, put on the axes of matplotlib, which is imported elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..status import status_words
from ._curves import flux_range, stagger
from ._views import SpectrumView, SummaryView

__all__ = ["draw_spectrum", "draw_summary"]

# Those of matplotlib, which only plot.py names.
Axes = Any
Figure = Any

# Colours of Okabe and Ito, which colour-blind people can tell apart; in print the
# arms are told by where they are, and everything else by its lines and markers.
_BLUE, _VERMILION, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_SKY, _ORANGE, _GREY, _BLACK = "#56B4E9", "#E69F00", "#888888", "#000000"
_ARMS = {"b": _BLUE, "r": _VERMILION, "z": _GREEN}
_OTHERS = (_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY)

_SMALL, _FONT, _LARGE = 8.5, 10, 11.5
# What a user zooms away from is clipped: it would take room from the rest.
_LABEL: dict[str, Any] = {
    "annotation_clip": True,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    "zorder": 5,
}

# Letters and no formulas: matplotlib's parser of these is not made for threads.
_PHYSICAL = "flux [10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹]"
_OBSERVED = "observed wavelength [Å]"
_REASONS = {
    "no good pixel": "no pixel on the network's grid has a positive inverse variance",
    "zero variance": "the spectrum is constant, or too large to be normalised",
}


def draw_spectrum(
    view: SpectrumView, figure: Figure, *, physical: bool
) -> tuple[Axes, Axes]:
    """Draw a spectrum.

    Parameters
    ----------
    view
        What to draw.
    figure
        Where to.
    physical
        Whether the unit of its flux is DESI's.

    Returns
    -------
    axes : tuple of matplotlib.axes.Axes
        As for `qnp_xp.plot.spectrum`.
    """
    height = max(1.0, len(view.names) / 4)
    grid = figure.add_gridspec(2, 2, height_ratios=[4, height], width_ratios=[70, 1])
    top = figure.add_subplot(grid[0, 0])
    strip = figure.add_subplot(grid[1, 0], sharex=top)
    waves = [trace.wave for trace in view.traces if trace.wave.size]
    ends = np.concatenate([view.edges[[0, -1]], *waves])
    margin = 0.01 * (ends.max() - ends.min())
    top.set_xlim(ends.min() - margin, ends.max() + margin)
    _draw_arms(top, view)
    _draw_markers(top, view)
    top.set_ylabel(_PHYSICAL if physical else "flux", fontsize=_FONT)
    top.tick_params(labelbottom=False, labelsize=_SMALL)
    if view.scored:
        _rest_axis(top, view.z)
    _draw_boxes(strip, figure.add_subplot(grid[1, 1]), view)
    figure.suptitle(_title(view), fontsize=_LARGE, parse_math=False)
    return top, strip


def _draw_arms(axes: Axes, view: SpectrumView) -> None:
    wave, flux, sigma = (
        np.concatenate([np.empty(0), *(getattr(trace, part) for trace in view.traces)])
        for part in ("wave", "calm", "sigma")
    )
    low, high = flux_range(wave, flux, sigma, view.edges[0], view.edges[-1])
    span = high - low
    # Room for the labels of lines; what is far outside would slow the drawing down.
    axes.set_ylim(low - 0.08 * span, high + 0.35 * span)
    inside = (low - 9 * span, high + 9 * span)
    axes.axhline(0, color=_BLACK, linewidth=0.6, linestyle=":", zorder=1)
    for number, trace in enumerate(view.traces):
        colour = _colour(trace.name, number)
        middle = trace.smooth
        band = np.clip([middle - trace.sigma, middle + trace.sigma], *inside)
        axes.plot(trace.wave, np.clip(trace.flux, *inside), color=_GREY, alpha=0.35,
            linewidth=0.5, zorder=2, rasterized=True)  # fmt: skip
        axes.fill_between(trace.wave, band[0], band[1], color=colour, alpha=0.25,
            linewidth=0, zorder=3, rasterized=True)  # fmt: skip
        axes.plot(trace.wave, np.clip(middle, *inside), color=colour, linewidth=1.3,
            zorder=4, label=trace.name)  # fmt: skip
    if not view.scored:
        words = status_words(int(view.row["QN_STATUS"]))
        reason = next((text for key, text in _REASONS.items() if key in words), words)
        axes.text(0.5, 0.5, f"cannot be scored:\n{reason}", transform=axes.transAxes,
            ha="center", va="center", fontsize=_LARGE, zorder=6,
            bbox={"facecolor": "white", "edgecolor": _BLACK})  # fmt: skip
    if len(view.traces) > 1:
        _name_arms(axes, view)


def _name_arms(axes: Axes, view: SpectrumView) -> None:
    """Write the name of each arm below it: a legend would cover labels of lines."""
    left, right = axes.get_xlim()
    known = [(n, trace) for n, trace in enumerate(view.traces) if trace.wave.size]
    middles = [float(trace.wave[[0, -1]].mean()) for _, trace in known]
    levels = stagger(middles, 0.07 * (right - left))
    for (number, trace), middle, level in zip(known, middles, levels, strict=True):
        axes.annotate(f"arm {trace.name}", (middle, 0.02), xytext=(0, 14 * level),
            xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
            va="bottom", fontsize=_SMALL, color=_colour(trace.name, number),
            **_LABEL)  # fmt: skip


def _colour(name: str, number: int) -> str:
    return _ARMS.get(name.lower(), _OTHERS[number % len(_OTHERS)])


def _draw_markers(axes: Axes, view: SpectrumView) -> None:
    left, right = axes.get_xlim()
    shown = [
        marker
        for marker in view.markers
        if left < marker.wave < right
        # Broad absorption is where its emission line is, and seldom there.
        and (marker.counts or not marker.name.startswith("BAL_"))
    ]
    room = 0.09 * (right - left)
    levels = stagger([marker.wave for marker in shown], room)
    for marker, level in zip(shown, levels, strict=True):
        style = "-" if marker.counts else "--"
        axes.axvline(marker.wave, color=_BLACK if marker.counts else _GREY,
            linestyle=style, linewidth=1.0, zorder=2.5, label="_line")  # fmt: skip
        middle = min(max(marker.wave, left + room / 2), right - room / 2)
        axes.annotate(f"{marker.name} {marker.confidence:.2f}", (middle, 0.97),
            xycoords=("data", "axes fraction"), xytext=(0, -14 * level),
            textcoords="offset points", ha="center", va="top", fontsize=_SMALL,
            fontweight="bold" if marker.counts else "normal", **_LABEL)  # fmt: skip


def _rest_axis(axes: Axes, z: float) -> None:
    rest = axes.secondary_xaxis(
        "top", functions=(lambda wave: wave / (1 + z), lambda wave: wave * (1 + z))
    )
    rest.set_xlabel(f"rest wavelength [Å] at z = {z:.4f}", fontsize=_FONT)
    rest.tick_params(labelsize=_SMALL)


def _draw_boxes(axes: Axes, scale: Axes, view: SpectrumView) -> None:
    rows = np.arange(len(view.names) + 1)
    axes.set_ylim(rows[-1], 0)
    axes.set_yticks(rows[:-1] + 0.5, view.names, fontsize=_SMALL)
    axes.tick_params(axis="x", labelsize=_SMALL)
    axes.set_xlabel(_OBSERVED, fontsize=_FONT)
    if not view.scored:
        axes.text(0.5, 0.5, "no activations", transform=axes.transAxes,
            ha="center", va="center", fontsize=_FONT)  # fmt: skip
        scale.set_axis_off()
        return
    axes.set_title(f"Boxes of each line. Circle: where it was found; bar: where Z_QN"
        f" puts it; solid: confidence above {view.c_thresh:g}.", loc="left",
        fontsize=_SMALL)  # fmt: skip
    mesh = axes.pcolormesh(view.edges, rows, view.boxes, cmap="Blues", vmin=0, vmax=1,
        edgecolors="#BBBBBB", linewidth=0.5)  # fmt: skip
    for row, marker in enumerate(view.markers):
        axes.plot([view.found[row]], [row + 0.5], color="white", linestyle="none",
            marker="o", markersize=5, zorder=4,
            markeredgecolor=_BLACK if marker.counts else _GREY)  # fmt: skip
        axes.annotate(f"{marker.confidence:.2f}", (1.005, row + 0.5), va="center",
            xycoords=("axes fraction", "data"), fontsize=_SMALL,
            fontweight="bold" if marker.counts else "normal")  # fmt: skip
        axes.plot([marker.wave] * 2, [row, row + 1], color=_VERMILION,
            linewidth=2.0, linestyle="-" if marker.counts else ":")  # fmt: skip
    bar = axes.figure.colorbar(mesh, cax=scale)
    bar.set_label("activation", fontsize=_SMALL)
    bar.ax.tick_params(labelsize=_SMALL)


def _title(view: SpectrumView) -> str:
    row, names = view.row, view.row.dtype.names
    what = f"TARGETID {view.targetid}, " if view.targetid != -1 else ""
    if not what and {"PLATE", "MJD", "FIBERID"} <= set(names):
        what = "-".join(str(row[name]) for name in ("PLATE", "MJD", "FIBERID")) + ", "
    first = f"{what}row {view.number} of {_plain(Path(view.name).name)}"
    status = f"status: {status_words(int(row['QN_STATUS']))}"
    if not view.scored:
        return f"{first}\n{status}"
    kind = "quasar" if view.quasar else "not a quasar"
    return (
        f"{first}\n{kind}, Z_QN = {view.z:.4f}, confidence"
        f" {float(row['Z_QN_CONF']):.3f}, {status}"
    )


def _plain(name: str) -> str:
    """A name that every font can show, and that fits."""
    name = name.encode("ascii", "backslashreplace").decode()
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= 60 else f"{name[:57]}..."


def draw_summary(view: SummaryView, figure: Figure, title: str) -> tuple[Axes, ...]:
    """Draw what a table holds.

    Parameters
    ----------
    view
        What to draw.
    figure
        Where to.
    title
        What to call the table.

    Returns
    -------
    axes : tuple of matplotlib.axes.Axes
        As for `qnp_xp.plot.summary`.
    """
    axes = tuple(figure.subplots(2, 2).ravel())
    quasars = int(view.quasar.sum())
    _draw_redshifts(axes[0], view)
    _draw_confidences(axes[1], view)
    above = f"confidence above {view.c_thresh:g}"
    counts = np.arange(view.counts.size)
    axes[2].bar(counts, view.counts, color=_BLUE, edgecolor=_BLACK, linewidth=0.6)
    axes[2].set_xticks(counts)
    axes[2].set_xlabel(f"lines with a {above}", fontsize=_FONT)
    places = np.arange(len(view.names))
    axes[3].bar(places, view.by_line, color=_ORANGE, edgecolor=_BLACK, linewidth=0.6,
        hatch="//")  # fmt: skip
    axes[3].set_xticks(places, view.names)
    axes[3].set_xlabel(f"line, with a {above}", fontsize=_FONT)
    for bars, heights in ((axes[2], view.counts), (axes[3], view.by_line)):
        bars.set_ylim(0, 1.15 * max(1, int(heights.max(initial=0))))
        for place, value in enumerate(heights.tolist()):
            bars.annotate(str(value), (place, value), ha="center", va="bottom",
                xytext=(0, 1), textcoords="offset points", fontsize=_SMALL)  # fmt: skip
    for panel in (axes[0], axes[2], axes[3]):
        panel.set_ylabel("quasars", fontsize=_FONT)
        if not quasars:
            panel.text(0.5, 0.5, "no quasar", transform=panel.transAxes, ha="center",
                va="center", fontsize=_LARGE)  # fmt: skip
    for panel in axes:
        panel.tick_params(labelsize=_SMALL)
    first = f"{_plain(title)}: " if title else ""
    text = f"{first}{view.total} rows, {view.z.size} scored, {quasars} quasars"
    figure.suptitle(text, fontsize=_LARGE, parse_math=False)
    return axes


def _draw_redshifts(axes: Axes, view: SummaryView) -> None:
    z: NDArray[np.float64] = view.z[view.quasar]
    edges = np.arange(
        np.floor(10 * z.min(initial=0)), np.ceil(10 * z.max(initial=1)) + 1
    )
    axes.hist(z, bins=edges / 10, color=_GREEN, edgecolor=_BLACK, linewidth=0.6)
    axes.set_xlabel("Z_QN of the quasars", fontsize=_FONT)
    axes.yaxis.get_major_locator().set_params(integer=True)


def _draw_confidences(axes: Axes, view: SummaryView) -> None:
    for chosen, name, marker, colour in (
        (~view.quasar, "others", "x", _GREY),
        (view.quasar, "quasars", "o", _BLUE),
    ):
        axes.plot(view.z[chosen], view.confidence[chosen], linestyle="none",
            marker=marker, markersize=4, color=colour, alpha=0.7, label=name,
            rasterized=True)  # fmt: skip
    axes.axhline(view.c_thresh, color=_VERMILION, linestyle="--", label="threshold")
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("Z_QN", fontsize=_FONT)
    axes.set_ylabel("Z_QN_CONF", fontsize=_FONT)
    axes.legend(fontsize=_SMALL, loc="best")
