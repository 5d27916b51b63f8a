"""Files that ship with the package, and constants that need no library."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

EMBEDDED_NETWORK = "embedded-network.h5"
DEMO_COADD = "demo-coadd.fits"
QUASAR_BASIS = "quasar-basis.fits"


def data_file(name: str) -> Path:
    """Give the path of a file that ships with the package, by one of these names."""
    return Path(str(importlib.resources.files("qnp_xp"))) / "data" / name


def demo_coadd() -> Path:
    """Give the path of the simulated coadd that ships with the package.

    It is a coadd of DESI's format with 25 simulated spectra; columns TRUE_SPECTYPE and
    TRUE_Z of its FIBERMAP say what was simulated.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> from qnp_xp import demo_coadd
    >>> demo_coadd().name
    'demo-coadd.fits'
    """
    return data_file(DEMO_COADD)


#: Folders of the coadds of a reduction, by the way in which its spectra are grouped.
GROUPS = {
    "cumulative": "tiles/cumulative/*/*",
    "pernight": "tiles/pernight/*/*",
    "perexp": "tiles/perexp/*/*",
    "healpix": "healpix/*/*/*/*",
    "uniqpix": "spectra/*/*/*/*",
}

#: How far from the threshold the confidence may be that decides about a spectrum.
NEAR = 0.2
