"""FITS files whose images cfitsio would not survive."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import coadd_hdus, gzipped, run_python, write_hdus, write_images_by_hand
from sdss_files import write_spec

from qnp_xp import SpectraError
from qnp_xp.io import _fits_header, _packed
from qnp_xp.io._fits_header import check_headers
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


def problem(content: bytes) -> str:
    """What is wrong with the headers of a file."""
    with pytest.raises(OSError, match="HDU") as caught:
        check_headers(io.BytesIO(content))
    return str(caught.value)


def test_headers_of_all_hdus_are_looked_at(tmp_path: Path) -> None:
    content = compressed(tmp_path / "coadd.fits")
    last = content.rindex(b"ZTILE2  =")
    wrong = content[:last] + with_card(content[last:], "ZTILE2", "0")
    check_headers(io.BytesIO(content))
    number = content.count(b"XTENSION=")
    assert problem(wrong).startswith(f"HDU {number}: ZTILE2 = 0")


def test_images_without_tiles_may_be_of_any_size(tmp_path: Path) -> None:
    hdus = {"B_FLUX": np.zeros((0, 5), "f4"), "B_IVAR": np.zeros((2, 5), "f4")}
    path = write_images_by_hand(tmp_path / "coadd.fits", hdus)
    with path.open("rb") as file:
        check_headers(file)


@pytest.mark.parametrize("key", ["NAXIS1", "NAXIS2", "BITPIX", "PCOUNT", "GCOUNT"])
@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("9223372036854775807", "HDU 1: cut short, 14400 of [0-9]* bytes are there"),
        ("1.5", "HDU 1: {key} = 1.5, where an integer"),
        ("'x'", "HDU 1: {key} = 'x', where an integer"),
        ("", "HDU 1: {key} = , where an integer"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(
    tmp_path: Path, key: str, value: str, what: str
) -> None:
    content = compressed(tmp_path / "coadd.fits")
    start = content.index(b"XTENSION=")
    said = problem(content[:start] + with_card(content[start:], key, value))
    left = len(content) - start - 2880
    assert re.match(what.format(key=key).replace("14400", str(left)), said)


def test_a_keyword_of_tiles_with_two_values_is_refused(tmp_path: Path) -> None:
    content = compressed(tmp_path / "coadd.fits")
    start = content.index(b"ZQUANTIZ=")
    twice = content[:start] + b"ZNAXIS2 =                    3".ljust(80)
    assert problem(twice + content[start + 80 :]) == "HDU 3: ZNAXIS2 has two values"


# Neither rows without width nor compressed pixels need bytes of their own.
def test_rows_of_no_width_are_limited_by_the_file(tmp_path: Path) -> None:
    path = write_images_by_hand(
        tmp_path / "coadd.fits", {"B_FLUX": np.zeros((1, 0), "f4")}
    )
    content = with_card(path.read_bytes(), "NAXIS2", str(10**9))
    assert problem(content) == "HDU 1: NAXIS2 = 1000000000, in a file of 5760 bytes"


@pytest.mark.parametrize("key", ["ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2"])
def test_compressed_images_larger_than_memory_are_refused(
    tmp_path: Path, key: str
) -> None:
    content = with_card(compressed(tmp_path / "coadd.fits"), key, "400000000")
    assert re.match(
        f"HDU 3: ({key} = 4|claims [0-9]+ bytes, in a file)", problem(content)
    )


def test_pixels_of_tiles_are_limited_by_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = compressed(tmp_path / "coadd.fits")
    pixels = [int(size) for size in re.findall(rb"ZNAXIS[12] = +(\d+)", content)[:2]]
    claimed = 8 * pixels[0] * pixels[1]
    monkeypatch.setattr(_packed, "_MOST_TIMES", 0)
    monkeypatch.setattr(_packed, "_HARMLESS", claimed)
    check_headers(io.BytesIO(content))
    monkeypatch.setattr(_packed, "_HARMLESS", claimed - 1)
    assert problem(content).startswith(f"HDU 3: claims {claimed} bytes, in a file of")


def test_a_header_ends_within_the_file(tmp_path: Path) -> None:
    content = compressed(tmp_path / "coadd.fits")
    text = "the file ends within its header"
    start = content.index(b"XTENSION=")
    assert text in problem(content[: start + 2000])
    wrong = content.replace(b"END     ", b"NOEND   ", 1)
    assert text in problem(wrong[:2880] + bytes(2880) + wrong[2880:])


def test_a_header_has_no_more_than_some_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fits_header, "_LONGEST", 3)
    cards = [b"SIMPLE  =                    T", b"BITPIX  = 8", b"NAXIS   = 0"]
    start = b"".join(card.ljust(80) for card in cards).ljust(2880)
    end = b"END".ljust(2880)
    check_headers(io.BytesIO(start + b" " * 2880 + end))
    assert "within its header" in problem(start + b" " * 2 * 2880 + end)


def streamed(path: Path, kind: str, mask: str = "i2") -> tuple[bytes, Any]:
    """A file whose images are of some kind of tiles, and what its spectra are."""
    hdus = coadd_hdus(6, arms="R", step=40, mask=mask)
    with fitsio.FITS(str(path), "rw") as f:
        f.write(None)
        for name, values in hdus.items():
            tiled = name == ("R_MASK" if kind == "PLIO_1" else "R_FLUX")
            options = {"compress": kind, "tile_dims": (5, 40)} if tiled else {}
            f.write(values, extname=name, **options)
    return path.read_bytes(), hdus


@pytest.mark.parametrize("kind", ["HCOMPRESS_1", "PLIO_1"])
def test_sound_streams_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "coadd.fits"
    _, hdus = streamed(path, kind)
    with open_spectra(path) as source:
        ((_, flux, ivar),) = source.read(np.arange(source.n), use_mask=True)
    np.testing.assert_allclose(flux, hdus["R_FLUX"], atol=0.3)
    np.testing.assert_array_equal(ivar == 0, hdus["R_MASK"] != 0)


@pytest.mark.parametrize(
    ("kind", "stream"),
    [
        pytest.param("HCOMPRESS_1", (2, ">2i", 0, 0), id="no-pixels"),
        pytest.param("HCOMPRESS_1", (2, ">2i", -5, -40), id="fewer-than-none"),
        pytest.param("HCOMPRESS_1", (2, ">2i", 500, 4000), id="more-than-its-tile"),
        pytest.param("HCOMPRESS_1", (0, ">h", 0), id="no-stream"),
        pytest.param("HCOMPRESS_1", (22, ">3B", 255, 255, 255), id="endless-bits"),
        pytest.param("PLIO_1", (2, ">3h", 7, -100, 32000), id="longer-than-it-is"),
        pytest.param("PLIO_1", (2, ">3h", -7, -100, 50), id="begins-before-it"),
    ],
)
def test_damaged_streams_are_refused(
    tmp_path: Path, kind: str, stream: tuple[Any, ...]
) -> None:
    path = tmp_path / "coadd.fits"
    content, _ = streamed(path, kind)
    magic = b"\xdd\x99\0\0" if kind == "HCOMPRESS_1" else b"\0\0\0\x07\xff\x9c"
    before, layout, *values = stream
    wrong = bytearray(content)
    start = content.rindex(magic)
    struct.pack_into(layout, wrong, start + before, *values)
    path.write_bytes(wrong)
    assert f"at byte {start}, is damaged" in said(path)


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
    match = r"coadd\.fits.*(cut short|in a file of|the file ends before the data do)"
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
    with pytest.raises(SpectraError, match="followed by something else"):
        open_spectra(path)


def test_columns_of_arrays_of_any_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "coadd.fits"
    table = np.zeros(2, [("TARGETID", "O")])
    table["TARGETID"] = [np.arange(1), np.arange(2)]
    with fitsio.FITS(str(path), "rw") as f:
        f.write(None)
        f.write(table, extname="FIBERMAP")
        for name, values in coadd_hdus(2, arms="R", step=40, fibermap=False).items():
            f.write(values, extname=name)
    # As long as the header says: 16 GB of two rows.
    short, long = b"'1PK(2)  '".ljust(16), b"'1PK(999999999)'"
    path.write_bytes(path.read_bytes().replace(short, long))
    assert long in path.read_bytes()
    match = r"coadd\.fits\[FIBERMAP\]: column TARGETID has arrays of any length"
    with pytest.raises(SpectraError, match=match):
        open_spectra(path)


@pytest.mark.parametrize(("name", "number"), [("FLUX", 1), ("IVAR", 3)])
def test_units_of_columns_are_checked(tmp_path: Path, name: str, number: int) -> None:
    path = write_spec(tmp_path / "spec.fits")
    sound = "1E-17 erg/cm^2/s/Ang" if name == "FLUX" else "1/(1E-17 erg/cm^2/s/Ang)^2"
    for unit in (sound, "Jy"):
        with fitsio.FITS(str(path), "rw") as f:
            f[1].write_key(f"TUNIT{number}", unit)
        if unit == sound:
            with open_spectra(path) as source:
                assert source.n == 1
    with pytest.raises(
        SpectraError, match=rf"spec\.fits\[1\], column {name}: is in Jy"
    ):
        open_spectra(path)


@pytest.mark.parametrize("packed", [False, True])
def test_files_are_copied_where_descriptors_have_no_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    path = write_hdus(tmp_path / "coadd.fits", coadd_hdus(2, arms="R", step=40))
    with open_spectra(path) as source:
        ((_, expected, _),) = source.read(np.arange(2))
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with open_spectra(gzipped(path) if packed else path) as source:
        write_hdus(tmp_path / "other.fits", coadd_hdus(1, arms="R", step=40)).replace(
            path
        )
        ((_, flux, _),) = source.read(np.arange(2))
    np.testing.assert_array_equal(flux, expected)
