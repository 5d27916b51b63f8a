"""Weights files in the formats of today: Keras 3 and ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import WeightsError
from ..io._files import atomic_path, atomic_write, ensure_name, ensure_writable
from ..io.weights import load_model
from ..io.weights._attributes import Attributes
from ._keras import SUFFIXES, import_keras, keras_network, save_network
from ._onnx import import_onnx, onnx_network, run_onnx

ONNX = ".onnx"
#: Spectra on which old and new are compared, and what float32 may make of them.
_SPECTRA, _TOLERANCE = 64, 1e-5


def convert(
    filename: str | Path,
    output: str | Path,
    *,
    wave: ArrayLike | None = None,
    lines: Sequence[str] | None = None,
    lines_bal: Sequence[str] | None = None,
    c_thresh: float | None = None,
    overwrite: bool = False,
) -> float:
    """Write the network of a weights file anew, for Keras 3 or as ONNX.

    Parameters
    ----------
    filename : str or pathlib.Path
        Weights file of any of the kinds that `qnp_xp.load_model` takes, such as Keras 2
        HDF5 with Lambda layers, which Keras 3 cannot load.
    output : str or pathlib.Path
        File to write: Keras 3 if it ends in ``.keras`` or ``.h5``, ONNX if in
        ``.onnx``.
    wave, lines, lines_bal : optional
        Grid and names of the outputs, as for `qnp_xp.load_model`.
    c_thresh : float, optional
        Confidence above which a line of this network counts, 0 to 1, instead of the
        one in the file.
    overwrite : bool
        Replace `output` if it is there.

    Returns
    -------
    float
        Largest difference between the outputs of both files on made-up spectra: those
        of the old one computed in float64, and of the new one by Keras and this package
        or by ONNX' own interpreter in float32.

    Raises
    ------
    MissingLibraryError
        If Keras 3 with PyTorch, or onnx, is not installed.
    FileNotFoundError, WeightsError
        As for `qnp_xp.load_model`; or if the outputs differ by more than rounding.
    FileExistsError
        If `output` is there and is not to be replaced.
    ValueError
        If `output` has another suffix or is the input, or another argument is wrong.

    Notes
    -----
    Batch normalization is folded into the layers before it, in float64, and Lambda
    layers become Rescaling layers. Grid, names and threshold are in the new file; see
    the data model. It is written whole or not at all, once it was read again and
    compared.

    Examples
    --------
    >>> import qnp_xp
    >>> qnp_xp.convert("keras2.h5", "keras3.keras")  # doctest: +SKIP
    3.6e-07
    """
    for name, what in ((filename, "filename"), (output, "output")):
        ensure_name(name, what)
    target = Path(output)
    if target.suffix not in (*SUFFIXES, ONNX):
        msg = f"{output}: must end in {', '.join(SUFFIXES)} or {ONNX}"
        raise ValueError(msg)
    ensure_writable(target, overwrite, [filename])
    if not Path(filename).exists():
        msg = f"{filename}: no such weights file"
        raise FileNotFoundError(msg)
    import_onnx() if target.suffix == ONNX else import_keras()
    old = load_model(
        filename, dtype="float64", wave=wave, lines=lines, lines_bal=lines_bal
    )
    names = old.lines, old.lines_bal
    c_thresh = old.c_thresh if c_thresh is None else c_thresh
    sizes = old.nbins, old.nlines
    said = Attributes.checked(*sizes, old.wave, *names, c_thresh)
    x = np.random.default_rng(0).normal(size=(_SPECTRA, old.nbins)).astype(np.float32)
    with atomic_path(target) as temporary:
        new = temporary.with_name(f"network{target.suffix}")
        if target.suffix == ONNX:
            content = onnx_network(old.network, said).SerializeToString()
            atomic_write(new, content)
            found = [np.swapaxes(run_onnx(new, x), 0, 1)]
        else:
            settings: dict[str, Any] = {"c_thresh": said.c_thresh, "wave": old.wave}
            settings |= {"lines": old.lines, "lines_bal": old.lines_bal}
            save_network(keras_network(old.network), new, **settings)
            found = [_run_keras(new, x), np.stack(load_model(new).predict(x))]
        expected = np.stack(old.predict(x))
        difference = max(float(np.abs(one - expected).max()) for one in found)
        if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
            what = f"would differ by {difference:.1e}, more than rounding explains"
            msg = f"{filename}: outputs of {target.name} {what}"
            raise WeightsError(msg)
        new.replace(temporary)
    return difference


def _run_keras(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a file in Keras itself: outputs by line."""
    model = import_keras().models.load_model(path, compile=False)
    outputs = model.predict(x[:, :, None], verbose=0)
    return np.stack(outputs if isinstance(outputs, list) else [outputs])
