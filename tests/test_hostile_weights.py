"""Weights files that lead elsewhere, or claim more than there is memory.

What a file may take is bounded by the network that it describes, before anything of
its arrays is read.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import copy_archive, copy_hdf5, edit_member_hdf5, layer, run_python
from hostile import (
    GROUP,
    HUGE,
    KERNEL,
    MEMBER_KERNEL,
    Edit,
    Loader,
    absurd,
    as_dangling_link,
    as_external_link,
    as_soft_link,
    bomb,
    huge_chunks,
    in_another_dataset,
    in_another_file,
    in_single_numbers,
    many_chunks,
    of_bins,
    of_type,
    packed_bomb,
    packed_zeros,
    replaced,
    short_bomb,
    within_its_header,
    without_storage,
    zeros,
)

from qnp_xp import WeightsError, load_model
from qnp_xp.grids import wave
from qnp_xp.io import embed_grid
from qnp_xp.io.weights._reading import read_weights


@pytest.fixture
def keras(data: Path) -> Path:
    return data / "keras"


@pytest.fixture
def changed(keras: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Makes a copy of a network with an edit of its HDF5 file."""

    def change(edit: Edit) -> Path:
        return copy_hdf5(keras / "same.h5", tmp_path / "net.h5", lambda _, f: edit(f))

    return change


