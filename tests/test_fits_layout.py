"""Headers and columns that are read without cfitsio: as cfitsio reads them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import coadd_hdus, write_hdus
from sdss_files import write_spec

from qnp_xp import SpectraError
from qnp_xp.io import _fits
from qnp_xp.io._fits import FitsFile
from qnp_xp.io.open import open_spectra

TYPES = ["u1", "i2", "i4", "i8", "f4", "f8", "S5", "2f4", "3i4"]


def table_of(types: list[str], rows: int) -> np.ndarray:
    """A table of random bytes that are numbers, or letters."""
    rng = np.random.default_rng(1)
    table = np.zeros(rows, [(f"c{number}", kind) for number, kind in enumerate(types)])
    for name in table.dtype.names or ():
        values = rng.integers(65, 90, (rows, *table.dtype[name].shape))
        column = (
            values.astype("u1").tobytes() if "S" in str(table[name].dtype) else None
        )
        table[name] = (
            values if column is None else [column[i : i + 3] for i in range(rows)]
        )
    return table


def is_asked(file: FitsFile) -> bool:
    """Whether cfitsio was asked."""
    return "fits" in vars(file)


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_columns_are_those_of_cfitsio(
    tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qnp_xp.io._fits_layout._CHUNK", 200)  # a few rows at a time
    path = tmp_path / "table.fits"
    table = table_of(TYPES, rows)
    fitsio.write(path, table, clobber=True)
    wanted = [f"C{number}" for number in (6, 3, 0, 7, 8, 1, 2, 4, 5)]
    with FitsFile(path) as file:
        found = file.columns(1, [*wanted, "NONE"])
        assert not is_asked(file)
    assert list(found) == wanted
    for name, values in found.items():
        expected = table[name.lower()]
        if expected.dtype.kind == "S":
            expected = expected.astype("U")
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("kind", ["u2", "u4", "i1", "?", "(2,3)f4", "c8"])
def test_other_columns_are_read_by_cfitsio(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "table.fits"
    table = np.ones(3, [("plain", "i4"), ("other", kind)])
    fitsio.write(path, table, clobber=True)
    with FitsFile(path) as file:
        assert file.columns(1, ["PLAIN"])["PLAIN"].tolist() == [1, 1, 1]
        assert not is_asked(file)
        found = file.columns(1, ["OTHER"])["OTHER"]
        assert is_asked(file)
    assert found.dtype == table["other"].dtype
    np.testing.assert_array_equal(found, table["other"])


def test_a_spectrum_of_sdss_is_read_without_cfitsio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_spec(tmp_path / "spec.fits")

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    monkeypatch.setattr(_fits, "_open", refuse)
    with open_spectra(path) as source:
        assert [flux.shape[0] for _, flux, _ in source.read(np.arange(1))] == [1]


def with_value(path: Path, text: str) -> Path:
    """Write a file with a keyword K of some text."""
    cards = ["SIMPLE  =                    T", "BITPIX  =                    8"]
    cards += ["NAXIS   =                    0", f"K       = {text}", "END"]
    path.write_bytes("".join(card.ljust(80) for card in cards).ljust(2880).encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        *("'a''b'", "''", "'x '", "'a/b' / c", "T", "F / no", "1", "+1", "-5", "007"),
        *("1.", "-.5", "1E5", "1.E-3", "12 / x", "1.5/x", "-0", "-0.0", "'it''s' / '"),
    ],
)
def test_values_are_those_of_cfitsio(tmp_path: Path, text: str) -> None:
    path = with_value(tmp_path / "one.fits", text)
    expected = fitsio.read_header(path).get("K")
    with FitsFile(path) as file:
        found = file.value(0, "K")
        assert not is_asked(file)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    "text",
    ["1D5", "1.5e3", "'abc&'", "'abc", "1 2", "99999999999999999999", "TRUE", "0x10"],
)
def test_values_in_doubt_are_left_to_cfitsio(tmp_path: Path, text: str) -> None:
    path = with_value(tmp_path / "one.fits", text)
    with FitsFile(path) as file:
        found = file.value(0, "K")
        assert is_asked(file)
    assert found == fitsio.read_header(path).get("K")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("XTENSION= 'BINTABLE'", "XTENSION= 'A3DTABLE'"),
        ("TFORM1  = 'J       '", "TFORM1  = '*J      '"),
        ("TTYPE2  = 'b       '", "TTYPE2  = 'A       '"),
        ("TFORM2  = 'D       '", "TFORM2  = 'E       '"),
        ("GCOUNT  =                    1", "PCOUNT  =                    0"),
    ],
    ids=["kind", "form", "names", "width", "order"],
)
def test_headers_in_doubt_are_left_to_cfitsio(
    tmp_path: Path, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.fits"
    fitsio.write(path, np.ones(3, [("a", "i4"), ("b", "f8")]), clobber=True)
    content = path.read_bytes()
    assert content.count(old.encode()) == 1
    path.write_bytes(content.replace(old.encode(), new.encode()))
    asked: list[Any] = []
    known = _fits.asked_layout
    monkeypatch.setattr(
        _fits, "asked_layout", lambda *hdu: asked.append(hdu) or known(*hdu)
    )
    with contextlib.suppress(SpectraError), FitsFile(path):
        pass
    assert asked


@pytest.mark.parametrize(
    "card",
    [
        *(
            "TSCAL1 = 2.0",
            "TSCAL1=2.0",
            "TSCAL01 = 2.0",
            "TZERO+1 = 2",
            "TFORM01 = '1J'",
        ),
        *("HIERARCH TSCAL1 = 2.0", "HIERARCH  TZERO1 = 1", "HIERARCH ORIGIN OF = 'x'"),
        *("HISTORY TSCAL1 = 2.0", "COMMENT", "tscal1  = 2.0"),
    ],
)
def test_cards_of_other_forms_mean_what_they_mean_to_cfitsio(
    tmp_path: Path, card: str
) -> None:
    path = tmp_path / "table.fits"
    fitsio.write(path, np.arange(3).astype([("a", "f4")]), clobber=True)
    before, end, after = path.read_bytes().rpartition(b"END".ljust(80))
    path.write_bytes(before + card.ljust(80).encode() + end + after[80:])
    expected = fitsio.read(path)["a"]
    with FitsFile(path) as file:
        found = file.columns(1, ["A"])["A"]
    assert found.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("card", ["TSCAL2  = 2.0", "TZERO2  = 10", "TSCAL2  = 0.5"])
@pytest.mark.parametrize("kind", ["u1", "i2", "i4"])
def test_scaled_integers_are_refused(tmp_path: Path, card: str, kind: str) -> None:
    path = tmp_path / "table.fits"
    fitsio.write(path, np.ones(3, [("PLAIN", "i4"), ("SCALED", kind)]), clobber=True)
    before, end, after = path.read_bytes().rpartition(b"END".ljust(80))
    path.write_bytes(before + card.ljust(80).encode() + end + after[80:])
    with FitsFile(path) as file:
        assert file.columns(1, ["PLAIN"])["PLAIN"].tolist() == [1, 1, 1]
        with pytest.raises(SpectraError, match=r"table\.fits.*SCALED.*TSCAL"):
            file.columns(1, ["SCALED"])
        with pytest.raises(SpectraError, match=r"table\.fits.*SCALED.*TSCAL"):
            file.table(1)


@pytest.mark.parametrize("card", ["BSCALE = 2", "HIERARCH BZERO = 2", "bscale  = 2"])
def test_images_are_scaled_where_cfitsio_does(tmp_path: Path, card: str) -> None:
    path = tmp_path / "image.fits"
    fitsio.write(path, np.arange(6, dtype="i2").reshape(2, 3), clobber=True)
    before, end, after = path.read_bytes().partition(b"END".ljust(80))
    path.write_bytes(before + card.ljust(80).encode() + end + after[80:])
    with FitsFile(path) as file:
        found = file.image(0).read_rows(np.arange(2))
    np.testing.assert_array_equal(found, fitsio.read(path))


def test_a_table_that_is_changed_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write_hdus(tmp_path / "coadd.fits", coadd_hdus(2, arms="R", step=40))
    with FitsFile(path) as file:
        path.write_bytes(path.read_bytes() + bytes(2880))
        with pytest.raises(SpectraError, match=r"coadd\.fits.*changed"):
            file.columns("FIBERMAP", ["TARGETID"])
