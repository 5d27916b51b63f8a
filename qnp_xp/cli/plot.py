"""Draw the quasars in all FILEs, or other spectra.

Several spectra make the pages of a PDF file, or one PNG file each. This needs
matplotlib: pip install '.[plot]' in a checkout.
"""

from __future__ import annotations

import argparse

from . import _shared
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    meaning = (
        "any file that classify takes, or @LIST, a file with one of these on each"
        " line; with --summary, one table of classify or merge"
    )
    add("files FILE", meaning, nargs="+")
    meaning = (
        "draw the redshifts, confidences and lines of the quasars of a table instead"
    )
    add("--summary", meaning)
    _shared.add_model(add)
    add(
        "-o --output OUT",
        "picture to write, .png or .pdf (default: plot-FILE.png for one spectrum,"
        " plot-FILE.pdf for several of one FILE, plot-spectra.pdf for several FILEs)",
    )
    add("--overwrite", "replace older pictures")
    add_either = adder(p.add_mutually_exclusive_group())
    otherwise = (
        f" (default: the quasars, at most {_shared.MOST_PICTURES}; without a quasar,"
        " the spectrum of the highest confidence)"
    )
    _shared.add_targetids(add_either, otherwise)
    add_either(*_shared.ROWS, type=_shared.row_list)
    meaning = (
        "width in pixels of the smoothing of the coloured line (default: %(default)s)"
    )
    add("--smooth N", meaning, type=float, default=5)
    meaning = (
        "also draw on which bins the confidence of LINE rests: LYA, CIV, ..., BAL_CIV"
        " (needs PyTorch or JAX)"
    )
    add("--saliency LINE", meaning)
    _shared.add_thresholds(add, "; with --summary that of the table")
    _shared.add_lines(add)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from ._pictures import run as draw

    return draw(args)
