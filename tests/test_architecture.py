"""The layout of the package, read from its sources: who may import what, and style.

Imports only point down, and each library is named where it belongs. A new module needs
a level here.
"""

from __future__ import annotations

import ast
import graphlib
import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import qnp_xp

PACKAGE = Path(qnp_xp.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

#: Modules import modules of lower levels only; within io, see below.
LEVELS = {
    # Names and plain data.
    "_clock": 0,
    "_data": 0,
    "_threads": 0,
    "_version": 0,
    "errors": 0,
    "lines": 0,
    "network": 0,
    "inputs": 0,
    "outputs": 1,
    "curves": 0,
    "status": 0,
    "toomcook": 0,
    "_console": 1,
    "cli_lists": 1,
    # Libraries and devices; grids on the host.
    "_backend": 1,
    "grids": 1,
    # Array functions.
    "coadd": 2,
    "devices": 2,
    "padding": 2,
    "binning": 3,
    "layers": 3,
    "convolution": 4,
    "decode": 4,
    "spectra": 4,
    "model": 5,
    # Files, and what QuasarNP's users import.
    "io": 6,
    "results": 6,
    "utils": 6,
    # One file, and what a network is in words.
    "arrays": 7,
    "describe": 7,
    "scoring": 7,
    "pipeline": 8,
    # Many.
    "demo": 9,
    "jobs": 9,
    "merge": 9,
    "views": 9,
    "benchmark": 10,
    "drawing": 10,
    "runs": 10,
    "summary": 10,
    "mpi": 11,
    "plot": 11,
    "cli_report": 11,
    "cli_classify": 12,
    "cli_merge": 12,
    "cli_plot": 12,
    "cli": 13,
}

#: Modules that may name a library; a folder stands for all in it.
LIBRARIES = {
    "array_api_compat": {"_backend"},
    "cupy": {"_backend"},
    "threadpoolctl": {"_threads"},
    "fitsio": {"io"},
    "h5py": {"io"},
    "isal": {"io"},
    "mpi4py": {"mpi"},
    "matplotlib": {"plot"},
    "tqdm": {"cli_report"},
}
REQUIRED = {"array_api_compat", "fitsio", "h5py", "numpy"}

#: Pure array functions: whatever they compute, they compute with their input's library.
WITHOUT_NUMPY = {"binning", "coadd", "layers", "padding", "spectra"}

LONGEST = 350  # lines of a module


def name_of(path: Path) -> str:
    """Name of a module within the package: ``io.desi``; empty for the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def top(module: str) -> str:
    return module.partition(".")[0]


TREES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in SOURCES}
MODULES = sorted(name for name in TREES if name)
each_module = pytest.mark.parametrize("module", MODULES)


@dataclass(frozen=True)
class Import:
    """One import of a module: what, and whether it is done only when it is called."""

    target: str
    ours: bool
    late: bool


def imports(module: str) -> Iterator[Import]:
    """Imports of a module; those for type checkers alone do not count."""
    yield from _imports(module, TREES[module], late=False)


def _imports(module: str, node: ast.AST, *, late: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import):
            for alias in child.names:
                ours = top(alias.name) == "qnp_xp"
                yield Import(alias.name.removeprefix("qnp_xp."), ours, late)
        elif isinstance(child, ast.ImportFrom):
            yield from _from(module, child, late)
        else:
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _imports(module, child, late=late or function)


def _from(module: str, node: ast.ImportFrom, late: bool) -> Iterator[Import]:
    if not node.level:
        ours = top(node.module or "") == "qnp_xp"
        yield Import((node.module or "").removeprefix("qnp_xp."), ours, late)
        return
    is_folder = (PACKAGE / module.replace(".", "/")).is_dir()
    parts = module.split(".") if module else []
    kept = len(parts) - node.level + (1 if is_folder else 0)
    base = [*parts[:kept], *(node.module.split(".") if node.module else [])]
    for alias in node.names:
        # A name may be a module of its own.
        deeper = ".".join([*base, alias.name])
        yield Import(deeper if deeper in TREES else ".".join(base), True, late)


def calls(module: str) -> Iterator[str]:
    """Names of what a module calls: ``print``, ``np.asarray``."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_the_check_sees_the_imports() -> None:
    found = {(i.target, i.ours, i.late) for i in imports("io.weights")}
    assert ("io.weights_file", True, False) in found
    assert ("_backend", True, False) in found
    assert ("h5py", False, False) in found
    assert ("cupy", False, True) in {
        (i.target, i.ours, i.late) for i in imports("_backend")
    }
    assert ("layers", True, False) in {
        (i.target, i.ours, i.late) for i in imports("model")
    }


@each_module
def test_every_module_has_a_level(module: str) -> None:
    assert top(module) in LEVELS, f"give qnp_xp.{module} a level in LEVELS"


@each_module
def test_imports_point_down(module: str) -> None:
    for found in imports(module):
        if not found.ours or top(found.target) == top(module) == "io":
            continue
        assert found.target, f"qnp_xp.{module} imports the package itself"
        higher = LEVELS[top(found.target)] >= LEVELS[top(module)]
        assert not higher, f"qnp_xp.{module} imports qnp_xp.{found.target}"


def test_modules_of_io_import_each_other_in_no_circle() -> None:
    graph = {
        module: {i.target for i in imports(module) if i.ours and top(i.target) == "io"}
        for module in MODULES
        if top(module) == "io"
    }
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order[-1] == "io"  # it collects the names of the others


def test_the_package_imports_no_more_than_its_names() -> None:
    found = {i.target for i in imports("") if i.ours}
    assert found == {"_version", "errors", "status"}


@each_module
def test_libraries_are_named_where_they_belong(module: str) -> None:
    for found in imports(module):
        library = top(found.target)
        if found.ours or library in sys.stdlib_module_names or library == "numpy":
            continue
        assert library in LIBRARIES, f"qnp_xp.{module} imports {library}"
        allowed = LIBRARIES[library] & {module, top(module)}
        assert allowed, f"qnp_xp.{module} imports {library}"


@each_module
def test_optional_libraries_are_imported_late(module: str) -> None:
    for found in imports(module):
        library = top(found.target)
        if not found.ours and library in set(LIBRARIES) - REQUIRED:
            assert found.late, f"qnp_xp.{module} imports {library} at once"


@each_module
def test_modules_are_imported_by_name_and_not_by_a_string(module: str) -> None:
    if module != "_backend":  # which makes a backend again from its pickle
        found = {call for call in calls(module) if call.endswith("import_module")}
        assert not found
    assert "__import__" not in set(calls(module))


@pytest.mark.parametrize("module", sorted(WITHOUT_NUMPY))
def test_array_functions_know_no_numpy(module: str) -> None:
    assert "numpy" not in {top(found.target) for found in imports(module)}
    assert not [call for call in calls(module) if call.startswith(("np.", "numpy."))]


@each_module
def test_nothing_is_printed(module: str) -> None:
    assert "print" not in set(calls(module))


@each_module
def test_nothing_in_a_file_is_ever_executed(module: str) -> None:
    dangerous = {"eval", "exec", "compile", "marshal.loads", "pickle.loads"}
    assert dangerous.isdisjoint(calls(module))
    modules = {top(found.target) for found in imports(module)}
    assert modules.isdisjoint({"marshal", "pickle", "shelve"})


@each_module
def test_assert_is_not_for_users(module: str) -> None:
    lines = [n.lineno for n in ast.walk(TREES[module]) if isinstance(n, ast.Assert)]
    assert lines == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


# Documentation.


def announced(module: str) -> list[str]:
    """Names in ``__all__`` of a module."""
    for node in TREES[module].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def public(module: str) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions, classes and methods of a module, with their paths."""
    names = announced(module)
    for node in TREES[module].body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        if node.name not in names:
            continue
        yield node.name, node
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(member, ast.FunctionDef) and member.name[0] != "_":
                yield f"{node.name}.{member.name}", member


def missing_sections(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """What a docstring in numpydoc's style lacks."""
    doc = ast.get_docstring(node)
    if not doc:
        return ["a docstring"]
    # A title has a rule of its own length below it.
    pairs = itertools.pairwise(doc.splitlines())
    sections = {title for title, rule in pairs if title and rule == "-" * len(title)}
    if isinstance(node, ast.ClassDef):
        # An exception, or an enumeration, which documents its members.
        fields = any(isinstance(member, ast.AnnAssign) for member in node.body)
        init = next((m for m in node.body if _is_method(m, "__init__")), None)
        if fields or init is not None:
            return [] if sections & {"Attributes", "Parameters"} else ["Attributes"]
        return []
    if any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
        return []
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    names = {argument.arg for argument in arguments} - {"self", "cls"}
    lacking = []
    if names and "Parameters" not in sections:
        lacking.append("Parameters")
    returns = node.returns is not None and ast.unparse(node.returns) != "None"
    if returns and not sections & {"Returns", "Yields"}:
        lacking.append("Returns")
    return lacking


def _is_method(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_say_what_they_are(path: Path) -> None:
    assert ast.get_docstring(TREES[name_of(path)])


@each_module
def test_modules_announce_their_names(module: str) -> None:
    names = announced(module)
    assert names or module == "_version"
    assert names == sorted(names, key=_isort), "as ruff sorts them"


def _isort(name: str) -> tuple[int, str]:
    """Constants before classes before functions, each by the alphabet."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


@each_module
def test_public_names_have_docstrings(module: str) -> None:
    lacking = [name for name, node in public(module) if not ast.get_docstring(node)]
    assert lacking == []


# The names of private modules are for the package alone: a sentence will do.
PUBLIC_MODULES = [m for m in MODULES if not m.rpartition(".")[2].startswith("_")]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_docstrings_of_public_names_have_their_sections(module: str) -> None:
    lacking = {
        name: sections
        for name, node in public(module)
        if (sections := missing_sections(node))
    }
    assert lacking == {}


def test_the_check_of_docstrings_sees_what_is_missing() -> None:
    (bare,) = ast.parse('def f(x) -> int:\n    """Say so."""').body
    assert isinstance(bare, ast.FunctionDef)
    assert missing_sections(bare) == ["Parameters", "Returns"]
    text = "Say so.\n\n    Parameters\n    ----------\n    x\n        What.\n    "
    (partly,) = ast.parse(f'def f(x) -> int:\n    """{text}"""').body
    assert isinstance(partly, ast.FunctionDef)
    assert missing_sections(partly) == ["Returns"]


#: How an array's description says its shape, or where that is said.
_SHAPED = re.compile(r"shape|of length|``\(|[Aa]s (for|`)|[Ss]tructured|same as `")
_ARRAY = re.compile(r"\b(Array|ArrayLike|NDArray)\b")
_WAVELENGTHS = {"linear_wave", "out_grid", "w_grid", "wave", "wavelengths"}


def described(doc: str, *sections: str) -> dict[str, str]:
    """Names that sections of a docstring list, and what they say of each."""
    found: dict[str, str] = {}
    here, names = False, []
    lines = [*doc.splitlines(), "", ""]
    for line, below in itertools.pairwise(lines):
        if line and below == "-" * len(line):
            here, names = line in sections, []
        elif here and line and line[0] not in " -":
            head, _, kind = line.partition(" : ")
            names = [name.strip() for name in head.split(",")]
            found.update(dict.fromkeys(names, kind))
        elif here:
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return found


def arrays(module: str) -> Iterator[tuple[str, str, str]]:
    """Arrays that public functions and classes take: path, name, description."""
    for path, node in public(module):
        doc = ast.get_docstring(node) or ""
        given = described(doc, "Attributes", "Parameters")
        if isinstance(node, ast.ClassDef):
            members = [m for m in node.body if isinstance(m, ast.AnnAssign)]
            pairs = [(ast.unparse(m.target), m.annotation) for m in members]
        else:
            members = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            pairs = [(m.arg, m.annotation) for m in members]
        for name, annotation in pairs:
            text = ast.unparse(annotation) if annotation else ""
            if _ARRAY.search(text) and "Callable" not in text:
                yield path, name, given.get(name, "")


def returned(module: str) -> Iterator[tuple[str, str]]:
    """Public functions that return arrays, and what they say of them."""
    for path, node in public(module):
        if not isinstance(node, ast.FunctionDef) or node.returns is None:
            continue
        if any("property" in ast.unparse(d) for d in node.decorator_list):
            continue
        if _ARRAY.search(ast.unparse(node.returns)):
            doc = ast.get_docstring(node) or ""
            text = re.split(r"\n(?:Returns|Yields)\n-+\n", doc)[-1]
            # Up to the next title.
            yield path, re.split(r"\n[A-Z]\w+\n-+\n", text)[0]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_arrays_have_their_shapes_in_the_docstrings(module: str) -> None:
    lacking = [
        f"{path}({name}): {text.strip()}"
        for path, name, text in arrays(module)
        if not _SHAPED.search(text.lower())
    ]
    lacking += [
        f"{path} returns: {text.strip()}"
        for path, text in returned(module)
        if not _SHAPED.search(text.lower())
    ]
    assert lacking == []


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_wavelengths_have_their_unit_in_the_docstrings(module: str) -> None:
    lacking = [
        f"{path}({name})"
        for path, name, text in arrays(module)
        if name in _WAVELENGTHS and not re.search(r"Angstrom|As for", text)
    ]
    assert lacking == []


def test_the_check_of_arrays_reads_the_docstrings() -> None:
    found = {(path, name): text for path, name, text in arrays("spectra")}
    assert "shape ``(n, npix)``" in found["rebin", "flux"]
    assert "Angstrom" in found["rebin", "w_grid"]
    assert "``(n, nbins)``" in dict(returned("spectra"))["rebin"]
    doc = "Do it.\n\nParameters\n----------\na, b\n    What.\nc : int\n    More.\n"
    found_names = described(doc, "Parameters")
    assert {k: v.split() for k, v in found_names.items()} == {
        "a": ["What."], "b": ["What."], "c": ["int", "More."]
    }  # fmt: skip
    assert described(doc, "Returns") == {}
