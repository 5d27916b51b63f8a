"""Tables of results in memory: what they keep, and what they become."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

import qnp_xp
from qnp_xp import ResultTable, classify, demo_coadd, load_model, validate
from qnp_xp.errors import MissingLibraryError
from qnp_xp.io._results import results_of
from qnp_xp.io.tables import read_catalog


@pytest.fixture(scope="module")
def table() -> ResultTable:
    """Results of the demo, above a threshold that is not the default one."""
    return classify(demo_coadd(), load_model(_embedded()), c_thresh=0.8)


def _embedded() -> Path:
    """The network that ships, by name: nothing is said of it then."""
    return demo_coadd().with_name("embedded-network.h5")


def test_the_demo_is_a_coadd_that_can_be_classified(table: ResultTable) -> None:
    truth = fitsio.read(str(demo_coadd()), ext="FIBERMAP")
    np.testing.assert_array_equal(table["TARGETID"], truth["TARGETID"])
    quasar = np.char.strip(truth["TRUE_SPECTYPE"].astype("U")) == "QSO"
    assert np.mean((table["IS_QSO_QN"] == 1) == quasar) > 0.8


def test_a_table_says_what_it_is_in_one_line(table: ResultTable) -> None:
    facts = "25 rows, 24 scored, 13 quasars, threshold 0.8 (asked for)"
    assert repr(table) == f"<ResultTable: {facts}>"
    assert repr(table[:1]).startswith("<ResultTable: 1 row, 1 scored, 1 quasar, ")


def test_a_notebook_shows_the_first_rows(table: ResultTable) -> None:
    shown = table._repr_html_() or ""
    assert len(shown) < 4000
    assert "threshold 0.8 (asked for), spectra demo-coadd.fits" in shown
    assert "network embedded-network.h5" in shown
    assert shown.count("<tr>") == 11, "names and ten rows"
    assert "15 more rows" in shown
    assert f"<td>{table['TARGETID'][0]}</td><td>150.00000</td>" in shown
    assert "<td>MgII, Hbeta</td><td>scored</td>" in shown
    assert "not scored (no good pixel)" in (table[-1:]._repr_html_() or "")
    assert "more rows" not in (table[:10]._repr_html_() or "")


def test_what_a_file_says_is_no_markup(table: ResultTable) -> None:
    odd = ResultTable(np.asarray(table), {"QNINPUT": ("<b>&.fits", "")})
    assert "&lt;b&gt;&amp;.fits" in (odd._repr_html_() or "")
    assert repr(odd) == "<ResultTable: 25 rows, 24 scored, 13 quasars>"


def test_other_columns_are_shown_as_numpy_does(table: ResultTable) -> None:
    part = table[["TARGETID", "Z_QN"]][:1]
    assert repr(part) == repr(np.asarray(part))
    assert part._repr_html_() is None


def test_the_header_is_that_of_the_file(table: ResultTable, tmp_path: Path) -> None:
    path = tmp_path / "qn.fits"
    classify(demo_coadd(), _embedded(), c_thresh=0.8, output=path)
    read, header = read_catalog(path)
    assert isinstance(read, ResultTable)
    assert read.header == header
    assert header.pop("QNHASH")
    # Comments have no room beside long values in files.
    assert {key: table.header[key][0] for key in table.header} == {
        key: value for key, (value, _) in header.items()
    }
    assert table.header["C_THRESH"] == (0.8, "lines count above it (asked for)")
    assert repr(read) == repr(table)


def changed(name: str, table: ResultTable) -> Any:
    """Make a table of a table in one of the ways that keep its rows' columns."""
    ways = {
        "rows": lambda: table[table["IS_QSO_QN"] == 1],
        "slice": lambda: table[3:5],
        "row numbers": lambda: table[np.argsort(table["Z_QN"])],
        "list": lambda: table[[1, 2]],
        "columns": lambda: table[["TARGETID", "Z_QN"]],
        "sorted": lambda: np.sort(table, order="Z_QN"),
        "copy": table.copy,
        "deep copy": lambda: copy.deepcopy(table),
        "pickle": lambda: pickle.loads(pickle.dumps(table)),
    }
    return ways[name]()


WAYS = ["rows", "slice", "row numbers", "list", "columns", "sorted", "copy"]


@pytest.mark.parametrize("way", [*WAYS, "deep copy", "pickle"])
def test_rows_that_are_chosen_keep_the_header(table: ResultTable, way: str) -> None:
    found, expected = changed(way, table), changed(way, np.asarray(table))
    assert isinstance(found, ResultTable)
    assert found.header == table.header
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def test_the_header_of_chosen_rows_is_their_own(table: ResultTable) -> None:
    table[:2].header["QNINPUT"] = ("other.fits", "")
    table.copy().header.clear()
    assert table.header["QNINPUT"][0] == "demo-coadd.fits"


def test_tables_that_are_put_together_have_no_header(table: ResultTable) -> None:
    both = np.concatenate([table, table])
    assert both.size == 50
    assert not getattr(both, "header", {})


def test_columns_and_rows_are_plain(table: ResultTable) -> None:
    assert type(table["Z_QN"]) is np.ndarray
    assert type(table[0]) is np.void
    mine = table.copy()
    mine["TARGETID"] = 7
    mine["Z_QN"][0] = 2
    mine[1] = mine[0]
    assert mine["Z_QN"][1] == 2
    assert set(mine["TARGETID"].tolist()) == {7}


