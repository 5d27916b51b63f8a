"""Rest wavelengths, lists of lines, and the names of their columns."""

from __future__ import annotations

from typing import Any

import pytest

from qnp_xp import decode, grids, lines, spectra, utils


@pytest.mark.parametrize(
    ("name", "wavelength"),
    [
        ("LYA", 1215.67),
        ("CIV(1548)", 1548.2049),
        ("CIII(1909)", 1908.734),
        ("MgII(2796)", 2796.3511),
        ("Hbeta", 4862.68),
        ("Halpha", 6562.8),
    ],
)
def test_lines_of_the_network_have_their_rest_wavelengths(
    name: str, wavelength: float
) -> None:
    assert lines.absorber_IGM[name] == wavelength


def test_lines_come_in_the_order_of_the_outputs_of_the_network() -> None:
    assert lines.LINES == (
        "LYA",
        "CIV(1548)",
        "CIII(1909)",
        "MgII(2796)",
        "Hbeta",
        "Halpha",
    )
    assert lines.LINES_BAL == ("CIV(1548)",)


def test_wavelength_in_a_name_is_the_rest_wavelength_to_an_angstrom() -> None:
    named = {
        name: float(name.partition("(")[2].rstrip(")"))
        for name in lines.absorber_IGM
        if name.partition("(")[2].rstrip(")").isdigit()
    }
    assert len(named) > 25
    for name, wavelength in named.items():
        assert abs(lines.absorber_IGM[name] - wavelength) < 1, name


def test_rest_wavelengths_keep_the_order_and_the_repetitions() -> None:
    found = lines.rest_wavelengths(["Halpha", "LYA", "Halpha"])
    assert found == [6562.8, 1215.67, 6562.8]


def test_no_lines_have_no_rest_wavelengths() -> None:
    assert lines.rest_wavelengths([]) == []


def test_unknown_line_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown line 'Lya'; .* LYA, LYB"):
        lines.rest_wavelengths(["LYA", "Lya", "nonsense"])


@pytest.mark.parametrize("wrong", ["LYA", 3, None, {"LYA"}])
def test_one_name_is_no_list_of_lines(wrong: Any) -> None:
    with pytest.raises(TypeError, match="lines are a list of names, got"):
        lines.rest_wavelengths(wrong)


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        (lines.LINES, ["LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha"]),
        (["MgII(2796)", "LYA", "MgII(2804)"], ["MgII_2796", "LYA", "MgII_2804"]),
        (["CIV(eff)", "CIV(1548)"], ["CIV_eff", "CIV_1548"]),
        ([], []),
    ],
)
def test_columns_are_short_names_where_these_tell_the_lines_apart(
    given: list[str], columns: list[str]
) -> None:
    assert lines.column_names(given) == columns


def test_every_known_line_has_a_column_of_its_own() -> None:
    columns = lines.column_names(list(lines.absorber_IGM))
    assert len(set(columns)) == len(lines.absorber_IGM)
    assert all(name.isidentifier() for name in columns)


def test_names_of_quasarnp_utils_are_those_of_the_modules() -> None:
    modules = {
        "absorber_IGM": lines,
        "process_preds": decode,
        **dict.fromkeys(("rebin", "renormalize"), spectra),
        **dict.fromkeys(set(grids.__all__) - {"Grid"}, grids),
    }
    assert set(utils.__all__) == set(modules)
    for name, module in modules.items():
        assert getattr(utils, name) is getattr(module, name)
