"""The network that ships: it loads, agrees with Keras, and finds real quasars."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import fitsio
import h5py
import numpy as np
import pytest
from helpers import demand

import qnp_xp
from qnp_xp import classify, load_model
from qnp_xp.grids import wave
from qnp_xp.io import load_desi_coadd
from qnp_xp.lines import LINES, LINES_BAL

NETWORK = Path(qnp_xp.__file__).parent / "data" / "embedded-network.h5"
TRAINING = Path(__file__).parents[1] / "training"
THRESHOLD = 0.8

KERAS = """
import sys
import keras, numpy
model = keras.models.load_model(sys.argv[1], compile=False)
spectra = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], model.predict(spectra[..., None], verbose=0))
"""


def test_it_is_small_and_has_all_that_the_package_asks_of_a_network() -> None:
    assert NETWORK.stat().st_size < 5e6
    with h5py.File(NETWORK) as f:
        stored = f["model_grid"][()]
        assert f.attrs["grid_spacing"] == "logarithmic"
    model, grid = load_model(NETWORK)
    np.testing.assert_array_equal(grid, stored)
    np.testing.assert_allclose(grid, wave, rtol=1e-15)  # powers differ by a last place
    assert (model.lines, model.lines_bal) == (LINES, LINES_BAL)
    assert model.nboxes == 13
    assert model.c_thresh == THRESHOLD


def test_it_says_what_it_says_in_keras(reference: Path, tmp_path: Path) -> None:
    demand("torch", "keras")
    spectra, _ = load_desi_coadd(reference / "quasarnp" / "test_coadd.fits")
    spectra = spectra.astype(np.float32)
    np.save(tmp_path / "spectra.npy", spectra)
    names = [str(tmp_path / name) for name in ("spectra.npy", "outputs.npy")]
    subprocess.run(
        [sys.executable, "-c", KERAS, str(NETWORK), *names],
        env=os.environ | {"KERAS_BACKEND": "torch"}, check=True, capture_output=True,
    )  # fmt: skip
    outputs = np.load(tmp_path / "outputs.npy")
    ours = np.stack(load_model(NETWORK).predict(spectra))
    np.testing.assert_allclose(ours, outputs, rtol=0, atol=3e-6)


def test_its_card_has_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    if not TRAINING.is_dir():
        pytest.skip(f"no {TRAINING}: training/ is not in the wheel")
    monkeypatch.syspath_prepend(str(TRAINING))
    text = (TRAINING.parent / "docs" / "embedded-network.md").read_text()
    results = json.loads((TRAINING / "results.json").read_text())
    sha256 = hashlib.sha256(NETWORK.read_bytes()).hexdigest()
    assert results["weights_sha256"] == sha256
    assert f"begins with `{sha256[:16]}`" in text
    assert importlib.import_module("card").fill(text, results) == text


def test_it_finds_the_real_quasars_that_it_was_calibrated_on(reference: Path) -> None:
    folder, model = reference / "boss", load_model(NETWORK)
    catalogue = fitsio.read(str(folder / "cat_for_clustering_plate3655.fits.gz"))
    better = dict(zip(catalogue["THING_ID"], catalogue["Z"], strict=True))
    found = good = quasars = 0
    for path in sorted(folder.glob("spec-*.fits")):
        columns = ["CLASS", "THING_ID", "Z"]
        (about,) = fitsio.read(str(path), ext=2, columns=columns)
        if str(about["CLASS"].astype("U")).strip() != "QSO":
            continue
        row = classify(path, model)[0]
        z = better.get(about["THING_ID"], about["Z"])
        quasars += 1
        found += int(row["IS_QSO_QN"])
        close = abs(row["Z_QN"] - z) < 0.02 * (1 + z)
        good += int(row["IS_QSO_QN"] and close)
    assert quasars == 78
    assert found == 78
    assert good == 78
