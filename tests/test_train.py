"""Training on files with truth: what is read, held out, written and refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import TARGETID, coadd_hdus, demand, write_coadd, write_hdus

from qnp_xp import QnpError, SpectraError, classify, load_model
from qnp_xp._data import DEMO_COADD, EMBEDDED_NETWORK, data_file
from qnp_xp._options import Options
from qnp_xp._train import choose_threshold, train
from qnp_xp._train._examples import Examples, hold_out, read_examples
from qnp_xp._train._settings import Settings
from qnp_xp.decode import decode
from qnp_xp.errors import MissingLibraryError
from qnp_xp.grids import Grid, linear_wave, wave
from qnp_xp.io import load_desi_coadd
from qnp_xp.lines import LINES, LINES_BAL, rest_wavelengths

# Keras copies tensors in a way that numpy 2 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")

DEMO = data_file(DEMO_COADD)
REST = rest_wavelengths([*LINES, *LINES_BAL])


def read(*pairs: Any, negatives: Any = (), **options: Any) -> Examples:
    return read_examples(pairs, negatives, np.asarray(wave), Options(**options))


def write_csv(path: Path, columns: dict[str, Any]) -> Path:
    """Truth as a table of text."""
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def write_as(path: Path, **columns: Any) -> Path:
    """Write a coadd of 40 targets that are called otherwise."""
    hdus = coadd_hdus(40)
    for name, values in columns.items():
        hdus["FIBERMAP"][name] = values
    return write_hdus(path, hdus)


@pytest.fixture
def truth(tmp_path: Path) -> dict[str, Any]:
    """Columns of truth for a coadd of 40 targets: a quasar is every other one."""
    n = 40
    kinds = np.where(np.arange(n) % 2, "GALAXY", "QSO")
    ids = TARGETID + np.arange(n)
    return {"TARGETID": ids, "SPECTYPE": kinds, "Z": np.linspace(0.5, 3, n)}


@pytest.fixture
def coadd(tmp_path: Path) -> Path:
    return write_coadd(tmp_path / "coadd.fits", 40)


def examples(target: Any, quasar: Any) -> Examples:
    """Examples without pixels."""
    n = len(target)
    empty = np.zeros((n, 0), dtype=np.float32)
    kind = np.where(quasar, 3, 2).astype(np.int8)
    unknown = np.full(n, -1, dtype=np.int8)
    z = np.where(quasar, 1.0, np.nan)
    return Examples(empty, empty, z, kind, unknown, np.asarray(target))


# What is read.


def test_the_network_is_trained_on_what_classify_shows_it() -> None:
    found = read((DEMO, DEMO))
    expected, kept = load_desi_coadd(DEMO)
    table = classify(DEMO, data_file(EMBEDDED_NETWORK))
    with fitsio.FITS(str(DEMO)) as f:
        kinds = f["FIBERMAP"]["TRUE_SPECTYPE"].read()
    science = np.char.strip(kinds.astype("U"))[kept] != "SKY"
    assert found.n == science.sum() < table.size
    np.testing.assert_allclose(found.normalized(), expected[science], atol=1e-5)
    assert found.describe() == (
        "23 spectra of 23 targets: 13 quasars (z 0.38 to 4.12), 6 galaxies, 4 stars"
    )
    assert found.left_out["not science targets"] == 1
    assert found.left_out["without usable pixels"] == 1


def test_labels_that_are_unsure_or_missing_are_left_out_and_counted(
    coadd: Path, truth: dict[str, Any]
) -> None:
    warned = np.zeros(40, dtype=int)
    warned[:3] = 4
    columns = {name: x[:30] for name, x in {**truth, "ZWARN": warned}.items()}
    found = read((coadd, columns))
    assert found.n == 27
    assert found.left_out["without a class in the truth"] == 10
    assert found.left_out["with an unsure label"] == 3


def test_files_of_negatives_need_no_truth(coadd: Path, truth: dict[str, Any]) -> None:
    found = read((coadd, truth), negatives=[DEMO])
    assert found.describe().endswith("20 galaxies, 23 negatives")
    assert found.quasar.sum() == 20
    assert np.isnan(found.z[~found.quasar]).all()


def test_spectra_of_a_target_are_one_with_coadd(
    tmp_path: Path, truth: dict[str, Any]
) -> None:
    ids = TARGETID + np.arange(40) // 2
    twice = write_as(tmp_path / "spectra.fits", TARGETID=ids)
    assert read((twice, truth)).n == 40
    assert read((twice, truth), coadd=True).n == 20


def test_rows_of_one_id_or_one_place_are_one_target(
    tmp_path: Path, truth: dict[str, Any]
) -> None:
    """The second file has the places of the first, under other TARGETIDs."""
    paths = [
        write_as(tmp_path / "a.fits"),
        write_as(tmp_path / "b.fits", TARGETID=TARGETID + 100 + np.arange(40)),
        write_as(tmp_path / "c.fits", TARGET_RA=10 + np.arange(40) / 100),
    ]
    other = {**truth, "TARGETID": truth["TARGETID"] + 100}
    found = read((paths[:1], truth), (paths[1], other), (paths[2], truth))
    assert found.n == 120
    np.testing.assert_array_equal(found.target, np.tile(found.target[:40], 3))
    assert np.unique(found.target).size == 40


# What is held out.


def test_all_spectra_of_a_target_are_held_out_together() -> None:
    target = np.repeat(np.arange(60), 3)
    data = examples(target, target < 20)
    held = hold_out(data, 0.25, 1)
    for rows in held.reshape(60, 3):
        assert rows.all() or not rows.any()
    assert held[target < 20].sum() == 15
    assert held[target >= 20].sum() == 30
    np.testing.assert_array_equal(held, hold_out(data, 0.25, 1))
    assert (held != hold_out(data, 0.25, 2)).any()


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.9, 9)])
def test_something_of_each_kind_is_on_both_sides(share: float, count: int) -> None:
    held = hold_out(examples(np.arange(20), np.arange(20) < 10), share, 0)
    assert [held[:10].sum(), held[10:].sum()] == [count, count]


@pytest.mark.parametrize(
    ("quasars", "others", "message"),
    [
        (9, 50, "9 of the labelled targets are quasars"),
        (50, 9, "9 of the labelled targets are no quasars.*--negatives"),
    ],
    ids=["quasars", "others"],
)
def test_too_few_targets_to_hold_some_out_are_refused(
    quasars: int, others: int, message: str
) -> None:
    n = quasars + others
    with pytest.raises(SpectraError, match=message):
        hold_out(examples(np.arange(n), np.arange(n) < quasars), 0.2, 0)


# Its threshold.


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_makes_the_fewest_mistakes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quasar = rng.random(80) < 0.3
    confidence = np.clip(rng.normal(np.where(quasar, 0.7, 0.4), 0.2), 0, 1)

    def mistakes(threshold: float) -> float:
        found = confidence > threshold
        return float((~found[quasar]).mean() + found[~quasar].mean())

    chosen = choose_threshold(confidence, quasar)
    least = min(mistakes(x) for x in np.linspace(0, 1, 1001))
    assert mistakes(chosen) <= least + 1e-9


def test_the_threshold_is_in_the_middle_where_there_is_room() -> None:
    quasar = np.array([True, True, False, False])
    confidence = np.array([0.9, 0.8, 0.2, 0.1])
    assert choose_threshold(confidence, quasar) == pytest.approx(0.5)


# What is refused, before anything of PyTorch is needed.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be from 1 up"),
        ({"steps": 10, "epochs": 2.0}, "steps and epochs"),
        ({"epochs": -1.0}, "epochs must be above 0"),
        ({"minutes": 0.0}, "minutes must be above 0"),
        ({"held": 1.0}, "held must be above 0"),
        ({"noise": 0.5}, "noise must be 1 to 100"),
        ({"shift": -1}, "shift must be 0 to 100"),
        ({"rate": 2.0}, "rate"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_settings_out_of_range_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


@pytest.mark.parametrize("settings", [{"steps": 1.5}, {"held": "a"}, {"seed": True}])
def test_settings_that_are_no_numbers_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be a"):
        Settings(**settings)


def test_an_epoch_is_a_pass_over_the_spectra() -> None:
    assert Settings(epochs=2.5, batch_size=10).count_steps(101, True) == 26
    assert Settings(steps=7).count_steps(101, False) == 7
    assert Settings().count_steps(101, True) < Settings().count_steps(101, False)


def dry_run(*args: Any, **options: Any) -> Any:
    return train(*args, dry_run=True, **options)


def test_truth_of_other_objects_is_refused(
    coadd: Path, truth: dict[str, Any], tmp_path: Path
) -> None:
    truth["TARGETID"] = truth["TARGETID"] + 1000
    path = write_csv(tmp_path / "truth.csv", truth)
    with pytest.raises(
        SpectraError, match=r"truth.csv: has no sure label .*coadd.fits"
    ):
        dry_run([(coadd, path)], tmp_path / "out.h5")


def test_no_spectra_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpectraError, match="no spectra to train on"):
        dry_run([], tmp_path / "out.h5")


def test_quasars_without_redshift_are_refused(
    coadd: Path, truth: dict[str, Any], tmp_path: Path
) -> None:
    truth["Z"][4] = -1
    path = write_csv(tmp_path / "truth.csv", truth)
    with pytest.raises(SpectraError, match=r"truth.csv: 1 quasar.* no redshift.*row 4"):
        dry_run([(coadd, path)], tmp_path / "out.h5")


def test_quasars_alone_are_refused(
    coadd: Path, truth: dict[str, Any], tmp_path: Path
) -> None:
    truth["SPECTYPE"] = ["QSO"] * 40
    with pytest.raises(SpectraError, match="0 of the labelled targets are no quasars"):
        dry_run([(coadd, truth)], tmp_path / "out.h5")
    found = dry_run([(coadd, truth)], tmp_path / "out.h5", negatives=DEMO)
    assert found.plan.examples.n + found.plan.held.n == 63


def test_the_output_is_a_new_weights_file_and_no_input(
    coadd: Path, truth: dict[str, Any], tmp_path: Path, weights: Path
) -> None:
    data = [(coadd, truth)]
    with pytest.raises(ValueError, match=r"out.txt.*\.keras or \.h5"):
        dry_run(data, tmp_path / "out.txt")
    with pytest.raises(FileExistsError, match=r"network.h5 exists"):
        dry_run(data, weights)
    with pytest.raises(ValueError, match=r"network.h5 is an input"):
        dry_run(data, weights, start=weights, overwrite=True)
    with pytest.raises(ValueError, match="is an input"):
        dry_run(data, data_file(EMBEDDED_NETWORK), overwrite=True)
    with pytest.raises(NotADirectoryError, match="no such folder"):
        dry_run(data, tmp_path / "none" / "out.h5")


@pytest.mark.parametrize("missing", ["keras", "torch"])
def test_what_is_missing_is_said_before_spectra_are_read(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, truth: dict[str, Any]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == missing else find(name),
    )
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingLibraryError, match=r"\[train\]"):
        train([(tmp_path / "none.fits", truth)], tmp_path / "out.h5")


# The command.


def test_a_dry_run_says_what_would_be_trained_on(run: Any) -> None:
    common = ["train", "--data", DEMO, "--truth", DEMO, "-o", "out.h5", "--dry-run"]
    status, out, err = run(*common, "--from", "bundled", "--steps", 5)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "begins with: embedded-network.h5",
        "trained on:  18 spectra of 18 targets: 10 quasars (z 0.38 to 3.52),"
        " 5 galaxies, 3 stars",
        "held out:    5 spectra of 5 targets: 3 quasars (z 0.87 to 4.12), 1 galaxy,"
        " 1 star",
        "left out:    1 not science targets, 1 without usable pixels",
        "batches:     5 of 64 spectra",
    ]
    assert not any(Path().iterdir())


def test_each_data_has_its_truth(run: Any) -> None:
    args = ["train", "--data", DEMO, "--data", DEMO, "--truth", DEMO, "-o", "out.h5"]
    status, _, err = run(*args)
    assert status == 2
    assert "2 and 1 are given" in err


def test_a_curve_that_is_there_is_not_replaced(run: Any) -> None:
    Path("out.png").write_bytes(b"mine")
    status, _, err = run("train", "--data", DEMO, "--truth", DEMO, "-o", "out.h5")
    assert status == 1
    assert "out.png exists" in err
    assert Path("out.png").read_bytes() == b"mine"


# The network on torch.


@pytest.fixture(scope="module")
def torch() -> Any:
    demand("torch", "keras")
    import torch

    torch.set_num_threads(1)
    return torch


def test_a_training_that_was_done_makes_no_batch_more(torch: Any) -> None:
    loop = importlib.import_module("qnp_xp._train._loop")
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
    states = [part.state_dict() for part in (model, optimizer, schedule)]
    made: list[int] = []
    done = loop.State(3, 1.0, states)
    loop.descend(model, 3, [optimizer], lambda: made.append(1), lambda *_: True, done)
    assert not made


def test_what_labels_say_is_what_decoding_finds(torch: Any) -> None:
    from qnp_xp._train._network import ABSENT, Layout, labels

    z = np.array([0.3, 2.4, 5.0, np.nan])
    bal = np.array([False, True, False, False])
    for grid in (wave, linear_wave):
        layout = Layout.plain(grid.size, 6, 1)
        box, offset = labels(z, bal, REST, Grid.from_wave(grid), layout)
        assert (box[3] == ABSENT).all()
        assert (box[0, 6], box[1, 6] >= 0) == (ABSENT, True)
        boxes = (box[:, :, None] == torch.arange(13)).double().numpy()
        offsets = np.repeat(offset[:, :, None].double().numpy(), 13, axis=2)
        preds = [np.concatenate(x, axis=1) for x in zip(
            boxes.transpose(1, 0, 2), offsets.transpose(1, 0, 2), strict=True
        )]  # fmt: skip
        found = decode(preds, LINES, LINES_BAL, grid)
        there = (box[:, :6] >= 0).numpy().T
        np.testing.assert_array_equal(found.c_line > 0.5, there)
        expected = np.broadcast_to(z, there.shape)[there]
        # Between grid points wavelengths are interpolated linearly.
        np.testing.assert_allclose(found.z_line[there], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["valid_rescaled", "odd_same", "stride3", "options"])
def test_a_network_that_was_read_is_the_same_on_torch(
    torch: Any, data: Path, name: str
) -> None:
    from qnp_xp._train._network import Layout, QuasarNet, run

    model = load_model(data / "keras" / f"{name}.h5", dtype="float64")
    stored = np.load(data / "keras" / f"{name}.npz")
    layout = Layout.of(model.network, 1)
    net = QuasarNet(layout)
    net.copy_weights(model.network)
    said = run(net, stored["x"][:, :, 0])
    place = torch.tensor(layout.scale)[:, None] * torch.sigmoid(said[:, :, 1])
    place += torch.tensor(layout.shift)[:, None]
    outputs = torch.cat([torch.sigmoid(said[:, :, 0]), place], dim=2)
    np.testing.assert_allclose(
        outputs.numpy().transpose(1, 0, 2), stored["y"], rtol=0, atol=2e-6
    )
    again = net.to_network()
    for one, two in zip(
        again.joined_heads(), model.network.joined_heads(), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7)
    for one, two in zip(again.convs, model.network.convs, strict=True):
        np.testing.assert_allclose(one.kernel, two.kernel, rtol=1e-6, atol=1e-7)
        assert (one.stride, one.padding) == (two.stride, two.padding)


def test_batch_norms_are_folded_into_the_network(torch: Any) -> None:
    from qnp_xp._train._network import ConvShape, Layout, QuasarNet, run
    from qnp_xp._xp.backend import resolve
    from qnp_xp.model import QuasarNP

    torch.manual_seed(3)
    net = QuasarNet(Layout(wave.size, (ConvShape(4),) * 2, ((8, "relu"),)))
    for norm in (*net.norms, *net.trunk_norms):
        for x in (norm.weight.data, norm.bias.data, norm.running_mean):
            x.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = np.random.default_rng(0).normal(size=(5, wave.size)).astype(np.float32)
    grid = (np.asarray(wave), LINES, LINES_BAL)
    model = QuasarNP(net.to_network(), *grid, "float64", "", "", resolve("cpu", None))
    expected = torch.sigmoid(run(net, x)[:, :, 0]).numpy()
    found = np.stack([line[:, :13] for line in model.predict(x)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_broad_absorption_that_nobody_knows_of_is_not_learnt(torch: Any) -> None:
    from qnp_xp._train._network import ABSENT, UNKNOWN, Layout, QuasarNet

    net = QuasarNet(Layout.plain(wave.size, 6, 1))
    said = torch.randn(4, 7, 2, 13, requires_grad=True)
    box = torch.full((4, 7), ABSENT)
    box[:, 6] = torch.tensor([UNKNOWN, UNKNOWN, 3, ABSENT])
    (slopes,) = torch.autograd.grad(net.loss(said, box, torch.zeros(4, 7)), said)
    assert not slopes[:2, 6].any()
    assert slopes[2, 6, 0].all()
    assert slopes[3, 6, 0].all()
    assert slopes[:, :6, 0].all()


def test_a_line_near_an_edge_counts_in_both_boxes_where_offsets_reach_there(
    torch: Any,
) -> None:
    from qnp_xp._train._network import Layout, QuasarNet

    plain = Layout.plain(wave.size, 6, 1)
    unstretched = dataclasses.replace(plain, scale=(1.0,) * 7, shift=(0.0,) * 7)
    box, offset = torch.full((1, 7), 4), torch.full((1, 7), 0.02)
    for layout, wanted in ((plain, [3, 4]), (unstretched, [4])):
        said = torch.zeros(1, 7, 2, 13, requires_grad=True)
        net = QuasarNet(layout)
        (slopes,) = torch.autograd.grad(net.loss(said, box, offset), said)
        raised = [np.flatnonzero(row[0] < 0).tolist() for row in slopes[0].numpy()]
        assert raised == [wanted] * 7
        # Half of the way across is 0.5; the line is at 0.02 of box 4 and 1.02 of 3.
        assert (slopes[0, :, 1, 4] > 0).all()
        if 3 in wanted:
            assert (slopes[0, :, 1, 3] < 0).all()


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
def test_a_spectrum_that_is_moved_has_its_lines_where_its_labels_say(
    torch: Any, grid: Any
) -> None:
    from qnp_xp._train._augment import Batches, Labeller
    from qnp_xp._train._network import Layout

    z, n = 2.2, 40
    place = np.searchsorted(grid, np.array(REST[:3]) * (1 + z), "right") - 1
    flux = np.full((n, grid.size), 1, dtype=np.float32)
    flux[: n // 2, place] = 50
    kind = np.where(np.arange(n) < n // 2, 3, 2).astype(np.int8)
    quasar = kind == 3
    unknown = np.full(n, -1, dtype=np.int8)
    ivar = np.full_like(flux, 100)
    redshifts = np.where(quasar, z, np.nan)
    data = Examples(flux, ivar, redshifts, kind, unknown, np.arange(n))
    labeller = Labeller(Layout.plain(grid.size, 6, 1), grid, REST)
    settings = Settings(shift=30, noise=1.0, batch_size=32)
    batches = Batches(data, labeller, settings, np.random.default_rng(0))
    x, box, offset = (part.numpy() for part in batches())
    assert ((box >= 0).any(axis=1) == (np.arange(32) < 16)).all()
    moved = (box + offset)[:16, :3] * grid.size / 13
    peaks = np.sort(np.argsort(-x[:16], axis=1)[:, :3], axis=1)
    np.testing.assert_allclose(peaks + 0.5, moved, rtol=0, atol=1.6)
    assert np.ptp(peaks[:, 0]) > 20


def test_noise_is_added_as_much_as_errors_grow(torch: Any) -> None:
    from qnp_xp._train._augment import _noisier

    rng = np.random.default_rng(0)
    ivar = rng.uniform(0.5, 2, (400, 300)).astype(np.float32)
    ivar[:, :10] = 0
    clean = np.zeros_like(ivar)
    flux, less = _noisier(rng, clean, ivar, 4.0)
    assert (flux[:, :10] == 0).all()
    assert (less[:, :10] == 0).all()
    factor = np.sqrt(ivar / np.where(ivar > 0, less, 1))[:, -1]
    assert 0.4 < np.mean(factor == 1) < 0.6
    assert factor.max() > 3.5
    # The noise that was there has the rest of the variance.
    more = 1 / less[:, 10:] - 1 / ivar[:, 10:]
    pull = flux[:, 10:][more > 1e-6] / np.sqrt(more[more > 1e-6])
    assert abs(pull.std() - 1) < 0.02
    assert not flux[factor == 1].any()


# Whole trainings, of small networks.


@pytest.fixture
def tune(torch: Any, weights: Path, tmp_path: Path) -> Any:
    """Tune a small network on the demo coadd."""

    def tune(name: str = "out.h5", **settings: Any) -> Any:
        settings = {"start": weights, "steps": 40, "rate": 1e-2, **settings}
        return train([(DEMO, DEMO)], tmp_path / name, **settings)

    return tune


def test_tuning_writes_a_better_network_with_all_that_belongs_to_it(
    tune: Any, tmp_path: Path, weights: Path
) -> None:
    told: list[str] = []
    steps: list[int] = []
    done = tune(tell=told.extend, progress=lambda step, *_: steps.append(step))
    assert told == done.plan.describe()
    assert steps == list(range(1, len(steps) + 1))
    assert done.curve[0, 2] > done.curve[:, 2].min()
    assert done.curve[done.curve[:, 0] == done.step, 2] == done.curve[:, 2].min()
    model, grid = load_model(tmp_path / "out.h5")
    assert (model.c_thresh, model.lines) == (done.c_thresh, LINES)
    np.testing.assert_array_equal(grid, wave)
    held = done.plan.held.normalized()
    found = decode(model.predict(held), model.lines, model.lines_bal)
    called = found.cbest > done.c_thresh
    right = (called & done.plan.held.quasar).sum()
    assert done.validation.completeness.count == right
    assert done.validation.other.name == weights.name
    assert classify(DEMO, tmp_path / "out.h5").size == 25
    assert sorted(p.name for p in tmp_path.glob("*.h5")) == ["out.h5"]


def test_the_same_seed_gives_the_same_file(tune: Any, tmp_path: Path) -> None:
    for name, seed in (("a.h5", 1), ("b.h5", 1), ("c.h5", 2)):
        tune(name, steps=5, seed=seed)
    one, two, other = (load_model(tmp_path / f"{x}.h5").network for x in "abc")
    for a, b in zip(one.joined_heads(), two.joined_heads(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.heads[0].box.kernel != other.heads[0].box.kernel).any()


def test_a_network_is_trained_from_random_weights(tune: Any, tmp_path: Path) -> None:
    done = tune("new.keras", start=None, steps=20, batch_size=16)
    assert done.validation.other is None
    model = load_model(tmp_path / "new.keras")
    assert [conv.bias.size for conv in model.network.convs] == [100] * 4
    assert model.network.heads[0].scale == pytest.approx(1.2)


def test_an_interrupt_leaves_the_best_network_so_far(
    tune: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(step: int, *_: Any) -> None:
        if step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(progress=stop)
    assert "has the best weights so far" in caplog.text
    assert load_model(tmp_path / "out.h5").c_thresh is not None


def test_an_interrupt_before_anything_is_better_leaves_nothing(
    tune: Any, tmp_path: Path
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(steps=400, progress=stop)
    assert not list(tmp_path.glob("*.h5"))


def test_an_error_leaves_nothing(tune: Any, tmp_path: Path) -> None:
    def fail(step: int, *_: Any) -> None:
        if step == 20:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        tune(progress=fail)
    assert not list(tmp_path.glob("*.h5"))


def test_a_training_that_brings_nothing_is_said_and_leaves_nothing(
    tune: Any, tmp_path: Path
) -> None:
    with pytest.raises(QnpError, match="nothing is written; try"):
        tune(rate=1e-12, steps=3)
    assert not list(tmp_path.glob("*.h5"))


def test_another_backend_of_keras_is_refused_before_the_training(
    tune: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    steps: list[int] = []
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(MissingLibraryError, match="runs on jax"):
        tune(progress=lambda step, *_: steps.append(step))
    assert steps == []


def test_time_that_is_over_ends_a_training(tune: Any) -> None:
    done = tune(steps=100_000, minutes=0.02)
    assert done.curve[-1, 0] < 100_000


def test_the_command_says_how_good_the_network_is_and_draws_the_curve(
    torch: Any, run: Any, weights: Path
) -> None:
    demand("matplotlib")
    status, out, _ = run(
        *("train", "--data", DEMO, "--truth", DEMO, "--from", weights),
        *("-o", "mine.h5", "--steps", 40, "--rate", 0.01),
    )
    assert status == 0
    assert "step 4 of 40: loss" in out
    assert "mine.h5 against what is held out" in out
    assert "curve -> mine.png" in out
    assert Path("mine.png").read_bytes()[1:4] == b"PNG"
