"""One table of many files: rows, what is lacking, resuming, and the forms of tables."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import TARGETID, Run, gzipped, names, write_coadd

from qnp_xp import SpectraError, classify
from qnp_xp.batch import jobs, joined
from qnp_xp.errors import MissingLibraryError
from qnp_xp.io.tables import read_catalog
from qnp_xp.model import QuasarNP


@pytest.fixture
def coadds(inputs: Path) -> list[Path]:
    return [write_coadd(inputs / f"coadd-{i}.fits", 3 - i, seed=i) for i in range(3)]


@pytest.fixture
def bad(inputs: Path, coadds: list[Path]) -> Path:
    path = inputs / "coadd-bad.fits"
    path.write_bytes(coadds[0].read_bytes()[:20000])
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are classified."""
    found: list[str] = []
    original = jobs.classify_file

    def noted(files: Any, *args: Any, **settings: Any) -> Any:
        found.append(files[0].name)
        return original(files, *args, **settings)

    monkeypatch.setattr(jobs, "classify_file", noted)
    return found


def rows(path: str | Path) -> np.ndarray:
    return read_catalog(path)[0]


def column(table: np.ndarray, name: str) -> list[str]:
    return np.asarray(table[name]).astype(str).tolist()


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two tables have the same values in the columns of the second."""
    for name in expected.dtype.names:
        values, wanted = found[name], expected[name]
        if wanted.dtype.kind in "SU":  # whichever fitsio makes of them
            values, wanted = values.astype("S"), wanted.astype("S")
        numbers = wanted.dtype.kind == "f"
        if not np.array_equal(values, wanted, equal_nan=numbers):
            return False
    return True


def interrupted_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Interrupt the run at a file."""
    original = jobs.classify_file

    def stop(files: Any, *args: Any, **settings: Any) -> Any:
        if files[0].name == name:
            raise KeyboardInterrupt
        return original(files, *args, **settings)

    monkeypatch.setattr(jobs, "classify_file", stop)


# One table.


@pytest.mark.parametrize("more", [(), ("--nproc", 2)], ids=["one process", "two"])
def test_the_rows_of_all_files_are_in_one_table_in_their_order(
    run: Run, coadds: list[Path], here: Path, model: QuasarNP, more: tuple[Any, ...]
) -> None:
    # The largest, which other processes begin with, is the last.
    status, out, err = run("classify", *coadds[::-1], "-o", "all.fits", *more)
    assert (status, err) == (0, "")
    assert names(here) == ["all.fits"]
    assert "all.fits" not in out
    table, header = read_catalog("all.fits")
    assert same(table, np.concatenate([classify(path, model) for path in coadds[::-1]]))
    files = ["coadd-2.fits", *["coadd-1.fits"] * 2, *["coadd-0.fits"] * 3]
    assert column(table, "QNINPUT") == files
    counts = [header[key][0] for key in ("QNFILES", "QNFAIL", "QNSKIP")]
    assert counts == [3, 0, 0]
    inputs = fitsio.read("all.fits", ext="INPUTS")
    assert column(inputs, "NAME") == [str(path) for path in coadds[::-1]]
    assert inputs["ROWS"].tolist() == [1, 2, 3]
    quasars = f"{table['IS_QSO_QN'].sum()} quasar"
    assert run.closing.startswith(f"3 files, 6 rows, {quasars}")
    assert "0 failed, 0 skipped" in run.closing
    assert run.closing.endswith(" s -> all.fits\n")


def test_a_list_in_python_is_one_table_as_well(
    run: Run, coadds: list[Path], here: Path, weights: Path
) -> None:
    assert run("classify", *coadds, "-o", "all.fits")[0] == 0
    table = classify([*map(str, coadds)], output="python.fits")
    assert same(table, rows("all.fits"))
    assert Path("python.fits").read_bytes() == Path("all.fits").read_bytes()


