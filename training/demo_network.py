"""The demo network: QuasarNET in Keras, its labels, loss, training and decoding.

Keras has to run on torch: set ``KERAS_BACKEND=torch`` before importing this.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
import numpy.typing as npt
import torch
from demo_instrument import GRID, GRID_START, GRID_STEP, NBINS, normalise, observe
from demo_spectra import (
    Array,
    Bins,
    Bools,
    Generator,
    featureless,
    galaxies,
    quasars,
    stars,
)

# Output heads in order; the last one is the C IV line of broad absorption quasars.
LINES = {
    "LYA": 1215.67,
    "CIV(1548)": 1548.2049,
    "CIII(1909)": 1908.734,
    "MgII(2796)": 2796.3511,
    "Hbeta": 4862.68,
    "Halpha": 6562.8,
}
HEAD_REST = np.array([*LINES.values(), LINES["CIV(1548)"]])
NLINES, NHEADS, NBOXES = len(LINES), len(HEAD_REST), 13

FILTERS, FC_COMMON, NCONV = 24, 32, 4
BATCH = 512
# Below this redshift the troughs blueward of C IV are off the grid.
BAL_ZMIN, BAL_SHARE = 1.45, 0.15
# The loss averages positives and negatives apart, and there are some 50 times as
# many negative boxes. A weight of 50 would make confidences probabilities; a
# smaller one trades false positives for recall.
NEGATIVE_WEIGHT = 30.0
OFFSET_WEIGHT = 10.0


@dataclass(frozen=True)
class Ensemble:
    """Simulated spectra without noise on the network's grid.

    Parameters
    ----------
    flux : ndarray, shape (n, 443), float32
        Spectra with a mean of 1; 0 for an empty sky.
    kind : ndarray, shape (n,), str
        "QSO", "GALAXY", "STAR", "POWERLAW" or "SKY".
    z : ndarray, shape (n,), float32
        Redshift of the quasars, NaN for others.
    bal : ndarray, shape (n,), bool
        Whether it is a quasar with broad absorption lines.
    """

    flux: Array
    kind: npt.NDArray[np.str_]
    z: Array
    bal: Bools


def simulate(rng: Generator, bins: Bins, n: int, chunk: int = 2000) -> Ensemble:
    """Draw `n` objects: half quasars, the others of four kinds.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the objects.
    bins : Bins
        The network's grid.
    n, chunk : int
        Number of objects, and how many to make at once to bound the memory.

    Returns
    -------
    Ensemble
        The objects in random order.
    """
    kinds = np.array(["QSO", "GALAXY", "STAR", "POWERLAW", "SKY"])
    kind = rng.choice(kinds, n, p=(0.5, 0.2, 0.2, 0.06, 0.04))
    z = np.full(n, np.nan, dtype=np.float32)
    z[kind == "QSO"] = rng.uniform(0.25, 4.1, np.sum(kind == "QSO"))
    bal = (z > BAL_ZMIN) & (rng.random(n) < BAL_SHARE)
    flux = np.zeros((n, NBINS), dtype=np.float32)

    def fill(name: str) -> None:
        rows = np.flatnonzero(kind == name)
        for start in range(0, rows.size, chunk):
            part = rows[start : start + chunk]
            m = part.size
            if name == "QSO":
                made = quasars(rng, bins, z[part], bal[part])
            elif name == "GALAXY":
                old = np.clip(rng.uniform(-0.3, 1.3, m), 0, 1)
                made = galaxies(rng, bins, rng.uniform(0, 1.25, m), old)
            elif name == "STAR":
                made = stars(rng, bins, np.exp(rng.uniform(7.9, 10.5, m)))
            else:
                made = featureless(rng, bins, m)
            flux[part] = made / made.mean(axis=1, keepdims=True)

    for name in kinds[:-1]:
        fill(name)
    return Ensemble(flux, kind, z, bal)


def labels(
    z: Array, bal: Bools
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Box and offset of each line, as QuasarNET defines them.

    Parameters
    ----------
    z : ndarray, shape (n,)
        Redshifts, NaN for what is not a quasar.
    bal : ndarray, shape (n,), bool
        Whether the last head, the broad absorption, applies.

    Returns
    -------
    box : ndarray, shape (n, 7), int64
        Box of the line, -1 where the line is not there.
    offset : ndarray, shape (n, 7), float32
        Position of the line within its box, 0 to 1.
    """
    position = (np.log10(HEAD_REST * (1 + z[:, None])) - GRID_START) / GRID_STEP
    there = (position >= 0) & (position < NBINS)
    there[:, NLINES:] &= bal[:, None]
    place = np.where(there, position * NBOXES / NBINS, 0)
    box = np.floor(place).astype(np.int64)
    offset = np.where(there, place - box, 0).astype(np.float32)
    return np.where(there, box, -1), offset


