"""What a weights file holds, in words."""

from __future__ import annotations

from pathlib import Path

from ..grids import Grid
from ..io.weights._reading import read_weights
from ..lines import LINES, LINES_BAL

__all__ = ["describe"]


def describe(filename: str | Path) -> list[str]:
    """Describe the network in a weights file.

    Parameters
    ----------
    filename
        The file.

    Returns
    -------
    list of str
        Lines of text.

    Raises
    ------
    FileNotFoundError, WeightsError
        As for `qnp_xp.load_model`.
    """
    file = read_weights(filename)
    net = file.network()
    names = [*LINES, *(f"BAL {line}" for line in LINES_BAL)]
    if len(net.heads) != len(names):
        names = ["not DESI's, and the file does not name them"]
    wave = file.wave(net.nbins)
    grid = Grid.from_wave(wave)
    spacing = f"{grid.step:g} in log10" if grid.log else f"{grid.step:g} Angstrom"
    source = "in the file" if file.grid is not None else "assumed, none in the file"
    text = [
        f"file        {file.path}",
        f"sha256      {file.sha256}",
        f"written by  Keras {file.keras_version}",
        f"parameters  {net.parameters:,}",
    ]
    for conv in net.convs:
        k, channels, filters = conv.kernel.shape
        text.append(
            f"  conv      {channels} -> {filters}, kernel {k}, stride {conv.stride},"
            f" {conv.padding}, {conv.activation}  ({conv.name})"
        )
    for dense in net.trunk:
        size = f"{dense.kernel.shape[0]} -> {dense.kernel.shape[1]}"
        text.append(f"  dense     {size}, {dense.activation}  ({dense.name})")
    return [
        *text,
        f"lines       {len(net.heads)}: {', '.join(names)}",
        f"boxes       {net.nboxes} for each line",
        f"offsets     {'rescaled' if net.rescaled else 'not rescaled'}",
        f"grid        {net.nbins} bins of {spacing}, {wave[0]:.1f} to {wave[-1]:.1f}"
        f" Angstrom ({source})",
    ]
