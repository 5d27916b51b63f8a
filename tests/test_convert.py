"""Weights files written anew for Keras 3 and ONNX: the same network comes out.

What Keras itself made of the old files is in ``tests/data/keras`` and in the reference
data. Keras, PyTorch and ONNX are in `nox -s torch`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import KERAS, Run, demand, names

from qnp_xp import WeightsError, convert, load_model
from qnp_xp._train import _convert, _keras
from qnp_xp.errors import MissingLibraryError
from qnp_xp.grids import wave
from qnp_xp.io.weights._reading import read_weights
from qnp_xp.lines import LINES, LINES_BAL

# Keras 3.15 turns tensors into arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")

# Float32 is rounded to 1.2e-7 at the largest offset, 1.1, some twenty times on the way.
ROUNDING = 3e-6


@pytest.fixture
def folder(data: Path) -> Path:
    """Networks that Keras wrote, with what it makes of some spectra."""
    return data / "keras"


def with_keras() -> Any:
    """Keras itself; without it, the test is skipped."""
    demand("torch", "keras")
    return _keras.import_keras()


def grid_of(path: Path) -> np.ndarray | None:
    """A grid for networks of other sizes than QuasarNET's that have none."""
    file = read_weights(path)
    nbins = file.network().nbins
    known = file.attributes.wave is not None or nbins == wave.size
    return None if known else 3600.0 + 13.6 * np.arange(nbins)


def in_keras(keras: Any, path: Path, x: np.ndarray) -> np.ndarray:
    """What Keras makes of spectra with a file."""
    model = keras.models.load_model(path, compile=False)
    return np.stack(model.predict(x.reshape(*x.shape[:2], 1), verbose=0))


