"""Draw the quasars of all FILEs, or other spectra of them.

Several make the pages of a PDF file, or a PNG file each. Needs matplotlib, which
pip install '.[plot]' brings in a checkout.
"""

from __future__ import annotations

import argparse

from . import _shared
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    meaning = (
        "whatever classify takes, or @LIST, a file with one of these a line; with"
        " --summary, one table of classify or merge"
    )
    add("files FILE", meaning, nargs="+")
    meaning = "draw redshifts, confidences and lines of the quasars of a table instead"
    add("--summary", meaning)
    _shared.add_model(add)
    add(
        "-o --output OUT",
        "picture to write, .png or .pdf (plot-FILE.png for one spectrum, plot-FILE.pdf"
        " for several of one FILE, plot-spectra.pdf for those of several)",
    )
    add("--overwrite", "replace older pictures")
    add_either = adder(p.add_mutually_exclusive_group())
    otherwise = (
        f" (the quasars, at most {_shared.MOST_PICTURES}, or where there is none the"
        " spectrum of the highest confidence)"
    )
    _shared.add_targetids(add_either, otherwise)
    add_either(*_shared.ROWS, type=_shared.row_list)
    meaning = "pixels by which the line over the pixels is smoothed (%(default)s)"
    add("--smooth N", meaning, type=float, default=5)
    meaning = (
        "draw also which bins the confidence of a line rests on: LYA, CIV, ..., BAL_CIV"
        " (needs PyTorch or JAX)"
    )
    add("--saliency LINE", meaning)
    _shared.add_thresholds(add, "; that of the table with --summary")
    _shared.add_lines(add)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from ._pictures import run as draw

    return draw(args)
