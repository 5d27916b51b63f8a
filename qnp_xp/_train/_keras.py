"""Networks in Keras 3, on PyTorch: the extra ``train``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from .._network.description import Network
from ..errors import MissingLibraryError
from ..grids import Grid
from ..io._files import atomic_path, ensure_writable
from ..io.weights._attributes import Attributes, embed

#: How a Keras file may end.
SUFFIXES = (".keras", ".h5")


def import_keras() -> Any:
    """Import Keras 3 on PyTorch, or say what is missing."""
    backend = os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        if backend == "torch" or "keras" in sys.modules:
            import keras  # noqa: PLC0415

            backend = keras.backend.backend()
    except ImportError as err:
        what = "training and writing Keras files need Keras 3 and PyTorch"
        msg = f"{what}: pip install '.[train]' in a checkout ({err})"
        raise MissingLibraryError(msg) from err
    if backend != "torch":
        what = f"Keras runs on {backend} here, and PyTorch is needed"
        msg = f"{what}: set KERAS_BACKEND=torch before Keras is imported"
        raise MissingLibraryError(msg)
    if int(keras.__version__.partition(".")[0]) < 3:
        msg = f"Keras 3 is needed, and Keras {keras.__version__} is installed"
        raise MissingLibraryError(msg)
    return keras


def keras_network(network: Network) -> Any:
    """Build a network in Keras, with QuasarNET's names of layers.

    Batch normalization stays folded into the layers before it.
    """
    keras = import_keras()
    layers = keras.layers
    given: list[tuple[str, Any]] = []

    def dense(name: str, x: Any, layer: Any) -> Any:
        given.append((name, layer))
        units, activation = layer.bias.size, layer.activation
        return layers.Dense(units, activation=activation, name=name)(x)

    spectrum = x = keras.Input((network.nbins, 1), name="spectrum")
    for i, conv in enumerate(network.convs, 1):
        size, _, filters = conv.kernel.shape
        settings = {"padding": conv.padding, "activation": conv.activation}
        layer = layers.Conv1D(filters, size, conv.stride, **settings, name=f"conv_{i}")
        x = layer(x)
        given.append((f"conv_{i}", conv))
    x = layers.Flatten(name="flatten")(x)
    for i, common in enumerate(network.trunk, 1):
        x = dense("fc_common" if i == 1 else f"fc_common_{i}", x, common)
    outputs = []
    for i, head in enumerate(network.heads):
        box = dense(f"fc_box_{i}", x, head.box)
        offset = dense(f"fc_offset_{i}", x, head.offset)
        if (head.scale, head.shift) != (1.0, 0.0):
            name = f"rescaling_{i}"
            offset = layers.Rescaling(head.scale, offset=head.shift, name=name)(offset)
        outputs.append(layers.Concatenate(name=f"conc_box_{i}")([box, offset]))
    model = keras.Model(spectrum, outputs, name="QuasarNET")
    for name, layer in given:
        model.get_layer(name).set_weights([layer.kernel, layer.bias])
    return model


def save_network(
    model: Any,
    path: str | Path,
    *,
    wave: ArrayLike,
    lines: Sequence[str] = (),
    lines_bal: Sequence[str] = (),
    c_thresh: float | None = None,
    overwrite: bool = False,
) -> None:
    """Write a Keras model, and in it its grid, lines and threshold.

    The file is whole or not there, and its suffix says of which kind it is. Without
    `lines` and `lines_bal`, or without a threshold, it has none.
    """
    target = Path(path)
    if target.suffix not in SUFFIXES:
        msg = f"{path}: a Keras file ends in {' or '.join(SUFFIXES)}"
        raise ValueError(msg)
    ensure_writable(target, overwrite)
    sizes = model.input_shape[1], len(model.outputs)
    said = Attributes.checked(*sizes, wave, lines, lines_bal, c_thresh)
    Grid.from_wave(wave)
    with atomic_path(target) as temporary:
        # A link may lead to a file of another suffix, by which Keras goes.
        raw = temporary.with_name(f"raw{target.suffix}")
        # A copy has no optimizer, and no loss that Keras might not find again.
        copy = type(model).from_config(model.get_config())
        copy.set_weights(model.get_weights())
        with _quiet():
            copy.save(raw)
        embed(raw.read_bytes(), temporary, said, repack=True)
        raw.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Keras write HDF5 without the advice not to."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
