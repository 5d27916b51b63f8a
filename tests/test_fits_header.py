"""FITS files whose images cfitsio would not survive."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import coadd_hdus, gzipped, run_python, write_hdus, write_images_by_hand

from qnp_xp import SpectraError
from qnp_xp.io._fits_header import tile_problem
from qnp_xp.io.open import open_spectra

KINDS = ("gzip", "gzip_2", "rice")

# cfitsio ends the process that divides by zero.
_READ = """
import sys
import numpy as np
from qnp_xp import SpectraError
from qnp_xp.io.open import open_spectra
try:
    with open_spectra(sys.argv[1]) as source:
        list(source.read(np.arange(source.n)))
except SpectraError as err:
    print(err)
"""


def said(path: Path) -> str:
    """What is said of a file whose spectra are all read, by another process."""
    return run_python(_READ, path)


def compressed(path: Path, kind: str = "rice") -> bytes:
    hdus = coadd_hdus(2, arms="R", step=40, mask="i4")
    return write_hdus(path, hdus, compress=kind, qlevel=16).read_bytes()


def with_card(content: bytes, key: str, value: str) -> bytes:
    """The file with the first card of a keyword changed."""
    changed, count = re.subn(
        rb"(%-8b= ).{20}" % key.encode(),
        lambda card: card[1] + f"{value:>20}".encode(),
        content,
        count=1,
    )
    assert count == 1
    return changed


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ZNAXIS1", "0"),
        ("ZNAXIS2", "0"),
        ("ZNAXIS2", "-3"),
        ("ZTILE1", "0"),
        ("ZTILE2", "-1"),
        ("ZTILE2", "0.1"),
        ("ZTILE2", "'0'"),
        ("ZTILE2", "99999999999999999999"),
        ("ZNAXIS", "0"),
    ],
)
def test_sizes_that_are_not_positive_are_refused(
    tmp_path: Path, key: str, value: str, packed: bool
) -> None:
    path = tmp_path / "coadd.fits"
    path.write_bytes(with_card(compressed(path), key, value))
    if packed:
        path = gzipped(path)
    text = f"{path}: not a FITS file, or cut short (HDU 3: {key} = {value}, where a"
    assert text in said(path)


@pytest.mark.parametrize("kind", KINDS)
def test_sound_images_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "coadd.fits"
    compressed(path, kind)
    with open_spectra(path) as source:
        for wave, flux, ivar in source.read(np.arange(source.n)):
            assert flux.shape == ivar.shape == (source.n, wave.size)


def test_headers_of_all_hdus_are_looked_at(tmp_path: Path) -> None:
    content = compressed(tmp_path / "coadd.fits")
    last = content.rindex(b"ZTILE2  =")
    wrong = content[:last] + with_card(content[last:], "ZTILE2", "0")
    number = content.count(b"XTENSION=")
    assert tile_problem(io.BytesIO(content)) is None
    assert str(tile_problem(io.BytesIO(wrong))).startswith(f"HDU {number}: ZTILE2 = 0")


def test_images_without_tiles_may_be_of_any_size(tmp_path: Path) -> None:
    hdus = {"B_FLUX": np.zeros((0, 5), "f4"), "B_IVAR": np.zeros((2, 5), "f4")}
    path = write_images_by_hand(tmp_path / "coadd.fits", hdus)
    with path.open("rb") as file:
        assert tile_problem(file) is None


@pytest.mark.parametrize("key", ["NAXIS1", "NAXIS2", "BITPIX", "PCOUNT", "GCOUNT"])
@pytest.mark.parametrize("value", ["9223372036854775807", "-1", "1.5", "'x'", ""])
def test_a_header_that_makes_no_sense_ends_the_look(
    tmp_path: Path, key: str, value: str
) -> None:
    content = compressed(tmp_path / "coadd.fits")
    start = content.index(b"XTENSION=")
    wrong = content[:start] + with_card(content[start:], key, value)
    assert tile_problem(io.BytesIO(wrong)) is None


# Each comes to no data at all as cfitsio counts them.
@pytest.mark.parametrize("dtype", ["u1", "i2", "f8"])
@pytest.mark.parametrize(
    "cards",
    [
        {"NAXIS1": 1 << 32, "NAXIS2": 1 << 32},
        {"NAXIS2": (1 << 31) - 1, "GCOUNT": 0},
        {"NAXIS2": 7, "PCOUNT": -35},
    ],
    ids=["too much to count", "no group", "fewer than none"],
)
def test_images_larger_than_their_file_are_refused(
    tmp_path: Path, cards: dict[str, int], dtype: str
) -> None:
    path = tmp_path / "coadd.fits"
    write_images_by_hand(path, {"B_FLUX": np.zeros((0, 5), dtype)})
    for key, value in cards.items():
        path.write_bytes(with_card(path.read_bytes(), key, str(value)))
    match = r"coadd\.fits\[B_FLUX\]: the file ends before the data do"
    with pytest.raises(SpectraError, match=match):
        open_spectra(path)


@pytest.mark.parametrize("value", ["-1", "0", "7", "999", "'X'"])
def test_an_unknown_type_of_image_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "coadd.fits"
    path.write_bytes(with_card(compressed(path), "ZBITPIX", value))
    assert str(path) in said(path)


@pytest.mark.parametrize("packed", [False, True])
def test_two_files_in_one_are_refused(tmp_path: Path, packed: bool) -> None:
    path = write_hdus(tmp_path / "coadd.fits", coadd_hdus(2, arms="R", step=40))
    path.write_bytes(2 * path.read_bytes())
    if packed:
        path = gzipped(path)
    with pytest.raises(SpectraError, match="not a FITS file, or cut short"):
        open_spectra(path)
