"""Units by their names, against what they stand for in CGS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from qnp_xp import SpectraError
from qnp_xp.io._units import conversion, ensure_angstrom, ensure_flux_units, unit_name

FLUX = "erg / (s cm2 Angstrom)"


@pytest.mark.parametrize(
    ("name", "factor"),
    {
        "Angstrom": 1,
        "angstroms": 1,
        "Ang": 1,
        "Å": 1,
        "nm": 10,
        "nanometers": 10,
        "um": 1e4,
        "μm": 1e4,
        "µm": 1e4,
        "micron": 1e4,
        "mm": 1e7,
        "cm": 1e8,
        "m": 1e10,
        "1.1 nm": 11,
        "10**-10 m": 1,
    }.items(),
)
def test_lengths_are_counted_in_angstrom(name: str, factor: float) -> None:
    assert conversion(name, "Angstrom") == factor


@pytest.mark.parametrize(
    ("name", "factor"),
    {
        "1e-17 erg / (Angstrom s cm2)": 1e-17,
        "10**-17 erg/(s cm2 Angstrom)": 1e-17,
        "1E-17 erg/cm^2/s/Ang": 1e-17,
        "10^(-17) ergs/s/cm**2/Å": 1e-17,
        "1e-17 erg.s-1.cm-2.A-1": 1e-17,
        "erg s**-1 cm^(-2) Angstrom^-1": 1,
        "erg/(angstrom*cm**2*s)": 1,
        "FLAM": 1,
        "W / (m2 um)": 0.1,
        "J / (s m2 nm)": 100,
        "(cm2 s Angstrom / erg)-1": 1,
    }.items(),
)
def test_flux_is_counted_per_wavelength(name: str, factor: float) -> None:
    assert conversion(name, FLUX) == factor


def test_units_are_counted_in_powers_of_others() -> None:
    assert conversion("1e+34 cm4 Angstrom2 s2 / erg2", f"1e-17 {FLUX}", -2) == 1
    assert conversion("1 / (1e-17 erg/s/cm2/A)**2", FLUX, -2) == 1e34
    assert conversion(f"({FLUX})2", FLUX, 2) == 1


def test_rounding_of_a_printed_scale_converts_nothing() -> None:
    assert conversion(f"9.999999999999999e-18 {FLUX}", f"1e-17 {FLUX}") == 1


@pytest.mark.parametrize(
    "name",
    [
        "Jy",
        "erg/s/cm2/Hz",
        "erg/s/cm2",
        "electron",
        "nm",
        "",
        "(",
        "1e-17 erg/(s cm2 Angstrom",
        "erg/s/cm2/A)",
        "0 erg/s/cm2/A",
        "erg/s/cm2/A 1e999999999",
        "10**999999999 erg/s/cm2/A",
        "erg/s/cm2/A ?",
    ],
)
def test_what_is_no_flux_per_wavelength_cannot_be_converted(name: str) -> None:
    assert conversion(name, FLUX) is None
    assert conversion(FLUX, name) is None


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (SimpleNamespace(unit=" nm "), "nm"),
        (SimpleNamespace(units="um"), "um"),
        (SimpleNamespace(unit=None, units="um"), "um"),
        (SimpleNamespace(attrs={"units": "m"}), "m"),
        (SimpleNamespace(attrs={"unit": "cm"}), "cm"),
        (SimpleNamespace(attrs=3), ""),
        (SimpleNamespace(units="dimensionless"), ""),
        (SimpleNamespace(unit=""), ""),
        ([1.0], ""),
    ],
    ids=repr,
)
def test_a_unit_is_found_wherever_it_is_kept(given: Any, name: str) -> None:
    assert unit_name(given) == name


def test_a_stroke_is_for_one_part_or_for_all_that_follow() -> None:
    for name in ("erg/s cm2 A", "erg/s cm-2 A-1", "erg/s/cm2/A"):
        assert conversion(name, FLUX) == 1
    assert conversion("erg/s cm2", "erg s-1 cm2") == 1
    assert conversion("erg/s cm2", "erg s-1 cm-2") == 1
    assert conversion("erg/s cm2", "erg s cm2") is None


@dataclass(frozen=True)
class Pixels:
    """Pixels of some unit."""

    unit: str

    def problem(self, what: str) -> SpectraError:
        return SpectraError(what)


# DESI's, SDSS', astropy's and others'.
HEADERS = {
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


@pytest.mark.parametrize("unit", HEADERS)
def test_flux_per_wavelength_is_known_in_every_spelling(unit: str) -> None:
    ensure_flux_units([Pixels(unit)], [])
    ensure_flux_units([], [Pixels(f"1/({unit})^2"), Pixels(f"({unit})**-2")])


@pytest.mark.parametrize(("unit", "scale"), HEADERS.items())
def test_the_scale_is_read(unit: str, scale: int) -> None:
    same = f"10**{scale} erg/(s cm2 Angstrom)"
    ensure_flux_units([Pixels(same), Pixels(unit)], [])
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


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_an_arm_without_a_unit_is_in_that_of_desi(first: bool) -> None:
    order = slice(None, None, 1 if first else -1)
    usual, other = "1e-17 erg/s/cm2/A", "erg/s/cm2/A"
    ensure_flux_units([Pixels(""), Pixels(usual)][order], [Pixels("")] * 2)
    ensure_flux_units([], [Pixels(""), Pixels(f"({usual})**-2")][order])
    with pytest.raises(SpectraError, match=r"is in .* another arm"):
        ensure_flux_units([Pixels(""), Pixels(other)][order], [])
    with pytest.raises(SpectraError, match=r"no unit, so is in \(1e-17"):
        ensure_flux_units([], [Pixels(f"({other})**-2"), Pixels("")])


def test_scales_of_flux_and_of_ivar_need_not_fit() -> None:
    flux, ivar = "1e-17 erg/s/cm2/A", "1/(erg/s/cm2/A)**2"
    ensure_flux_units([Pixels(flux)] * 2, [Pixels(ivar)] * 2)


@pytest.mark.parametrize(
    "unit",
    [
        *("", "Angstrom", "A", "AA", "Ang", "angstroms", "0.1 nm", "[Angstrom]"),
        *(
            "Angstrom (vacuum)",
            "vacuum Angstrom",
            "Angstrom, vac",
            "Angstrom in vacuum",
        ),
    ],
)
def test_wavelengths_in_angstrom_or_without_a_unit_are_taken(unit: str) -> None:
    ensure_angstrom(Pixels(unit))


@pytest.mark.parametrize(
    "unit",
    [
        *("nm", "um", "m", "cm", "Hz", "GHz", "eV", "km/s", "pixel", "log10(Angstrom)"),
        *("Angstrom (air)", "nm (vacuum)", "?"),
    ],
)
def test_wavelengths_in_other_units_are_refused(unit: str) -> None:
    with pytest.raises(SpectraError, match=f"^is in {re.escape(unit)}, and Angstrom"):
        ensure_angstrom(Pixels(unit))
