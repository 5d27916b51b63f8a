"""Prove and measure the GPU path in one run of under five minutes.

    python benchmarks/gpu_check.py > gpu.md

prints a table in Markdown, for docs/performance.md, on a machine with a GPU, CuPy and
what the package needs. Each check ends with a row that says passed, failed or skipped,
and why; the exit status is 1 if one failed. With `--dry` numpy takes CuPy's place, so
that the same lines run where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from common import coadd, interleave, median, processor, torch_network, versions

from qnp_xp import DeviceError, classify, load_model
from qnp_xp._classify import classify_file, classify_source
from qnp_xp._data import DEMO_COADD, EMBEDDED_NETWORK, data_file
from qnp_xp._options import Options
from qnp_xp._xp.backend import resolve, to_device, to_host, visible_gpus
from qnp_xp._xp.clock import Clock
from qnp_xp._xp.threads import granted_cores
from qnp_xp.decode import decode
from qnp_xp.io import load_desi_coadd
from qnp_xp.io.open import open_group

ROOT = Path(__file__).parents[1]
MOST = 3e-6  # difference of results from numpy's
MOST_LAUNCHES = {"a pass of the network": 60, "a batch": 150}
LEAST_OF_TORCH = 0.8  # of the rate of PyTorch's best
YES_NO = {True: "yes", False: "no"}
ROOM = 24  # MiB, too little for a tile

Rows = Iterator["Row"]


class Row(NamedTuple):
    """One line of the table."""

    what: str
    result: object
    good: bool = True


class Skipped(Exception):
    """Why a check cannot be made, or not to its end."""


@dataclass(frozen=True)
class Sizes:
    """How much is computed."""

    spectra: int = 16_384
    tiles: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    rows: tuple[int, ...] = (500, 20_000)  # of files
    batches: tuple[int, ...] = (256, 1024, 4096)
    processes: tuple[int, ...] = (1, 2, 4, 8)
    runs: int = 20  # to compare bits of
    repeats: int = 3  # to time
    tests: tuple[tuple[str, ...], ...] = (("tests/test_gpu.py",), ("--arrays-only",))


QUICK = Sizes(
    *(64, (16, 32), (30, 60), (32,), (1, 2), 3, 1),
    tests=(("tests/test_gpu.py", "tests/test_shapes.py"),),
)


def stand_in() -> None:
    """Put numpy in CuPy's place, on a card that does nothing."""
    cupy = mock.MagicMock(name="cupy")
    cupy.ones, cupy.matmul, cupy.float32 = np.ones, np.matmul, np.float32
    cupy.ndarray = cupy.generic = type("ndarray", (), {})  # of which there are none
    cupy.cuda.runtime.getDeviceCount.return_value = 1
    cupy.cuda.runtime.getDevice.return_value = 0
    cupy.cuda.runtime.memGetInfo.return_value = 1 << 30, 1 << 31
    cupy.cuda.runtime.getDeviceProperties.return_value = {"name": b"none (dry run)"}
    cupy.get_default_memory_pool().free_bytes.return_value = 0
    cupy.get_default_memory_pool().total_bytes.return_value = 0
    sys.modules["cupy"] = cupy
    sys.modules["array_api_compat.cupy"] = resolve("cpu").xp


