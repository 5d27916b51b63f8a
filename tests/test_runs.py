"""Runs over many files: in several processes, from lists, of a whole reduction."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import (
    TARGETID,
    Run,
    gzipped,
    interruptible,
    names,
    stalled,
    start_writing,
    wait_for,
    workers,
    write_coadd,
)

from qnp_xp import load_model
from qnp_xp._xp import backend
from qnp_xp._xp.backend import Backend, resolve
from qnp_xp.batch import jobs, processes
from qnp_xp.batch.jobs import (
    Job,
    Outcome,
    RunConfig,
    largest_first,
    run_elsewhere,
    run_job,
)
from qnp_xp.batch.processes import process_results
from qnp_xp.io.open import coadds_in, read_lists

NIGHT = "tiles/cumulative/80605/20210205"
PIXEL = "healpix/sv3/dark/260/26065"


@pytest.fixture
def coadds(inputs: Path) -> list[Path]:
    return [write_coadd(inputs / f"coadd-{i}.fits", 4 - i, seed=i) for i in range(3)]


@pytest.fixture
def specprod(tmp_path: Path) -> Path:
    """A reduction of two tiles and a pixel."""
    top = tmp_path / "redux"
    for number, name in enumerate(
        (
            f"{NIGHT}/coadd-0-80605-thru20210205.fits",
            f"{NIGHT}/coadd-1-80605-thru20210205.fits",
            "tiles/cumulative/80606/20210301/coadd-0-80606-thru20210301.fits",
            f"{PIXEL}/coadd-sv3-dark-26065.fits",
        )
    ):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_coadd(path, 1 + number, seed=number)
    # What lies beside them is none.
    write_coadd(top / NIGHT / "spectra-0-80605-thru20210205.fits", 1)
    (top / NIGHT / "coadd-0-80605-thru20210205.fits.md5").write_text("0")
    return top


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("qn-*.fits") if p.is_file()}


def strings(column: Any) -> Any:
    """Strings of a table, which fitsio reads as bytes or as str."""
    return np.asarray(column).astype(str).tolist()


# Processes.


def test_processes_write_the_same_bytes(
    run: Run, inputs: Path, coadds: list[Path], here: Path
) -> None:
    bad = inputs / "coadd-bad.fits"
    bad.write_bytes(coadds[0].read_bytes()[:20000])
    for number in (1, 2, 7):
        status, out, err = run(
            *("classify", *coadds, bad, "--outdir", f"p{number}", "--nproc", number)
        )
        assert status == 1
        assert sorted(line.split(":")[0] for line in out.splitlines()) == [
            *("coadd-0.fits", "coadd-1.fits", "coadd-2.fits")
        ]
        reason, last = err.splitlines()
        assert reason.startswith(f"qnp-xp: error: {bad}: ")
        assert "cut short" in reason
        assert last == "qnp-xp: error: 1 of 4 inputs failed"
    assert names(here / "p1") == ["qn-0.fits", "qn-1.fits", "qn-2.fits"]
    assert content(here / "p2") == content(here / "p7") == content(here / "p1")


def test_what_other_processes_warn_of_is_said_once(
    run: Run, inputs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1, arms="BR")
    assert run("classify", path, "--nproc", 2)[0] == 0
    assert caplog.messages == [f"{path}: no arm Z"]


def test_targets_are_found_by_other_processes(run: Run, coadds: list[Path]) -> None:
    wanted = f"{TARGETID + 3},99"
    status, out, err = run("classify", *coadds, "--nproc", 2, "--targetids", wanted)
    assert status == 1
    assert err == "qnp-xp: error: TARGETID 99 is in no file\n"
    assert ": 1 row, " in out


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "two"])
def test_a_number_of_processes_that_is_none_is_refused(
    run: Run, coadds: list[Path], here: Path, number: str
) -> None:
    status, out, err = run("classify", *coadds, f"--nproc={number}")
    assert (status, out) == (2, "")
    assert "argument --nproc: " in err
    assert names(here) == []


def test_processes_and_ranks_exclude_each_other(run: Run, coadds: list[Path]) -> None:
    status, _, err = run("classify", *coadds, "--mpi", "--nproc", "2")
    assert status == 2
    assert "not allowed with argument --mpi" in err


def test_without_mpi4py_the_error_names_the_extra(
    run: Run, coadds: list[Path], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    status, out, err = run("classify", *coadds, "--mpi")
    assert (status, out) == (1, "")
    assert err.startswith("qnp-xp: error: --mpi needs mpi4py and an MPI library")
    assert ".[mpi]" in err
    assert names(here) == []


def test_a_process_that_is_killed_fails_its_file_only(
    coadds: list[Path], weights: Path, here: Path
) -> None:
    todo = [Job((path,), here / path.name) for path in coadds]
    first, *others = largest_first(todo)

    def kill() -> None:
        # The first process is still importing when it is seen.
        while not (children := multiprocessing.active_children()):
            time.sleep(0.001)
        children[0].kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    results = list(process_results(todo, load_model(weights), RunConfig(), 1))
    killer.join()
    dead, *done = results
    assert (dead.job, dead.outcome) == (first, Outcome.FAILED)
    assert dead.message == f"{first.name}: the process that worked on it died"
    assert [result.job for result in done] == others
    assert [result.outcome for result in done] == [Outcome.DONE] * 2
    assert multiprocessing.active_children() == []


class Here(threading.Thread):
    """Stands for a process that is started for a model and a configuration."""

    def __init__(self, target: Any, args: Any, daemon: bool) -> None:
        super().__init__(daemon=daemon)
        self.jobs, make, self.config, _ = args
        self.model = make()

    def run(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                result = run_job(self.jobs.recv(), self.model, self.config)
                self.jobs.send(dataclasses.replace(result, table=None))


@pytest.mark.parametrize(
    ("granted", "nproc", "threads"),
    [(6, 2, 3), (7, 3, 2), (6, 7, 2), (2, 3, 1), (1, 1, 1)],
    ids=["shared", "rounded down", "no more than files", "at least one", "alone"],
)
def test_processes_share_the_cores_that_are_granted(
    coadds: list[Path],
    weights: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    granted: int,
    nproc: int,
    threads: int,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(granted))
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    started: list[tuple[int, str | None]] = []

    class Started(Here):
        def start(self) -> None:
            blas = os.environ.get("OPENBLAS_NUM_THREADS")
            started.append((self.model.threads, blas))
            self.jobs = Connection(os.dup(self.jobs.fileno()))  # as a process has it
            super().start()

    context = SimpleNamespace(Process=Started, Pipe=multiprocessing.Pipe)
    monkeypatch.setattr(processes, "get_context", lambda _: context)
    todo = [Job((path,), here / path.name) for path in coadds]
    results = list(process_results(todo, load_model(weights), RunConfig(), nproc))
    assert [result.outcome for result in results] == [Outcome.DONE] * 3
    assert started == [(threads, str(threads))] * min(nproc, 3)
    # The variables of this process are what they were.
    kept = [os.environ.get(f"{name}_NUM_THREADS") for name in ("OMP", "MKL")]
    assert kept == [str(granted), "5"]
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_processes_share_the_visible_gpus(
    coadds: list[Path], weights: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Started(Here):
        def __init__(self, target: Any, args: Any, daemon: bool) -> None:
            made.append(args[1].keywords["backend"].name)
            on_host = functools.partial(args[1], backend=resolve("cpu"))
            super().__init__(target, (args[0], on_host, *args[2:]), daemon)

        def start(self) -> None:
            self.jobs = Connection(os.dup(self.jobs.fileno()))  # as a process has it
            super().start()

    numpy = resolve("cpu").xp
    model = load_model(weights)
    model.backend = Backend(numpy, None, "gpu:0")
    context = SimpleNamespace(Process=Started, Pipe=multiprocessing.Pipe)
    monkeypatch.setattr(processes, "get_context", lambda _: context)
    monkeypatch.setattr(processes, "resolve", lambda name: Backend(numpy, None, name))
    monkeypatch.setattr(backend, "visible_gpus", lambda: 2)
    todo = [Job((path,), here / path.name) for path in coadds]
    config = RunConfig(overwrite=True)
    for device, expected in (("gpu", "010"), ("gpu:1", "111")):
        made.clear()
        results = list(process_results(todo, model, config, 3, device))
        assert [result.outcome for result in results] == [Outcome.DONE] * 3
        assert made == [f"gpu:{index}" for index in expected]


def test_a_process_that_dies_between_two_files_is_replaced(
    coadds: list[Path], weights: Path, here: Path
) -> None:
    todo = [Job((path,), here / path.name) for path in coadds]
    found = []
    for result in process_results(todo, load_model(weights), RunConfig(), 1):
        found.append(result)
        for child in multiprocessing.active_children():  # which waits for the next
            child.kill()
            child.join()
    assert [result.job for result in found] == todo
    assert [result.outcome for result in found] == [Outcome.DONE] * 3


# How they end. A file is read for ever.


@pytest.fixture
def stuck(
    coadds: list[Path], inputs: Path, here: Path, weights: Path, tmp_path: Path
) -> Any:
    """Start the command on two coadds and wait, first for one, then for the other."""
    slow = inputs / "coadd-slow.fits"
    shutil.copyfile(coadds[1], slow)
    environment = stalled(tmp_path, slow)
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> tuple[subprocess.Popen[str], list[int]]:
        command = [sys.executable, "-m", "qnp_xp", "classify", slow, coadds[0]]
        process = subprocess.Popen(
            [*command, "-m", weights, "--nproc", "2", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )
        started.append(process)
        assert (process.stdout or sys.stdin).readline().startswith("coadd-0.fits: ")
        wait_for(inputs / "coadd-slow.fits.opened")
        return process, workers(process.pid)

    with interruptible():
        yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc")
@pytest.mark.parametrize(
    ("send", "number", "status", "word"),
    [
        (os.killpg, signal.SIGINT, 130, "interrupted"),
        (os.killpg, signal.SIGTERM, 143, "terminated"),
        (os.kill, signal.SIGTERM, 143, "terminated"),
        (os.killpg, signal.SIGHUP, 129, "hung up"),
    ],
    ids=["interrupt", "SIGTERM to all", "SIGTERM to one", "SIGHUP"],
)
def test_signals_end_all_processes_at_once(
    stuck: Any, here: Path, send: Any, number: int, status: int, word: str
) -> None:
    process, found = stuck()
    assert found
    send(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (status, f"qnp-xp: error: {word}\n")
    assert workers(process.pid) == []
    assert names(here) == ["qn-0.fits"]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc")
def test_a_process_that_is_terminated_fails_its_file_only(
    stuck: Any, here: Path
) -> None:
    process, found = stuck()
    for pid in found:
        os.kill(pid, signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    reason, last = err.splitlines()
    assert reason.endswith("coadd-slow.fits: the process that worked on it died")
    assert last == "qnp-xp: error: 1 of 2 inputs failed"
    assert names(here) == ["qn-0.fits"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@interruptible()
def test_signals_while_a_file_is_written_leave_nothing_partial(
    coadds: list[Path], here: Path, weights: Path, sent: signal.Signals
) -> None:
    process = start_writing([*coadds, "-m", weights], here)
    for _ in range(2):  # as one who is not patient sends them
        process.send_signal(sent)
    _, err = process.communicate(timeout=25)
    assert process.returncode == 128 + sent
    assert len(err.splitlines()) == 1
    assert names(here / "out") == ["writing"]


def test_largest_files_are_dealt_first(coadds: list[Path], here: Path) -> None:
    sizes = [path.stat().st_size for path in coadds]
    assert sizes == sorted(sizes, reverse=True)
    absent = Job((here / "absent.fits",), here / "qn.fits")
    todo = [Job((path,), here / path.name) for path in coadds]
    assert largest_first([absent, *reversed(todo)]) == [*todo, absent]


def test_an_error_that_nobody_thought_of_fails_its_file_only(
    coadds: list[Path], weights: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = jobs.classify_file

    def fail_once(files: Any, *args: Any, **kwargs: Any) -> Any:
        if files == (coadds[1],):
            msg = "no such key"
            raise LookupError(msg)
        return original(files, *args, **kwargs)

    monkeypatch.setattr(jobs, "classify_file", fail_once)
    todo = [Job((path,), here / path.name) for path in coadds]
    model = load_model(weights)
    results = [run_job(job, model, RunConfig()) for job in todo]
    done, failed = Outcome.DONE, Outcome.FAILED
    assert [result.outcome for result in results] == [done, failed, done]
    assert results[1].message == f"{coadds[1]}: LookupError: no such key"


def test_results_travel_without_their_tables_and_with_what_was_logged(
    inputs: Path, weights: Path, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 3, arms="BR")
    job = Job((path,), here / "qn.fits")
    result = run_elsewhere(job, load_model(weights), RunConfig())
    assert (result.outcome, result.table, result.rows) == (Outcome.DONE, None, 3)
    assert result.notes == ((logging.WARNING, f"{path}: no arm Z"),)
    assert caplog.messages == []


# Lists of files.


def test_lists_stand_for_the_files_that_they_name(
    run: Run, inputs: Path, coadds: list[Path], here: Path
) -> None:
    listing = inputs / "list.txt"
    listing.write_text(f"# mine\n\n  {coadds[1]}  \n   # {coadds[2]}\n{coadds[0]}")
    status, out, err = run("classify", coadds[2], f"@{listing}")
    assert (status, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == [
        *("coadd-2.fits", "coadd-1.fits", "coadd-0.fits")
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, r"no list of files \(.*list\.txt: No such file"),
        (b"\xff\xff", "no list of files .*UTF-8"),
        (b"", "no names"),
        (b"# nothing\n\n", "no names"),
    ],
)
def test_lists_that_hold_no_names_are_refused(
    tmp_path: Path, text: bytes | None, reason: str
) -> None:
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"@.*list\.txt: .*{reason}"):
        read_lists(["a.fits", f"@{path}"])


# A reduction.


def test_the_coadds_of_a_reduction_are_found_by_group(specprod: Path) -> None:
    tiles = coadds_in(specprod, ["cumulative"])
    assert [path.name for path in tiles] == [
        "coadd-0-80605-thru20210205.fits",
        "coadd-1-80605-thru20210205.fits",
        "coadd-0-80606-thru20210301.fits",
    ]
    pixels = coadds_in(specprod, ["healpix"])
    assert [path.name for path in pixels] == ["coadd-sv3-dark-26065.fits"]
    assert coadds_in(specprod, ["healpix", "cumulative"]) == [*pixels, *tiles]


def test_gzipped_coadds_of_a_reduction_are_found_unless_there_are_plain_ones(
    specprod: Path,
) -> None:
    first, second, _ = coadds_in(specprod, ["cumulative"])
    gzipped(first)
    packed = gzipped(second)
    second.unlink()
    assert coadds_in(specprod, ["cumulative"])[:2] == [first, packed]


def test_a_reduction_without_coadds_is_an_error(specprod: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tiles: no healpix/.*/coadd-\*\.fits"):
        coadds_in(specprod / "tiles", ["healpix"])


@pytest.mark.parametrize("number", [1, 2])
def test_tables_of_a_reduction_go_to_folders_like_its_own(
    run: Run, specprod: Path, here: Path, number: int
) -> None:
    command = ["classify", "--specprod", specprod, "--groups", "cumulative"]
    command += ["--groups", "healpix", "--outdir", "out", "--nproc", number]
    command += ["--priors", "priors"]
    status, out, err = run(*command)
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 4
    found = sorted(str(p.relative_to(here)) for p in here.rglob("*") if p.is_file())
    assert found == [
        f"out/{PIXEL}/qn-sv3-dark-26065.fits",
        "out/qn-summary-cumulative-healpix.fits",
        "out/qn-summary-cumulative-healpix.txt",
        f"out/{NIGHT}/qn-0-80605-thru20210205.fits",
        f"out/{NIGHT}/qn-1-80605-thru20210205.fits",
        "out/tiles/cumulative/80606/20210301/qn-0-80606-thru20210301.fits",
        f"priors/{PIXEL}/priors-sv3-dark-26065.fits",
        f"priors/{NIGHT}/priors-0-80605-thru20210205.fits",
        f"priors/{NIGHT}/priors-1-80605-thru20210205.fits",
        "priors/tiles/cumulative/80606/20210301/priors-0-80606-thru20210301.fits",
    ]
    status, out, _ = run(*command, "--resume")
    assert status == 0
    assert out.count(": kept, ") == 4


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--groups", "healpix"], "--specprod needs --outdir"),
        (["--outdir", "out"], "--specprod and --groups need each other"),
        (
            ["a.fits", "--groups", "healpix"],
            "--specprod: not allowed with argument FILE",
        ),
        (["--groups", "tiles", "--outdir", "out"], "invalid choice: 'tiles'"),
    ],
)
def test_a_reduction_needs_its_options(
    run: Run, specprod: Path, here: Path, arguments: list[str], reason: str
) -> None:
    status, out, err = run("classify", "--specprod", specprod, *arguments)
    assert (status, out) == (2, "")
    assert reason in err
    assert names(here) == []


# The summary.


def test_a_summary_says_what_came_of_each_input(
    run: Run, inputs: Path, coadds: list[Path], here: Path, weights: Path
) -> None:
    bad = inputs / "coadd-bad.fits"
    bad.write_bytes(coadds[0].read_bytes()[:20000])
    assert run("classify", coadds[1])[0] == 0
    status, *_ = run(
        *("classify", *coadds, bad, "--resume", "--nproc", 2, "--summary", "mine")
    )
    assert status == 1
    table, header = fitsio.read(str(here / "mine.fits"), ext="FILES", header=True)
    assert strings(table["NAME"]) == [*map(str, coadds), str(bad)]
    assert strings(table["STATE"]) == ["done", "kept", "done", "failed"]
    assert table["ROWS"].tolist() == [4, -1, 2, -1]
    assert table["SCORED"].tolist() == [4, -1, 2, -1]
    done = np.array([True, False, True, False])
    quasars = [
        fitsio.read(str(here / f"qn-{i}.fits"))["IS_QSO_QN"].sum() for i in (0, 2)
    ]
    assert table["QUASARS"][done].tolist() == quasars
    stages = ["READ", "REBIN", "NORMALISE", "PREDICT", "DECODE"]
    for column in ("SECONDS", *(f"T_{stage}" for stage in stages)):
        assert np.all(table[column][done] > 0)
        assert np.all(table[column][~done] == 0)
    assert f"{bad}: not a FITS file, or cut short" in strings(table["MESSAGE"])[3]
    counts = [
        header[key] for key in ("QNFILES", "QNDONE", "QNKEPT", "QNSKIP", "QNFAIL")
    ]
    assert counts == [4, 2, 1, 0, 1]
    assert (header["QNROWS"], header["QNRANKS"]) == (6, 2)
    assert header["QNSHA256"] == load_model(weights).weights_sha256
    assert header["QNRATE"] == pytest.approx(6 / header["QNWALL"])
    text = (here / "mine.txt").read_text()
    assert "4 inputs: 2 classified, 1 kept, 0 skipped, 1 failed\n" in text
    assert f"failed:\n  {bad}: not a FITS file, or cut short" in text


def test_runs_write_no_summary_unless_it_is_asked_for(
    run: Run, coadds: list[Path], here: Path
) -> None:
    assert run("classify", *coadds, "--nproc", 2)[0] == 0
    assert names(here) == ["qn-0.fits", "qn-1.fits", "qn-2.fits"]


def test_a_summary_of_failures_only_can_be_written(
    run: Run, inputs: Path, here: Path
) -> None:
    absent = inputs / "coadd-ä.fits"
    assert run("classify", absent, "--summary", "s.fits")[0] == 1
    assert names(here) == ["s.fits", "s.txt"]
    (row,) = fitsio.read(str(here / "s.fits"))
    assert strings(row["NAME"]).endswith(r"coadd-\xe4.fits")
    assert (strings(row["STATE"]), row["ROWS"]) == ("failed", -1)
    assert "coadd-ä.fits" in (here / "s.txt").read_text("utf-8")


def test_a_summary_replaces_nothing_unasked(
    run: Run, coadds: list[Path], inputs: Path, here: Path
) -> None:
    (here / "s.txt").write_text("mine")
    status, out, err = run("classify", *coadds, "--summary", "s")
    assert (status, out) == (1, "")
    assert "s.txt exists" in err
    assert names(here) == ["s.txt"]
    before = coadds[0].read_bytes()
    status, _, err = run(
        *("classify", *coadds, "--summary", inputs / "coadd-0", "--overwrite")
    )
    assert status == 1
    assert "coadd-0.fits is an input and cannot be the output" in err
    assert coadds[0].read_bytes() == before
    assert run("classify", *coadds, "--summary", "s", "--overwrite")[0] == 0
    assert (here / "s.txt").read_text() != "mine"
