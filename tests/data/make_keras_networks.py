"""Make the small Keras 3 networks of ``tests/data/keras`` and their outputs.

Each case is a QuasarNET (see `quasarnet`) that differs in one respect which a reader
of weight files can get wrong. Nothing is trained: what matters is that every weight
changes the output. For each case NAME, Keras itself writes

NAME.h5, NAME.keras
    the same network in the legacy HDF5 format and in Keras 3's own.
NAME.npz
    ``x`` (5, nbins, 1) float32, the input; ``y`` (nlines, 5, 2*nboxes) float32, what
    Keras makes of it; ``y64``, the same in float64, so that the rounding error of
    ``y`` is known.

Run it from the root of the project, with Keras 3, PyTorch (CPU) and h5py::

    KERAS_BACKEND=torch python tests/data/make_keras_networks.py
"""

from __future__ import annotations

import io
import itertools
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

# Keras reads this once, when it is imported.
os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

OUT = Path(__file__).resolve().parent / "keras"
NSPEC = 5
OFFSET_SCALE, OFFSET_SHIFT = 1.2, -0.1
LOGIT_STD = 1.5

# Its HDF5 file is left just as `model.save` writes it; see `save_h5` for the others.
UNPACKED = "stride3"


@dataclass(frozen=True)
class Conv:
    """One convolution: length of its kernel, stride and padding."""

    kernel_size: int
    strides: int
    padding: str = "valid"


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes
    ----------
    name : str
        Stem of the files.
    convs : tuple of Conv
        The convolutions; unused by `with_options`.
    nlines, nboxes, nbins : int
        Number of lines, boxes a line, and input bins.
    filters, width : int
        Filters of each convolution and units of the common dense layer.
    rescale : {"none", "rescaling", "lambda"}
        The layer between an offset head and its concatenation.
    epsilon : float
        Of every batch normalisation.
    variance : tuple of float
        Range of the moving variances.
    options : bool
        Build it by `with_options` instead of `quasarnet`.
    linear_grid : bool
        Put a linear wavelength grid in the HDF5 file, and write only that.
    """

    name: str
    convs: tuple[Conv, ...] = (Conv(10, 2),) * 4
    nlines: int = 2
    nboxes: int = 13
    nbins: int = 443
    filters: int = 4
    width: int = 8
    rescale: str = "none"
    epsilon: float = 1e-3
    variance: tuple[float, float] = (0.3, 2.0)
    options: bool = False
    linear_grid: bool = False


def rescale_offset(kind: str, offset: keras.KerasTensor) -> keras.KerasTensor:
    """Stretch an offset from (0, 1) to (-0.1, 1.1), or leave it alone."""
    if kind == "rescaling":
        return layers.Rescaling(scale=OFFSET_SCALE, offset=OFFSET_SHIFT)(offset)
    if kind == "lambda":
        # Keras saves the bytecode of this, which knows its constants, not our globals,
        # and the path of its source, which would say where this script was run.
        layer = layers.Lambda(lambda x: -0.1 + 1.2 * x)
        code = layer.function.__code__
        layer.function.__code__ = code.replace(co_filename=Path(__file__).name)
        return layer(offset)
    return offset


def quasarnet(case: Case) -> keras.Model:
    """Build a QuasarNET, with the names of layers that its authors use."""
    inputs = keras.Input((case.nbins, 1))
    x = inputs
    for i, conv in enumerate(case.convs, start=1):
        x = layers.Conv1D(
            case.filters,
            conv.kernel_size,
            strides=conv.strides,
            padding=conv.padding,
            name=f"conv_{i}",
        )(x)
        x = layers.BatchNormalization(
            epsilon=case.epsilon, name=f"batch_normalization_{i}"
        )(x)
        x = layers.Activation("relu", name=f"activation_{i}")(x)
        x = layers.Dropout(0.1)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(case.width, name="fc_common")(x)
    x = layers.BatchNormalization(
        epsilon=case.epsilon, name=f"batch_normalization_{len(case.convs) + 1}"
    )(x)
    x = layers.Activation("relu", name="fc_activation")(x)
    outputs = []
    for i in range(case.nlines):
        box = layers.Dense(case.nboxes, activation="sigmoid", name=f"fc_box_{i}")(x)
        head = layers.Dense(case.nboxes, activation="sigmoid", name=f"fc_offset_{i}")
        offset = rescale_offset(case.rescale, head(x))
        outputs.append(layers.Concatenate(name=f"conc_box_{i}")([box, offset]))
    return keras.Model(inputs, outputs)


def with_options(case: Case) -> keras.Model:
    """Build a network whose layers take options that QuasarNET leaves at default.

    The names of layers say nothing, or mislead, and the heads are made in another
    order than the outputs, so only the graph tells which layers belong together.
    """
    inputs = keras.Input((case.nbins, 1), name="spectrum")
    x = layers.Conv1D(case.filters, 10, strides=2, use_bias=False, name="alpha")(inputs)
    x = layers.BatchNormalization(center=False, name="beta7")(x)
    x = layers.ReLU(name="gamma")(x)
    # No batch normalisation, and the activation inside the convolution.
    x = layers.Conv1D(
        case.filters, 7, strides=2, padding="same", activation="relu", name="trunk_c"
    )(x)
    x = layers.Conv1D(case.filters, 10, strides=3, name="a_last")(x)
    x = layers.BatchNormalization(scale=False, name="kernel")(x)
    x = layers.Activation("relu", name="omega")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(case.width, name="mix")(x)
    x = layers.BatchNormalization(name="beta2")(x)
    x = layers.Activation("relu", name="rho")(x)

    box_names = ("zebra", "fc_box_0", "fc_offset_1")
    offset_names = ("fc_box_2", "otter", "conc_box_0")
    output_names = ("line_9", "fc_offset_0", "line_2")
    offsets = {}
    for i in (2, 0, 1):
        head = layers.Dense(case.nboxes, activation="sigmoid", name=offset_names[i])
        offsets[i] = rescale_offset("rescaling", head(x))
    outputs = {}
    for i in (1, 2, 0):
        box = layers.Dense(case.nboxes, activation="sigmoid", name=box_names[i])(x)
        outputs[i] = layers.Concatenate(name=output_names[i])([box, offsets[i]])
    return keras.Model(inputs, [outputs[i] for i in range(case.nlines)])


CASES = (
    Case("valid", nlines=7),
    Case("valid_rescaled", nlines=7, rescale="rescaling"),
    Case("same", convs=(Conv(10, 2, "same"),) * 4, rescale="rescaling"),
    Case(
        "odd_same",
        convs=(
            Conv(5, 2, "same"),
            Conv(7, 2, "same"),
            Conv(5, 2, "same"),
            Conv(7, 2, "same"),
        ),
        rescale="rescaling",
    ),
    Case("stride3", convs=(Conv(10, 3), Conv(4, 3, "same")), rescale="rescaling"),
    Case("epsilon", epsilon=1e-2, variance=(0.001, 0.05)),
    Case("nine_boxes", convs=(Conv(10, 2),) * 2, nlines=5, nboxes=9),
    # Strides of 2 in five places, to keep the dense layer small.
    Case(
        "deep",
        convs=tuple(Conv(3, 1 + (i % 2), "same") for i in range(11)),
        rescale="rescaling",
    ),
    Case("linear_grid", nbins=458, linear_grid=True),
    Case("options", nlines=3, options=True),
    Case("lambda_k3", rescale="lambda"),
)


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Build and run networks in `dtype` within the block."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    # Keras' own type promotion turns float64 into float32 whatever the policy says, and
    # BatchNormalization.call goes through it.
    promotion = keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE
    try:
        with mock.patch.dict(promotion, float64="float64"):
            yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def spectra(nbins: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Make noise with a few broad emission lines, normalised as spectra are."""
    bins = np.arange(nbins)
    flux = rng.normal(size=(NSPEC, nbins))
    for i, _ in itertools.product(range(NSPEC), range(4)):
        centre, sigma = rng.uniform(0, nbins), rng.uniform(2, 15)
        flux[i] += rng.uniform(1, 8) * np.exp(-0.5 * ((bins - centre) / sigma) ** 2)
    flux -= flux.mean(axis=1, keepdims=True)
    flux /= flux.std(axis=1, keepdims=True)
    # Steps of 1/64 compress well.
    return (np.round(flux * 64) / 64).astype(np.float32)[..., np.newaxis]


