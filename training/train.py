"""Train the network that the package ships, on simulated spectra only.

::

    nice python training/train.py
    nice python training/train.py --quick --output quick.h5

The templates of Redrock are looked for in ``$RR_TEMPLATE_DIR``, the reference data in
``$QNP_XP_REFERENCE_DATA``.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Keras reads it once, when it is first imported.
os.environ["KERAS_BACKEND"] = "torch"
# Threads that spin while they wait halve the speed as soon as a core is not idle.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from absorption import BAL_ZMIN
from calibrate import calibrate
from ensemble import EVALUATION, KINDS, simulate
from network import QuasarNet, labels, loss, save, settle_norms, to_keras
from noise import draw_snr, normalise, observe
from world import ROOT, World, read_world

SEED = 20251125
SKY = KINDS.index("SKY")
# Convolutions in bfloat16 are three times as fast where the processor has them, and
# many times slower than in float32 where it has not.
BRAIN_FLOATS = torch.backends.cpu.get_cpu_capability().startswith("AVX512")

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Seeds = np.random.SeedSequence


@dataclass(frozen=True)
class Recipe:
    """How long to train and on what.

    Parameters
    ----------
    objects : int
        Simulated spectra without noise.
    steps, batch : int
        Number of batches and their size.
    rate : float
        Largest learning rate.
    filters : int
        Of each convolution.
    fresh : int
        Simulated spectra to calibrate confidences with.
    """

    objects: int = 500_000
    steps: int = 8400
    batch: int = 256
    rate: float = 2e-3
    filters: int = 100
    fresh: int = 60_000


QUICK = Recipe(12_000, 250, 256, 6e-3, filters=16, fresh=6000)


def batches(
    recipe: Recipe, world: World, seeds: tuple[Seeds, Seeds]
) -> Callable[[], Batch]:
    """Simulate objects, to make batches of with new noise every time.

    Parameters
    ----------
    recipe : Recipe
        How many.
    world : World
        Templates and noise.
    seeds : tuple of numpy.random.SeedSequence
        For the objects, and for the batches and their noise.

    Returns
    -------
    callable
        Makes the next batch.
    """
    for_objects, for_noise = seeds
    objects = simulate(for_objects, world.library, recipe.objects)
    print(f"simulated {recipe.objects} objects", flush=True)
    box, offset = labels(objects.z, objects.bal)
    rng = np.random.default_rng(for_noise)

    def make() -> Batch:
        pick = rng.integers(0, len(objects.z), recipe.batch)
        snr = draw_snr(rng, objects.kind[pick], SKY)
        noisy = observe(rng, objects.flux[pick], world.shapes, snr)
        return torch.from_numpy(normalise(*noisy)), box[pick], offset[pick]

    return make


def descend(
    model: QuasarNet, steps: int, rate: float, make: Callable[[], Batch]
) -> None:
    """Train a network in place.

    Parameters
    ----------
    model : QuasarNet
        The network.
    steps : int
        Number of batches.
    rate : float
        Largest learning rate.
    make : callable
        Makes the next batch: spectra, boxes and offsets.
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

    started, running = time.monotonic(), 0.0
    model.train()
    # One thread makes the next batch in the meantime; one alone keeps the order.
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make)
        for step in range(1, steps + 1):
            spectra, box, offset = following.result()
            if step < steps:
                following = pool.submit(make)
            with torch.autocast("cpu", torch.bfloat16, enabled=BRAIN_FLOATS):
                said = model(spectra)
            value = loss(said, box, offset)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            latest = value.item()
            running = latest if step == 1 else 0.98 * running + 0.02 * latest
            if step % 100 == 0:
                minutes = (time.monotonic() - started) / 60
                print(f"step {step}: loss {running:.3f}, {minutes:.1f} min", flush=True)


def train(recipe: Recipe, world: World, seeds: tuple[Seeds, Seeds]) -> QuasarNet:
    """Train a network.

    Parameters
    ----------
    recipe : Recipe
        How long.
    world : World
        Templates and noise.
    seeds : tuple of numpy.random.SeedSequence
        For the objects, and for the batches and their noise.

    Returns
    -------
    QuasarNet
    """
    model = QuasarNet(recipe.filters).to(memory_format=torch.channels_last)
    make = batches(recipe, world, seeds)
    descend(model, recipe.steps, recipe.rate, make)
    settle_norms(model, [make()[0] for _ in range(60)])
    return model


def finish(
    model: QuasarNet, world: World, seeds: Seeds, recipe: Recipe, output: Path
) -> None:
    """Calibrate the confidences of a trained network and write it.

    Parameters
    ----------
    model : QuasarNet
        Changed in place.
    world : World
        Templates and noise.
    seeds : numpy.random.SeedSequence
        For objects and noise that were not trained on.
    recipe : Recipe
        How many objects.
    output : Path
        File to write.
    """
    for_objects, for_noise = seeds.spawn(2)
    fresh = simulate(for_objects, world.library, recipe.fresh, EVALUATION)
    calibrate(model, world, fresh, np.random.default_rng(for_noise), BAL_ZMIN)
    save(to_keras(model), output)


def main() -> None:
    """Train and write the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small, poor network")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "qnp_xp" / "data" / "embedded-network.h5"
    )
    parser.add_argument("--state", type=Path, help="to keep the torch weights in, too")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    args = parser.parse_args()
    recipe = QUICK if args.quick else Recipe()

    started = time.monotonic()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    for_objects, for_training, for_calibration = np.random.SeedSequence(SEED).spawn(3)
    world = read_world()
    model = train(recipe, world, (for_objects, for_training))
    if args.state:
        torch.save(model.state_dict(), args.state)
    finish(model, world, for_calibration, recipe, args.output)
    print(f"{args.output}: {(time.monotonic() - started) / 60:.1f} min in all")


if __name__ == "__main__":
    main()
