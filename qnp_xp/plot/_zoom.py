"""What follows the wavelengths that are shown: labels, and the range of flux."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._views import Float64, SpectrumView

Axes = Any

# Of the smoothed spectrum, in per cent: the peaks of lines are to be seen.
_LOW, _HIGH = 0.5, 99.95
_NOISY = 5  # times the usual noise, as at the ends of an arm
# Parts of the range of flux that are left below and above, for labels.
_BELOW, _ABOVE = 0.08, 0.35


@dataclass(frozen=True)
class Labels:
    """Annotations that stand beside each other, or in levels where there is no room."""

    #: What each belongs to, from and to a wavelength, and the annotation.
    items: list[tuple[float, float, Any]]
    width: float  #: of a label, as a part of the axis
    step: float  #: from level to level, in points

    def place(self, left: float, right: float) -> None:
        """Put each in the middle of what is seen of its range, and hide the others."""
        width = self.width * (right - left)
        seen = []
        for low, high, label in self.items:
            label.set_visible(low < right and high > left)
            if label.get_visible():
                seen.append(((max(low, left) + min(high, right)) / 2, label))
        levels = stagger([x for x, _ in seen], width)
        for (x, label), level in zip(seen, levels, strict=True):
            inside = min(max(x, left + width / 2), right - width / 2)
            label.xy = inside, label.xy[1]
            label.xyann = 0, self.step * level


def show_flux(
    axes: Axes, view: SpectrumView, shown: Sequence[float]
) -> tuple[float, float]:
    """Show the flux of the wavelengths that are shown, and return its range."""
    low, high = view_range(view, shown)
    span = high - low
    axes.set_ylim(low - _BELOW * span, high + _ABOVE * span)
    return low, high


def follow_zoom(
    panels: Sequence[Axes], view: SpectrumView, labels: Sequence[Labels]
) -> None:
    """Have labels and the range of flux follow the wavelengths that are shown.

    They are those of the first panel. A range of flux that somebody else has set stays
    as it is.
    """
    top = panels[0]
    own = [top.get_ylim()]

    def follow(changed: Axes) -> None:
        # Where another panel is zoomed, old versions tell the first one nothing.
        shown = sorted(changed.get_xlim())
        for group in labels:
            group.place(*shown)
        if top.get_ylim() == own[0]:
            show_flux(top, view, shown)
            own[0] = top.get_ylim()

    follow(top)
    for panel in panels:
        if panel is top or top.get_shared_x_axes().joined(top, panel):
            panel.callbacks.connect("xlim_changed", follow)


def view_range(
    view: SpectrumView, shown: Sequence[float] | None = None
) -> tuple[float, float]:
    """Find the range of flux that a picture is to show of some wavelengths, or all."""
    parts = [(trace.wave, trace.despiked, trace.sigma) for trace in view.traces]
    wave, flux, sigma = np.hstack([np.empty((3, 0)), *parts])
    low, high = view.edges[0], view.edges[-1]
    if shown is not None and shown[0] < high and shown[1] > low:
        low, high = max(low, shown[0]), min(high, shown[1])
    elif shown is not None:
        low, high = shown
    return flux_range(wave, flux, sigma, low, high)


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
