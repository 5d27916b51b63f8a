"""The simulator and the recipe of the network that ships, on a small scale."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import demand

import qnp_xp
from qnp_xp import load_model
from qnp_xp.decode import decode
from qnp_xp.grids import wave
from qnp_xp.lines import LINES, absorber_IGM
from qnp_xp.spectra import normalize

TRAINING = Path(__file__).parents[1] / "training"
ROOT = Path(qnp_xp.__file__).parents[1]


@pytest.fixture(scope="module")
def tools(reference: Path) -> dict[str, Any]:
    """The modules of training/ and what they read."""
    if not TRAINING.is_dir():
        pytest.skip(f"no {TRAINING}: training/ is not in the wheel")
    demand("scipy")
    templates = Path(os.environ.get("RR_TEMPLATE_DIR", reference / "redrock-templates"))
    if not templates.is_dir():
        pytest.skip(f"no templates in {templates} ($RR_TEMPLATE_DIR)")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TRAINING))
        patch.setenv("QNP_XP_REFERENCE_DATA", str(reference))
        names = ("templates", "objects", "ensemble", "noise", "world")
        found = {name: importlib.import_module(name) for name in names}
        found["data"] = found["world"].read_world()
    return found


def one_quasar(tools: dict[str, Any], z: float) -> tuple[float, np.ndarray]:
    """The mean of plain quasars at a redshift near the one that is asked for."""
    templates, data = tools["templates"], tools["data"]
    shift = np.rint(np.log10([1 + z]) / templates.STEP).astype(np.int64)
    low = z < 1.5
    library = data.library
    kind = library.low if low else library.high
    parents = library.low_parents if low else library.high_parents
    mean = parents.coefficients.mean(axis=0, keepdims=True)
    return float(templates.redshift(shift)[0]), kind.spectra(shift, mean)[0]


@pytest.mark.parametrize(
    ("line", "z"),
    [
        ("MgII(2796)", 0.7),
        ("MgII(2796)", 1.2),
        ("CIV(1548)", 1.8),
        ("LYA", 2.6),
        ("CIII(1909)", 2.2),
        ("Hbeta", 0.4),
        ("Halpha", 0.3),
    ],
)
def test_a_simulated_line_lies_where_its_label_says(
    tools: dict[str, Any], line: str, z: float
) -> None:
    z, flux = one_quasar(tools, z)
    expected = np.log10(absorber_IGM[line] * (1 + z) / wave[0]) / 1e-3
    near = np.arange(wave.size)[np.abs(np.arange(wave.size) - expected) < 12]
    # Bins run from their grid point up, and the continuum slopes. C III] is a blend.
    peak = near[np.argmax(flux[near] * wave[near])] + 0.5
    assert abs(peak - expected) < (6 if line == "CIII(1909)" else 2)


def test_the_normalisation_is_the_packages(tools: dict[str, Any]) -> None:
    noise, ensemble = tools["noise"], tools["ensemble"]
    objects = ensemble.simulate(
        np.random.SeedSequence(3), tools["data"].library, 300, chunk=100
    )
    rng = np.random.default_rng(4)
    snr = noise.draw_snr(rng, objects.kind, ensemble.KINDS.index("SKY"))
    flux, ivar = noise.observe(rng, objects.flux, tools["data"].shapes, snr)
    assert (flux[ivar == 0] == 0).all()
    expected, weighted, varied = normalize(flux.astype(float), ivar.astype(float))
    assert weighted.all()
    assert varied.all()
    scale = np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(
        noise.normalise(flux, ivar) / scale, expected / scale, rtol=0, atol=1e-5
    )


def test_the_same_seed_gives_the_same_objects_in_any_number_of_threads(
    tools: dict[str, Any],
) -> None:
    simulate, library = tools["ensemble"].simulate, tools["data"].library
    one, two = (
        simulate(np.random.SeedSequence(5), library, 250, chunk=50) for _ in range(2)
    )
    for name in ("flux", "kind", "z", "bal"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert np.isfinite(one.flux).all()
    assert set(one.kind) == set(range(5))
    assert one.bal.any()
    assert not one.bal[one.kind != 0].any()
    np.testing.assert_array_equal(np.isnan(one.z), one.kind != 0)


def test_noise_has_the_signal_to_noise_ratio_that_was_asked_for(
    tools: dict[str, Any],
) -> None:
    shapes = tools["data"].shapes
    clean = np.ones((400, wave.size), dtype=np.float32)
    snr = np.full(400, 4.0, dtype=np.float32)
    rng = np.random.default_rng(6)
    flux, ivar = tools["noise"].observe(rng, clean, shapes, snr)
    claimed = [np.median(np.sqrt(row[row > 0])) for row in ivar]
    np.testing.assert_allclose(claimed, 4.0, rtol=1e-4)
    pull = ((flux - clean) * np.sqrt(ivar))[ivar > 0]
    # Median absolute deviations do not see the spikes.
    assert 0.95 < 1.4826 * np.median(np.abs(pull)) < 1.35


def test_quick_trainings_beat_chance_and_give_the_same_network(
    tools: dict[str, Any], reference: Path, tmp_path: Path
) -> None:
    demand("torch", "keras")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "QNP_XP_REFERENCE_DATA": str(reference),
    }
    command = [sys.executable, str(TRAINING / "train.py"), "--quick"]
    paths = [tmp_path / "one.h5", tmp_path / "two.h5"]
    runs = [
        subprocess.Popen(
            [*command, "--threads", "1", "--output", str(path)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for path in paths
    ]  # fmt: skip
    for run in runs:
        complaints = run.communicate()[1].decode()
        assert run.returncode == 0, complaints
    model, grid = load_model(paths[0])
    again, _ = load_model(paths[1])
    np.testing.assert_array_equal(grid, wave)
    assert model.lines == LINES
    boss = tools["data"].observed
    spectra = normalize(boss.flux, boss.ivar)[0][boss.quasar].astype(np.float32)
    preds = model.predict(spectra)
    np.testing.assert_allclose(again.predict(spectra), preds, rtol=0, atol=1e-3)
    found = decode(preds, model.lines, model.lines_bal)
    z = boss.z[boss.quasar]
    good = np.abs(found.zbest - z) / (1 + z) < 0.02
    # Of 78; a redshift at random is good for three of them.
    assert good.sum() > 50
    assert ((found.cbest > 0.5) & good).sum() > 40