@pytest.fixture
def changed_archive(keras: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Makes a copy of an archive with an edit of the HDF5 file in it."""

    def change(edit: Edit) -> Path:
        return copy_archive(
            keras / "same.keras",
            tmp_path / "net.keras",
            lambda members: edit_member_hdf5(members, edit),
        )

    return change


# Links and data that lead out of the file.


LINKS = {"soft": as_soft_link, "dangling": as_dangling_link}


@pytest.mark.parametrize("make", [*LINKS.values(), as_external_link])
@pytest.mark.parametrize("place", [KERNEL, "model_grid"])
def test_a_link_is_not_followed(
    changed: Callable[[Edit], Path], place: str, make: Any
) -> None:
    def edit(f: h5py.File) -> None:
        f.require_dataset("model_grid", wave.shape, "f8")[...] = wave
        replaced(place, make)(f)

    match = rf"net\.h5: '{place}' is a link, not followed"
    with pytest.raises(WeightsError, match=match):
        load_model(changed(edit))


@pytest.mark.parametrize("make", LINKS.values())
def test_a_link_within_an_archive_is_not_followed(
    changed_archive: Callable[[Edit], Path], make: Any
) -> None:
    path = changed_archive(replaced(MEMBER_KERNEL, make))
    match = rf"net\.keras: '{MEMBER_KERNEL}' is a link, not followed"
    with pytest.raises(WeightsError, match=match):
        load_model(path)


def test_an_external_link_within_an_archive_is_not_followed(
    changed_archive: Callable[[Edit], Path], keras: Path
) -> None:
    def edit(f: h5py.File) -> None:
        del f["layers"]
        f["layers"] = h5py.ExternalLink(str(keras / "same.h5"), "/model_weights")

    with pytest.raises(WeightsError, match=r"net\.keras: 'layers' is a link, not"):
        load_model(changed_archive(edit))


@pytest.mark.parametrize("group", ["model_weights", "model_weights/conv_2", GROUP])
def test_a_group_that_is_a_link_is_not_followed(
    changed: Callable[[Edit], Path], group: str
) -> None:
    def edit(f: h5py.File) -> None:
        f.move(group, "elsewhere")
        f[group] = h5py.SoftLink("/elsewhere")

    with pytest.raises(WeightsError, match=rf"net\.h5: '{group}.*' is a link, not"):
        load_model(changed(edit))


def test_a_second_name_of_an_array_is_as_good_as_the_first(
    changed: Callable[[Edit], Path], keras: Path
) -> None:
    def edit(f: h5py.File) -> None:
        f["elsewhere"] = f[KERNEL]
        del f[KERNEL]
        f[KERNEL] = f["elsewhere"]

    x = np.random.default_rng(1).normal(size=(2, wave.size))
    expected = load_model(keras / "same.h5").predict(x)
    np.testing.assert_array_equal(load_model(changed(edit)).predict(x), expected)


@pytest.mark.parametrize("make", [in_another_file, in_another_dataset])
@pytest.mark.parametrize("place", [KERNEL, "model_grid"])
def test_data_elsewhere_are_not_read(
    changed: Callable[[Edit], Path], place: str, make: Any
) -> None:
    def edit(f: h5py.File) -> None:
        f.require_dataset("model_grid", wave.shape, "f8")[...] = wave
        replaced(place, make)(f)

    path = changed(edit)
    with h5py.File(path, "r") as f:
        assert np.any(f[place][()])  # libhdf5 itself would find them
    match = rf"net\.h5: '{place}' has its data elsewhere, not followed"
    with pytest.raises(WeightsError, match=match):
        load_model(path)


# Types and kinds of storage.


@pytest.mark.parametrize(
    "dtype",
    [
        "S4",
        "c8",
        "?",
        np.dtype([("a", "f4"), ("b", "f4")]),
        np.dtype(("f4", (2,))),
        h5py.string_dtype(),
        h5py.vlen_dtype(np.float32),
        h5py.ref_dtype,
        h5py.regionref_dtype,
        h5py.opaque_dtype(np.dtype("V8")),
    ],
    ids=str,
)
def test_types_other_than_numbers_are_refused(
    changed: Callable[[Edit], Path], dtype: Any
) -> None:
    path = changed(replaced(KERNEL, of_type(dtype)))
    match = r"net\.h5: .*(plain numbers are needed|'kernel' has shape|cannot convert)"
    with pytest.raises(WeightsError, match=match):
        load_model(path)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (3, 4, 3)},
        {"chunks": (3, 4, 3), "compression": "gzip"},
        {"chunks": (10, 1, 4), "compression": "gzip", "shuffle": True},
        {"chunks": (4, 3, 2), "shuffle": True},
        {"maxshape": (None, 4, None), "chunks": (16, 4, 4), "compression": "gzip"},
    ],
    ids=str,
)
def test_numbers_are_read_however_they_are_stored(
    changed: Callable[[Edit], Path], dtype: str, options: dict[str, Any]
) -> None:
    numbers = np.arange(160).reshape(10, 4, 4) % 101

    def make(group: h5py.Group, name: str, _: np.ndarray) -> None:
        group.create_dataset(name, data=numbers.astype(dtype), **options)

    network = load_model(changed(replaced(KERNEL, make))).network
    # Its batch normalisation is folded in: the columns are multiples of the numbers.
    kernel = network.convs[1].kernel
    factors = kernel[-1, -1] / numbers[-1, -1]
    np.testing.assert_allclose(kernel, numbers * factors, rtol=1e-12)


def test_an_array_within_its_header_is_read(
    changed: Callable[[Edit], Path], keras: Path
) -> None:
    path = changed(replaced(KERNEL, within_its_header))
    found = load_model(path).network.convs[1].kernel
    expected = load_model(keras / "same.h5").network.convs[1].kernel
    np.testing.assert_array_equal(found, expected)


def test_an_array_whose_header_holds_less_is_refused(
    keras: Path, tmp_path: Path, refused: Callable[[Path], str]
) -> None:
    path = tmp_path / "net.h5"
    content = bytearray((keras / "stride3.h5").read_bytes())
    with h5py.File(io.BytesIO(content), "r") as f:
        dataset = f[f"{KERNEL}"]
        place, size = dataset.id.get_offset(), dataset.nbytes
    # The layout: where the data are and how many. It becomes that of data of no bytes.
    layout = struct.pack("<BBQQ", 3, 1, place, size)
    assert content.count(layout) == 1
    nothing = struct.pack("<BBH14x", 3, 0, 0)
    path.write_bytes(content.replace(layout, nothing))
    what = refused(path)
    assert "has not all of its data" in what or "size of compact dataset" in what


@pytest.mark.parametrize("options", [{"compression": "lzf"}, {"fletcher32": True}])
def test_other_filters_are_refused(
    changed: Callable[[Edit], Path], options: dict[str, Any]
) -> None:
    def make(group: h5py.Group, name: str, values: np.ndarray) -> None:
        group.create_dataset(name, data=values, chunks=values.shape, **options)

    with pytest.raises(WeightsError, match="has a filter other than gzip and shuffle"):
        load_model(changed(replaced(KERNEL, make)))


@pytest.mark.parametrize("options", [{}, {"chunks": (5, 4, 4)}])
def test_an_array_that_was_never_written_is_refused(
    changed: Callable[[Edit], Path], options: dict[str, Any]
) -> None:
    def make(group: h5py.Group, name: str, values: np.ndarray) -> None:
        group.create_dataset(name, values.shape, values.dtype, **options)

    match = rf"net\.h5: '{KERNEL}' has (not all of its data|a chunk that is missing)"
    with pytest.raises(WeightsError, match=match):
        load_model(changed(replaced(KERNEL, make)))


def test_a_group_in_the_place_of_a_grid_is_refused(
    changed: Callable[[Edit], Path],
) -> None:
    def edit(f: h5py.File) -> None:
        if "model_grid" in f:
            del f["model_grid"]
        f.create_group("model_grid")

    with pytest.raises(WeightsError, match="'model_grid' is not an array"):
        load_model(changed(edit))


# Sizes.

MEGABYTES = 32  # more than a small network takes, and half of what is huge


@pytest.fixture(scope="module")
def loader(data: Path) -> Iterator[Loader]:
    load = Loader(data / "keras" / "same.h5")
    yield load
    load.close()


@pytest.fixture
def refused(loader: Loader) -> Callable[[Path], str]:
    """Load a file in another process: what is said of it, without using memory."""

    def load(path: Path) -> str:
        what, megabytes = loader(path)
        assert what
        assert megabytes < MEGABYTES
        return what

    return load


@pytest.mark.parametrize(
    ("member", "fill"),
    [
        ("config.json", b" "),
        ("metadata.json", b" "),
        ("model.weights.h5", b"\0"),
        ("model_grid.json", b"["),
    ],
)
def test_a_member_that_is_huge_is_refused_packed(
    keras: Path,
    tmp_path: Path,
    refused: Callable[[Path], str],
    member: str,
    fill: bytes,
) -> None:
    path = bomb(keras / "same.keras", tmp_path / "net.keras", member, fill)
    assert path.stat().st_size < 1 << 20
    assert f"{path}: {member} has {HUGE} bytes, and" in refused(path)


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_member_is_unpacked_no_further_than_it_claims(
    keras: Path, tmp_path: Path, refused: Callable[[Path], str], member: str
) -> None:
    path = bomb(keras / "same.keras", tmp_path / "net.keras", member, b" ")
    content = bytearray(path.read_bytes())
    # The directory at the end of the archive is what is believed.
    place = content.rfind(b"PK\x01\x02")
    assert struct.unpack_from("<I", content, place + 24) == (HUGE,)
    struct.pack_into("<I", content, place + 24, 4000)
    path.write_bytes(content)
    assert f"{path}: " in refused(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_packed_in_another_way_are_refused(
    keras: Path, tmp_path: Path, method: int
) -> None:
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(keras / "same.keras") as old, zipfile.ZipFile(path, "w") as z:
        for name in old.namelist():
            z.writestr(name, old.read(name), compress_type=method)
    with pytest.raises(
        WeightsError, match=rf"config\.json is packed by method {method}"
    ):
        load_model(path)


def test_a_copy_with_a_grid_unpacks_no_member_at_once(
    keras: Path, tmp_path: Path
) -> None:
    source = bomb(keras / "same.keras", tmp_path / "net.keras", "notes.txt", b" ")
    code = (
        "import sys\nfrom helpers import peak_memory\nfrom qnp_xp.io import embed_grid"
    )
    code += "\nbefore = peak_memory()\nembed_grid(sys.argv[1], sys.argv[2])"
    code += "\nprint(peak_memory() - before)"
    megabytes = int(run_python(code, source, tmp_path / "copy.keras"))
    assert megabytes < HUGE >> 21
    with zipfile.ZipFile(tmp_path / "copy.keras") as archive:
        assert archive.getinfo("notes.txt").file_size == HUGE


HUGE_ARRAYS = {
    "without storage": (without_storage, "has shape"),
    "packed zeros": (packed_zeros, "has shape"),
    "packed bomb": (packed_bomb, "has a chunk that is missing or much too long"),
    "short bomb": (short_bomb, "has a chunk of another size than it should have"),
    "huge chunks": (huge_chunks, "has chunks of shape"),
    "many chunks": (many_chunks, "has shape"),
}


@pytest.mark.parametrize("case", HUGE_ARRAYS)
@pytest.mark.parametrize("place", [KERNEL, "model_grid"])
def test_an_array_that_claims_too_much_is_refused_unread(
    changed: Callable[[Edit], Path],
    refused: Callable[[Path], str],
    case: str,
    place: str,
) -> None:
    make, match = HUGE_ARRAYS[case]

    def edit(f: h5py.File) -> None:
        f.require_dataset("model_grid", wave.shape, "f8")[...] = wave
        replaced(place, make)(f)

    path = changed(edit)
    what = refused(path)
    assert f"{path}: " in what
    assert match in what


@pytest.mark.parametrize("case", HUGE_ARRAYS)
def test_an_array_of_an_archive_that_claims_too_much_is_refused(
    changed_archive: Callable[[Edit], Path], refused: Callable[[Path], str], case: str
) -> None:
    make, match = HUGE_ARRAYS[case]
    path = changed_archive(replaced(MEMBER_KERNEL, make))
    what = refused(path)
    assert f"{path}: " in what
    # Most of them make the archive itself larger than it has to be.
    assert match in what or "model.weights.h5 has" in what


@pytest.mark.parametrize("bins", [(1 << 16) + 1, 1 << 27, 1 << 70])
def test_an_absurd_number_of_bins_is_refused_before_its_grid_is_read(
    keras: Path, tmp_path: Path, refused: Callable[[Path], str], bins: int
) -> None:
    def edit(model: dict[str, Any], f: h5py.File) -> None:
        of_bins(bins)(model)
        size = min(bins, HUGE >> 3)
        grid = f.create_dataset(
            "model_grid", (size,), "f8", chunks=(size,), compression="gzip"
        )
        grid.id.write_direct_chunk((0,), b"\x78\x9c" + zeros(8 * size))

    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", edit)
    assert f"{path}: the network has {bins} bins, and at most 65536" in refused(path)


def test_a_network_of_many_bins_is_read(keras: Path, tmp_path: Path) -> None:
    path = copy_hdf5(
        keras / "same.h5", tmp_path / "net.h5", lambda model, _: of_bins(60000)(model)
    )
    assert read_weights(path).network().nbins == 60000


def test_convolutions_that_take_for_ever_are_refused(
    keras: Path, tmp_path: Path, refused: Callable[[Path], str]
) -> None:
    def edit(model: dict[str, Any], _: h5py.File) -> None:
        layer(model, "input_layer")["config"]["batch_shape"][1] = 1 << 16
        layer(model, "conv_1")["config"].update(filters=1 << 15, strides=[1])

    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", edit)
    # 10 taps, 2 ** 15 filters, 2 ** 16 bins.
    assert f"the network has {10 << 31} multiplications" in refused(path)


def test_a_description_of_too_many_layers_is_refused(
    keras: Path, tmp_path: Path, refused: Callable[[Path], str]
) -> None:
    def edit(model: dict[str, Any], _: h5py.File) -> None:
        model["config"]["layers"] *= 40

    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", edit)
    assert "layers, and at most 1024 are supported" in refused(path)


def test_too_many_chunks_of_all_arrays_together_are_refused(
    changed: Callable[[Edit], Path],
) -> None:
    def edit(f: h5py.File) -> None:
        for number in range(2, 5):  # of 160 numbers each
            replaced(KERNEL.replace("2", str(number)), in_single_numbers)(f)
        replaced("model_weights/fc_common/fc_common/kernel", in_single_numbers)(f)

    assert read_weights(changed(edit)).plan.parameters > 160

    def more(f: h5py.File) -> None:
        edit(f)
        f.create_dataset("model_grid", data=wave, chunks=(1,))
        for number in range(2):
            for half in ("box", "offset"):
                place = f"model_weights/fc_{half}_{number}/fc_{half}_{number}/kernel"
                replaced(place, in_single_numbers)(f)

    with pytest.raises(WeightsError, match="has too many chunks"):
        load_model(changed(more))


def test_an_archive_with_a_huge_member_of_no_use_is_refused(
    keras: Path, tmp_path: Path
) -> None:
    path = bomb(keras / "same.keras", tmp_path / "net.keras", "notes.txt", b" ")
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\x01\x02")
    struct.pack_into("<I", content, place + 24, 1 << 30)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.keras: unpacks to 107\d+ bytes"):
        load_model(path)


def test_a_description_of_an_absurd_network_is_refused(
    keras: Path, tmp_path: Path, refused: Callable[[Path], str]
) -> None:
    def edit(model: dict[str, Any], f: h5py.File) -> None:
        absurd(model)
        for name, shape in (("kernel", (112, 10**9)), ("bias", (10**9,))):
            place = f"model_weights/fc_common/fc_common/{name}"
            del f[place]
            f.create_dataset(place, shape, "f4")

    path = copy_hdf5(keras / "same.h5", tmp_path / "net.h5", edit)
    assert f"{path}: the network has " in refused(path)


def test_an_archive_of_an_absurd_network_is_refused(
    keras: Path, tmp_path: Path, refused: Callable[[Path], str]
) -> None:
    path = bomb(
        keras / "same.keras", tmp_path / "bomb.keras", "model.weights.h5", b"\0"
    )

    def edit(members: dict[str, bytes]) -> None:
        model = json.loads(members["config.json"])
        absurd(model)
        members["config.json"] = json.dumps(model).encode()

    small = copy_archive(keras / "same.keras", tmp_path / "small.keras", edit)
    with zipfile.ZipFile(small) as source:
        config = source.read("config.json")
    with (
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(tmp_path / "n.keras", "w") as new,
    ):
        for name in ("metadata.json", "model.weights.h5"):
            with old.open(name) as f, new.open(_deflated(name), "w") as g:
                while block := f.read(1 << 20):
                    g.write(block)
        new.writestr("config.json", config)
    assert "n.keras: the network has " in refused(tmp_path / "n.keras")


def _deflated(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def test_a_description_that_is_too_long_is_refused(
    changed: Callable[[Edit], Path], refused: Callable[[Path], str]
) -> None:
    for size in (1 << 20, 1 << 24):

        def edit(f: h5py.File, size: int = size) -> None:
            f.attrs["model_config"] = f.attrs["model_config"] + " " * size

        # copy_hdf5 itself writes the description once more.
        path = changed(lambda f: None)
        with h5py.File(path, "r+") as f:
            edit(f)
        assert "'model_config' has too much text" in refused(path)


# What Keras writes beside the weights.


@pytest.mark.parametrize("moments", [2, 3])
def test_the_state_of_an_optimizer_is_passed_over(
    keras: Path, tmp_path: Path, moments: int
) -> None:
    source = keras / "valid.keras"

    def with_state(f: h5py.File) -> None:
        arrays: list[np.ndarray] = []
        f["layers"].visititems(
            lambda _, x: arrays.append(x[()]) if isinstance(x, h5py.Dataset) else None
        )
        for number, values in enumerate(moments * arrays):
            f[f"optimizer/vars/{number}"] = values.astype(np.float64)

    path = copy_archive(
        source,
        tmp_path / "net.keras",
        lambda members: edit_member_hdf5(members, with_state),
    )
    x = np.random.default_rng(1).normal(size=(2, wave.size))
    expected = load_model(source).predict(x)
    np.testing.assert_array_equal(load_model(path).predict(x), expected)


def test_embedding_a_grid_writes_through_no_link(
    changed: Callable[[Edit], Path], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "mine.h5", "w") as f:
        f["model_grid"] = np.zeros(443)

    def edit(f: h5py.File) -> None:
        if "model_grid" in f:
            del f["model_grid"]
        f["model_grid"] = h5py.ExternalLink(str(tmp_path / "mine.h5"), "/model_grid")

    with pytest.raises(WeightsError, match="'model_grid' is a link, not"):
        embed_grid(changed(edit), tmp_path / "copy.h5")
    with h5py.File(tmp_path / "mine.h5", "r") as f:
        assert not np.any(f["model_grid"])
