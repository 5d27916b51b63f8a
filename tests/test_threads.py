"""Work over threads: how many, in which order, and with the same bits."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qnp_xp.model
from qnp_xp._network.description import Conv, Dense, Head, Network
from qnp_xp._xp import threads as _threads
from qnp_xp._xp.threads import granted_cores, thread_map, worker_pool
from qnp_xp.io import load_model


@pytest.mark.parametrize(
    ("value", "cores"), [("1", 1), ("3", 3), ("4,2", 4), (" 2 ", 2)]
)
def test_omp_num_threads_says_how_many_cores(
    monkeypatch: pytest.MonkeyPatch, value: str, cores: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert granted_cores() == cores


@pytest.mark.parametrize("value", ["", "0", "many", "-1"])
def test_cores_are_those_granted_where_it_says_nothing(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        assert granted_cores() == len(os.sched_getaffinity(0))
    else:
        assert granted_cores() == os.cpu_count()


def test_outcomes_come_in_the_order_of_the_items() -> None:
    def slow(x: int) -> int:
        time.sleep(0.002 * (5 - x))
        return x * x

    assert thread_map(slow, range(5), 3) == [0, 1, 4, 9, 16]
    assert thread_map(slow, [], 3) == []


def test_an_error_in_a_thread_is_raised() -> None:
    def fail(x: int) -> int:
        msg = f"item {x}"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="item 0"):
        thread_map(fail, range(3), 2)


def test_no_more_threads_than_asked_for() -> None:
    running: list[int] = []
    most = 0
    lock = threading.Lock()

    def work(x: int) -> None:
        nonlocal most
        with lock:
            running.append(x)
            most = max(most, len(running))
        time.sleep(0.005)
        with lock:
            running.remove(x)

    thread_map(work, range(12), 2)
    assert most <= 2


def test_blas_has_one_thread_within_and_its_own_again_behind() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="not installed")
    _threads._blas.cache_clear()  # other packages bring their own

    def counts() -> list[int]:
        info = threadpoolctl.threadpool_info()
        return [lib["num_threads"] for lib in info if lib["user_api"] == "blas"]

    before = counts()
    with worker_pool(2) as pool:
        assert set(pool.submit(counts).result()) <= {1}
    assert counts() == before


@pytest.fixture
def blas_threads() -> Iterator[Callable[[], list[int]]]:
    """The threads of each BLAS library, three at first, where that can be set."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="not installed")
    libraries = threadpoolctl.ThreadpoolController().select(user_api="blas")
    _threads._blas.cache_clear()  # other packages bring their own

    def count() -> list[int]:
        return [library["num_threads"] for library in libraries.info()]

    def change(numbers: list[int]) -> None:
        for library, number in zip(libraries.lib_controllers, numbers, strict=True):
            library.set_num_threads(number)
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread()

    original = count()
    change([3] * len(original))
    yield count
    change(original)


@pytest.mark.parametrize("last", ["main", "other"])
def test_calls_at_once_leave_blas_its_own_threads(
    blas_threads: Callable[[], list[int]], last: str
) -> None:
    before, within = blas_threads(), [1] * len(blas_threads())
    pools: list[ThreadPoolExecutor] = []
    begun, end = threading.Event(), threading.Event()

    def compute() -> None:
        with worker_pool(2) as pool:
            pools.append(pool)
            begun.set()
            end.wait(10)

    other = threading.Thread(target=compute)
    with contextlib.ExitStack() as own:
        pool = own.enter_context(worker_pool(2))
        other.start()
        assert begun.wait(10)
        if last == "main":
            end.set()
            other.join()
        assert blas_threads() == within
        assert pool.submit(blas_threads).result() == within
    if last == "other":
        assert pools[0].submit(blas_threads).result() == within
        end.set()
        other.join()
    assert blas_threads() == before


class OfThread(threading.local):
    """A library that keeps a number for each thread, three at first."""

    number = 3

    def set_num_threads(self, number: int) -> None:
        self.number = number

    def get_num_threads(self) -> int:
        return self.number


@pytest.fixture
def of_thread(monkeypatch: pytest.MonkeyPatch) -> OfThread:
    """The one BLAS, as OpenMP and MKL are."""
    library = OfThread()
    blas = _threads._Blas([], [library])
    monkeypatch.setattr(_threads, "_blas", lambda: blas)
    return library


def test_each_worker_is_held_to_one_thread(of_thread: OfThread) -> None:
    together = threading.Barrier(3, timeout=10)  # so that each item has its thread

    def work(_: int) -> int:
        together.wait()
        return of_thread.get_num_threads()

    assert thread_map(work, range(3), 3) == [1, 1, 1]


