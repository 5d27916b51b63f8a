"""The gradient of a line's confidence, against small steps on numpy in float64."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np
import pytest

from qnp_xp import DeviceError, load_model, saliency
from qnp_xp._data import data_file
from qnp_xp._xp.backend import to_host
from qnp_xp.decode import decode
from qnp_xp.errors import MissingLibraryError
from qnp_xp.io import load_desi_coadd, load_file
from qnp_xp.model import QuasarNP
from qnp_xp.spectra import normalize

if TYPE_CHECKING:
    from conftest import ArrayBackend

STEP = 1e-5
LINES = ["LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha", "BAL_CIV"]
NETWORKS = ("valid_rescaled", "same", "stride3", "options", "nine_boxes", "linear_grid")


@pytest.fixture
def differentiable(backend: ArrayBackend) -> ArrayBackend:
    """Each library that computes gradients in turn."""
    if backend.name not in ("torch", "jax", "jax-float32"):
        pytest.skip(f"{backend.name} computes no gradients")
    return backend


def spectra(n: int, nbins: int = 443) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, nbins)).astype("float32")


def confidences(x: np.ndarray, model: QuasarNP) -> np.ndarray:
    """Confidences of all lines, shape (nlines, n)."""
    found = decode(model.predict(x), model.lines, model.lines_bal, model.wave)
    return np.concatenate([found.c_line, found.c_line_bal])


def expected(x: np.ndarray, model: QuasarNP) -> np.ndarray:
    """Gradients from central differences, shape (nlines, n, nbins)."""
    wide = model.__replace__(dtype="float64")
    steps = STEP * np.eye(wide.nbins)
    return np.stack(
        [
            (confidences(row + steps, wide) - confidences(row - steps, wide)) / 2 / STEP
            for row in x.astype("float64")
        ],
        axis=1,
    )


def demo() -> np.ndarray:
    """A quasar with broad absorption, another quasar, a galaxy and a dead fiber."""
    return load_desi_coadd(data_file("demo-coadd.fits"), rows=[14, 0, 1, 16])[0]


def assert_close(found: Any, known: np.ndarray, part: float) -> None:
    scale = np.max(np.abs(known))
    assert scale > 0
    np.testing.assert_allclose(to_host(found), known, rtol=0, atol=part * scale)


def test_it_is_what_small_steps_change(differentiable: ArrayBackend) -> None:
    model, host = load_model(**differentiable.resolve()), load_model()
    x = demo()[:2].astype("float32")
    for line, known in zip(LINES, expected(x, host), strict=True):
        found = saliency(differentiable.array(x), model, line)
        assert_close(differentiable.host(found, "float32"), known, 1e-4)


@pytest.mark.float64
@pytest.mark.parametrize("network", NETWORKS)
def test_it_is_what_small_steps_change_for_any_network(
    differentiable: ArrayBackend, data: Path, network: str
) -> None:
    path = data / "keras" / f"{network}.h5"
    host = load_model(path, dtype="float64", lines=None)
    model = host.to(**differentiable.resolve())
    x = spectra(2, model.nbins).astype("float64")
    print(model.lines)
