"""Files that appear whole or not at all, and what is left where a process is killed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import fitsio
import numpy as np
import pytest
from helpers import names

from qnp_xp.io._files import (
    atomic_path,
    atomic_write,
    ensure_not_input,
    ensure_writable,
    remove_leftovers,
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
    bracket = tmp_path / "a[1].fits"
    ensure_writable(bracket, overwrite=False)
    with pytest.raises(ValueError, match=r"a\[1\]\.fits: brackets"):
        ensure_writable(bracket, overwrite=False, fits=True)
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
