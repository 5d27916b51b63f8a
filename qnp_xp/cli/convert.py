"""Write the network of the weights file IN anew, for Keras 3 or as ONNX.

Keras 3 cannot load the Lambda layers of DESI's kind of files; here they become
Rescaling layers. OUT has the wavelength grid, the names of the lines and the threshold
in it, and is compared with IN before it is there. Keras files need Keras 3 and PyTorch,
which pip install '.[train]' brings in a checkout; ONNX needs '.[onnx]'.
"""

from __future__ import annotations

import argparse

from .._train._convert import convert
from ..batch.report import say
from . import _shared
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    add("source IN", "weights file: Keras 2 or 3 HDF5, or .keras")
    add("target OUT", "file to write, which ends in .keras, .h5 or .onnx")
    meaning = f"grid of a network whose file holds none: {_shared.GRIDS}"
    add("--grid GRID", meaning)
    _shared.add_lines(add)
    meaning = "threshold of this network (the one in IN, if there is one)"
    add("--c-thresh C_THRESH", meaning, type=float)
    add("--overwrite", "replace OUT")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    difference = convert(
        args.source,
        args.target,
        wave=None if args.grid is None else _shared.wave_grid(args.grid),
        lines=args.lines,
        lines_bal=args.lines_bal,
        c_thresh=args.c_thresh,
        overwrite=args.overwrite,
    )
    what = f"outputs differ by {difference:.1e} at most, on made-up spectra"
    say(f"{args.source} -> {args.target}: {what}")
    return 0
