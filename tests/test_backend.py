"""Array libraries, their devices, and the way of arrays between them."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from qnp_xp import DeviceError
from qnp_xp._xp import libraries
from qnp_xp._xp.backend import (
    Backend,
    backend_of,
    numpy_within,
    pad_or_cut,
    real_floating,
    resolve,
    to_device,
    to_host,
)
from qnp_xp._xp.compat import compat

if TYPE_CHECKING:
    from conftest import ArrayBackend

DTYPES = ("bool", "int32", "int64", "float32", "float64")


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which CuPy is not installed."""
    monkeypatch.setitem(sys.modules, "cupy", None)


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A CuPy that sees two GPUs, of which the second is the current one."""

    class CUDARuntimeError(RuntimeError):
        pass

    class Device:
        current: ClassVar[list[int]] = []

        def __init__(self, index: int) -> None:
            self.id = index

        def __enter__(self) -> None:
            self.current.append(self.id)

        def __exit__(self, *exc: object) -> None:
            self.current.pop()

    cupy: Any = types.ModuleType("cupy")
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        runtime=types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=lambda: 2,
            getDevice=lambda: 1,
        ),
    )
    cupy.ones, cupy.matmul, cupy.float32 = np.ones, np.matmul, np.float32
    libraries.probe_cupy.cache_clear()
    array_api_compat = pytest.importorskip("array_api_compat", reason="no CuPy then")
    namespace = types.ModuleType("array_api_compat.cupy")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)
    monkeypatch.setattr(array_api_compat, "cupy", namespace, raising=False)
    return cupy


def run(code: str) -> str:
    """Run Python in a process of its own and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_backends_that_are_not_tested_say_why(absent: str | None) -> None:
    # The skips of this one test stand for those of all array tests.
    if absent is not None:
        assert absent.partition(": ")[2]
        pytest.skip(absent)


# --- names of devices


@pytest.mark.parametrize("arguments", [(), ("cpu",), ("cpu", None), ("cpu", np)])
def test_cpu_is_numpy(arguments: tuple[Any, ...]) -> None:
    backend = resolve(*arguments)
    assert backend.xp is compat.array_namespace(np.empty(0))
    assert (backend.device, backend.name) == (None, "cpu")


@pytest.mark.parametrize(
    "device",
    ["cuda", "GPU", "gpu:", "gpu:x", "gpu:-1", "gpu: 1", "gpu:1 ", "", "cpu:0"],
)
def test_unknown_names_of_devices_are_refused(device: str) -> None:
    with pytest.raises(
        ValueError, match=f"device='{device}' is not one of 'cpu', 'gpu'"
    ):
        resolve(device)


@pytest.mark.parametrize("device", [None, 0, 1.5, b"cpu"])
def test_devices_that_are_no_names_are_refused(device: Any) -> None:
    with pytest.raises(ValueError, match="is not one of 'cpu', 'gpu', 'gpu:N', 'auto'"):
        resolve(device)


@pytest.mark.parametrize("device", ["gpu", "gpu:0", "gpu:1", "nonsense"])
def test_other_devices_than_the_cpu_are_refused_for_numpy(device: str) -> None:
    with pytest.raises((ValueError, DeviceError), match=f"device='{device}'"):
        resolve(device, np)


@pytest.mark.parametrize("device", ["gpu", "gpu:0", "gpu:7"])
@pytest.mark.usefixtures("no_cupy")
def test_gpu_without_cupy_says_what_to_install(device: str) -> None:
    with pytest.raises(DeviceError, match=r"needs CuPy, .* pip install '\.\[gpu\]'"):
        resolve(device)


def test_gpu_that_cannot_be_used_is_an_error_and_no_fallback() -> None:
    if not (found := resolve("auto")).is_host:
        pytest.skip(f"this machine has {found.name}")
    with pytest.raises(DeviceError, match="CuPy") as caught:
        resolve("gpu")
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.usefixtures("no_cupy")
def test_auto_without_cupy_is_the_cpu() -> None:
    assert resolve("auto") == resolve("cpu")


