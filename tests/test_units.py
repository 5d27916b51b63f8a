"""Units as headers spell them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from qnp_xp import SpectraError
from qnp_xp.io._units import _powers, ensure_angstrom, ensure_flux_units


@dataclass(frozen=True)
class Pixels:
    """Pixels of some unit."""

    unit: str

    def problem(self, what: str) -> SpectraError:
        return SpectraError(what)


# DESI's, SDSS', astropy's and others'.
SPELLINGS = {
    "10**-17 erg/(s cm2 Angstrom)": -17,
    "1e-17 erg / (Angstrom cm2 s)": -17,
    "1E-17 erg/cm^2/s/Ang": -17,
    "1E-17*erg/cm**2/s/Angstrom": -17,
    "10(-17)erg/cm2/s/A": -17,
    "10^(-17) ergs s^-1 cm^-2 AA^-1": -17,
    "1e-17 erg s-1 cm-2 Angstrom-1": -17,
    "erg.s-1.cm-2.Angstrom-1": 0,
    "erg / s cm2 Angstrom": 0,
    "erg/s cm-2 A-1": 0,
    "W m-2 nm-1": 2,  # 1e7 erg/s over 1e4 cm2 and over 10 Angstrom
    " erg/s/cm2/A ": 0,
}


@pytest.mark.parametrize("unit", SPELLINGS)
def test_flux_per_wavelength_is_known_in_every_spelling(unit: str) -> None:
    ensure_flux_units([Pixels(unit)], [])
    ensure_flux_units([], [Pixels(f"1/({unit})^2"), Pixels(f"({unit})**-2")])


@pytest.mark.parametrize(("unit", "scale"), SPELLINGS.items())
def test_the_scale_is_read(unit: str, scale: int) -> None:
    same = f"10**{scale} erg/(s cm2 Angstrom)"
    ensure_flux_units([Pixels(same), Pixels(unit), Pixels("")], [])
    other = f"10**{scale + 1} erg/(s cm2 Angstrom)"
    with pytest.raises(SpectraError, match="another arm"):
        ensure_flux_units([Pixels(other), Pixels(unit)], [])


@pytest.mark.parametrize(
    "unit",
    [
        *("Jy", "nJy", "mJy", "erg / (s cm2 Hz)", "W m-2 Hz-1", "nanomaggy", "mag"),
        *("electron/Angstrom", "photon/s/cm2/A", "counts", "erg/s/cm2", "K", "1", "0"),
        *("erg/(s cm2 A", "erg/s cm2 A)", ")", "(", "?", "erg2/s/cm2/A", "flux"),
    ],
)
def test_other_units_are_refused(unit: str) -> None:
    with pytest.raises(SpectraError, match=r"^is in .*, and erg / \(s cm2 Angstrom\)"):
        ensure_flux_units([Pixels(unit)], [])
    with pytest.raises(SpectraError, match=r"^is in .*, and \(erg .*\)\*\*-2"):
        ensure_flux_units([], [Pixels(unit)])


def test_scales_of_flux_and_of_ivar_need_not_fit() -> None:
    flux, ivar = "1e-17 erg/s/cm2/A", "1/(erg/s/cm2/A)**2"
    ensure_flux_units([Pixels(flux)] * 2, [Pixels(ivar)] * 2)


@pytest.mark.parametrize("unit", ["", "Angstrom", "A", "0.1 nm", "Angstrom (vacuum)"])
def test_wavelengths_in_angstrom_or_in_nothing_known_are_taken(unit: str) -> None:
    ensure_angstrom(Pixels(unit))


@pytest.mark.parametrize("unit", ["nm", "um", "m", "cm", "Hz"])
def test_wavelengths_in_other_units_are_refused(unit: str) -> None:
    with pytest.raises(SpectraError, match=f"^is in {unit}, and Angstrom"):
        ensure_angstrom(Pixels(unit))


def test_a_stroke_is_for_one_part_or_for_all_that_follow() -> None:
    # Powers of ten, erg, second and cm.
    np.testing.assert_allclose(_powers("erg/s cm2", True), (0, 1, -1, -2))
    np.testing.assert_allclose(_powers("erg/s cm2", False), (0, 1, -1, 2))
