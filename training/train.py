"""Train the network that the package ships, on simulated spectra only.

::

    nice python training/train.py
    nice python training/train.py --quick --output quick.h5
    nice python training/train.py --checkpoint training.pt   # again, to go on

The templates of Redrock are looked for in ``$RR_TEMPLATE_DIR``, the reference data in
``$QNP_XP_REFERENCE_DATA``.
"""

import argparse
import ctypes
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

# Keras reads it once, when it is first imported.
os.environ["KERAS_BACKEND"] = "torch"
# Threads that spin while they wait halve the speed as soon as a core is not idle.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from absorption import BAL_ZMIN
from calibrate import C_THRESH, calibrate
from ensemble import EVALUATION, KINDS, simulate
from keras_file import to_keras
from muon import Muon
from noise import draw_snr, normalise, observe
from templates import GRID_START, GRID_STEP
from world import ROOT, World, read_world

from qnp_xp._scorer import near_weight
from qnp_xp._train._keras import save_network
from qnp_xp._train._loop import Batch, State, adamw, descend
from qnp_xp._train._network import (
    UNKNOWN,
    ConvShape,
    Layout,
    QuasarNet,
    labels,
    settle_norms,
)
from qnp_xp.grids import Grid, nbins, wave
from qnp_xp.io._files import atomic_path
from qnp_xp.lines import LINES, LINES_BAL, rest_wavelengths

SEED = 20251125
# Numbers of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
QSO, SKY = KINDS.index("QSO"), KINDS.index("SKY")
GRID = Grid(GRID_START, GRID_STEP, nbins, log=True)
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
    step, rate : float
        Largest learning rates: of `Muon` for the matrices, of AdamW for the rest.
    filters : tuple of int
        Of each convolution.
    units : int
        Of the layer that all heads share.
    fresh : int
        Simulated spectra to calibrate confidences with.
    """

    objects: int = 500_000
    steps: int = 13_000
    batch: int = 256
    step: float = 0.02
    rate: float = 2e-3
    filters: tuple[int, ...] = (32, 96, 128, 128)
    units: int = 256
    fresh: int = 60_000


QUICK = Recipe(12_000, 250, 256, 0.02, 6e-3, filters=(16,) * 4, units=64, fresh=6000)
# Of the spectra that are trained on, those with only a part of the grid.
PARTIAL = 0.22
# Bright ones are rare, and hard where lines have shapes of their own.
BRIGHTEST = 120.0


def batches(
    recipe: Recipe, world: World, layout: Layout, seeds: tuple[Seeds, Seeds], first: int
) -> Callable[[], Batch]:
    """Simulate objects, to make batches of with new noise every time.

    Parameters
    ----------
    recipe : Recipe
        How many.
    world : World
        Templates and noise.
    layout : Layout
        What the network is.
    seeds : tuple of numpy.random.SeedSequence
        For the objects, and for the batches and their noise.
    first : int
        Number of the first batch. Each has a stream of its own, so that a training
        that was cut off gets the same ones when it goes on.

    Returns
    -------
    callable
        Makes the next batch.
    """
    for_objects, for_noise = seeds
    objects = simulate(for_objects, world.library, recipe.objects)
    print(f"simulated {recipe.objects} objects", flush=True)
    rest = rest_wavelengths([*LINES, *LINES_BAL])
    box, offset = labels(objects.z, objects.bal, rest, GRID, layout)
    place = ((box + offset) * (nbins / layout.nboxes)).numpy()
    numbers = itertools.count(first)

    def make() -> Batch:
        key = (*for_noise.spawn_key, next(numbers))
        rng = np.random.default_rng(Seeds(for_noise.entropy, spawn_key=key))
        pick = rng.integers(0, len(objects.z), recipe.batch)
        snr = draw_snr(rng, objects.kind[pick], SKY, BRIGHTEST)
        flux, ivar = observe(rng, objects.flux[pick], world.shapes, snr, PARTIAL)
        unseen = ~any_line(place[pick], ivar) & (objects.kind[pick] == QSO)
        taught = torch.where(torch.from_numpy(unseen)[:, None], UNKNOWN, box[pick])
        return torch.from_numpy(normalise(flux, ivar)), taught, offset[pick]

    return make


def any_line(place: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Say which spectra have weight within two bins of at least one line.

    A quasar of which no line is seen looks like anything without lines, and must not
    teach that such things are quasars.

    Parameters
    ----------
    place : ndarray, shape (n, lines), float
        Bin of each line; negative where it is not on the grid.
    ivar : ndarray, shape (n, nbins)
        Inverse variance.

    Returns
    -------
    ndarray, shape (n,), bool
    """
    near = near_weight(place.T.astype(int), ivar > 0).T
    return np.any(near & (place >= 0), axis=1)