def test_a_thread_that_calls_is_held_and_gets_its_own_number_back(
    of_thread: OfThread,
) -> None:
    both, ended = threading.Barrier(2, timeout=10), threading.Event()
    found: dict[int, list[int]] = {}

    def call(number: int) -> None:
        of_thread.set_num_threads(number)
        with worker_pool(1):
            found[number] = [of_thread.get_num_threads()]
            both.wait()
            if number == 7:  # the first to begin or not, it ends last
                ended.wait(10)
        found[number].append(of_thread.get_num_threads())

    calls = [threading.Thread(target=call, args=(number,)) for number in (5, 7)]
    for thread in calls:
        thread.start()
    calls[0].join()
    assert found[5] == [1, 5]
    ended.set()
    calls[1].join()
    assert found[7] == [1, 7]
    assert of_thread.get_num_threads() == 3  # in a thread that has not called


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ({"internal_api": "openblas", "threading_layer": "pthreads"}, "shared"),
        ({"internal_api": "openblas", "threading_layer": "openmp"}, "of OpenMP"),
        ({"internal_api": "mkl", "check_symbols": ("MKL_Get_Max_Threads",)}, "shared"),
        (
            {
                "internal_api": "mkl",
                "threading_layer": "intel",
                "check_symbols": ("MKL_Set_Num_Threads_Local",),
            },
            "own",
        ),
        ({"internal_api": "blis"}, "shared"),
    ],
    ids=["pthreads", "OpenMP", "MKL of the process", "MKL of the thread", "BLIS"],
)
def test_whose_number_of_threads_it_is(
    monkeypatch: pytest.MonkeyPatch, library: dict[str, Any], expected: str
) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="not installed")
    blas, openmp = types.SimpleNamespace(**library), object()

    class Controller:
        def select(self, user_api: str) -> types.SimpleNamespace:
            chosen = {"blas": [blas], "openmp": [openmp]}[user_api]
            return types.SimpleNamespace(lib_controllers=chosen)

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", Controller)
    found = _threads._blas.__wrapped__()
    assert (
        found
        == {"shared": ([blas], []), "own": ([], [blas]), "of OpenMP": ([], [openmp])}[
            expected
        ]
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_waits_for_a_thread_is_not_done_after_an_error(
    error: type[BaseException],
) -> None:
    done: list[int] = []

    def work(x: int) -> None:
        time.sleep(0.02)
        done.append(x)

    def compute() -> None:
        with worker_pool(2) as pool:
            for x in range(100):
                pool.submit(work, x)
            raise error

    with pytest.raises(error):
        compute()
    assert len(done) <= 4


def test_without_threadpoolctl_there_is_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_threads, "_blas", lambda: None)
    names = thread_map(lambda _: threading.current_thread().name, range(8), 4)
    assert len(set(names)) == 1


def draw_network(filters: int) -> Network:
    """A network wide enough for Toom-Cook."""
    rng = np.random.default_rng(filters)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) / np.sqrt(
            shape[0] * shape[-2] if shape[1:] else 4
        )

    convs = [Conv("a", normal(10, 1, filters), normal(filters), 2, "valid", "relu")]
    convs += [
        Conv(name, normal(10, filters, filters), normal(filters), 2, "valid", "relu")
        for name in "bcd"
    ]
    trunk = Dense("t", normal(20 * filters, filters), normal(filters), "relu")
    heads = [
        Head(
            Dense("box", normal(filters, 13), normal(13), "sigmoid"),
            Dense("offset", normal(filters, 13), normal(13), "sigmoid"),
        )
        for _ in range(7)
    ]
    return Network(443, tuple(convs), (trunk,), tuple(heads), 0)


@pytest.fixture(scope="module", params=[False, None], ids=["plain", "by default"])
def wide(request: pytest.FixtureRequest) -> qnp_xp.model.QuasarNP:
    path = Path(__file__).parent / "data" / "keras" / "valid.h5"
    model = load_model(path, compiled=request.param)
    return model.__replace__(network=draw_network(48))


SPECTRA = np.random.default_rng(3).normal(size=(150, 443)).astype(np.float32)


@pytest.mark.parametrize("nproc", [1, 2, 3, 8, None])
def test_bits_do_not_depend_on_the_number_of_threads(
    wide: qnp_xp.model.QuasarNP, nproc: int | None
) -> None:
    expected = np.stack(wide.__replace__(nproc=1).predict(SPECTRA))
    found = np.stack(wide.__replace__(nproc=nproc).predict(SPECTRA))
    np.testing.assert_array_equal(found, expected)


def test_a_model_is_loaded_with_a_number_of_threads() -> None:
    path = Path(__file__).parent / "data" / "keras" / "valid.h5"
    assert load_model(path, nproc=3).threads == 3
    assert load_model(path).threads == granted_cores()
    with pytest.raises(ValueError, match="nproc must be 1 or more, got 0"):
        load_model(path, nproc=0)


