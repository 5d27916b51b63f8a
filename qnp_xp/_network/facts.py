"""What a notebook shows of a model."""

from __future__ import annotations

from typing import Any

from .._data import EMBEDDED_NETWORK
from .._text import html_table
from ..grids import Grid


def facts(model: Any) -> dict[str, str]:
    """Say what a model is: its file, layers, lines, grid, and where it computes."""
    net, wave = model.network, model.wave
    bundled = model.weights_name == EMBEDDED_NETWORK
    origin = " (ships with qnp_xp, trained on simulations)" if bundled else ""
    filters = ", ".join(str(conv.kernel.shape[2]) for conv in net.convs)
    units = ", ".join(str(dense.kernel.shape[1]) for dense in net.trunk)
    grid = Grid.from_wave(wave)
    spacing = f"{grid.step:g} in log10" if grid.log else f"{grid.step:g} Angstrom"
    lines = [*model.lines, *(f"BAL {line}" for line in model.lines_bal)]
    asked = "none in the file: 0.5, unless another is asked for"
    own = asked if model.c_thresh is None else f"{model.c_thresh:g} (in the file)"
    return {
        "file": f"{model.weights_name}{origin}",
        "sha256": model.weights_sha256,
        "layers": f"{len(net.convs)} convolutions of {filters} filters;"
        f" {len(net.trunk)} dense of {units} units; {net.parameters:,} parameters",
        "lines": ", ".join(lines) or f"{model.nlines} without names",
        "boxes": f"{model.nboxes} for each line",
        "grid": f"{model.nbins} bins of {spacing}, {wave[0]:.1f} to {wave[-1]:.1f}"
        " Angstrom",
        "threshold": own,
        "computes": f"in {model.dtype} on {model.device}, "
        + ("compiled by numba" if model.compiled else "not compiled"),
    }


def as_html(model: Any) -> str:
    """Write what a model is as a table of HTML."""
    return html_table(list(facts(model).items()))
