"""A canary, and what a real GPU must do; run by the session `cupy` of nox."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import write_coadd

from qnp_xp import classify, load_model


@pytest.fixture(autouse=True)
def asked(request: pytest.FixtureRequest) -> None:
    if "cupy" not in (request.config.getoption("--backend") or ()):
        pytest.skip("no --backend cupy: a GPU was not asked for")


@pytest.mark.gpu
def test_canary() -> None:
    """Where this fails, there is no GPU, and nothing else need be looked at."""
    import cupy

    assert int(cupy.arange(4).sum()) == 6


@pytest.mark.gpu
def test_results_are_those_of_the_host_and_of_every_run(
    tmp_path: Path, weights: Path
) -> None:
    path = write_coadd(tmp_path / "coadd.fits", 300)
    host = classify(path, load_model(weights))
    model = load_model(weights, device="gpu")
    assert model.device.startswith("gpu:")
    for batch_size in (7, 100, 256):
        table = classify(path, model, batch_size=batch_size)
        again = classify(path, model, batch_size=batch_size)
        assert again.tobytes() == table.tobytes()
        for name in table.dtype.names or ():
            np.testing.assert_allclose(table[name], host[name], rtol=3e-6, atol=3e-6)
