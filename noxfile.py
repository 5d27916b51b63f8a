# /// script
# dependencies = ["nox[uv]>=2025.10.14"]
# ///
"""Sessions of `nox`: tests, lint, docs, distributions, and what the workflow runs.

`nox` alone runs all tests on the python that it was started with, and then lint, docs
and build. `nox -P 3.12 -s tests` runs a session on another python.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]

_PARALLEL = ["-n", "auto"]  # a process for each core
_LARGEST_WHEEL = 6_000_000  # bytes
_MPI = {"OMP_NUM_THREADS": "1", "QNP_XP_REQUIRE_MPI": "1"}

# As pip does, uv is to trust the certificates that the machine trusts.
os.environ.setdefault("UV_SYSTEM_CERTS", "1")

nox.needs_version = ">=2025.10.14"
# uv makes a session's environment in seconds; pip takes up to a minute.
nox.options.default_venv_backend = "uv|virtualenv"
# The other sessions run in the workflow. All of them on two cores of five years ago, as
# Perlmutter has, take half an hour: too long for somebody who waits for it.
nox.options.sessions = ["tests", "lint", "docs", "build"]
# A session that is asked for and has no python is a failure, and not skipped.
nox.options.error_on_missing_interpreters = True
nox.options.download_python = "never"


def _install(session: nox.Session, *requirements: str, extras: str = "") -> None:
    """Install the package, not editable, with what a session needs beside it."""
    session.install(f".{extras}", *requirements)


def _group(name: str) -> list[str]:
    """Requirements of a dependency group of pyproject.toml."""
    project = nox.project.load_toml("pyproject.toml")
    return nox.project.dependency_groups(project, name)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, on numpy and array-api-strict."""
    _install(session, *_group("test"), extras="[fast,plot,progress]")
    session.run("pytest", *_PARALLEL, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run all tests but those with a session of their own; count what they run."""
    needed = ["coverage>=7.10", "pytest-cov>=7", *_group("test")]
    _install(session, *needed, extras="[fast,plot,progress]")
    session.run("coverage", "erase")
    asked = ["--backend", "numpy", "--cov", "--cov-report=term-missing:skip-covered"]
    session.run("pytest", *_PARALLEL, *asked, *session.posargs)


@nox.session(python="3.10")
def minimum(session: nox.Session) -> None:
    """The oldest python and packages that pyproject.toml admits."""
    oldest = ["array-api-compat==1.9", "fitsio==1.2.1", "h5py==3.8.0", "numpy==1.22.4"]
    # What this matplotlib calls, later versions of pyparsing call deprecated.
    oldest += ["matplotlib==3.6.0", "pyparsing==3.0.9"]
    _install(session, *oldest, "hypothesis>=6.100", "pytest>=8.2", "pytest-xdist>=3.5")
    # What starts many processes depends little on packages, and `coverage` has it.
    asked = ["--backend", "numpy"]
    for name in ("resume", "runs", "threads"):
        asked += ["--ignore", f"tests/test_{name}.py"]
    session.run("pytest", *_PARALLEL, *asked, *session.posargs)


@nox.session
def bare(session: nox.Session) -> None:
    """The tests on numpy without array-api-compat, which DESI's environment lacks."""
    needed = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
    needed = [name for name in needed if not name.startswith("array-api-compat")]
    needed += ["hypothesis>=6.100", "matplotlib>=3.6", "pytest>=8.2"]
    session.install(*needed, "pytest-xdist>=3.5")
    session.install("--no-deps", ".")
    asked = ["--backend", "numpy"]
    # The first two as in `minimum`; a GPU needs array-api-compat.
    for name in ("resume", "runs", "gpu_check"):
        asked += ["--ignore", f"tests/test_{name}.py"]
    session.run("pytest", *_PARALLEL, *asked, *session.posargs)


# By pip: uv does not see the packages of the system.
@nox.session(
    python="/usr/bin/python3",
    venv_backend="virtualenv",
    venv_params=["--system-site-packages"],
)
def openmp(session: nox.Session) -> None:
    """The tests of threads on an OpenBLAS that is built with OpenMP, as DESI's is.

    On Debian and Ubuntu it comes with ``apt install python3-numpy
    libopenblas0-openmp``, and takes the place of other BLAS libraries.
    """
    packages = ["hypothesis>=6.100", "pytest>=8.2", "pytest-xdist>=3.5"]
    _install(session, *packages, extras="[fast]")
    require = {"QNP_XP_REQUIRE_OPENMP": "1"}
    asked = ["tests/test_threads.py", "--backend", "numpy"]
    session.run("pytest", *asked, *session.posargs, env=require)
    session.run("python", "benchmarks/bench_blas.py", "--repeats", "3")


@nox.session
def newest(session: nox.Session) -> None:
    """All tests on the newest numpy and h5py, pre-releases too."""
    _install(session, *_group("test"), extras="[fast,plot,progress]")
    wheels = ["--only-binary", "h5py", "--only-binary", "numpy"]
    session.install("--pre", "--upgrade", *wheels, "h5py", "numpy")
    session.run("pytest", *_PARALLEL, *session.posargs)


@nox.session
def strict(session: nox.Session) -> None:
    """The array tests on array-api-strict, its second device standing in for a GPU."""
    _install(session, *_group("test"))
    names = ("strict", "strict-device1", "strict-float32")
    backends = [word for name in names for word in ("--backend", name)]
    session.run("pytest", *_PARALLEL, "--arrays-only", *backends, *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Pages of `qnp-xp inspect` in Chromium, without a screen.

    On Debian and Ubuntu it comes with ``apt install chromium chromium-driver``; without
    them there is one line that says so.
    """
    extras = "[fast,inspect,plot,progress]"
    _install(session, "selenium>=4.20", *_group("test"), extras=extras)
    asked = ["tests/browser", "--backend", "numpy"]
    session.run("pytest", *asked, *session.posargs, success_codes=[0, 5])


# By pip, whose settings may know of a build of PyTorch without CUDA's gigabytes.
@nox.session(python="3.11", venv_backend="virtualenv")
def torch(session: nox.Session) -> None:
    """The array tests on PyTorch, and what is trained with it or held against it."""
    packages = ["torch==2.13.0", "keras==3.15.1", "onnx", "onnxruntime", "scipy>=1.11"]
    _install(session, *packages, *_group("test"))
    asked = ["--backend", "torch", "--arrays-only"]
    session.run("pytest", *_PARALLEL, *asked, *session.posargs)
    # Whatever needs Keras or torch with numpy's arrays.
    asked = [
        f"tests/test_{n}.py"
        for n in ("training", "train", "embedded_network", "libraries", "convert")
    ]
    asked.append("tests/test_robustness.py::test_an_interrupt_of_train")
    require = {"QNP_XP_REQUIRE_TRAINING": "1"}
    session.run("pytest", *_PARALLEL, *asked, "--backend", "numpy", env=require)
    named = " or ".join(f"{x}.md" for x in ("guide", "pictures", "train", "convert"))
    pages = ["tests/docs/test_pages.py", "-k", named]
    session.run("pytest", *_PARALLEL, *pages, *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("version", ["13.1.0", "14.2.0"])
def namespace(session: nox.Session, version: str) -> None:
    """Whether CuPy has all that the package uses, which needs no GPU."""
    _install(session, f"cupy-cuda12x=={version}", *_group("test"))
    require = {"QNP_XP_REQUIRE_CUPY": "1"}
    session.run("pytest", "tests/test_namespace.py", *session.posargs, env=require)


@nox.session(venv_params=["--system-site-packages"])
def cupy(session: nox.Session) -> None:
    """The tests on a GPU, with the site's own CuPy where there is one."""
    _install(session, *_group("test"))
    if session.run("python", "-c", "import cupy", success_codes=[0, 1], silent=True):
        session.install("cupy-cuda12x>=13.1")
    session.run("pytest", "--backend", "cupy", "--backend", "numpy", *session.posargs)


@nox.session(python="3.11")
def interop(session: nox.Session) -> None:
    """Run the tests of specutils, astropy, pandas, pyarrow and dask, and JAX's."""
    # sparclclient holds numpy below 2, where newer pyarrow cannot be imported.
    packages = ["dask[array]", "jax>=0.4.36", "pandas", "pyarrow>=10,<26"]
    packages += ["sparclclient==1.3.1", "specutils==2.4.0"]
    _install(session, *packages, *_group("test"))
    names = ("arrays", "spectra", "tables", "joined")
    asked = [*(f"tests/test_{name}.py" for name in names), "--backend", "numpy"]
    session.run("pytest", *_PARALLEL, *asked, *session.posargs)
    # On numpy 1, array-api-strict cannot move its arrays.
    session.install("--upgrade", "array-api-strict", "numpy>=2.1", "pandas>=2.2")
    jax = ["--backend", "jax", "--backend", "jax-float32"]
    session.run("pytest", *_PARALLEL, "tests/test_libraries.py", *jax, *session.posargs)
    # JAX compiles each operation of each shape: most of the time, in half of it.
    asked = ["--arrays-only", "--ignore", "tests/test_libraries.py", *jax]
    fast = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    session.run("pytest", *_PARALLEL, *asked, *session.posargs, env=fast)


@nox.session(python="3.11")
def desispec(session: nox.Session) -> None:
    """DESI's own code, unchanged, on this package under QuasarNP's name."""
    _install(
        session,
        "desispec==0.70.0",
        "redrock==0.21.0",
        "numpy==1.26.4",  # redrock's priors.py uses a name that numpy 2 has not
        "pytest>=8.2",
        "pytest-xdist>=3.5",
    )
    session.run(
        *("pytest", *_PARALLEL, "tests/desispec"),
        *session.posargs,
        env={"QNP_XP_REQUIRE_DESISPEC": "1"},
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Ten thousand damaged files, which must be read or refused."""
    _install(session, *_group("test"))
    session.run("pytest", *_PARALLEL, "tests/fuzz", *session.posargs)


@nox.session(python="3.11")
def mpi(session: nox.Session) -> None:
    """The command on the ranks of a real MPI, and a rank that is killed."""
    _install(session, "mpich", *_group("test"), extras="[fast,mpi]")
    session.run("pytest", "tests/mpi", *session.posargs, env=_MPI)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, spelling, types, and which room imports which."""
    _install(session, *_group("lint"))
    hooks = Path(".pre-commit-config.yaml").read_text("utf-8")
    commands = re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE)
    if not commands:
        session.error(".pre-commit-config.yaml has no commands")
    for command in commands:
        session.run(*shlex.split(command))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning and a dead reference are errors.

    The code in it is run too, and the tutorial must print what is stored in it.
    """
    _install(session, *_group("docs"), *_group("test"), extras="[fast,plot,progress]")
    pages = ["-b", "html", "docs", "docs/_build/html"]
    session.run("sphinx-build", "-W", "-n", "--keep-going", *pages)
    session.run("pytest", *_PARALLEL, "tests/docs", *session.posargs)


def _check_contents(session: nox.Session, wheel: Path, source: Path) -> None:
    """The wheel has the package alone; the source has all that is in the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        alien = [
            n for n in archive.namelist() if not n.startswith(("qnp_xp/", "qnp_xp-"))
        ]
    if alien or wheel.stat().st_size > _LARGEST_WHEEL:
        session.error(f"{wheel.name}: {wheel.stat().st_size} bytes, with {alien[:5]}")
    if not Path(".git").exists():
        return
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    tracked = session.run("git", "ls-files", external=True, silent=True) or ""
    lacking = {name for name in tracked.splitlines() if name[0] != "."} - packed
    if lacking:
        session.error(f"{source.name} lacks {sorted(lacking)[:5]}")


def _starts(python: str) -> bool:
    """Tell whether a python starts: a shim of pyenv may not."""
    done = subprocess.run([python, "-c", ""], check=False, capture_output=True)
    return done.returncode == 0


def _pythons(session: nox.Session) -> dict[str, str]:
    """Find the python at hand and others that really start."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for version in PYTHONS:
        path = shutil.which(f"python{version}")
        if path and _starts(path):
            found.setdefault(version, path)
        elif version not in found:
            session.log(f"python{version} does not start here and is left out")
    return found


@nox.session
def build(session: nox.Session) -> None:
    """Source and wheel, checked, and each of them run where nothing else is."""
    session.install("build[uv]", "twine", "uv")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--installer", "uv", "--outdir", "dist")
    made = sorted(path.absolute() for path in Path("dist").iterdir())
    session.run("twine", "check", "--strict", *map(str, made))
    _check_contents(session, *made)
    folder = Path(session.create_tmp()).absolute()
    for version, python in _pythons(session).items():
        for path in made:
            empty = folder / f"{version}-{path.suffix[1:]}"
            shutil.rmtree(empty, ignore_errors=True)
            session.run("uv", "venv", "--quiet", "--python", python, str(empty))
            session.run("uv", "pip", "install", "--quiet", "-p", str(empty), str(path))
            command = str(empty / "bin" / "qnp-xp")
            with session.chdir(empty):
                session.run(command, "demo", "--keep-coadd", external=True)
                session.run(
                    *(command, "classify", "demo-coadd.fits", "-o", "qn-again.fits"),
                    external=True,
                )


if __name__ == "__main__":
    nox.main()
