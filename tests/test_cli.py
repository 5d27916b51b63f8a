"""The command ``qnp-xp``: what it writes, what it says, and how it exits."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fitsio
import h5py
import numpy as np
import pytest
from helpers import (
    NUMPY_STANDS_IN,
    TARGETID,
    Run,
    coadd_hdus,
    gzipped,
    names,
    split_closing,
    write_coadd,
    write_hdus,
)

import qnp_xp
from qnp_xp import classify, load_model
from qnp_xp._data import EMBEDDED_NETWORK
from qnp_xp._printing import LogHandler
from qnp_xp.batch import jobs
from qnp_xp.grids import linear_wave, wave

#: A confidence at which the small network calls some spectra quasars, and some not.
SOME = ("--c-thresh", "0.9")


def rows(path: Path, hdu: str = "QN") -> np.ndarray:
    return np.asarray(fitsio.read(str(path), ext=hdu))


def assert_holds(path: Path, table: np.ndarray) -> None:
    """Whether a file holds a table as `classify` returns it."""
    written = rows(path)
    for name in table.dtype.names or ():
        np.testing.assert_array_equal(written[name], table[name], err_msg=name)


# The command as it is installed.


def test_the_installed_command_classifies(
    inputs: Path, here: Path, weights: Path
) -> None:
    command = Path(sys.executable).with_name("qnp-xp")
    coadd = write_coadd(inputs / "coadd-0-1.fits", 3)
    done = subprocess.run(
        [command, "classify", coadd, "-m", weights],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("coadd-0-1.fits: 3 rows, 3 scored, ")
    assert names(here) == ["qn-0-1.fits"]
    assert_holds(here / "qn-0-1.fits", classify(coadd, weights))


def test_the_installed_command_warns_on_stderr_unless_it_is_to_be_quiet(
    inputs: Path, here: Path, data: Path
) -> None:
    command = Path(sys.executable).with_name("qnp-xp")
    coadd = write_coadd(inputs / "coadd-0-1.fits", 1, arms="BR")
    arguments = [command, "classify", coadd, "--overwrite"]
    arguments += ["-m", data / "keras" / "valid.h5"]
    loud, quiet = (
        subprocess.run([*arguments, *more], capture_output=True, text=True, check=True)
        for more in ((), ("-q",))
    )
    grid, arm = loud.stderr.splitlines()
    assert grid.startswith("qnp-xp: WARNING: ")
    assert "valid.h5 has no model_grid" in grid
    assert arm == f"qnp-xp: WARNING: {coadd}: no arm Z"
    assert quiet.stderr == ""
    assert split_closing(quiet.stdout)[0] == ""


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"qnp-xp {qnp_xp.__version__}\n", "")


@pytest.mark.parametrize("command", [[], ["classify"], ["merge"], ["embed-grid"]])
def test_too_few_arguments_are_said_to_be_missing(run: Run, command: list[str]) -> None:
    status, out, err = run(*command)
    assert (status, out) == (2, "")
    assert "the following arguments are required" in err


COMMANDS = ["classify", "merge", "plot", "validate", "demo", "benchmark", "info"]
COMMANDS += ["inspect", "train", "convert", "embed-grid"]

_WITHOUT_NUMPY = """
import sys
sys.modules.update(dict.fromkeys(["numpy", "fitsio", "h5py"]))
from qnp_xp.cli import main
sys.exit(main(sys.argv[1:]))
"""


@NUMPY_STANDS_IN
@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["clasify"], 2),
        *(([name, "--help"], 0) for name in COMMANDS),
        *(([name, "--outptu"], 2) for name in COMMANDS),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else None,
)
def test_help_and_mistakes_need_no_numpy(options: list[str], status: int) -> None:
    command = [sys.executable, "-c", _WITHOUT_NUMPY, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)


def test_help_names_every_command(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for command in COMMANDS:
        assert f"\n    {command}" in out
        assert run(command, "--help")[0] == 0


# Several files, and their outputs.


def test_a_damaged_file_keeps_no_other_from_being_classified(
    run: Run, inputs: Path, here: Path, weights: Path
) -> None:
    good = [write_coadd(inputs / f"coadd-{i}.fits", 3, seed=i) for i in range(2)]
    bad = inputs / "coadd-bad.fits"
    bad.write_bytes(good[0].read_bytes()[:20000])
    status, out, err = run("classify", good[0], bad, good[1])
    assert status == 1
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "coadd-0.fits",
        "coadd-1.fits",
    ]
    reason, summary = err.splitlines()
    assert reason.startswith(f"qnp-xp: error: {bad}")
    assert summary == "qnp-xp: error: 1 of 3 inputs failed"
    assert names(here) == ["qn-0.fits", "qn-1.fits"]
    for number, path in enumerate(good):
        assert_holds(here / f"qn-{number}.fits", classify(path, weights))


@pytest.mark.parametrize(
    "content", [None, b"", b"hello\n" * 999, b"SIMPLE  =                    T"]
)
def test_what_is_no_spectra_file_is_named_with_the_reason(
    run: Run, inputs: Path, here: Path, content: bytes | None
) -> None:
    path = inputs / "coadd-bad.fits"
    if content is not None:
        path.write_bytes(content)
    status, out, err = run("classify", path)
    assert (status, out) == (1, "")
    assert str(path) in err.splitlines()[0]
    assert all(line.startswith("qnp-xp: error: ") for line in err.splitlines())
    assert names(here) == []


def test_tables_of_redrock_are_skipped_with_a_note(
    run: Run, reference: Path, here: Path
) -> None:
    desi = reference / "desi"
    coadd = desi / "coadd-4-80613-thru20210324.fits"
    redrock = desi / "redrock-4-80613-thru20210324.fits"
    status, out, err = run("classify", redrock, coadd)
    assert status == 0
    assert err.startswith(f"qnp-xp: skipped: {redrock}: holds no spectra")
    assert len(out.splitlines()) == len(err.splitlines()) == 1
    assert names(here) == ["qn-4-80613-thru20210324.fits"]


def test_nothing_but_skipped_files_is_a_failure(
    run: Run, reference: Path, here: Path
) -> None:
    redrock = reference / "desi" / "redrock-4-80613-thru20210324.fits"
    status, out, err = run("classify", redrock)
    assert (status, out) == (1, "")
    assert err.startswith("qnp-xp: skipped: ")
    assert names(here) == []


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("coadd-0-80605-thru20210205.fits", "qn-0-80605-thru20210205.fits"),
        ("spectra-sv3-dark-26065.fits", "qn-sv3-dark-26065.fits"),
        ("mine.fits", "qn-mine.fits"),
        ("mine.fit", "qn-mine.fits"),
        ("my coadd", "qn-my coadd.fits"),
        ("old-coadd-3.fits", "qn-old-coadd-3.fits"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_outputs_are_named_for_their_inputs(
    run: Run, inputs: Path, here: Path, name: str, output: str, suffix: str
) -> None:
    path = write_coadd(inputs / name, 1)
    if suffix:
        path = gzipped(path)
    status, out, err = run("classify", path)
    assert (status, err) == (0, "")
    assert out.rstrip().endswith(f"-> {output}")
    assert names(here) == [output]
    assert rows(here / output).size == 1


def test_a_coadd_and_its_spectra_do_not_share_an_output(
    run: Run, inputs: Path, here: Path
) -> None:
    paths = [
        write_coadd(inputs / "coadd-X.fits", 1),
        write_coadd(inputs / "spectra-X.fits", 2),
        write_coadd(inputs / "coadd-Y.fits", 3),
    ]
    assert run("classify", *paths)[0] == 0
    sizes = {name: rows(here / name).size for name in names(here)}
    assert sizes == {"qn-coadd-X.fits": 1, "qn-spectra-X.fits": 2, "qn-Y.fits": 3}


def test_inputs_of_one_name_are_refused(run: Run, inputs: Path, here: Path) -> None:
    first = write_coadd(inputs / "coadd-X.fits", 1)
    (inputs / "more").mkdir()
    second = write_coadd(inputs / "more" / "coadd-X.fits", 2)
    status, out, err = run("classify", first, second)
    assert (status, out) == (1, "")
    assert "several inputs would be written to qn-coadd-X.fits" in err
    assert names(here) == []


def test_an_output_can_be_named(run: Run, inputs: Path, here: Path) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    assert run("classify", path, "--output", "mine.fits.gz")[0] == 0
    assert names(here) == ["mine.fits.gz"]
    assert rows(here / "mine.fits.gz").size == 1


def test_the_folder_for_outputs_is_made(run: Run, inputs: Path, here: Path) -> None:
    paths = [write_coadd(inputs / f"coadd-{i}.fits", 1) for i in range(2)]
    assert run("classify", *paths, "--outdir", "a/b")[0] == 0
    assert names(here / "a" / "b") == ["qn-0.fits", "qn-1.fits"]
    # It may be there already.
    assert run("classify", *paths, "--outdir", "a/b", "--overwrite")[0] == 0
    # It may have the name of an option.
    assert run("classify", *paths, "--outdir", "o")[0] == 0
    assert names(here) == ["a", "o"]


def test_outputs_are_replaced_only_where_that_is_asked_for(
    run: Run, inputs: Path, here: Path
) -> None:
    paths = [write_coadd(inputs / f"coadd-{i}.fits", 1) for i in range(2)]
    (here / "qn-0.fits").write_text("mine")
    status, _, err = run("classify", *paths)
    assert status == 1
    assert "qn-0.fits exists; replace it with --overwrite" in err
    assert (here / "qn-0.fits").read_text() == "mine"
    assert rows(here / "qn-1.fits").size == 1  # that one was free
    assert run("classify", *paths, "--overwrite")[0] == 0
    assert rows(here / "qn-0.fits").size == 1
    assert names(here) == ["qn-0.fits", "qn-1.fits"]


# Inputs stay what they are.


def test_an_input_is_never_its_own_output(run: Run, inputs: Path) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    content = path.read_bytes()
    status, _, err = run("classify", path, "-o", path, "--overwrite")
    assert status == 1
    assert "is an input and cannot be the output" in err
    assert path.read_bytes() == content


def test_an_input_is_never_the_output_of_another(run: Run, here: Path) -> None:
    first = write_coadd(here / "coadd-0.fits", 1)
    second = write_coadd(here / "qn-0.fits", 2)
    content = second.read_bytes()
    status, _, _ = run("classify", first, second, "--overwrite")
    assert status == 1
    assert second.read_bytes() == content


def test_an_input_is_never_replaced_by_priors(run: Run, here: Path) -> None:
    path = write_coadd(here / "coadd-0.fits", 1)
    content = path.read_bytes()
    status, _, _ = run("classify", path, "--priors", path, "--overwrite")
    assert status == 1
    assert path.read_bytes() == content


@pytest.mark.parametrize("option", ["-o", "--priors"])
def test_the_network_is_never_replaced(
    run: Run, inputs: Path, weights: Path, option: str
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    content = weights.read_bytes()
    status, _, _ = run("classify", path, option, weights, "--overwrite")
    assert status == 1
    assert weights.read_bytes() == content


def test_table_and_priors_are_not_written_to_one_file(
    run: Run, inputs: Path, here: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    arguments = ["-o", "out.fits", "--priors", "out.fits", "--overwrite"]
    status, _, err = run("classify", path, *arguments)
    assert status != 0
    assert "out.fits" in err
    assert names(here) == []


# Which rows.


def test_rows_are_numbers_and_ranges_of_them(
    run: Run, inputs: Path, here: Path, weights: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 6)
    table = classify(path, weights)
    for text, chosen in (
        ("4", [4]),
        ("5,0-2,2", [5, 0, 1, 2, 2]),
        ("3-3", [3]),
        ("0-5", [0, 1, 2, 3, 4, 5]),
        ("1,0", [1, 0]),
    ):
        assert run("classify", path, "--rows", text, "--overwrite")[0] == 0
        assert_holds(here / "qn-0.fits", table[chosen])


@pytest.mark.parametrize(
    ("n", "text", "chosen"),
    [(1, "0", [0]), (2, "0-1", [0, 1]), (2, "1,0", [1, 0]), (3, "1,0,0", [1, 0, 0])],
)
def test_rows_of_small_files_are_numbers_and_never_a_mask(
    run: Run,
    inputs: Path,
    here: Path,
    weights: Path,
    n: int,
    text: str,
    chosen: list[int],
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", n)
    status, _, err = run("classify", path, "--rows", text)
    assert (status, err) == (0, "")
    assert_holds(here / "qn-0.fits", classify(path, weights)[chosen])


@pytest.mark.parametrize(
    "text", ["6", "0-6", "a", "", "1,,2", "1-2-3", "5-2", "2-", "0.5", "9" * 30]
)
def test_rows_that_are_none_are_refused(
    run: Run, inputs: Path, here: Path, text: str
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 6)
    status, out, err = run("classify", path, f"--rows={text}")
    assert status in (1, 2)
    assert out == ""
    assert "rows" in err
    assert names(here) == []


@pytest.mark.parametrize("separator", ["\n", " ", "\n\n"])
def test_targets_are_listed_or_read_from_a_file(
    run: Run, inputs: Path, here: Path, weights: Path, separator: str
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 6)
    wanted = [str(TARGETID + 4), str(TARGETID + 1)]
    expected = classify(path, weights)[[1, 4]]
    listing = inputs / "targets.txt"
    listing.write_text(separator.join([*wanted, ""]))
    for text in (",".join(wanted), f"@{listing}"):
        status, _, err = run("classify", path, "--targetids", text, "--overwrite")
        assert (status, err) == (0, "")
        assert_holds(here / "qn-0.fits", expected)


def test_targets_may_be_in_any_of_several_files(
    run: Run, inputs: Path, here: Path
) -> None:
    paths = []
    for number in range(2):
        hdus = coadd_hdus(3)
        hdus["FIBERMAP"]["TARGETID"] += 100 * number
        paths.append(write_hdus(inputs / f"coadd-{number}.fits", hdus))
    wanted = f"{TARGETID + 2},{TARGETID + 101}"
    status, _, err = run("classify", *paths, "--targetids", wanted)
    assert (status, err) == (0, "")
    assert rows(here / "qn-0.fits")["TARGETID"].tolist() == [TARGETID + 2]
    assert rows(here / "qn-1.fits")["TARGETID"].tolist() == [TARGETID + 101]


def test_targets_that_are_in_no_file_are_an_error(
    run: Run, inputs: Path, here: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 3)
    status, _, err = run("classify", path, "--targetids", f"99,{TARGETID},7")
    assert status == 1
    assert err == "qnp-xp: error: 2 TARGETIDs are in no file, 7 first\n"
    assert rows(here / "qn-0.fits")["TARGETID"].tolist() == [TARGETID]


@pytest.mark.parametrize("text", ["a", "", "1.5", "1;2", "@absent.txt", "9" * 30])
def test_targets_that_are_none_are_refused(
    run: Run, inputs: Path, here: Path, text: str
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 3)
    status, out, err = run("classify", path, f"--targetids={text}")
    assert status in (1, 2)
    assert out == ""
    assert text in err
    assert names(here) == []


def test_a_list_of_targets_that_is_no_text_is_refused(
    run: Run, inputs: Path, here: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 3)
    for content in (b"\xff\xfe\x00", b"TARGETID\n5\n"):
        (inputs / "targets").write_bytes(content)
        status, _, err = run("classify", path, "--targetids", f"@{inputs}/targets")
        assert status in (1, 2)
        assert "targets" in err
    assert names(here) == []


def test_rows_and_targets_exclude_each_other(run: Run, inputs: Path) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 3)
    status, _, err = run("classify", path, "--rows", "1", "--targetids", "2")
    assert status == 2
    assert "not allowed with argument" in err


# Options that reach the table.


def test_options_are_those_of_classify(
    run: Run, inputs: Path, here: Path, weights: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 6, mask="i4")
    options = ["--use-mask", "--c-thresh", "0.7", "--n-thresh", "2"]
    options += ["--dtype", "float64", "--batch-size", "2", "-m", weights]
    status, _, err = run("classify", path, *options)
    assert (status, err) == (0, "")
    expected = classify(
        path, weights, use_mask=True, c_thresh=0.7, n_thresh=2, dtype="float64"
    )
    assert_holds(here / "qn-0.fits", expected)
    header = fitsio.read_header(str(here / "qn-0.fits"), ext="QN")
    assert (header["C_THRESH"], header["N_THRESH"]) == (0.7, 2)
    assert header["QNDTYPE"] == "float64"


def test_lines_of_another_network_can_be_named(
    run: Run, inputs: Path, here: Path, data: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 2)
    network = ["-m", data / "keras" / "nine_boxes.h5"]
    status, _, err = run("classify", path, *network)
    assert status == 1
    assert "nine_boxes.h5 has 5 outputs" in err
    assert "--lines, --lines-bal" in err
    lines = ["--lines", "LYA,CIV(1548),MgII(2796)", "--lines-bal", "CIV(1548),LYA"]
    assert run("classify", path, *network, *lines)[0] == 0
    columns = rows(here / "qn-0.fits").dtype.names or ()
    assert {"C_LYA", "C_CIV", "C_MgII", "C_BAL_CIV", "C_BAL_LYA"} <= set(columns)


# Priors.


def test_priors_of_one_file_are_written_to_the_file_that_is_named(
    run: Run, inputs: Path, here: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 6)
    assert run("classify", path, "--priors", "priors.fits", *SOME)[0] == 0
    assert names(here) == ["priors.fits", "qn-0.fits"]
    table = rows(here / "qn-0.fits")
    quasars = table[table["IS_QSO_QN"] == 1]["TARGETID"].tolist()
    assert 0 < len(quasars) < 6
    assert rows(here / "priors.fits", "PRIORS")["TARGETID"].tolist() == quasars


def test_priors_of_several_files_are_written_to_a_folder(
    run: Run, inputs: Path, here: Path
) -> None:
    paths = [write_coadd(inputs / f"coadd-{i}.fits", 2) for i in range(2)]
    (here / "priors").mkdir()
    assert run("classify", *paths, "--priors", "priors", *SOME)[0] == 0
    assert names(here) == ["priors", "qn-0.fits", "qn-1.fits"]
    assert names(here / "priors") == ["priors-0.fits", "priors-1.fits"]


@pytest.mark.parametrize("priors", ["nowhere/priors.fits", "old.fits", "."])
def test_priors_that_cannot_be_written_leave_nothing_else(
    run: Run, inputs: Path, here: Path, priors: str
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 2)
    (here / "old.fits").write_text("mine")
    status, out, err = run("classify", path, "--priors", priors)
    assert (status, out) == (1, "")
    assert "coadd-0.fits: " in err
    assert "has an empty name" not in err  # as pathlib says of a folder
    assert names(here) == ["old.fits"]
    assert (here / "old.fits").read_text() == "mine"


# What is said.


def test_one_line_sums_up_each_file(
    run: Run, inputs: Path, here: Path, weights: Path
) -> None:
    hdus = coadd_hdus(6)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][2] = 0
    path = write_hdus(inputs / "coadd-0.fits", hdus)
    status, out, err = run("classify", path, "--c-thresh", "0")
    assert (status, err) == (0, "")
    assert out.startswith("coadd-0.fits: 6 rows, 5 scored, 5 quasars, ")
    assert out.endswith(f" s, {weights.name}, threshold 0 (asked for) -> qn-0.fits\n")
    assert out.count("\n") == 1


def test_quiet_prints_the_last_line_alone(run: Run, inputs: Path, here: Path) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 2, arms="BR")
    assert run("classify", path, "-q") == (0, "", "")
    assert run.closing.startswith("1 file, 2 rows, ")
    assert names(here) == ["qn-0.fits"]
    # Errors are said all the same.
    status, out, err = run("classify", path, "-q")
    assert (status, out) == (1, "")
    assert "qn-0.fits exists" in err


def test_verbose_prints_the_time_of_each_stage(run: Run, inputs: Path) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 2)
    status, out, _ = run("classify", path, "-v")
    assert status == 0
    summary, times = out.splitlines()
    assert summary.startswith("coadd-0.fits: ")
    stages = [part.split()[0] for part in times.split(", ")]
    assert set(stages) == {"read", "upload", "rebin", "normalise", "predict", "decode"}
    assert all(part.endswith(" ms") for part in times.split(", "))


def test_quiet_and_verbose_exclude_each_other(run: Run, inputs: Path) -> None:
    status, _, err = run("classify", inputs / "coadd-0.fits", "-q", "-v")
    assert status == 2
    assert "not allowed with argument" in err


@pytest.mark.parametrize("terminal", [True, False])
def test_quasars_are_listed_on_a_terminal_only(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 6)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    status, out, _ = run("classify", path, *SOME)
    assert status == 0
    table = rows(here / "qn-0.fits")
    quasars = table[table["IS_QSO_QN"] == 1]
    assert 0 < quasars.size < 6
    _, *listed = out.splitlines()
    if not terminal:
        assert listed == []
        return
    sky = ["RA", "DEC"]
    assert listed[0].split()[:7] == ["row", "TARGETID", *sky, "Z_QN", "conf", "BAL"]
    found = [line.split()[:6] for line in listed[1:]]
    assert found == [
        [
            *(str(n), str(row["TARGETID"])),
            *(f"{row[f'TARGET_{name}']:.4f}" for name in sky),
            *(f"{row['Z_QN']:.4f}", f"{row['Z_QN_CONF']:.3f}"),
        ]
        for n, row in enumerate(table)
        if row["IS_QSO_QN"]
    ]
    first = quasars[0]
    lines = ["LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha"]
    above = [name for name in lines if first[f"C_{name}"] > 0.9]
    assert listed[1].endswith(", ".join(f"{n} {first[f'C_{n}']:.2f}" for n in above))
    assert above


def test_priors_need_targetids(run: Run, inputs: Path, here: Path) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 6, fibermap=False)
    status, _, err = run("classify", path, *SOME, "--priors", "priors.fits")
    assert status == 1
    assert err == f"qnp-xp: error: {path}: has no TARGETIDs, which priors need\n"
    assert names(here) == []


def test_long_lists_of_quasars_end(
    run: Run, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 40, step=40.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status, out, _ = run("classify", path, "--c-thresh", "0")
    assert status == 0
    assert out.splitlines()[-1].strip() == "... and 10 more"
    assert len(out.splitlines()) == 33


def test_a_progress_bar_keeps_the_lines_on_stdout(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_coadd(inputs / f"coadd-{i}.fits", 1) for i in range(2)]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    status, out, _ = run("classify", *paths)
    assert status == 0
    starts = [line.split(":")[0] for line in out.splitlines()]
    assert starts == ["coadd-0.fits", "coadd-1.fits"]
    assert names(here) == ["qn-0.fits", "qn-1.fits"]


# What goes wrong.


@pytest.mark.skipif(
    importlib.util.find_spec("cupy") is not None, reason="there is a CuPy"
)
def test_a_gpu_that_is_asked_for_without_cupy_says_what_is_missing(
    run: Run, inputs: Path, here: Path
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    status, out, err = run("classify", path, "--device", "gpu")
    assert (status, out) == (1, "")
    assert err.startswith("qnp-xp: error: device='gpu' needs CuPy")
    assert "cupy-cuda12x" in err
    assert names(here) == []
    assert run("classify", path, "--device", "auto")[0] == 0


def test_without_a_network_the_one_that_ships_is_used_and_said_so(
    run: Run,
    inputs: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    monkeypatch.delenv("QN_MODEL_FILE")
    status, out, _ = run("classify", path)
    assert status == 0
    assert f", {EMBEDDED_NETWORK}, threshold 0.8 (the network's own) -> " in out
    (record,) = caplog.records
    assert "bundled network" in record.getMessage()
    header = fitsio.FITS(str(here / "qn-0.fits"))["QN"].read_header()
    assert header["QNMODEL"].strip() == EMBEDDED_NETWORK
    assert header.get_comment("QNMODEL") == "ships with qnp_xp, not DESI's"


BAD_ARGUMENTS = {
    "network missing": (["-m", "absent.h5"], "absent.h5"),
    "network a folder": (["-m", "."], "a folder (of a SavedModel?)"),
    "network a coadd": (["-m", "{coadd}"], "neither an HDF5 file nor"),
    "confidence": (["--c-thresh", "2"], "c_thresh must be between 0 and 1"),
    "confidence a word": (["--c-thresh", "high"], "argument --c-thresh"),
    "lines above": (["--n-thresh", "0"], "n_thresh must be a whole number"),
    "batch": (["--batch-size", "0"], "batch_size must be a whole number"),
    "device": (["--device", "tpu"], "device='tpu' is not one of"),
    "device number": (["--device", "cpu:1"], "device='cpu:1' is not one of"),
    "dtype": (["--dtype", "float16"], "argument --dtype"),
    "lines": (["--lines", "A,B"], "unknown line 'A'"),
    "number of lines": (["--lines", "LYA"], "has 7 outputs"),
    "output without a folder": (["-o", "nowhere/qn.fits"], "nowhere: no such folder"),
    "outdir a file": (["--outdir", "{coadd}"], "coadd-0.fits"),
    "outdir and output": (["--outdir", "a", "-o", "b"], "not allowed with argument"),
    "mask missing": (["--use-mask"], "B_FLUX]: has no mask, and use_mask asks for it"),
    "unknown option": (["--fast"], "--fast"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_end_in_a_sentence(
    run: Run, inputs: Path, here: Path, case: str
) -> None:
    arguments, reason = BAD_ARGUMENTS[case]
    coadd = write_coadd(inputs / "coadd-0.fits", 1)
    filled = [argument.format(coadd=coadd) for argument in arguments]
    status, out, err = run("classify", coadd, *filled)
    assert status in (1, 2)
    assert out == ""
    assert reason in err
    if status == 1:
        assert all(line.startswith("qnp-xp: error: ") for line in err.splitlines())
    assert names(here) == []


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_leaves_what_is_whole(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_coadd(inputs / f"coadd-{i}.fits", 1) for i in range(3)]
    original = jobs.classify_file

    def second_time(files: Any, *args: Any, **kwargs: Any) -> Any:
        if files == (paths[1],):
            interrupt()
        return original(files, *args, **kwargs)

    monkeypatch.setattr(jobs, "classify_file", second_time)
    status, out, err = run("classify", *paths)
    assert status == 130
    assert len(out.splitlines()) == 1
    assert err == "qnp-xp: error: interrupted\n"
    assert names(here) == ["qn-0.fits"]


def test_an_interrupt_while_writing_leaves_no_file(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    monkeypatch.setattr(fitsio.FITS, "write", interrupt)
    assert run("classify", path)[0] == 130
    assert names(here) == []


def test_a_full_disk_is_an_error_that_names_the_file(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    path = write_coadd(inputs / "coadd-0.fits", 1)
    monkeypatch.setattr(fitsio.FITS, "write", full)
    status, out, err = run("classify", path)
    assert (status, out) == (1, "")
    assert err == f"qnp-xp: error: {path}: No space left on device\n"
    assert names(here) == []


# info.


@pytest.mark.parametrize(
    ("name", "keras", "convs"),
    [
        (
            "test_weights.h5",
            "2.4.0",
            [
                "1 -> 25, kernel 10, stride 2, valid, relu  (conv_1)",
                *(
                    f"25 -> 25, kernel 10, stride 2, valid, relu  (conv_{i})"
                    for i in (2, 3, 4)
                ),
            ],
        ),
        (
            "test_weights_6_layer.h5",
            "2.9.0",
            [
                "1 -> 100, kernel 10, stride 2, same, relu  (conv_1)",
                *(
                    f"100 -> 100, kernel 10, stride 2, same, relu  (conv_{i})"
                    for i in (2, 3, 4, 5, 6)
                ),
            ],
        ),
    ],
)
def test_info_says_what_a_network_is(
    run: Run, reference: Path, name: str, keras: str, convs: list[str]
) -> None:
    path = reference / "quasarnp" / name
    status, out, err = run("info", path)
    assert (status, err) == (0, "")
    sizes: list[int] = []
    with h5py.File(path, "r") as f:
        f["model_weights"].visititems(
            lambda _, item: sizes.append(getattr(item, "size", 0))
        )
    text = {}
    layers = []
    for line in out.splitlines():
        if line.startswith("  conv "):
            layers.append(line.split(maxsplit=1)[1])
        else:
            key, _, value = line.strip().partition("  ")
            text[key] = value.strip()
    assert text["file"] == str(path)
    assert text["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert text["written by"] == f"Keras {keras}"
    assert text["parameters"] == f"{sum(sizes):,}"
    assert layers == convs
    assert "(fc_common)" in text["dense"]
    assert text["lines"].startswith("7: LYA, CIV(1548), CIII(1909), MgII(2796), Hbeta")
    assert text["lines"].endswith("Halpha, BAL CIV(1548)")
    assert text["boxes"] == "13 for each line"
    assert text["offsets"] == "rescaled"
    assert text["grid"].startswith("443 bins of 0.001 in log10, 3600.0 to 9961.")
    assert text["grid"].endswith("(assumed, none in the file)")


def test_info_knows_other_networks(run: Run, data: Path) -> None:
    status, out, _ = run("info", data / "keras" / "linear_grid.h5")
    assert status == 0
    assert "458 bins of 13.6 Angstrom, 3600.0 to 9815.2 Angstrom (in the file)" in out
    assert "offsets     not rescaled" in out
    status, out, _ = run("info", data / "keras" / "nine_boxes.keras")
    assert status == 0
    assert "boxes       9 for each line" in out
    assert "5: not DESI's, and the file does not name them" in out


# embed-grid.


@pytest.mark.parametrize("name", ["valid.h5", "valid.keras"])
def test_embed_grid_copies_a_network_with_a_grid(
    run: Run, here: Path, data: Path, name: str
) -> None:
    source = data / "keras" / name
    status, out, err = run("embed-grid", source, f"new-{name}")
    assert (status, err) == (0, "")
    assert out == f"new-{name}: {source} with the log grid\n"
    assert names(here) == [f"new-{name}"]
    assert "(in the file)" in run("info", f"new-{name}")[1]
    np.testing.assert_array_equal(load_model(here / f"new-{name}").wave, wave)


def test_embed_grid_knows_the_linear_grid(run: Run, here: Path, data: Path) -> None:
    source = data / "keras" / "linear_grid.h5"
    assert run("embed-grid", source, "new.h5", "--grid", "linear")[0] == 0
    np.testing.assert_array_equal(load_model(here / "new.h5").wave, linear_wave)
    status, _, err = run("embed-grid", source, "log.h5")
    assert status == 1
    assert "takes 458 bins, and the log grid has 443" in err
    assert names(here) == ["new.h5"]


@pytest.mark.parametrize(
    ("text", "grid", "said"),
    [
        ("3600:13.6:443", 3600 + 13.6 * np.arange(443), "443 bins of 13.6 Angstrom"),
        ("log:4e3:8e-4:443", 4000 * 10 ** (8e-4 * np.arange(443)), "0.0008 in log10"),
        ("grid.txt", 3600.5 + np.arange(443), "443 bins of 1 Angstrom from 3600.5"),
    ],
)
def test_embed_grid_takes_any_grid(
    run: Run, here: Path, data: Path, text: str, grid: np.ndarray, said: str
) -> None:
    np.savetxt(here / "grid.txt", 3600.5 + np.arange(443))
    source = data / "keras" / "valid.h5"
    status, out, err = run("embed-grid", source, "new.h5", "--grid", text)
    assert (status, err) == (0, "")
    assert said in out
    np.testing.assert_array_equal(load_model(here / "new.h5").wave, grid)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("no.txt", "no.txt: no grid .*No such file"),
        ("bad.txt", "bad.txt: no grid .*'wave'"),
        (".", "no grid .*Is a directory"),
        ("3600:0:443", "constant spacing"),
        ("3600:-1:443", "constant spacing"),
        ("3600:x:443", "'x'"),
        ("log:3600:1000:443", "finite"),
        ("-1e4:1:443", "positive"),
        ("3600:1:1", "2 or more"),
        ("3600:1:44", "takes 443 bins, and the grid has 44"),
    ],
)
def test_what_is_no_grid_is_refused(
    run: Run, here: Path, data: Path, text: str, match: str
) -> None:
    (here / "bad.txt").write_text("wave\n3600\n3601\n")
    source = data / "keras" / "valid.h5"
    status, out, err = run("embed-grid", source, "new.h5", f"--grid={text}")
    assert (status, out) == (1, "")
    assert re.search(match, err)
    assert names(here) == ["bad.txt"]


def test_embed_grid_replaces_only_where_that_is_asked_for(
    run: Run, here: Path, data: Path
) -> None:
    source = data / "keras" / "valid.h5"
    (here / "new.h5").write_text("mine")
    status, _, err = run("embed-grid", source, "new.h5")
    assert status == 1
    assert "new.h5 exists" in err
    assert (here / "new.h5").read_text() == "mine"
    assert run("embed-grid", source, "new.h5", "--overwrite")[0] == 0
    assert load_model(here / "new.h5").nbins == 443


@pytest.mark.parametrize(
    "command",
    [
        ["info", "absent.h5"],
        ["info", "."],
        ["info", "bad.h5"],
        ["embed-grid", "absent.h5", "new.h5"],
        ["embed-grid", "bad.h5", "new.h5"],
        ["embed-grid", "{weights}", "nowhere/new.h5"],
    ],
)
def test_files_that_are_no_networks_end_in_a_sentence(
    run: Run, here: Path, weights: Path, command: list[str]
) -> None:
    (here / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    status, out, err = run(*(part.format(weights=weights) for part in command))
    assert (status, out) == (1, "")
    assert err.startswith("qnp-xp: error: ")
    assert len(err.splitlines()) == 1
    named = command[2] if "{" in command[1] else command[1]
    assert named.rpartition("/")[2] in err
    assert names(here) == ["bad.h5"]


# Where it runs.


def test_the_command_can_be_called_in_a_thread(
    run: Run, inputs: Path, here: Path
) -> None:
    coadd = write_coadd(inputs / "coadd-0-1.fits", 2)
    with ThreadPoolExecutor(1) as pool:
        # Signals are handled in the main thread only.
        status, _, err = pool.submit(run, "classify", coadd).result()
    assert (status, err) == (0, "")
    assert names(here) == ["qn-0-1.fits"]


def test_without_tqdm_there_is_no_bar_and_all_else_is_said(
    run: Run, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coadds = [write_coadd(inputs / f"coadd-0-{i}.fits", 2) for i in range(2)]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    status, out, err = run("classify", *coadds)
    assert (status, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()[:2]] == [
        coadd.name for coadd in coadds
    ]


def test_lines_above_a_progress_bar_may_be_lost(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: str) -> int:
        raise OSError(28, "No space left on device")

    pytest.importorskip("tqdm", reason="not installed")
    paths = [write_coadd(inputs / f"coadd-{i}.fits", 1) for i in range(2)]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "write", full)
    status, out, err = run("classify", *paths)
    assert (status, out) == (1, "")
    assert "qnp-xp: error: stdout: No space left on device\n" in err
    assert names(here) == ["qn-0.fits", "qn-1.fits"]


def test_trouble_with_stderr_ends_nothing(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: str) -> int:
        msg = "I/O operation on closed file"
        raise ValueError(msg)

    monkeypatch.setattr(sys.stderr, "write", closed)
    path = write_coadd(inputs / "coadd-0.fits", 1)
    assert run("classify", inputs / "absent.fits", path)[0] == 1
    assert names(here) == ["qn-0.fits"]


def test_what_is_logged_is_printed_with_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("test_cli")
    logger.propagate = False
    logger.addHandler(LogHandler())
    try:
        msg = "no\x1b[2J"
        raise LookupError(msg)
    except LookupError:
        logger.exception("%s\nis damaged", "a\x07.fits")
    first, *traceback, last = capsys.readouterr().err.splitlines()
    assert first == r"qnp-xp: ERROR: a\x07.fits\nis damaged"
    assert traceback[0] == "Traceback (most recent call last):"
    assert last == r"LookupError: no\x1b[2J"


def test_targets_may_begin_with_a_negative_number(
    run: Run, inputs: Path, here: Path
) -> None:
    hdus = coadd_hdus(4)
    hdus["FIBERMAP"]["TARGETID"][2] = -7
    path = write_hdus(inputs / "coadd-0.fits", hdus)
    status, _, err = run("classify", path, "--targetids", f"-7,{TARGETID}")
    assert (status, err) == (0, "")
    assert rows(here / "qn-0.fits")["TARGETID"].tolist() == [TARGETID, -7]


def test_memory_that_is_short_is_said_in_a_sentence(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any, **__: Any) -> None:
        raise MemoryError

    path = write_coadd(inputs / "coadd-0.fits", 1)
    monkeypatch.setattr(jobs, "classify_file", short)
    status, out, err = run("classify", path)
    assert (status, out) == (1, "")
    assert err.startswith(f"qnp-xp: error: {path}: not enough memory (")


def test_signals_that_are_ignored_stay_ignored(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = jobs.classify_file

    def hung_up(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGHUP)
        return original(*args, **kwargs)

    monkeypatch.setattr(jobs, "classify_file", hung_up)
    path = write_coadd(inputs / "coadd-0.fits", 1)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        assert run("classify", path)[0] == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert names(here) == ["qn-0.fits"]


def test_the_package_is_a_command_as_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qnp_xp", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"qnp-xp {qnp_xp.__version__}\n"


def test_info_without_a_file_describes_the_network_that_would_be_used(
    run: Run, weights: Path
) -> None:
    status, out, _ = run("info")  # $QN_MODEL_FILE is set to these weights
    assert status == 0
    assert out.splitlines()[0].split() == ["file", str(weights)]
