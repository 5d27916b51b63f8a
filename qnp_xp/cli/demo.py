"""The simulated coadd that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._classify import as_model, classify_source
from .._data import DEMO_COADD, EMBEDDED_NETWORK, data_file
from .._options import Options
from ..io.open import open_spectra
from ..io.tables import header_cards, write_catalog
from ..model import QuasarNP

__all__ = ["ADVISED", "DEMO_OUTPUT", "classify_demo"]

#: Name of the table that the demo writes.
DEMO_OUTPUT = "qn-demo-coadd.fits"
#: Confidence above which the network that ships with the package is to be believed.
ADVISED = 0.8


def classify_demo(
    output: str | Path, *, device: Any = "cpu", overwrite: bool = False
) -> tuple[QuasarNP, NDArray[Any], dict[str, NDArray[Any]]]:
    """Classify the simulated coadd with the network that ships with the package.

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
    model = as_model(data_file(EMBEDDED_NETWORK), device)
    coadd, options = data_file(DEMO_COADD), Options(c_thresh=ADVISED)
    with open_spectra(coadd) as source:
        result = classify_source(source, model, options)
        truth = source.columns(["TRUE_SPECTYPE", "TRUE_Z"])
    cards = header_cards(model, options, result.name, result.arms)
    write_catalog(output, result.table, cards, overwrite=overwrite)
    truth["TRUE_SPECTYPE"] = np.char.strip(truth["TRUE_SPECTYPE"].astype("U"))
    return model, result.table, truth
