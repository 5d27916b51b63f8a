"""Units by their names, as far as wavelengths and flux need them.

Every package of units can print a unit, so that none of them is needed here.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class _Unit:
    """A number times powers of erg, second and centimetre."""

    scale: Fraction
    powers: tuple[int, int, int]

    def __mul__(self, other: _Unit) -> _Unit:
        a, b = self.powers, other.powers
        powers = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
        return _Unit(self.scale * other.scale, powers)

    def __pow__(self, power: int) -> _Unit:
        erg, second, cm = (power * k for k in self.powers)
        return _Unit(Fraction(self.scale**power), (erg, second, cm))


# Names in small letters, a power of ten, and powers of erg, second and centimetre.
_TABLE = (
    ("angstrom ang aa a å", -8, (0, 0, 1)),
    ("nm nanometer nanometre", -7, (0, 0, 1)),
    ("um µm μm micron micrometer micrometre", -4, (0, 0, 1)),
    ("mm millimeter millimetre", -1, (0, 0, 1)),
    ("cm centimeter centimetre", 0, (0, 0, 1)),
    ("m meter metre", 2, (0, 0, 1)),
    ("s sec second", 0, (0, 1, 0)),
    ("erg", 0, (1, 0, 0)),
    ("j joule", 7, (1, 0, 0)),
    ("w watt", 7, (1, -1, 0)),
    ("flam", 8, (1, -1, -3)),
)
_NAMES = {
    name: _Unit(Fraction(10) ** ten, powers)
    for names, ten, powers in _TABLE
    for name in names.split()
}
# Powers have two digits at the most: text of a file must not make huge numbers.
_POWER = re.compile(r"(?:\*\*|\^)(?:\(([+-]?\d\d?)\)|([+-]?\d\d?))(?!\d)")
_TOKEN = re.compile(
    r"(\d+\.?\d*(?:e[+-]?\d\d?)?(?!\d)|[^\W\d_]+|\))([+-]?\d\d?(?!\d))?|[(/.·]|\*(?!\*)"
)


def unit_name(x: Any) -> str:
    """Find the unit of a user's numbers, ``""`` for none, wherever it is kept."""
    unit = getattr(x, "unit", None)
    unit = getattr(x, "units", None) if unit is None else unit
    attrs = getattr(x, "attrs", None)  # of pandas and xarray
    if unit is None and isinstance(attrs, Mapping):
        unit = attrs.get("units", attrs.get("unit"))
    name = "" if unit is None else str(unit).strip()
    return "" if name == "dimensionless" else name


def conversion(name: str, to: str, power: int = 1) -> float | None:
    """Count the units `to`, raised to a power, in one unit; None if they differ."""
    unit, wanted = _parse(name), _parse(to)
    if unit is None or wanted is None or unit.powers != (wanted**power).powers:
        return None
    factor = float(unit.scale / (wanted**power).scale)
    return 1.0 if abs(factor - 1) < 1e-9 else factor  # printed scales are rounded


def _parse(name: str) -> _Unit | None:
    """Read the name of a unit such as ``1e-17 erg / (s cm2 Angstrom)``."""
    text = _POWER.sub(lambda m: f"{int(m[1] or m[2]):+d}", name.lower())
    tokens = deque(_TOKEN.finditer(text))
    if _TOKEN.sub("", text).strip():
        return None
    try:
        unit = _product(tokens)
    except (KeyError, IndexError, ZeroDivisionError):
        return None
    return None if tokens or not 1e-99 < unit.scale < 1e99 else unit


def _product(tokens: deque[re.Match[str]]) -> _Unit:
    """Multiply what stands before the next closing parenthesis, or the end."""
    unit, sign = _Unit(Fraction(1), (0, 0, 0)), 1
    while tokens and tokens[0][1] != ")":
        token = tokens.popleft()
        if token[0] in "*.·":
            continue
        if token[0] == "/":
            sign = -1
            continue
        if token[0] == "(":
            factor = _product(tokens)
            token = tokens.popleft()
        elif token[1][0].isdecimal():
            factor = _Unit(Fraction(token[1]), (0, 0, 0))
        else:
            factor = _NAMES.get(token[1]) or _NAMES[token[1].removesuffix("s")]
        unit = unit * factor ** (sign * int(token[2] or 1))
        sign = 1
    return unit