@pytest.mark.parametrize("more", [(), ("--nproc", 2)], ids=["one process", "two"])
def test_a_bad_file_loses_no_other_and_the_header_names_it(
    run: Run, coadds: list[Path], bad: Path, here: Path, more: tuple[Any, ...]
) -> None:
    status, _, err = run("classify", bad, *coadds, "-o", "all.fits", "-q", *more)
    assert status == 1
    assert f"qnp-xp: error: {bad}: " in err
    assert "1 failed (coadd-bad.fits)" in run.closing
    table, header = read_catalog("all.fits")
    assert table.size == 6
    assert header["QNFAIL"][0] == 1
    assert header["QNBAD00"][0] == "coadd-bad.fits"
    inputs = fitsio.read("all.fits", ext="INPUTS")
    assert column(inputs, "STATE") == ["failed", "done", "done", "done"]
    assert "cut short" in column(inputs, "MESSAGE")[0]


def test_a_bad_file_of_a_list_in_python_is_logged(
    coadds: list[Path], bad: Path, model: QuasarNP, caplog: pytest.LogCaptureFixture
) -> None:
    table = classify([bad, *coadds], model)
    assert table.size == 6
    reason, last = caplog.messages
    assert reason.startswith(f"failed: {bad}")
    assert last == "1 of 4 files are not in the table"
    with pytest.raises(SpectraError, match=bad.name):
        classify([bad, bad.with_name("none.fits")], model)


def test_where_all_fail_there_is_no_table(run: Run, bad: Path, here: Path) -> None:
    status, _, err = run("classify", bad, bad.with_name("none"), "-o", "all.fits")
    assert status == 1
    assert "2 of 2 inputs failed" in err
    assert run.closing.startswith("2 files, 0 rows, 0 quasars, 2 failed (")
    assert "->" not in run.closing
    assert names(here) == []


