"""Pictures of recall and false positives."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

# Okabe and Ito's colours, told apart by colour-blind eyes; markers tell them apart too.
STYLES = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"),
    ("#000000", "v"),
)  # fmt: skip


def _middles(edges: list[float], *, log: bool) -> list[float]:
    pairs = pairwise(edges)
    return [(a * b) ** 0.5 if log else (a + b) / 2 for a, b in pairs]


def draw_curves(results: dict[str, Any], folder: Path) -> None:
    """Draw two pictures: against the signal-to-noise ratio and against redshift.

    Parameters
    ----------
    results : dict
        As `evaluate` returns them.
    folder : Path
        Where to write ``embedded-snr.png`` and ``embedded-redshift.png``.
    """
    mpl.use("Agg")
    plt.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3})
    _against_snr(results, folder / "embedded-snr.png")
    _against_redshift(results, folder / "embedded-redshift.png")


def _against_snr(results: dict[str, Any], path: Path) -> None:
    by_snr, mixture = results["quasars by S/N"], results["mixed"]
    snrs = [float(snr) for snr in by_snr]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.4))
    names = ("all", "z<1", "1<z<2.1", "z>2.1")
    for name, (colour, marker) in zip(names, STYLES, strict=False):
        for threshold, dash in ((0.5, "-"), (0.8, "--")):
            values = [one[f"recall at {threshold}"][name] for one in by_snr.values()]
            label = name if threshold == 0.5 else None
            left.plot(
                snrs, values, dash, color=colour, marker=marker, ms=4, label=label
            )
    left.set(title="quasars found", ylabel="share", ylim=(0, 1.02))
    left.legend(title="solid: at 0.5\ndashed: at 0.8", loc="lower right")
    for label, (colour, marker) in zip(("recall", "false"), STYLES, strict=False):
        for threshold, dash in ((0.5, "-"), (0.8, "--")):
            values = [one[f"BAL {label} at {threshold}"] for one in by_snr.values()]
            text = {"recall": "BALs found", "false": "others called so"}[label]
            middle.plot(
                snrs, values, dash, color=colour, marker=marker, ms=4,
                label=text if threshold == 0.5 else None,
            )  # fmt: skip
    middle.set(title="broad absorption (C IV)", ylim=(0, 1.02))
    middle.legend(loc="lower right", bbox_to_anchor=(1, 0.12))  # between the curves
    centres = _middles(results["edges"]["S/N"], log=True)
    for threshold, (colour, marker) in zip((0.5, 0.8), STYLES, strict=False):
        values = mixture[f"false positives by S/N at {threshold}"]
        right.plot(
            centres, 100 * np.array(values), color=colour, marker=marker, ms=4,
            label=f"at {threshold}",
        )  # fmt: skip
    right.set(title="others called quasars", ylabel="per cent", ylim=(0, None))
    right.legend()
    for axes in (left, middle, right):
        axes.set(xscale="log", xlabel="S/N in a bin", xticks=snrs)
        axes.set_xticks([], minor=True)
        axes.set_xticklabels([f"{snr:g}" for snr in snrs])
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _against_redshift(results: dict[str, Any], path: Path) -> None:
    by_snr, edges = results["quasars by S/N"], results["edges"]["z"]
    centres = _middles(edges, log=False)
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    for axes, threshold in zip(panels, (0.5, 0.8), strict=True):
        for snr, (colour, marker) in zip(by_snr, STYLES, strict=True):
            values = by_snr[snr][f"recall by redshift at {threshold}"]
            axes.plot(centres, values, color=colour, marker=marker, ms=4, label=snr)
        axes.set(title=f"confidence above {threshold}", xlabel="redshift")
        axes.set_ylim(0, 1.02)
    panels[0].set_ylabel("share of quasars found")
    panels[1].legend(title="S/N in a bin", loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
