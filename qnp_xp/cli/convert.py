"""Write the network of the weights file IN to a new file, for Keras 3 or as ONNX.

Keras 3 cannot load the Lambda layers of files like DESI's. In OUT they are Rescaling
layers. OUT also has the wavelength grid, the names of the lines and the threshold. Its
outputs are compared with those of IN before it is written. Keras files need Keras 3 and
PyTorch: pip install '.[train]' in a checkout. ONNX needs '.[onnx]'.
"""

from __future__ import annotations

import argparse

from .._printing import say
from . import _shared
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    add("source IN", "weights file: HDF5 of Keras 2 or 3, or .keras")
    add("target OUT", "file to write, whose name ends in .keras, .h5 or .onnx")
    meaning = f"wavelength grid, if IN holds none: {_shared.GRIDS}"
    add("--grid GRID", meaning)
    _shared.add_lines(add)
    meaning = "threshold of this network (default: the one in IN, if there is one)"
    add("--c-thresh C_THRESH", meaning, type=float)
    add("--overwrite", "replace OUT")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from .._train._convert import convert

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