def test_cupy_without_a_gpu_says_so(fake_cupy: Any) -> None:
    def fail() -> int:
        msg = "cudaErrorNoDevice: no CUDA-capable device is detected"
        raise fake_cupy.cuda.runtime.CUDARuntimeError(msg)

    fake_cupy.cuda.runtime.getDeviceCount = fail
    match = r"no GPU answers.*CUDA says: cudaErrorNoDevice"
    with pytest.raises(DeviceError, match=match):
        resolve("gpu")
    assert resolve("auto") == resolve("cpu")


@pytest.mark.usefixtures("fake_cupy")
def test_auto_is_the_cpu_where_desi_wants_no_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolve("auto").is_gpu
    monkeypatch.setenv("DESI_NO_GPU", "1")
    assert resolve("auto") == resolve("cpu")
    assert resolve("gpu").is_gpu  # which was asked for by name


@pytest.mark.parametrize(
    ("device", "index"), [("gpu", 1), ("auto", 1), ("gpu:0", 0), ("gpu:1", 1)]
)
def test_gpu_is_cupy_on_the_current_device_or_the_one_named(
    fake_cupy: Any, device: str, index: int
) -> None:
    backend = resolve(device)
    assert backend.xp is sys.modules["array_api_compat.cupy"]
    assert isinstance(backend.device, fake_cupy.cuda.Device)
    assert backend.device.id == index
    assert backend.name == f"gpu:{index}"


def test_a_gpu_that_cannot_compute_is_an_error_and_auto_falls_back(
    fake_cupy: Any,
) -> None:
    def fail(*_: Any) -> None:
        msg = "libcublas.so.12: cannot open shared object file"
        raise ImportError(msg)

    fake_cupy.matmul = fail
    with pytest.raises(DeviceError, match=r"finds GPU 0.*\[ctk\].*libcublas\.so\.12"):
        resolve("gpu:0")
    assert resolve("auto") == resolve("cpu")
    fake_cupy.matmul = lambda x, y: x
    with pytest.raises(DeviceError, match="GPU 0 computes wrongly"):
        resolve("gpu:0")


def test_cupy_takes_its_own_devices(fake_cupy: Any) -> None:
    class Array:
        pass

    fake_cupy.ndarray = fake_cupy.generic = Array
    fake_cupy.asarray = lambda x: Array()
    namespace: Any = sys.modules["array_api_compat.cupy"]
    namespace.__array_namespace_info__ = object
    named = (fake_cupy.cuda.Device(0), "gpu:1", "cpu", None)
    found = [resolve(device, fake_cupy).name for device in named]
    assert found == ["gpu:0", "gpu:1", "gpu:1", "gpu:1"]  # the last is current


@pytest.mark.usefixtures("fake_cupy")
def test_gpu_that_is_not_there_is_an_error() -> None:
    message = "device='gpu:2' was asked for; the visible GPUs are 0 to 1"
    with pytest.raises(DeviceError, match=message):
        resolve("gpu:2")


def test_gpu_is_the_current_device_while_it_is_active(fake_cupy: Any) -> None:
    backend = resolve("gpu:0")
    assert fake_cupy.cuda.Device.current == []
    with backend.active():
        assert fake_cupy.cuda.Device.current == [0]
    assert fake_cupy.cuda.Device.current == []


def test_gpus_are_pickled_by_their_names(fake_cupy: Any) -> None:
    contents = [pickle.dumps(resolve(name)) for name in ("gpu:0", "gpu:1")]
    found = [pickle.loads(content) for content in contents]
    assert [backend.name for backend in found] == ["gpu:0", "gpu:1"]
    assert [backend.device.id for backend in found] == [0, 1]
    fake_cupy.cuda.runtime.getDeviceCount = lambda: 1
    with pytest.raises(DeviceError, match="'gpu:1' was asked for"):
        pickle.loads(contents[1])


# --- other libraries