class Job:
    """What the checks share."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.folder = folder
        self.dry = args.dry
        self.sizes = QUICK if args.quick else Sizes()
        self.end = time.perf_counter() + args.seconds
        self.weights = args.model or data_file(EMBEDDED_NETWORK)
        self.model = load_model(self.weights, "gpu")
        self.host = load_model(self.weights)
        self.cupy = importlib.import_module("cupy")
        self.pool = self.cupy.get_default_memory_pool()

    def spectra(self, n: int) -> np.ndarray:
        """Make normalised spectra of noise with a line."""
        rng, size = np.random.default_rng(0), self.model.nbins
        centre = rng.uniform(0, size, size=(n, 1))
        x = rng.normal(size=(n, size))
        x += 6 * np.exp(-0.5 * ((np.arange(size) - centre) / 4) ** 2)
        x -= x.mean(axis=1, keepdims=True)
        return (x / x.std(axis=1, keepdims=True)).astype(np.float32)

    def put(self, x: np.ndarray) -> Any:
        """Copy an array to the GPU."""
        return to_device(x, self.model.backend)

    def coadd(self, rows: int) -> Path:
        """Write a coadd, once."""
        path = self.folder / f"coadd-{rows}.fits"
        if not path.exists():
            coadd(path, rows)
        return path

    def time(self, run: Callable[[], Any]) -> float:
        """Time a function, until the GPU has done all that it asked for."""

        def wait() -> None:
            run()
            self.model.backend.settle()

        return median(interleave({"": wait}, self.sizes.repeats)[""])


def close(what: str, found: Any, expected: Any, most: float | None = None) -> Row:
    """Compare arrays with what is expected."""
    pairs = zip(map(to_host, found), map(to_host, expected), strict=True)
    worst = float(np.max([np.max(np.abs(a - b)) for a, b in pairs]))
    return Row(what, f"{worst:.1e}", worst <= (most or MOST))


def digest(arrays: Iterable[Any]) -> str:
    """Digest the bits of arrays."""
    return hashlib.sha256(b"".join(to_host(x).tobytes() for x in arrays)).hexdigest()


def rate(n: int, seconds: float) -> str:
    """Write how fast spectra were worked on."""
    return f"{n / seconds:,.0f} spectra/s"


def mib(size: float) -> str:
    """Write bytes in MiB."""
    return f"{size / 2**20:,.0f} MiB"


def cuda(version: int) -> str:
    """Write a version of CUDA, which is 12040 for 12.4."""
    return f"{int(version) // 1000}.{int(version) % 1000 // 10}"


# The checks, in their order: what proves comes before what measures.


def environment(job: Job) -> Rows:
    """Say what the figures hold for."""
    runtime = job.cupy.cuda.runtime
    card = runtime.getDeviceProperties(0)["name"].decode()
    yield Row("card", f"{card}, {mib(runtime.memGetInfo()[1])}; {visible_gpus()} seen")
    command = "nvidia-smi --query-gpu=driver_version --format=csv,noheader"
    driver = subprocess.getoutput(command).splitlines()[0]
    yield Row("driver", f"{driver}, CUDA {cuda(runtime.driverGetVersion())}")
    yield Row("CuPy's CUDA", cuda(runtime.runtimeGetVersion()))
    yield Row("host", f"{processor()}, {granted_cores()} cores")
    yield Row("versions", ", ".join(" ".join(pair) for pair in versions().items()))
    yield Row("date, network", f"{time.strftime('%Y-%m-%d')}, {job.model!r}")


def agreement(job: Job) -> Rows:
    """Compare with numpy: network, sums of pixels, decoding, and a whole table."""
    x = job.spectra(min(job.sizes.spectra, 2048))
    for dtype in ("float64", "float32"):
        model = load_model(job.weights, "gpu", dtype=dtype)
        expected = load_model(job.weights, dtype=dtype).predict(x)
        for where, given in (("host", x), ("GPU", job.put(x))):
            found = model.predict(given)
            yield close(f"predict in {dtype}, spectra on the {where}", found, expected)
    coadd = data_file(DEMO_COADD)
    one, other = (load_desi_coadd(coadd, device=d)[0] for d in ("gpu", "cpu"))
    yield close("read, rebin and normalise", [one], [other])
    names = job.model.lines, job.model.lines_bal, job.model.wave
    both = (decode(x, *names) for x in ([job.put(x) for x in expected], expected))
    found, expected = ([x.c_line, x.z_line, x.zbest, x.cbest] for x in both)
    yield close("decode", found, expected)
    table, expected = classify(coadd, job.model), classify(coadd, job.host)
    same = functools.partial(np.allclose, rtol=MOST, atol=MOST, equal_nan=True)
    differ = [k for k in expected.dtype.names if not same(table[k], expected[k])]
    yield Row("columns of the demo's table that differ", differ or "none", not differ)


def bits(job: Job) -> Rows:
    """Compare the bits of runs of the same input."""
    spectra = job.spectra(min(job.sizes.spectra, 1000))
    x, runs = job.put(spectra), range(job.sizes.runs)
    first = digest(job.model.predict(x))
    others = sum(digest(job.model.predict(x)) != first for _ in runs)
    yield Row("predict, runs with other bits", f"{others} of {len(runs)}", others == 0)
    others = 0
    for _ in runs:  # weights must have arrived, on whichever stream they are used
        model = load_model(job.weights, "gpu")
        with job.cupy.cuda.Stream(non_blocking=True):
            others += digest(model.predict(x)) != first
    yield Row("fresh models on another stream", f"{others} of {len(runs)}", others == 0)
    path, tables = job.coadd(job.sizes.rows[0]), []

    def run() -> None:
        tables.append(classify(path, job.model).tobytes())

    run()
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = len(tables) == 4 and len(set(tables)) == 1
    text = f"{len(tables)} runs, {len(set(tables))} tables"
    yield Row("classify, alone and in three threads", text, good)
    # The rest is promised for CPUs alone, and no failure here.
    turned = [to_host(x)[::-1] for x in job.model.predict(job.put(spectra[::-1]))]
    yield Row("same bits in reverse order", YES_NO[digest(turned) == first])
    whole = {classify(path, job.model, batch_size=n).tobytes() for n in (7, 100, 256)}
    yield Row("same bits in batches of 7, 100, 256", YES_NO[whole == set(tables)])


def launches(job: Job) -> Rows:
    """Count the operations that are asked of the GPU, and how long asking takes."""
    sys.path.append(str(ROOT / "tests"))
    try:
        from launches import count_operations  # noqa: PLC0415

        # Operators of numpy's arrays cannot be counted.
        module = importlib.import_module("array_api_strict" if job.dry else "cupy")
    except ImportError as err:
        raise Skipped(err) from err
    model, to_host = job.model, "get"
    if job.dry:
        device, to_host = module.Device("device1"), "to_device"
        model = load_model(job.weights, device, xp=module)
    xp = model.backend.xp
    path, counts = job.coadd(64), {}
    x = to_device(job.spectra(1), model.backend)
    with count_operations(xp, type(x), to_host) as counted:
        model.forward(x)
        counts["a pass of the network"] = counted.total()
        counted.clear()
        for size in (64, 32):  # the second has a batch more
            before = counted.copy()
            counted.clear()
            classify(path, model, batch_size=size)
        counted.subtract(before)
        counts["a batch"] = counted.total()
        transfers = counted[to_host]
    yield Row("transfers to the host in a batch", transfers, transfers == 2)
    for name, count in counts.items():
        yield Row(f"launches of {name}", count, count <= MOST_LAUNCHES[name])
    seconds = job.time(lambda: model.forward(x)) / counts["a pass of the network"]
    yield Row("a pass for one spectrum, for each launch", f"{1e6 * seconds:.1f} us")
    if not job.dry:
        for size in job.sizes.batches:
            bound = rate(size, seconds * counts["a batch"])
            yield Row(f"which allow, in batches of {size:,}", bound)


def memory(job: Job) -> Rows:
    """Look at the memory that is taken, and take most of it away."""
    x, model = job.spectra(min(job.sizes.spectra, 2048)), load_model(job.weights, "gpu")
    expected = [to_host(x) for x in model.predict(x)]
    yield Row(f"pool after {len(x):,} spectra", mib(job.pool.total_bytes()))
    free, total = job.cupy.cuda.runtime.memGetInfo()
    yield Row("taken on the card, by whomever", mib(total - free))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield Row("peak on the host", mib(peak << 10))
    if job.dry:
        msg = "numpy has no pool that could be limited"
        raise Skipped(msg)
    before = model.tile
    model.backend.settle()
    model.backend.release()
    job.pool.set_limit(size=job.pool.used_bytes() + (ROOM << 20))
    try:
        yield close(f"results with {ROOM} MiB left", model.predict(x), expected)
    finally:
        job.pool.set_limit(size=0)
    yield Row("tile then, and before", f"{model.tile}, {before}", model.tile < before)


def tiles(job: Job) -> Rows:
    """Run the network in tiles of many sizes, on spectra that are on the GPU."""
    n, model = job.sizes.spectra, load_model(job.weights, "gpu")
    spectra = job.spectra(n)
    x, expected = job.put(spectra), model.predict(spectra)
    for size in job.sizes.tiles:
        model.tile = size
        model.backend.release()
        row = close(f"tiles of {size}", model.predict(x), expected)
        memory = mib(job.pool.total_bytes())
        start = time.perf_counter()
        model.predict(x)
        asked = time.perf_counter() - start
        model.backend.settle()
        seconds = job.time(lambda: model.predict(x))
        less = "" if model.tile == size else f", halved to {model.tile}"
        yield row._replace(
            result=f"{rate(n, seconds)}, {asked / seconds:.2f} of the time"
            f" to ask for it, {memory}{less}, difference {row.result}"
        )
    seconds = job.time(lambda: job.model.predict(spectra))
    yield Row(f"tiles of {job.model.tile}, from the host", rate(n, seconds))


class WaitingClock(Clock):
    """Have each stage wait for what it asked of the GPU."""

    def __init__(self, finish: Callable[[], None]) -> None:
        super().__init__()
        self._finish = finish

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of a block for a stage, until the GPU is done."""
        with super().__call__(stage):
            yield
            self._finish()


