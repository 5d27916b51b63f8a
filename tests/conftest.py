"""Backends and reference data as fixtures.

Every array test runs on numpy, on array-api-strict's CPU, on its second device, which
behaves like a GPU without one, and on its device without float64, on torch, on JAX with
and without float64, and on CuPy, those of them that are there; test_backend.py says
which are not, and why. A backend that was asked for by ``--backend`` and is missing is
a failure.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import OLDEST_STANDARD, split_closing

from qnp_xp import cli, load_model
from qnp_xp._xp.backend import resolve, to_host
from qnp_xp._xp.compat import compat
from qnp_xp.io import embed_grid
from qnp_xp.model import QuasarNP

#: How the reason of a test begins that is skipped for want of reference data.
NO_REFERENCE = "no reference data in "
#: Devices of array-api-strict.
STRICT = {
    "strict": "CPU_DEVICE",
    "strict-device1": "device1",
    "strict-float32": "no_float64",
}
#: Dtypes that backends have not.
LACKING = {"strict-float32": {"float64"}, "jax-float32": {"float64", "int64"}}
BACKENDS = ("numpy", *STRICT, "torch", "jax", "jax-float32", "cupy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        choices=BACKENDS,
        help="run the array tests on this backend only, and fail if it is missing;"
        " may be given several times",
    )
    parser.addoption(
        "--arrays-only",
        action="store_true",
        help="leave out tests that are the same on every backend",
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if config.getoption("--arrays-only"):
        arrays = [i for i in items if "backend" in getattr(i, "fixturenames", ())]
        chosen = set(arrays)
        others = [item for item in items if item not in chosen]
        config.hook.pytest_deselected(items=others)
        items[:] = arrays


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Say in one line at the end, and not in one for each test, what had no data."""
    stats = terminalreporter.stats
    skipped = stats.get("skipped", [])
    why = [str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped]
    lacking = [reason for reason in why if reason.startswith(NO_REFERENCE)]
    if not lacking:
        return (yield)
    others = [
        r for r, reason in zip(skipped, why, strict=True) if reason not in lacking
    ]
    stats["skipped"] = others
    result = yield
    stats["skipped"] = skipped  # they are counted after this
    terminalreporter.write_line(f"{len(lacking)} tests skipped: {lacking[0]}")
    return result


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        asked = metafunc.config.getoption("backend")
        here = [name for name in BACKENDS if missing(name) is None]
        metafunc.parametrize("backend", asked or here, indirect=True)


@dataclass(frozen=True)
class ArrayBackend:
    """One library and device to run a test on."""

    name: str
    xp: Any
    device: Any

    @property
    def has_float64(self) -> bool:
        """Whether it has float64."""
        return self.name not in LACKING

    @property
    def widest(self) -> str:
        """Its widest floats."""
        return "float64" if self.has_float64 else "float32"

    def array(self, x: Any, dtype: str | None = None) -> Any:
        """An array of this backend from anything that numpy takes.

        Without float64, numbers become float32, and what is of float64 is skipped.
        """
        host = np.array(x, dtype=dtype)
        if host.dtype == np.float64 and not self.has_float64:
            if dtype is not None or hasattr(x, "dtype"):
                pytest.skip(f"{self.name} has no float64")
            host = host.astype(np.float32)
        return self.xp.asarray(host, device=self.device)

    def host(self, x: Any, dtype: str | None = None) -> np.ndarray:
        """Values of a result, after a check of where it lives and what it holds.

        Without float64, what needs it is on the host.
        """
        if isinstance(x, np.ndarray) and not self.has_float64:
            assert dtype is None or x.dtype == np.dtype(dtype)
            return x
        assert compat.array_namespace(x) is self.xp
        if self.device is not None:
            assert compat.device(x) == self.device
        values = to_host(x)
        if dtype is not None:
            assert values.dtype == np.dtype(dtype)
        return values

    def resolve(self) -> dict[str, Any]:
        """Keyword arguments with which the package's functions mean this backend."""
        if self.name == "cupy":
            return {"device": "gpu"}
        return {"device": self.device or "cpu", "xp": self.xp}


def _make(name: str) -> ArrayBackend:
    if name == "numpy":
        return ArrayBackend(name, resolve("cpu").xp, None)
    if name == "cupy":
        backend = resolve("gpu")
        return ArrayBackend(name, backend.xp, backend.device)
    if name == "torch":
        import torch

        torch.set_num_threads(1)  # more of them wait for each other on a busy machine
        namespace = compat.array_namespace(torch.empty(0))
        return ArrayBackend(name, namespace, torch.device("cpu"))
    if name in ("jax", "jax-float32"):
        import jax

        return ArrayBackend(name, jax.numpy, jax.devices("cpu")[0])
    import array_api_strict

    array_api_strict.set_array_api_strict_flags(api_version=OLDEST_STANDARD)
    device = array_api_strict.Device(STRICT[name])
    return ArrayBackend(name, array_api_strict, device)


@contextlib.contextmanager
def _float64_of_jax(name: str) -> Iterator[None]:
    """Have JAX compute with float64 or without, which it knows for all arrays."""
    if not name.startswith("jax"):
        yield
        return
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", name == "jax")
    yield
    jax.config.update("jax_enable_x64", before)


@functools.cache
def missing(name: str) -> str | None:
    """Why a backend cannot be used, or None."""
    try:
        _make(name)
    except (ImportError, RuntimeError, ValueError) as err:
        return f"no {name}: {err}"
    return None


def _asked(test: Any) -> set[str]:
    """Dtypes that a test needs, by its mark or a parameter."""
    values: Any = test.callspec.params.values()
    named = {value for value in values if isinstance(value, str)}
    return named | {mark.name for mark in test.iter_markers("float64")}


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[ArrayBackend]:
    """Each array library and device in turn."""
    reason = missing(request.param)
    if reason is not None:
        pytest.fail(reason)
    made = _make(request.param)
    if lacking := _asked(request.node) & LACKING.get(made.name, set()):
        pytest.skip(f"{made.name} has no {lacking.pop()}")
    with _float64_of_jax(request.param):
        yield made


@pytest.fixture(params=BACKENDS)
def absent(request: pytest.FixtureRequest) -> str | None:
    """Why a backend was left out, of each in turn."""
    return missing(request.param)


@pytest.fixture(scope="session")
def data() -> Path:
    """Networks made by Keras, and their outputs."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Real spectra and networks, which are not part of the project."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("QNP_XP_REFERENCE_DATA", default))
    if not folder.is_dir():
        reason = f"{NO_REFERENCE}{folder} ($QNP_XP_REFERENCE_DATA)"
        if os.environ.get("QNP_XP_REQUIRE_REFERENCE_DATA"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def weights(data: Path, tmp_path: Path) -> Path:
    """A network of seven outputs, with its grid."""
    path = tmp_path / "weights" / "network.h5"
    path.parent.mkdir()
    embed_grid(data / "keras" / "valid_rescaled.h5", path)
    return path


@pytest.fixture
def model(weights: Path) -> QuasarNP:
    """That network, loaded."""
    return load_model(weights)


# The command.


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder for inputs."""
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Run the command: exit status, and what it wrote to stdout and stderr.

    The last line of a run over files is kept apart, in `run.closing`.
    """
    monkeypatch.setenv("QN_MODEL_FILE", str(weights))

    def run(*args: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main([str(arg) for arg in args])
        except SystemExit as err:  # argparse' way
            status = int(err.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        out, run.closing = split_closing(out)  # type: ignore[attr-defined]
        return status, out, err

    return run