def build() -> keras.Model:
    """Make QuasarNET with random weights, its layers named as QuasarNET names them."""
    layers = keras.layers
    spectrum = x = layers.Input((NBINS, 1))
    for i in range(1, NCONV + 1):
        x = layers.Conv1D(FILTERS, 10, strides=2, name=f"conv_{i}")(x)
        x = layers.BatchNormalization(name=f"batch_normalization_{i}")(x)
        x = layers.Activation("relu", name=f"activation_{i}")(x)
        x = layers.Dropout(0.03, name=f"dropout_{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(FC_COMMON, name="fc_common")(x)
    x = layers.BatchNormalization(name=f"batch_normalization_{NCONV + 1}")(x)
    x = layers.Activation("relu", name="fc_activation")(x)
    heads = []
    for i in range(NHEADS):
        box = layers.Dense(NBOXES, activation="sigmoid", name=f"fc_box_{i}")(x)
        offset = layers.Dense(NBOXES, activation="sigmoid", name=f"fc_offset_{i}")(x)
        # A sigmoid hardly reaches 0 or 1: stretch it past both ends of the box.
        offset = layers.Rescaling(1.2, offset=-0.1, name=f"rescaling_{i}")(offset)
        heads.append(layers.Concatenate(name=f"conc_box_{i}")([box, offset]))
    return keras.Model(spectrum, heads, name="QuasarNET")


def loss(
    outputs: list[torch.Tensor], box: torch.Tensor, offset: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of the boxes and squared error of the offsets, over all heads.

    Parameters
    ----------
    outputs : list of Tensor, shape (n, 26)
        What the network says, one tensor a head.
    box, offset : Tensor, shape (n, 7)
        As `labels` makes them.

    Returns
    -------
    Tensor
        One number.
    """
    said = torch.stack(outputs, dim=1)
    confidence = said[..., :NBOXES].clamp(1e-6, 1 - 1e-6)
    boxes = torch.arange(NBOXES)
    hit = (box[..., None] == boxes).float()
    # Averages over the batch, head by head, so that rare lines count as well.
    npositive = hit.sum(dim=(0, 2)).clamp(min=1)
    nnegative = (1 - hit).sum(dim=(0, 2))
    positive = -(hit * confidence.log()).sum(dim=(0, 2)) / npositive
    negative = -((1 - hit) * (1 - confidence).log()).sum(dim=(0, 2)) / nnegative
    error = (said[..., NBOXES:] - offset[..., None]) ** 2
    distance = (hit * error).sum(dim=(0, 2)) / npositive
    return (positive + NEGATIVE_WEIGHT * negative + OFFSET_WEIGHT * distance).sum()


def train(
    model: keras.Model,
    rng: Generator,
    objects: Ensemble,
    shapes: Array,
    steps: int,
) -> None:
    """Train in place, with new noise on every spectrum of every batch.

    Parameters
    ----------
    model : keras.Model
        From `build`.
    rng : numpy.random.Generator
        Source of the batches and their noise.
    objects : Ensemble
        Spectra without noise.
    shapes : ndarray, shape (m, 443), float32
        Inverse variances of different fibers.
    steps : int
        Number of batches.
    """
    box, offset = (torch.from_numpy(a) for a in labels(objects.z, objects.bal))
    weights = [v.value for v in model.trainable_variables]
    optimizer = torch.optim.AdamW(weights, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.15
    )
    started, running = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        pick = rng.integers(0, len(objects.z), BATCH)
        snr = np.exp(rng.uniform(np.log(0.5), np.log(40), BATCH)).astype(np.float32)
        spectra = normalise(*observe(rng, objects.flux[pick], shapes, snr))
        x = torch.from_numpy(spectra[..., None])
        value = loss(model(x, training=True), box[pick], offset[pick])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        running = value.item() if step == 1 else 0.98 * running + 0.02 * value.item()
        if step % 250 == 0:
            minutes = (time.monotonic() - started) / 60
            print(f"  step {step}: loss {running:.3f}, {minutes:.1f} min", flush=True)


def predict(model: keras.Model, spectra: Array, chunk: int = 2000) -> Array:
    """Confidence and redshift of the best box of each head.

    Parameters
    ----------
    model : keras.Model
        The network.
    spectra : ndarray, shape (n, 443), float32
        Normalised spectra.
    chunk : int
        Spectra to run at once.

    Returns
    -------
    ndarray, shape (2, n, 7), float64
        Confidences, then redshifts.
    """
    said = []
    with torch.no_grad():
        for start in range(0, len(spectra), chunk):
            x = torch.from_numpy(spectra[start : start + chunk, :, None])
            said.append(torch.stack(model(x, training=False), dim=1).cpu().numpy())
    outputs = np.concatenate(said).astype(float)
    box = outputs[..., :NBOXES].argmax(axis=-1)[..., None]
    confidence = np.take_along_axis(outputs[..., :NBOXES], box, axis=-1)[..., 0]
    offset = np.take_along_axis(outputs[..., NBOXES:], box, axis=-1)
    index = (box + offset)[..., 0] * NBINS / NBOXES
    wave = np.interp(index, np.arange(NBINS), GRID)
    return np.stack([confidence, wave / HEAD_REST - 1])


def save(model: keras.Model, path: Path) -> None:
    """Write the network as legacy Keras HDF5 with the grid that DESI's files hold.

    Parameters
    ----------
    model : keras.Model
        The network.
    path : Path
        File to write, which ends in ``.h5``.
    """
    raw = path.with_name(f"raw-{path.name}")
    model.save(raw, include_optimizer=False)

    def copy(source: h5py.Group, target: h5py.Group) -> None:
        for name, value in source.attrs.items():
            target.attrs[name] = value
        for name, item in source.items():
            if isinstance(item, h5py.Group):
                copy(item, target.create_group(name))
            else:
                target.create_dataset(name, data=item[()])

    # Keras makes some 75 groups, each of over 1 kB in the oldest HDF5 layout. That
    # of HDF5 1.8 stores the same tree in a quarter less.
    with h5py.File(raw) as source, h5py.File(path, "w", libver=("v108", "v108")) as new:
        copy(source, new)
        new["model_grid"] = GRID
        new.attrs["grid_spacing"] = "logarithmic"
    raw.unlink()
