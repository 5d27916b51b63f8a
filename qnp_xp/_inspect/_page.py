"""The file of a page: what it shows, Bokeh, and the files in ``assets``."""

from __future__ import annotations

import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from .._options import Options
from .._saliency import output_names
from .._version import __version__
from ..lines import column_names, rest_wavelengths
from ..model import QuasarNP
from ..plot._views import box_edges
from ._figure import bokeh_script, figure_json
from ._marks import MORE_LINES
from ._targets import Targets, needed_columns

_ASSETS = Path(__file__).parent / "assets"
#: In this order, one after the other, they are one module of JavaScript.
_SCRIPTS = ("arrays", "csv", "judgements", "figure", "list", "form", "page")


def page_content(
    targets: Targets, model: QuasarNP, options: Options, title: str, physical: bool
) -> bytes:
    """Make a page of spectra, whose flux is in DESI's unit if it is `physical`."""
    names = output_names(model)
    rest = rest_wavelengths(model.lines)
    edges = box_edges(model.wave, model.nboxes)
    unit = " [10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹]" if physical else ""
    data = {
        "title": title,
        "key": _key(targets),
        "threshold": options.c_thresh,
        "network": model.weights_name,
        "lines": names,
        "own": [
            list(pair) for pair in zip(column_names(model.lines), rest, strict=True)
        ],
        "more": [list(pair) for pair in MORE_LINES.items()],
        "arms": list(targets.arms),
        "grids": list(targets.grids),
        "columns": needed_columns(targets.spectra),
        "figure": figure_json(list(targets.arms), names, rest, edges, f"flux{unit}"),
        "targets": targets.spectra,
    }
    parts = {
        "title": html.escape(title),
        "version": __version__,
        "style": (_ASSETS / "page.css").read_text("utf-8"),
        "data": _json(data),
        "bokeh": bokeh_script(),
        "script": "\n".join(
            (_ASSETS / f"{name}.js").read_text("utf-8") for name in _SCRIPTS
        ),
    }
    frame = (_ASSETS / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], frame).encode()


def _key(targets: Targets) -> str:
    """Name a page by its spectra: judgements stay when it is made anew."""
    names = ("targetid", "known", "file", "row")
    spectra = [[target[name] for name in names] for target in targets.spectra]
    return hashlib.sha256(json.dumps(spectra).encode()).hexdigest()[:16]


def _json(data: dict[str, Any]) -> str:
    """Write data as JSON that no tag in it can end."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
