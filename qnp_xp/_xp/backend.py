"""Array libraries and their devices: the one module that names CuPy.

Array functions get their namespace from `array_namespace` and check their arguments
with `real_floating`; `to_device` and `to_host` move data.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DeviceError
from . import libraries
from .compat import NumpyAlone, compat, lacking

#: For array functions, which import them from here.
array_namespace = compat.array_namespace
device = compat.device

_log = logging.getLogger(__name__)

_SCALARS = (bool, int, float)  # numpy's own scalars are arrays of no dimension


def permitted(device: str) -> str:
    """Return `device`, or the CPU where ``$DESI_NO_GPU`` is set, to whatever value."""
    if "DESI_NO_GPU" in os.environ and (device == "auto" or device.startswith("gpu")):
        _log.warning("$DESI_NO_GPU is set: the CPU is used, and not %s", device)
        return "cpu"
    return device


def device_of_rank(device: str, local: int) -> str:
    """Deal ``"gpu"`` and ``"auto"`` to the visible GPUs by a process' local rank."""
    if device not in ("auto", "gpu"):
        return device
    count = visible_gpus()
    return f"gpu:{local % count}" if count else device


#: An array of any library that follows the array API standard.
Array = Any


@dataclass(frozen=True)
class Backend:
    """An array namespace together with one device of that library."""

    xp: Any
    device: Any  #: The library's own device object; None for numpy.
    name: str  #: How users name it: ``"cpu"``, ``"gpu:0"``, or the library's name.

    def __reduce__(self) -> tuple[Callable[..., Backend], tuple[Any, ...]]:
        # Modules cannot be pickled, and neither can CuPy's devices.
        if self.is_gpu:
            return resolve, (self.name,)
        return _rebuild, (self.xp.__name__, libraries.device_spec(self.device))

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Make this device the library's current one for a while."""
        if self.is_gpu:  # CuPy allocates on the current one, whatever device= says
            return self.device  # type: ignore[no-any-return]
        return contextlib.nullcontext()

    @property
    def is_host(self) -> bool:
        """Whether it is numpy on the host."""
        return self.name == "cpu"

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU of CuPy's."""
        return self.name.startswith("gpu")

    @property
    def has_float64(self) -> bool:
        """Whether it has float64, which sums of pixels and redshifts need."""
        if self.is_host or self.is_gpu:
            return True
        return libraries.has_float64(self.xp, self.device)

    @property
    def for_float64(self) -> Backend:
        """Where to compute in float64: the backend itself, or else the host."""
        return self if self.has_float64 else resolve("cpu")

    def eager(self) -> contextlib.AbstractContextManager[Any]:
        """Make arrays that may be kept, whatever mode the library is in."""
        return libraries.eager(self.xp)

    @contextlib.contextmanager
    def stream(self, purpose: str) -> Iterator[None]:
        """Let work on a GPU wait for none of another purpose; elsewhere as `active`."""
        with self.active():
            if not self.is_gpu:
                yield
                return
            with _stream(self.name, purpose):
                yield

    def finish(self) -> None:
        """Wait until the work of this purpose on a GPU is done."""
        if self.is_gpu:
            _cupy().cuda.get_current_stream().synchronize()

    def settle(self) -> None:
        """Wait until all work on a GPU is done, whichever thread began it."""
        if self.is_gpu:
            self.device.synchronize()

    def release(self) -> None:
        """Give back the memory of a GPU that CuPy keeps for later."""
        if self.is_gpu:
            with self.active():
                _cupy().get_default_memory_pool().free_all_blocks()
                _cupy().get_default_pinned_memory_pool().free_all_blocks()

    def free_memory(self) -> int | None:
        """Count the bytes that can be had on a GPU; None elsewhere."""
        if not self.is_gpu:
            return None
        with self.active():
            kept = _cupy().get_default_memory_pool().free_bytes()
            return int(_cupy().cuda.runtime.memGetInfo()[0]) + int(kept)


