"""What array libraries do in ways of their own, where the standard is silent."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError, MissingLibraryError
from .compat import compat

# CuPy's own error is a MemoryError, those of CUDA, cuBLAS, PyTorch and XLA are not.
_OUT_OF_MEMORY = re.compile(
    r"out[ _]of[ _](\w+[ _])?memory|alloc_failed|resource_exhausted|"
    r"can't allocate memory",
    re.IGNORECASE,
)

# Libraries that compute gradients, the one that begins faster first.
_DIFFERENTIABLE = "torch", "jax.numpy"


def library_name(xp: Any) -> str:
    """Name the library of a namespace."""
    name = getattr(xp, "__name__", type(xp).__name__)
    return str(name).removeprefix("array_api_compat.")


def find_namespace(xp: Any) -> Any:
    """Find the namespace of the standard that belongs to a library."""
    if library_name(xp) == "dask.array":
        msg = (
            "a model cannot compute on dask's arrays as a whole: load it on numpy, and"
            " let dask call it for each block of spectra, x.map_blocks(...)"
        )
        raise DeviceError(msg)
    try:
        namespace = compat.array_namespace(xp.asarray([0.0]))
        namespace.__array_namespace_info__  # noqa: B018 (it came with 2023.12)
    except (AttributeError, TypeError) as err:
        msg = (
            f"xp={library_name(xp)} is no namespace of the array API standard, 2023.12"
            f" or later, such as numpy, cupy, torch and jax.numpy: {err}"
        )
        raise DeviceError(msg) from err
    return namespace


def find_device(xp: Any, wanted: Any) -> Any:
    """Find the device of a library that a user names; None means the default."""
    try:
        return _device(xp, wanted)
    # Each library has an error of its own here; PyTorch's is an AssertionError.
    except Exception as err:
        if isinstance(wanted, str) and wanted == "cpu":
            return _device(xp, None)  # nothing has that name: the standard gives none
        msg = f"{library_name(xp)} has no device {wanted!r} here: {err}"
        raise DeviceError(msg) from err


def _device(xp: Any, wanted: Any) -> Any:
    """Have a library make an array on a device, and say where it went."""
    if isinstance(wanted, str) and compat.is_jax_namespace(xp):
        platform, _, index = wanted.partition(":")
        wanted = importlib.import_module("jax").devices(platform)[int(index or 0)]
    return compat.device(xp.asarray([0.0], device=wanted))


def device_spec(device: Any) -> Any:
    """Give a device in a form that can be pickled, and that `find_device` takes."""
    if type(device).__module__.partition(".")[0] == "jaxlib":
        return f"{device.platform}:{device.id}"
    return device


def has_float64(xp: Any, device: Any) -> bool:
    """Tell whether a device has float64: Apple's have not, nor JAX without x64."""
    info = xp.__array_namespace_info__()
    return "float64" in info.dtypes(device=device, kind="real floating")


def is_traced(x: Any) -> bool:
    """Tell whether JAX is following what is done to an array, which has no values."""
    return "jax" in sys.modules and isinstance(x, sys.modules["jax"].core.Tracer)


def copy_to_host(x: Any) -> NDArray[Any]:
    """Copy what is no array of numpy to the host."""
    if not compat.is_array_api_obj(x):
        return _from_list(x)
    if is_traced(x):
        msg = (
            "an array that JAX traces cannot leave JAX: load the model with"
            " xp=jax.numpy, and set jax_enable_x64 for what needs float64"
        )
        raise DeviceError(msg)
    if compat.is_torch_array(x):
        x = x.detach()
    if compat.is_cupy_array(x) or compat.is_torch_array(x):
        return np.asarray(compat.to_device(x, "cpu"))
    xp = compat.array_namespace(x)
    if compat.is_array_api_strict_namespace(xp):
        # Its devices are objects, and its CPU has no name in the standard.
        x = compat.to_device(x, xp.Device("CPU_DEVICE"))
    try:
        return np.asarray(x)
    except TypeError:  # as dpnp raises it
        pass
    try:
        return np.from_dlpack(x, device="cpu")
    except (AttributeError, BufferError, TypeError) as err:
        msg = (
            f"arrays of {library_name(xp)} cannot be copied to the host, at least not"
            f" by numpy {np.__version__} (2.1 is the first that can ask for it): {err}"
        )
        raise DeviceError(msg) from err


