"""The command on the ranks of MPI, as mpiexec starts them."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import fitsio
import numpy as np
import pytest
from helpers import COMMAND, names, split_closing, stalled, wait_for, write_coadd

from qnp_xp.io import embed_grid

COUNT = 14  # more than two ranks are given at once
LIMIT = 60  # seconds; ranks that wait for each other would wait for ever


@pytest.fixture(scope="session")
def mpiexec() -> str:
    """Where mpiexec is; what is missing skips, or fails where it is required."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found and importlib.util.find_spec("mpi4py") is not None:
        return found
    reason = "no mpiexec, or no mpi4py"
    if os.environ.get("QNP_XP_REQUIRE_MPI"):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Files of the tests.

    Attributes
    ----------
    weights
        A small network.
    coadds
        Coadds, the larger ones last.
    bad
        One that is cut short.
    single
        Folder of the tables that one process without MPI makes of them.
    """

    weights: Path
    coadds: list[Path]
    bad: Path
    single: Path


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Inputs:
    folder = tmp_path_factory.mktemp("given")
    weights = folder / "network.h5"
    embed_grid(data / "keras" / "valid_rescaled.h5", weights)
    coadds = [
        write_coadd(folder / f"coadd-{i:02d}.fits", 5 + 2 * i, seed=i)
        for i in range(COUNT)
    ]
    bad = folder / "coadd-bad.fits"
    bad.write_bytes(coadds[0].read_bytes()[:20000])
    single = folder / "single"
    command = [sys.executable, "-c", COMMAND, "classify", *coadds]
    command += ["-m", weights, "--outdir", single]
    subprocess.run(command, check=True, capture_output=True, env=environment())
    return Inputs(weights, coadds, bad, single)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def start(
    mpiexec: str, ranks: int, *args: str | Path, **more: str
) -> subprocess.Popen[str]:
    """Start the command on ranks, one thread each."""
    return subprocess.Popen(
        [mpiexec, "-n", str(ranks), sys.executable, "-c", COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), **more},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status of the command, and what it wrote."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the ranks hang: {process.communicate()}")
    return process.returncode, out, err


def run(mpiexec: str, ranks: int, *args: str | Path) -> tuple[int, str, str]:
    return finish(start(mpiexec, ranks, *args))


def assert_same_tables(folder: Path, expected: Path, *, copied: bool = False) -> None:
    """Whether tables of two folders are the same, and their headers.

    The stamp alone tells an input from a copy of it.
    """
    tables = [name for name in names(folder) if not name.startswith("qn-summary")]
    assert tables == names(expected)
    for name in tables:
        found = fitsio.read(str(folder / name), ext="QN", header=True)
        wanted = fitsio.read(str(expected / name), ext="QN", header=True)
        assert found[0].tobytes() == wanted[0].tobytes()
        assert found[0].dtype == wanted[0].dtype
        cards = [
            [
                (card["name"], card["value"])
                for card in header.records()
                if not (copied and card["name"] == "QNSTAMP")
            ]
            for header in (found[1], wanted[1])
        ]
        assert cards[0] == cards[1]


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_ranks_write_what_one_process_writes_beside_a_file_that_fails(
    mpiexec: str, given: Inputs, tmp_path: Path, ranks: int
) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(map(str, [*given.coadds[:2], given.bad])))
    out = tmp_path / "out"
    command = ["classify", "--mpi", f"@{listing}", *given.coadds[2:]]
    status, said, err = run(
        mpiexec, ranks, *command, "-m", given.weights, "--outdir", out
    )
    assert status == 1
    reason, last = err.splitlines()
    assert reason.startswith(
        f"qnp-xp: error: {given.bad}: not a FITS file, or cut short"
    )
    assert last == f"qnp-xp: error: 1 of {COUNT + 1} inputs failed"
    # One line for each file, and those of other ranks from the root.
    said, closing = split_closing(said)
    assert closing.startswith(f"{COUNT + 1} files, ")
    assert "1 failed (coadd-bad.fits)" in closing
    lines = sorted(line.split(":")[0] for line in said.splitlines())
    assert lines == [f"coadd-{i:02d}.fits" for i in range(COUNT)]
    assert_same_tables(out, given.single)
    table, header = fitsio.read(str(out / "qn-summary.fits"), ext="FILES", header=True)
    assert [header[key] for key in ("QNFILES", "QNDONE", "QNFAIL")] == [
        *(COUNT + 1, COUNT, 1)
    ]
    assert header["QNRANKS"] == ranks
    assert table["ROWS"].tolist() == [5 + 2 * i for i in range(COUNT)] + [-1]
    text = (out / "qn-summary.txt").read_text()
    assert f"s in {ranks} processes, " in text


def test_ranks_beyond_the_files_end_with_the_others(
    mpiexec: str, given: Inputs, tmp_path: Path
) -> None:
    coadd = given.coadds[0]
    command = ["classify", "--mpi", coadd, "-m", given.weights, "--outdir", tmp_path]
    status, said, err = run(mpiexec, 5, *command)
    assert (status, err) == (0, "")
    assert said.startswith("coadd-00.fits: 5 rows, 5 scored, ")
    assert names(tmp_path) == ["qn-00.fits", "qn-summary.fits", "qn-summary.txt"]


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["-m", "absent.h5"], "absent.h5: no such weights file"),
        (["--device", "tpu"], "device='tpu' is not one of"),
        (["--targetids", "one"], "TARGETIDs are integers"),
        (["--summary", "nowhere/s"], "nowhere: no such folder"),
    ],
)
def test_what_is_wrong_for_all_is_said_once_and_nobody_waits(
    mpiexec: str, given: Inputs, tmp_path: Path, option: list[str], reason: str
) -> None:
    command = ["classify", "--mpi", *given.coadds, "-m", given.weights]
    status, said, err = run(mpiexec, 2, *command, "--outdir", tmp_path, *option)
    assert status != 0
    assert said == ""
    assert err.startswith("qnp-xp: error: ")
    assert err.count(reason) == 1
    assert names(tmp_path) == []


def test_warnings_of_all_ranks_are_said_by_the_root(
    mpiexec: str, given: Inputs, tmp_path: Path
) -> None:
    paths = [write_coadd(tmp_path / f"coadd-{i}.fits", 2, arms="BR") for i in range(4)]
    command = ["classify", "--mpi", *paths, "-m", given.weights, "--outdir", tmp_path]
    status, _, err = run(mpiexec, 2, *command)
    assert status == 0
    assert sorted(err.splitlines()) == [
        f"qnp-xp: WARNING: {path}: no arm Z" for path in paths
    ]


# What ends a run.


def rank_pids(mpiexec_pid: int) -> dict[int, int]:
    """Processes of the ranks, by rank."""
    parents: dict[int, int] = {}
    ranks: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            continue
        pid = int(folder.name)
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
        found = [v for v in variables if v.startswith(b"PMI_RANK=")]
        if found:
            ranks[pid] = int(found[0].partition(b"=")[2])

    def is_ours(pid: int) -> bool:
        while pid and pid != mpiexec_pid:
            pid = parents.get(pid, 0)
        return pid == mpiexec_pid

    return {rank: pid for pid, rank in ranks.items() if is_ours(pid)}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_rank_that_is_killed_ends_the_run_and_the_next_one_goes_on(
    mpiexec: str, given: Inputs, tmp_path: Path, sent: signal.Signals
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    paths = [Path(shutil.copy2(path, folder)) for path in given.coadds]
    # The last ones that the two ranks come to are read for ever.
    slow = sorted(paths, key=lambda path: path.stat().st_size, reverse=True)[-2:]
    outputs = [path.name.replace("coadd", "qn") for path in slow]
    whole = sorted({f"qn-{i:02d}.fits" for i in range(COUNT)} - set(outputs))
    command = ["classify", "--mpi", *paths, "-m", given.weights, "--outdir", out]
    process = start(mpiexec, 2, *command, **stalled(tmp_path, *slow))
    try:
        for path in slow:
            wait_for(path.with_name(f"{path.name}.opened"), LIMIT)
        assert [name for name in names(out) if name[0] != "."] == whole
        os.kill(rank_pids(process.pid)[1], sent)
        assert finish(process)[0] != 0
    finally:
        process.kill()
    # Outputs that are there are whole.
    kept = tmp_path / "kept"
    shutil.copytree(given.single, kept)
    for name in outputs:
        (kept / name).unlink()
    assert_same_tables(out, kept, copied=True)
    before = {name: (out / name).stat().st_mtime_ns for name in whole}
    status, said, err = run(mpiexec, 2, *command, "--resume")
    assert (status, err) == (0, "")
    assert said.count(": kept, ") == len(whole)
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == before
    assert_same_tables(out, given.single, copied=True)


BROKEN = """
import os, sys
from qnp_xp import cli
from qnp_xp.batch import mpi

