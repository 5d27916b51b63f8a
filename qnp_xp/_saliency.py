"""Which bins of a spectrum the confidence of a line rests on."""

from __future__ import annotations

from dataclasses import dataclass

from ._xp.backend import (
    Array,
    array_namespace,
    device,
    real_floating,
    to_device,
    to_host,
)
from ._xp.libraries import can_differentiate, differentiate, find_differentiable
from ._xp.shapes import check_shapes
from .decode import pick
from .errors import DeviceError
from .lines import column_names
from .model import QuasarNP

# Spectra at a time: what the network computed of each is kept until its gradient is
# done, some 2 MB in float32.
_BLOCK = 128


def saliency(x: Array, model: QuasarNP, line: str) -> Array:
    """Differentiate the confidence of a line by the bins of each spectrum.

    Parameters
    ----------
    x : array, shape (n, nbins) or (n, nbins, 1)
        Normalised spectra of any array library, as for `QuasarNP.predict`. Moved to the
        model's device, and never changed.
    model : QuasarNP
        On a library that differentiates: ``load_model(xp=torch)`` or
        ``load_model(xp=jax.numpy)``.
    line : str
        A name of ``model.lines``, such as ``"CIV(1548)"``, or short as in the columns
        of a table: ``"CIV"``. Broad absorption is ``"BAL_"`` and a name of
        ``model.lines_bal``: ``"BAL_CIV(1548)"`` or ``"BAL_CIV"``.

    Returns
    -------
    array, shape of `x`
        Change of the confidence with the value of each bin, in the model's namespace
        and dtype. Zeros for a spectrum of zeros, which is what `qnp_xp.spectra`
        makes of one without weight; NaN where the confidence is NaN.

    Raises
    ------
    DeviceError
        If the model is on a library that does not differentiate, such as numpy.
    ValueError
        If the shape of `x` is neither of the above, or the model has no such line.
    TypeError
        If the numbers of `x` are not real.

    Notes
    -----
    Simonyan, Vedaldi & Zisserman 2013, arXiv:1312.6034, section 3, with its sign: more
    flux in a bin raises the confidence where it is positive. The confidence is that of
    `qnp_xp.decode.decode`, the largest box; where another box becomes the largest, the
    gradient jumps. It says what a small change would do, and so it is small for a line
    that the network is certain of, and for one that it is certain is not there.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> from qnp_xp import load_model, saliency
    >>> model = load_model(xp=torch)  # doctest: +SKIP
    >>> saliency(np.zeros((2, model.nbins)), model, "LYA").shape  # doctest: +SKIP
    torch.Size([2, 443])
    """
    confidence = _Confidence(model, output_index(model, line))
    if not can_differentiate(model.backend.xp):
        msg = (
            "saliency needs a model on a library that differentiates, and"
            f" {model.device!r} is none: pip install torch, or jax, and load the model"
            " with xp=torch, or with xp=jax.numpy"
        )
        raise DeviceError(msg)
    (x,) = real_floating(x=x if hasattr(x, "shape") else to_host(x))
    shape = tuple(x.shape)
    spectra = x[:, :, 0] if shape[2:] == (1,) else x
    check_shapes(wave=(model.wave, "nbins"), x=(spectra, "n nbins"))
    spectra = to_device(spectra, model.backend, model.dtype)
    n, step = shape[0], min(model.tile, _BLOCK)
    blocks = [spectra[i : min(i + step, n), :] for i in range(0, max(n, 1), step)]
    xp = model.backend.xp
    slopes = xp.concat([_slopes(confidence, block) for block in blocks], axis=0)
    return xp.reshape(slopes, shape)


def output_names(model: QuasarNP) -> list[str]:
    """Name the outputs of a model as the columns of a table do."""
    absorbed = [f"BAL_{name}" for name in column_names(model.lines_bal)]
    return [*column_names(model.lines), *absorbed]


def differentiable(model: QuasarNP) -> QuasarNP:
    """Copy a model to a library that differentiates, unless it is on one."""
    if can_differentiate(model.backend.xp):
        return model
    return model.to("cpu", xp=find_differentiable())


# Compared by its content, so that JAX finds what it has compiled for it before.
@dataclass(frozen=True)
class _Confidence:
    """Compute the confidences of one output of a model, one for each spectrum."""

    model: QuasarNP
    output: int

    def __call__(self, x: Array) -> Array:
        """Run the network, and take the largest box as `decode` does."""
        xp = array_namespace(x)
        outputs = self.model.split(self.model.forward(x))[self.output]
        boxes = outputs[:, : self.model.nboxes]
        return pick(xp.argmax(boxes, axis=1), 1, boxes)[0]


def output_index(model: QuasarNP, line: str) -> int:
    """Find the output of a line by its name or that of its columns."""
    full, short = [*model.lines], output_names(model)
    full += [f"BAL_{name}" for name in model.lines_bal]
    if line in full:
        return full.index(line)
    if line in short:
        return short.index(line)
    known = ", ".join(short) or "not named: load it with lines= and lines_bal="
    msg = f"no line {line!r}: those of {model.weights_name} are {known}"
    raise ValueError(msg)


def _slopes(confidence: _Confidence, x: Array) -> Array:
    """Differentiate the confidences of a few spectra."""
    xp = array_namespace(x)
    value, slopes = differentiate(xp, confidence, x)
    value = xp.expand_dims(value, axis=1)
    slopes = xp.where(xp.isnan(value), value, slopes)
    empty = xp.all(x == 0, axis=1, keepdims=True)
    zero = xp.zeros((), dtype=slopes.dtype, device=device(slopes))
    return xp.where(empty, zero, slopes)
