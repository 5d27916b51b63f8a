"""The loop of the training, and the best weights on what is held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ._network import QuasarNet, run

#: Spectra, boxes and offsets.
Batch: TypeAlias = tuple[Any, Any, Any]

# Convolutions in bfloat16 are three times as fast where the processor has them, and
# many times slower than in float32 where it has not.
BRAIN_FLOATS = torch.backends.cpu.get_cpu_capability().startswith("AVX512")

#: After how many steps the state of a training is kept, where it is.
KEPT_STEPS = 100


@dataclass(frozen=True)
class State:
    """All that a training needs to go on after a step as if it had never ended."""

    step: int
    loss: float
    #: Of the network, its optimizers and their schedules.
    parts: list[dict[str, Any]]


def adamw(model: QuasarNet, rate: float, leave: Collection[Any] = ()) -> Any:
    """Make AdamW of all parameters but those in `leave`; biases do not decay."""
    left = {id(parameter) for parameter in leave}
    mine = [p for p in model.parameters() if id(p) not in left]
    decayed = [p for p in mine if p.ndim > 1]
    others = [p for p in mine if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=rate,
        weight_decay=1e-2,
    )


def descend(
    model: QuasarNet,
    steps: int,
    optimizers: Sequence[Any],
    make: Callable[[], Batch],
    follow: Callable[[int, float], bool],
    start: State | None = None,
    keep: Callable[[State], None] | None = None,
) -> None:
    """Train a network in place, with batches that `make` makes.

    The learning rates of the optimizers are their largest. `follow` gets the number of
    each step and the running average of the loss, and says whether to go on. `keep`
    gets the state every `KEPT_STEPS` steps; from such a `start` a training gives the
    same bits, if the first batch is the next one.
    """
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=optimizer.defaults["lr"],
            total_steps=steps,
            pct_start=0.04,
            final_div_factor=1e3,
            cycle_momentum=False,
        )
        for optimizer in optimizers
    ]
    parts = (model, *optimizers, *schedules)
    first, running = 1, 0.0
    if start is not None:
        for part, state in zip(parts, start.parts, strict=True):
            part.load_state_dict(state)
        first, running = start.step + 1, start.loss
    if first > steps:
        return  # of a batch that is made for nothing, the next one would be another
    # One thread makes the next batch in the meantime; one alone keeps the order.
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make)
        for step in range(first, steps + 1):
            spectra, box, offset = following.result()
            if step < steps:
                following = pool.submit(make)
            model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=BRAIN_FLOATS):
                said = model(spectra)
            value = model.loss(said, box, offset)
            model.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            for part in (*optimizers, *schedules):
                part.step()
            latest = value.item()
            running = latest if step == 1 else 0.98 * running + 0.02 * latest
            if keep is not None and step % KEPT_STEPS == 0:
                keep(State(step, running, [part.state_dict() for part in parts]))
            if not follow(step, running):
                break


class Best:
    """Keeps the weights that do best on what is held out."""

    def __init__(self, model: QuasarNet, held: Batch) -> None:
        self.model = model
        self.held = held
        self.loss = math.inf
        self.step = 0
        self._state: dict[str, Any] = {}

    def check(self, step: int) -> float:
        """Compute the loss of what is held out, and keep the weights if it is less."""
        spectra, box, offset = self.held
        with torch.no_grad():
            loss = float(self.model.loss(run(self.model, spectra.numpy()), box, offset))
        if loss < self.loss:
            self.loss, self.step = loss, step
            state = self.model.state_dict()
            self._state = {name: x.detach().clone() for name, x in state.items()}
        return loss

    def restore(self) -> None:
        """Give the network its best weights."""
        self.model.load_state_dict(self._state)