@functools.cache
def _stream(gpu: str, purpose: str) -> Any:
    """Make the stream of a purpose once: CuPy keeps memory for each stream."""
    return _cupy().cuda.Stream(non_blocking=True)


def _cupy() -> Any:
    import cupy  # noqa: PLC0415

    return cupy


def _rebuild(module: str, device: Any) -> Backend:
    return resolve(device, importlib.import_module(module))


def _gpu(index: int | None) -> Backend:
    """Make the CuPy backend of GPU `index`, or of the current one for None."""
    try:
        import cupy  # noqa: PLC0415
    except ImportError as err:
        msg = (
            "device='gpu' needs CuPy, which is not installed: pip install '.[gpu]' in a"
            " checkout (cupy-cuda12x), cupy-cuda13x for CUDA 13, or conda-forge's"
            " cupy-core where CUDA is the system's own, as at NERSC. Python says:"
            f" {err}"
        )
        raise DeviceError(msg) from err
    if compat is NumpyAlone:
        raise lacking(library="CuPy")
    import array_api_compat.cupy as xp  # noqa: PLC0415

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as err:
        msg = (
            "CuPy is installed, but no GPU answers: this machine has none, or no driver"
            f" for CuPy's CUDA, or $CUDA_VISIBLE_DEVICES hides it. CUDA says: {err}"
        )
        raise DeviceError(msg) from err
    if index is None:
        index = cupy.cuda.runtime.getDevice()
    if index >= count:
        msg = (
            f"device='gpu:{index}' was asked for; the visible GPUs are 0 to {count - 1}"
        )
        raise DeviceError(msg)
    libraries.probe_cupy(index)
    return Backend(xp, cupy.cuda.Device(index), f"gpu:{index}")


def visible_gpus() -> int:
    """Count the GPUs that CuPy can use; none where it is missing."""
    try:
        _gpu(0)
    except DeviceError:
        return 0
    return int(_cupy().cuda.runtime.getDeviceCount())


def backend_of(x: Array) -> Backend:
    """Find the backend that an array lives on; host numpy for what is not an array."""
    if compat.is_array_api_obj(x) and not isinstance(x, np.ndarray):
        xp = array_namespace(x)
        if compat.is_cupy_array(x):
            return _gpu(x.device.id)
        return Backend(xp, device(x), libraries.library_name(xp))
    return resolve("cpu")


def _of_library(xp: Any, device: Any) -> Backend:
    """Make the backend of a namespace that the user names."""
    namespace = libraries.find_namespace(xp)
    if compat.is_numpy_namespace(namespace):
        if device not in (None, "cpu"):
            msg = f"device={device!r} with numpy, which knows only the CPU"
            raise ValueError(msg)
        return resolve("cpu")
    if compat.is_cupy_namespace(namespace):
        if isinstance(device, _cupy().cuda.Device):
            return _gpu(device.id)
        return resolve("gpu" if device in (None, "cpu") else device)
    device = libraries.find_device(namespace, device)
    return Backend(namespace, device, libraries.library_name(namespace))


def resolve(device: Any = "cpu", xp: Any = None) -> Backend:
    """Find the backend that a user names with the arguments of `load_model`."""
    if xp is not None:
        return _of_library(xp, device)
    if device == "auto" and "DESI_NO_GPU" in os.environ:  # as desispec asks for it
        return resolve("cpu")
    if device == "auto":
        try:
            return _gpu(None)
        except DeviceError:
            return resolve("cpu")
    if device == "cpu":
        return Backend(array_namespace(np.empty(0)), None, "cpu")
    match = re.fullmatch(r"gpu(?::(\d+))?", device) if isinstance(device, str) else None
    if match is None:
        msg = f"device={device!r} is not one of 'cpu', 'gpu', 'gpu:N', 'auto'"
        raise ValueError(msg)
    return _gpu(None if match[1] is None else int(match[1]))


def to_host(x: Array) -> np.ndarray[Any, Any]:
    """Copy an array of any library to the host; one of numpy is returned itself."""
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    return libraries.copy_to_host(x)