def heads(model: keras.Model) -> list[keras.Layer]:
    """Return the dense layers that make boxes and offsets."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, layers.Dense) and layer.activation.__name__ == "sigmoid"
    ]


def randomise(
    model: keras.Model,
    variance: tuple[float, float],
    x: NDArray[np.floating],
    rng: np.random.Generator,
) -> None:
    """Set weights under which every layer matters and few outputs saturate.

    Kernels are scaled by their fan-in and by the moving variance of the batch
    normalisation after them, whose output is thus of order 1. Those of the heads are
    scaled to the output of the trunk for `x`.
    """
    gain = 1.4 * float(np.sqrt(np.mean(variance)))
    weights = []
    for weight in model.weights:
        shape = weight.shape
        if weight.name == "kernel":
            value = rng.normal(0, gain / np.sqrt(np.prod(shape[:-1])), shape)
        elif weight.name == "gamma":
            # A trained gamma may be negative.
            sign = rng.choice([1, 1, 1, -1], size=shape)
            value = sign * rng.uniform(0.5, 1.5, shape)
        elif weight.name == "moving_variance":
            value = rng.uniform(*variance, shape)
        elif weight.name == "beta":
            value = rng.normal(0, 0.3, shape)
        else:  # bias or moving_mean
            value = rng.normal(0, 0.3 * gain, shape)
        weights.append(value)
    model.set_weights(weights)

    trunk = keras.Model(model.inputs, heads(model)[0].input)
    length = np.sqrt(np.mean(np.sum(trunk.predict(x, verbose=0) ** 2, axis=-1)))
    for head in heads(model):
        kernel, bias = head.get_weights()
        kernel *= LOGIT_STD / length / np.std(kernel)
        head.set_weights([kernel, bias / gain])


def evaluate(model: keras.Model, x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return what Keras predicts, stacked over the lines."""
    return np.stack(model.predict(x, batch_size=NSPEC, verbose=0))