@pytest.mark.parametrize("name", ["torch", "array_api_compat.torch"])
def test_torch_is_taken_raw_or_from_its_compatibility_layer(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    backend = resolve(xp=importlib.import_module(name))
    assert backend.xp is compat.array_namespace(torch.empty(0))
    device = torch.device("cpu")
    assert (backend.device, backend.name) == (device, "torch")
    assert resolve(device, torch).device == device


def test_strict_is_taken_with_a_device_of_its_own() -> None:
    reason = "array-api-strict is not installed"
    strict = pytest.importorskip("array_api_strict", reason=reason)
    default = strict.Device("CPU_DEVICE")
    assert resolve(xp=strict) == Backend(strict, default, "array_api_strict")
    device = strict.Device("device1")
    assert resolve(device, strict) == Backend(strict, device, "array_api_strict")


def test_backend_of_an_array_is_where_it_lives(backend: ArrayBackend) -> None:
    found = backend_of(backend.array([1.0]))
    assert found.xp is backend.xp
    assert found.device == backend.device
    assert found == resolve(**backend.resolve())


@pytest.mark.parametrize("x", [[1.0], 1.0, None])
def test_what_is_no_array_lives_on_the_host(x: Any) -> None:
    assert backend_of(x) == resolve("cpu")


def test_backends_survive_pickling(backend: ArrayBackend) -> None:
    before = resolve(**backend.resolve())
    after = pickle.loads(pickle.dumps(before))
    assert after.xp is before.xp
    assert after.device == before.device
    assert after.name == before.name
    x = to_device(np.array([1.5, 2.5]), after, "float32")
    assert backend.host(x, "float32").tolist() == [1.5, 2.5]


def test_work_within_an_active_backend_goes_to_its_device(
    backend: ArrayBackend,
) -> None:
    where = resolve(**backend.resolve())
    with where.active():
        x = where.xp.asarray([1.0, 2.0], device=where.device)
    assert backend.host(x).tolist() == [1.0, 2.0]


# --- to the device


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_host_arrays_of_either_byte_order_keep_values_and_dtype(
    backend: ArrayBackend, dtype: str, order: str
) -> None:
    values = np.array([[0, 1, 2], [3, 5, 7]]).astype(dtype)
    given = values.astype(values.dtype.newbyteorder(order))
    found = to_device(given, resolve(**backend.resolve()))
    host = backend.host(found, dtype)
    assert host.dtype.isnative
    np.testing.assert_array_equal(host, values)


@pytest.mark.parametrize("source", ["int16", "float32", ">f4", ">f8", ">i4", "bool"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_converted_on_the_way(
    backend: ArrayBackend, source: str, dtype: str
) -> None:
    given = np.array([0, 1, 1]).astype(source)
    found = to_device(given, resolve(**backend.resolve()), dtype)
    assert backend.host(found, dtype).tolist() == [0.0, 1.0, 1.0]
    assert given.dtype == np.dtype(source)


@pytest.mark.parametrize("source", ["float32", "float64", "int64"])
@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_dtype_is_converted_where_the_array_is(
    backend: ArrayBackend, source: str, dtype: str | None
) -> None:
    given = backend.array([1, 2], source)
    found = to_device(given, resolve(**backend.resolve()), dtype)
    assert backend.host(found, dtype or source).tolist() == [1, 2]
    assert backend.host(given, source).tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_an_array_in_place_is_not_copied(
    backend: ArrayBackend, dtype: str | None
) -> None:
    x = backend.array([1.0, 2.0], "float32")
    assert to_device(x, resolve(**backend.resolve()), dtype) is x


@pytest.mark.float64
@pytest.mark.parametrize(
    "x", [[1.0, 2.0], (1.0, 2.0), np.array([1.0, 2.0])], ids=["list", "tuple", "array"]
)
def test_whatever_numpy_takes_is_taken(backend: ArrayBackend, x: Any) -> None:
    found = to_device(x, resolve(**backend.resolve()))
    assert backend.host(found, "float64").tolist() == [1.0, 2.0]


@pytest.mark.float64
@pytest.mark.parametrize("dtype", [None, "float64", "float32"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (2, 0, 3)])
def test_shapes_without_values_are_kept(
    backend: ArrayBackend, shape: tuple[int, ...], dtype: str | None
) -> None:
    found = to_device(np.ones(shape), resolve(**backend.resolve()), dtype)
    assert backend.host(found, dtype or "float64").shape == shape


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layout", ["read-only", "fortran", "strided", "reversed"])
def test_host_arrays_of_any_layout_are_taken(
    backend: ArrayBackend, layout: str, dtype: str
) -> None:
    values = np.arange(24.0).reshape(4, 6)
    given = values.copy()
    if layout == "read-only":
        given.setflags(write=False)
    elif layout == "fortran":
        given = np.asfortranarray(given)
    elif layout == "strided":
        given = np.repeat(given, 3, axis=1)[:, ::3]
    else:
        given = given[::-1, ::-1].copy()[::-1, ::-1]
    found = to_device(given, resolve(**backend.resolve()), dtype)
    np.testing.assert_array_equal(backend.host(found, dtype), values)


def test_a_read_only_array_is_not_written_through_its_copy(
    backend: ArrayBackend,
) -> None:
    given = np.arange(3.0)
    given.setflags(write=False)
    found = to_device(given, resolve(**backend.resolve()))
    if backend.name == "numpy":
        assert found is given
        return
    found += 1
    assert backend.host(found).tolist() == [1.0, 2.0, 3.0]
    assert given.tolist() == [0.0, 1.0, 2.0]


@pytest.fixture
def elsewhere() -> Backend:
    """A library and device on which none of the backends under test lives."""
    reason = "array-api-strict is not installed"
    strict = pytest.importorskip("array_api_strict", reason=reason)
    return Backend(strict, strict.Device("device2"), "array_api_strict")


@pytest.mark.float64
def test_arrays_of_another_library_are_moved(
    backend: ArrayBackend, elsewhere: Backend
) -> None:
    away = to_device(backend.array([1.0, 2.0], "float32"), elsewhere)
    assert compat.array_namespace(away) is elsewhere.xp
    assert compat.device(away) == elsewhere.device
    assert away.dtype == elsewhere.xp.float32
    back = to_device(away, resolve(**backend.resolve()), "float64")
    assert backend.host(back, "float64").tolist() == [1.0, 2.0]


def test_arrays_are_moved_to_the_default_device_where_none_is_named(
    elsewhere: Backend,
) -> None:
    strict = elsewhere.xp
    away = strict.asarray([1.0, 2.0], device=elsewhere.device)
    found = to_device(away, resolve("cpu", strict))
    assert compat.device(found) == compat.device(strict.ones(1))
    assert to_host(found).tolist() == [1.0, 2.0]


# --- to the host


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_come_to_the_host_as_they_are(
    backend: ArrayBackend, shape: tuple[int, ...], dtype: str
) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    found = to_host(backend.array(values))
    assert type(found) is np.ndarray
    assert found.dtype == np.dtype(dtype)
    assert found.shape == shape
    np.testing.assert_array_equal(found, values)


def test_numpy_arrays_come_to_the_host_as_themselves() -> None:
    for x in (np.arange(3.0), np.arange(3).astype(">i4"), np.arange(6.0)[::2]):
        assert to_host(x) is x


@pytest.mark.parametrize("x", [[1.0, 2.0], (1, 2), 3.0, []])
def test_lists_and_numbers_come_to_the_host_as_arrays(x: Any) -> None:
    found = to_host(x)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, x)


# --- arguments of array functions


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floating_arrays_are_taken_as_they_are(
    backend: ArrayBackend, dtype: str
) -> None:
    x = backend.array([1.0, 2.0], dtype)
    (found,) = real_floating(x=x)
    assert found is x


@pytest.mark.float64
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_integers_and_bools_become_float64(backend: ArrayBackend, dtype: str) -> None:
    x, y = real_floating(x=backend.array([0, 1], dtype), y=backend.array([2.0]))
    assert backend.host(x, "float64").tolist() == [0.0, 1.0]
    assert backend.host(y, "float64").tolist() == [2.0]


def test_numbers_take_the_dtype_and_the_device_of_an_array(
    backend: ArrayBackend,
) -> None:
    given = {"a": 2, "x": backend.array([1.0], "float32"), "b": 0.5}
    a, x, b = real_floating(**given)
    assert backend.host(a, "float32") == 2
    assert backend.host(b, "float32") == 0.5
    assert x is given["x"]


@pytest.mark.parametrize("number", [1, 2.5, True])
def test_numbers_alone_become_arrays_of_numpy(number: float) -> None:
    (found,) = real_floating(x=number)
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape) == (np.float64, ())
    assert found == number


@pytest.mark.parametrize(
    "wrong",
    [[1.0], None, "one", 1j, {}],
    ids=["list", "None", "str", "complex", "dict"],
)
def test_what_is_no_array_is_refused_by_name(backend: ArrayBackend, wrong: Any) -> None:
    kind = type(wrong).__name__
    with pytest.raises(TypeError, match=f"ivar must be an array, got {kind}"):
        real_floating(flux=backend.array([1.0]), ivar=wrong)


@pytest.mark.parametrize("values", [np.array([1j]), np.array(["1"]), np.array([None])])
def test_numbers_that_are_not_real_are_refused_by_name(values: Any) -> None:
    match = f"flux must hold real numbers, got {values.dtype}"
    with pytest.raises(TypeError, match=match):
        real_floating(flux=values)


@pytest.mark.parametrize(("left", "length"), [(0, 4), (2, 6), (2, 9), (2, 4), (1, 3)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_is_padded_and_cut(
    backend: ArrayBackend, left: int, length: int, axis: int
) -> None:
    x = np.arange(1, 65, dtype="float32").reshape(4, 4, 4)
    found = pad_or_cut(backend.array(x), left, length, axis)
    widths = [(left, length) if i == axis else (0, 0) for i in range(3)]
    expected = np.take(np.pad(x, widths), range(length), axis=axis)
    np.testing.assert_array_equal(backend.host(found, "float32"), expected)


def test_no_rows_are_padded_to_some(backend: ArrayBackend) -> None:
    found = pad_or_cut(backend.array(np.ones((0, 3))), 0, 2, axis=0)
    assert backend.host(found, "float64").tolist() == [[0.0] * 3] * 2


def test_the_range_of_numpy_arrays_is_known_and_of_no_others(
    backend: ArrayBackend,
) -> None:
    inside = backend.array([[0.0, 1.0], [0.5, 1.0]])
    assert numpy_within(inside, 0.0, 1.0) is (backend.name == "numpy")
    assert numpy_within(inside[:0, :], 0.0, 1.0) is (backend.name == "numpy")
    for bad in (-0.1, 1.1, np.nan, np.inf):
        assert not numpy_within(backend.array([0.5, bad]), 0.0, 1.0)


# --- what an import loads


@pytest.mark.parametrize("module", ["qnp_xp", "qnp_xp._xp.backend", "qnp_xp.spectra"])
def test_importing_loads_no_array_library_but_numpy(module: str) -> None:
    code = f"""
import sys
import {module}
others = {{"cupy", "torch", "array_api_strict", "jax", "dask"}}
print(sorted(others & set(sys.modules)))
"""
    assert run(code) == "[]"


def test_the_cpu_needs_no_cupy() -> None:
    code = """
import sys
sys.modules["cupy"] = None
import numpy as np
from qnp_xp import DeviceError
from qnp_xp._xp.backend import backend_of, resolve, to_device, to_host
from qnp_xp.layers import relu
x = to_device(np.array([-1.0, 2.0]), resolve("auto"), "float32")
print(to_host(relu(x)).tolist(), backend_of(x).name)
try:
    resolve("gpu")
except DeviceError as err:
    print("cupy-cuda12x" in str(err))
"""
    assert run(code) == "[0.0, 2.0] cpu\nTrue"