def in_onnxruntime(path: Path, x: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """What onnxruntime makes of spectra with a file, and the metadata that it finds."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (lines,) = session.run(None, {"spectrum": x.reshape(x.shape[:2])})
    metadata = session.get_modelmeta().custom_metadata_map
    return np.swapaxes(lines, 0, 1), metadata


# In Keras itself.


@pytest.mark.parametrize(
    ("name", "suffix"), [*((name, ".keras") for name in KERAS), ("lambda_k3", ".h5")]
)
def test_keras_makes_of_the_new_file_what_it_made_of_the_old(
    folder: Path, tmp_path: Path, name: str, suffix: str
) -> None:
    keras = with_keras()
    old, new = folder / f"{name}.h5", tmp_path / f"new{suffix}"
    said = convert(old, new, wave=grid_of(old))
    known = np.load(folder / f"{name}.npz")
    found = in_keras(keras, new, known["x"])
    assert np.abs(found - known["y"]).max() < 1e-6
    assert np.abs(found - known["y64"]).max() < 1e-6
    assert said < ROUNDING
    assert names(tmp_path) == [new.name]


def test_keras_loads_what_was_a_keras_2_file_with_lambdas(
    reference: Path, tmp_path: Path
) -> None:
    keras = with_keras()
    old = reference / "quasarnp" / "test_weights_6_layer.h5"
    known = np.load(reference / "quasarnp" / "qnet_output_6_layer.npy")
    x = np.load(reference / "quasarnp" / "coadd_x.npy").astype(np.float32)
    with pytest.raises(Exception, match=r"marshal|Lambda"):
        keras.models.load_model(old, compile=False)
    for suffix in (".keras", ".h5"):
        new = tmp_path / f"new{suffix}"
        assert convert(old, new, c_thresh=0.625) < ROUNDING
        assert np.abs(in_keras(keras, new, x) - known).max() < 1e-6
        model = load_model(new)
        assert np.abs(np.stack(model.predict(x)) - known).max() < ROUNDING
        assert model.c_thresh == 0.625


def test_layers_have_quasarnet_s_names_and_can_be_trained(folder: Path) -> None:
    with_keras()
    network = load_model(folder / "valid_rescaled.h5").network
    model = _keras.keras_network(network)
    found = [layer.name for layer in model.layers]
    first = ["spectrum", *(f"conv_{i}" for i in range(1, 5)), "flatten", "fc_common"]
    assert found[:7] == first
    heads = {f"{kind}_{i}" for i in range(7) for kind in ("fc_box", "fc_offset")}
    heads |= {f"{kind}_{i}" for i in range(7) for kind in ("rescaling", "conc_box")}
    assert {*found[7:]} == heads
    assert len(model.trainable_variables) == 2 * (4 + 1 + 14)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_network_is_saved_with_its_grid_lines_and_threshold(
    folder: Path, tmp_path: Path, suffix: str
) -> None:
    with_keras()
    model = _keras.keras_network(load_model(folder / "same.h5").network)
    path = tmp_path / f"network{suffix}"  # a name that the file gets on the way, too
    grid = np.linspace(4000.0, 8420.0, 443)
    settings: Any = {"wave": grid, "lines": ["LYA"], "lines_bal": ["LYA"]}
    _keras.save_network(model, path, **settings, c_thresh=0.1)
    found = load_model(path)
    np.testing.assert_array_equal(found.wave, grid)
    assert (found.lines, found.lines_bal) == (("LYA",), ("LYA",))
    assert found.c_thresh == 0.1
    content = path.read_bytes()
    with pytest.raises(FileExistsError, match=path.name):
        _keras.save_network(model, path, **settings)
    assert path.read_bytes() == content
    _keras.save_network(model, path, **settings, overwrite=True)
    assert load_model(path).c_thresh is None
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_network_that_was_trained_is_saved_without_its_loss_and_optimizer(
    folder: Path, tmp_path: Path, suffix: str
) -> None:
    keras = with_keras()
    model = _keras.keras_network(load_model(folder / "same.h5").network)
    before = model.get_layer("conv_1").get_weights()[0]
    model.compile(optimizer="adam", loss=[lambda y, x: abs(x - y)] * 2)
    x = np.random.default_rng(3).normal(size=(8, 443, 1))
    model.train_on_batch(x, [np.ones((8, 26))] * 2)
    path = tmp_path / f"new{suffix}"
    _keras.save_network(model, path, wave=wave)
    network = load_model(path).network
    after = model.get_layer("conv_1").get_weights()[0]
    np.testing.assert_array_equal(network.convs[0].kernel, after)
    assert (after != before).all()
    assert not keras.models.load_model(path).compiled
    assert path.stat().st_size < 2 * (folder / f"same{suffix}").stat().st_size + 50_000


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"wave": wave[:-1]}, r"\(442,\).* 443 bins"),
        ({"wave": wave + np.arange(443) ** 2}, "constant spacing"),
        ({"lines": ["LYA"]}, "2 outputs.* 1 and 0"),
        ({"lines": ["LYA", "lya"]}, "unknown line 'lya'"),
        ({"c_thresh": 1.5}, r"c_thresh .*1\.5"),
        ({"c_thresh": "0.5"}, "c_thresh .*'0.5'"),
        ({"c_thresh": float("nan")}, "c_thresh .*nan"),
    ],
)
def test_what_does_not_fit_a_network_is_not_saved_with_it(
    folder: Path, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with_keras()
    model = _keras.keras_network(load_model(folder / "same.h5").network)
    with pytest.raises(ValueError, match=match):
        _keras.save_network(model, tmp_path / "net.h5", **{"wave": wave, **changes})
    assert names(tmp_path) == []


def test_a_link_to_a_file_of_another_suffix_is_followed(
    folder: Path, tmp_path: Path
) -> None:
    with_keras()
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "net.keras", tmp_path / "elsewhere" / "net.h5"
    link.symlink_to(target)
    convert(folder / "valid.h5", link)
    assert link.is_symlink()
    assert target.read_bytes().startswith(b"PK")
    assert load_model(link).nlines == 7


# In ONNX.


@pytest.mark.parametrize("name", KERAS)
def test_onnxruntime_makes_of_a_network_what_keras_made_of_it(
    folder: Path, tmp_path: Path, name: str
) -> None:
    demand("onnx", "onnxruntime")
    old, new = folder / f"{name}.h5", tmp_path / "new.onnx"
    said = convert(old, new, wave=grid_of(old))
    known = np.load(folder / f"{name}.npz")
    found, _ = in_onnxruntime(new, known["x"])
    assert np.abs(found - known["y"]).max() < ROUNDING
    assert said < ROUNDING
    assert names(tmp_path) == ["new.onnx"]


def test_onnxruntime_makes_of_a_keras_2_file_what_keras_made_of_it(
    reference: Path, tmp_path: Path
) -> None:
    demand("onnx", "onnxruntime")
    convert(reference / "quasarnp" / "test_weights_6_layer.h5", tmp_path / "new.onnx")
    x = np.load(reference / "quasarnp" / "coadd_x.npy").astype(np.float32)
    known = np.load(reference / "quasarnp" / "qnet_output_6_layer.npy")
    found, metadata = in_onnxruntime(tmp_path / "new.onnx", x)
    assert np.abs(found - known).max() < 1e-6
    assert "c_thresh" not in metadata


def test_the_metadata_of_onnx_says_grid_lines_and_threshold(
    folder: Path, tmp_path: Path
) -> None:
    demand("onnx", "onnxruntime")
    convert(folder / "valid.h5", tmp_path / "new.onnx", c_thresh=0.7)
    _, metadata = in_onnxruntime(tmp_path / "new.onnx", np.zeros((1, 443), np.float32))
    np.testing.assert_array_equal(json.loads(metadata["model_grid"]), wave)
    assert metadata["lines"].split(",") == list(LINES)
    assert metadata["lines_bal"].split(",") == list(LINES_BAL)
    assert float(metadata["c_thresh"]) == 0.7


# What is embedded, and what is refused. Where no library is needed, none is used.


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """ONNX without ONNX: the file is a text, and run as the old one is.

    To the outputs ``error`` is added, where the dictionary has it.
    """

    class Text(bytes):
        def SerializeToString(self) -> bytes:
            return self

    built: dict[str, Any] = {"error": 0.0}

    def load(*args: Any, **settings: Any) -> Any:
        built["model"] = load_model(*args, **settings)
        return built["model"]

    def build(network: Any, said: Any) -> Text:
        assert network is built["model"].network
        return Text(json.dumps({**said.texts(), "nbins": said.wave.size}).encode())

    def execute(path: Path, x: np.ndarray) -> np.ndarray:
        assert json.loads(path.read_text())
        outputs = np.stack(built["model"].predict(x))
        return np.swapaxes(outputs, 0, 1) + built["error"]

    monkeypatch.setattr(_convert, "import_onnx", lambda: None)
    monkeypatch.setattr(_convert, "onnx_network", build)
    monkeypatch.setattr(_convert, "run_onnx", execute)
    monkeypatch.setattr(_convert, "load_model", load)
    return built


@pytest.mark.usefixtures("mock")
def test_the_command_says_the_largest_difference(
    run: Run, here: Path, folder: Path
) -> None:
    options = ["--c-thresh", "0.7", "--lines", "LYA,CIV(1548)", "--grid", "log"]
    status, out, err = run("convert", folder / "same.h5", "new.onnx", *options)
    assert (status, err) == (0, "")
    text = "outputs differ by 0.0e+00 at most, on made-up spectra"
    assert out == f"{folder / 'same.h5'} -> new.onnx: {text}\n"
    assert json.loads((here / "new.onnx").read_text()) == {
        "lines": "LYA,CIV(1548)",
        "lines_bal": "",
        "c_thresh": 0.7,
        "nbins": 443,
    }


@pytest.mark.usefixtures("mock")
def test_threshold_and_lines_of_the_old_file_stay(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.h5"
    old.write_bytes((folder / "same.h5").read_bytes())
    with h5py.File(old, "r+") as f:
        f.attrs["c_thresh"], f.attrs["lines"] = 0.25, "LYA,Hbeta"
    convert(old, tmp_path / "new.onnx")
    said = json.loads((tmp_path / "new.onnx").read_text())
    assert (said["lines"], said["c_thresh"]) == ("LYA,Hbeta", 0.25)


@pytest.mark.parametrize("error", [2e-5, np.nan])
def test_a_file_whose_outputs_differ_is_not_put_in_place(
    mock: dict[str, Any], folder: Path, tmp_path: Path, error: float
) -> None:
    (tmp_path / "new.onnx").write_text("mine")
    mock["error"] = error
    with pytest.raises(WeightsError, match=r"valid\.h5.*new\.onnx .*(2\.0e-05|nan)"):
        convert(folder / "valid.h5", tmp_path / "new.onnx", overwrite=True)
    assert (tmp_path / "new.onnx").read_text() == "mine"
    assert names(tmp_path) == ["new.onnx"]


@pytest.mark.usefixtures("mock")
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["absent.h5", "new.onnx"], r"absent\.h5: no such weights file$"),
        (["valid.h5", "new.pt"], r"new\.pt: must end in \.keras, \.h5 or \.onnx"),
        (["valid.h5", "new"], "new: must end in"),
        (["valid.h5", "nowhere/new.onnx"], "nowhere: no such folder"),
        (["valid.h5", "folder.onnx"], r"folder\.onnx is a folder"),
        (["valid.h5", "mine.onnx"], r"mine\.onnx exists; .*--overwrite"),
        (["valid.h5", "pipe.onnx", "--overwrite"], r"pipe\.onnx is a device or a pipe"),
        (["valid.h5", "valid.h5", "--overwrite"], r"valid\.h5 is an input"),
        (["valid.h5", "same.h5", "--overwrite"], r"same\.h5 is an input"),
        (["mine.onnx", "new.onnx"], r"mine\.onnx: neither an HDF5"),
        (["valid.h5", "new.onnx", "--c-thresh", "7"], r"c_thresh .*7\.0"),
        (["valid.h5", "new.onnx", "--lines", "LYA"], r"valid\.h5 has 7 outputs"),
        (["valid.h5", "new.onnx", "--grid", "linear"], r"valid\.h5.* 443 .* 458"),
        (["valid.h5", "new.onnx", "--grid", "no"], "no: no grid .*START:STEP:N"),
        (["", "new.onnx"], "filename must be the name of a file"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_a_sentence(
    run: Run, here: Path, folder: Path, arguments: list[str], match: str
) -> None:
    (here / "valid.h5").write_bytes((folder / "valid.h5").read_bytes())
    (here / "same.h5").hardlink_to(here / "valid.h5")
    (here / "folder.onnx").mkdir()
    (here / "mine.onnx").write_text("mine")
    os.mkfifo(here / "pipe.onnx")
    before = names(here)
    status, out, err = run("convert", *arguments)
    assert (status, out) == (1, "")
    (line,) = [x for x in err.splitlines() if "WARNING" not in x]
    assert line.startswith("qnp-xp: error: ")
    assert re.search(match, line)
    assert names(here) == before
    assert (here / "mine.onnx").read_text() == "mine"


@pytest.mark.parametrize(
    ("suffix", "library", "extra"),
    [
        (".keras", "keras", "train"),
        (".h5", "keras", "train"),
        (".onnx", "onnx", "onnx"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    tmp_path: Path,
    suffix: str,
    library: str,
    extra: str,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=rf"pip install '\.\[{extra}\]'"):
        convert(folder / "valid.h5", tmp_path / f"new{suffix}")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("version", "runs_on", "match"),
    [
        ("3.15.1", "jax", "jax.*KERAS_BACKEND=torch"),
        ("2.15.0", "torch", "Keras 3 .*2.15"),
    ],
)
def test_another_keras_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str, runs_on: str, match: str
) -> None:
    class Other:
        __version__ = version

        class backend:
            pass

    Other.backend.backend = staticmethod(lambda: runs_on)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keras", Other)
    with pytest.raises(MissingLibraryError, match=match):
        _keras.import_keras()


def test_a_backend_that_was_asked_for_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(MissingLibraryError, match=r"tensorflow here.*KERAS_BACKEND"):
        _keras.import_keras()
