"""The layout of the package: what is public, how long files are, what loads when.

Which room may import which is the contract of import-linter in pyproject.toml; which
library is named where is ruff's. Here is what neither of them sees.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run_python

import qnp_xp
from qnp_xp._xp.compat import NumpyAlone, compat

PACKAGE = Path(qnp_xp.__file__).parent
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "api.md", *sorted((ROOT / "docs" / "api").glob("*.md"))]
API = "\n".join(page.read_text("utf-8") for page in PAGES)
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "qnp_xp."))
PUBLIC = [name for name in MODULES if "._" not in name]
#: Modules that need another library as soon as they are imported.
NEEDED = {
    **{f"qnp_xp._train._{x}": "torch" for x in ("augment", "fit", "loop", "network")},
    **{
        f"qnp_xp._{x}": "llvmlite" for x in ("xp.jit", "xp.kernels", "network.compiled")
    },
}
LONGEST = 350  # lines of a module


def lacks(module: str) -> bool:
    """Whether a module needs a library that is not installed."""
    return module in NEEDED and not importlib.util.find_spec(NEEDED[module])


def documented() -> dict[str, Any]:
    """Find the objects that the API pages document, by their paths."""
    text = re.sub(r"\n +:(?!members:)[^\n]*", "", API)
    paths = re.findall(r"(?:autofunction|autoclass|py:data):: qnp_xp\.(\S+)", text)
    for module, members in re.findall(
        r"automodule:: qnp_xp\.(\S+)\n +:members:([^\n]*)", text
    ):
        names = members.strip().split(", ")
        if names == [""]:  # all of them
            names = importlib.import_module(f"qnp_xp.{module}").__all__
        paths += [f"{module}.{name}" for name in names]
    return {path: pkgutil.resolve_name(f"qnp_xp.{path}") for path in paths}


def test_the_api_page_lists_the_modules_without_underscore() -> None:
    assert sorted(re.findall(r"^\| `(qnp_xp\.\S+)` \|", API, re.M)) == PUBLIC


@pytest.mark.parametrize("module", ["qnp_xp", *PUBLIC])
def test_names_of_public_modules_are_on_the_api_pages(module: str) -> None:
    found = importlib.import_module(module)
    on_page = documented()
    lacking = []
    for name in getattr(found, "__all__", []):
        value = getattr(found, name)
        same = [p for p, v in on_page.items() if v is value and p.endswith(name)]
        if not same and not inspect.ismodule(value) and name != "__version__":
            lacking.append(name)
    assert lacking == []


def test_only_public_modules_announce_names() -> None:
    # Read, since some need PyTorch.
    paths = {path: path.relative_to(PACKAGE).parts for path in PACKAGE.rglob("*.py")}
    internal = [
        path
        for path, parts in paths.items()
        if any(re.match(r"_(?!_)", part) for part in parts)
    ]
    assert [path for path in internal if "__all__ =" in path.read_text("utf-8")] == []


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_module_says_what_it_is_and_is_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= LONGEST


def test_the_design_page_has_the_layers_of_the_contract() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (listed,) = re.findall(r"^layers = \[\n(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    contract = [re.findall(r"\w+", line) for line in listed.splitlines()]
    page = (ROOT / "docs" / "design.md").read_text("utf-8")
    table = page.partition("| layer |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert [re.findall(r"`(\w+)`", cell) for cell in cells] == contract


def test_scripts_import_names_that_exist() -> None:
    scripts = [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("training/*.py")]
    assert scripts
    for node in (n for s in scripts for n in ast.walk(ast.parse(s.read_text("utf-8")))):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("qnp_xp."):
            if lacks(node.module or ""):
                continue
            module = importlib.import_module(node.module or "")
            assert [n.name for n in node.names if not hasattr(module, n.name)] == []


@pytest.mark.parametrize("module", ["layers", "spectra", "decode"])
def test_array_functions_know_no_numpy(module: str) -> None:
    names = vars(importlib.import_module(f"qnp_xp.{module}"))
    assert [name for name, value in names.items() if value is np] == []


def test_no_module_hides_a_public_function() -> None:
    code = (
        "import inspect, qnp_xp.cli\n"
        "kinds = [type(getattr(qnp_xp, n)).__name__ for n in qnp_xp.__all__]\n"
        "print(dict(zip(qnp_xp.__all__, kinds)))"
    )
    kinds = ast.literal_eval(run_python(code))
    modules = {name for name, kind in kinds.items() if kind == "module"}
    assert modules == {"io", "plot", "utils"}
    assert kinds["classify"] == kinds["load_model"] == "function"


def test_dir_shows_public_names_alone() -> None:
    assert dir(qnp_xp) == sorted(qnp_xp.__all__)


def test_modules_and_classes_are_found_without_an_import_of_their_own() -> None:
    code = (
        "import sys, qnp_xp\n"
        "before = [n for n in sys.modules if n.startswith('qnp_xp.')]\n"
        "found = [qnp_xp.plot.spectrum, qnp_xp.io.load_file, qnp_xp.utils.rebin]\n"
        "found.append(qnp_xp.QuasarNP.predict)\n"
        "print(before, all(map(callable, found)))"
    )
    names = ["_version", "_text", "errors", "status"]
    if compat is NumpyAlone:  # which looks at numpy as soon as it can
        names += ["_xp", "_xp.compat"]
    expected = [f"qnp_xp.{name}" for name in names]
    assert run_python(code) == f"{expected} True\n"


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_print_what_they_say(module: str) -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("numpy 1 prints scalars in another way")
    if lacks(module):
        pytest.skip(f"no {NEEDED[module]}")
    # As numpydoc has it, examples take `np` for granted.
    found = importlib.import_module(module)
    assert doctest.testmod(found, extraglobs={"np": np}).failed == 0
