"""What pictures show, put on the axes of matplotlib, which is imported elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..status import Status, status_words
from ._views import Line, Saliency, SpectrumView
from ._zoom import Labels, follow_zoom, show_flux

# Those of matplotlib, which only `qnp_xp.plot` itself imports.
Axes = Any
Figure = Any

# Colours of Okabe and Ito, which colour-blind people can tell apart; in print the
# arms are told by where they are, and everything else by its lines and markers.
BLUE, VERMILION, GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_SKY, ORANGE, GREY, _BLACK = "#56B4E9", "#E69F00", "#888888", "#000000"
_ARMS = {"b": BLUE, "r": VERMILION, "z": GREEN}
_OTHERS = (BLUE, VERMILION, GREEN, _PURPLE, ORANGE, _SKY)

SMALL, FONT, LARGE = 8.5, 10, 11.5
_JOINT = "\N{NO-BREAK SPACE}"  # within what stays on one line
_LETTER = 0.5  # width of a letter, as a part of its size
_PIXELS = {"color": GREY, "alpha": 0.35, "linewidth": 0.5, "zorder": 2}
_BAND = {"alpha": 0.25, "linewidth": 0, "zorder": 3}
_BOXES = {"cmap": "Blues", "vmin": 0, "vmax": 1, "edgecolors": "#BBBBBB"}
BARS = {"edgecolor": _BLACK, "linewidth": 0.6}
_WEIGHTS = {True: "bold", False: "normal"}  # by whether a line counts
_BESIDE = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": SMALL}
# At a wavelength, and at a height that a zoom leaves alone.
_LABEL: dict[str, Any] = {
    "xycoords": ("data", "axes fraction"),
    "textcoords": "offset points",
    "ha": "center",
    "fontsize": SMALL,
    # What a user zooms away from is clipped: it would take room from the rest.
    "annotation_clip": True,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    "zorder": 5,
}

# Letters and no formulas: matplotlib's parser of these is not made for threads.
_PHYSICAL = "flux [10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹]"
_OBSERVED = "observed wavelength [Å]"
_TRACE = ["flux of a pixel", "± its standard deviation", "smoothed flux"]
_REASONS = {
    Status.NO_GOOD_PIXEL: "no pixel on the network's grid has a positive inverse"
    " variance",
    Status.ZERO_VARIANCE: "the spectrum is constant, or too large to be normalised",
}


def draw_spectrum(
    view: SpectrumView, figure: Figure, *, physical: bool
) -> tuple[Axes, ...]:
    """Draw a spectrum, whose flux is in DESI's unit if it is `physical`.

    The axes are those of the spectrum, of its boxes, and of the saliency if there is.
    """
    heights = [4.0, max(1.0, len(view.lines) / 4)]
    if view.saliency is not None:
        heights.insert(1, 1.5)
    ratios = {"height_ratios": heights, "width_ratios": [70, 1]}
    grid = figure.add_gridspec(len(heights), 2, **ratios)
    top = figure.add_subplot(grid[0, 0])
    panels = [top, figure.add_subplot(grid[-1, 0], sharex=top)]
    scale = figure.add_subplot(grid[-1, 1])
    if view.saliency is not None:
        panels.append(figure.add_subplot(grid[1, 0], sharex=top))
    draw_panels(view, panels, scale, physical=physical)
    for panel in (top, *panels[2:]):
        panel.set_xlabel("")
        panel.tick_params(labelbottom=False)
    _draw_legend(top)
    title = fitted(spectrum_title(view), figure.bbox, figure.dpi, LARGE)
    figure.suptitle(title, fontsize=LARGE, parse_math=False)
    return tuple(panels)


def set_title(axes: Axes, text: str, size: float = SMALL, loc: str = "left") -> None:
    """Write above axes, in as many lines as are needed."""
    text = fitted(text, axes.get_window_extent(), axes.figure.dpi, size)
    axes.set_title(text, loc=loc, fontsize=size, parse_math=False)


def fitted(text: str, box: Any, dpi: float, size: float) -> str:
    """Break the lines of a text that are wider than a box on a figure."""
    letters = int(box.width / dpi * 72 / (_LETTER * size))
    lines = (textwrap.wrap(line, max(letters, 20)) for line in text.splitlines())
    return "\n".join(part for line in lines for part in line).replace(_JOINT, " ")


def draw_panels(
    view: SpectrumView,
    panels: Sequence[Axes],
    scale: Axes | None = None,
    *,
    physical: bool,
) -> None:
    """Draw a spectrum on axes, as many as there are, and the colours of its boxes."""
    top, *others = panels
    waves = np.concatenate([view.edges, *(trace.wave for trace in view.traces)])
    margin = 0.01 * (waves.max() - waves.min())
    for panel in panels:
        panel.set_xlim(waves.min() - margin, waves.max() + margin)
        label_axes(panel, x=_OBSERVED)
    top.set_ylabel(_PHYSICAL if physical else "flux", fontsize=FONT)
    labels = [_draw_arms(top, view)]
    if not view.scored:
        _say_why_unscored(top, int(view.row["QN_STATUS"]))
    elif view.is_quasar:
        labels.append(_draw_lines(top, view))
        _draw_rest_axis(top, float(view.row["Z_QN"]))
    follow_zoom(panels, view, labels)
    if others:
        _draw_strip(others[0], scale, view)
    if len(others) > 1 and view.saliency is not None:
        line = view.lines[view.saliency.line]
        _draw_saliency(others[1], view.saliency, line, view.is_quasar)


def _draw_strip(axes: Axes, scale: Axes | None, view: SpectrumView) -> None:
    """Draw a row for each line, with its boxes if the spectrum has a result."""
    axes.set_ylim(len(view.lines), 0)
    middles = np.arange(len(view.lines)) + 0.5
    axes.set_yticks(middles, [line.name for line in view.lines])
    if view.scored:
        _draw_boxes(axes, scale, view)
        return
    write_in_middle(axes, "no activations", FONT)
    if scale is not None:
        scale.set_axis_off()


def label_axes(axes: Axes, x: str = "", y: str = "") -> None:
    """Say what the axes are, in letters of the size that all pictures have."""
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.tick_params(labelsize=SMALL)


def _draw_arms(axes: Axes, view: SpectrumView) -> Labels:
    """Draw the pixels of each arm, the smoothed flux, the noise about it, and names."""
    low, high = show_flux(axes, view, sorted(axes.get_xlim()))
    span = high - low
    # What is far outside would slow the drawing down.
    limits = (low - 9 * span, high + 9 * span)
    axes.axhline(0, color=_BLACK, linewidth=0.6, linestyle=":", zorder=1)
    names = []
    for number, trace in enumerate(view.traces):
        x, smooth, colour = trace.wave, trace.smooth, arm_colour(trace.name, number)
        pixels = np.clip(trace.flux, *limits)
        band = np.clip([smooth - trace.sigma, smooth + trace.sigma], *limits)
        smooth = np.clip(smooth, *limits)
        said = _TRACE if number == 0 else ["_"] * len(_TRACE)
        axes.plot(x, pixels, rasterized=True, label=said[0], **_PIXELS)
        style = {"color": colour, "label": said[1], **_BAND}
        axes.fill_between(x, *band, rasterized=True, **style)
        axes.plot(x, smooth, color=colour, linewidth=1.3, zorder=4, label=said[2])
        if len(view.traces) > 1 and x.size:
            where = {"xytext": (0, 0), "color": colour, "va": "bottom"}
            text = axes.annotate(f"arm {trace.name}", (x[0], 0.02), **where, **_LABEL)
            names.append((float(x[0]), float(x[-1]), text))
    return Labels(names, 0.07, 14)


def _draw_legend(axes: Axes) -> None:
    """Say below the axes what is drawn: inside, it would cover labels of lines."""
    if not axes.get_legend_handles_labels()[0]:  # there is no arm
        return
    where = {"loc": "upper left", "bbox_to_anchor": (0, -0.02), "borderaxespad": 0}
    row = {"ncol": 8, "handlelength": 1.4, "columnspacing": 1.1, "frameon": False}
    axes.legend(fontsize=SMALL, **where, **row)


def arm_colour(name: str, number: int) -> str:
    """Return the colour of an arm by its name, else by its number."""
    return _ARMS.get(name.lower(), _OTHERS[number % len(_OTHERS)])


def _draw_lines(axes: Axes, view: SpectrumView) -> Labels:
    """Draw each line at the redshift of the quasar, with its confidence."""
    left, right = axes.get_xlim()
    inside = [line for line in view.lines if left < line.wave < right]
    # Broad absorption is where its emission line is, and seldom there.
    shown = [line for line in inside if line.above or not line.name.startswith("BAL_")]
    labels, known = [], {"_"}
    for line in shown:
        colour, dashes = (_BLACK, "-") if line.counts else (GREY, "--")
        side = "above {:g}" if line.counts else "below {:g}, or without pixels"
        what = f"line {side.format(view.c_thresh)}"
        style = {"linestyle": dashes, "linewidth": 1, "zorder": 2.5}
        style["label"] = "_" if what in known else what
        known.add(what)
        axes.axvline(line.wave, color=colour, **style)
        text = f"{line.name} {line.confidence:.2f}{_no_pixels(line)}"
        where = {"xytext": (0, 0), "va": "top", "fontweight": _WEIGHTS[line.counts]}
        label = axes.annotate(text, (line.wave, 0.97), **where, **_LABEL)
        labels.append((line.wave, line.wave, label))
    return Labels(labels, 0.09, -14)


def _no_pixels(line: Line) -> str:
    """Say of a line above the threshold that there is no pixel where it was found."""
    return " (no pixels)" if line.above and not line.on_pixels else ""


def _draw_rest_axis(axes: Axes, z: float) -> None:
    """Add an axis of rest wavelengths."""
    rest = axes.secondary_xaxis(
        "top", functions=(lambda wave: wave / (1 + z), lambda wave: wave * (1 + z))
    )
    label_axes(rest, x=f"rest wavelength [Å] at z = {z:.4f}")


def _draw_boxes(axes: Axes, scale: Axes | None, view: SpectrumView) -> None:
    """Draw the activations of the boxes of each line, and where it was found."""
    bar = " bar: where Z_QN puts it;" if view.is_quasar else ""
    title = (
        f"Boxes. Circle: where a line was found; black: above {view.c_thresh:g};"
        f" hollow: no pixels there;{bar}".rstrip(";")
    )
    set_title(axes, title)
    rows = np.arange(len(view.lines) + 1)
    mesh = axes.pcolormesh(view.edges, rows, view.boxes, linewidth=0.5, **_BOXES)
    for row, line in enumerate(view.lines):
        middle, weight = row + 0.5, _WEIGHTS[line.counts]
        edge, dashes = (_BLACK, "-") if line.counts else (GREY, ":")
        fill, rim = (edge, "white") if line.on_pixels else ("none", edge)
        circle = {"color": fill, "markeredgecolor": rim, "markersize": 5.5}
        axes.plot([line.found], [middle], "o", zorder=4, **circle)
        text = f"{line.confidence:.2f}"
        axes.annotate(text, (1.005, middle), fontweight=weight, **_BESIDE)
        if view.is_quasar:
            upright = [line.wave, line.wave], [row, row + 1]
            axes.plot(*upright, color=VERMILION, linestyle=dashes, linewidth=2)
    if scale is not None:
        colours = axes.figure.colorbar(mesh, cax=scale)
        colours.set_label("activation", fontsize=SMALL)
        scale.tick_params(labelsize=SMALL)


def _draw_saliency(axes: Axes, saliency: Saliency, line: Line, is_quasar: bool) -> None:
    """Draw how the confidence of a line changes with the flux in each bin."""
    axes.set_ylabel("saliency", fontsize=FONT)
    if not np.any(np.isfinite(saliency.slopes)):
        axes.set_yticks([])
        write_in_middle(axes, "no gradient", FONT)
        return
    title = (
        f"Saliency of {line.name}: change of its confidence, {line.confidence:.2f}, for"
        f" one rms more flux in a bin.{' Dashed: where Z_QN puts it.' * is_quasar}"
    )
    set_title(axes, title)
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.locator_params(axis="y", nbins=4)
    axes.axhline(0, color=_BLACK, linewidth=0.6)
    for colour, limits in ((BLUE, (0, None)), (VERMILION, (None, 0))):
        part = np.clip(saliency.slopes, *limits)
        axes.stairs(part, saliency.edges, fill=True, color=colour)
    if is_quasar:
        axes.axvline(line.wave, color=GREY, linestyle="--", linewidth=1, zorder=0)


def _say_why_unscored(axes: Axes, status: int) -> None:
    """Write why a spectrum has no result."""
    reason = next(text for bit, text in _REASONS.items() if status & int(bit))
    box = {"facecolor": "white", "edgecolor": _BLACK}
    write_in_middle(axes, f"cannot be scored:\n{reason}", LARGE, zorder=6, bbox=box)


def write_in_middle(axes: Axes, text: str, size: float, **style: Any) -> None:
    """Write in the middle of axes."""
    where = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, fontsize=size, **where, **style)


def spectrum_title(view: SpectrumView) -> str:
    """Name the spectrum, and say what the network found."""
    row = view.row
    place = "" if view.place is None else "RA {:.5f}, Dec {:+.5f}".format(*view.place)
    parts = [view.label, f"row {view.index} of {plain(Path(view.name).name)}", place]
    first = _joined([part for part in parts if part])
    status = f"status: {status_words(int(row['QN_STATUS']))}"
    if not view.scored:
        return f"{first}\n{status}"
    kind = "quasar" if view.is_quasar else "not a quasar"
    z, confidence = float(row["Z_QN"]), float(row["Z_QN_CONF"])
    bal = [line for line in view.lines if line.name.startswith("BAL_")]
    said = [f"{line.name} {line.confidence:.2f}" for line in bal if view.is_quasar]
    found = [kind, f"Z_QN = {z:.4f}", f"confidence {confidence:.3f}", *said, status]
    return f"{first}\n{_joined(found)}"


def _joined(parts: Sequence[str]) -> str:
    """Join parts by commas, after which alone a line may end."""
    return ", ".join(part.replace(" ", _JOINT) for part in parts)


def plain(name: str) -> str:
    """Make a name one that every font can show, and that fits."""
    name = name.encode("ascii", "backslashreplace").decode()
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= 60 else f"{name[:57]}..."
