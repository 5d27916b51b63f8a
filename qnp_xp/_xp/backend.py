"""Array libraries and their devices: the one module that names CuPy.

Everything else in the package gets its functions from `array_namespace` and calls
`to_device` and `to_host` where data changes place.
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

import array_api_compat
import numpy as np
from array_api_compat import array_namespace, device

from ..errors import DeviceError

__all__ = [
    "Array",
    "Backend",
    "array_namespace",
    "backend_of",
    "device",
    "device_of_rank",
    "permitted",
    "resolve",
    "to_device",
    "to_host",
    "visible_gpus",
]

_log = logging.getLogger(__name__)


def permitted(device: str) -> str:
    """The device that is asked for, unless ``$DESI_NO_GPU`` forbids GPUs.

    Parameters
    ----------
    device
        As for `qnp_xp.load_model`.

    Returns
    -------
    str
        ``"cpu"`` where the variable is set, whatever it is set to, as in desispec; a
        warning says so.
    """
    if "DESI_NO_GPU" in os.environ and (device == "auto" or device.startswith("gpu")):
        _log.warning("$DESI_NO_GPU is set: the CPU is used, and not %s", device)
        return "cpu"
    return device


def device_of_rank(device: str, local: int) -> str:
    """The device of one of the processes that run on a machine.

    Parameters
    ----------
    device
        As for `qnp_xp.load_model`.
    local
        Number of the process among those of its machine.

    Returns
    -------
    str
        For ``"gpu"`` and ``"auto"``, the visible GPUs in turn; else `device`.
    """
    if device not in ("auto", "gpu"):
        return device
    count = visible_gpus()
    return f"gpu:{local % count}" if count else device


#: An array of any library that follows the array API standard.
Array = Any


@dataclass(frozen=True)
class Backend:
    """An array namespace together with one device of that library.

    Attributes
    ----------
    xp
        The namespace, as `array_namespace` returns it.
    device
        The library's own device object; None for numpy.
    name
        How users name it: ``"cpu"``, ``"gpu:0"``, or the library's name.
    """

    xp: Any
    device: Any
    name: str

    def __hash__(self) -> int:
        # By name: CuPy's devices have no hash.
        return hash((self.xp.__name__, self.name))

    def __reduce__(self) -> tuple[Callable[..., Backend], tuple[Any, ...]]:
        # Modules cannot be pickled, and neither can CuPy's devices.
        if self.is_gpu:
            return resolve, (self.name,)
        return _rebuild, (self.xp.__name__, self.device, self.name)

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Context in which this device is the library's current one.

        CuPy allocates on the current device whatever ``device=`` says; the other
        libraries need nothing.
        """
        if self.is_gpu:
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

    @contextlib.contextmanager
    def stream(self, purpose: str) -> Iterator[None]:
        """Context in which work on a GPU waits for no work of another purpose.

        What another purpose is to use must be `finish`ed first. Elsewhere than on a GPU
        it is the same as `active`.
        """
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
        """Give memory of a GPU that CuPy keeps for later back to others."""
        if self.is_gpu:
            with self.active():
                _cupy().get_default_memory_pool().free_all_blocks()
                _cupy().get_default_pinned_memory_pool().free_all_blocks()

    def free_memory(self) -> int | None:
        """Bytes that can be had on a GPU; None where memory is that of the host."""
        if not self.is_gpu:
            return None
        with self.active():
            kept = _cupy().get_default_memory_pool().free_bytes()
            return int(_cupy().cuda.runtime.memGetInfo()[0]) + int(kept)


@functools.cache
def _stream(gpu: str, purpose: str) -> Any:
    """Always the same one: CuPy keeps memory for each stream that there ever was."""
    return _cupy().cuda.Stream(non_blocking=True)


def _cupy() -> Any:
    import cupy  # noqa: PLC0415

    return cupy


def _rebuild(module: str, device: Any, name: str) -> Backend:
    return Backend(importlib.import_module(module), device, name)


def _gpu(index: int | None) -> Backend:
    """The CuPy backend on GPU `index`, or on the current one for None."""
    try:
        import array_api_compat.cupy as xp  # noqa: PLC0415
        import cupy  # noqa: PLC0415
    except ImportError as err:
        msg = (
            "device='gpu' needs CuPy, which is not installed: pip install"
            " 'qnp-xp[gpu]' (cupy-cuda12x), cupy-cuda13x for CUDA 13, or conda-forge's"
            " cupy-core where CUDA is the system's own, as at NERSC. Python says:"
            f" {err}"
        )
        raise DeviceError(msg) from err
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
    return Backend(xp, cupy.cuda.Device(index), f"gpu:{index}")


