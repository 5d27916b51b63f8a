"""Weights files: what is read from them, and what is said of those that are wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import KERAS, copy_archive, copy_hdf5, edit_member_hdf5, layer, write_coadd

from qnp_xp import WeightsError, classify, load_model
from qnp_xp.grids import linear_wave, wave
from qnp_xp.io import embed_grid, load_file
from qnp_xp.io.weights import _reading
from qnp_xp.lines import LINES, LINES_BAL
from qnp_xp.model import QuasarNP
from qnp_xp.spectra import normalize
from qnp_xp.utils import process_preds

HEADS = [f"fc_{kind}_{i}" for kind in ("box", "offset") for i in range(7)]
BATCH_NORM = {"gamma", "beta", "moving_mean", "moving_variance"}
WITH_ARCHIVE = tuple(name for name in KERAS if name != "linear_grid")

Edit = Callable[[dict[str, Any], h5py.File], None]


@pytest.fixture
def keras(data: Path) -> Path:
    return data / "keras"


def predict(model: QuasarNP) -> np.ndarray:
    """What a model makes of some noise."""
    x = np.random.default_rng(5).normal(size=(3, model.nbins))
    return np.stack(model.predict(x))


def stored(path: Path, place: str) -> np.ndarray:
    """An array of a layer by its place within the weights of an HDF5 file."""
    with h5py.File(path, "r") as f:
        return np.asarray(f["model_weights"][place])


# What is read.


def test_load_file_gives_the_dictionaries_that_quasarnp_gives(reference: Path) -> None:
    path = reference / "quasarnp" / "test_weights.h5"
    weights, config, grid = load_file(path)
    norms = [f"batch_normalization_{i}" for i in range(1, 6)]
    convs = [f"conv_{i}" for i in range(1, 5)]
    assert set(weights) == {*norms, *convs, "fc_common", *HEADS, "lambda"}
    assert weights["lambda"] == []
    assert all(set(weights[name]) == BATCH_NORM for name in norms)
    dense = [*convs, "fc_common", *HEADS]
    assert all(set(weights[name]) == {"kernel", "bias"} for name in dense)
    assert config == {name: {"padding": "valid", "strides": [2]} for name in convs}
    np.testing.assert_array_equal(grid, wave)


def test_load_file_gives_arrays_as_they_are_stored(reference: Path) -> None:
    path = reference / "quasarnp" / "test_weights.h5"
    weights, _, _ = load_file(path)
    for name, place in (
        ("conv_1", "conv_1/conv_1"),
        ("conv_4", "conv_4/conv_4"),
        ("fc_common", "fc_common/fc_common"),
        ("fc_box_6", "fc_box_6/fc_box_6"),
        # The file counts its batch normalisations from 0.
        ("batch_normalization_1", "batch_normalization/batch_normalization"),
        ("batch_normalization_5", "batch_normalization_4/batch_normalization_4"),
    ):
        for variable, values in weights[name].items():
            expected = stored(path, f"{place}/{variable}:0")
            assert values.dtype == expected.dtype == np.float32
            np.testing.assert_array_equal(values, expected)


def test_load_file_keeps_names_of_batch_norms_that_count_from_one(
    reference: Path,
) -> None:
    path = reference / "quasarnp" / "test_weights_6_layer.h5"
    weights, config, _ = load_file(path)
    norms = [f"batch_normalization_{i}" for i in range(1, 8)]
    convs = [f"conv_{i}" for i in range(1, 7)]
    # Its Lambda layers are lambda_0 to lambda_6, which QuasarNP passes over.
    assert set(weights) == {*norms, *convs, "fc_common", *HEADS}
    assert config == {name: {"padding": "same", "strides": [2]} for name in convs}
    for name in norms:
        expected = stored(path, f"{name}/{name}/moving_variance:0")
        np.testing.assert_array_equal(weights[name]["moving_variance"], expected)


@pytest.mark.parametrize("name", WITH_ARCHIVE)
def test_load_file_gives_the_same_for_both_kinds_of_keras_3(
    keras: Path, name: str
) -> None:
    weights, config, grid = load_file(keras / f"{name}.h5")
    other, other_config, other_grid = load_file(keras / f"{name}.keras")
    assert set(weights) == set(other)
    assert config == other_config
    np.testing.assert_array_equal(grid, other_grid)
    for key in set(weights) - {"lambda"}:
        assert set(weights[key]) == set(other[key])
        for variable, values in weights[key].items():
            np.testing.assert_array_equal(values, other[key][variable])


def test_load_file_reads_names_without_a_colon(keras: Path) -> None:
    path = keras / "stride3.h5"
    weights, config, _ = load_file(path)
    assert set(weights["conv_2"]) == {"kernel", "bias"}
    expected = stored(path, "conv_2/conv_2/kernel")
    np.testing.assert_array_equal(weights["conv_2"]["kernel"], expected)
    assert config == {
        "conv_1": {"padding": "valid", "strides": [3]},
        "conv_2": {"padding": "same", "strides": [3]},
    }


def test_load_file_gives_the_grid_of_the_file(keras: Path) -> None:
    _, _, grid = load_file(keras / "linear_grid.h5")
    np.testing.assert_array_equal(grid, linear_wave)


def test_load_file_has_only_the_arrays_that_a_layer_has(keras: Path) -> None:
    for suffix in (".h5", ".keras"):
        weights, _, _ = load_file(keras / f"options{suffix}")
        assert set(weights["alpha"]) == {"kernel"}
        assert set(weights["beta7"]) == BATCH_NORM - {"beta"}
        assert set(weights["kernel"]) == BATCH_NORM - {"gamma"}


def test_filenames_may_be_strings(keras: Path) -> None:
    path = keras / "same.keras"
    assert set(load_file(str(path))[0]) == set(load_file(path)[0])
    assert load_model(str(path)).weights_name == "same.keras"


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_layers_are_paired_by_the_graph_and_not_by_their_names(
    keras: Path, suffix: str
) -> None:
    net = load_model(keras / f"options{suffix}").network
    assert [conv.name for conv in net.convs] == ["alpha", "trunk_c", "a_last"]
    assert [dense.name for dense in net.trunk] == ["mix"]
    boxes = ["zebra", "fc_box_0", "fc_offset_1"]
    offsets = ["fc_box_2", "otter", "conc_box_0"]
    assert [head.box.name for head in net.heads] == boxes
    assert [head.offset.name for head in net.heads] == offsets
    assert {(head.scale, head.shift) for head in net.heads} == {(1.2, -0.1)}
    for head in net.heads:
        for dense in (head.box, head.offset):
            place = f"{dense.name}/{dense.name}/kernel"
            np.testing.assert_array_equal(
                dense.kernel, stored(keras / "options.h5", place)
            )


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_more_than_nine_layers_keep_their_order(keras: Path, suffix: str) -> None:
    convs = load_model(keras / f"deep{suffix}").network.convs
    assert [conv.name for conv in convs] == [f"conv_{i}" for i in range(1, 12)]
    assert [conv.stride for conv in convs] == [1 + i % 2 for i in range(11)]


@pytest.mark.parametrize("name", WITH_ARCHIVE)
def test_archives_without_names_of_layers_read_alike(
    keras: Path, tmp_path: Path, name: str
) -> None:
    source = keras / f"{name}.keras"

    def forget(f: h5py.File) -> None:
        for group in f["layers"].values():
            if "vars" in group:
                del group["vars"].attrs["name"]

    older = copy_archive(
        source,
        tmp_path / source.name,
        lambda members: edit_member_hdf5(members, forget),
    )
    np.testing.assert_array_equal(
        predict(load_model(older)), predict(load_model(source))
    )


@pytest.mark.parametrize(("name", "conv"), [("options", "alpha"), ("same", "conv_1")])
def test_arrays_may_have_the_names_that_keras_2_gave_them(
    keras: Path, tmp_path: Path, name: str, conv: str
) -> None:
    source = keras / f"{name}.h5"

    def rename(_: dict[str, Any], f: h5py.File) -> None:
        for group in f["model_weights"].values():
            names = [str(old) for old in group.attrs["weight_names"]]
            for old in names:
                group.move(old, f"{old}:0")
            if names:
                renamed = np.array([f"{old}:0" for old in names], dtype="S")
                group.attrs["weight_names"] = renamed

    older = copy_hdf5(source, tmp_path / "keras2.h5", rename)
    assert stored(older, f"{conv}/{conv}/kernel:0").ndim == 3
    np.testing.assert_array_equal(
        predict(load_model(older)), predict(load_model(source))
    )


# The grid.


def test_the_grid_of_a_file_is_taken_without_a_word(
    keras: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        model = load_model(keras / "linear_grid.h5")
    np.testing.assert_array_equal(model.wave, linear_wave)
    assert not caplog.records


@pytest.mark.parametrize("name", ["same.h5", "same.keras"])
def test_a_missing_grid_is_one_warning_and_nothing_is_printed(
    keras: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    with caplog.at_level(logging.DEBUG):
        model = load_model(keras / name)
    np.testing.assert_array_equal(model.wave, wave)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name.startswith("qnp_xp")
    assert name in record.getMessage()
    assert "model_grid" in record.getMessage()
    assert capsys.readouterr() == ("", "")


def set_grid(values: Any) -> Edit:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        if "model_grid" in f:
            del f["model_grid"]
        f["model_grid"] = values

    return edit


BAD_GRIDS = {
    "size": (wave[:442], r"model_grid has shape \(442,\).*443 bins"),
    "dimensions": (wave[None, :], r"model_grid has shape \(1, 443\)"),
    "spacing": (np.sqrt(np.linspace(1e7, 1e8, 443)), "constant spacing"),
    "order": (wave[::-1], "constant spacing"),
    "nan": (np.where(np.arange(443) == 9, np.nan, wave), "finite and positive"),
    "negative": (wave - 4000, "finite and positive"),
    "text": ([b"blue"] * 443, "'model_grid' has type object, and plain numbers"),
}


@pytest.mark.parametrize("case", BAD_GRIDS)
def test_a_grid_that_is_none_is_an_error_that_names_the_file(
    keras: Path, tmp_path: Path, case: str
) -> None:
    values, match = BAD_GRIDS[case]
    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", set_grid(values))
    with pytest.raises(WeightsError, match=match) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_grid_with_one_impossible_wavelength_is_an_error_without_a_warning(
    keras: Path, tmp_path: Path
) -> None:
    values = np.where(np.arange(443) == 9, -1.0, wave)
    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", set_grid(values))
    with pytest.raises(WeightsError, match=r"net\.h5"):
        load_model(path)


def test_a_grid_of_an_archive_is_checked_as_well(keras: Path, tmp_path: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        members["model_grid.json"] = json.dumps(wave[:440].tolist()).encode()

    path = copy_archive(keras / "same.keras", tmp_path / "net.keras", edit)
    with pytest.raises(WeightsError, match=r"net.keras.*model_grid has shape \(440,\)"):
        load_model(path)


def test_another_number_of_bins_without_a_grid_says_what_to_do(
    keras: Path, tmp_path: Path
) -> None:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        del f["model_grid"]

    path = copy_hdf5(keras / "linear_grid.h5", tmp_path / "net.h5", edit)
    with pytest.raises(WeightsError, match=r"net.h5.*458 bins.*embed-grid"):
        load_model(path)


# Files that are something else, or damaged.


def test_a_missing_file_is_the_usual_error(tmp_path: Path) -> None:
    for reader in (load_model, load_file):
        with pytest.raises(FileNotFoundError, match=r"absent\.h5"):
            reader(tmp_path / "absent.h5")


@pytest.mark.parametrize("named", [True, False])
def test_a_missing_file_says_how_to_use_the_bundled_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    path = tmp_path / "absent.h5"
    match = r"absent\.h5: no such weights file; "
    match += "leave out -m" if named else r"unset \$QN_MODEL_FILE"
    monkeypatch.setenv("QN_MODEL_FILE", str(path))
    with pytest.raises(FileNotFoundError, match=match):
        load_model(path if named else None)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    os.mkfifo(path)
    with pytest.raises(WeightsError, match=r"net\.h5: not a regular file"):
        load_model(path)


def test_a_device_is_not_read() -> None:
    with pytest.raises(WeightsError, match="/dev/zero: not a regular file"):
        load_model("/dev/zero")


def test_a_huge_file_is_not_read(keras: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    shutil.copyfile(keras / "same.h5", path)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match=rf"net\.h5: has {1 << 40} bytes"):
        load_model(path)


@pytest.mark.parametrize("how", ["replaced", "written over", "cut"])
def test_a_file_that_changes_while_it_is_read_gives_the_network_of_its_digest(
    keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path, other = tmp_path / "net.h5", tmp_path / "other.h5"
    shutil.copyfile(keras / "valid.h5", path)
    shutil.copyfile(keras / "valid_rescaled.h5", other)
    expected = predict(load_model(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    original = _reading.open_hdf5

    def changing(*arguments: Any) -> Any:
        if how == "replaced":
            other.replace(path)
        else:
            path.write_bytes(other.read_bytes() if how == "written over" else b"")
        return original(*arguments)

    monkeypatch.setattr(_reading, "open_hdf5", changing)
    model = load_model(path)
    assert model.weights_sha256 == digest
    np.testing.assert_array_equal(predict(model), expected)


def test_a_folder_is_refused_with_how_to_save(tmp_path: Path) -> None:
    match = rf"{tmp_path.name}: a folder .*SavedModel.*model\.save"
    for reader in (load_model, load_file):
        with pytest.raises(WeightsError, match=match):
            reader(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x89HDF", b"SIMPLE  =                    T", b"hello\n" * 99]
)
def test_a_file_that_is_neither_hdf5_nor_an_archive_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "net.h5"
    path.write_bytes(content)
    for reader in (load_model, load_file):
        with pytest.raises(WeightsError, match=r"net\.h5: neither an HDF5 file nor"):
            reader(path)


@pytest.mark.parametrize("name", ["same.h5", "stride3.h5", "same.keras"])
def test_a_file_cut_short_anywhere_is_refused(
    keras: Path, tmp_path: Path, name: str
) -> None:
    content = (keras / name).read_bytes()
    path = tmp_path / name
    cuts = [*range(1, len(content), len(content) // 60), len(content) - 1]
    for length in cuts:
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=rf"{name}: ") as caught:
            load_model(path)
        assert str(path) in str(caught.value), length


def test_hdf5_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as f:
        f["flux"] = np.arange(3.0)
    with pytest.raises(WeightsError, match=r"other\.h5: no model_config"):
        load_model(path)


def test_weights_without_the_description_of_the_model_are_refused(
    keras: Path, tmp_path: Path
) -> None:
    def only_weights(_: dict[str, Any], f: h5py.File) -> None:
        del f.attrs["model_config"]

    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", only_weights)
    with pytest.raises(WeightsError, match=r"net\.h5: no model_config"):
        load_model(path)


@pytest.mark.parametrize(
    "text", ["", "{", '{"class_name": "Functional"', "[]", "3", "null", "{}"]
)
def test_a_broken_description_is_refused(
    keras: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "net.h5"
    shutil.copyfile(keras / "same.h5", path)
    with h5py.File(path, "r+") as f:
        f.attrs["model_config"] = text
    with pytest.raises(WeightsError, match=r"net\.h5: "):
        load_model(path)

    def edit(members: dict[str, bytes]) -> None:
        members["config.json"] = text.encode()

    archive = copy_archive(keras / "same.keras", tmp_path / "net.keras", edit)
    with pytest.raises(WeightsError, match=r"net\.keras: "):
        load_model(archive)


@pytest.mark.parametrize("kind", ["Sequential", "MyModel"])
def test_models_of_another_kind_are_refused(
    keras: Path, tmp_path: Path, kind: str
) -> None:
    def edit(model: dict[str, Any], _: h5py.File) -> None:
        model["class_name"] = kind

    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", edit)
    with pytest.raises(WeightsError, match=rf"net\.h5: a functional.*'{kind}'"):
        load_model(path)


def setting(name: str, key: str, value: Any) -> Edit:
    """Change a setting of a layer."""

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        layer(model, name)["config"][key] = value

    return edit


def both(first: Edit, second: Edit) -> Edit:
    """Change two things."""

    def edit(model: dict[str, Any], f: h5py.File) -> None:
        first(model, f)
        second(model, f)

    return edit


def kind(name: str, value: str) -> Edit:
    """Change the class of a layer."""

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        layer(model, name)["class_name"] = value

    return edit


def replaced_by(name: str, value: str, **settings: Any) -> Edit:
    """Put a layer of another class, with its own settings, in the place of a layer."""

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        found = layer(model, name)
        found["class_name"] = value
        found["config"] = {"name": name, "dtype": "float32", **settings}

    return edit


def values(place: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """Change an array of a layer."""

    def edit(_: dict[str, Any], f: h5py.File) -> None:
        group, full = f["model_weights"], place
        changed = change(np.asarray(group[full]))
        del group[full]
        group[full] = changed

    return edit


def without_array(_: dict[str, Any], f: h5py.File) -> None:
    del f["model_weights/conv_2/conv_2/kernel"]


def without_array_and_name(_: dict[str, Any], f: h5py.File) -> None:
    del f["model_weights/conv_2/conv_2/kernel"]
    f["model_weights/conv_2"].attrs["weight_names"] = ["conv_2/bias"]


def without_layer(_: dict[str, Any], f: h5py.File) -> None:
    del f["model_weights/conv_2"]


def without_outputs(model: dict[str, Any], _: h5py.File) -> None:
    model["config"]["output_layers"] = []


def with_an_output_too_early(model: dict[str, Any], _: h5py.File) -> None:
    model["config"]["output_layers"] = [["fc_box_0", 0, 0]]


def with_unknown_output(model: dict[str, Any], _: h5py.File) -> None:
    model["config"]["output_layers"] = [["nothing", 0, 0]]


def with_a_cycle(model: dict[str, Any], _: h5py.File) -> None:
    text = json.dumps(layer(model, "conv_1")["inbound_nodes"])
    model_input = model["config"]["input_layers"][0]
    name = model_input if isinstance(model_input, str) else model_input[0]
    changed = text.replace(f'"{name}"', '"conv_2"')
    layer(model, "conv_1")["inbound_nodes"] = json.loads(changed)


def with_a_cycle_in_a_head(model: dict[str, Any], _: h5py.File) -> None:
    nodes = json.dumps(layer(model, "rescaling")["inbound_nodes"])
    nodes = nodes.replace('"fc_offset_0"', '"rescaling"')
    layer(model, "rescaling")["inbound_nodes"] = json.loads(nodes)


def with_an_output_twice(model: dict[str, Any], _: h5py.File) -> None:
    model["config"]["output_layers"] *= 2


def with_the_last_rescaling_on_a_box(model: dict[str, Any], _: h5py.File) -> None:
    swapped = json.dumps(layer(model, "conc_box_0")["inbound_nodes"])
    swapped = swapped.replace("fc_box_0", "_").replace('"rescaling"', '"fc_box_0"')
    nodes = json.loads(swapped.replace('"_"', '"rescaling"'))
    layer(model, "conc_box_0")["inbound_nodes"] = nodes


def used_twice(name: str) -> Edit:
    """Let a layer be called once more."""

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        layer(model, name)["inbound_nodes"] *= 2

    return edit


def fed_by(name: str, old: str, new: str) -> Edit:
    """Hang a layer on another one."""

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        text = json.dumps(layer(model, name)["inbound_nodes"])
        assert f'"{old}"' in text
        changed = text.replace(f'"{old}"', f'"{new}"')
        layer(model, name)["inbound_nodes"] = json.loads(changed)

    return edit


def called_with(name: str, *arguments: Any, **named: Any) -> Edit:
    """Call a layer of Keras 3 with more than its input."""

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        (node,) = layer(model, name)["inbound_nodes"]
        node["args"] += arguments
        node["kwargs"].update(named)

    return edit


def of_package(name: str, module: str, registered: str) -> Edit:
    """Say where the class of a layer comes from."""

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        layer(model, name).update(module=module, registered_name=registered)

    return edit


def twice(name: str) -> Edit:
    """Describe a layer twice."""

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        model["config"]["layers"].append(layer(model, name))

    return edit


def with_keys(model: dict[str, Any], _: h5py.File) -> None:
    outputs = model["config"]["output_layers"]
    model["config"]["output_layers"] = {output[0]: output for output in outputs}


def with_array(place: str, listed: str | None = None) -> Edit:
    """Add an array, and its name to the list of a layer."""

    def edit(_: dict[str, Any], f: h5py.File) -> None:
        f[f"model_weights/{place}"] = np.ones(8, "f4")
        if listed:
            names = f[f"model_weights/{listed}"].attrs
            name = place.partition("/")[2]
            names["weight_names"] = [*names["weight_names"], name]

    return edit


def shared(first: str, second: str) -> Edit:
    """Give two layers the same array."""

    def edit(_: dict[str, Any], f: h5py.File) -> None:
        group = f["model_weights"]
        del group[second]
        group[second] = group[first]

    return edit


def nan_at_one_place(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flat[x.size // 2] = np.nan
    return x


BAD_NETWORKS: dict[str, tuple[Edit, str]] = {
    "kind of layer": (kind("activation_2", "Softmax"), r"'activation_2' \(Softmax\)"),
    "kind of convolution": (kind("conv_2", "Conv2D"), r"'conv_2' \(Conv2D\)"),
    "kind of head": (kind("fc_box_1", "Conv1D"), r"'fc_box_1' \(Conv1D\)"),
    "padding": (setting("conv_2", "padding", "causal"), r"'conv_2'.*padding='causal'"),
    "dilation": (setting("conv_2", "dilation_rate", [2]), r"'conv_2'.*dilation_rate="),
    "groups": (setting("conv_2", "groups", 2), r"'conv_2'.*groups=2"),
    "data format": (
        setting("conv_3", "data_format", "channels_first"),
        r"'conv_3'.*data_format='channels_first'",
    ),
    "stride": (setting("conv_2", "strides", [0]), r"'conv_2'.*strides.*positive"),
    "activation": (setting("activation_1", "activation", "swish"), r"'swish'"),
    "activation of a convolution": (
        setting("conv_1", "activation", "gelu"),
        r"'conv_1'.*'gelu'",
    ),
    "activation of a head": (
        setting("fc_offset_1", "activation", "softmax"),
        r"'fc_offset_1'.*sigmoid",
    ),
    "array missing": (without_array_and_name, r"'conv_2'.*'kernel' is missing"),
    "array gone and still listed": (without_array, r"conv_2"),
    "layer missing": (without_layer, r"'conv_2'.*'kernel' is missing"),
    "shape of an array": (
        values("conv_2/conv_2/kernel", lambda x: x[:-1]),
        r"'conv_2'.*'kernel' has shape \(9, 4, 4\), not \(10, 4, 4\)",
    ),
    "shape of the dense kernel": (
        values("fc_common/fc_common/kernel", lambda x: x[:-1]),
        r"'fc_common'.*'kernel' has shape",
    ),
    "NaN in a kernel": (
        values("conv_3/conv_3/kernel", nan_at_one_place),
        r"'conv_3'.*'kernel' has values not finite",
    ),
    "NaN in a head": (
        values("fc_box_1/fc_box_1/bias", nan_at_one_place),
        r"'fc_box_1'.*'bias' has values not finite",
    ),
    "beyond float32": (
        values("fc_common/fc_common/bias", lambda x: x.astype("f8") + 1e39),
        r"'fc_common'.*beyond the range of float32",
    ),
    "beyond float64, folded": (
        both(
            values("conv_2/conv_2/kernel", lambda x: x.astype("f8") * 1e300),
            values(
                "batch_normalization_2/batch_normalization_2/gamma",
                lambda x: x.astype("f8") * 1e300,
            ),
        ),
        r"'conv_2'.*beyond the range of float32",
    ),
    "scale beyond float32": (
        setting("rescaling", "scale", 1e40),
        r"'rescaling'.*finite float32",
    ),
    "infinite mean": (
        values(
            "batch_normalization_2/batch_normalization_2/moving_mean",
            lambda x: x + np.inf,
        ),
        r"'batch_normalization_2'.*'moving_mean' has values not finite",
    ),
    "negative variance": (
        values(
            "batch_normalization_2/batch_normalization_2/moving_variance",
            lambda x: -1 - x,
        ),
        r"'batch_normalization_2'.*variance plus epsilon must be positive",
    ),
    "epsilon": (
        setting("batch_normalization_1", "epsilon", float("nan")),
        r"'batch_normalization_1'.*variance plus epsilon must be positive",
    ),
    "layer used twice": (used_twice("conv_2"), "'conv_2'.*used more than once"),
    "heads apart": (
        fed_by("fc_box_1", "fc_activation", "batch_normalization_5"),
        r"'conc_box_1'.*its box and its offset head have different inputs",
    ),
    "heads on different layers": (
        both(
            fed_by("fc_box_1", "fc_activation", "batch_normalization_5"),
            fed_by("fc_offset_1", "fc_activation", "batch_normalization_5"),
        ),
        "the heads hang on different layers: 'batch_normalization_5', 'fc_activation'",
    ),
    "batch normalisation behind an activation": (
        setting("conv_2", "activation", "relu"),
        r"'batch_normalization_2'.*not supported after an activation",
    ),
    "no flattening": (
        replaced_by("flatten", "Dropout", rate=0.1),
        "'fc_common' .*not a layer that QuasarNET has here",
    ),
    "relu with a ceiling": (
        replaced_by("activation_2", "ReLU", max_value=6.0),
        r"'activation_2'.*max_value=6.0 is not supported",
    ),
    "softmax behind a head": (
        replaced_by("rescaling", "Activation", activation="softmax"),
        r"'fc_offset_0'.*sigmoid",
    ),
    "boxes": (
        setting("fc_box_1", "units", 12),
        r"the heads have different numbers of boxes: \[12, 13\]",
    ),
    "no outputs": (without_outputs, "the model has no outputs"),
    "output of a head": (with_an_output_too_early, r"'fc_box_0'.*one box and one"),
    "unknown output": (with_unknown_output, "'nothing' is referred to and not"),
    "cycle": (with_a_cycle, "the graph has a cycle"),
    "cycle in a head": (with_a_cycle_in_a_head, "the graph has a cycle"),
    "output twice": (with_an_output_twice, "is an output more than once"),
    "rescaling": (
        setting("rescaling", "scale", float("nan")),
        r"'rescaling'.*finite float32",
    ),
    "rescaled box": (with_the_last_rescaling_on_a_box, "'fc_offset_0'.*box head"),
    "input shape": (
        setting("input_layer", "batch_shape", [None, None, 1]),
        r"'input_layer'.*\(None, bins, 1\)",
    ),
    "size of the input": (
        setting("input_layer", "batch_shape", [None, 400, 1]),
        r"'fc_common'.*'kernel' has shape \(112, 8\), not \(100, 8\)",
    ),
    "setting that is not known": (
        setting("fc_common", "gate", "soft"),
        r"'fc_common' \(Dense\): gate='soft' is not supported",
    ),
    "quantized layer": (
        setting(
            "fc_box_1",
            "dtype",
            {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}},
        ),
        r"'fc_box_1' .*dtype=.*QuantizedDTypePolicy",
    ),
    "quantized kernel": (
        values("fc_common/fc_common/kernel", lambda x: np.round(x).astype("i1")),
        r"'fc_common'.*'kernel' has type int8, and real numbers",
    ),
    "channels flattened first": (
        setting("flatten", "data_format", "channels_first"),
        r"'flatten' .*data_format='channels_first'",
    ),
    "normalization along the spectrum": (
        setting("batch_normalization_2", "axis", [1]),
        r"'batch_normalization_2' .*axis=\[1\] is not supported",
    ),
    "normalization of the spectra of a batch": (
        setting("batch_normalization_5", "axis", 0),
        r"'batch_normalization_5' .*axis=0 is not supported",
    ),
    "renormalization": (
        setting("batch_normalization_1", "renorm", True),
        r"'batch_normalization_1' .*renorm=True",
    ),
    "heads one below the other": (
        setting("conc_box_1", "axis", 0),
        r"'conc_box_1' .*axis=0 is not supported",
    ),
    "dropouts that stay on": (
        called_with("dropout_1", training=True),
        r"'dropout_1' .*called with training=True",
    ),
    "dropouts that stay on by position": (
        called_with("dropout_2", True),
        r"'dropout_2' .*called with True",
    ),
    "somebody's own class": (
        of_package("fc_common", "networks.layers", "networks>Dense"),
        r"'fc_common' \(Dense\): not a layer that QuasarNET has",
    ),
    "arithmetic outside of layers": (
        kind("rescaling_1", "TFOpLambda"),
        r"'rescaling_1' \(TFOpLambda\): .*Rescaling",
    ),
    "changes of rank two": (
        setting("fc_common", "lora_rank", 4),
        r"'fc_common' .*LoRA",
    ),
    "layer without effect": (
        fed_by("dropout_3", "activation_4", "activation_3"),
        r"'activation_4' .*nothing takes its output",
    ),
    "two layers of one name": (twice("conv_2"), "'conv_2' .*another layer has this"),
    "activation of one's own": (
        setting("conv_1", "activation", {"class_name": "function", "config": "mine"}),
        r"'conv_1' .*activation=.*mine.* is not supported",
    ),
    "fraction of a filter": (
        setting("conv_2", "filters", 4.5),
        r"'conv_2' .*filters must be a positive integer, not 4.5",
    ),
    "scales of each box": (
        setting("rescaling", "scale", [1.2] * 13),
        r"'rescaling' .*scale=\[1.2",
    ),
    "outputs with keys": (with_keys, "outputs with keys"),
    "another array of a layer": (
        with_array("fc_common/fc_common/kernel_scale", listed="fc_common"),
        r"'fc_common' .*'kernel_scale' is not understood",
    ),
    "array that no list has": (
        with_array("dropout_1/scale"),
        r"'dropout_1' .*'model_weights/dropout_1/scale' is not understood",
    ),
    "array of no layer": (
        with_array("mask/values"),
        "array 'model_weights/mask/values' is not understood",
    ),
    "array of two layers": (
        shared("fc_box_0/fc_box_0/kernel", "fc_box_1/fc_box_1/kernel"),
        r"'fc_box_1' .*'kernel' is also another one",
    ),
    "kernel longer than its input": (
        both(
            setting("input_layer", "batch_shape", [None, 8, 1]),
            setting("conv_1", "padding", "valid"),
        ),
        "'conv_1'.*its kernel is longer than its input",
    ),
}


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_another_network_is_an_error_that_names_the_file_and_the_layer(
    keras: Path, tmp_path: Path, case: str
) -> None:
    edit, match = BAD_NETWORKS[case]
    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", edit)
    with pytest.raises(WeightsError, match=match) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_layer_that_does_nothing_at_prediction_is_passed_over(
    keras: Path, tmp_path: Path
) -> None:
    path = copy_hdf5(
        keras / "same.h5", tmp_path / "net.h5", kind("dropout_1", "GaussianNoise")
    )
    expected = predict(load_model(keras / "same.h5"))
    np.testing.assert_array_equal(predict(load_model(path)), expected)


def separate_sigmoid(model: dict[str, Any], _: h5py.File) -> None:
    """Take the sigmoid of a head out of its dense layer."""
    box = layer(model, "fc_box_1")
    box["config"]["activation"] = "linear"
    activation = json.loads(json.dumps(box).replace('"fc_box_1"', '"after"'))
    activation["class_name"] = "Activation"
    activation["config"] = {"name": "after", "activation": "sigmoid"}
    nodes = json.dumps(box["inbound_nodes"]).replace("fc_activation", "fc_box_1")
    activation["inbound_nodes"] = json.loads(nodes)
    model["config"]["layers"].append(activation)
    fed_by("conc_box_1", "fc_box_1", "after")(model, _)


def policy(kind: str, name: str) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name}}


EQUIVALENT: dict[str, Edit] = {
    "sigmoid in a layer of its own": separate_sigmoid,
    "linear activation": replaced_by("dropout_1", "Activation", activation="linear"),
    "identity": replaced_by("dropout_3", "Identity"),
    "axis of the channels": setting("batch_normalization_2", "axis", [2]),
    "axis behind the flattening": setting("batch_normalization_5", "axis", [1]),
    "axis of the heads": setting("conc_box_0", "axis", 1),
    "call as in training or not": called_with("dropout_1", None, training=False),
    "policy of Keras 2": setting("conv_1", "dtype", policy("Policy", "float32")),
    "mixed precision": setting(
        "conv_2", "dtype", policy("DTypePolicy", "mixed_float16")
    ),
    "penalties of the training": setting("conv_1", "kernel_regularizer", {"l2": 1.0}),
}


@pytest.mark.parametrize("case", EQUIVALENT)
def test_what_is_said_in_another_way_gives_the_same_numbers(
    keras: Path, tmp_path: Path, case: str
) -> None:
    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", EQUIVALENT[case])
    expected = predict(load_model(keras / "same.h5"))
    np.testing.assert_array_equal(predict(load_model(path)), expected)


def test_lora_is_read_from_an_archive_which_has_it_in_the_kernel(
    keras: Path, tmp_path: Path
) -> None:
    def edit(members: dict[str, bytes]) -> None:
        model = json.loads(members["config.json"])
        layer(model, "fc_common")["config"].update(lora_rank=4, lora_alpha=4)
        members["config.json"] = json.dumps(model).encode()

    path = copy_archive(keras / "same.keras", tmp_path / "net.keras", edit)
    expected = predict(load_model(keras / "same.keras"))
    np.testing.assert_array_equal(predict(load_model(path)), expected)


@pytest.mark.parametrize(
    ("place", "match"),
    [
        (
            "layers/dense_1/vars/2",
            r"'fc_offset_0' \(Dense\): its array .*dense_1/vars/2",
        ),
        ("layers/mask/vars/0", "array 'layers/mask/vars/0' is not understood"),
    ],
)
def test_another_array_of_an_archive_is_refused(
    keras: Path, tmp_path: Path, place: str, match: str
) -> None:
    def edit(f: h5py.File) -> None:
        f[place] = np.ones(8, "f4")

    path = copy_archive(
        keras / "same.keras",
        tmp_path / "net.keras",
        lambda m: edit_member_hdf5(m, edit),
    )
    with pytest.raises(WeightsError, match=match):
        load_model(path)


def test_random_numbers_of_dropouts_are_passed_over(
    keras: Path, tmp_path: Path
) -> None:
    def edit(f: h5py.File) -> None:
        f["layers/dropout/seed_generator/vars/0"] = np.ones(2, "u4")

    path = copy_archive(
        keras / "same.keras",
        tmp_path / "net.keras",
        lambda m: edit_member_hdf5(m, edit),
    )
    expected = predict(load_model(keras / "same.keras"))
    np.testing.assert_array_equal(predict(load_model(path)), expected)


def test_a_member_of_an_archive_that_lacks_an_array_names_its_layer(
    keras: Path, tmp_path: Path
) -> None:
    def without(f: h5py.File) -> None:
        del f["layers/conv1d_1/vars/0"]

    path = copy_archive(
        keras / "same.keras",
        tmp_path / "net.keras",
        lambda members: edit_member_hdf5(members, without),
    )
    with pytest.raises(WeightsError, match="conv_2") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


# Lambda layers.


def replaced_constant(code: str, old: float, new: float) -> str:
    """Marshalled code with another constant."""
    content = base64.b64decode(code)
    assert struct.pack("<d", old) in content
    changed = content.replace(struct.pack("<d", old), struct.pack("<d", new))
    return base64.b64encode(changed).decode()


def lambda_layer(model: dict[str, Any], number: int) -> dict[str, Any]:
    found = [e for e in model["config"]["layers"] if e["class_name"] == "Lambda"]
    config: dict[str, Any] = found[number]["config"]
    return config


@pytest.mark.parametrize(("old", "new"), [(1.2, 1.3), (-0.1, -0.2), (1.2, -1.2)])
def test_a_lambda_with_other_constants_is_refused(
    keras: Path, tmp_path: Path, old: float, new: float
) -> None:
    def edit(model: dict[str, Any], _: h5py.File) -> None:
        function = lambda_layer(model, 1)["function"]["config"]
        function["code"] = replaced_constant(function["code"], old, new)

    path = copy_hdf5(keras / "lambda_k3.h5", tmp_path / "net.h5", edit)
    match = r"net\.h5: layer 'lambda_1' \(Lambda\): only QuasarNET's own"
    with pytest.raises(WeightsError, match=match):
        load_model(path)


@pytest.mark.parametrize(
    "function",
    [
        "relu",
        None,
        3,
        [],
        {"class_name": "__lambda__", "config": {}},
        {"class_name": "function", "config": "relu", "registered_name": "relu"},
        {"class_name": "__lambda__", "config": {"code": "not base64!"}},
    ],
)
def test_a_lambda_of_an_unknown_function_is_refused(
    keras: Path, tmp_path: Path, function: Any
) -> None:
    def edit(model: dict[str, Any], _: h5py.File) -> None:
        lambda_layer(model, 0)["function"] = function

    path = copy_hdf5(keras / "lambda_k3.h5", tmp_path / "net.h5", edit)
    with pytest.raises(WeightsError, match=r"net\.h5: .*lambda"):
        load_model(path)


def test_a_lambda_of_keras_2_is_read(reference: Path, tmp_path: Path) -> None:
    source = reference / "quasarnp" / "test_weights.h5"
    heads = load_model(source).network.heads
    assert {(head.scale, head.shift) for head in heads} == {(1.2, -0.1)}

    def edit(model: dict[str, Any], _: h5py.File) -> None:
        function = layer(model, "lambda_3")["config"]["function"]
        function[0] = replaced_constant(function[0], 1.2, 1.1)

    path = copy_hdf5(source, tmp_path / "net.h5", edit)
    with pytest.raises(WeightsError, match=r"net\.h5: layer 'lambda_3' \(Lambda\)"):
        load_model(path)


# Archives.


@pytest.mark.parametrize("member", ["config.json", "metadata.json", "model.weights.h5"])
def test_an_archive_without_a_member_is_refused(
    keras: Path, tmp_path: Path, member: str
) -> None:
    path = copy_archive(
        keras / "same.keras", tmp_path / "net.keras", lambda m: m.pop(member) and None
    )
    with pytest.raises(WeightsError, match=rf"net\.keras: .*{member}"):
        load_model(path)


def test_an_archive_with_weights_cut_short_is_refused(
    keras: Path, tmp_path: Path
) -> None:
    for part in range(20):

        def edit(members: dict[str, bytes], part: int = part) -> None:
            content = members["model.weights.h5"]
            members["model.weights.h5"] = content[: len(content) * part // 20]

        path = copy_archive(keras / "same.keras", tmp_path / "net.keras", edit)
        with pytest.raises(WeightsError, match=r"net\.keras: "):
            load_model(path)


def test_an_archive_with_damaged_members_is_refused(
    keras: Path, tmp_path: Path
) -> None:
    source = keras / "same.keras"
    content = source.read_bytes()
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(source) as archive:
        places = [info.header_offset for info in archive.infolist()]
    # Ones in the midst of what each member was deflated to, and at its beginning.
    for first, last in zip(places, [*places[1:], len(content) - 300], strict=True):
        for place in (first + 60, (first + last) // 2, last - 40):
            damaged = bytearray(content)
            damaged[place : place + 8] = b"\xff" * 8
            path.write_bytes(damaged)
            with pytest.raises(WeightsError, match=r"net\.keras: "):
                load_model(path)


def test_an_archive_whose_member_claims_more_than_there_is_is_refused(
    keras: Path, tmp_path: Path
) -> None:
    path = copy_archive(keras / "same.keras", tmp_path / "net.keras", lambda _: None)
    content = bytearray(path.read_bytes())
    # Both sizes of the last member, in the directory at the end of the archive.
    place = content.rfind(b"PK\x01\x02") + 20
    content[place : place + 8] = 2 * struct.pack("<I", 2 * len(content))
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.keras: "):
        load_model(path)


# embed_grid.


def grid_of(path: Path) -> np.ndarray:
    return load_file(path)[2]


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_embedding_a_grid_changes_nothing_else(
    keras: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    source = tmp_path / f"source{suffix}"
    shutil.copyfile(keras / f"valid_rescaled{suffix}", source)
    before = source.read_bytes()
    target = tmp_path / f"target{suffix}"
    embed_grid(source, target, "log")
    assert source.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name}
    expected = predict(load_model(source))
    caplog.clear()
    model = load_model(target)
    assert not caplog.records  # the grid is there now
    np.testing.assert_array_equal(model.wave, wave)
    np.testing.assert_array_equal(predict(model), expected)
    assert model.weights_sha256 != load_model(source).weights_sha256


def test_embedding_a_linear_grid_replaces_a_wrong_one(
    keras: Path, tmp_path: Path
) -> None:
    wrong = copy_hdf5(
        keras / "linear_grid.h5", tmp_path / "wrong.h5", set_grid(linear_wave + 1)
    )
    embed_grid(str(wrong), str(tmp_path / "right.h5"), "linear")
    np.testing.assert_array_equal(grid_of(tmp_path / "right.h5"), linear_wave)
    np.testing.assert_array_equal(grid_of(wrong), linear_wave + 1)


@pytest.mark.parametrize(
    ("name", "grid", "spacing"),
    [("same.h5", "log", "logarithmic"), ("linear_grid.h5", "linear", "linear")],
)
def test_embedded_grids_are_found_by_quasarnp(
    keras: Path, tmp_path: Path, name: str, grid: str, spacing: str
) -> None:
    target = tmp_path / "net.h5"
    embed_grid(keras / name, target, grid)
    with h5py.File(target, "r") as f:
        assert f["model_grid"].dtype == np.float64
        assert f.attrs["grid_spacing"] == spacing


def test_archives_with_a_grid_keep_their_members(keras: Path, tmp_path: Path) -> None:
    source, target = keras / "same.keras", tmp_path / "net.keras"
    embed_grid(source, target)
    # Twice, for there must not be two members of one name.
    embed_grid(target, tmp_path / "again.keras")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(tmp_path / "again.keras") as z:
        assert z.namelist() == [*old.namelist(), "model_grid.json"]
        for name in old.namelist():
            assert z.read(name) == old.read(name)


def test_an_output_that_exists_is_not_replaced_unasked(
    keras: Path, tmp_path: Path
) -> None:
    target = tmp_path / "net.h5"
    target.write_text("mine")
    with pytest.raises(FileExistsError, match=r"net\.h5 exists.*overwrite"):
        embed_grid(keras / "same.h5", target)
    assert target.read_text() == "mine"
    embed_grid(keras / "same.h5", target, overwrite=True)
    np.testing.assert_array_equal(grid_of(target), wave)
    assert [path.name for path in tmp_path.iterdir()] == ["net.h5"]


def test_a_file_can_be_given_a_grid_in_its_place(keras: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    shutil.copyfile(keras / "same.keras", path)
    embed_grid(path, path, overwrite=True)
    np.testing.assert_array_equal(grid_of(path), wave)


@pytest.mark.parametrize(
    ("name", "grid"), [("same.h5", "linear"), ("linear_grid.h5", "log")]
)
def test_a_grid_of_another_size_is_refused_and_nothing_is_written(
    keras: Path, tmp_path: Path, name: str, grid: str
) -> None:
    match = rf"{name}: takes (443|458) bins, and the {grid} grid has (443|458)"
    with pytest.raises(WeightsError, match=match):
        embed_grid(keras / name, tmp_path / "net.h5", grid)
    assert not list(tmp_path.iterdir())


def test_an_unknown_grid_is_refused(keras: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="grid='wide' is not one of 'log', 'linear'"):
        embed_grid(keras / "same.h5", tmp_path / "net.h5", "wide")


def test_an_hdf5_file_with_an_archive_behind_it_stays_one(
    keras: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "source.h5", tmp_path / "net.h5"
    ending = io.BytesIO()
    with zipfile.ZipFile(ending, "w") as archive:
        archive.writestr("notes.txt", "mine")
    source.write_bytes((keras / "same.h5").read_bytes() + ending.getvalue())
    embed_grid(source, target)
    np.testing.assert_array_equal(grid_of(target), wave)
    expected = predict(load_model(keras / "same.h5"))
    np.testing.assert_array_equal(predict(load_model(target)), expected)


def test_embedding_into_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    other.write_text("nothing")
    with pytest.raises(WeightsError, match=r"other\.h5: neither an HDF5"):
        embed_grid(other, tmp_path / "net.h5")
    with pytest.raises(FileNotFoundError, match=r"absent\.h5"):
        embed_grid(tmp_path / "absent.h5", tmp_path / "net.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["other.h5"]


def test_a_failure_while_embedding_leaves_no_file(
    keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(h5py, "File", _failing_for(tmp_path, fail))
    with pytest.raises(KeyboardInterrupt):
        embed_grid(keras / "same.h5", tmp_path / "net.h5")
    assert not list(tmp_path.iterdir())


def _failing_for(folder: Path, fail: Callable[..., Any]) -> Callable[..., Any]:
    """h5py.File that fails for files of a folder, and for those only."""
    original = h5py.File

    def opened(name: Any, *args: Any, **kwargs: Any) -> Any:
        inside = isinstance(name, (str, Path)) and folder in Path(name).parents
        return (fail if inside else original)(name, *args, **kwargs)

    return opened


# Grids of a network's own.


@pytest.mark.parametrize("name", ["same.h5", "valid.keras"])
@pytest.mark.parametrize(
    "grid", [np.linspace(4000, 8420, 443), 2000 * 10 ** (5e-4 * np.arange(443))]
)
def test_a_file_without_a_grid_takes_the_one_that_is_given(
    keras: Path, name: str, grid: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(keras / name, wave=grid.tolist())
    np.testing.assert_array_equal(model.wave, grid)
    assert caplog.messages == []


def test_spectra_are_summed_onto_the_grid_that_is_given(keras: Path) -> None:
    grid = np.linspace(4000, 8420, 443)
    model = load_model(keras / "valid.h5", wave=grid)
    flux = np.sin(np.arange(443.0))[None, :]
    table = classify((grid, flux, np.ones((1, 443))), model)
    preds = model.predict(normalize(flux, np.ones((1, 443)))[0])
    c_line, z_line, *_ = process_preds(preds, model.lines, model.lines_bal, wave=grid)
    assert table["C_LYA"][0] == pytest.approx(c_line[0, 0], abs=1e-6)
    assert table["Z_LYA"][0] == pytest.approx(z_line[0, 0], rel=1e-6)


def test_a_network_of_another_size_takes_its_grid(keras: Path, tmp_path: Path) -> None:
    source = keras / "linear_grid.h5"
    path = copy_hdf5(source, tmp_path / "net.h5", lambda _, f: f.pop("model_grid"))
    with pytest.raises(WeightsError, match=r"net\.h5.*458 bins.*\(wave\).*embed-grid"):
        load_model(path)
    found = load_model(path, wave=linear_wave)
    same = load_model(source)
    x = np.random.default_rng(1).normal(size=(3, 458))
    for a, b in zip(found.predict(x), same.predict(x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("grid", "error", "match"),
    [
        (np.linspace(4000, 9000, 442), WeightsError, r"same\.h5.* 443 bins.* has 442"),
        (wave + np.arange(443) ** 2, ValueError, "constant spacing"),
        (np.ones(443), ValueError, "constant spacing"),
        (-wave, ValueError, "positive"),
        ([wave, wave], ValueError, "1 dimension"),
        ("linear", TypeError, "'linear'"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(
    keras: Path, grid: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        load_model(keras / "same.h5", wave=grid)


def test_the_grid_in_a_file_can_be_confirmed_and_not_contradicted(keras: Path) -> None:
    path = keras / "linear_grid.h5"
    model = load_model(path, wave=linear_wave.astype(np.float32))
    np.testing.assert_array_equal(model.wave, linear_wave)
    for other in (linear_wave + 13.6, linear_wave[:-1], linear_wave * 1.001, wave):
        match = r"linear_grid\.h5: holds a grid .* 458 bins of 13\.6 Angstrom from 3600"
        with pytest.raises(WeightsError, match=match):
            load_model(path, wave=other)


@pytest.mark.parametrize("name", ["same.h5", "same.keras"])
def test_any_grid_can_be_embedded(keras: Path, tmp_path: Path, name: str) -> None:
    grid = 3000 * 10 ** (8e-4 * np.arange(443))
    path = tmp_path / name
    embed_grid(keras / name, path, grid)
    np.testing.assert_array_equal(load_model(path).wave, grid)
    embed_grid(path, path, np.linspace(4000, 8420, 443), overwrite=True)
    assert load_model(path).wave[-1] == 8420
    if name.endswith(".h5"):
        with h5py.File(path) as f:
            assert f.attrs["grid_spacing"] == "linear"
    with pytest.raises(ValueError, match="constant spacing"):
        embed_grid(keras / name, path, grid + np.arange(443) ** 2, overwrite=True)
    with pytest.raises(WeightsError, match=f"{name}.* 443 .* 442"):
        embed_grid(keras / name, path, grid[:-1], overwrite=True)
    assert load_model(path).wave[-1] == 8420


# Lines.


def test_seven_outputs_are_the_lines_of_desi(keras: Path) -> None:
    model = load_model(keras / "valid.h5")
    assert (model.lines, model.lines_bal) == (LINES, LINES_BAL)


def test_lines_can_be_named(keras: Path) -> None:
    lines, bal = ["LYA", "CIV(1548)"], ["CIV(1548)", "SiIV(1394)", "LYA"]
    model = load_model(keras / "nine_boxes.h5", lines=lines, lines_bal=bal)
    assert (model.lines, model.lines_bal) == (tuple(lines), tuple(bal))
    model = load_model(keras / "same.h5", lines=["Halpha", "Hbeta"])
    assert (model.lines, model.lines_bal) == (("Halpha", "Hbeta"), ())


@pytest.mark.parametrize(
    ("lines", "bal", "match"),
    [
        (["LYA"], None, r"same\.h5 has 2 outputs; .* name 1 and 0"),
        (["LYA"], ["LYA", "LYB"], r"same\.h5 has 2 outputs; .* name 1 and 2"),
        ([], [], r"same\.h5 has 2 outputs; .* name 0 and 0"),
        (["LYA", "lya"], None, "unknown line 'lya'"),
        (["LYA"], ["CIV"], "unknown line 'CIV'"),
    ],
)
def test_wrong_lines_are_refused(
    keras: Path, lines: list[str], bal: list[str] | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        load_model(keras / "same.h5", lines=lines, lines_bal=bal)


def test_other_outputs_than_desi_s_load_and_have_no_names(
    keras: Path, tmp_path: Path
) -> None:
    model = load_model(keras / "nine_boxes.h5")
    assert (model.lines, model.lines_bal) == ((), ())
    assert (model.nlines, model.nboxes) == (5, 9)
    coadd = write_coadd(tmp_path / "coadd.fits", n=2)
    match = r"nine_boxes\.h5 has 5 outputs.*lines= and lines_bal= \(--lines, --lines-"
    with pytest.raises(ValueError, match=match):
        classify(coadd, model)
    with pytest.raises(ValueError, match=match):
        classify(coadd, keras / "nine_boxes.h5")
