"""What the package uses of an array library, recorded, and what CuPy has of it."""

from __future__ import annotations

import importlib
import os
import pkgutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import OLDEST_STANDARD, coadd_hdus, write_hdus

import qnp_xp
from qnp_xp import classify, load_model
from qnp_xp._xp.backend import resolve, to_host
from qnp_xp.io import load_desi_coadd
from qnp_xp.utils import process_preds, renormalize

#: Not of the standard: what modules have, and what is asked of array-api-strict alone.
OWN = {"__name__", "Device"}


def strict() -> Any:
    """array-api-strict, where it is installed and the numpy is one that it can use."""
    try:
        namespace = importlib.import_module("array_api_strict")
        x = namespace.asarray([0.0], device=namespace.Device("device1"))
        x.to_device(namespace.Device("CPU_DEVICE"))
        namespace.set_array_api_strict_flags(api_version=OLDEST_STANDARD)
    except (ImportError, TypeError):
        return None
    return namespace


class Recorder(types.ModuleType):
    """A namespace that remembers what was asked of it."""

    def __init__(self, namespace: Any) -> None:
        super().__init__(namespace.__name__)
        self.namespace = namespace
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.namespace, name)
        self.asked.add(name)
        return value


_COMPILED = ("qnp_xp._xp.jit", "qnp_xp._xp.kernels", "qnp_xp._network.compiled")


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(qnp_xp.__path__, "qnp_xp."):
        # Others have no array functions, and some need PyTorch or llvmlite.
        if not found.name.startswith("qnp_xp._train") and found.name not in _COMPILED:
            yield importlib.import_module(found.name)


@pytest.fixture
def asked(
    tmp_path: Path, weights: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> set[str]:
    """Names that the whole of the package asks of a namespace on a device."""
    namespace = strict() or resolve("cpu").xp
    recorder = Recorder(namespace)
    original = qnp_xp._xp.backend.array_namespace

    def recording(*arrays: Any) -> Any:
        found = original(*arrays)
        return recorder if found is namespace else found

    for module in modules():
        if hasattr(module, "array_namespace"):
            monkeypatch.setattr(module, "array_namespace", recording)
    hdus = coadd_hdus(5, mask="i4")
    hdus["FIBERMAP"]["TARGETID"] = [1, 2, 1, 3, 3]
    hdus["R_FLUX"][1, 5], hdus["B_IVAR"][3] = np.nan, 0
    hdus["Z_WAVELENGTH"] = np.tile(hdus["Z_WAVELENGTH"], (5, 1))
    hdus["Z_WAVELENGTH"][2] += 4
    path = write_hdus(tmp_path / "coadd.fits", hdus)
    device = namespace.Device("device1") if strict() else None
    where = {"device": device, "xp": recorder}
    for name in ("same.h5", "odd_same.h5", "options.h5", "deep.h5"):
        model = load_model(data / "keras" / name, **where)
        model.predict(np.zeros((3, model.nbins)))
    model = load_model(weights, **where)
    classify(path, model, coadd=True)
    classify(path, model, use_mask=True, fit=True, c_thresh=0)
    x, _ = load_desi_coadd(path, **where)
    preds = model.predict(x)
    process_preds(preds, model.lines, model.lines_bal, wave=model.wave)
    renormalize(x, x * x)
    whole = recorder.asarray(np.ones((2, 9), np.int32), device=device)
    wave = np.linspace(4000, 5000, 9)
    classify((wave, whole, whole), model)
    assert to_host(preds[0]).shape == (5, 26)
    return recorder.asked


def test_all_that_is_used_is_of_the_standard(asked: set[str]) -> None:
    # Far from all is named elsewhere: the test sees what it is for.
    assert {"matmul", "concat", "take", "expand_dims", "where", "argmax"} <= asked
    if strict() is None:
        pytest.skip("no array-api-strict for this numpy")
    standard = set(strict().__all__)
    assert asked - standard - OWN == set()


def test_cupy_has_all_that_is_used(asked: set[str]) -> None:
    try:
        cupy = importlib.import_module("array_api_compat.cupy")
    except ImportError as err:
        if os.environ.get("QNP_XP_REQUIRE_CUPY"):
            raise
        pytest.skip(f"no cupy, which needs no GPU for this: {err}")
    lacking = {name for name in asked - OWN if not hasattr(cupy, name)}
    assert lacking == set()


def test_the_oldest_numpy_has_all_that_is_used(asked: set[str]) -> None:
    lacking = {n for n in asked - OWN if not hasattr(resolve("cpu").xp, n)}
    assert lacking == set()
