"""Arrays as texts of a page, small enough for hundreds of spectra.

``assets/arrays.js`` reads them. Numbers are of 16 bits, as half-precision floats times
a power of two, so that neither the unit of the flux nor a spike costs precision. What
is packed is deflated, low bytes before high ones, and written in base64.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_UNIT = 1e-3  # Angstrom; wavelengths are whole numbers of it
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).tiny)


def pack_wave(wave: Float64) -> str:
    """Pack wavelengths as second differences, most of which are 0, 1 or -1."""
    steps = np.rint(wave / _UNIT).astype(np.int64)
    for _ in range(2):
        steps = np.diff(steps, prepend=0)
    return _text(steps.astype("<i4"))


def pack_values(*parts: Float64) -> str:
    """Pack arrays of numbers, one after the other, that `scaled` made."""
    return _text(np.concatenate(parts).astype("<f2"))


def scaled(values: Float64) -> tuple[Float64, int]:
    """Divide numbers by a power of two that makes them fit, and give its exponent.

    The median becomes about 1. What is 65504 times larger, or 16384 times smaller and
    not 0, is set to these limits.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    exponent = int(np.frexp(np.median(sizes))[1]) if sizes.size else 0
    fitting = np.clip(np.abs(np.ldexp(values, -exponent)), _SMALLEST, _LARGEST)
    return np.where(values == 0, 0, np.copysign(fitting, values)), exponent


def _text(values: NDArray[Any]) -> str:
    """Deflate numbers, byte by byte of their digits, and write them in base64."""
    planes = np.ascontiguousarray(values).view(np.uint8)
    planes = planes.reshape(values.size, values.itemsize).T
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(planes.tobytes()) + deflate.flush()
    return base64.b64encode(packed).decode("ascii")
