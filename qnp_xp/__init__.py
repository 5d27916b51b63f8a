"""QuasarNET on any array library: quasars and their redshifts in DESI spectra.

>>> from qnp_xp import classify, load_model  # doctest: +SKIP
>>> table = classify("coadd-0-80605-thru20210205.fits", "weights.h5")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import (
    DeviceError,
    NoSpectraError,
    QnpError,
    SpectraError,
    WeightsError,
)
from .status import Status

if TYPE_CHECKING:
    from ._classify import classify
    from .io.weights import load_model

__all__ = [
    "DeviceError",
    "NoSpectraError",
    "QnpError",
    "SpectraError",
    "Status",
    "WeightsError",
    "__version__",
    "classify",
    "install_as_quasarnp",
    "load_model",
]

# These need h5py and fitsio, which a user of the array functions does not.
_LAZY = {"classify": "_classify", "load_model": "io.weights"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def install_as_quasarnp() -> None:
    """Register this package under the name ``quasarnp``.

    After it, ``from quasarnp.io import load_model`` and everything else that code
    written for QuasarNP imports comes from here, unchanged.

    Raises
    ------
    RuntimeError
        If QuasarNP itself was imported before: what it gave away stays its own.
    """
    present = sys.modules.get("quasarnp")
    if present is not None and present is not sys.modules[__name__]:
        where = getattr(present, "__file__", "unknown place")
        msg = (
            f"quasarnp was imported before, from {where}; call install_as_quasarnp()"
            " before anything that imports it"
        )
        raise RuntimeError(msg)
    sys.modules["quasarnp"] = sys.modules[__name__]
    for name in ("io", "layers", "model", "utils"):
        module = importlib.import_module(f".{name}", __name__)
        sys.modules[f"quasarnp.{name}"] = module
