"""One catalogue of many tables."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import TARGETID, Run, coadd_hdus, names, write_coadd, write_hdus

from qnp_xp.io._merge import without_duplicates
from qnp_xp.io.tables import read_catalog


@pytest.fixture
def tables(run: Run, inputs: Path, here: Path) -> list[Path]:
    """Tables of three, two and four targets, none of them twice."""
    for number, size in enumerate((3, 2, 4)):
        hdus = coadd_hdus(size, seed=number)
        hdus["FIBERMAP"]["TARGETID"] += 100 * number
        path = write_hdus(inputs / f"coadd-{number}.fits", hdus)
        assert run("classify", path, "--outdir", "qn")[0] == 0
    return [here / "qn" / f"qn-{number}.fits" for number in range(3)]


def rows(path: Path) -> np.ndarray:
    return np.asarray(fitsio.read(str(path), ext="QN"))


def inputs_of(path: Path) -> list[str]:
    return rows(path)["QNINPUT"].astype(str).tolist()


def test_rows_come_in_the_order_of_the_tables(
    run: Run, tables: list[Path], here: Path
) -> None:
    order = [tables[2], tables[0], tables[1]]
    status, out, err = run("merge", "all.fits", *order)
    assert (status, err) == (0, "")
    merged, parts = rows(here / "all.fits"), [rows(path) for path in order]
    assert out == (
        f"3 tables, 9 rows, {merged['IS_QSO_QN'].sum()} quasars -> all.fits\n"
    )
    for name in parts[0].dtype.names or ():
        expected = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(merged[name], expected, err_msg=name)
        assert merged[name].dtype.newbyteorder("=") == expected.dtype
    assert inputs_of(here / "all.fits") == (
        ["coadd-2.fits"] * 4 + ["coadd-0.fits"] * 3 + ["coadd-1.fits"] * 2
    )


def test_the_header_says_what_the_tables_have_in_common(
    run: Run, tables: list[Path], here: Path
) -> None:
    with fitsio.FITS(str(tables[1]), "rw") as f:
        f["QN"].write_key("DEPVER01", "0.0.1")
    assert run("merge", "all.fits", *tables)[0] == 0
    first = fitsio.read_header(str(tables[0]), ext="QN")
    header = fitsio.read_header(str(here / "all.fits"), ext="QN")
    same = ["QNSHA256", "QNMODEL", "QNDTYPE", "C_THRESH", "N_THRESH", "QNARMS"]
    same += ["DEPVER00", "DEPNAM01", "QNBIT00", "QNGRID", "QNWMIN"]
    assert [header[key] for key in same] == [first[key] for key in same]
    assert header["DEPVER01"] == f"0.0.1, {first['DEPVER01']}"
    assert "QNINPUT" not in header
    assert header["QNTABLES"] == 3
    for number, name in enumerate(rows(here / "all.fits").dtype.names, start=1):
        assert header[f"TTYPE{number}"] == name


def test_tables_are_listed_in_a_file(run: Run, tables: list[Path], here: Path) -> None:
    (here / "list").write_text("\n".join(map(str, tables)))
    assert run("merge", "all.fits", "@list")[0] == 0
    assert rows(here / "all.fits").size == 9


def test_catalogues_can_be_merged_again(
    run: Run, tables: list[Path], here: Path
) -> None:
    assert run("merge", "all.fits", *tables)[0] == 0
    assert run("merge", "two.fits", *tables[:2])[0] == 0
    assert run("merge", "again.fits", "two.fits", tables[2])[0] == 0
    np.testing.assert_array_equal(rows(here / "again.fits"), rows(here / "all.fits"))


def test_identifiers_that_a_table_lacks_are_filled(
    run: Run, tables: list[Path], inputs: Path, here: Path
) -> None:
    bare = write_coadd(inputs / "coadd-bare.fits", 2, fibermap=False)
    assert run("classify", bare)[0] == 0
    for order in ([tables[0], "qn-bare.fits"], ["qn-bare.fits", tables[0]]):
        assert run("merge", "all.fits", *order, "--overwrite")[0] == 0
        merged = rows(here / "all.fits")
        assert merged.dtype.names[:3] == ("TARGETID", "TARGET_RA", "TARGET_DEC")
        lacks = merged["TARGETID"] == -1  # no target, so none that is there twice
        assert lacks.sum() == 2
        for name in ("TARGET_RA", "TARGET_DEC"):
            np.testing.assert_array_equal(np.isnan(merged[name]), lacks)


# What does not fit.


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["--c-thresh", "0.7"], r"C_THRESH .*0\.7.*0\.5"),
        (["--n-thresh", "2"], r"N_THRESH .*2.*1"),
        (["--use-mask"], r"USEMASK .*True.*False"),
        (["--dtype", "float64"], r"QNDTYPE .*float64.*float32"),
        (["--coadd"], r"QNCOADD .*True.*False"),
        (["-m", "{other}"], r"QNSHA256 .*[0-9a-f]{64}.*[0-9a-f]{64}"),
    ],
    ids=["c_thresh", "n_thresh", "use_mask", "dtype", "coadd", "weights"],
)
def test_tables_of_other_settings_are_refused(
    run: Run,
    tables: list[Path],
    inputs: Path,
    here: Path,
    data: Path,
    option: list[str],
    reason: str,
) -> None:
    other = data / "keras" / "valid.h5"
    filled = [part.format(other=other) for part in option]
    path = write_hdus(inputs / "coadd-9.fits", coadd_hdus(2, mask="i4"))
    assert run("classify", path, "-o", "other.fits", *filled)[0] == 0
    status, out, err = run("merge", "all.fits", tables[0], "other.fits")
    assert (status, out) == (1, "")
    assert err.startswith("qnp-xp: error: other.fits: ")
    assert re.search(rf"{reason}.* in {tables[0]}$", err)
    assert names(here) == ["other.fits", "qn"]


def edited(path: Path, target: Path, change: Any) -> Path:
    """A copy of a table after a change of its columns."""
    table, header = fitsio.read(str(path), ext="QN", header=True)
    header.clean()
    with fitsio.FITS(str(target), "rw") as f:
        f.write(change(table), extname="QN", header=header)
    return target


def test_tables_of_other_columns_are_refused(
    run: Run, tables: list[Path], here: Path
) -> None:
    without = edited(
        tables[1],
        here / "without.fits",
        lambda t: t[[name for name in t.dtype.names if name != "C_BAL_CIV"]],
    )
    status, _, err = run("merge", "all.fits", tables[0], without)
    assert status == 1
    assert f"{without}: has no column C_BAL_CIV, and others have" in err
    double = edited(
        tables[1],
        here / "double.fits",
        lambda t: t.astype(
            [(n, "f8" if n == "Z_QN" else t.dtype[n]) for n in t.dtype.names]
        ),
    )
    status, _, err = run("merge", "all.fits", tables[0], double)
    assert status == 1
    assert f"{double}: Z_QN is float64, and float32 in others" in err
    assert "all.fits" not in names(here)


def test_what_is_no_table_is_refused(
    run: Run, tables: list[Path], inputs: Path, here: Path
) -> None:
    coadd, cut = inputs / "coadd-0.fits", here / "cut.fits"
    cut.write_bytes(tables[0].read_bytes()[:6000])
    other = write_hdus(here / "other.fits", {"QN": np.zeros(2, dtype=[("A", "i4")])})
    for path, reason in (
        (coadd, "holds no table of qnp-xp classify"),
        (cut, "cut short"),
        (other, "lacks columns of a table of qnp-xp classify"),
        (here / "absent.fits", "No such file"),
    ):
        status, out, err = run("merge", "all.fits", tables[0], path)
        assert (status, out) == (1, "")
        assert str(path) in err
        assert reason in err
    assert "all.fits" not in names(here)


def test_catalogues_replace_nothing_unasked(
    run: Run, tables: list[Path], here: Path
) -> None:
    (here / "all.fits").write_text("mine")
    status, _, err = run("merge", "all.fits", *tables)
    assert status == 1
    assert "all.fits exists; replace it with --overwrite" in err
    assert (here / "all.fits").read_text() == "mine"
    assert run("merge", "all.fits", *tables, "--overwrite")[0] == 0
    assert rows(here / "all.fits").size == 9
    status, _, err = run("merge", "all.fits", "all.fits", "--overwrite")
    assert status == 1
    assert "all.fits is an input and cannot be the output" in err
    assert rows(here / "all.fits").size == 9
    assert run("merge", "all.fits", *tables[:2], "--overwrite")[0] == 0
    assert rows(here / "all.fits").size == 5


@pytest.mark.parametrize("options", [[], ["--overwrite"]], ids=["plain", "overwrite"])
def test_what_classify_wrote_is_never_replaced(
    run: Run, tables: list[Path], inputs: Path, here: Path, options: list[str]
) -> None:
    command = ["classify", inputs / "coadd-0.fits", "-o", "other.fits"]
    assert run(*command, "--summary", "summary")[0] == 0
    (here / "link.fits").symlink_to(tables[0])
    for output in (tables[0], "link.fits", "summary.fits"):
        before = Path(output).read_bytes()
        status, out, err = run("merge", output, *tables[1:], *options)
        assert (status, out) == (1, "")
        assert f"{output}: written by classify, and never replaced" in err
        assert Path(output).read_bytes() == before


def test_the_list_of_tables_is_never_replaced(
    run: Run, tables: list[Path], here: Path
) -> None:
    (here / "list").write_text("\n".join(map(str, tables)))
    status, _, err = run("merge", "list", "@list", "--overwrite")
    assert status == 1
    assert "list is an input" in err
    assert (here / "list").read_text().startswith(str(tables[0]))


@pytest.mark.parametrize("options", [[], ["--duplicates", "keep"]])
def test_a_table_that_is_named_twice_is_taken_once(
    run: Run, tables: list[Path], here: Path, options: list[str]
) -> None:
    (here / "link.fits").symlink_to(tables[1])
    again = [here / "qn" / ".." / "qn" / tables[0].name, "link.fits", tables[0]]
    status, out, _ = run("merge", "all.fits", *tables[:2], *again, *options)
    assert status == 0
    assert out.startswith("2 tables, 5 rows, ")
    assert inputs_of(here / "all.fits") == ["coadd-0.fits"] * 3 + ["coadd-1.fits"] * 2


@pytest.mark.parametrize(
    ("lines", "bal", "reason"),
    [
        ("Halpha,Hbeta", "CIV(1548)", r"QNLINE04 .* is Halpha, and Hbeta in"),
        ("Hbeta,Halpha", "CIV(1551)", r"QNBAL00 .* is CIV\(1551\), and CIV\(1548\) in"),
        ("Hbeta,Halpha,LYB", "", r"QNLINE06 .* is LYB, and None in"),
    ],
    ids=["another order", "another line of one name", "one more"],
)
def test_tables_of_other_lines_are_refused(
    run: Run, tables: list[Path], inputs: Path, lines: str, bal: str, reason: str
) -> None:
    names_of = f"LYA,CIV(1548),CIII(1909),MgII(2796),{lines}"
    command = ["classify", inputs / "coadd-0.fits", "-o", "other.fits"]
    assert run(*command, "--lines", names_of, "--lines-bal", bal)[0] == 0
    status, out, err = run("merge", "all.fits", tables[1], "other.fits")
    assert (status, out) == (1, "")
    assert re.search(rf"other\.fits: {reason} {tables[1]}", err)
    status, out, err = run("merge", "all.fits", "other.fits", tables[1])
    assert (status, out) == (1, "")
    assert f"{tables[1]}: QN" in err


def test_a_catalogue_is_no_table_of_the_one_file_in_it(
    run: Run, tables: list[Path], inputs: Path, here: Path
) -> None:
    assert run("merge", "all.fits", tables[0])[0] == 0
    before = (here / "all.fits").read_bytes()
    command = ["classify", inputs / "coadd-0.fits", "-o", "all.fits", "--resume"]
    status, out, err = run(*command)
    assert (status, out) == (1, "")
    assert "all.fits exists, and classify did not write it" in err
    assert (here / "all.fits").read_bytes() == before


def test_the_summary_of_a_run_that_a_wildcard_caught_is_skipped(
    run: Run, tables: list[Path], inputs: Path, here: Path
) -> None:
    summary = here / "out" / "qn-summary"
    command = ["classify", inputs / "coadd-0.fits", "--outdir", summary.parent]
    assert run(*command, "--summary", summary)[0] == 0
    status, out, err = run("merge", "all.fits", *sorted(summary.parent.glob("*.fits")))
    fits = summary.with_suffix(".fits")
    assert (status, err) == (0, f"qnp-xp: skipped: {fits}: sums up a run\n")
    assert out.startswith("1 table, 3 rows, ")
    assert inputs_of(here / "all.fits") == ["coadd-0.fits"] * 3
    status, out, err = run("merge", "none.fits", fits)
    assert (status, out) == (1, "")
    assert err.endswith("qnp-xp: error: no table to merge\n")
    assert "none.fits" not in names(here)


# Targets that are in several rows.


def test_duplicates_are_an_error_that_names_them(
    run: Run, tables: list[Path], inputs: Path, here: Path
) -> None:
    again = write_coadd(inputs / "coadd-again.fits", 2)
    assert run("classify", again)[0] == 0
    status, out, err = run("merge", "all.fits", *tables, "qn-again.fits")
    assert (status, out) == (1, "")
    assert "2 TARGETIDs are in several rows" in err
    assert f"{TARGETID} (coadd-0.fits, coadd-again.fits), {TARGETID + 1} (" in err
    assert "--duplicates keep" in err
    assert "all.fits" not in names(here)
    command = ["merge", "all.fits", *tables, "qn-again.fits", "--duplicates", "keep"]
    assert run(*command)[0] == 0
    assert rows(here / "all.fits").size == 11


def test_the_best_of_duplicates_is_the_most_confident(
    run: Run, tables: list[Path], inputs: Path, here: Path
) -> None:
    hdus = coadd_hdus(3, seed=9)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][1] = 0  # this one has no confidence
    write_hdus(inputs / "coadd-again.fits", hdus)
    assert run("classify", inputs / "coadd-again.fits")[0] == 0
    first, again = rows(tables[0]), rows(here / "qn-again.fits")
    better = first["Z_QN_CONF"] >= again["Z_QN_CONF"]
    assert not better[1]
    better[1] = True
    expected = ["coadd-0.fits" if b else "coadd-again.fits" for b in better]
    for order in ([tables[0], "qn-again.fits"], ["qn-again.fits", tables[0]]):
        command = ["merge", "all.fits", *order, "--duplicates", "best", "--overwrite"]
        status, out, _ = run(*command)
        assert status == 0
        assert ", 3 duplicates left out -> all.fits" in out
        merged = rows(here / "all.fits")
        by_target = np.argsort(merged["TARGETID"])
        np.testing.assert_array_equal(merged["TARGETID"][by_target], first["TARGETID"])
        found = np.array(inputs_of(here / "all.fits"))[by_target].tolist()
        assert found == expected


def test_the_first_of_equals_is_kept_and_rows_stay_in_order() -> None:
    table = np.zeros(
        8, dtype=[("TARGETID", "i8"), ("Z_QN_CONF", "f4"), ("QNINPUT", "S1")]
    )
    table["TARGETID"] = [7, -1, 5, 7, 5, -1, 3, 3]
    table["Z_QN_CONF"] = [0.5, 0.1, np.nan, 0.5, 0.0, 0.1, np.nan, np.nan]
    table["QNINPUT"] = list("abcdefgh")
    kept = without_duplicates(table, "best")
    assert kept["QNINPUT"].astype(str).tolist() == ["a", "b", "e", "f", "g"]
    every = without_duplicates(table, "keep")
    np.testing.assert_array_equal(every["QNINPUT"], table["QNINPUT"])
    with pytest.raises(ValueError, match=r"3 TARGETIDs .*: 3 \(g, h\), 5 \(c, e\)"):
        without_duplicates(table, None)


# Tables that others have written again.


def write_again(
    path: Path, change: dict[str, tuple[Any, ...]], spelling: Callable[[str], str] = str
) -> Path:
    """Write a table with other types of some columns, and other spelling of all."""
    table, header = fitsio.read(path, ext="QN", header=True)
    table = table.astype(table.dtype.newbyteorder("="))
    names_of = table.dtype.names
    types = {**{name: (table.dtype[name],) for name in names_of}, **change}
    new = np.zeros(table.size, [(spelling(name), *types[name]) for name in names_of])
    for name in names_of:
        values = new[spelling(name)]
        values[...] = table[name] if values.ndim == 1 else table[name][:, None]
    path.unlink()
    fitsio.write(path, new, extname="QN", header=header)
    return path


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("TARGETID", ("f8",)),
        ("TARGETID", ("i8", (2,))),
        ("Z_QN_CONF", ("S9",)),
        ("IS_QSO_QN", ("S2",)),
        ("Z_QN", ("f4", (3,))),
        ("C_LYA", ("S9",)),
    ],
)
@pytest.mark.parametrize("duplicates", [[], ["--duplicates", "keep"]])
def test_a_column_of_another_kind_is_named(
    run: Run,
    tables: list[Path],
    here: Path,
    column: str,
    kind: tuple[Any, ...],
    duplicates: list[str],
) -> None:
    write_again(tables[0], {column: kind})
    status, _, err = run("merge", "all.fits", *tables, *duplicates)
    assert status == 1
    assert re.search(rf"qn-0\.fits\[QN\]: column {column} has ", err)
    assert not (here / "all.fits").exists()


def test_targetids_of_few_bits_are_compared_as_integers(
    run: Run, tables: list[Path], here: Path
) -> None:
    expected = [3, 1, 2]
    with fitsio.FITS(str(tables[0]), "rw") as f:
        f["QN"].write_column("TARGETID", np.array(expected))
    write_again(tables[0], {"TARGETID": ("i4",)})
    assert run("merge", "all.fits", *tables)[0] == 0
    merged = rows(here / "all.fits")["TARGETID"]
    assert merged.dtype.kind == "i"
    assert merged[:3].tolist() == expected


def test_names_of_columns_may_be_in_lower_case(
    run: Run, tables: list[Path], here: Path
) -> None:
    before, _ = read_catalog(tables[0])
    after, _ = read_catalog(write_again(tables[0], {}, str.lower))
    np.testing.assert_array_equal(after, before)
    assert after.dtype == before.dtype
    assert run("merge", "all.fits", *tables)[0] == 0
    assert rows(here / "all.fits").size == 9


@pytest.mark.parametrize("copy", [shutil.copy, os.link])
def test_copies_of_spectra_without_targetid_are_refused(
    run: Run, inputs: Path, here: Path, copy: Callable[[Path, Path], Any]
) -> None:
    bare = write_coadd(inputs / "coadd-bare.fits", 2, fibermap=False)
    assert run("classify", bare)[0] == 0
    copy(here / "qn-bare.fits", here / "copy.fits")
    files = ["qn-bare.fits", "copy.fits"]
    for option in ([], ["--duplicates", "best"]):
        status, _, err = run("merge", "all.fits", *files, *option)
        assert status == 1
        assert "qn-bare.fits and copy.fits: of the same spectra" in err
    assert run("merge", "all.fits", *files, "--duplicates", "keep")[0] == 0
    assert rows(here / "all.fits").size == 4


def test_the_hash_of_rows_is_not_that_of_a_table_that_was_merged(
    run: Run, tables: list[Path], here: Path
) -> None:
    assert run("merge", "one.fits", tables[0])[0] == 0
    hashes = [
        fitsio.read_header(path, ext="QN")["QNHASH"]
        for path in (tables[0], here / "one.fits")
    ]
    assert hashes[0] != hashes[1]
    assert run("merge", "all.fits", *tables[1:], "one.fits")[0] == 0
