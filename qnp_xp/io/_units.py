"""Units by their names, as far as wavelengths and flux need them.

Every package of units can print a unit, so that none of them is needed here.
"""

from __future__ import annotations

import functools
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from ..errors import SpectraError

#: Per wavelength and not per frequency: that is what the networks were trained on.
FLUX_UNIT = "erg / (s cm2 Angstrom)"


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
    ("hz", 0, (0, -1, 0)),
)
_NAMES = {
    name: _Unit(Fraction(10) ** ten, powers)
    for names, ten, powers in _TABLE
    for name in names.split()
}
# Powers have two digits at the most: text of a file must not make huge numbers.
_POWER = re.compile(r"(?:\*\*|\^)?\(([+-]?\d\d?)\)|(?:\*\*|\^)([+-]?\d\d?)(?!\d)")
_TOKEN = re.compile(
    r"(\d+\.?\d*(?:e[+-]?\d\d?)?(?!\d)|[^\W\d_]+|\))([+-]?\d\d?(?!\d))?|[(/.·]|\*(?!\*)"
)

# What units of wavelengths add, as DESI's are of vacuum too.
_VACUUM = re.compile(r"\(vac(?:uum)?\)|\bin vac(?:uum)?\b|,? *\bvac(?:uum)?\b", re.I)


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
    for wanted in _readings(to):
        for unit in _readings(name):
            if unit.powers == (wanted**power).powers:
                factor = float(unit.scale / (wanted**power).scale)
                # Printed scales are rounded.
                return 1.0 if abs(factor - 1) < 1e-9 else factor
    return None


class _Rows(Protocol):
    """Pixels of a file that may have a unit."""

    @property
    def unit(self) -> str:
        """Unit as the file says it; empty where it says nothing."""

    def problem(self, what: str) -> SpectraError:
        """Make an error that names the file and HDU."""


def ensure_flux_units(flux: Iterable[_Rows], ivar: Iterable[_Rows]) -> None:
    """Refuse arms whose flux or ivar is not per wavelength, or of several scales.

    A scale that all share does nothing to the result. An arm without a unit beside
    others with one is in 1e-17 of `FLUX_UNIT`.
    """
    for arms, power, form in ((flux, 1, "{}"), (ivar, -2, "({})**-2")):
        found = []
        for rows in arms:
            unit = rows.unit or form.format(f"1e-17 {FLUX_UNIT}")
            factor = conversion(unit, FLUX_UNIT, power)
            if factor is None:
                needed = form.format(FLUX_UNIT)
                what = f"is in {rows.unit}, and {needed} or a multiple is needed"
                raise rows.problem(what)
            given = f"is in {unit}" if rows.unit else f"has no unit, so is in {unit}"
            found.append((rows, factor, given))
        if any(rows.unit for rows, *_ in found):
            _, first, of_first = found[0]
            for rows, factor, given in found:
                if not math.isclose(factor, first, rel_tol=1e-3):
                    raise rows.problem(f"{given}, and another arm {of_first}")


def ensure_angstrom(wave: _Rows) -> None:
    """Refuse wavelengths of a file that have a unit other than Angstrom."""
    name = _VACUUM.sub("", wave.unit).strip(" []")
    if name and conversion(name, "Angstrom") != 1:
        raise wave.problem(f"is in {wave.unit}, and Angstrom is needed")


@functools.lru_cache
def _readings(name: str) -> list[_Unit]:
    """List what the name of a unit may mean; nothing where it is not understood.

    All of "cm2 Angstrom" is under the "/" of "erg / cm2 Angstrom" for some authors, and
    "cm2" alone for others.
    """
    found = [_parse(name, lasting) for lasting in (False, True)]
    return [unit for unit in found if unit is not None]


def _parse(name: str, lasting: bool) -> _Unit | None:
    """Read the name of a unit; a "/" is for the next part, or for all that follow."""
    text = _POWER.sub(lambda m: f"{int(m[1] or m[2]):+d}", name.lower())
    tokens = deque(_TOKEN.finditer(text))
    if _TOKEN.sub("", text).strip():
        return None
    try:
        unit = _product(tokens, lasting)
    except (KeyError, IndexError, ZeroDivisionError):
        return None
    return None if tokens or not 1e-99 < unit.scale < 1e99 else unit


def _product(tokens: deque[re.Match[str]], lasting: bool) -> _Unit:
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
            factor = _product(tokens, lasting)
            token = tokens.popleft()
        elif token[1][0].isdecimal():
            factor = _Unit(Fraction(token[1]), (0, 0, 0))
        else:
            factor = _NAMES.get(token[1]) or _NAMES[token[1].removesuffix("s")]
        unit = unit * factor ** (sign * int(token[2] or 1))
        sign = sign if lasting else 1
    return unit
