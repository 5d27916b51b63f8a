"""The curve of a training as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plot import new_figure


def draw_curve(curve: NDArray[np.float64], step: int, title: str) -> Any:
    """Draw the loss of what is trained on and of what is held out, by step."""
    figure = new_figure()
    axes = figure.add_subplot()
    for column, label in ((1, "trained on, with noise and shifts"), (2, "held out")):
        axes.plot(curve[:, 0], curve[:, column], marker=".", label=label)
    axes.axvline(step, color="0.6", linestyle="--", label=f"written: step {step}")
    axes.set(title=title, xlabel="step", ylabel="loss", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")  # not as powers of ten
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend()
    return figure
