"""The command ``qnp-xp embed-grid``."""

from __future__ import annotations

import argparse

from ..batch.report import say
from ..io.weights import embed_grid
from ._shared import Commands, adder


def add_parser(commands: Commands) -> None:
    """Add the command to the parser."""
    p = commands.add_parser(
        "embed-grid",
        help="copy a weights file and write its wavelength grid into it",
        description="Copy the weights file IN to OUT with the wavelength grid of its"
        " network, as QuasarNP's post_process_weights.py does.",
    )
    add = adder(p)
    add("source IN", "weights file")
    add("target OUT", "the copy")
    meaning = "443 bins of 1e-3 in log10, or 458 of 13.6 Angstrom (%(default)s)"
    add("--grid", meaning, choices=("log", "linear"), default="log")
    add("--overwrite", "replace OUT")
    p.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    embed_grid(args.source, args.target, args.grid, overwrite=args.overwrite)
    say(f"{args.target}: {args.source} with the {args.grid} grid")
    return 0
