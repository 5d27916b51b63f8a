"""QuasarNET's one Lambda layer, told by the bytes of its compiled function.

Keras stores a Lambda as the marshalled code of its Python function. That code is never
run and never unmarshalled: its bytes are compared with what each Python makes of
QuasarNET's function, and all else is refused.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from ._graph import Layer

__all__ = ["lambda_scaling"]

_SCALE, _SHIFT = 1.2, -0.1

#: QuasarNET's function and those that round alike, as instructions for a stack.
_FORMS: tuple[tuple[str | float, ...], ...] = (
    (_SHIFT, _SCALE, "x", "*", "+", "return"),  # -0.1 + 1.2 * x
    (_SHIFT, "x", _SCALE, "*", "+", "return"),  # -0.1 + x * 1.2
    (_SCALE, "x", "*", _SHIFT, "+", "return"),  # 1.2 * x + -0.1
    (_SCALE, "x", "*", -_SHIFT, "-", "return"),  # 1.2 * x - 0.1
)


@dataclass(frozen=True)
class _Dialect:
    """Instructions of some versions of CPython.

    Attributes
    ----------
    header
        How many numbers precede the code.
    start
        What every function begins with.
    constant
        Around the number of a constant.
    steps
        The other instructions.
    """

    header: tuple[int, ...]
    start: bytes
    constant: tuple[bytes, bytes]
    steps: Mapping[str, bytes]

    def compiled(
        self, form: tuple[str | float, ...], constants: list[float | None]
    ) -> bytes | None:
        """The code of a form; None if it needs a constant that is not there."""
        code = [self.start]
        for step in form:
            if isinstance(step, str):
                code.append(self.steps[step])
            elif step in constants:
                before, after = self.constant
                code.append(before + bytes([constants.index(step)]) + after)
            else:
                return None
        return b"".join(code)


_DIALECTS = (
    _Dialect(  # to 3.5
        (4, 5),
        b"",
        (b"\x64", b"\0"),
        {
            "x": b"\x7c\0\0",
            "*": b"\x14",
            "+": b"\x17",
            "-": b"\x18",
            "return": b"\x53",
        },
    ),
    _Dialect(  # 3.6 to 3.10
        (5, 6),
        b"",
        (b"\x64", b""),
        {
            "x": b"\x7c\0",
            "*": b"\x14\0",
            "+": b"\x17\0",
            "-": b"\x18\0",
            "return": b"\x53\0",
        },
    ),
    _Dialect(  # 3.11 and 3.12
        (5,),
        b"\x97\0",
        (b"\x64", b""),
        {
            "x": b"\x7c\0",
            "*": b"\x7a\x05\0\0",
            "+": b"\x7a\0\0\0",
            "-": b"\x7a\x0a\0\0",
            "return": b"\x53\0",
        },
    ),
    _Dialect(  # 3.13
        (5,),
        b"\x95\0",
        (b"\x53", b""),
        {
            "x": b"\x55\0",
            "*": b"\x2d\x05\0\0",
            "+": b"\x2d\0\0\0",
            "-": b"\x2d\x0a\0\0",
            "return": b"\x24\0",
        },
    ),
)

# A code object, marshalled: numbers, of which the first counts the arguments, the code,
# and a tuple of constants, here None and floats. The highest bit of a letter that says
# what follows is a flag.
_CODE = re.compile(
    rb"[c\xe3]\x01\0{3}(?P<header>(?:.{4}){3,5}?)[s\xf3](?P<size>[\x01-\x7f])\0{3}"
    rb"(?P<rest>.*)",
    re.DOTALL,
)
_CONSTANTS = re.compile(
    rb"(?:[)\xa9](?P<few>.)|[(\xa8](?P<count>.)\0{3})"
    rb"(?P<items>(?:[N\xce]|[g\xe7].{8})*)",
    re.DOTALL,
)


def lambda_scaling(layer: Layer) -> tuple[float, float]:
    """Scale and shift of a Lambda layer.

    Parameters
    ----------
    layer
        A Lambda layer of Keras 2 or 3.

    Returns
    -------
    scale, shift : float
        Those of QuasarNET, 1.2 and -0.1.

    Raises
    ------
    WeightsError
        If its function is not QuasarNET's, or was compiled by another Python than
        CPython up to 3.13.
    """
    function = layer.config.get("function")
    if isinstance(function, Mapping):  # Keras 3
        inner = function.get("config")
        function = inner.get("code") if isinstance(inner, Mapping) else None
    elif isinstance(function, (list, tuple)) and function:  # Keras 2
        function = function[0]
    try:
        content = base64.b64decode(function) if isinstance(function, str) else b""
    except ValueError:
        content = b""
    if not _is_quasarnets(content):
        raise layer.unsupported(
            f"only QuasarNET's own {_SHIFT} + {_SCALE} * x is supported, as CPython up"
            " to 3.13 compiles it; a Rescaling layer is the portable way to say it"
        )
    return _SCALE, _SHIFT


def _is_quasarnets(content: bytes) -> bool:
    """Whether marshalled code is that of one of the forms."""
    found = _CODE.match(content)
    if found is None:
        return False
    size = found["size"][0]
    code, behind = found["rest"][:size], found["rest"][size:]
    numbers = 1 + len(found["header"]) // 4
    constants = _constants(behind)
    return any(
        code == dialect.compiled(form, constants)
        for dialect in _DIALECTS
        if numbers in dialect.header
        for form in _FORMS
    )


def _constants(content: bytes) -> list[float | None]:
    """The constants of a function; none if there are others than None and floats."""
    found = _CONSTANTS.match(content)
    if found is None:
        return []
    items = re.findall(rb"[N\xce]|[g\xe7].{8}", found["items"], re.DOTALL)
    if len(items) != (found["few"] or found["count"])[0]:
        return []
    return [struct.unpack("<d", x[1:])[0] if x[1:] else None for x in items]
