"""The tables of ``docs/embedded-network.md``, from the figures of ``results.json``."""

import re
from collections.abc import Iterable
from typing import Any

PLACES = ("all", "z<1", "1<z<2.1", "z>2.1")
OTHERS = ("all", "GALAXY", "STAR", "JUNK", "SKY")


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads), *rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _recall(results: dict[str, Any], threshold: float) -> str:
    heads = ["S/N in a bin", "all", "z < 1", "1 to 2.1", "z > 2.1"]
    heads.append("redshift good, of those found")
    speed = threshold == 0.5  # measured for those found at 0.5
    rows = []
    for snr, one in results["quasars by S/N"].items():
        recall = one[f"recall at {threshold}"]
        row = [snr, *(f"{recall[place]:.3f}" for place in PLACES)]
        row.append(f"{one[f'good redshifts of those found at {threshold}']:.3f}")
        rows.append([*row, str(one["median |dv| km/s"])] if speed else row)
    return _table([*heads, r"median \|dv\|, km/s"] if speed else heads, rows)


def _false(results: dict[str, Any]) -> str:
    heads = ["", "all", "galaxies", "stars", "power laws, waves", "empty sky"]
    rows = []
    for threshold in (0.5, 0.8):
        rates = results["mixed"][f"false positives at {threshold}"]
        rows.append([f"at {threshold}", *(f"{rates[kind]:.2%}" for kind in OTHERS)])
    return _table(heads, rows)


def _broad(results: dict[str, Any]) -> str:
    heads = ["S/N in a bin"]
    for threshold in (0.5, 0.8):
        heads += [f"BALs found at {threshold}", "others called so"]
    rows = []
    mixed = {"0.4 to 60, mixed": results["mixed"]}
    for snr, one in (results["quasars by S/N"] | mixed).items():
        rates = [
            one[f"BAL {what} at {threshold}"]
            for threshold in (0.5, 0.8)
            for what in ("recall", "false")
        ]
        rows.append([snr, *(f"{rate:.3f}" for rate in rates)])
    return _table(heads, rows)


def _spots(results: dict[str, Any]) -> str:
    heads = ["spectra", "S/N in a bin", "called quasars", "with a good redshift"]
    rows = []
    for name, one in results["blind spots"].items():
        good = f"{one['good']:.1%}" if "good" in one else ""
        rows.append([name, f"{one['S/N']}", f"{one['found']:.1%}", good])
    return _table(heads, rows)


def _fits(results: dict[str, Any]) -> str:
    heads = ["spectra", "z", "this network: spectra", "Z_QN", "Z_FIT"]
    heads += ["QuasarNP's test network: spectra", "Z_QN", "Z_FIT"]
    rows = []
    for sample in ("calibration", "simulated"):
        for z, by_network in results["fits"][sample].items():
            figures = [f"{x:,}" for own in by_network.values() for x in own]
            rows.append([sample, z, *figures])
    return _table(heads, rows)


def fill(card: str, results: dict[str, Any]) -> str:
    """Put a network's figures into the tables of a card.

    Parameters
    ----------
    card : str
        Markdown, in which a comment ``<!-- table: NAME -->`` stands on the line before
        each table to fill: ``recall at 0.5``, ``recall at 0.8``, ``false positives``,
        ``broad absorption``, ``blind spots`` and ``fitted redshifts``.
    results : dict
        From `evaluate.evaluate`.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the place of a table is missing.
    """
    tables = {
        "recall at 0.5": _recall(results, 0.5),
        "recall at 0.8": _recall(results, 0.8),
        "false positives": _false(results),
        "broad absorption": _broad(results),
        "blind spots": _spots(results),
        "fitted redshifts": _fits(results),
    }
    for name, table in tables.items():
        mark = f"<!-- table: {name} -->\n"
        if card.count(mark) != 1:
            msg = f"the card has {card.count(mark)} lines {mark.strip()!r}, not one"
            raise ValueError(msg)
        start = card.index(mark) + len(mark)
        rest = re.sub(r"\A(\|.*\n)*", "", card[start:])
        card = card[:start] + table + rest
    return card