def stages(job: Job) -> Rows:
    """Classify files from the page cache, by size of the batch and by stage."""
    for rows in job.sizes.rows:
        path = job.coadd(rows)
        for size in job.sizes.batches:
            job.model.backend.release()
            options = Options(batch_size=size)
            run = functools.partial(classify_file, path, job.model, options)
            text = f"{rate(rows, job.time(run))}, pool {mib(job.pool.total_bytes())}"
            yield Row(f"{rows:,} rows in batches of {size:,}", text)
        clock = WaitingClock(job.model.backend.finish)
        with open_group((path,)) as source:
            classify_source(source, job.model, Options(), clock=clock)
        for stage, seconds in clock.seconds.items():
            yield Row(f"{rows:,} rows, {stage} alone", rate(rows, seconds))
    rows = job.sizes.rows[0]
    seconds = job.time(lambda: classify_file(job.coadd(rows), job.host, Options()))
    yield Row(f"{rows:,} rows on this CPU", rate(rows, seconds))


def processes(job: Job) -> Rows:
    """Let several processes classify on one card at once, as ranks of MPI do."""
    path = job.coadd(job.sizes.rows[0])
    expected = digest([classify(path, job.model)])
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    for count in job.sizes.processes:
        start = time.perf_counter()
        running = [subprocess.Popen(command, **pipes) for _ in range(count)]
        try:
            ready = [process.stdout.readline().strip() for process in running]
            began = time.perf_counter()
            free, total = job.cupy.cuda.runtime.memGetInfo()
            for process in running:
                process.stdin.close()
            done = [process.wait(timeout=60) for process in running]
            seconds = time.perf_counter() - began
        finally:
            for process in running:
                process.kill()
        good = set(ready) == {expected} and not any(done)
        text = (
            f"{rate(count * job.sizes.runs * job.sizes.rows[0], seconds)},"
            f" {mib(total - free)} of the card, ready after {began - start:.1f} s"
        )
        yield Row(f"{count} at once", text if good else f"{ready}, {done}", good)