def save_h5(model: keras.Model, path: Path) -> None:
    """Write the legacy HDF5 file of a network, without the padding in it.

    Half of what Keras writes for networks of this size is unused room. So it writes to
    memory, with the compact groups of HDF5 1.8, and all objects and attributes are
    copied from there, types and all.
    """
    compact = {"libver": ("v108", "v108"), "meta_block_size": 256}
    with (
        h5py.File("memory", "w", driver="core", backing_store=False, **compact) as full,
        h5py.File(path, "w", **compact) as packed,
    ):
        keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(model, full)
        for name, value in full.attrs.items():
            packed.attrs.create(name, value, dtype=full.attrs.get_id(name).dtype)
        for name in full:
            full.copy(name, packed)


def save_keras(model: keras.Model, path: Path) -> None:
    """Write the Keras 3 file of a network, deflating the members of the archive."""
    model.save(path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as deflated:
        for name, content in members.items():
            deflated.writestr(name, content)


def save(model: keras.Model, case: Case) -> None:
    """Write the files of a network."""
    h5, archive = OUT / f"{case.name}.h5", OUT / f"{case.name}.keras"
    if case.name == UNPACKED:
        model.save(h5)
    else:
        save_h5(model, h5)
    if case.linear_grid:
        with h5py.File(h5, "a") as file:
            file["model_grid"] = np.round(3600 + 13.6 * np.arange(case.nbins), 1)
            file.attrs["grid_spacing"] = "linear"
    else:
        save_keras(model, archive)


def make(case: Case, rng: np.random.Generator) -> None:
    """Make the files of one case."""
    build = with_options if case.options else quasarnet
    x = spectra(case.nbins, rng)
    with precision("float64"):
        keras.utils.clear_session()  # so that automatic names start from 0
        model = build(case)
        randomise(model, case.variance, x, rng)
        weights = [weight.astype(np.float32) for weight in model.get_weights()]
        model.set_weights(weights)
        y64 = evaluate(model, x.astype(np.float64))
    with precision("float32"):
        keras.utils.clear_session()
        model = build(case)
        model.set_weights(weights)
        y = evaluate(model, x)
    save(model, case)
    np.savez_compressed(OUT / f"{case.name}.npz", x=x, y=y, y64=y64)


def main() -> None:
    """Make every case."""
    OUT.mkdir(exist_ok=True)
    for seed, case in enumerate(CASES):
        make(case, np.random.default_rng(seed))


if __name__ == "__main__":
    main()
