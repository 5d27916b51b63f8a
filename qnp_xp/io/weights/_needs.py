"""What a network needs, told from its description before any array is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._build import Shapes, build_network
from ._graph import Graph, Layer, variable_names

__all__ = ["Needs", "needs"]


@dataclass(frozen=True)
class Needs:
    """What a network needs to be complete, by its description alone.

    Attributes
    ----------
    nbins
        Bins of its input.
    shapes
        Shapes of the arrays of each layer that has any, by their names.
    parameters
        Number of its weights.
    """

    nbins: int
    shapes: Mapping[str, Shapes]
    parameters: int


def needs(graph: Graph) -> Needs:
    """What a network needs, before any array is there.

    Parameters
    ----------
    graph
        Layers and how they are connected.

    Returns
    -------
    Needs

    Raises
    ------
    WeightsError
        If a layer is of a kind that QuasarNET has not, or there are too many weights.
    """
    shapes: dict[str, Shapes] = {}

    def ones(layer: Layer, wanted: Shapes) -> Mapping[str, NDArray[Any]]:
        shapes[layer.name] = {name: wanted[name] for name in variable_names(layer)}
        return {name: np.broadcast_to(1.0, shape) for name, shape in wanted.items()}

    network = build_network(graph, ones)
    return Needs(network.nbins, shapes, network.parameters)