def work(job: Job, path: Path) -> None:
    """Be one of several processes: get ready, wait for the others, classify."""
    sys.stdout.write(f"{digest([classify(path, job.model)])}\n")
    sys.stdout.flush()
    sys.stdin.read()  # to its end: all are ready
    for _ in range(job.sizes.runs):
        classify(path, job.model)


def tests(job: Job) -> Rows:
    """Run the tests of arrays on CuPy."""
    for name in ("pytest", "hypothesis"):
        if importlib.util.find_spec(name) is None:
            msg = f"no {name}"
            raise Skipped(msg)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--backend", "numpy" if job.dry else "cupy"]
    for asked in job.sizes.tests:
        left = max(job.end - time.perf_counter(), 10) / 2  # the rest is PyTorch's
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        try:
            done = subprocess.run(
                [*command, *asked], cwd=ROOT, check=False, timeout=left, **pipe
            )
        except subprocess.TimeoutExpired as err:
            msg = f"no time for all of {' '.join(asked)}"
            raise Skipped(msg) from err
        *rest, last = done.stdout.splitlines()
        if done.returncode:
            sys.stderr.write("\n".join(rest))
        yield Row(" ".join(asked), last.strip("= "), not done.returncode)


def torch(job: Job) -> Rows:
    """Compare with PyTorch's own convolution, and run the package on PyTorch."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as err:
        raise Skipped(err) from err
    if not job.dry and not torch.cuda.is_available():
        msg = "this PyTorch sees no GPU"
        raise Skipped(msg)
    device = "cpu" if job.dry else "cuda"
    torch.backends.cuda.matmul.allow_tf32 = False  # whose products have 11 bits
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    warnings.filterwarnings("ignore", module="torch")  # of what it compiles
    n, size = job.sizes.spectra, min(1024, job.sizes.spectra)
    spectra = job.spectra(n)
    x, here = torch.as_tensor(spectra, device=device), job.put(spectra)
    on_torch = load_model(job.weights, device, xp=torch)
    network = torch_network(job.model.network, device)

    def predict(x: Any) -> Any:
        return torch.concat(on_torch.predict(x), 1)

    compiled = functools.partial(torch.compile, dynamic=False)
    if job.dry:
        compiled = functools.partial(compiled, backend="aot_eager")  # no C++, no Triton
    rivals = {f"conv1d, batches of {k:,}": (network, k) for k in job.sizes.batches}
    rivals["conv1d, torch.compile"] = compiled(network), size
    if not job.dry:
        graphs = compiled(network, mode="reduce-overhead")
        rivals["conv1d, torch.compile, CUDA graphs"] = graphs, size
    rivals["qnp_xp on PyTorch"] = predict, n
    rivals["qnp_xp on PyTorch, torch.compile"] = compiled(predict), size

    def go(function: Callable[[Any], Any], size: int) -> None:
        for piece in x.split(size):
            function(piece)

    ours = job.time(lambda: job.model.predict(here))
    yield Row("qnp_xp", rate(n, ours))
    expected = np.concatenate(job.host.predict(spectra[:256]), axis=1)
    best = np.inf
    for name, (function, size) in rivals.items():
        theirs = name.startswith("conv1d")
        most = 1e-5 if theirs else MOST
        try:
            with torch.no_grad():
                found = function(x[:size])[:256]
                row = close(name, [found], [expected[:size]], most)
                seconds = job.time(functools.partial(go, function, size))
        except Exception as err:
            yield Row(name, f"left out: {type(err).__name__}: {err}"[:200])
            continue
        yield row._replace(result=f"{rate(n, seconds)}, difference {row.result}")
        best = min(best, seconds) if theirs else best
    good = job.dry or best / ours >= LEAST_OF_TORCH
    yield Row("qnp_xp to the best of conv1d", f"{best / ours:.2f}", good)


CHECKS = (environment, agreement, bits, launches, memory, tiles, stages)
CHECKS += (processes, tests, torch)  # the last may take all the time that is left


def write(check: str, what: str, result: object) -> None:
    """Write a line of the table."""
    cells = (" ".join(str(x).split()).replace("|", "/") for x in (check, what, result))
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def run(check: Callable[[Job], Rows], job: Job) -> bool:
    """Run a check to its end, whatever becomes of it; tell whether it failed."""
    name, outcome = check.__name__, "passed"
    rows = check(job)
    try:
        while True:
            if time.perf_counter() > job.end:
                msg = "the time is over (--seconds)"
                raise Skipped(msg)
            row = next(rows)
            write(name, row.what, row.result if row.good else f"FAILED: {row.result}")
            if not row.good:
                outcome = "failed"
    except StopIteration:
        pass
    except Skipped as err:
        outcome = f"skipped: {err}" if outcome == "passed" else outcome
    except Exception as err:
        traceback.print_exc()
        outcome = f"failed: {type(err).__name__}: {err}"
    write(f"**{name}**", "", outcome)
    job.model.backend.release()
    return outcome.startswith("failed")


def main() -> None:
    """Make all checks."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    p.add_argument("-m", "--model", help="weights file; the network that ships")
    p.add_argument("--dry", action="store_true", help="numpy takes CuPy's place")
    p.add_argument("--quick", action="store_true", help="compute next to nothing")
    p.add_argument("--seconds", type=float, default=280, help="the rest is skipped")
    p.add_argument("--only", nargs="+", choices=[check.__name__ for check in CHECKS])
    p.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.dry:
        stand_in()
    with tempfile.TemporaryDirectory() as folder:
        try:
            job = Job(args, Path(folder))
        except DeviceError as err:
            sys.exit(f"gpu_check: {err}")
        if args.worker:
            work(job, args.worker)
            return
        write("check", "what", "result")
        write("---", "---", "---")
        chosen = [c for c in CHECKS if c.__name__ in (args.only or c.__name__)]
        failed = [check for check in chosen if run(check, job)]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
