"""From the outputs of the network to lines, redshifts and quasars."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ._xp.backend import (
    Array,
    array_namespace,
    backend_of,
    device,
    real_floating,
    to_device,
    to_float64_device,
)
from ._xp.shapes import check_shapes
from .grids import wave as _wave
from .lines import rest_wavelengths

__all__ = ["Decoded", "decode", "is_quasar", "prior_width", "process_preds"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """Hold what the network says of n spectra, in float64.

    Attributes
    ----------
    c_line, z_line : array, shape (nlines, n)
        Confidence and redshift of each emission line.
    c_line_bal, z_line_bal : array, shape (nlines_bal, n)
        The same for the broad absorption lines.
    zbest, cbest : array, shape (n,)
        Redshift and confidence of the most confident emission line.
    """

    c_line: Array
    z_line: Array
    c_line_bal: Array
    z_line_bal: Array
    zbest: Array
    cbest: Array


def decode(
    preds: Sequence[Array] | Array,
    lines: Sequence[str],
    lines_bal: Sequence[str] = (),
    wave: Array = _wave,
) -> Decoded:
    """Decode the boxes and offsets of each line.

    Parameters
    ----------
    preds : sequence of array, shape (n, 2 * nboxes)
        Output of ``model.predict``: for each line the boxes, then the offsets; a list,
        or one array with the lines first.
    lines, lines_bal : sequence of str
        Names of the emission and of the broad absorption lines, in that order in
        `preds`; keys of `absorber_IGM`.
    wave : array, shape (nbins,), optional
        Grid of the network in Angstrom.

    Returns
    -------
    Decoded

    Raises
    ------
    ValueError
        If `preds` has not one array for each line, or these or `wave` are of other
        shapes, or a line is unknown.

    Notes
    -----
    Busca & Balland 2018, arXiv:1808.09955, section 3: the box with the largest value
    has the line, that value is the confidence, and the line is at the fractional bin
    ``(box + offset) * nbins / nboxes``. Its wavelength is interpolated linearly and
    clamped at the ends of the grid.

    Examples
    --------
    >>> preds = [np.asarray([[0.1, 0.9, 0.5, 0.0]])]
    >>> grid = np.asarray([4000.0, 4862.68, 6000.0, 7000.0])
    >>> found = decode(preds, ["LYA"], wave=grid)
    >>> found.c_line.tolist(), found.zbest.round(4).tolist()
    ([[0.9]], [3.9355])
    """
    count = len(lines) + len(lines_bal)
    if not isinstance(preds, Sequence):
        (array,) = real_floating(preds=preds)
        preds = [array[i, ...] for i in range(array.shape[0] if array.ndim else 0)]
    if len(preds) != count or not count:
        msg = (
            f"preds has {len(preds)} arrays; {len(lines)} lines and {len(lines_bal)}"
            " BAL lines need one each"
        )
        raise ValueError(msg)
    outputs = [real_floating(preds=output)[0] for output in preds]
    outputs = list(to_float64_device(*outputs))
    wave = _checked_grid(wave)
    shape = tuple(outputs[0].shape)
    if len(shape) != 2 or shape[1] < 2 or shape[1] % 2:
        msg = f"preds must hold arrays (n, 2 * nboxes), got shape {shape}"
        raise ValueError(msg)
    check_shapes(**{f"preds[{i}]": (x, "n 2*nboxes") for i, x in enumerate(outputs)})
    xp = array_namespace(*outputs)
    stack = xp.astype(xp.stack(outputs), xp.float64)
    backend = backend_of(stack)
    nboxes = shape[1] // 2
    boxes = stack[:, :, :nboxes]
    box = xp.argmax(boxes, axis=2)
    # And not the maximum, which drops NaN on some libraries.
    confidence, offset = pick(box, 2, boxes, stack[:, :, nboxes:])
    position = (xp.astype(box, xp.float64) + offset) * (int(wave.shape[0]) / nboxes)
    rest = to_device(rest_wavelengths([*lines, *lines_bal]), backend)
    observed = _interpolate(to_device(wave, backend, "float64"), position)
    z = observed / xp.reshape(rest, (count, 1)) - 1
    split = len(lines)
    c_line, z_line = confidence[:split, :], z[:split, :]
    if split:
        zbest, cbest = pick(xp.argmax(c_line, axis=0), 0, z_line, c_line)
    else:
        zbest = cbest = xp.full_like(z[0, :], xp.nan)
    return Decoded(c_line, z_line, confidence[split:, :], z[split:, :], zbest, cbest)


def _checked_grid(wave: Array) -> Array:
    """Check that a grid is an array of wavelengths, and not empty."""
    (wave,) = real_floating(wave=wave)
    check_shapes(wave=(wave, "nbins"))
    if not wave.shape[0]:
        msg = "wave has no bins"
        raise ValueError(msg)
    return wave


def pick(index: Array, axis: int, *arrays: Array) -> list[Array]:
    """Take from each array the element that `index` names along an axis."""
    xp = array_namespace(index, *arrays)
    size = arrays[0].shape[axis]
    shape = [1] * arrays[0].ndim
    shape[axis] = size
    indices = xp.arange(size, dtype=index.dtype, device=device(index))
    chosen = xp.reshape(indices, tuple(shape)) == xp.expand_dims(index, axis=axis)
    zero = xp.zeros((), dtype=arrays[0].dtype, device=device(index))
    # One term of each sum is not zero, so that the sum is exact.
    return [xp.sum(xp.where(chosen, x, zero), axis=axis) for x in arrays]


def _interpolate(values: Array, position: Array) -> Array:
    """Interpolate linearly between neighbouring values, clamped at the ends."""
    xp = array_namespace(values, position)
    ends = {"dtype": xp.float64, "device": device(position)}
    first, last = xp.zeros((), **ends), xp.full((), values.shape[0] - 1.0, **ends)
    # The last value has a neighbour as well, which is itself.
    values = xp.concat([values, values[-1:]], axis=0)
    clamped = xp.where(position > 0, xp.minimum(position, last), first)  # NaN is not
    low = xp.floor(clamped)
    index = xp.reshape(xp.astype(low, xp.int64), (-1,))
    left = xp.reshape(xp.take(values, index), low.shape)
    right = xp.reshape(xp.take(values, index + 1), low.shape)
    between = left + (clamped - low) * (right - left)
    return xp.where(xp.isnan(position), position, between)


def process_preds(
    preds: Sequence[Array] | Array,
    lines: Sequence[str],
    lines_bal: Sequence[str],
    verbose: bool = False,
    wave: Array = _wave,
) -> tuple[Array, Array, Array, Array, Array]:
    """Decode the output of ``model.predict``, under QuasarNP's name.

    Parameters
    ----------
    preds, lines, lines_bal, wave : as for `decode`
    verbose : bool, optional
        Log the numbers of spectra and boxes, or write them to stderr where logging is
        not set up.

    Returns
    -------
    c_line, z_line : array of float64, shape (nlines, n)
        Confidence and redshift of each line.
    zbest : array of float64, shape (n,)
        Redshift of the most confident line.
    c_line_bal, z_line_bal : array of float64, shape (nlines_bal, n)
        The same for the broad absorption lines.

    Raises
    ------
    ValueError
        As for `decode`.

    Examples
    --------
    >>> preds = [np.asarray([[0.1, 0.9, 0.5, 0.0]])]
    >>> c_line, z_line, zbest, c_bal, z_bal = process_preds(preds, ["LYA"], [])
    >>> c_line.tolist(), zbest.round(2).tolist()
    ([[0.9]], [3.93])
    """
    found = decode(preds, lines, lines_bal, wave)
    if verbose:
        nboxes = int(preds[0].shape[-1]) // 2
        line = f"nspec = {found.zbest.shape[0]}, nboxes = {nboxes}"
        if _log.hasHandlers():
            _log.info(line)
        elif sys.stderr is not None:
            sys.stderr.write(f"INFO: {line}\n")
    return found.c_line, found.z_line, found.zbest, found.c_line_bal, found.z_line_bal


def is_quasar(c_line: Array, c_thresh: float = 0.5, n_thresh: int = 1) -> Array:
    """Tell which spectra have enough lines that are confident enough.

    Parameters
    ----------
    c_line : array, shape (nlines, n)
        Confidence of each emission line.
    c_thresh : float, optional
        A line counts where its confidence is above this.
    n_thresh : int, optional
        Number of lines that make a quasar.

    Returns
    -------
    array of bool, shape (n,)

    Examples
    --------
    >>> is_quasar(np.asarray([[0.9, 0.5], [0.1, 0.2]])).tolist()
    [True, False]
    """
    (c_line,) = real_floating(c_line=c_line)
    check_shapes(c_line=(c_line, "nlines ..."))
    xp = array_namespace(c_line)
    counted = xp.astype(c_line > c_thresh, c_line.dtype)
    return xp.sum(counted, axis=0) >= n_thresh


def prior_width(z: Array, wave: Array = _wave, nboxes: int = 13) -> Array:
    """Compute the full width of the redshift prior to hand to redrock.

    Parameters
    ----------
    z : array or float, any shape
        Redshifts.
    wave : array, shape (nbins,), optional
        Grid of the network in Angstrom.
    nboxes : int, optional
        Boxes a line has on that grid.

    Returns
    -------
    array, shape of `z`
        Two boxes, ``2 * (10 ** ((log10 g[-1] - log10 g[0]) / nboxes) - 1) * (1 + z)``.

    Notes
    -----
    The formula of desispec's ``scripts/qsoqn.py``, for ``rrdesi --priors``.

    Examples
    --------
    >>> round(float(prior_width(2.0)), 4)
    0.4886
    """
    (z,), wave = real_floating(z=z), _checked_grid(wave)
    box = math.log10(float(wave[-1]) / float(wave[0])) / nboxes
    return 2 * (10**box - 1) * (1 + z)