@pytest.mark.parametrize("column", ["IS_QSO_QN", "N_LINES_QN", "QN_STATUS"])
def test_a_column_of_integers_chooses_no_rows(table: ResultTable, column: str) -> None:
    mine = table.copy()
    with pytest.raises(IndexError, match=r'table\["IS_QSO_QN"\] == 1'):
        mine[mine[column]]
    with pytest.raises(IndexError, match="row numbers"):
        mine[mine[column]] = mine[0]
    assert mine.tobytes() == table.tobytes()


@pytest.mark.parametrize("dtype", ["i4", "i8", "u8"])
def test_row_numbers_choose_rows(table: ResultTable, dtype: str) -> None:
    found = table[np.asarray([3, 1], dtype)]
    assert found["TARGETID"].tolist() == table["TARGETID"][[3, 1]].tolist()


# Where numpy is older than the one that astropy was built with.
@pytest.mark.filterwarnings("ignore:numpy.ndarray size changed")
def test_astropy_gets_units_and_the_header(table: ResultTable) -> None:
    pytest.importorskip("astropy", reason="astropy is not installed")
    made = table.to_table()
    assert made.colnames == list(table.dtype.names or ())
    assert str(made["TARGET_RA"].unit) == str(made["TARGET_DEC"].unit) == "deg"
    assert made["Z_QN"].unit is None
    assert made["C_LYA"].description == "confidence of LYA"
    assert made.meta["C_THRESH"] == 0.8
    assert made.meta["QNMODEL"] == "embedded-network.h5"
    quasars = made[made["IS_QSO_QN"]]
    assert quasars["TARGETID"].tolist() == (
        table["TARGETID"][table["IS_QSO_QN"] == 1].tolist()
    )
    rows, header = results_of(made)
    assert header["C_THRESH"] == 0.8
    np.testing.assert_array_equal(rows["Z_QN"], table["Z_QN"])


def test_pandas_gets_the_values_of_the_header(table: ResultTable) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = table.to_pandas()
    assert list(frame.columns) == list(table.dtype.names or ())
    assert frame.attrs["C_THRESH"] == 0.8
    assert frame[frame.IS_QSO_QN].shape[0] == 13
    rows, header = results_of(frame)
    assert header["C_THRESH"] == 0.8
    np.testing.assert_array_equal(rows["Z_QN"], table["Z_QN"])


def test_texts_and_wide_columns_become_those_of_pandas() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    columns = [("SPARCL_ID", "S4"), ("DZ_WARN", ">i2"), ("COEFF", ">f4", 2)]
    odd = ResultTable(np.zeros(2, columns), {})
    odd["SPARCL_ID"], odd["COEFF"] = [b"ab", b""], [[1, 2], [3, 4]]
    frame = odd.to_pandas()
    assert frame.SPARCL_ID.tolist() == ["ab", ""]
    assert frame.DZ_WARN.tolist() == [False, False]
    assert frame.COEFF[1].tolist() == [3, 4]


@pytest.mark.parametrize("library", ["astropy", "pandas"])
def test_a_missing_library_is_named(
    table: ResultTable, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("astropy.table", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
    make = table.to_table if library == "astropy" else table.to_pandas
    with pytest.raises(MissingLibraryError, match=rf"{library}, or '\.\[tables\]'"):
        make()


def test_a_table_is_validated_by_its_own_threshold(table: ResultTable) -> None:
    truth = fitsio.read(str(demo_coadd()), ext="FIBERMAP")
    known = {"TARGETID": truth["TARGETID"], "Z": truth["TRUE_Z"]}
    known["SPECTYPE"] = np.char.strip(truth["TRUE_SPECTYPE"].astype("U"))
    assert validate(table, known).c_thresh == 0.8
    assert validate(table, known, c_thresh=0.6).c_thresh == 0.6
    assert validate(np.asarray(table), known).c_thresh == 0.5


# Arrays that are no single argument.


@pytest.mark.parametrize("count", [3, 4])
def test_arrays_one_by_one_are_told_the_right_call(count: int) -> None:
    arrays = [np.ones(5)] * count
    with pytest.raises(TypeError, match=r"classify\(\(wave, flux, ivar\)\)"):
        classify(*arrays)


def test_two_arrays_are_told_the_right_call() -> None:
    with pytest.raises(TypeError, match=r"got ndarray; .*\(wave, flux, ivar\)"):
        classify(np.ones(5), np.ones(5))


def test_other_arguments_too_many_are_pythons_error() -> None:
    with pytest.raises(TypeError, match="positional"):
        classify((np.ones(5), np.ones(5), np.ones(5)), None, "cpu")


# A model in a notebook.


@pytest.mark.parametrize("name", ["embedded", "other"])
def test_a_notebook_shows_the_facts_of_a_model(data: Path, name: str) -> None:
    path = _embedded() if name == "embedded" else data / "keras" / "valid.h5"
    model = load_model(path, compiled=False)
    shown = model._repr_html_()
    assert f"<td>file</td><td>{path.name}" in shown
    assert ("ships with qnp_xp" in shown) == (name == "embedded")
    assert model.weights_sha256 in shown
    assert "<td>in float32 on cpu, not compiled</td>" in shown
    assert f"<td>{model.nbins} bins of " in shown
    assert "BAL CIV(1548)" in shown
    assert f"{model.network.parameters:,} parameters" in shown
    threshold = "none in the file" if model.c_thresh is None else f"{model.c_thresh:g}"
    assert f"<td>threshold</td><td>{threshold}" in shown
    assert len(repr(model.network)) < 3000, "no weights"


def test_the_class_of_tables_is_public() -> None:
    assert qnp_xp.ResultTable is ResultTable
    assert {"ResultTable", "demo_coadd"} <= {*dir(qnp_xp)}
