"""Rest wavelengths and the lists of lines that DESI's networks are trained on."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LINES", "LINES_BAL", "absorber_IGM", "column_names", "rest_wavelengths"]

#: Rest wavelength in Angstrom of each line, by the names that QuasarNET and picca use.
absorber_IGM: dict[str, float] = {
    "Halpha": 6562.8,
    "OIII(5008)": 5008.24,
    "OIII(4933)": 4932.68,
    "Hbeta": 4862.68,
    "MgI(2853)": 2852.96,
    "MgII(2804)": 2803.5324,
    "MgII(2796)": 2796.3511,
    "FeII(2600)": 2600.1724835,
    "FeII(2587)": 2586.6495659,
    "MnII(2577)": 2576.877,
    "FeII(2383)": 2382.7641781,
    "FeII(2374)": 2374.4603294,
    "FeII(2344)": 2344.2129601,
    "CIII(1909)": 1908.734,
    "AlIII(1863)": 1862.79113,
    "AlIII(1855)": 1854.71829,
    "AlII(1671)": 1670.7886,
    "FeII(1608)": 1608.4511,
    "CIV(1551)": 1550.77845,
    "CIV(eff)": 1549.06,
    "CIV(1548)": 1548.2049,
    "SiII(1527)": 1526.70698,
    "SiIV(1403)": 1402.77291,
    "SiIV(1394)": 1393.76018,
    "CII(1335)": 1334.5323,
    "SiII(1304)": 1304.3702,
    "OI(1302)": 1302.1685,
    "SiII(1260)": 1260.4221,
    "NV(1243)": 1242.804,
    "NV(1239)": 1238.821,
    "LYA": 1215.67,
    "SiIII(1207)": 1206.5,
    "NI(1200)": 1200.0,
    "SiII(1193)": 1193.2897,
    "SiII(1190)": 1190.4158,
    "OI(1039)": 1039.23,
    "OVI(1038)": 1037.613,
    "OVI(1032)": 1031.912,
    "LYB": 1025.72,
}

#: Emission lines of DESI's network, in the order of its outputs.
LINES: tuple[str, ...] = (
    "LYA",
    "CIV(1548)",
    "CIII(1909)",
    "MgII(2796)",
    "Hbeta",
    "Halpha",
)

#: Broad absorption lines of DESI's network; their outputs follow those of `LINES`.
LINES_BAL: tuple[str, ...] = ("CIV(1548)",)


def rest_wavelengths(lines: Sequence[str]) -> list[float]:
    """Look up the rest wavelengths in Angstrom of lines named as in `absorber_IGM`."""
    if isinstance(lines, str) or not isinstance(lines, Sequence):
        msg = f"lines are a list of names, got {lines!r}"
        raise TypeError(msg)
    unknown = [line for line in lines if line not in absorber_IGM]
    if unknown:
        known = ", ".join(sorted(absorber_IGM))
        msg = f"unknown line {unknown[0]!r}; the known lines are {known}"
        raise ValueError(msg)
    return [absorber_IGM[line] for line in lines]


def column_names(lines: Sequence[str]) -> list[str]:
    """Name the columns of lines in the output table.

    ``CIV(1548)`` becomes ``CIV``. Where two lines of the list would share a name,
    as ``MgII(2796)`` and ``MgII(2804)`` would, each keeps its wavelength:
    ``MgII_2796`` and ``MgII_2804``.
    """
    short = [line.split("(")[0] for line in lines]
    return [
        name if short.count(name) == 1 else line.replace("(", "_").rstrip(")")
        for name, line in zip(short, lines, strict=True)
    ]