def test_files_that_share_a_name_are_named_with_their_folders(
    inputs: Path, model: QuasarNP
) -> None:
    paths = [inputs / folder / "coadd.fits" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        write_coadd(path, 1)
    paths.append(write_coadd(inputs / "other.fits", 1))
    found = column(classify(paths, model), "QNINPUT")
    assert found == [str(paths[0]), str(paths[1]), "other.fits"]


def test_rows_and_targets_are_those_of_each_file(
    run: Run, coadds: list[Path], here: Path, model: QuasarNP
) -> None:
    assert classify(coadds[:2], model, rows=[1])["TARGETID"].tolist() == [
        *(TARGETID + 1, TARGETID + 1)
    ]
    targets = [TARGETID + 2]
    assert column(classify(coadds, model, targetids=targets), "QNINPUT") == [
        "coadd-0.fits"
    ]
    # In any order, and behind another option.
    status, *_ = run(
        *("classify", "--targetid", targets[0], coadds[0], "-o", "one.fits"),
        *(coadds[1], "--overwrite", coadds[2]),
    )
    assert status == 0
    assert rows("one.fits")["TARGETID"].tolist() == targets
    status, _, err = run("classify", *coadds, "-o", "none.fits", "--targetids", 9, 8)
    assert status == 1
    assert "2 TARGETIDs are in no file" in err
    assert rows("none.fits").size == 0


def test_a_merged_table_of_joined_ones_says_nothing_of_their_runs(
    run: Run, coadds: list[Path], bad: Path, here: Path
) -> None:
    assert run("classify", *coadds[:2], bad, "-o", "a.fits")[0] == 1
    assert run("classify", coadds[2], bad, "-o", "b.fits")[0] == 1
    assert run("merge", "m.fits", "a.fits", "b.fits", "--duplicates", "keep")[0] == 0
    table, header = read_catalog("m.fits")
    assert column(table, "QNINPUT")[-2:] == ["coadd-1.fits", "coadd-2.fits"]
    assert not {"QNFILES", "QNFAIL", "QNBAD00"} & set(header)


def test_what_is_done_is_kept_now_and_then(
    run: Run, coadds: list[Path], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "_PAUSE", 0.0)
    monkeypatch.setattr(joined, "_SHARE", 1e9)
    found: list[list[str]] = []
    original = jobs.classify_file

    def noted(*args: Any, **settings: Any) -> Any:
        found.append(names(here))
        return original(*args, **settings)

    monkeypatch.setattr(jobs, "classify_file", noted)
    assert run("classify", *coadds, "-o", "all.fits")[0] == 0
    assert found == [[], [".all.fits.so-far"], [".all.fits.so-far"]]
    assert names(here) == ["all.fits"]


# Resuming.


def test_after_an_interrupt_resuming_goes_on(
    run: Run,
    coadds: list[Path],
    here: Path,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["classify", *coadds, "-o", "all.fits"]
    with monkeypatch.context() as patch:
        interrupted_at(patch, "coadd-2.fits")
        status, _, err = run(*command)
    assert (status, err) == (130, "qnp-xp: error: interrupted\n")
    assert run.closing.startswith("2 of 3 files, 5 rows, ")
    assert run.closing.endswith("; the same with --resume goes on\n")
    assert names(here) == [".all.fits.so-far"]
    asked.clear()
    status, _, err = run(*command, "--resume")
    assert (status, err) == (0, "")
    assert asked == ["coadd-2.fits"]
    assert run.closing.startswith("3 files, 6 rows, ")
    assert "2 kept" in run.closing
    assert names(here) == ["all.fits"]
    assert run("classify", *coadds, "-o", "anew.fits")[0] == 0
    assert Path("all.fits").read_bytes() == Path("anew.fits").read_bytes()


def test_resuming_does_what_failed_or_was_changed_or_is_new(
    run: Run, coadds: list[Path], bad: Path, here: Path, asked: list[str]
) -> None:
    command = ["classify", bad, *coadds[:2], "-o", "all.fits"]
    assert run(*command)[0] == 1
    write_coadd(bad, 2, seed=7)
    os.utime(coadds[1])
    asked.clear()
    assert run(*command, coadds[2], "--resume")[0] == 0
    assert sorted(asked) == ["coadd-1.fits", "coadd-2.fits", "coadd-bad.fits"]
    table, header = read_catalog("all.fits")
    assert column(table, "QNINPUT")[::2] == [
        *("coadd-bad.fits", "coadd-0.fits", "coadd-0.fits", "coadd-1.fits")
    ]
    assert (header["QNFAIL"][0], header.get("QNBAD00")) == (0, None)
    # Other settings make all of it anew.
    asked.clear()
    assert run(*command, "--resume", "--c-thresh", 0.9)[0] == 0
    assert len(asked) == 3


def test_resuming_without_a_file_says_that_its_rows_are_left_out(
    run: Run, coadds: list[Path], here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("classify", *coadds, "-o", "all.fits")[0] == 0
    moved = coadds[0].rename(coadds[0].with_name("coadd-moved.fits"))
    assert run("classify", moved, coadds[2], "-o", "all.fits", "--resume")[0] == 0
    assert caplog.messages == [
        "all.fits: rows of 2 files are left out, as these are not named now: "
        f"{coadds[0]}, {coadds[1]}"
    ]
    table, _ = read_catalog("all.fits")
    assert set(column(table, "QNINPUT")) == {"coadd-moved.fits", "coadd-2.fits"}


def test_an_interrupted_run_without_rows_says_that_there_is_no_table(
    run: Run, coadds: list[Path], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_at(monkeypatch, "coadd-0.fits")
    assert run("classify", *coadds, "-o", "all.fits")[0] == 130
    assert run.closing.endswith("; there is no table\n")
    assert names(here) == []


def test_an_interrupted_run_with_a_table_a_file_can_be_resumed(
    run: Run, coadds: list[Path], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_at(monkeypatch, "coadd-1.fits")
    assert run("classify", *coadds, "--overwrite", "-q")[0] == 130
    assert run.closing.startswith("1 of 3 files, 3 rows, ")
    how = "; the same with --resume instead of --overwrite goes on\n"
    assert run.closing.endswith(how)


# What cannot be written.


REFUSED = {
    "no ending": (["-o", "all"], "tables end in .fits, .csv or .ecsv"),
    "another ending": (["-o", "all.txt"], "all.txt: tables end in"),
    "packed parquet": (["-o", "all.parquet.gz"], "or .parquet"),
    "priors": (["-o", "all.fits", "--priors", "p"], "--priors needs a table for each"),
    "resumed csv": (["-o", "all.csv", "--resume"], "--resume needs a table that ends"),
    "no folder": (["-o", "no/all.fits"], "no: no such folder"),
    "what is there": (["-o", "old.fits"], "old.fits exists"),
    "a text": (["-o", "old.fits", "--overwrite"], "classify did not write it"),
    "a text, resumed": (["-o", "old.fits", "--resume"], "classify did not write it"),
    "a csv": (["-o", "old.csv", "--overwrite"], "classify did not write it"),
    "a merged table": (["-o", "merged.fits", "--overwrite"], "did not write it"),
    "the same, resumed": (["-o", "merged.fits", "--resume"], "did not write it"),
    "an input": (["-o", "{coadd}", "--overwrite"], "is an input"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_output_is_refused_before_any_work(
    run: Run, coadds: list[Path], here: Path, asked: list[str], case: str
) -> None:
    (here / "old.fits").write_text("mine")
    (here / "old.csv").write_text("TARGETID,Z\n1,2\n")
    assert run("classify", coadds[0], "-o", "qn.fits")[0] == 0
    assert run("merge", "merged.fits", "qn.fits")[0] == 0
    before = {path: path.read_bytes() for path in [*here.iterdir(), *coadds]}
    asked.clear()
    arguments, reason = REFUSED[case]
    filled = [argument.format(coadd=coadds[1]) for argument in arguments]
    status, out, err = run("classify", *coadds, *filled)
    assert (status, out, run.closing, asked) == (1, "", "", [])
    assert reason in err
    assert before == {path: path.read_bytes() for path in [*here.iterdir(), *coadds]}


@pytest.mark.parametrize("ending", ["fits", "fits.gz", "csv", "csv.gz", "ecsv"])
def test_own_tables_are_replaced_where_that_is_asked_for_and_links_stay(
    run: Run, coadds: list[Path], here: Path, ending: str
) -> None:
    (here / "folder").mkdir()
    link = here / f"link.{ending}"
    link.symlink_to(f"folder/all.{ending}")
    assert run("classify", *coadds, "-o", link)[0] == 0
    first = link.read_bytes()
    assert run("classify", *coadds[:2], "-o", link)[0] == 1
    assert link.read_bytes() == first
    assert run("classify", *coadds[:2], "-o", link, "--overwrite")[0] == 0
    assert link.is_symlink()
    assert link.read_bytes() != first
    assert names(here / "folder") == [f"all.{ending}"]


def test_python_refuses_an_unknown_ending_before_any_work(
    coadds: list[Path], weights: Path, here: Path
) -> None:
    with pytest.raises(ValueError, match=r"x\.txt: tables end in"):
        classify([Path("missing")], weights, output="x.txt")
    (here / "mine.fits").write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine\.fits"):
        classify(coadds, weights, output="mine.fits", overwrite=True)


# Forms.


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "ecsv"])
def test_texts_hold_every_digit(
    run: Run, coadds: list[Path], here: Path, ending: str
) -> None:
    for name in ("all.fits", f"all.{ending}"):
        assert run("classify", *coadds, "-o", name, "--rows", "0")[0] == 0
    table = rows("all.fits")
    content = Path(f"all.{ending}").read_bytes()
    text = (gzip.decompress(content) if ending == "csv.gz" else content).decode()
    about = [line for line in text.splitlines() if line.startswith("#")]
    found = list(
        csv.DictReader(io.StringIO("\n".join(text.splitlines()[len(about) :])))
    )
    assert list(found[0]) == list(table.dtype.names)
    for name in table.dtype.names:
        values = np.asarray([row[name] for row in found])
        assert np.array_equal(values.astype(table.dtype[name]), table[name]), name
    if ending == "ecsv":
        assert about[:4] == ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
        facts = [json.loads(line[4:]) for line in about if line.startswith("# - {")]
        kinds = {x["name"]: x["datatype"] for x in facts if "datatype" in x}
        assert list(kinds) == list(table.dtype.names)
        assert (kinds["TARGETID"], kinds["QNINPUT"]) == ("int64", "string")
        header = {k: v for x in facts if "datatype" not in x for k, v in x.items()}
        assert (header["QNFILES"], header["QNBIT00"]) == (3, "NO_GOOD_PIXEL")
        assert {x["name"] for x in facts if x.get("unit") == "deg"} == {
            *("TARGET_RA", "TARGET_DEC")
        }


@pytest.mark.parametrize(("ending", "missing"), [("csv", ""), ("ecsv", "nan")])
def test_rows_without_a_result_are_empty_or_nan(
    inputs: Path, model: QuasarNP, here: Path, ending: str, missing: str
) -> None:
    wave = np.arange(3600.0, 9800.0, 2.0)
    classify((wave, wave, 0 * wave), model, output=f"x.{ending}")
    text = Path(f"x.{ending}").read_text()
    lines = [line.split(",") for line in text.splitlines() if line[0] != "#"]
    found = dict(zip(*lines, strict=True))
    assert (found["TARGETID"], found["Z_QN"]) == ("-1", missing)


def test_ecsv_is_read_by_astropy(
    coadds: list[Path], model: QuasarNP, here: Path
) -> None:
    astropy = pytest.importorskip("astropy.table", reason="astropy is not installed")
    table = classify(coadds, model, output="x.ecsv")
    found = astropy.Table.read("x.ecsv")
    assert found.colnames == list(table.dtype.names)
    assert same(np.asarray(found.as_array()), table[[*table.dtype.names[:-1]]])
    assert found["TARGET_RA"].unit == "deg"
    assert found.meta["QNFILES"] == 3


def test_parquet_holds_columns_units_and_header(
    coadds: list[Path], model: QuasarNP, here: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = classify(coadds, model, output="x.parquet")
    found = parquet.read_table("x.parquet")
    for name in table.dtype.names:
        values = found[name].to_numpy()
        kind = table.dtype[name]
        equal_nan = kind.kind == "f"
        assert np.array_equal(values.astype(kind), table[name], equal_nan=equal_nan)
    assert json.loads(found.schema.metadata[b"QNFILES"]) == 3
    assert found.schema.field("TARGET_RA").metadata[b"unit"] == b"deg"
    # It is replaced as any other.
    classify(coadds[:2], model, output="x.parquet", overwrite=True)
    assert parquet.read_table("x.parquet").num_rows == 5


def test_without_pyarrow_parquet_is_refused_before_any_work(
    run: Run,
    coadds: list[Path],
    here: Path,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = run("classify", *coadds, "-o", "all.parquet")
    assert (status, asked) == (1, [])
    assert "'.[parquet]'" in err
    with pytest.raises(MissingLibraryError, match="pyarrow"):
        classify(coadds, output="x.parquet")


# What is said.


def test_the_bundled_network_is_mentioned_once_in_a_short_line(
    coadds: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("QN_MODEL_FILE", raising=False)
    classify(coadds)
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "bundled network" in warned[0]
    assert len(warned[0]) < 100


def test_a_terminal_has_broad_absorption_and_the_reasons(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gzipped(write_coadd(inputs / "coadd-0.fits", 4, arms="BR"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status, out, _ = run("classify", path, "--c-thresh", 0)
    assert status == 0
    table = rows("qn-0.fits")
    listed = out.splitlines()[2:]
    for row, line in zip(table, listed, strict=False):
        assert f" {row['C_BAL_CIV']:.2f}  LYA " in line
        assert line.endswith(" (arm missing)")
    assert listed[-1] == "  QN_STATUS: 4 scored (arm missing)"
