"""What pictures show, put on the axes of matplotlib, which is imported elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..status import Status, status_words
from ._views import Float64, Line, Saliency, SpectrumView, SummaryView

# Those of matplotlib, which only `qnp_xp.plot` itself imports.
Axes = Any
Figure = Any

# Colours of Okabe and Ito, which colour-blind people can tell apart; in print the
# arms are told by where they are, and everything else by its lines and markers.
BLUE, VERMILION, GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_SKY, _ORANGE, GREY, _BLACK = "#56B4E9", "#E69F00", "#888888", "#000000"
_ARMS = {"b": BLUE, "r": VERMILION, "z": GREEN}
_OTHERS = (BLUE, VERMILION, GREEN, _PURPLE, _ORANGE, _SKY)

_SMALL, _FONT, _LARGE = 8.5, 10, 11.5
_PIXELS = {"color": GREY, "alpha": 0.35, "linewidth": 0.5, "zorder": 2}
_BAND = {"alpha": 0.25, "linewidth": 0, "zorder": 3}
_BOXES = {"cmap": "Blues", "vmin": 0, "vmax": 1, "edgecolors": "#BBBBBB"}
_BARS = {"edgecolor": _BLACK, "linewidth": 0.6}
_WEIGHTS = {True: "bold", False: "normal"}  # by whether a line counts
_BESIDE = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": _SMALL}
# At a wavelength, and at a height that a zoom leaves alone.
_LABEL: dict[str, Any] = {
    "xycoords": ("data", "axes fraction"),
    "textcoords": "offset points",
    "ha": "center",
    "fontsize": _SMALL,
    # What a user zooms away from is clipped: it would take room from the rest.
    "annotation_clip": True,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    "zorder": 5,
}

# Letters and no formulas: matplotlib's parser of these is not made for threads.
_PHYSICAL = "flux [10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹]"
_OBSERVED = "observed wavelength [Å]"
_REASONS = {
    Status.NO_GOOD_PIXEL: "no pixel on the network's grid has a positive inverse"
    " variance",
    Status.ZERO_VARIANCE: "the spectrum is constant, or too large to be normalised",
}

# Of the smoothed spectrum, in per cent: the peaks of lines are to be seen.
_LOW, _HIGH = 0.5, 99.95
_NOISY = 5  # times the usual noise, as at the ends of an arm


def draw_spectrum(
    view: SpectrumView, figure: Figure, *, physical: bool
) -> tuple[Axes, ...]:
    """Draw a spectrum, whose flux is in DESI's unit if it is `physical`."""
    heights = [4.0, max(1.0, len(view.lines) / 4)]
    if view.saliency is not None:
        heights.insert(1, 1.5)
    ratios = {"height_ratios": heights, "width_ratios": [70, 1]}
    grid = figure.add_gridspec(len(heights), 2, **ratios)
    top = figure.add_subplot(grid[0, 0])
    strip = figure.add_subplot(grid[-1, 0], sharex=top)
    waves = np.concatenate([view.edges, *(trace.wave for trace in view.traces)])
    margin = 0.01 * (waves.max() - waves.min())
    top.set_xlim(waves.min() - margin, waves.max() + margin)
    label_axes(top, y=_PHYSICAL if physical else "flux")
    top.tick_params(labelbottom=False)
    label_axes(strip, x=_OBSERVED)
    strip.set_ylim(len(view.lines), 0)
    middles = np.arange(len(view.lines)) + 0.5
    strip.set_yticks(middles, [line.name for line in view.lines])
    scale = figure.add_subplot(grid[-1, 1])
    _draw_arms(top, view)
    if view.scored:
        _draw_lines(top, view)
        _draw_rest_axis(top, float(view.row["Z_QN"]))
        _draw_boxes(strip, scale, view)
    else:
        _say_why_unscored(top, int(view.row["QN_STATUS"]))
        write_in_middle(strip, "no activations", _FONT)
        scale.set_axis_off()
    figure.suptitle(_title(view), fontsize=_LARGE, parse_math=False)
    if view.saliency is None:
        return top, strip
    panel = figure.add_subplot(grid[1, 0], sharex=top)
    _draw_saliency(panel, view.saliency, view.lines[view.saliency.line])
    return top, strip, panel


