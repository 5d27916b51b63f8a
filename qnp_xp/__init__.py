"""QuasarNET on any array library: quasars and their redshifts in DESI spectra.

>>> from qnp_xp import classify, load_model  # doctest: +SKIP
>>> table = classify("coadd-0-80605-thru20210205.fits", "weights.h5")  # doctest: +SKIP
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import DeviceError, NoSpectraError, QnpError, SpectraError, WeightsError
from .status import Status

if TYPE_CHECKING:
    from . import io, plot, utils
    from ._classify import classify
    from ._data import demo_coadd
    from ._inspect import inspect
    from ._saliency import saliency
    from ._train import train
    from ._train._convert import convert
    from ._validate import Validation, validate
    from .io._results import ResultTable
    from .io.weights import load_model
    from .model import QuasarNP

if importlib.util.find_spec("array_api_compat") is None:
    importlib.import_module("._xp.compat", __name__)  # which numpy can do without it

__all__ = [
    "DeviceError",
    "NoSpectraError",
    "QnpError",
    "QuasarNP",
    "ResultTable",
    "SpectraError",
    "Status",
    "Validation",
    "WeightsError",
    "__version__",
    "classify",
    "convert",
    "demo_coadd",
    "inspect",
    "install_as_quasarnp",
    "io",
    "load_model",
    "plot",
    "saliency",
    "train",
    "utils",
    "validate",
]

# Loaded when they are asked for (SPEC 1): who needs the array functions alone is
# spared h5py and fitsio. An empty name stands for the module itself.
_LAZY = {
    "QuasarNP": ("model", "QuasarNP"),
    "ResultTable": ("io._results", "ResultTable"),
    "Validation": ("_validate", "Validation"),
    "classify": ("_classify", "classify"),
    "convert": ("_train._convert", "convert"),
    "demo_coadd": ("_data", "demo_coadd"),
    "inspect": ("_inspect", "inspect"),
    "io": ("io", ""),
    "load_model": ("io.weights", "load_model"),
    "plot": ("plot", ""),
    "saliency": ("_saliency", "saliency"),
    "train": ("_train", "train"),
    "utils": ("utils", ""),
    "validate": ("_validate", "validate"),
}

# QuasarNP's modules.
_QUASARNP = ("io", "layers", "model", "utils")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    path, attribute = _LAZY[name]
    module = importlib.import_module(f".{path}", __name__)
    return getattr(module, attribute) if attribute else module


def __dir__() -> list[str]:
    return sorted(__all__)


def install_as_quasarnp() -> None:
    """Register this package under the name ``quasarnp``.

    After it, ``from quasarnp.io import load_model`` and everything else that code
    written for QuasarNP imports comes from here, unchanged. ``quasarnp.__version__`` is
    ``0.2.1+qnp_xp.VERSION``: the version of QuasarNP that this package stands in for,
    and its own.

    Raises
    ------
    RuntimeError
        If QuasarNP itself was imported before: what it gave away stays its own.

    Examples
    --------
    >>> qnp_xp.install_as_quasarnp()  # doctest: +SKIP
    >>> from quasarnp.io import load_model  # doctest: +SKIP
    """
    present = sys.modules.get("quasarnp")
    if present is not None and present is not _stand_in():
        where = getattr(present, "__file__", "unknown place")
        msg = (
            f"quasarnp was imported before, from {where}; call install_as_quasarnp()"
            " before anything that imports it"
        )
        raise RuntimeError(msg)
    sys.modules["quasarnp"] = _stand_in()
    for name in _QUASARNP:
        sys.modules[f"quasarnp.{name}"] = getattr(_stand_in(), name)


@functools.cache
def _stand_in() -> ModuleType:
    """Make the module ``quasarnp``, which says whom it stands in for and who computes.

    desispec writes its version into headers.
    """
    module = ModuleType("quasarnp", __doc__)
    module.__file__ = __file__
    module.__path__ = []  # a package, without files of its own
    module.__spec__ = ModuleSpec("quasarnp", None, origin=__file__, is_package=True)
    names: dict[str, Any] = {
        name: importlib.import_module(f".{name}", __name__) for name in _QUASARNP
    }
    names["__version__"] = f"0.2.1+{__name__}.{__version__}"
    vars(module).update(names, __getattr__=__getattr__, __dir__=__dir__)
    return module
