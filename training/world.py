"""Where the templates and the real spectra lie, and all of them together."""

import os
from dataclasses import dataclass
from pathlib import Path

from noise import read_shapes
from objects import Library, read_library
from parents import Observed, read_boss
from templates import Array

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class World:
    """All that the simulator needs.

    Parameters
    ----------
    library : Library
        Templates.
    shapes : tuple of ndarray
        Inverse variances of real spectra.
    observed : Observed
        Calibration spectra.
    """

    library: Library
    shapes: tuple[Array, Array]
    observed: Observed


def reference_folder() -> Path:
    """Folder of the reference data."""
    default = ROOT.parent / "shared" / "data"
    return Path(os.environ.get("QNP_XP_REFERENCE_DATA", default))


def template_folder() -> Path:
    """Folder of Redrock's templates."""
    default = reference_folder() / "redrock-templates"
    return Path(os.environ.get("RR_TEMPLATE_DIR", default))


def read_world() -> World:
    """Read templates and real spectra."""
    reference = reference_folder()
    observed = read_boss(reference / "boss")
    library = read_library(template_folder(), observed)
    return World(library, read_shapes(reference, observed), observed)