def visible_gpus() -> int:
    """How many GPUs CuPy can use; none where it is missing."""
    try:
        _gpu(0)
    except DeviceError:
        return 0
    return int(_cupy().cuda.runtime.getDeviceCount())


def backend_of(x: Array) -> Backend:
    """The backend that an array lives on; host numpy for what is not an array."""
    if array_api_compat.is_array_api_obj(x) and not isinstance(x, np.ndarray):
        xp = array_namespace(x)
        if array_api_compat.is_cupy_array(x):
            return _gpu(x.device.id)
        return Backend(xp, device(x), _library(xp))
    return resolve("cpu")


def _library(xp: Any) -> str:
    return str(xp.__name__).removeprefix("array_api_compat.")


def _of_library(xp: Any, device: Any) -> Backend:
    """The backend of a namespace that the user names."""
    namespace = array_namespace(xp.asarray([0.0]))
    if array_api_compat.is_numpy_namespace(namespace):
        if device not in (None, "cpu"):
            msg = f"device={device!r} with numpy, which knows only the CPU"
            raise ValueError(msg)
        return resolve("cpu")
    if array_api_compat.is_cupy_namespace(namespace):
        return resolve("gpu" if device in (None, "cpu") else device)
    if isinstance(device, str) and (device == "auto" or device.startswith("gpu")):
        msg = f"device={device!r} with xp=: name a device of that library instead"
        raise ValueError(msg)
    if device in (None, "cpu"):
        device = array_api_compat.device(namespace.asarray([0.0]))
    return Backend(namespace, device, _library(namespace))


def resolve(device: Any = "cpu", xp: Any = None) -> Backend:
    """Turn what a user says of a device into a `Backend`.

    Parameters
    ----------
    device
        ``"cpu"``, ``"gpu"``, ``"gpu:1"``, ``"auto"`` (a GPU if one can be used and
        ``$DESI_NO_GPU`` is not set, else the CPU) or, with `xp`, that library's own
        device object.
    xp
        Any array API namespace, compatibility layer or the library itself.

    Returns
    -------
    Backend

    Raises
    ------
    DeviceError
        If a GPU was asked for and cannot be used; the message says what is missing.
    ValueError
        If `device` is none of the above.
    """
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
    """Copy an array of any library to the host.

    Parameters
    ----------
    x
        Array of any library and device, or anything `numpy.asarray` takes.

    Returns
    -------
    numpy.ndarray
        Of the same shape and dtype; `x` itself where it is a numpy array already.
    """
    if isinstance(x, np.ndarray) or not array_api_compat.is_array_api_obj(x):
        return np.asarray(x)
    if array_api_compat.is_cupy_array(x) or array_api_compat.is_torch_array(x):
        return np.asarray(array_api_compat.to_device(x, "cpu"))
    xp = array_namespace(x)
    if array_api_compat.is_array_api_strict_namespace(xp):
        # Its devices are objects, and its CPU has no name in the standard.
        x = array_api_compat.to_device(x, xp.Device("CPU_DEVICE"))
    return np.asarray(x)


def to_device(x: Array, backend: Backend, dtype: str | None = None) -> Array:
    """Copy an array of any library to a device.

    Parameters
    ----------
    x
        Array of any library and device, of either byte order.
    backend
        Where to.
    dtype
        Name of the dtype of the result, ``"float32"`` say; None keeps that of `x`.

    Returns
    -------
    array
        On the backend's device; `x` itself where nothing is to be changed.
    """
    xp = backend.xp
    foreign = array_api_compat.is_array_api_obj(x) and not isinstance(x, np.ndarray)
    if foreign and array_namespace(x) is xp and backend.device == device(x):
        return x if dtype is None else xp.astype(x, getattr(xp, dtype), copy=False)
    host = to_host(x)
    # Other libraries refuse big-endian numbers, which is what FITS tables hold.
    native = np.dtype(dtype) if dtype is not None else host.dtype.newbyteorder("=")
    host = host.astype(native, copy=False)
    if array_api_compat.is_numpy_namespace(xp):
        return host
    if not (host.flags.writeable and host.flags.c_contiguous):
        host = host.copy()  # torch shares memory, and refuses some that it would share
    with backend.active():
        return xp.asarray(host, device=backend.device)
