"""What the package promises of its names, its imports and its exceptions."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import NUMPY_STANDS_IN

import qnp_xp
from qnp_xp import (
    DeviceError,
    NoSpectraError,
    QnpError,
    SpectraError,
    Status,
    WeightsError,
    grids,
    utils,
)

#: Libraries that only some of the package's functions need.
OPTIONAL = (
    "bokeh",
    "cupy",
    "fitsio",
    "h5py",
    "isal",
    "keras",
    "matplotlib",
    "mpi4py",
    "threadpoolctl",
    "torch",
    "tqdm",
)


def python(code: str, path: Path | None = None) -> Any:
    """Run code in an interpreter of its own and return what it prints as JSON."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=path
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Imports.


def loaded_by(statement: str) -> set[str]:
    """Libraries that a statement loads, by the names of their packages."""
    code = f"import json, sys; {statement}; print(json.dumps(list(sys.modules)))"
    return {name.partition(".")[0] for name in python(code)}


def test_importing_the_package_loads_no_optional_library() -> None:
    loaded = loaded_by("import qnp_xp")
    assert "qnp_xp" in loaded
    assert loaded.isdisjoint(OPTIONAL)


@pytest.mark.parametrize("module", ["utils", "layers", "model", "decode", "spectra"])
def test_importing_the_array_functions_loads_no_optional_library(module: str) -> None:
    loaded = loaded_by(f"import qnp_xp.{module}")
    assert "numpy" in loaded
    assert loaded.isdisjoint(OPTIONAL)


@pytest.mark.parametrize("module", ["io", "_classify"])
def test_importing_the_rest_loads_the_readers_of_files_alone(module: str) -> None:
    loaded = loaded_by(f"import qnp_xp.{module}")
    assert {"fitsio", "h5py"} <= loaded
    assert loaded.isdisjoint(set(OPTIONAL) - {"fitsio", "h5py"})


@NUMPY_STANDS_IN
def test_importing_the_command_loads_no_library() -> None:
    loaded = loaded_by("import qnp_xp.cli")
    assert loaded.isdisjoint({*OPTIONAL, "numpy"})


def test_the_version_is_that_of_the_distribution() -> None:
    assert qnp_xp.__version__ == importlib.metadata.version("qnp-xp")


def test_the_package_ships_its_types() -> None:
    assert (Path(qnp_xp.__file__).parent / "py.typed").is_file()


# Names.


@pytest.mark.parametrize("name", ["", "io", "utils", "layers", "model", "lines"])
def test_all_names_that_are_announced_are_there(name: str) -> None:
    module = importlib.import_module(f"qnp_xp.{name}".rstrip("."))
    for attribute in module.__all__:
        assert hasattr(module, attribute), attribute
    assert len(set(module.__all__)) == len(module.__all__)


def test_unknown_names_are_the_usual_error() -> None:
    with pytest.raises(AttributeError, match="'qnp_xp' has no attribute 'predict'"):
        _ = qnp_xp.predict
    assert not hasattr(qnp_xp, "predict")


#: Arguments that a caller may give by place, with the defaults of those that have one,
#: and those to be given by name: QuasarNP's, and what this package adds.
SIGNATURES: dict[str, tuple[list[str], dict[str, Any], set[str]]] = {
    "io.load_model": (
        ["filename", "device"],
        {"device": "cpu", "dtype": "float32", "xp": None},
        {"dtype", "xp"},
    ),
    "io.load_file": (["filename"], {}, set()),
    "io.load_desi_coadd": (
        ["filename", "rows", "out_grid"],
        {"rows": None, "out_grid": None},
        set(),
    ),
    "io.load_desi_exposure": (
        ["dir_name", "spec_number", "fibers", "out_grid"],
        {"fibers": None, "out_grid": None},
        set(),
    ),
    "io.load_desi_daily": (
        ["night", "exp_id", "spec_number", "fibers", "out_grid", "root"],
        {"fibers": None, "out_grid": None, "root": None},
        set(),
    ),
    "io.read_truth": (["fi"], {}, set()),
    "io.read_data": (
        ["fi", "truth", "z_lim", "return_pmf", "nspec"],
        {"truth": None, "z_lim": 2.1, "return_pmf": False, "nspec": None},
        set(),
    ),
    "utils.process_preds": (
        ["preds", "lines", "lines_bal", "verbose", "wave"],
        {"verbose": False},
        set(),
    ),
    "utils.rebin": (["flux", "ivar", "w_grid", "out_grid"], {}, set()),
    "utils.renormalize": (["flux", "ivar"], {}, set()),
    "utils.regrid": (["old_grid", "out_grid"], {}, set()),
    "layers.conv1d": (
        ["x", "w", "stride", "b", "padding"],
        {"stride": 1, "b": None, "padding": "valid"},
        set(),
    ),
    "layers.batch_normalization": (
        ["x", "mean", "var", "beta", "gamma", "epsilon"],
        {},
        set(),
    ),
    "layers.dense": (["x", "w", "b", "phi"], {}, set()),
    "layers.flatten": (["x"], {}, set()),
    "layers.relu": (["x"], {}, set()),
    "layers.linear": (["x"], {}, set()),
    "layers.sigmoid": (["x"], {}, set()),
    "model.QuasarNP.predict": (["self", "x"], {}, set()),
    "install_as_quasarnp": ([], {}, set()),
}


