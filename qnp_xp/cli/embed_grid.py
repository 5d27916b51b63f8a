"""Copy the weights file IN to OUT with the wavelength grid of its network.

QuasarNP's post_process_weights.py does the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .._printing import say
from ..io._files import ensure_not_input
from ..io.weights import embed_grid
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    add("source IN", "weights file")
    add("target OUT", "the copy")
    meaning = "443 bins of 1e-3 in log10, or 458 of 13.6 Angstrom (%(default)s)"
    add("--grid", meaning, choices=("log", "linear"), default="log")
    add("--overwrite", "replace OUT")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    ensure_not_input([Path(args.target)], [args.source])
    embed_grid(args.source, args.target, args.grid, overwrite=args.overwrite)
    say(f"{args.target}: {args.source} with the {args.grid} grid")
    return 0
