"""Copy the weights file IN to OUT, with the wavelength grid of its network in OUT.

QuasarNP's post_process_weights.py does the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .._printing import say
from . import _shared
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    add("source IN", "weights file")
    add("target OUT", "copy to write")
    meaning = f"wavelength grid: {_shared.GRIDS} (default: %(default)s)"
    add("--grid GRID", meaning, default="log")
    add("--overwrite", "replace OUT")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..grids import Grid
    from ..io._files import ensure_not_input
    from ..io.weights import embed_grid

    ensure_not_input([Path(args.target)], [args.source])
    grid, what = args.grid, f"the {args.grid} grid"
    if grid not in ("log", "linear"):
        grid = _shared.wave_grid(args.grid)
        what = f"a grid of {Grid.from_wave(grid)}"
    embed_grid(args.source, args.target, grid, overwrite=args.overwrite)
    say(f"{args.target}: {args.source} with {what}")
    return 0