def named(path: str) -> Any:
    """An attribute of the package by its path."""
    module, *rest = path.split(".")
    if not rest:
        return getattr(qnp_xp, module)
    found = importlib.import_module(f"qnp_xp.{module}")
    for name in rest:
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("path", SIGNATURES)
def test_arguments_have_the_names_order_and_defaults_of_quasarnp(path: str) -> None:
    positional, defaults, keywords = SIGNATURES[path]
    parameters = inspect.signature(named(path)).parameters
    by_place = [
        p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    by_name = {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert by_place == positional
    assert keywords <= by_name
    assert len(by_place) + len(by_name) == len(parameters)
    for name, value in defaults.items():
        assert parameters[name].default == value
    # What is added to QuasarNP's arguments has to be optional.
    for name in by_name:
        assert parameters[name].default is not inspect.Parameter.empty


@pytest.mark.parametrize(
    ("path", "argument"),
    [
        ("utils.process_preds", "wave"),
        ("utils.rebin", "out_grid"),
        ("utils.regrid", "out_grid"),
    ],
)
def test_the_grid_is_quasarnet_s_by_default(path: str, argument: str) -> None:
    assert inspect.signature(named(path)).parameters[argument].default is utils.wave


def test_constants_of_quasarnp_are_where_it_has_them() -> None:
    assert utils.wave is grids.wave
    assert utils.nbins == utils.wave.size == 443
    assert utils.nbins_linear == utils.linear_wave.size == 458
    assert utils.desi_wave.size == 7781
    assert utils.absorber_IGM["LYA"] == 1215.67


def test_grids_cannot_be_changed_by_accident() -> None:
    for grid in (utils.wave, utils.linear_wave, utils.desi_wave):
        with pytest.raises(ValueError, match="read-only"):
            grid[0] = 0


def test_the_same_function_has_one_home() -> None:
    assert qnp_xp.load_model is named("io.load_model")
    assert qnp_xp.classify is named("_classify.classify")


# QuasarNP's name.


def test_code_written_for_quasarnp_gets_this_package() -> None:
    code = """
import importlib.util
import json
import qnp_xp, qnp_xp.io, qnp_xp.utils
qnp_xp.install_as_quasarnp()
import quasarnp
import quasarnp.layers
import quasarnp.utils as utils
from quasarnp import io
from quasarnp.io import load_desi_coadd, load_desi_daily, load_desi_exposure
from quasarnp.io import load_file, load_model, read_data, read_spall, read_truth
from quasarnp.layers import batch_normalization, conv1d, dense, flatten
from quasarnp.layers import linear, relu, sigmoid
from quasarnp.model import QuasarNP
from quasarnp.utils import absorber_IGM, desi_wave, linear_wave, nbins, nbins_linear
from quasarnp.utils import dl, l_max, l_min, wdelta, wdelta_qnet, wmax, wmin
from quasarnp.utils import process_preds, rebin, regrid, renormalize, wave
print(json.dumps([
    quasarnp.io is io and quasarnp.utils is utils,
    io is qnp_xp.io,
    utils is qnp_xp.utils,
    load_model is qnp_xp.load_model,
    QuasarNP is qnp_xp.model.QuasarNP,
    wave is qnp_xp.utils.wave,
    quasarnp.__version__ == "0.2.1+qnp_xp." + qnp_xp.__version__,
    quasarnp.classify is qnp_xp.classify,
    {"classify", "io", "load_model"} <= set(dir(quasarnp)),
    importlib.util.find_spec("quasarnp").name == "quasarnp",
    importlib.util.find_spec("quasarnp.unknown") is None,
    "quasarnp" in repr(quasarnp),
    [round(10**l_min), round(10**l_max), dl] == [3600, 10000, 1e-3],
    [wmin, wmax, wdelta, wdelta_qnet] == [3600, 9824, 0.8, 17 * 0.8],
    io.wave is wave and io.nbins == nbins and io.linear_wave is linear_wave,
    io.rebin is rebin and io.renormalize is renormalize and io.regrid is regrid,
    io.QuasarNP is QuasarNP,
]))
"""
    found = python(code)
    assert found == [True] * len(found)


def test_taking_the_place_of_quasarnp_twice_changes_nothing() -> None:
    code = """
import json, sys
import qnp_xp
def found():
    return {n: id(m) for n, m in sys.modules.items() if n.startswith("quasarnp")}
before = found()
qnp_xp.install_as_quasarnp()
first = found()
qnp_xp.install_as_quasarnp()
print(json.dumps([sorted(before), sorted(first), first == found()]))
"""
    before, names, same = python(code)
    assert before == []
    assert {"quasarnp", "quasarnp.io", "quasarnp.utils"} <= set(names)
    assert same


def test_quasarnp_itself_is_not_displaced_once_it_was_imported(tmp_path: Path) -> None:
    (tmp_path / "quasarnp").mkdir()
    (tmp_path / "quasarnp" / "__init__.py").write_text("ITSELF = True\n")
    code = """
import json, sys
sys.path.insert(0, "")
import quasarnp
import qnp_xp
try:
    qnp_xp.install_as_quasarnp()
except RuntimeError as err:
    message = str(err)
print(json.dumps([message, sys.modules["quasarnp"].ITSELF]))
"""
    message, itself = python(code, tmp_path)
    assert message.startswith("quasarnp was imported before, from ")
    assert str(Path("quasarnp", "__init__.py")) in message
    assert itself


# Exceptions and status bits.


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (WeightsError, ValueError),
        (SpectraError, ValueError),
        (NoSpectraError, SpectraError),
        (DeviceError, RuntimeError),
    ],
)
def test_exceptions_are_ours_and_those_that_others_expect(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, QnpError)
    assert issubclass(error, builtin)


