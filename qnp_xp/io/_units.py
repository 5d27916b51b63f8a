"""Units as the headers of files of spectra spell them."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError

# Each unit as powers: of ten, of erg, of second and of cm. Those of a product add up.
_ERG, _SECOND, _CM, _ANGSTROM = (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (-8, 0, 0, 1)
_UNITS = {
    **dict.fromkeys(("erg", "ergs"), _ERG),
    **dict.fromkeys(("s", "sec", "second", "seconds"), _SECOND),
    **dict.fromkeys(("a", "aa", "ang", "angstrom", "angstroms"), _ANGSTROM),
    **dict.fromkeys(("um", "micron", "microns"), (-4, 0, 0, 1)),
    **{"cm": _CM, "m": (2, 0, 0, 1), "nm": (-7, 0, 0, 1)},
    **{"j": (7, 1, 0, 0), "w": (7, 1, -1, 0), "hz": (0, 0, -1, 0)},
}
_FLUX = np.asarray((1, -1, -3))  # powers of erg, second and cm
_NEEDED = "erg / (s cm2 Angstrom)"
# A number, a unit or ")", each with a power perhaps; or what stands between them.
_PART = r"(?P<part>\d+\.?\d*(?:e[+-]?\d+)?|[a-z]+|\))"
_POWER = r"(?:\s?(?:\*\*|\^)\s?)?(?:\((?P<inner>[+-]?\d+)\)|(?P<power>[+-]?\d+))"
_TOKEN = re.compile(rf"\s*(?:{_PART}(?:{_POWER})?|(?P<between>[(/*.]))")


class _Rows(Protocol):
    """Pixels that may have a unit."""

    @property
    def unit(self) -> str:
        """Unit as the file says it; empty where nothing does."""

    def problem(self, what: str) -> SpectraError:
        """Make an error that names the file and HDU."""


def ensure_flux_units(flux: Iterable[_Rows], ivar: Iterable[_Rows]) -> None:
    """Refuse arms whose flux or ivar is not per wavelength, or of several scales.

    A scale that all share does nothing to the result. Without a unit all is well.
    """
    for arms, power, needed in ((flux, 1, _NEEDED), (ivar, -2, f"({_NEEDED})**-2")):
        first: tuple[float, str] | None = None
        for rows in (rows for rows in arms if rows.unit):
            readings = _readings(rows.unit)
            found = [p[0] for p in readings if np.array_equal(p[1:], power * _FLUX)]
            if not found:
                what = f"is in {rows.unit}, and {needed} or a multiple is needed"
                raise rows.problem(what)
            first = first or (found[0], rows.unit)
            if not math.isclose(found[0], first[0], abs_tol=1e-3):
                what = f"is in {rows.unit}, and another arm in {first[1]}"
                raise rows.problem(what)


def ensure_angstrom(wave: _Rows) -> None:
    """Refuse wavelengths that say that they are in something else than Angstrom."""
    readings = _readings(wave.unit) if wave.unit else []
    if readings and not any(np.array_equal(p, _ANGSTROM) for p in readings):
        raise wave.problem(f"is in {wave.unit}, and Angstrom is needed")


@functools.lru_cache
def _readings(unit: str) -> list[NDArray[np.float64]]:
    """List the powers that a unit may mean; none where it is not understood.

    All of "cm2 Angstrom" is under the "/" of "erg / cm2 Angstrom" for some authors, and
    for others "cm2" alone.
    """
    found = [_powers(unit.strip().lower(), lasting) for lasting in (True, False)]
    return [powers for powers in found if powers is not None]


def _powers(text: str, lasting: bool) -> NDArray[np.float64] | None:
    """Read a unit, a "/" being for all that follows it or for the next part alone."""
    total, sign, end = np.zeros(4), 1, 0
    outer: list[tuple[NDArray[np.float64], int]] = []
    while end < len(text):
        token = _TOKEN.match(text, end)
        if token is None:
            return None
        end, part = token.end(), token["part"]
        if token["between"] == "(":
            outer.append((total, sign))
            total, sign = np.zeros(4), 1
        elif token["between"]:
            sign = -1 if token["between"] == "/" else sign
        else:
            if part == ")" and outer:
                inner, (total, sign) = total, outer.pop()
            elif part in _UNITS:
                inner = np.asarray(_UNITS[part], dtype=np.float64)
            elif part[0].isdigit() and float(part) > 0:
                inner = np.asarray((math.log10(float(part)), 0, 0, 0))
            else:
                return None
            total = total + sign * int(token["inner"] or token["power"] or 1) * inner
            sign = sign if lasting else 1
    return None if outer else total