def broken(*args):
    raise LookupError("as nobody thought")

if os.environ["PMI_RANK"] == "{rank}":
    mpi.{name} = broken
sys.exit(cli.main())
"""


@pytest.mark.parametrize(
    ("rank", "name"), [(1, "run_elsewhere"), (0, "largest_first"), (0, "run_job")]
)
def test_a_fault_in_one_rank_ends_all_with_a_traceback(
    mpiexec: str, given: Inputs, tmp_path: Path, rank: int, name: str
) -> None:
    program = BROKEN.format(rank=rank, name=name)
    command = [mpiexec, "-n", "2", sys.executable, "-c", program]
    command += ["classify", "--mpi", *map(str, given.coadds)]
    command += ["-m", str(given.weights), "--outdir", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    status, _, err = finish(process)
    assert status != 0
    assert "ends the run: LookupError" in err
    assert "LookupError: as nobody thought" in err


def test_gpus_are_forbidden_once_for_all(
    mpiexec: str, given: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESI_NO_GPU", "1")
    command = ["classify", "--mpi", *given.coadds[:2], "--gpu", "-m", given.weights]
    status, _, err = run(mpiexec, 2, *command, "--outdir", tmp_path)
    assert status == 0
    assert err == "qnp-xp: WARNING: $DESI_NO_GPU is set: the CPU is used, and not gpu\n"
    header = fitsio.read_header(str(tmp_path / "qn-00.fits"), ext="QN")
    assert header["QNDEVICE"] == "cpu"
    assert np.isfinite(fitsio.read(str(tmp_path / "qn-00.fits"))["Z_QN"]).all()