def label_axes(axes: Axes, x: str = "", y: str = "") -> None:
    """Say what the axes are, in letters of the size that all pictures have."""
    axes.set_xlabel(x, fontsize=_FONT)
    axes.set_ylabel(y, fontsize=_FONT)
    axes.tick_params(labelsize=_SMALL)


def _draw_arms(axes: Axes, view: SpectrumView) -> None:
    """Draw the pixels of each arm, the smoothed flux, and the noise about it."""
    parts = [(trace.wave, trace.despiked, trace.sigma) for trace in view.traces]
    wave, flux, sigma = np.hstack([np.empty((3, 0)), *parts])
    low, high = flux_range(wave, flux, sigma, view.edges[0], view.edges[-1])
    span = high - low
    # Room for the labels of lines; what is far outside would slow the drawing down.
    axes.set_ylim(low - 0.08 * span, high + 0.35 * span)
    limits = (low - 9 * span, high + 9 * span)
    axes.axhline(0, color=_BLACK, linewidth=0.6, linestyle=":", zorder=1)
    for number, trace in enumerate(view.traces):
        x, smooth, colour = trace.wave, trace.smooth, _colour(trace.name, number)
        pixels = np.clip(trace.flux, *limits)
        band = np.clip([smooth - trace.sigma, smooth + trace.sigma], *limits)
        smooth = np.clip(smooth, *limits)
        axes.plot(x, pixels, rasterized=True, **_PIXELS)
        axes.fill_between(x, *band, color=colour, rasterized=True, **_BAND)
        axes.plot(x, smooth, color=colour, linewidth=1.3, zorder=4, label=trace.name)
    if len(view.traces) > 1:
        _name_arms(axes, view)


def _name_arms(axes: Axes, view: SpectrumView) -> None:
    """Write the name of each arm below it: a legend would cover labels of lines."""
    left, right = axes.get_xlim()
    shown = [(n, trace) for n, trace in enumerate(view.traces) if trace.wave.size]
    middles = [float(trace.wave[[0, -1]].mean()) for _, trace in shown]
    levels = stagger(middles, 0.07 * (right - left))
    for (number, trace), x, level in zip(shown, middles, levels, strict=True):
        style = {"xytext": (0, 14 * level), "color": _colour(trace.name, number)}
        axes.annotate(f"arm {trace.name}", (x, 0.02), va="bottom", **style, **_LABEL)


def _colour(name: str, number: int) -> str:
    """Return the colour of an arm by its name, else by its number."""
    return _ARMS.get(name.lower(), _OTHERS[number % len(_OTHERS)])


def _draw_lines(axes: Axes, view: SpectrumView) -> None:
    """Draw each line at the redshift of the spectrum, with its confidence."""
    left, right = axes.get_xlim()
    # Broad absorption is where its emission line is, and seldom there.
    inside = [line for line in view.lines if left < line.wave < right]
    shown = [line for line in inside if line.above or not line.name.startswith("BAL_")]
    width = 0.09 * (right - left)
    levels = stagger([line.wave for line in shown], width)
    for line, level in zip(shown, levels, strict=True):
        colour, dashes = (_BLACK, "-") if line.above else (GREY, "--")
        axes.axvline(line.wave, color=colour, linestyle=dashes, linewidth=1, zorder=2.5)
        x = min(max(line.wave, left + width / 2), right - width / 2)
        text = f"{line.name} {line.confidence:.2f}"
        style = {"xytext": (0, -14 * level), "fontweight": _WEIGHTS[line.above]}
        axes.annotate(text, (x, 0.97), va="top", **style, **_LABEL)


def _draw_rest_axis(axes: Axes, z: float) -> None:
    """Add an axis of rest wavelengths."""
    rest = axes.secondary_xaxis(
        "top", functions=(lambda wave: wave / (1 + z), lambda wave: wave * (1 + z))
    )
    label_axes(rest, x=f"rest wavelength [Å] at z = {z:.4f}")


