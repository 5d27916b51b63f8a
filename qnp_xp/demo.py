"""The simulated coadd that ships with the package."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .io.catalog import write_catalog
from .io.spectra_file import open_spectra
from .model import QuasarNP
from .pipeline import as_model, classify_source
from .results import Options, header_cards

__all__ = ["DEMO_OUTPUT", "classify_demo", "demo_file"]

#: Name of the table that the demo writes.
DEMO_OUTPUT = "qn-demo-coadd.fits"


def demo_file(name: str) -> Path:
    """Where a file of the demo lies.

    Parameters
    ----------
    name
        ``"demo-coadd.fits"`` or ``"demo-network.h5"``.

    Returns
    -------
    pathlib.Path
    """
    return Path(str(importlib.resources.files("qnp_xp"))) / "data" / name


def classify_demo(
    output: str | Path, *, device: Any = "cpu", overwrite: bool = False
) -> tuple[QuasarNP, NDArray[Any], dict[str, NDArray[Any]]]:
    """Classify the simulated coadd with the network made for it.

    Parameters
    ----------
    output
        Table to write.
    device
        As for `qnp_xp.load_model`.
    overwrite
        Replace `output` if it is there.

    Returns
    -------
    model : QuasarNP
        The network.
    table : numpy.ndarray
        As `qnp_xp.classify` returns it.
    truth : dict
        What was simulated: TRUE_SPECTYPE and TRUE_Z of each row.

    Raises
    ------
    FileExistsError, DeviceError
        If the output exists, or the device cannot be used.
    """
    model = as_model(demo_file("demo-network.h5"), device)
    coadd, options = demo_file("demo-coadd.fits"), Options()
    with open_spectra(coadd) as source:
        result = classify_source(source, model, options)
        truth = source.columns(["TRUE_SPECTYPE", "TRUE_Z"])
    cards = header_cards(model, options, result)
    write_catalog(output, result.table, cards, overwrite=overwrite)
    truth["TRUE_SPECTYPE"] = np.char.strip(truth["TRUE_SPECTYPE"].astype("U"))
    return model, result.table, truth
