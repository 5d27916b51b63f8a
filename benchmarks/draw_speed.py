"""The README's picture of speed, from the first table of docs/performance.md.

Nothing is measured here: change the page, then run this.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"

#: Dark and light, so that one is told from the other in print and by everybody: of
#: qnp_xp on 2 threads and on 1, and of the others.
_COLOURS = {True: ("#0072B2", "#8CC4E8"), False: ("#6B6B6B", "#C9C9C9")}
#: What the picture leaves out of a name: versions, and how it was run.
_DETAILS = r" \d[\d.]*| on PyTorch|, the better.*|, compiled by.*"


def rates(page: str) -> dict[str, tuple[int, int]]:
    """Spectra per second on one thread and on two, of each row of the table."""
    table = page[page.index("## The network") :]
    found: dict[str, tuple[int, int]] = {}
    for line in table.splitlines():
        cells = [cell.strip().replace(",", "") for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[1].isdigit() and cells[3].isdigit():
            name = re.sub(_DETAILS, "", line.strip("|").split("|")[0].strip())
            found[name] = int(cells[1]), int(cells[3])
        elif found:
            break
    return found


def main() -> None:
    """Draw."""
    found = rates((DOCS / "performance.md").read_text(encoding="utf-8"))
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    for place, (name, both) in enumerate(found.items()):
        colours = _COLOURS[name.startswith("qnp_xp")]
        # Two threads above one.
        for offset, rate, threads, colour in zip(
            (-0.2, 0.2), both[::-1], (2, 1), colours, strict=True
        ):
            axes.barh(place + offset, rate, 0.38, color=colour)
            text = f" {rate:,}"
            if place == 0:
                text += f"  on {threads} thread{'s' if threads > 1 else ''}"
            axes.text(rate, place + offset, text, va="center", fontsize=9)
    axes.set_yticks(np.arange(len(found)), list(found))
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.33 * max(rate for both in found.values() for rate in both))
    axes.set_xlabel("spectra per second, same weights and cores (more is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(DOCS / "_static" / "readme-speed.png", dpi=150)


if __name__ == "__main__":
    main()
