"""From examples to a network: what is done with them, and when it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .._network.description import Network
from ..lines import rest_wavelengths
from ..model import QuasarNP
from ._augment import Batches, Labeller
from ._examples import Examples
from ._loop import Best, adamw, descend
from ._network import Layout, QuasarNet, settle_norms
from ._settings import Goal, Progress, Settings

#: How often in a training the held spectra are looked at, or after how many steps, and
#: at how many of them; in which part of it, in vain, before it ends.
_CHECKS, _MOST_STEPS, _MOST_HELD = 40, 100, 2000
_PATIENCE = 0.375
#: Batches that the statistics of batch norms are taken of in the end.
_SETTLING = 30


@dataclass(frozen=True)
class Fit:
    """What came of a training."""

    network: Network
    #: The step whose weights these are; 0 where none was better than the start.
    step: int
    #: Columns: step, running loss, loss of what is held out.
    curve: NDArray[np.float64]
    #: What ended the training before its time, if anything did.
    interrupt: BaseException | None = None


def fit(
    examples: Examples,
    held: Examples,
    goal: Goal,
    start: QuasarNP | None,
    settings: Settings,
    progress: Progress,
) -> Fit:
    """Train on examples, until those that are held out gain nothing more."""
    steps = settings.count_steps(examples.n, start is not None)
    rng = np.random.default_rng(settings.seed)
    with _torch_is_settled(settings):
        if start is None:
            lines, lines_bal = len(goal.lines), len(goal.lines_bal)
            layout = Layout.plain(goal.wave.size, lines, lines_bal)
            model = QuasarNet(layout)
        else:
            layout = Layout.of(start.network, len(goal.lines))
            model = QuasarNet(layout)
            model.copy_weights(start.network)
        model = model.to(memory_format=torch.channels_last)
        rest = rest_wavelengths([*goal.lines, *goal.lines_bal])
        labeller = Labeller(layout, goal.wave, rest)
        batches = Batches(examples, labeller, settings, rng)
        few = rng.permutation(held.n)[:_MOST_HELD]
        best = Best(model, labeller.batch(held.take(few)))
        curve = [(0.0, np.nan, best.check(0))]
        end = time.monotonic() + 60 * settings.minutes
        every = min(max(steps // _CHECKS, 1), _MOST_STEPS)

        def follow(step: int, loss: float) -> bool:
            late = time.monotonic() > end
            if step % every == 0 or late or step == steps:
                curve.append((float(step), loss, best.check(step)))
            progress(step, steps, loss, best.loss)
            return not (late or step - best.step >= max(_PATIENCE * steps, 1))

        interrupt = None
        try:
            optimizer = adamw(model, settings.get_rate(start is not None))
            descend(model, steps, [optimizer], batches, follow)
        except BaseException as err:
            # What was asked to end has still something to give, an error has not.
            if isinstance(err, Exception) or not best.step:
                raise
            interrupt = err
        best.restore()
        if interrupt is None:
            settle_norms(model, [batches()[0] for _ in range(_SETTLING)])
        return Fit(model.to_network(), best.step, np.asarray(curve), interrupt)


@contextlib.contextmanager
def _torch_is_settled(settings: Settings) -> Iterator[None]:
    """Give torch its threads and seed, and back what it had of the former."""
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        try:
            yield
        finally:
            torch.set_num_threads(before)
