"""Units by their names, against what they stand for in CGS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from qnp_xp.io._units import conversion, unit_name

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