def _draw_boxes(axes: Axes, scale: Axes, view: SpectrumView) -> None:
    """Draw the activations of the boxes of each line, and where it was found."""
    title = (
        "Boxes of each line. Circle: where it was found; bar: where Z_QN puts it;"
        f" solid: confidence above {view.c_thresh:g}."
    )
    axes.set_title(title, loc="left", fontsize=_SMALL)
    rows = np.arange(len(view.lines) + 1)
    mesh = axes.pcolormesh(view.edges, rows, view.boxes, linewidth=0.5, **_BOXES)
    for row, line in enumerate(view.lines):
        middle, weight = row + 0.5, _WEIGHTS[line.above]
        edge, dashes = (_BLACK, "-") if line.above else (GREY, ":")
        circle = {"color": "white", "markeredgecolor": edge, "markersize": 5}
        axes.plot([line.found], [middle], "o", zorder=4, **circle)
        text = f"{line.confidence:.2f}"
        axes.annotate(text, (1.005, middle), fontweight=weight, **_BESIDE)
        upright = [line.wave, line.wave], [row, row + 1]
        axes.plot(*upright, color=VERMILION, linestyle=dashes, linewidth=2)
    bar = axes.figure.colorbar(mesh, cax=scale)
    bar.set_label("activation", fontsize=_SMALL)
    bar.ax.tick_params(labelsize=_SMALL)


def _draw_saliency(axes: Axes, saliency: Saliency, line: Line) -> None:
    """Draw how the confidence of a line changes with the flux in each bin."""
    axes.tick_params(labelbottom=False)
    label_axes(axes, y="saliency")
    if not np.any(np.isfinite(saliency.slopes)):
        axes.set_yticks([])
        write_in_middle(axes, "no gradient", _FONT)
        return
    title = (
        f"Saliency of {line.name}: change of its confidence, {line.confidence:.2f}, for"
        " one rms more flux in a bin. Dashed: where Z_QN puts it."
    )
    axes.set_title(title, loc="left", fontsize=_SMALL)
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.locator_params(axis="y", nbins=4)
    axes.axhline(0, color=_BLACK, linewidth=0.6)
    for colour, limits in ((BLUE, (0, None)), (VERMILION, (None, 0))):
        part = np.clip(saliency.slopes, *limits)
        axes.stairs(part, saliency.edges, fill=True, color=colour)
    axes.axvline(line.wave, color=GREY, linestyle="--", linewidth=1, zorder=0)


def _say_why_unscored(axes: Axes, status: int) -> None:
    """Write why a spectrum has no result."""
    reason = next(text for bit, text in _REASONS.items() if status & int(bit))
    box = {"facecolor": "white", "edgecolor": _BLACK}
    write_in_middle(axes, f"cannot be scored:\n{reason}", _LARGE, zorder=6, bbox=box)


def write_in_middle(axes: Axes, text: str, size: float, **style: Any) -> None:
    """Write in the middle of axes."""
    where = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, fontsize=size, **where, **style)


def _title(view: SpectrumView) -> str:
    """Name the spectrum, and say what the network found."""
    row, plate = view.row, ("PLATE", "MJD", "FIBERID")
    name = ""
    if row["TARGETID"] != -1:
        name = f"TARGETID {row['TARGETID']}, "
    elif set(plate) <= set(row.dtype.names):
        name = "-".join(str(row[column]) for column in plate) + ", "
    first = f"{name}row {view.index} of {plain(Path(view.name).name)}"
    status = f"status: {status_words(int(row['QN_STATUS']))}"
    if not view.scored:
        return f"{first}\n{status}"
    kind = "quasar" if row["IS_QSO_QN"] else "not a quasar"
    z, confidence = float(row["Z_QN"]), float(row["Z_QN_CONF"])
    return f"{first}\n{kind}, Z_QN = {z:.4f}, confidence {confidence:.3f}, {status}"


def plain(name: str) -> str:
    """Make a name one that every font can show, and that fits."""
    name = name.encode("ascii", "backslashreplace").decode()
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= 60 else f"{name[:57]}..."


