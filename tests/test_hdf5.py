"""HDF5 files whose structure is wrong, byte by byte.

What libhdf5 does with some of them is to go round in a circle: they are read in a
process of its own, which is given some seconds for each.
"""

from __future__ import annotations

import io
import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import copy_hdf5
from hostile import KERNEL, Loader, in_another_dataset, in_small_chunks, replaced

from qnp_xp import WeightsError
from qnp_xp.io.weights._hdf5 import check_heaps, open_hdf5
from qnp_xp.io.weights._reading import read_weights


@pytest.fixture(scope="module")
def loader(data: Path) -> Iterator[Loader]:
    load = Loader(data / "keras" / "same.h5")
    yield load
    load.close()


@pytest.fixture
def said(loader: Loader) -> Callable[[Path], str]:
    """What is said of a file, by a process that may not take long."""
    return lambda path: loader(path)[0]


@pytest.fixture
def unpacked(data: Path, tmp_path: Path) -> tuple[Path, bytearray]:
    """A copy of a file as h5py writes it by default, and its bytes."""
    source = data / "keras" / "stride3.h5"
    return tmp_path / "net.h5", bytearray(source.read_bytes())


def objects(content: bytes) -> list[int]:
    """Where the objects of the first collection of the global heap begin."""
    place = content.index(b"GCOL\1")
    (size,) = struct.unpack_from("<Q", content, place + 8)
    end, found = place + size, []
    place += 16
    while place + 16 <= end:
        number, length = struct.unpack_from("<H6xQ", content, place)
        found.append(place)
        if number == 0:
            break
        place += 16 + -(-length // 8) * 8
    return found


def test_an_object_without_a_size_does_not_stop_a_global_heap(
    unpacked: tuple[Path, bytearray], said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    first = objects(content)[0]
    struct.pack_into("<HHIQ", content, first, 0, 0, 0, 0)  # number 0, size 0
    path.write_bytes(content)
    assert f"{path}: a text of" in said(path)


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_an_object_longer_than_its_heap_is_refused(
    unpacked: tuple[Path, bytearray], size: int, said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    struct.pack_into("<Q", content, objects(content)[0] + 8, size)
    path.write_bytes(content)
    assert f"{path}: an object is longer than the heap that it is in" in said(path)


@pytest.mark.parametrize("size", [8, 100])
def test_an_object_shorter_than_the_text_in_it_is_refused(
    unpacked: tuple[Path, bytearray], size: int, said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    # The longest is the description of the model.
    lengths = {p: struct.unpack_from("<Q", content, p + 8)[0] for p in objects(content)}
    longest = max(lengths, key=lambda place: lengths[place])
    struct.pack_into("<Q", content, longest + 8, size)
    path.write_bytes(content)
    # What follows is then taken for the next object, and makes no sense as such.
    assert f"{path}: " in said(path)


@pytest.mark.parametrize("size", [1 << 25, 1 << 62, (1 << 64) - 1])
def test_a_global_heap_longer_than_the_file_is_refused(
    unpacked: tuple[Path, bytearray], size: int, said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    struct.pack_into("<Q", content, content.index(b"GCOL\1") + 8, size)
    path.write_bytes(content)
    assert str(path) in said(path)


def test_texts_that_circle_are_not_reached_through_a_virtual_array(
    unpacked: tuple[Path, bytearray], said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    path.write_bytes(content)
    with h5py.File(path, "r+") as f:
        replaced(KERNEL, in_another_dataset)(f)
    content[:] = path.read_bytes()
    # What the array is made of is in the last collection.
    heap = content.rindex(b"GCOL\1")
    struct.pack_into("<HHIQ", content, heap + 16, 0, 0, 0, 0)
    path.write_bytes(content)
    assert f"{path}: '{KERNEL}' has its data elsewhere" in said(path)


def chained(content: bytearray) -> tuple[int, int]:
    """A local heap with a free place: where its header and that place are."""
    place = content.index(b"HEAP\0")
    while True:
        size, free, data = struct.unpack_from("<QQQ", content, place + 8)
        if free != 1 and free + 16 <= size:
            return place, data + free
        place = content.index(b"HEAP\0", place + 1)


def test_a_local_heap_whose_free_places_lead_back_is_refused(
    unpacked: tuple[Path, bytearray], said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    heap, place = chained(content)
    (free,) = struct.unpack_from("<Q", content, heap + 16)
    struct.pack_into("<Q", content, place, free)
    path.write_bytes(content)
    match = f"{path}: the free list of the heap at byte {heap} has no end"
    assert match in said(path)


def test_heaps_that_share_their_free_places_take_no_time() -> None:
    places, heaps = 20_000, 5_000
    chain = [struct.pack("<QQ", 16 * (i + 1), 16) for i in range(places - 1)]
    head = struct.pack("<5s3xQQQ", b"HEAP\0", 16 * places, 0, 0)
    content = b"".join([*chain, struct.pack("<QQ", 1, 16), heaps * head])
    start = time.process_time()
    with pytest.raises(WeightsError, match="the free list of the heap at byte"):
        check_heaps(content)
    assert time.process_time() - start < 5


def test_a_long_list_of_free_places_is_left_alone() -> None:
    places = 5_000
    chain = [struct.pack("<QQ", 16 * (i + 1), 16) for i in range(places - 1)]
    head = struct.pack("<5s3xQQQ", b"HEAP\0", 16 * places, 0, 0)
    check_heaps(b"".join([*chain, struct.pack("<QQ", 1, 16), head]))


@pytest.mark.parametrize("number", [0, 1])  # of the root group, and of the weights
def test_a_tree_that_leads_back_is_refused(
    unpacked: tuple[Path, bytearray], said: Callable[[Path], str], number: int
) -> None:
    path, content = unpacked
    tree = [x.start() for x in re.finditer(b"TREE\0", content)][number]
    content[tree + 5] = 1  # its level
    struct.pack_into("<Q", content, tree + 32, tree)  # its first branch
    path.write_bytes(content)
    assert f"{path}: the tree at byte {tree} leads back to itself" in said(path)


def test_a_tree_of_chunks_that_leads_back_is_refused(
    data: Path, tmp_path: Path, said: Callable[[Path], str]
) -> None:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        replaced(KERNEL, in_small_chunks)(f)

    path = copy_hdf5(data / "keras" / "stride3.h5", tmp_path / "net.h5", edit)
    assert said(path) == ""
    content = bytearray(path.read_bytes())
    tree = content.rindex(b"TREE\1")
    content[tree + 5] = 1
    struct.pack_into("<Q", content, tree + 24 + 40, tree)  # behind a key of 40 bytes
    path.write_bytes(content)
    assert f"{path}: the tree at byte {tree} leads back to itself" in said(path)


def test_many_references_to_one_text_are_refused(
    data: Path, tmp_path: Path, said: Callable[[Path], str]
) -> None:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        group = f["model_weights/fc_common"]
        del group.attrs["weight_names"]
        texts = ["x" * 100_000, *(3000 * ["short"])]
        group.attrs.create("weight_names", texts, dtype=h5py.string_dtype())

    path = copy_hdf5(data / "keras" / "stride3.h5", tmp_path / "net.h5", edit)
    content = path.read_bytes()
    first = content.index(struct.pack("<I", 100_000))
    reference = content[first : first + 16]
    behind = content[first + 16 * 3001 :]
    path.write_bytes(content[:first] + 3001 * reference + behind)
    assert "attribute 'weight_names' has too much text" in said(path)


def test_groups_in_groups_are_followed_so_far(
    data: Path, tmp_path: Path, said: Callable[[Path], str]
) -> None:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        f.create_group("model_weights/conv_1" + 30 * "/more")

    path = copy_hdf5(data / "keras" / "stride3.h5", tmp_path / "net.h5", edit)
    assert "'model_weights' holds too many objects" in said(path)


def test_a_group_that_holds_itself_is_read_once(data: Path, tmp_path: Path) -> None:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        f["model_weights/flatten/again"] = f["model_weights"]

    path = copy_hdf5(data / "keras" / "stride3.h5", tmp_path / "net.h5", edit)
    assert read_weights(path).plan == read_weights(data / "keras" / "stride3.h5").plan


def test_a_group_of_many_names_is_refused(
    data: Path, tmp_path: Path, said: Callable[[Path], str]
) -> None:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        group = f["model_weights/flatten"]
        for number in range((1 << 14) + 1):
            group[str(number)] = group

    path = copy_hdf5(data / "keras" / "stride3.h5", tmp_path / "net.h5", edit)
    assert "too many" in said(path)


def test_a_huge_tree_of_the_second_version_is_refused(
    data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.h5"
    tree = struct.pack("<4sBBIHHBB", b"BTHD", 0, 5, 1 << 20, 11, 3, 100, 40)
    path.write_bytes((data / "keras" / "same.h5").read_bytes() + tree)
    with pytest.raises(
        WeightsError, match=r"net\.h5: the tree at byte \d+ is too large"
    ):
        read_weights(path)


@pytest.mark.parametrize("size", [1 << 40, (1 << 64) - 32, (1 << 64) - 1])
def test_a_local_heap_longer_than_the_file_is_refused(
    unpacked: tuple[Path, bytearray], size: int, said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    heap = content.index(b"HEAP\0")
    struct.pack_into("<Q", content, heap + 8, size)
    path.write_bytes(content)
    assert f"{path}: " in said(path)


@pytest.mark.parametrize("what", ["object", "table", "names"])
@pytest.mark.parametrize("address", [1 << 63, (1 << 64) - 1])
def test_a_group_that_leads_out_of_the_file_is_not_followed(
    unpacked: tuple[Path, bytearray],
    what: str,
    address: int,
    said: Callable[[Path], str],
) -> None:
    path, content = unpacked
    node = content.index(b"SNOD\1\0")
    # A node has a header of 8 bytes, and its first entry here is a group.
    assert content[node + 24] == 1
    place = node + {"object": 16, "table": 32, "names": 40}[what]
    struct.pack_into("<Q", content, place, address)
    path.write_bytes(content)
    error = said(path)
    # Table and names are there twice: some versions of libhdf5 take the other ones.
    assert error.startswith(f"{path}: ") or (what != "object" and not error)


def test_what_is_left_of_deleted_groups_is_passed_over(
    data: Path, tmp_path: Path, said: Callable[[Path], str]
) -> None:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        for number in range(30):
            group = f.create_group(f"more/of/{number}")
            group["values"] = np.zeros(1000)
        del f["more"]

    path = copy_hdf5(data / "keras" / "stride3.h5", tmp_path / "net.h5", edit)
    assert said(path) == ""


def test_a_tree_that_leads_out_of_the_file_is_refused(
    unpacked: tuple[Path, bytearray], said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    tree = content.index(b"TREE\0")
    struct.pack_into("<Q", content, tree + 32, (1 << 64) - 1)
    path.write_bytes(content)
    assert f"{path}: " in said(path)


@pytest.mark.parametrize("kind", [0x10, 0x11])
@pytest.mark.parametrize("part", [8, 16])
def test_a_header_that_leads_out_of_the_file_is_refused(
    unpacked: tuple[Path, bytearray], kind: int, part: int, said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    message = content.index(struct.pack("<HHL", kind, 16, 0))
    struct.pack_into("<Q", content, message + part, (1 << 64) - 1)
    path.write_bytes(content)
    assert f"{path}: " in said(path)


def test_what_is_left_of_a_heap_that_is_no_more_is_passed_over() -> None:
    for size, free in ((64, 0), (64, 16), (64, 60), (64, 99)):
        heap = struct.pack("<5s3xQQQ", b"HEAP\0", size, free, 32)
        check_heaps(heap + bytes(64))


@pytest.mark.parametrize("start", [0, 5, (1 << 20) - 3, (1 << 20) - 40, 1 << 20])
def test_a_local_heap_is_found_wherever_it_is(start: int) -> None:
    heap = struct.pack("<5s3xQQQ", b"HEAP\0", 32, 0, start + 32)
    circle = struct.pack("<QQQQ", 16, 16, 16, 16)
    with pytest.raises(WeightsError, match=rf"heap at byte {start} has no end"):
        check_heaps(bytes(start) + heap + circle)


def test_sound_local_heaps_are_left_alone(data: Path) -> None:
    content = (data / "keras" / "stride3.h5").read_bytes()
    assert content.count(b"HEAP\0") > 5
    check_heaps(content)
    check_heaps(content[: content.index(b"HEAP\0") + 20])


def test_a_header_that_goes_on_for_ever_is_refused(
    unpacked: tuple[Path, bytearray], said: Callable[[Path], str]
) -> None:
    path, content = unpacked
    source = io.BytesIO(content)
    with h5py.File(source, "r") as f:
        root = h5py.h5o.get_info(f.id).addr
    # The first message of the root group becomes one that says: go on here.
    struct.pack_into("<HHB3xQQ", content, root + 16, 0x10, 16, 0, root + 16, 24)
    path.write_bytes(content)
    assert str(path) in said(path)


Attributes = Callable[[h5py.Group], None]


def texts(path: Path, attribute: str) -> list[str]:
    with open_hdf5(path.read_bytes()) as h5:
        return h5.texts("group", attribute)


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("one", ["one"]),
        ("", [""]),
        ("Å" * 3000, ["Å" * 3000]),
        (np.bytes_(b"fixed"), ["fixed"]),
        (np.array([b"a", b"bcd"]), ["a", "bcd"]),
        (["a", "bcd", ""], ["a", "bcd", ""]),
        (np.array([["a"], ["b"]], dtype=object), ["a", "b"]),
        (h5py.Empty("S3"), []),
    ],
    ids=["text", "empty", "long", "fixed", "fixed list", "list", "table", "null"],
)
def test_texts_are_read_as_h5py_writes_them(
    tmp_path: Path, libver: str, value: Any, expected: list[str]
) -> None:
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w", libver=libver) as f:
        group = f.create_group("group")
        group.attrs["first"] = 1.5
        group.attrs["wanted"] = value
        group.attrs["last"] = "last"
    assert texts(path, "wanted") == expected
    assert texts(path, "last") == ["last"]
    assert texts(path, "none") == []


def test_texts_are_found_in_a_header_of_many_parts(tmp_path: Path) -> None:
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as f:
        group = f.create_group("group")
        for number in range(40):
            group.attrs[f"a{number}"] = f"text {number}"
            f.create_group(f"other{number}")  # so that headers cannot simply grow
    for number in range(40):
        assert texts(path, f"a{number}") == [f"text {number}"]


@pytest.mark.parametrize("value", [1.5, np.arange(3), np.zeros(1, [("a", "f4")])])
def test_attributes_that_are_no_text_are_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as f:
        f.create_group("group").attrs["wanted"] = value
    with pytest.raises(WeightsError, match="attribute 'wanted' is not text"):
        texts(path, "wanted")


def test_attributes_in_a_heap_of_their_own_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w", libver="latest") as f:
        group = f.create_group("group")
        for number in range(20):  # more than libhdf5 leaves in a header
            group.attrs[f"a{number}"] = "text"
    with pytest.raises(WeightsError, match="attribute 'a3' is not in a header"):
        texts(path, "a3")


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
def test_networks_are_read_whatever_version_of_hdf5_wrote_them(
    data: Path, tmp_path: Path, libver: str
) -> None:
    source, target = data / "keras" / "same.h5", tmp_path / "net.h5"
    with h5py.File(source) as old, h5py.File(target, "w", libver=libver) as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            old.copy(name, new)
    expected = read_weights(source).arrays
    found = read_weights(target).arrays
    assert set(found) == set(expected)
    for layer, arrays in expected.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[layer][name], values)


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="needs Linux' /proc/self/fd"
)
def test_a_file_that_is_refused_is_closed(data: Path, tmp_path: Path) -> None:
    def edit(_: dict[str, Any], f: h5py.File) -> None:
        del f["model_weights"]

    path = copy_hdf5(data / "keras" / "same.h5", tmp_path / "net.h5", edit)
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(WeightsError, match=r"'conv_1' .* 'kernel' is missing"):
        read_weights(path)
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
