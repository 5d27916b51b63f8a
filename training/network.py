"""QuasarNET: a torch network to train, its labels and loss, and the Keras file.

Keras has to run on torch: set ``KERAS_BACKEND=torch`` before importing this.
"""

from pathlib import Path

import h5py
import keras
import numpy as np
import numpy.typing as npt
import torch
from templates import GRID_START, GRID_STEP, Array
from torch import nn

from qnp_xp.grids import nbins, wave
from qnp_xp.lines import LINES, LINES_BAL, rest_wavelengths

HEADS = (*LINES, *LINES_BAL)
HEAD_REST = np.array(rest_wavelengths(HEADS))
NLINES, NHEADS, NBOXES = len(LINES), len(HEADS), 13
KERNEL, STRIDE, NCONV, COMMON = 10, 2, 4, 100
EPSILON = 1e-3


def _by_head(line: float, bal: float) -> torch.Tensor:
    return torch.tensor([line] * NLINES + [bal] * (NHEADS - NLINES))


# The loss averages positives and negatives apart, and there are some 50 times as many
# negative boxes, 90 times for broad absorption. With these weights the few boxes that
# are hard to tell count about as much as the positives, near the thresholds that
# `calibrate` gives a meaning.
NEGATIVE_WEIGHT = _by_head(40.0, 120.0)
OFFSET_WEIGHT, OFFSET_BETA = 10.0, 0.03
# Broad absorption is rarer and harder to see than lines.
HEAD_WEIGHT = _by_head(1.0, 6.0)


