"""The simulator and the recipe of the network that ships, on a small scale."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
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
# Rest wavelengths beyond Lyman alpha and before it, in Angstrom.
RANGES = ((1050, 1190), (1220, 1290))


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
        names = ("templates", "broad", "objects", "ensemble", "noise", "world")
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


def test_double_lines_have_two_peaks_about_the_line_and_their_width(
    tools: dict[str, Any],
) -> None:
    broad, z = tools["broad"], np.full(200, 0.2)
    shape = np.full(200, "double")
    added = broad.broad_lines(np.random.default_rng(1), z, shape)
    centre = wave * 10**0.0005
    near = np.abs(centre / 1.2 / 6564.6 - 1) < 0.06
    size = np.diff(wave, append=wave[-1] * 10**1e-3)
    # Equivalent widths at rest are lognormal about 220 Angstrom, 0.5 and 0.25 wide.
    width = (added * size * near).sum(axis=1) / 1.2
    assert np.exp(np.log(width).mean()) == pytest.approx(220, rel=0.15)
    assert np.log(width).std() == pytest.approx(np.hypot(0.5, 0.25), rel=0.2)
    line = added[:, near]
    peaks = (line[:, 1:-1] > line[:, :-2]) & (line[:, 1:-1] > line[:, 2:])
    # A third part in the middle fills the gap of some.
    assert np.mean(peaks.sum(axis=1) > 1) > 0.6


def test_far_quasars_are_dark_beyond_lyman_alpha(tools: dict[str, Any]) -> None:
    objects, templates = tools["objects"], tools["templates"]
    rng = np.random.default_rng(2)
    shift = templates.draw_shift(rng, 6.0, 6.9, 50)
    flux = objects.quasars(rng, tools["data"].library, shift, np.zeros(50, dtype=bool))
    rest = wave / (1 + templates.redshift(shift))[:, None]
    middle = np.array(
        [
            [np.median(row[(at > low) & (at < high)]) for low, high in RANGES]
            for row, at in zip(flux, rest, strict=True)
        ]
    )
    assert np.median(middle[:, 0] / middle[:, 1]) < 0.03


def test_what_is_partly_seen_is_one_range_or_all_but_an_arm(
    tools: dict[str, Any],
) -> None:
    shapes = tools["data"].shapes
    clean = np.ones((400, wave.size), dtype=np.float32)
    snr = np.full(400, 4.0, dtype=np.float32)
    share = []
    for partial in (0.0, 1.0):
        rng = np.random.default_rng(6)
        ivar = tools["noise"].observe(rng, clean, shapes, snr, partial)[1]
        share.append((ivar > 0).mean(axis=1))
        claimed = [np.median(np.sqrt(row[row > 0])) for row in ivar]
        np.testing.assert_allclose(claimed, 4.0, rtol=1e-4)
    assert np.median(share[0]) > 0.95
    assert np.median(share[1]) < 0.75
    assert share[1].min() > 0.15


def test_orthogonal_steps_have_the_directions_of_the_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand("torch")
    monkeypatch.syspath_prepend(str(TRAINING))
    torch = importlib.import_module("torch")
    orthogonal = importlib.import_module("muon").orthogonal
    for shape in ((20, 90), (90, 20)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        inner = left.T @ orthogonal(matrix) @ right.T
        assert inner.diagonal().min() > 0.6
        assert inner.diagonal().max() < 1.3
        assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-3


def test_a_quasar_without_a_line_on_pixels_teaches_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand("torch", "keras")
    monkeypatch.syspath_prepend(str(TRAINING))
    any_line = importlib.import_module("train").any_line
    ivar = np.zeros((4, wave.size))
    ivar[:, 100] = 1
    place = np.full((4, 7), -5.0)
    place[:, 3] = (102.9, 103.0, 98.0, -1.0)
    assert any_line(place, ivar).tolist() == [True, False, True, False]
    # At the ends of the grid there are no bins beyond.
    ivar = np.ones((2, wave.size))
    place[:2, 3] = (0.0, wave.size - 0.1)
    assert any_line(place[:2], ivar).tolist() == [True, True]


def test_quick_trainings_beat_chance_and_give_the_same_network_after_a_cut(
    tools: dict[str, Any], reference: Path, tmp_path: Path
) -> None:
    demand("torch", "keras")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "QNP_XP_REFERENCE_DATA": str(reference),
    }
    command = [sys.executable, str(TRAINING / "train.py"), "--quick", "--threads", "1"]
    paths = [tmp_path / "one.h5", tmp_path / "two.h5"]
    kept = tmp_path / "kept.pt"

    def start(*options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, *map(str, options)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(run: subprocess.Popen[bytes]) -> None:
        complaints = run.communicate()[1].decode()
        assert run.returncode == 0, complaints

    whole = start("--output", paths[0])
    cut = start("--output", paths[1], "--checkpoint", kept)
    while not kept.exists() and cut.poll() is None:
        time.sleep(0.1)
    cut.kill()
    cut.communicate()
    assert not paths[1].exists()
    finish(start("--output", paths[1], "--checkpoint", kept))
    finish(whole)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    model, grid = load_model(paths[0])
    np.testing.assert_array_equal(grid, wave)
    assert model.lines == LINES
    boss = tools["data"].observed
    spectra = normalize(boss.flux, boss.ivar)[0][boss.quasar].astype(np.float32)
    found = decode(model.predict(spectra), model.lines, model.lines_bal)
    z = boss.z[boss.quasar]
    good = np.abs(found.zbest - z) / (1 + z) < 0.02
    # Of 78; a redshift at random is good for three of them.
    assert good.sum() > 50
    assert ((found.cbest > 0.5) & good).sum() > 40
