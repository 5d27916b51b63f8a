"""The loop of the training, and the best weights on what is held out."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import torch

from ._network import QuasarNet, run

#: Spectra, boxes and offsets.
Batch: TypeAlias = tuple[Any, Any, Any]

# Convolutions in bfloat16 are three times as fast where the processor has them, and
# many times slower than in float32 where it has not.
BRAIN_FLOATS = torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def descend(
    model: QuasarNet,
    steps: int,
    rate: float,
    make: Callable[[], Batch],
    follow: Callable[[int, float], bool],
) -> None:
    """Train a network in place, with batches that `make` makes.

    `rate` is the largest learning rate. `follow` gets the number of each step and the
    running average of the loss, and says whether to go on.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=rate,
        weight_decay=1e-2,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=rate,
        total_steps=steps,
        pct_start=0.04,
        final_div_factor=1e3,
        cycle_momentum=False,
    )
    running = 0.0
    # One thread makes the next batch in the meantime; one alone keeps the order.
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make)
        for step in range(1, steps + 1):
            spectra, box, offset = following.result()
            if step < steps:
                following = pool.submit(make)
            model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=BRAIN_FLOATS):
                said = model(spectra)
            value = model.loss(said, box, offset)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            latest = value.item()
            running = latest if step == 1 else 0.98 * running + 0.02 * latest
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
