"""What a comparison says, as lines of text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..batch.report import count
from ._compare import Comparison
from ._rates import Rate

_LEAST = 5  # velocities of which a median is worth a line


def report(first: Comparison, other: Comparison | None) -> list[str]:
    """Say in words what a comparison found, and what the one of another table."""
    lines = _report(first)
    return lines if other is None else [*lines, "", *_report(other)]


def _report(found: Comparison) -> list[str]:
    """Say what one comparison found."""
    counts = found.counts
    left = [
        f"{counts['rows'] - counts['matched']} without truth",
        f"{counts['matched'] - counts['sure']} not sure",
        f"{counts['sure'] - counts['scored']} not scored",
    ]
    rows = count(counts["rows"], "row")
    several = "" if found.n_thresh == 1 else f" in {found.n_thresh} lines"
    return [
        f"{Path(found.name).name} against {Path(found.truth_name).name}",
        f"  {rows}, {counts['scored']} compared ({', '.join(left)})",
        f"  truth: {counts['quasar']} QSO, {counts['galaxy']} GALAXY,"
        f" {counts['star']} STAR",
        f"  a quasar has a confidence above {found.c_thresh:g}{several}",
        *_rates(found),
        *_velocities(found),
        *_threshold(found),
        *_disagreeing(found),
    ]


def _rates(found: Comparison) -> list[str]:
    """Say the rates, each in a line."""
    named: dict[str, Rate | str] = {
        "purity": found.purity,
        "completeness": found.completeness,
        "good redshifts": f"{found.good_z}, |dz| / (1 + z) up to {found.dz:g}",
    }
    if not found.has_others:
        named["purity"] = "not known: truth has nothing but quasars"
    if found.bal_recall.total:
        named["BAL recall"] = found.bal_recall
    if found.bal_purity.total:
        named["BAL purity"] = found.bal_purity
    return [f"  {name:<15} {rate}" for name, rate in named.items()]


def _velocities(found: Comparison) -> list[str]:
    """Say by how much each line is off."""
    lines = []
    for name, (_, dv) in found.offsets.items():
        if dv.size >= _LEAST:
            middle, low, high = np.percentile(dv, (50, 16, 84))
            spread = (high - low) / 2
            lines.append(f"  {name:<8} {middle:>8.0f} {spread:>8.0f} {dv.size:>7}")
    if lines:
        heading = f"  {'line':<8} {'dv km/s':>8} {'+-':>8} {'number':>7}"
        lines.insert(0, heading)
    return lines


def _threshold(found: Comparison) -> list[str]:
    """Say the threshold for the purity that was asked for."""
    if found.asked_purity is None:
        return []
    start = f"  purity {found.asked_purity:g}:"
    if not found.has_others:
        return [f"{start} not known: truth has nothing but quasars"]
    if np.isnan(found.threshold):
        best = np.nanmax(found.by_threshold["PURITY"], initial=0)
        return [f"{start} no threshold gives it (at most {best:.3f})"]
    purity, completeness = found.at_threshold
    return [
        f"{start} from a threshold of {found.threshold:g} on",
        f"    purity there       {purity}",
        f"    completeness there {completeness}",
    ]


def _disagreeing(found: Comparison) -> list[str]:
    """Say how many rows disagree with truth, and how."""
    problems = found.disagreeing["PROBLEM"].tolist()
    missed, false, far = (problems.count(x) for x in (b"missed", b"false", b"redshift"))
    return [
        f"  disagreeing: {count(len(problems), 'row')} ({missed} missed, {false} false,"
        f" {far} with another redshift)"
    ]
