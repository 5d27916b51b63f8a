"""QuasarNET's one Lambda layer, told by the bytes of its compiled function.

The marshalled code in the file is never run and never unmarshalled. Its bytes are
compared with what each CPython makes of QuasarNET's function; the constants alone do
not tell, since those of ``-0.1 * x + 1.2`` are the same.
"""

from __future__ import annotations

import base64
import itertools
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ._graph import Layer

_SCALE, _SHIFT = 1.2, -0.1

#: QuasarNET's function and those that round alike, as instructions for a stack.
_FORMS: tuple[tuple[str | float, ...], ...] = (
    (_SHIFT, _SCALE, "x", "*", "+", "return"),  # -0.1 + 1.2 * x
    (_SHIFT, "x", _SCALE, "*", "+", "return"),  # -0.1 + x * 1.2
    (_SCALE, "x", "*", _SHIFT, "+", "return"),  # 1.2 * x + -0.1
    (_SCALE, "x", "*", -_SHIFT, "-", "return"),  # 1.2 * x - 0.1
)

_OPERATIONS = ("x", "*", "+", "-", "return")
#: The start of a function, a constant, and the operations in hexadecimal, as they are
#: in CPython up to 3.5, 3.10, 3.12 and 3.13.
_DIALECTS = (
    ("", "64{:02x}00", "7c0000", "14", "17", "18", "53"),
    ("", "64{:02x}", "7c00", "1400", "1700", "1800", "5300"),
    ("9700", "64{:02x}", "7c00", "7a050000", "7a000000", "7a0a0000", "5300"),
    ("9500", "53{:02x}", "5500", "2d050000", "2d000000", "2d0a0000", "2400"),
)

# Marshalled code: numbers, of which the first counts the arguments, the instructions,
# and a tuple of constants, here None and floats. The highest bit of a letter that says
# what follows is a flag.
_CODE = re.compile(
    rb"[c\xe3]\x01\0{3}(?:.{4}){3,5}?[s\xf3](?P<size>.)\0{3}(?P<code>[^()\xa8\xa9]+)"
    rb"[()\xa8\xa9](?P<count>.)(?:\0{3})?N(?P<floats>(?:[g\xe7].{8})*)",
    re.DOTALL,
)


def lambda_scaling(layer: Layer) -> tuple[float, float]:
    """Return scale and shift of a Lambda layer, which are QuasarNET's 1.2 and -0.1."""
    try:
        function = layer.config["function"]
        keras3 = isinstance(function, Mapping)
        text = function["config"]["code"] if keras3 else function[0]
        known = _is_quasarnets(base64.b64decode(text))
    except (LookupError, TypeError, ValueError):
        known = False
    if not known:
        raise layer.unsupported(
            f"only QuasarNET's own {_SHIFT} + {_SCALE} * x is supported, as CPython up"
            " to 3.13 compiles it; a Rescaling layer is the portable way to say it"
        )
    return _SCALE, _SHIFT


def _is_quasarnets(content: bytes) -> bool:
    """Tell whether marshalled code is that of one of the forms, in any dialect."""
    found = _CODE.match(content)
    if found is None or len(found["code"]) != found["size"][0]:
        return False
    constants = [None, *(x for (x,) in struct.iter_unpack("<xd", found["floats"]))]
    return len(constants) == found["count"][0] and any(
        found["code"] == _compiled(form, dialect, constants)
        for form, dialect in itertools.product(_FORMS, _DIALECTS)
    )


def _compiled(
    form: Sequence[str | float], dialect: Sequence[str], constants: Sequence[Any]
) -> bytes | None:
    """Compile a form; None if it needs a constant that is not there."""
    start, constant, *others = dialect
    steps: dict[str | float, str] = dict(zip(_OPERATIONS, others, strict=True))
    steps |= {value: constant.format(i) for i, value in enumerate(constants)}
    if not set(form) <= set(steps):
        return None
    return bytes.fromhex(start + "".join(steps[step] for step in form))
