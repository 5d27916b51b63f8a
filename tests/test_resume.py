"""Runs that go on where others ended, and what killed ones leave behind."""

from __future__ import annotations

import os
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
)

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


def test_outputs_older_than_their_input_are_made_again(
    run: Run, coadds: list[Path], here: Path
) -> None:
    assert run("classify", coadds[0])[0] == 0
    age(here / "qn-0.fits", 3599)
    assert not rewritten(run, coadds, here)
    age(here / "qn-0.fits", 3601)
    assert rewritten(run, coadds, here)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "another table"])
def test_damaged_outputs_are_made_again(
    run: Run, coadds: list[Path], here: Path, weights: Path, damage: str
) -> None:
    assert run("classify", coadds[0])[0] == 0
    output = here / "qn-0.fits"
    whole = output.read_bytes()
    if damage == "another table":
        output.unlink()
        write_coadd(output, 1)
    else:
        output.write_bytes(
            {"cut": whole[:-2880], "empty": b"", "text": b"hello"}[damage]
        )
    assert rewritten(run, coadds, here)
    np.testing.assert_array_equal(
        fitsio.read(output, ext="QN")["TARGETID"],
        classify(coadds[0], weights)["TARGETID"],
    )


def test_outputs_without_their_priors_are_made_again(
    run: Run, coadds: list[Path], here: Path
) -> None:
    priors = ["--priors", "priors.fits"]
    assert run("classify", coadds[0])[0] == 0
    assert rewritten(run, coadds, here, *priors)
    assert not rewritten(run, coadds, here, *priors)
    (here / "priors.fits").unlink()
    assert rewritten(run, coadds, here, *priors)


def test_outputs_with_priors_older_than_their_input_are_made_again(
    run: Run, coadds: list[Path], here: Path
) -> None:
    priors = ["--priors", "priors.fits"]
    assert run("classify", coadds[0], *priors)[0] == 0
    age(here / "priors.fits", 3601)
    assert rewritten(run, coadds, here, *priors)


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
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "qn-9.fits").write_bytes(b"half of a table")
    os.utime(dead, (0, 0))
    assert run("classify", coadds[0])[0] == 0
    assert not dead.exists()
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