@pytest.mark.parametrize(("tile", "block"), [(1, 1), (4, 12), (8, 64), (32, 32)])
def test_bits_do_not_depend_on_the_tile(
    wide: qnp_xp.model.QuasarNP, monkeypatch: pytest.MonkeyPatch, tile: int, block: int
) -> None:
    expected = np.stack(wide.predict(SPECTRA))
    monkeypatch.setattr(qnp_xp.model, "_TILE", tile)
    monkeypatch.setattr(qnp_xp.model, "_BLOCK", block)
    other = wide.__replace__()  # a model chooses its tile when it is made
    tiles: list[int] = []
    layers = other._layers

    def counting(x: np.ndarray) -> np.ndarray:
        tiles.append(x.shape[0])
        return np.asarray(layers(x))

    monkeypatch.setattr(other, "_layers", counting)
    np.testing.assert_array_equal(np.stack(other.predict(SPECTRA)), expected)
    assert max(tiles) == tile


@pytest.mark.parametrize("n", [1, 7, 8, 9, 31, 33, 100])
def test_bits_do_not_depend_on_the_batch(wide: qnp_xp.model.QuasarNP, n: int) -> None:
    expected = np.stack(wide.predict(SPECTRA))
    rows = np.random.default_rng(n).permutation(150)[:n]
    np.testing.assert_array_equal(
        np.stack(wide.predict(SPECTRA[rows])), expected[:, rows]
    )


def test_every_spectrum_gets_its_own_bits_in_every_place(
    wide: qnp_xp.model.QuasarNP,
) -> None:
    found = np.stack(wide.predict(np.repeat(SPECTRA[:1], 150, axis=0)))
    np.testing.assert_array_equal(found, np.repeat(found[:, :1], 150, axis=1))


@pytest.mark.parametrize("kernels", ["Haswell", "Zen", "SkylakeX"])
def test_bits_hold_with_other_kernels_of_openblas(kernels: str) -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_threads import SPECTRA, draw_network
from pathlib import Path
from qnp_xp.io import load_model
path = Path(sys.argv[1]) / "data" / "keras" / "valid.h5"
model = load_model(path, compiled=False).__replace__(network=draw_network(48))
everything = np.stack(model.predict(SPECTRA))
rows = np.random.default_rng(0).permutation(150)[:77]
same = np.array_equal(np.stack(model.predict(SPECTRA[rows])), everything[:, rows])
alone = model.__replace__(nproc=1)
print(same, np.array_equal(np.stack(alone.predict(SPECTRA)), everything))
"""
    pytest.importorskip("threadpoolctl", reason="BLAS threads are not held to one")
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={**os.environ, "OPENBLAS_CORETYPE": kernels, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0:
        pytest.skip(f"this CPU cannot run the kernels for {kernels}")
    assert done.stdout == "True True\n", done.stderr


#: What is there of OpenBLAS on OpenMP or of MKL, which `nox -s openmp` asks for.
PER_THREAD = "QNP_XP_REQUIRE_OPENMP"

PREDICT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_threads import SPECTRA, draw_network
from pathlib import Path
from qnp_xp import classify
from qnp_xp._data import DEMO_COADD, data_file
from qnp_xp._xp.threads import _blas
from qnp_xp.io import load_model
path = Path(sys.argv[1]) / "data" / "keras" / "valid.h5"
for nproc in (1, 2):
    model = load_model(path, nproc=nproc, compiled=False)
    model = model.__replace__(network=draw_network(48))
    results = np.stack(model.predict(SPECTRA)), classify(data_file(DEMO_COADD))
    print(*(hashlib.sha256(x.tobytes()).hexdigest() for x in results))
print(len(_blas().own), file=sys.stderr)
"""


def test_bits_do_not_depend_on_omp_num_threads() -> None:
    reason = "BLAS threads are not held to one"
    pytest.importorskip("threadpoolctl", reason=reason)
    found = []
    for number in (None, "1", "2", "4"):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        if number is not None:
            environment["OMP_NUM_THREADS"] = number
        done = subprocess.run(
            [sys.executable, "-c", PREDICT, str(Path(__file__).parent)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found += done.stdout.splitlines()
        if PER_THREAD in os.environ:
            assert int(done.stderr.splitlines()[-1]) > 0, "no BLAS on OpenMP"
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("2,4", 2), (" 5 ", 5)])
def test_threads_are_those_that_a_batch_system_grants(
    asked: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert granted_cores() == threads


@pytest.mark.parametrize("asked", ["", "0", "all"])
def test_other_values_leave_the_cores_of_the_scheduler(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 7}, raising=False)
    assert granted_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert granted_cores() == 1