def keep_memory() -> None:
    """Let the C library keep what is freed, as the next batch needs as much again.

    Without it the system clears new pages in each step, a fifth of the time. Other C
    libraries than glibc have no such switch and go on as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def say_every_hundred() -> Callable[[int, float], bool]:
    """Make what follows the training: it prints now and then, and never ends it."""
    started = time.monotonic()

    def follow(step: int, loss: float) -> bool:
        if step % 100 == 0:
            minutes = (time.monotonic() - started) / 60
            print(f"step {step}: loss {loss:.3f}, {minutes:.1f} min", flush=True)
        return True

    return follow


def train(
    recipe: Recipe, world: World, seeds: tuple[Seeds, Seeds], checkpoint: Path | None
) -> QuasarNet:
    """Train a network.

    Parameters
    ----------
    recipe : Recipe
        How long.
    world : World
        Templates and noise.
    seeds : tuple of numpy.random.SeedSequence
        For the objects, and for the batches and their noise.
    checkpoint : Path, optional
        File to go on from where it is there, and to keep the state in.

    Returns
    -------
    QuasarNet
    """
    trunk = ((recipe.units, "relu"),)
    layout = Layout(nbins, tuple(map(ConvShape, recipe.filters)), trunk)
    model = QuasarNet(layout).to(memory_format=torch.channels_last)
    start = None
    if checkpoint and checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        if kept.pop("recipe") != asdict(recipe):
            msg = f"{checkpoint}: it is of another recipe"
            raise SystemExit(msg)
        start = State(**kept)
        print(f"{checkpoint}: goes on after step {start.step}", flush=True)
    make = batches(recipe, world, layout, seeds, 1 if start is None else start.step + 1)

    def keep(state: State) -> None:
        if checkpoint:
            with atomic_path(checkpoint) as temporary:
                torch.save(vars(state) | {"recipe": asdict(recipe)}, temporary)

    follow = say_every_hundred()
    # The first convolution has one channel and the heads are many small layers.
    matrices = [layer.weight for layer in (*model.convolutions[1:], *model.trunk)]
    optimizers = [Muon(matrices, recipe.step), adamw(model, recipe.rate, matrices)]
    descend(model, recipe.steps, optimizers, make, follow, start, keep)
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
    keras = to_keras(model)
    save_network(keras, output, wave=wave, c_thresh=C_THRESH, overwrite=True)


def main() -> None:
    """Train and write the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small, poor network")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "qnp_xp" / "data" / "embedded-network.h5"
    )
    parser.add_argument("--state", type=Path, help="to keep the torch weights in, too")
    parser.add_argument(
        "--checkpoint", type=Path, help="to go on from, after a training was cut off"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    args = parser.parse_args()
    recipe = QUICK if args.quick else Recipe()

    started = time.monotonic()
    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    for_objects, for_training, for_calibration = np.random.SeedSequence(SEED).spawn(3)
    world = read_world()
    seeds = for_objects, for_training
    model = train(recipe, world, seeds, args.checkpoint)
    if args.state:
        torch.save(model.state_dict(), args.state)
    finish(model, world, for_calibration, recipe, args.output)
    print(f"{args.output}: {(time.monotonic() - started) / 60:.1f} min in all")


if __name__ == "__main__":
    main()
