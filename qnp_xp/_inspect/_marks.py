"""What is marked in a spectrum besides the lines of the network."""

from __future__ import annotations

#: Rest wavelengths in vacuum, in Angstrom, of lines of quasars, galaxies and stars that
#: help to tell a redshift (NIST's; blends as Vanden Berk et al. 2001 have them).
MORE_LINES: dict[str, float] = {
    "Ly beta": 1025.72,
    "O VI": 1033.82,
    "N V": 1240.14,
    "Si IV": 1396.76,
    "He II": 1640.42,
    "[Ne V]": 3426.84,
    "[O II]": 3728.48,
    "[Ne III]": 3869.85,
    "Ca K": 3934.78,
    "Ca H": 3969.59,
    "H delta": 4102.89,
    "G band": 4305.61,
    "H gamma": 4341.68,
    "[O III] ": 4960.30,
    "[O III]": 5008.24,
    "Mg b": 5176.63,
    "Na D": 5895.60,
    "[N II]": 6585.27,
    "[S II]": 6725.48,
}

#: First and last wavelength in vacuum, in Angstrom, of what the sky leaves behind:
#: its brightest lines (Hanuschik 2003) and the bands that the atmosphere absorbs.
SKY: dict[str, tuple[float, float]] = {
    "O I": (5576.0, 5582.0),
    "Na I": (5889.0, 5900.0),
    "O I (6302)": (6299.0, 6305.0),
    "O I (6366)": (6363.0, 6368.0),
    "O2 B": (6865.0, 6930.0),
    "H2O": (7160.0, 7330.0),
    "O2 A": (7590.0, 7710.0),
    "H2O (8200)": (8125.0, 8350.0),
    "H2O (9300)": (9250.0, 9700.0),
}
