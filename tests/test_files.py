"""Files that appear whole or not at all, and what is left where a process is killed."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import fitsio
import numpy as np
import pytest
from helpers import TARGETID, Run, coadd_hdus, names, write_cframes, write_coadd

from qnp_xp.io._files import (
    atomic_path,
    atomic_write,
    different_files,
    ensure_apart,
    ensure_not_input,
    ensure_writable,
    file_stamp,
    has_content,
    remove_leftovers,
    remove_output,
)

DAY = 86400


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def test_a_file_has_the_permissions_that_the_umask_gives(
    tmp_path: Path, umask: int
) -> None:
    path = tmp_path / "file.txt"
    atomic_write(path, b"content")
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert names(tmp_path) == ["file.txt"]


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    path.write_bytes(b"the older one")
    with atomic_path(path) as temporary:
        with fitsio.FITS(str(temporary), "rw") as f:
            f.write(np.arange(3))
        assert path.read_bytes() == b"the older one"
        (hidden,) = (name for name in names(tmp_path) if name != path.name)
        assert hidden.startswith(".qnp-")
    np.testing.assert_array_equal(fitsio.read(path), np.arange(3))
    assert names(tmp_path) == ["table.fits"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_nothing_is_left_of_a_file_that_is_not_finished(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "table.fits"
    path.write_bytes(b"the older one")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half of the ne")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"the older one"
    assert names(tmp_path) == ["table.fits"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # which was finished last


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "file.txt"
    with pytest.raises(FileNotFoundError) as caught:
        atomic_write(path, b"content")
    assert caught.value.filename == str(path)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_leftovers_are_removed_when_they_are_a_day_old(tmp_path: Path) -> None:
    for name in (".qnp-notes", "qn-old.fits"):  # of the user
        (tmp_path / name).touch()
        age(tmp_path / name, 10 * DAY)
    with atomic_path(tmp_path / "qn-new.fits") as alive:
        alive.touch()
        dead = Path(shutil.copytree(alive.parent, f"{alive.parent}-dead"))
        age(alive.parent, DAY - 60)
        age(dead, DAY + 60)
        remove_leftovers(tmp_path)
        assert not dead.exists()
        assert alive.exists()
    assert names(tmp_path) == [".qnp-notes", "qn-new.fits", "qn-old.fits"]


def test_a_folder_that_is_not_there_yet_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "later")
    assert names(tmp_path) == []


def test_what_cannot_be_written_is_an_error_before_it_is(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    ensure_writable(path, overwrite=False)
    with pytest.raises(NotADirectoryError, match=r"nowhere: .*table\.fits"):
        ensure_writable(tmp_path / "nowhere" / "table.fits", overwrite=True)
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        ensure_writable(tmp_path, overwrite=True)
    path.touch()
    with pytest.raises(FileExistsError, match=r"table\.fits exists.*--overwrite"):
        ensure_writable(path, overwrite=False)
    ensure_writable(path, overwrite=True, inputs=[tmp_path / "absent.fits"])


def test_an_input_is_known_by_any_of_its_names(tmp_path: Path) -> None:
    path, other = tmp_path / "coadd.fits", tmp_path / "link.fits"
    path.touch()
    other.symlink_to(path)
    for name in (path, str(path), tmp_path / ".." / tmp_path.name / path.name):
        with pytest.raises(ValueError, match=r"link\.fits is an input"):
            ensure_writable(other, overwrite=True, inputs=[name])
    ensure_not_input([tmp_path / "absent.fits"], [tmp_path / "absent.fits"])


# Links, devices and pipes.


def test_the_file_that_a_link_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "table.fits", tmp_path / "link.fits"
    link.symlink_to("over.fits")
    (tmp_path / "over.fits").symlink_to("far/table.fits")
    for content in (b"first", b"second"):  # there is no file, and there is one
        ensure_writable(link, overwrite=True)
        atomic_write(link, content)
        assert target.read_bytes() == content
    with pytest.raises(FileExistsError, match=r"link\.fits exists"):
        ensure_writable(link, overwrite=False)
    remove_output(link)
    assert names(tmp_path / "far") == []
    assert names(tmp_path) == ["far", "link.fits", "over.fits"]
    assert link.is_symlink()
    remove_output(link)  # there is none


def test_links_that_lead_nowhere_are_errors(tmp_path: Path) -> None:
    (tmp_path / "far.fits").symlink_to("nowhere/table.fits")
    with pytest.raises(NotADirectoryError, match=r"nowhere: .*far\.fits"):
        ensure_writable(tmp_path / "far.fits", overwrite=True)
    (tmp_path / "a.fits").symlink_to("b.fits")
    (tmp_path / "b.fits").symlink_to("a.fits")
    with pytest.raises(OSError, match=r"levels of symbolic links: .*a\.fits"):
        ensure_writable(tmp_path / "a.fits", overwrite=True)
    assert names(tmp_path) == ["a.fits", "b.fits", "far.fits"]


@pytest.mark.parametrize("name", ["pipe", "link", "socket", "/dev/null"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, overwrite: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        with pytest.raises(OSError, match=rf"{name} is a device or a pipe"):
            ensure_writable(Path(name), overwrite)


def test_two_outputs_are_one_file_in_any_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").symlink_to(".")
    Path("link").symlink_to("a")  # which is not there yet
    Path("hard").touch()
    Path("hard-too").hardlink_to("hard")  # a rename parts them
    ensure_apart([Path("a"), Path("A"), Path("b"), Path("hard"), Path("hard-too")])
    for name in ("a", "folder/a", str(tmp_path / "a"), f"../{tmp_path.name}/a", "link"):
        with pytest.raises(ValueError, match=r"^a: outputs need files of their own"):
            ensure_apart([Path("a"), Path("b"), Path(name)])
    paths = list(map(Path, ("b", "folder/a", "a", "link", "folder/b", "c")))
    assert different_files(iter(paths)) == [Path("b"), Path("folder/a"), Path("c")]


def test_a_stamp_is_of_one_state_of_some_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b, link = Path("a"), Path("b"), Path("link")
    link.symlink_to("a")
    stamps = [file_stamp([a])]  # of no file yet
    for path in (a, b):
        path.write_bytes(b"same")
        os.utime(path, (1e9, 1e9))
    stamps += [file_stamp([a]), file_stamp([b]), file_stamp([a, b])]
    same = [file_stamp([tmp_path / "a"]), file_stamp([link]), file_stamp([b, a])]
    assert same == [stamps[1], stamps[1], stamps[3]]
    time.sleep(0.02)  # beyond the ticks of the file system's clock
    a.write_bytes(b"diff")
    os.utime(a, (1e9, 1e9))
    stamps.append(file_stamp([a]))
    os.utime(a, (1e9, 2e9))
    stamps.append(file_stamp([a]))
    assert len(set(stamps)) == len(stamps)
    assert file_stamp([]) == ""


def test_a_file_has_the_content_that_would_be_written(tmp_path: Path) -> None:
    for path in (tmp_path / "file.txt", tmp_path / "file.txt.gz"):
        assert not has_content(path, b"content")
        atomic_write(path, b"content")
        assert has_content(path, b"content")
        assert not has_content(path, b"other")


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("L" * 250 + ".fits")
    ensure_writable(path, overwrite=False)
    atomic_write(path, b"content")
    assert names(tmp_path) == [path.name]


# What the commands replace.


@pytest.mark.parametrize("option", ["--priors", "--summary"])
@pytest.mark.parametrize("spelling", ["{here}/out.fits", "link.fits"])
def test_two_outputs_are_not_written_to_one_file_in_two_spellings(
    run: Run, inputs: Path, here: Path, option: str, spelling: str
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    (here / "link.fits").symlink_to("out.fits")
    arguments = ["-o", "out.fits", option, spelling.format(here=here)]
    status, _, err = run("classify", path, *arguments, "--overwrite")
    assert status == 1
    assert "need files of their own" in err
    assert names(here) == ["link.fits"]


def test_a_list_is_never_replaced(run: Run, inputs: Path, here: Path) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    (here / "files.csv").write_text(f"{path}\n")
    (here / "targets.csv").write_text(f"{TARGETID}\n")
    for output in ("files.csv", "targets.csv"):
        arguments = ["@files.csv", "--targetids", "@targets.csv", "-o", output]
        arguments.append("--overwrite")
        status, _, err = run("classify", *arguments)
        assert status == 1
        assert f"{output} is an input" in err
    assert (here / "files.csv").read_text() == f"{path}\n"


def test_a_file_that_is_named_twice_is_classified_once(
    run: Run, inputs: Path, here: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 2)
    folder = write_cframes(inputs, coadd_hdus(2))
    again = [
        folder / "cframe-b0-00071246.fits",
        inputs / ".." / inputs.name / path.name,
    ]
    status, out, err = run("classify", path, folder, path, *again)
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 2
    assert names(here) == ["qn-0-00071246.fits", "qn-0.fits"]
    header = fitsio.read_header("qn-0-00071246.fits", ext="QN")
    assert header["QNARMS"] == "BRZ"


def test_embed_grid_never_replaces_its_source(run: Run, here: Path, data: Path) -> None:
    source = here / "net.h5"
    shutil.copyfile(data / "keras" / "valid.h5", source)
    (here / "link.h5").symlink_to("net.h5")
    before = source.read_bytes()
    for target in ("net.h5", "./net.h5", "link.h5"):
        status, out, err = run("embed-grid", "net.h5", target, "--overwrite")
        assert (status, out) == (1, "")
        assert "is an input and cannot be the output" in err
    assert source.read_bytes() == before


def test_two_pictures_are_not_drawn_to_one_file(
    run: Run, inputs: Path, here: Path
) -> None:
    pytest.importorskip("matplotlib")
    path = write_coadd(inputs / "coadd-0.fits", 2)
    (here / f"p-{TARGETID}.png").symlink_to(f"p-{TARGETID + 1}.png")
    status, _, err = run("plot", path, "--rows", "0,1", "-o", "p.png")
    assert status == 1
    assert "png: outputs need files of their own" in err
    assert names(here) == [f"p-{TARGETID}.png"]
