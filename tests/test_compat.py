"""What works where array-api-compat is missing: numpy of 2.1 or later, and no other."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qnp_xp import DeviceError, _xp
from qnp_xp._xp.compat import NumpyAlone

#: Since 2.1; before it the package needs array-api-compat.
FOLLOWS = hasattr(np, "__array_namespace_info__")

needs_new_numpy = pytest.mark.skipif(not FOLLOWS, reason="numpy is older than 2.1")


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own that has no array-api-compat."""
    code = f"import sys\nsys.modules['array_api_compat'] = None\n{code}"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_older_numpy_alone_says_at_import_what_to_install() -> None:
    older = "import numpy\nif hasattr(numpy, '__array_namespace_info__'):\n"
    older += "    del numpy.__array_namespace_info__\n"
    done = run(f"{older}import qnp_xp")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: qnp_xp needs array-api-compat, or numpy 2.1")
    assert f"this is {np.__version__}" in last
    assert last.endswith("pip install --user array-api-compat")


CLASSIFY = """
import hashlib
from qnp_xp import classify, load_model
from qnp_xp._data import DEMO_COADD, data_file
table = classify(data_file(DEMO_COADD), load_model(nproc=2), coadd=True)
print(len(table), hashlib.sha256(table.tobytes()).hexdigest())
"""


@needs_new_numpy
def test_numpy_alone_computes_the_same_bits() -> None:
    alone = run(CLASSIFY)
    assert alone.returncode == 0, alone.stderr
    command = [sys.executable, "-c", CLASSIFY]
    usual = subprocess.run(command, capture_output=True, text=True, check=True)
    assert alone.stdout == usual.stdout
    assert int(alone.stdout.split()[0]) == 25


@needs_new_numpy
def test_models_are_put_on_numpy_and_pickled_without_it() -> None:
    code = """
import pickle
import numpy as np
from qnp_xp import load_model
model = pickle.loads(pickle.dumps(load_model(xp=np, device="cpu")))
print(model.backend.xp.__name__, model.predict(np.zeros((2, model.nbins)))[0].shape)
"""
    assert run(code).stdout == "numpy (2, 26)\n"


@needs_new_numpy
def test_gpus_name_it_and_auto_takes_the_cpu() -> None:
    code = """
import types
from qnp_xp import DeviceError
from qnp_xp._xp.backend import resolve
sys.modules["cupy"] = types.ModuleType("cupy")
print(resolve("auto").name)
try:
    resolve("gpu")
except DeviceError as err:
    print(err)
"""
    found = run(code).stdout.splitlines()
    assert found[0] == "cpu"
    assert "CuPy needs array-api-compat" in found[1]
    assert "pip install --user array-api-compat" in found[1]


def array_of(library: str, **attributes: Any) -> Any:
    """Make something that looks like an array of a library."""
    made = type("Array", (), {"__module__": f"{library}.core", **attributes})
    return made()


FOREIGN = {
    "a library of the standard": array_of("elsewhere", __array_namespace__=len),
    "one that names no namespace": array_of("torch", shape=(3,)),
}


@pytest.mark.parametrize("x", FOREIGN.values(), ids=FOREIGN)
def test_arrays_of_other_libraries_are_refused_by_name(x: Any) -> None:
    assert NumpyAlone.is_array_api_obj(x)
    library = type(x).__module__.partition(".")[0]
    for arrays in [(x,), (np.ones(2), x), (1.0, x)]:
        with pytest.raises(DeviceError, match=f"^{library} needs array-api-compat"):
            NumpyAlone.array_namespace(*arrays)


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
@needs_new_numpy
def test_real_arrays_of_other_libraries_are_refused(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    code = f"""
import {name} as library
from qnp_xp import DeviceError, load_model
from qnp_xp.spectra import normalize
x = library.ones((2, 443))
model = load_model()
for call in (
    lambda: load_model(xp=library),
    lambda: model.predict(x),
    lambda: normalize(x, x),
):
    try:
        call()
    except DeviceError as err:
        print("{name} needs array-api-compat" in str(err))
"""
    done = run(code)
    assert done.stdout == "True\nTrue\nTrue\n", done.stderr


@pytest.mark.parametrize(
    "arrays", [(), (1.0, None), ([1.0],), (np.ones(2), "flux")], ids=str
)
def test_what_is_no_array_has_no_namespace(arrays: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        NumpyAlone.array_namespace(*arrays)


def test_numpy_is_the_namespace_of_its_arrays_and_scalars() -> None:
    x = np.ones(3, np.float32)
    assert NumpyAlone.array_namespace(x, 1.0, None, x[0]) is np
    assert NumpyAlone.is_array_api_obj(x)
    assert NumpyAlone.is_array_api_obj(x[0])
    assert not NumpyAlone.is_array_api_obj([1.0])
    assert NumpyAlone.is_numpy_namespace(np)
    assert not NumpyAlone.is_numpy_namespace(types.ModuleType("torch"))


@needs_new_numpy
def test_numpy_knows_one_device() -> None:
    assert NumpyAlone.device(np.ones(3)) == "cpu"


def test_it_answers_all_that_the_package_asks() -> None:
    folder = Path(_xp.__file__).parent
    text = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    asked = set(re.findall(r"\bcompat\.([a-z_]+)\b", text)) - {"cupy"}
    assert len(asked) > 8
    # What moves an array to another device is asked for other libraries alone.
    assert {n for n in asked if not hasattr(NumpyAlone, n)} == {"to_device"}
