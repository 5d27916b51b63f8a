"""Runs that go on where others ended, and what killed ones leave behind."""

from __future__ import annotations

import gzip
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import (
    Run,
    coadd_hdus,
    interruptible,
    kill_and_resume,
    names,
    write_cframes,
    write_coadd,
    write_hdus,
)
from sdss_files import write_spplate

from qnp_xp import classify, cli
from qnp_xp.io import embed_grid


@pytest.fixture
def coadds(inputs: Path) -> list[Path]:
    """Three coadds, an hour old."""
    paths = [write_coadd(inputs / f"coadd-{i}.fits", 2 + i) for i in range(3)]
    for path in paths:
        age(path, 3600)
    return paths


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def states(folder: Path) -> dict[str, int]:
    """When each output was written, to the nanosecond."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_outputs_that_are_in_order_are_kept(
    run: Run, coadds: list[Path], here: Path
) -> None:
    assert run("classify", *coadds[:2])[0] == 0
    before = states(here)
    status, out, err = run("classify", *coadds, "--resume")
    assert (status, err) == (0, "")
    assert [": kept, " in line for line in out.splitlines()] == [True, True, False]
    after = states(here)
    assert {name: after[name] for name in before} == before
    assert names(here) == ["qn-0.fits", "qn-1.fits", "qn-2.fits"]
    assert run("classify", *coadds, "--resume", "-q") == (0, "", "")
    assert states(here) == after


def rewritten(run: Run, coadds: list[Path], here: Path, *arguments: Any) -> bool:
    before = states(here)
    status, _, err = run("classify", coadds[0], "--resume", *arguments)
    assert (status, err) == (0, "")
    return states(here) != before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--c-thresh", "0.8"],
        ["--n-thresh", "2"],
        ["--dtype", "float64"],
        ["--coadd"],
        ["--rows", "1"],
        ["--rows", "0,1"],
        ["--targetids", "39633140000000001"],
    ],
)
def test_outputs_of_other_settings_are_made_again(
    run: Run, coadds: list[Path], here: Path, arguments: list[str]
) -> None:
    assert run("classify", coadds[0])[0] == 0
    assert not rewritten(run, coadds, here)
    assert rewritten(run, coadds, here, *arguments)
    assert not rewritten(run, coadds, here, *arguments)
    assert rewritten(run, coadds, here)


def test_outputs_of_other_weights_are_made_again(
    run: Run, coadds: list[Path], here: Path, data: Path, tmp_path: Path
) -> None:
    assert run("classify", coadds[0])[0] == 0
    other = tmp_path / "other.h5"
    embed_grid(data / "keras" / "valid.h5", other)
    assert rewritten(run, coadds, here, "-m", other)


@pytest.mark.parametrize(
    "threshold", ["0.30000000000000004", "0.3333333333333333", "1e-300", "1"]
)
def test_thresholds_are_compared_with_all_their_digits(
    run: Run, coadds: list[Path], here: Path, threshold: str
) -> None:
    assert run("classify", coadds[0], "--c-thresh", threshold)[0] == 0
    header = fitsio.read_header(here / "qn-0.fits", ext="QN")
    assert header["C_THRESH"] == float(threshold)
    assert header["N_THRESH"] == 1
    assert not rewritten(run, coadds, here, "--c-thresh", threshold)
    beside = np.nextafter(float(threshold), 0.5)
    assert rewritten(run, coadds, here, "--c-thresh", repr(float(beside)))


def test_a_threshold_too_small_for_a_header_is_written_as_zero(
    run: Run, coadds: list[Path], here: Path
) -> None:
    for threshold in ("5e-324", "0"):
        arguments = ["--c-thresh", threshold, "--resume"]
        assert run("classify", coadds[0], *arguments)[0] == 0
        assert fitsio.read_header(here / "qn-0.fits", ext="QN")["C_THRESH"] == 0
    assert not rewritten(run, coadds, here, *arguments[:2])


def test_outputs_of_other_lines_are_made_again(
    run: Run, coadds: list[Path], here: Path
) -> None:
    names_of = "LYA,CIV(1548),CIII(1909),MgII(2796),{},{}"
    lines = ["--lines", names_of.format("Hbeta", "Halpha"), "--lines-bal", "CIV(1548)"]
    others = ["--lines", names_of.format("Halpha", "Hbeta"), *lines[2:]]
    weak = [*lines[:3], "CIV(1551)"]
    assert run("classify", coadds[0])[0] == 0
    header = fitsio.read_header(here / "qn-0.fits", ext="QN")
    assert (header["QNLINE01"], header["QNLINE05"]) == ("CIV(1548)", "Halpha")
    assert header["QNBAL00"] == "CIV(1548)"
    assert not rewritten(run, coadds, here, *lines)  # these are the network's own
    before = fitsio.read(here / "qn-0.fits", ext="QN")
    assert rewritten(run, coadds, here, *others)
    after = fitsio.read(here / "qn-0.fits", ext="QN")
    np.testing.assert_array_equal(after["C_Halpha"], before["C_Hbeta"])
    assert rewritten(run, coadds, here, *weak)
    assert not rewritten(run, coadds, here, *weak)


# Another input.


def targets(path: Path) -> list[int]:
    return [int(target) for target in fitsio.read(path, ext="QN")["TARGETID"]]


def other_coadd(path: Path, like: Path, start: int = 7) -> Path:
    """Other spectra and targets, in a file of the same size and time."""
    hdus = coadd_hdus(2, seed=9)
    hdus["FIBERMAP"]["TARGETID"] = [start, start + 1]
    status = like.stat()
    path.parent.mkdir(exist_ok=True)
    write_hdus(path, hdus)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    return path


def test_the_table_of_another_file_is_made_again(
    run: Run, coadds: list[Path], here: Path
) -> None:
    other = other_coadd(coadds[0].with_name("coadd-9.fits"), coadds[0])
    command = ["-o", "table.fits", "--resume"]
    assert run("classify", coadds[0], *command)[0] == 0
    assert targets(here / "table.fits") != [7, 8]
    assert run("classify", other, *command)[0] == 0
    assert targets(here / "table.fits") == [7, 8]


def test_the_table_of_a_file_of_that_name_elsewhere_is_made_again(
    run: Run, coadds: list[Path], here: Path
) -> None:
    other = other_coadd(here / "elsewhere" / "coadd-0.fits", coadds[0])
    assert run("classify", coadds[0], "--outdir", "out")[0] == 0
    assert run("classify", other, "--outdir", "out", "--resume")[0] == 0
    assert targets(here / "out" / "qn-0.fits") == [7, 8]


def test_the_table_of_a_file_that_was_replaced_is_made_again(
    run: Run, coadds: list[Path], here: Path
) -> None:
    assert run("classify", coadds[0])[0] == 0
    other_coadd(here / "new" / "coadd-0.fits", coadds[0]).replace(coadds[0])
    assert rewritten(run, coadds, here)
    assert targets(here / "qn-0.fits") == [7, 8]
    other_coadd(coadds[0], coadds[0], start=17)  # in its place
    assert rewritten(run, coadds, here)
    assert targets(here / "qn-0.fits") == [17, 18]


def test_the_table_of_a_link_is_made_again_where_it_leads_elsewhere(
    run: Run, coadds: list[Path], here: Path
) -> None:
    other = other_coadd(here / "new" / "coadd-0.fits", coadds[0])
    link = here / "coadd-link.fits"
    link.symlink_to(coadds[0])
    assert run("classify", link)[0] == 0
    assert run("classify", coadds[0], "-o", "qn-link.fits", "--resume")[1].count("kept")
    link.unlink()
    link.symlink_to(other)
    assert run("classify", link, "--resume")[0] == 0
    assert targets(here / "qn-link.fits") == [7, 8]


def test_a_spectrum_in_memory_is_no_file(
    run: Run, coadds: list[Path], here: Path, weights: Path
) -> None:
    wave = np.arange(3600.0, 9824.0, 4.0)
    flux = np.random.default_rng(0).normal(size=(2, wave.size))
    arrays = (wave, flux, np.ones_like(flux))
    classify(arrays, weights, output=here / "qn-0.fits")
    assert rewritten(run, coadds, here)
    assert targets(here / "qn-0.fits") != [-1, -1]


@pytest.mark.parametrize("days", [-1, 1])
def test_the_clock_of_the_input_is_not_compared_with_that_of_the_output(
    run: Run, coadds: list[Path], here: Path, days: float
) -> None:
    age(coadds[0], days * 86400)
    assert run("classify", coadds[0])[0] == 0
    assert not rewritten(run, coadds, here)
    age(coadds[0], days * 86400 + 60)
    assert rewritten(run, coadds, here)


def test_an_arm_that_arrives_later_with_an_older_time_is_used(
    run: Run, inputs: Path, here: Path
) -> None:
    folder = write_cframes(inputs, coadd_hdus(2))
    late, kept_back = folder / "cframe-z0-00071246.fits", inputs / "late.fits"
    age(late, 86400)
    late.rename(kept_back)
    output = here / "qn-0-00071246.fits"
    assert run("classify", folder)[0] == 0
    assert fitsio.read_header(output, ext="QN")["QNARMS"] == "BR"
    kept_back.rename(late)
    assert run("classify", folder, "--resume")[0] == 0
    assert fitsio.read_header(output, ext="QN")["QNARMS"] == "BRZ"


def test_targets_of_a_plate_that_arrive_later_are_used(
    run: Run, inputs: Path, here: Path
) -> None:
    path = write_spplate(inputs)
    beside = inputs / "spZbest-3655-55240.fits"
    age(beside, 86400)
    beside.rename(inputs / "late.fits")
    assert run("classify", path, "-o", "qn-0.fits")[0] == 0
    assert targets(here / "qn-0.fits") == [-1, -1, -1, -1]
    (inputs / "late.fits").rename(beside)
    assert run("classify", path, "-o", "qn-0.fits", "--resume")[0] == 0
    assert targets(here / "qn-0.fits") == [1001, 1002, 1003, -1]


@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_damaged_outputs_are_made_again(
    run: Run, coadds: list[Path], here: Path, weights: Path, damage: str
) -> None:
    assert run("classify", coadds[0])[0] == 0
    output = here / "qn-0.fits"
    whole = output.read_bytes()
    output.write_bytes({"cut": whole[:-2880], "empty": b""}[damage])
    assert rewritten(run, coadds, here)
    np.testing.assert_array_equal(
        fitsio.read(output, ext="QN")["TARGETID"],
        classify(coadds[0], weights)["TARGETID"],
    )


@pytest.mark.parametrize("name", ["qn-0.fits", "qn-0.fits.gz"])
@pytest.mark.parametrize("change", ["rows", "value"])
def test_a_table_whose_rows_were_changed_is_made_again(
    run: Run, coadds: list[Path], here: Path, name: str, change: str
) -> None:
    output = here / name
    command = ["classify", coadds[0], "-o", name]
    assert run(*command)[0] == 0
    expected = output.read_bytes()
    table, header = fitsio.read(output, ext="QN", header=True)
    if change == "rows":
        table = table[1:]
    else:
        table["Z_QN"][0] += 1
    output.unlink()
    fitsio.write(output, table, extname="QN", header=header)  # all cards are kept
    assert run(*command, "--resume")[0] == 0
    assert output.read_bytes() == expected
    assert not rewritten(run, coadds, here, "-o", name)


PRIORS = ["--priors", "priors.fits"]


@pytest.mark.parametrize("content", ["coadd", "text", "gzipped text"])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-o", "mine.fits"], "mine.fits"),
        (["--priors", "mine.fits"], "mine.fits"),
        (["--priors", "mine.fits", "--c-thresh", "1"], "mine.fits"),
        (["--summary", "mine"], "mine.fits"),
        (["--summary", "mine"], "mine.txt"),
    ],
    ids=["table", "priors", "priors without quasars", "summary", "text of a summary"],
)
def test_resuming_replaces_no_file_that_no_run_wrote(
    run: Run,
    coadds: list[Path],
    here: Path,
    arguments: list[str],
    name: str,
    content: str,
) -> None:
    mine = {
        "coadd": coadds[1].read_bytes(),
        "text": b"hello",
        "gzipped text": gzip.compress(b"hello"),
    }[content]
    (here / name).write_bytes(mine)
    status, _, err = run("classify", coadds[0], *arguments, "--resume")
    assert status == 1
    how = "did not write it" if arguments[0] == "-o" else "--overwrite"
    assert re.search(rf"{re.escape(name)} exists.* {how}", err)
    assert (here / name).read_bytes() == mine


def test_resuming_replaces_its_own_summary(
    run: Run, coadds: list[Path], here: Path
) -> None:
    for number in (1, 2):
        command = ("classify", *coadds[:number], "--summary", "mine", "--resume")
        assert run(*command)[0] == 0
        assert fitsio.read(here / "mine.fits", ext="FILES").size == number


def test_a_table_is_no_priors(run: Run, coadds: list[Path], here: Path) -> None:
    assert run("classify", coadds[0], "-o", "priors.fits")[0] == 0
    before = (here / "priors.fits").read_bytes()
    status, _, err = run("classify", coadds[0], *PRIORS, "--resume")
    assert status == 1
    assert "priors.fits exists, and is no table PRIORS" in err
    assert (here / "priors.fits").read_bytes() == before


def test_without_quasars_a_file_of_no_priors_is_left_as_it_is(
    run: Run, coadds: list[Path], here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = coadds[1].read_bytes()
    (here / "priors.fits").write_bytes(mine)
    command = ["classify", coadds[0], "--c-thresh", "1", *PRIORS, "--overwrite"]
    assert run(*command)[0] == 0
    assert "priors.fits: holds no priors of qnp-xp" in caplog.text
    assert (here / "priors.fits").read_bytes() == mine


def quasars_in(path: Path) -> list[int]:
    table = fitsio.read(path, ext="QN")
    return [int(target) for target in table["TARGETID"][table["IS_QSO_QN"] == 1]]


def test_priors_that_are_missing_are_made_of_the_table(
    run: Run, coadds: list[Path], here: Path
) -> None:
    few = ["--c-thresh", "0.2"]
    assert run("classify", coadds[2], *few)[0] == 0
    before = states(here)
    command = ["classify", coadds[2], *few, *PRIORS, "--resume"]
    for _ in range(2):
        status, out, _ = run(*command)
        assert (status, out.count(": kept, ")) == (0, 1)
        found = fitsio.read(here / "priors.fits", ext="PRIORS")
        assert found["TARGETID"].tolist() == quasars_in(here / "qn-2.fits") != []
    after = states(here)
    assert after["qn-2.fits"] == before["qn-2.fits"]
    assert run(*command)[0] == 0
    assert states(here) == after  # priors that belong to the table are kept


@pytest.mark.parametrize("change", ["threshold", "edit", "damage"])
def test_priors_that_do_not_belong_to_the_table_are_made_again(
    run: Run, coadds: list[Path], here: Path, change: str
) -> None:
    priors, few = here / "priors.fits", ["--c-thresh", "0.2"]
    assert run("classify", coadds[2], *few, *PRIORS)[0] == 0
    expected = priors.read_bytes()
    if change == "threshold":
        confidences = fitsio.read(here / "qn-2.fits", ext="QN")["Z_QN_CONF"]
        other = ["--c-thresh", str(np.median(confidences)), *PRIORS, "--resume"]
        assert run("classify", coadds[2], *other)[0] == 0
        assert run("classify", coadds[2], *few, "--resume")[0] == 0
        assert priors.read_bytes() != expected
    elif change == "edit":
        with fitsio.FITS(str(priors), "rw") as f:
            f["PRIORS"].write_column("Z", f["PRIORS"].read()["Z"] + 1)
    else:
        priors.write_bytes(expected[:-2880])
    assert run("classify", coadds[2], *few, *PRIORS, "--resume")[0] == 0
    assert priors.read_bytes() == expected


def test_priors_of_a_compressed_file_are_kept(
    run: Run, coadds: list[Path], here: Path
) -> None:
    command = ["--c-thresh", "0.2", "--priors", "priors.fits.gz"]
    assert run("classify", coadds[0], *command)[0] == 0
    assert not rewritten(run, coadds, here, *command)


def test_a_target_has_the_prior_of_its_most_confident_spectrum(
    run: Run, inputs: Path, here: Path
) -> None:
    hdus = coadd_hdus(6)
    hdus["FIBERMAP"]["TARGETID"] = [5, 5, 5, 9, 9, 3]
    path = write_hdus(inputs / "spectra-0.fits", hdus)
    assert run("classify", path, "--c-thresh", "0", *PRIORS)[0] == 0
    table = fitsio.read(here / "qn-0.fits", ext="QN")
    assert table["IS_QSO_QN"].tolist() == [1] * 6
    best = [
        max(range(low, high), key=lambda row: table["Z_QN_CONF"][row])
        for low, high in ((0, 3), (3, 5), (5, 6))
    ]
    found = fitsio.read(here / "priors.fits", ext="PRIORS")
    assert found["TARGETID"].tolist() == [5, 9, 3]
    np.testing.assert_array_equal(found["Z"], table["Z_QN"][best].astype("f8"))


def test_without_quasars_there_are_no_priors_and_no_older_ones(
    run: Run, coadds: list[Path], here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (here / "far").mkdir()
    (here / "priors.fits").symlink_to("far/priors.fits")
    assert run("classify", coadds[0], "--c-thresh", "0", *PRIORS)[0] == 0
    assert names(here / "far") == ["priors.fits"]
    for option in ("--overwrite", "--resume"):
        caplog.clear()
        none = ["--c-thresh", "1", *PRIORS, option]
        assert run("classify", coadds[0], *none)[0] == 0
        assert f"{coadds[0]}: has no quasars, and so no priors" in caplog.text
        assert quasars_in(here / "qn-0.fits") == []
        assert names(here / "far") == []
        assert (here / "priors.fits").is_symlink()


@pytest.mark.parametrize("arm", "brz")
def test_an_exposure_is_made_again_where_one_arm_is_newer(
    run: Run, inputs: Path, here: Path, arm: str
) -> None:
    folder = write_cframes(inputs, coadd_hdus(2))
    output = here / "qn-0-00071246.fits"
    for path in folder.iterdir():
        age(path, 3600)
    assert run("classify", folder)[0] == 0
    age(output, 1800)
    before = states(here)
    status, out, _ = run("classify", folder, "--resume")
    assert (status, ": kept, " in out) == (0, True)
    assert states(here) == before
    age(folder / f"cframe-{arm}0-00071246.fits", 900)
    status, out, _ = run("classify", folder, "--resume")
    assert (status, ": kept, " in out) == (0, False)
    assert states(here) != before


def test_resuming_loses_no_file_that_fails(
    run: Run, coadds: list[Path], here: Path
) -> None:
    assert run("classify", *coadds)[0] == 0
    coadds[1].write_bytes(b"no longer")
    (here / "qn-2.fits").unlink()
    status, _, err = run("classify", *coadds, "--resume")
    assert status == 1
    assert "coadd-1.fits: not a FITS file" in err
    assert names(here) == ["qn-0.fits", "qn-1.fits", "qn-2.fits"]


def test_resuming_and_overwriting_exclude_each_other(
    run: Run, coadds: list[Path]
) -> None:
    status, _, err = run("classify", *coadds, "--resume", "--overwrite")
    assert status == 2
    assert "not allowed with" in err


def test_the_output_of_classify_is_kept_by_the_command(
    run: Run, coadds: list[Path], here: Path, weights: Path
) -> None:
    classify(coadds[0], weights, output=here / "qn-0.fits")
    assert not rewritten(run, coadds, here)


# Interrupts.


def test_what_killed_runs_left_behind_is_removed_after_a_day(
    run: Run, coadds: list[Path], here: Path
) -> None:
    dead, alive = here / ".qnp-partial-dead", here / ".qnp-partial-alive"
    linked = here / "far" / dead.name
    (here / "far").mkdir()
    (here / "qn-0.fits").symlink_to("far/table.fits")
    for folder in (dead, alive, linked):
        folder.mkdir()
        (folder / "qn-9.fits").write_bytes(b"half of a table")
    os.utime(dead, (0, 0))
    os.utime(linked, (0, 0))
    assert run("classify", *coadds[:2])[0] == 0
    assert not dead.exists()
    assert not linked.exists()
    assert alive.exists()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
@interruptible()
def test_signals_end_a_run_without_partial_files(
    coadds: list[Path],
    here: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
) -> None:
    original = Path.write_bytes

    def signalled(self: Path, content: bytes) -> None:
        original(self, content)
        assert self.parent.parent.resolve() == here
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Path, "write_bytes", signalled)
    assert cli.main(["classify", str(coadds[0]), "-m", str(weights)]) == status
    assert capsys.readouterr().err.startswith("qnp-xp: error: ")
    assert names(here) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_killed_runs_leave_whole_outputs_and_can_be_resumed(
    inputs: Path, tmp_path: Path, weights: Path
) -> None:
    coadds = [write_coadd(inputs / f"coadd-{i}.fits", 40) for i in range(6)]
    kill_and_resume(coadds, weights, tmp_path, kills=4, seed=0)
