"""array-api-compat, or what stands in for it where it is missing.

numpy follows the standard by itself since 2.1, and is all that works without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DeviceError

_INSTALL = "pip install --user array-api-compat"
_LIBRARIES = {"cupy", "dask", "jax", "jaxlib", "torch"}  # not all name their namespace
_SCALARS = (bool, int, float, complex, type(None))


def lacking(library: str) -> DeviceError:
    """Make the error for a library that does not work without array-api-compat."""
    msg = (
        f"{library} needs array-api-compat, which is not installed: {_INSTALL}."
        " Without it the package works with numpy alone"
    )
    return DeviceError(msg)


class NumpyAlone:
    """The functions of array-api-compat that the package calls, for numpy alone."""

    @staticmethod
    def array_namespace(*arrays: Any) -> Any:
        """Give numpy for its own arrays, and refuse those of other libraries."""
        given = [x for x in arrays if type(x) not in _SCALARS]
        for x in given:
            if isinstance(x, (np.ndarray, np.generic)):
                continue
            if NumpyAlone.is_array_api_obj(x):
                raise lacking(_library(x))
            msg = f"{type(x).__name__} is not a supported array type"
            raise TypeError(msg)
        if not given:
            msg = "array_namespace takes one array or more"
            raise TypeError(msg)
        return np

    @staticmethod
    def is_array_api_obj(x: Any) -> bool:
        """Tell whether something is an array, of whatever library."""
        if isinstance(x, (np.ndarray, np.generic)) or hasattr(x, "__array_namespace__"):
            return True
        return _library(x) in _LIBRARIES and hasattr(x, "shape")

    @staticmethod
    def is_numpy_namespace(xp: Any) -> bool:
        """Tell whether a namespace is that of numpy."""
        return xp is np

    @staticmethod
    def device(x: Any) -> Any:
        """Name the device of an array, which numpy has since 2.0."""
        return x.device

    @staticmethod
    def _never(x: Any) -> bool:
        """Say no: nothing else comes this far."""
        return False

    is_array_api_strict_namespace = is_cupy_namespace = is_jax_namespace = _never
    is_torch_namespace = is_cupy_array = is_torch_array = _never


def _library(x: Any) -> str:
    """Name the library that something comes from."""
    return type(x).__module__.partition(".")[0]


def _find() -> Any:
    """Find array-api-compat, or what stands in for it."""
    try:
        import array_api_compat  # noqa: PLC0415
    except ImportError as err:
        if hasattr(np, "__array_namespace_info__"):
            return NumpyAlone
        msg = (
            "qnp_xp needs array-api-compat, or numpy 2.1 or later, which follows the"
            f" array API standard by itself; this is {np.__version__}: {_INSTALL}"
        )
        raise ImportError(msg) from err
    return array_api_compat


#: What the package calls in place of ``array_api_compat``.
compat = _find()
