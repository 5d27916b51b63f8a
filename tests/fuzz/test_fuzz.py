"""Ten thousand damaged files: each is read or refused, soon and in little memory.

Not part of the ordinary tests: ``pytest tests/fuzz``, with ``QNP_XP_FUZZ_SEED`` and
``QNP_XP_FUZZ_SCALE`` (1 is ten thousand files) for others and more of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fuzz.worker import KINDS, networks, outcome, spectra
from helpers import run_python

SEED = os.environ.get("QNP_XP_FUZZ_SEED", "1")
SCALE = float(os.environ.get("QNP_XP_FUZZ_SCALE", "1"))
FILES = {"fits": 3000, "fits.gz": 2000, "h5": 3000, "keras": 2000}
MEGABYTES = 400  # of a process that has numpy and the package in it
WORKER = Path(__file__).with_name("worker.py")


def command(kind: str, first: int, count: int, folder: Path) -> list[str]:
    return [
        sys.executable,
        str(WORKER),
        kind,
        SEED,
        str(first),
        str(count),
        str(folder),
    ]


def lines(kind: str, first: int, count: int, folder: Path) -> Iterator[dict[str, Any]]:
    """What a worker says of some files; a new one goes on where one died."""
    end = first + count
    while first < end:
        arguments = command(kind, first, end - first, folder)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            arguments, check=False, capture_output=True, text=True, env=environment
        )
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert said, done.stderr
        yield from (line for line in said if "outcome" in line)
        if "outcome" in said[-1]:
            return
        number = said[-1]["number"]
        why = f"exit status {done.returncode}: {done.stderr}"
        yield {"number": number, "outcome": "died", "why": why, "megabytes": 0}
        first = number + 1


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    total, workers = round(FILES[kind] * SCALE), os.cpu_count() or 1
    share = -(-total // workers)
    parts = [(first, min(share, total - first)) for first in range(0, total, share)]
    with ThreadPoolExecutor(workers) as pool:
        said = list(pool.map(lambda part: list(lines(kind, *part, tmp_path)), parts))
    results = [line for part in said for line in part]
    assert sorted(line["number"] for line in results) == list(range(total))
    counts = Counter(line["outcome"] for line in results)
    peak = max(line["megabytes"] for line in results)
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}, seed {SEED}: {dict(counts)}, {peak} MB\n")
    bad = [line for line in results if line["outcome"] not in ("loaded", "refused")]
    again = "\n".join(
        f"{' '.join(command(kind, line['number'], 1, tmp_path))}\n{line['why']}"
        for line in bad[:5]
    )
    assert not bad, (
        f"{len(bad)} files went wrong; the first of them by themselves:\n{again}"
    )
    assert peak < MEGABYTES
    # Neither all nor none: the damage is worth the time.
    assert counts["loaded"] > total / 50
    assert counts["refused"] > total / 5


@pytest.mark.parametrize("kind", ["fits", "h5", "keras"])
def test_the_files_are_sound_before_they_are_damaged(tmp_path: Path, kind: str) -> None:
    bases = spectra() if kind == "fits" else networks(f".{kind}")
    for number, content in enumerate(bases):
        path = tmp_path / f"r{number}.{kind}"
        path.write_bytes(content)
        assert outcome(kind, path) == ("loaded", "")


def test_the_files_are_the_same_in_every_process() -> None:
    code = "from fuzz.worker import spectra\nprint([hash_of(x) for x in spectra()])"
    start = "import hashlib\nhash_of = lambda x: hashlib.sha256(x).hexdigest()\n"
    hashes = [hashlib.sha256(content).hexdigest() for content in spectra()]
    assert run_python(start + code).strip() == str(hashes)


def test_each_kind_has_its_files() -> None:
    assert set(FILES) == set(KINDS)
    assert sum(FILES.values()) == 10_000