def to_device(x: Array, backend: Backend, dtype: str | None = None) -> Array:
    """Copy an array of any library to a device, unless it is there in that dtype.

    Without a dtype, float64 becomes float32 where there is no other.
    """
    xp = backend.xp
    foreign = compat.is_array_api_obj(x) and not isinstance(x, np.ndarray)
    if (
        foreign
        and array_namespace(x) is xp
        and (libraries.is_traced(x) or backend.device == device(x))
    ):
        return x if dtype is None else xp.astype(x, getattr(xp, dtype), copy=False)
    host = to_host(x)
    # Other libraries refuse big-endian numbers, which is what FITS tables hold.
    native = np.dtype(dtype) if dtype is not None else host.dtype.newbyteorder("=")
    if dtype is None and native == np.float64 and not backend.has_float64:
        native = np.dtype(np.float32)
    host = host.astype(native, copy=False)
    if compat.is_numpy_namespace(xp):
        return host
    if not (host.flags.writeable and host.flags.c_contiguous):
        host = host.copy()  # torch shares memory, and refuses some that it would share
    with backend.active(), backend.eager():
        return xp.asarray(host, device=backend.device)


def to_float64_device(*arrays: Array) -> tuple[Array, ...]:
    """Move arrays to the host if there is no float64 where the first of them is."""
    if backend_of(arrays[0]).has_float64:
        return arrays
    return tuple(map(to_host, arrays))


def real_floating(**arguments: Any) -> tuple[Array, ...]:
    """Check the arguments of an array function: integers and bools become float64.

    They become float32 where there is no float64. Python scalars take the dtype and
    the device of the first array; without any array they become numpy arrays of no
    dimension.
    """
    given = arguments.items()
    arrays = {k: _floating(k, x) for k, x in given if type(x) not in _SCALARS}
    if len(arrays) < len(arguments):
        like = next(iter(arrays.values()), np.empty(0))
        xp, where = array_namespace(like), device(like)
        for name in arguments.keys() - arrays.keys():
            scalar = arguments[name]
            arrays[name] = xp.asarray(scalar, dtype=like.dtype, device=where)
    return tuple(arrays[name] for name in arguments)


def _floating(name: str, x: Any) -> Array:
    """Make a floating-point array of one argument."""
    if not hasattr(x, "dtype"):
        msg = f"{name} must be an array, got {type(x).__name__}"
        raise TypeError(msg)
    xp = array_namespace(x)
    kind = _kind(xp, x.dtype)
    if kind == "other":
        msg = f"{name} must hold real numbers, got {x.dtype}"
        raise TypeError(msg)
    if kind == "real floating":
        return x
    wide = backend_of(x).has_float64
    return xp.astype(x, xp.float64 if wide else xp.float32)


@functools.cache
def _kind(xp: Any, dtype: Any) -> str:
    """Find the kind of a dtype, once: libraries take longer than layers may."""
    kinds = ("real floating", "integral", "bool")
    return next((kind for kind in kinds if xp.isdtype(dtype, kind)), "other")


def pad_or_cut(x: Array, left: int, length: int, axis: int) -> Array:
    """Put zeros before an axis, then cut its end or fill it with zeros to a length."""
    kept = min(x.shape[axis], length - left)
    if kept < x.shape[axis]:
        x = x[(slice(None),) * axis + (slice(0, kept), ...)]
    widths = left, length - left - kept
    if widths == (0, 0):
        return x  # itself if it can be, which numpy can write its next result into
    xp = array_namespace(x)
    shapes = [(*x.shape[:axis], width, *x.shape[axis + 1 :]) for width in widths]
    before, after = (xp.zeros(s, dtype=x.dtype, device=device(x)) for s in shapes)
    return xp.concat([before, x, after], axis=axis)


def numpy_within(x: Array, low: float, high: float) -> bool:
    """Look whether all of an array lies in a range; False where it is not numpy's.

    Elsewhere the look would wait for a device, or x is being traced and has no values.
    """
    if not isinstance(x, np.ndarray):
        return False
    return not x.size or bool(x.min() >= low and x.max() <= high)
