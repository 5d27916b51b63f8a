"""The figure of the page: models of Bokeh, which ``assets/figure.js`` fills.

A model that the page needs has a name. Nothing is in the figure before the page shows a
spectrum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import MissingLibraryError
from ..plot._draw import arm_colour
from ..plot._views import Float64
from ._marks import SKY

# Models of Bokeh, which only the functions of this module import.
Figure = Any
Source = Any

_LEFT = 74  # pixels beside both panels, so that their wavelengths are below each other
_ACTIVATION = "#0072B2"
_MARKS = {"qn": ("dashed", "#888888"), "fit": ("dotted", "#B8860B")}
# Along the bottom: pixels with a MASK that have weight, and pixels without weight.
_PIXELS = {"flagged": "#E69F00", "lost": "#CC3311"}
_MINE = "#C837AB"


def ensure_bokeh() -> None:
    """Raise an error if there is no Bokeh."""
    try:
        import bokeh.plotting  # noqa: F401, PLC0415
    except ImportError as err:
        msg = f"pages need bokeh: pip install '.[inspect]' in a checkout ({err})"
        raise MissingLibraryError(msg) from err


def bokeh_script() -> str:
    """Give the JavaScript of Bokeh that figures need, which the page holds."""
    from bokeh.resources import Resources  # noqa: PLC0415

    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def figure_json(
    arms: Sequence[str],
    lines: Sequence[str],
    rest: Sequence[float],
    edges: Float64,
    flux: str,
) -> dict[str, Any]:
    """Make the spectrum above the strip of boxes, as Bokeh puts them in pages.

    `flux` says what the flux is.
    """
    from bokeh.embed import json_item  # noqa: PLC0415
    from bokeh.layouts import column  # noqa: PLC0415

    spectrum = _spectrum(arms, rest, flux)
    strip = _strip(lines, edges, spectrum.x_range)
    both = column(spectrum, strip, sizing_mode="stretch_both")
    item: dict[str, Any] = json_item(both, "figure")
    return item


def _spectrum(arms: Sequence[str], rest: Sequence[float], flux: str) -> Figure:
    """Make the panel of the spectrum."""
    from bokeh.models import LinearAxis, Range1d  # noqa: PLC0415
    from bokeh.plotting import figure  # noqa: PLC0415

    panel = figure(
        name="spectrum",
        x_range=Range1d(0, 1, name="wave"),
        y_range=Range1d(0, 1, name="flux"),
        tools="pan,box_zoom,wheel_zoom,xwheel_zoom,reset,save",
        active_scroll="xwheel_zoom",
        sizing_mode="stretch_both",
        min_border_left=_LEFT,
        y_axis_label=flux,
        lod_threshold=None,
    )
    panel.toolbar.logo = None
    panel.extra_x_ranges = {"rest": Range1d(0, 1, name="rest")}
    panel.extra_y_ranges = {"unit": Range1d(0, 1)}
    above = LinearAxis(x_range_name="rest", axis_label="wavelength at rest [Å]")
    above.name = "rest axis"
    panel.add_layout(above, "above")
    panel.xaxis[1].visible = False
    _add_sky(panel)
    _add_arms(panel, arms)
    _add_lines(panel, rest)
    return panel


def _source(name: str, *columns: str) -> Source:
    """Make a source without rows."""
    from bokeh.models import ColumnDataSource  # noqa: PLC0415

    return ColumnDataSource({column: [] for column in columns}, name=name)


def _add_sky(panel: Figure) -> None:
    """Mark what the sky leaves behind, and pixels along the bottom."""
    left, right = zip(*SKY.values(), strict=True)
    style = {"y_range_name": "unit", "line_color": None}
    panel.quad(
        left, right, 1, 0, fill_color="#888888", fill_alpha=0.16, name="sky", **style
    )
    for name, colour in _PIXELS.items():
        marks = {"source": _source(name, "left", "right"), "fill_color": colour}
        panel.quad("left", "right", 0.025, 0, name=f"{name} pixels", **marks, **style)


def _add_arms(panel: Figure, arms: Sequence[str]) -> None:
    """Add the pixels, the band of noise and the smoothed flux of each arm."""
    for number, name in enumerate(arms):
        source = _source(f"arm {number}", "wave", "flux", "smooth", "low", "high")
        colour, own = arm_colour(name, number), {"source": source}
        pixels = {"line_color": "#999999", "line_alpha": 0.6, "line_width": 0.8}
        panel.line("wave", "flux", name=f"pixels {number}", **pixels, **own)
        band = {"fill_color": colour, "fill_alpha": 0.25}
        panel.varea("wave", "low", "high", name=f"band {number}", **band, **own)
        smooth = {"line_color": colour, "line_width": 1.6}
        panel.line("wave", "smooth", name=f"smooth {number}", **smooth, **own)


def _add_lines(panel: Figure, rest: Sequence[float]) -> None:
    """Add lines at each redshift, and handles on those that the user drags."""
    from bokeh.models import BoxAnnotation  # noqa: PLC0415

    across = {"y0": 0, "y1": 1, "y_range_name": "unit"}
    for name, (dash, colour) in _MARKS.items():
        style = {"line_dash": dash, "line_color": colour, "line_width": 1.5}
        source = _source(f"lines {name}", "wave")
        panel.segment("wave", x1="wave", source=source, name=name, **across, **style)
    for name, width in {"mine": 2.0, "more": 0.8}.items():
        style = {"line_color": _MINE, "line_width": width}
        source = _source(f"lines {name}", "wave")
        panel.segment("wave", x1="wave", source=source, name=name, **across, **style)
    # What somebody drags: as broad as a finger, and not seen.
    handle = {"editable": True, "movable": "x", "resizable": "none"}
    faint = {"fill_alpha": 0, "line_alpha": 0, "hover_line_alpha": 0}
    shade = {"hover_fill_color": _MINE, "hover_fill_alpha": 0.15}
    for number in range(len(rest)):
        name = f"handle {number}"
        panel.add_layout(BoxAnnotation(name=name, **handle, **faint, **shade))
    panel.text(
        *("wave", 0.99, "text"),
        source=_source("names", "wave", "text"),
        name="names of lines",
        angle=1.5708,
        text_align="right",
        x_offset=-3,
        text_font_size="11px",
        text_color=_MINE,
        y_range_name="unit",
    )


def _strip(lines: Sequence[str], edges: Float64, x_range: Any) -> Figure:
    """Make the panel of boxes: a row for each line, darker where it is more likely."""
    from bokeh.models import FixedTicker, Range1d  # noqa: PLC0415
    from bokeh.plotting import figure  # noqa: PLC0415

    panel = figure(
        name="strip",
        x_range=x_range,
        y_range=Range1d(len(lines), 0),
        tools="",
        toolbar_location=None,
        height=20 * len(lines) + 45,
        sizing_mode="stretch_width",
        min_border_left=_LEFT,
        x_axis_label="observed wavelength [Å]",
    )
    rows, left, right = [], [], []
    for number in range(len(lines)):
        rows += [number] * (len(edges) - 1)
        left += edges[:-1].tolist()
        right += edges[1:].tolist()
    source = _source("boxes")
    source.data = {
        "left": left,
        "right": right,
        "top": rows,
        "bottom": [row + 1 for row in rows],
        "activation": [0.0] * len(rows),
    }
    style = {"fill_color": _ACTIVATION, "fill_alpha": "activation"}
    sides = ("left", "right", "top", "bottom")
    panel.quad(*sides, source=source, line_color="#888888", line_alpha=0.4, **style)
    found = _source("found", "wave", "row")
    panel.scatter(
        "wave", "row", source=found, size=7, fill_color="white", line_color="black"
    )
    panel.yaxis.ticker = FixedTicker(ticks=[n + 0.5 for n in range(len(lines))])
    panel.yaxis.name = "confidences"
    panel.ygrid.visible = False
    return panel