def _from_list(x: Any) -> NDArray[Any]:
    """Make an array of a list, or of what another package can turn into one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy < 1.24 warns of lists that are no array
        try:
            return np.asarray(x)
        except ValueError as err:
            msg = f"expected numbers in rows of one length, got {type(x).__name__}"
            raise TypeError(msg) from err


def eager(xp: Any) -> contextlib.AbstractContextManager[Any]:
    """Make arrays that may be kept: neither traces nor PyTorch's of inference mode."""
    context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if compat.is_jax_namespace(xp):
        context = importlib.import_module("jax").ensure_compile_time_eval()
    elif compat.is_torch_namespace(xp):
        context = importlib.import_module("torch").inference_mode(False)
    return context


@functools.cache
def probe_cupy(index: int) -> None:
    """Have a GPU compute a product and a kernel once: CuPy may lack libraries."""
    cupy = importlib.import_module("cupy")
    try:
        with cupy.cuda.Device(index):
            x = cupy.ones((2, 2), dtype=cupy.float32)
            complete = bool((cupy.matmul(x, x) + x == 3).all())
    # What is missing may be a file, a symbol, a compiler, or memory.
    except Exception as err:
        msg = (
            f"CuPy finds GPU {index}, but cannot compute on it; where libraries of CUDA"
            f" are missing, pip install 'cupy-cuda12x[ctk]' brings them. CuPy says:"
            f" {type(err).__name__}: {err}"
        )
        raise DeviceError(msg) from err
    if not complete:
        msg = f"GPU {index} computes wrongly: 2 is not 1 + 1"
        raise DeviceError(msg)


def can_differentiate(xp: Any) -> bool:
    """Tell whether a library computes gradients."""
    known = compat.is_jax_namespace, compat.is_torch_namespace
    return any(is_library(xp) for is_library in known)


def find_differentiable() -> Any:
    """Find a library that computes gradients and is installed."""
    errors = []
    for name in _DIFFERENTIABLE:
        try:
            return importlib.import_module(name)
        except ImportError as err:
            errors.append(str(err))
    msg = f"saliency needs PyTorch or JAX: pip install torch, or jax ({errors[0]})"
    raise MissingLibraryError(msg)


def differentiate(xp: Any, function: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
    """Compute a number for each row of an array, and its gradient by that row.

    The gradients have no gradient of their own. JAX compiles a function once for each
    shape, and knows functions that are equal for the same.
    """
    if compat.is_jax_namespace(xp):
        value, slopes = _compiled_gradient()(function, x)
        return value, slopes
    torch = importlib.import_module("torch")
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()  # not the array of the user
        value = function(x)
        (slopes,) = torch.autograd.grad(value, x, torch.ones_like(value))
    return value.detach(), slopes


@functools.cache
def _compiled_gradient() -> Any:
    """Have JAX compile what `differentiate` does: op by op takes it 20 s."""
    jax = importlib.import_module("jax")

    def gradient(function: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
        value, pull_back = jax.vjp(function, x)
        return value, pull_back(jax.numpy.ones_like(value))[0]

    return jax.jit(gradient, static_argnums=0)


def is_out_of_memory(err: BaseException) -> bool:
    """Tell whether an error of any library says that memory has run out."""
    if isinstance(err, RuntimeError):
        return _OUT_OF_MEMORY.search(str(err)) is not None
    return isinstance(err, MemoryError)