def test_bits_of_the_status_are_fixed() -> None:
    # They are in files that exist: neither values nor names may ever change.
    bits = {
        "NO_GOOD_PIXEL": 1,
        "ZERO_VARIANCE": 2,
        "ARM_MISSING": 4,
        "PIXELS_CLEANED": 8,
        "NOT_TARGET": 16,
        "LITTLE_COVERAGE": 32,
    }
    assert {name: int(Status[name]) for name in bits} == bits
    assert Status.UNSCORED == Status.NO_GOOD_PIXEL | Status.ZERO_VARIANCE
    assert int(np.bitwise_or.reduce([int(status) for status in Status])) == 63


def test_the_workflows_run_all_sessions_but_the_one_that_needs_a_gpu() -> None:
    root = Path(__file__).parents[1]
    if not (root / ".github").is_dir():
        pytest.skip("no .github: not a checkout")
    sessions = re.findall(
        r"@nox\.session[^@]*?\n(?:@.*\n)*def (\w+)", (root / "noxfile.py").read_text()
    )
    workflows = root / ".github" / "workflows"
    tests = (workflows / "tests.yml").read_text("utf-8")
    newest = (workflows / "newest.yml").read_text("utf-8")
    matrix = re.search(r"session:\n((?: +- \S+\n)+)", tests)
    assert matrix
    run = set(re.findall(r"- (\S+)", matrix[1])) | set(
        re.findall(r"nox -s (\w+)", newest)
    )
    assert len(sessions) > 10
    assert run == set(sessions) - {"cupy"}


def test_actions_are_pinned_by_the_hash_of_a_commit() -> None:
    workflows = Path(__file__).parents[1] / ".github" / "workflows"
    if not workflows.is_dir():
        pytest.skip("no .github: not a checkout")
    text = "".join(path.read_text("utf-8") for path in workflows.iterdir())
    actions = re.findall(r"uses: (.*)", text)
    assert actions
    pinned = re.compile(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [action for action in actions if not pinned.fullmatch(action)] == []
