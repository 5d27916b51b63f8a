"""Files that ship with the package."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

__all__ = ["DEMO_COADD", "EMBEDDED_NETWORK", "data_file"]

EMBEDDED_NETWORK = "embedded-network.h5"
DEMO_COADD = "demo-coadd.fits"


def data_file(name: str) -> Path:
    """The path of a file that ships with the package, by one of the names above."""
    return Path(str(importlib.resources.files("qnp_xp"))) / "data" / name