def flux_range(
    wave: Float64, flux: Float64, sigma: Float64, low: float, high: float
) -> tuple[float, float]:
    """Find the range of zero and of nearly all flux between two wavelengths."""
    known = np.isfinite(flux) & np.isfinite(sigma)
    inside = known & (wave >= low) & (wave <= high)
    chosen = inside if np.any(inside) else known
    values, noise = flux[chosen], sigma[chosen]
    if not values.size:
        return -1.0, 1.0
    # An arm may end in pixels of noise far above the rest.
    values = values[noise <= _NOISY * np.median(noise)]
    bottom, top = np.percentile(values, [_LOW, _HIGH])
    bottom, top = min(float(bottom), 0.0), max(float(top), 0.0)
    return (bottom, top) if top > bottom else (-1.0, 1.0)


def stagger(positions: Sequence[float], width: float) -> list[int]:
    """Give labels of one width the lowest levels at which none covers another."""
    levels = [0] * len(positions)
    ends: list[float] = []
    for number in sorted(range(len(positions)), key=positions.__getitem__):
        start = positions[number] - width / 2
        free = (level for level, end in enumerate(ends) if end <= start)
        level = next(free, len(ends))
        ends[level : level + 1] = [start + width]
        levels[number] = level
    return levels


def draw_summary(view: SummaryView, figure: Figure, title: str) -> tuple[Axes, ...]:
    """Draw what a table holds, under its name."""
    axes = tuple(figure.subplots(2, 2).ravel())
    redshifts, confidences, line_counts, lines = axes
    quasars = int(view.quasar.sum())
    above = f"with a confidence above {view.c_thresh:g}"
    _draw_redshifts(redshifts, view)
    _draw_confidences(confidences, view)
    numbers = [str(number) for number in range(len(view.names) + 1)]
    counts = np.bincount(view.above.sum(axis=0)[view.quasar], minlength=len(numbers))
    label_axes(line_counts, f"lines {above}", "quasars")
    _draw_bars(line_counts, numbers, counts, color=BLUE)
    label_axes(lines, f"line, {above}", "quasars")
    _draw_bars(lines, view.names, view.above.sum(axis=1), color=_ORANGE, hatch="//")
    if not quasars:
        for panel in (redshifts, line_counts, lines):
            write_in_middle(panel, "no quasar", _LARGE)
    first = f"{plain(title)}: " if title else ""
    text = f"{first}{view.total} rows, {view.z.size} scored, {quasars} quasars"
    figure.suptitle(text, fontsize=_LARGE, parse_math=False)
    return axes


def _draw_redshifts(axes: Axes, view: SummaryView) -> None:
    """Draw how many quasars there are in each tenth of redshift."""
    z = view.z[view.quasar]
    low, high = np.floor(10 * z.min(initial=0)), np.ceil(10 * z.max(initial=1))
    axes.hist(z, bins=np.arange(low, high + 1) / 10, color=GREEN, **_BARS)
    label_axes(axes, "Z_QN of the quasars", "quasars")
    axes.yaxis.get_major_locator().set_params(integer=True)


def _draw_confidences(axes: Axes, view: SummaryView) -> None:
    """Draw the confidence of each row by its redshift."""
    style = {"markersize": 4, "alpha": 0.7, "rasterized": True}
    z, confidence, quasar = view.z, view.confidence, view.quasar
    other = ~quasar
    axes.plot(z[other], confidence[other], "x", color=GREY, label="others", **style)
    axes.plot(z[quasar], confidence[quasar], "o", color=BLUE, label="quasars", **style)
    axes.axhline(view.c_thresh, color=VERMILION, linestyle="--", label="threshold")
    axes.set_ylim(-0.03, 1.05)
    label_axes(axes, "Z_QN", "Z_QN_CONF")
    axes.legend(fontsize=_SMALL, loc="best")


def _draw_bars(axes: Axes, names: Sequence[str], counts: Any, **style: Any) -> None:
    """Draw a bar of each count, with its name below and its number above."""
    bars = axes.bar(range(len(names)), counts, **style, **_BARS)
    axes.bar_label(bars, fmt="%d", padding=1, fontsize=_SMALL)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1.15 * max(1, int(counts.max(initial=0))))