def labels(
    z: npt.NDArray[np.float64], bal: npt.NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Box and offset of each line, as QuasarNET defines them.

    Parameters
    ----------
    z : ndarray, shape (n,)
        Redshifts, NaN for what is not a quasar.
    bal : ndarray, shape (n,), bool
        Whether the last head, the broad absorption, applies.

    Returns
    -------
    box : Tensor, shape (n, 7), int64
        Box of the line, -1 where the line is not there.
    offset : Tensor, shape (n, 7), float32
        Position of the line within its box, 0 to 1.
    """
    place = (np.log10(HEAD_REST * (1 + z[:, None])) - GRID_START) / GRID_STEP
    there = (place >= 0) & (place < nbins)
    there[:, NLINES:] &= bal[:, None]
    place = np.where(there, place * NBOXES / nbins, 0)
    box = np.floor(place).astype(np.int64)
    offset = (place - box).astype(np.float32)
    return torch.from_numpy(np.where(there, box, -1)), torch.from_numpy(offset)


class QuasarNet(nn.Module):
    """QuasarNET on torch; the convolutions are two-dimensional, of height 1.

    On a CPU that is much faster, with channels last and bfloat16, than `Conv1d`.

    Parameters
    ----------
    filters : int
        Of each convolution.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        width, channels = nbins, 1
        for _ in range(NCONV):
            self.convolutions.append(
                nn.Conv2d(channels, filters, (1, KERNEL), (1, STRIDE))
            )
            self.norms.append(nn.BatchNorm2d(filters, eps=EPSILON))
            width, channels = (width - KERNEL) // STRIDE + 1, filters
        self.common = nn.Linear(width * filters, COMMON)
        self.common_norm = nn.BatchNorm1d(COMMON, eps=EPSILON)
        self.heads = nn.Linear(COMMON, NHEADS * 2 * NBOXES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what the sigmoids of all heads get.

        Parameters
        ----------
        x : Tensor, shape (n, nbins)
            Normalised spectra.

        Returns
        -------
        Tensor, shape (n, 7, 2, 13)
            Boxes, then offsets.
        """
        x = x[:, None, None, :].to(memory_format=torch.channels_last)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x)))
        # Keras flattens with the channels last.
        x = x.permute(0, 2, 3, 1).flatten(1)
        # Eight bits are too few for places within boxes, and this part is cheap.
        with torch.autocast("cpu", enabled=False):
            x = torch.relu(self.common_norm(self.common(x.float())))
            return self.heads(x).view(-1, NHEADS, 2, NBOXES)


def loss(said: torch.Tensor, box: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the boxes and error of the offsets, over all heads.

    Parameters
    ----------
    said : Tensor, shape (n, 7, 2, 13)
        From the network.
    box, offset : Tensor, shape (n, 7)
        As `labels` makes them.

    Returns
    -------
    Tensor
        One number.
    """
    said = said.float()
    hit = (box[..., None] == torch.arange(NBOXES)).float()
    # Averages over the batch, head by head, so that rare lines count as well.
    npositive = hit.sum(dim=(0, 2)).clamp(min=1)
    nnegative = (1 - hit).sum(dim=(0, 2))
    entropy = nn.functional.binary_cross_entropy_with_logits(
        said[:, :, 0], hit, reduction="none"
    )
    positive = (hit * entropy).sum(dim=(0, 2)) / npositive
    negative = ((1 - hit) * entropy).sum(dim=(0, 2)) / nnegative
    place = -0.1 + 1.2 * torch.sigmoid(said[:, :, 1])
    error = nn.functional.smooth_l1_loss(
        place, offset[..., None].expand_as(place), reduction="none", beta=OFFSET_BETA
    )
    distance = (hit * error).sum(dim=(0, 2)) / npositive
    each = positive + NEGATIVE_WEIGHT * negative + OFFSET_WEIGHT * distance
    return (HEAD_WEIGHT * each).sum()


def box_logits(model: QuasarNet, spectra: Array, chunk: int = 2000) -> Array:
    """Compute what the sigmoids of the boxes get.

    Parameters
    ----------
    model : QuasarNet
        The network.
    spectra : ndarray, shape (n, nbins), float32
        Normalised spectra.
    chunk : int
        Spectra to run at once.

    Returns
    -------
    ndarray, shape (n, 7, 13), float32
    """
    model.eval()
    said = []
    with torch.no_grad():
        for start in range(0, len(spectra), chunk):
            part = model(torch.from_numpy(spectra[start : start + chunk]))
            said.append(part[:, :, 0].numpy())
    return np.concatenate(said)


def settle_norms(model: QuasarNet, batches: list[torch.Tensor]) -> None:
    """Take the statistics of the batch norms anew, in float32, of the final weights.

    Parameters
    ----------
    model : QuasarNet
        Changed in place.
    batches : list of Tensor
        Normalised spectra as in the training.
    """
    norms = [*model.norms, model.common_norm]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # average over all batches alike
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    model.eval()


def to_keras(model: QuasarNet) -> keras.Model:
    """Make the same network in Keras, with QuasarNET's names of layers."""
    filters = model.convolutions[0].out_channels
    layers = keras.layers
    spectrum = x = layers.Input((nbins, 1))
    for i in range(1, NCONV + 1):
        x = layers.Conv1D(filters, KERNEL, strides=STRIDE, name=f"conv_{i}")(x)
        x = layers.BatchNormalization(name=f"batch_normalization_{i}", epsilon=EPSILON)(
            x
        )
        x = layers.Activation("relu", name=f"activation_{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(COMMON, name="fc_common")(x)
    norm = f"batch_normalization_{NCONV + 1}"
    x = layers.BatchNormalization(name=norm, epsilon=EPSILON)(x)
    x = layers.Activation("relu", name="fc_activation")(x)
    outputs = []
    for i in range(NHEADS):
        box = layers.Dense(NBOXES, activation="sigmoid", name=f"fc_box_{i}")(x)
        offset = layers.Dense(NBOXES, activation="sigmoid", name=f"fc_offset_{i}")(x)
        # A sigmoid hardly reaches 0 or 1: stretch it past both ends of the box.
        offset = layers.Rescaling(1.2, offset=-0.1, name=f"rescaling_{i}")(offset)
        outputs.append(layers.Concatenate(name=f"conc_box_{i}")([box, offset]))
    copy = keras.Model(spectrum, outputs, name="QuasarNET")

    def give(name: str, *arrays: torch.Tensor) -> None:
        values = [array.detach().float().numpy() for array in arrays]
        copy.get_layer(name).set_weights(values)

    def give_norm(name: str, norm: nn.Module) -> None:
        give(name, norm.weight, norm.bias, norm.running_mean, norm.running_var)

    for i, convolution in enumerate(model.convolutions, 1):
        kernel = convolution.weight[:, :, 0].permute(2, 1, 0)
        give(f"conv_{i}", kernel, convolution.bias)
        give_norm(f"batch_normalization_{i}", model.norms[i - 1])
    give("fc_common", model.common.weight.T, model.common.bias)
    give_norm(norm, model.common_norm)
    weight = model.heads.weight.view(NHEADS, 2, NBOXES, COMMON)
    bias = model.heads.bias.view(NHEADS, 2, NBOXES)
    for i in range(NHEADS):
        for j, name in enumerate(("box", "offset")):
            give(f"fc_{name}_{i}", weight[i, j].T, bias[i, j])
    return copy


def save(model: keras.Model, path: Path) -> None:
    """Write the network as Keras HDF5 with the grid that DESI's files hold.

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
    # of HDF5 1.8 stores the same tree in less.
    with h5py.File(raw) as source, h5py.File(path, "w", libver=("v108", "v108")) as new:
        copy(source, new)
        new["model_grid"] = wave
        new.attrs["grid_spacing"] = "logarithmic"
    raw.unlink()
