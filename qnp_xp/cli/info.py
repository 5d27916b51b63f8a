"""Describe the network in a weights file: layers, lines, boxes and wavelength grid."""

from __future__ import annotations

import argparse

from .._printing import say


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    meaning = (
        "Keras .h5 or .keras file (default: $QN_MODEL_FILE, else the network that ships"
        " with the package)"
    )
    p.add_argument("weights", metavar="WEIGHTS", nargs="?", help=meaning)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..grids import Grid
    from ..io.weights import weights_path
    from ..io.weights._reading import read_weights
    from ..lines import LINES, LINES_BAL

    file = read_weights(weights_path(args.weights))
    net = file.network()
    own = file.attributes
    lines, lines_bal = own.lines, own.lines_bal
    if not lines and not lines_bal:
        lines, lines_bal = LINES, LINES_BAL
    names = [*lines, *(f"BAL {line}" for line in lines_bal)]
    if len(net.heads) != len(names):
        names = ["not DESI's, and the file does not name them"]
    wave = file.wave(net.nbins)
    grid = Grid.from_wave(wave)
    spacing = f"{grid.step:g} in log10" if grid.log else f"{grid.step:g} Angstrom"
    source = "in the file" if own.wave is not None else "assumed, none in the file"
    say(f"file        {file.path}")
    say(f"sha256      {file.sha256}")
    say(f"written by  Keras {file.keras_version}")
    say(f"parameters  {net.parameters:,}")
    for conv in net.convs:
        k, channels, filters = conv.kernel.shape
        size = f"{channels} -> {filters}, kernel {k}, stride {conv.stride}"
        say(f"  conv      {size}, {conv.padding}, {conv.activation}  ({conv.name})")
    for dense in net.trunk:
        size = f"{dense.kernel.shape[0]} -> {dense.kernel.shape[1]}"
        say(f"  dense     {size}, {dense.activation}  ({dense.name})")
    say(f"lines       {len(net.heads)}: {', '.join(names)}")
    say(f"boxes       {net.nboxes} for each line")
    say(f"offsets     {'rescaled' if net.rescaled else 'not rescaled'}")
    span = f"{wave[0]:.1f} to {wave[-1]:.1f} Angstrom"
    threshold = "none in the file: 0.5, unless another is asked for"
    if own.c_thresh is not None:
        threshold = f"{own.c_thresh:g} (in the file)"
    say(f"threshold   {threshold}")
    say(f"grid        {net.nbins} bins of {spacing}, {span} ({source})")
    return 0
