"""From the outputs of the network to lines, redshifts and quasars."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ._xp.backend import Array, array_namespace, backend_of, device, to_device
from .grids import wave as _wave
from .lines import rest_wavelengths

__all__ = ["Decoded", "decode", "is_quasar", "prior_width", "process_preds"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """What the network says of n spectra.

    Attributes
    ----------
    c_line, z_line
        Confidence and redshift of each emission line, shape ``(nlines, n)``, float64.
    c_line_bal, z_line_bal
        The same for the broad absorption lines, shape ``(nlines_bal, n)``.
    zbest, cbest
        Redshift and confidence of the most confident emission line, shape ``(n,)``.
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
    preds
        Output of ``model.predict``: for each line an array ``(n, 2 * nboxes)``, boxes
        before offsets; a list of them, or one array with the lines first.
    lines, lines_bal
        Names of the emission and of the broad absorption lines, in that order in
        `preds`; keys of `absorber_IGM`.
    wave
        Grid of the network in Angstrom, shape ``(nbins,)``.

    Returns
    -------
    Decoded

    Raises
    ------
    ValueError
        If `preds` has not one array for each line, or a line is unknown.

    Notes
    -----
    Busca & Balland 2018, arXiv:1808.09955, section 3: the box with the largest value
    has the line, that value is the confidence, and the line is at the fractional bin
    ``(box + offset) * nbins / nboxes``. Its wavelength is interpolated linearly and
    clamped at the ends of the grid.
    """
    count = len(lines) + len(lines_bal)
    if not isinstance(preds, Sequence) and not hasattr(preds, "shape"):
        msg = f"preds is a list of arrays, one for each line, got {preds!r}"
        raise TypeError(msg)
    n_preds = len(preds) if isinstance(preds, Sequence) else int(preds.shape[0])
    if n_preds != count or not count:
        msg = (
            f"preds has {n_preds} arrays; {len(lines)} lines and {len(lines_bal)} BAL"
            " lines need one each"
        )
        raise ValueError(msg)
    first = preds[0] if isinstance(preds, Sequence) else preds[0, ...]
    if first.ndim != 2 or first.shape[1] < 2 or first.shape[1] % 2:
        msg = f"preds must hold arrays (n, 2 * nboxes), got shape {tuple(first.shape)}"
        raise ValueError(msg)
    xp = array_namespace(first)
    stack = xp.stack(list(preds)) if isinstance(preds, Sequence) else preds
    stack = xp.astype(stack, xp.float64)
    backend = backend_of(stack)
    nboxes = int(first.shape[1]) // 2
    boxes = stack[:, :, :nboxes]
    box = xp.argmax(boxes, axis=2)
    confidence = xp.max(boxes, axis=2)
    offset = _pick(stack[:, :, nboxes:], box, axis=2)
    position = (xp.astype(box, xp.float64) + offset) * (int(wave.shape[0]) / nboxes)
    rest = to_device(rest_wavelengths([*lines, *lines_bal]), backend)
    observed = _interpolate(to_device(wave, backend, "float64"), position)
    z = observed / xp.reshape(rest, (count, 1)) - 1
    split = len(lines)
    c_line, z_line = confidence[:split, :], z[:split, :]
    if split:
        best = xp.argmax(c_line, axis=0)
        zbest, cbest = _pick(z_line, best, axis=0), _pick(c_line, best, axis=0)
    else:
        zbest = cbest = xp.full_like(z[0, :], xp.nan)
    return Decoded(c_line, z_line, confidence[split:, :], z[split:, :], zbest, cbest)


def _pick(x: Array, index: Array, axis: int) -> Array:
    """Take from `x` the element that `index` names along an axis."""
    xp = array_namespace(x, index)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    places = xp.arange(x.shape[axis], dtype=index.dtype, device=device(x))
    chosen = xp.reshape(places, tuple(shape)) == xp.expand_dims(index, axis=axis)
    # One term of each sum is not zero, so that the sum is exact.
    return xp.sum(xp.where(chosen, x, xp.zeros_like(x)), axis=axis)


def _interpolate(values: Array, position: Array) -> Array:
    """Interpolate linearly between neighbouring values, clamped at the ends."""
    xp = array_namespace(values, position)
    last = int(values.shape[0]) - 1
    known = xp.where(xp.isnan(position), xp.zeros_like(position), position)
    clamped = xp.clip(known, 0.0, float(last))
    low = xp.clip(xp.astype(xp.floor(clamped), xp.int64), 0, last - 1)
    flat = xp.reshape(low, (-1,))
    left = xp.reshape(xp.take(values, flat), low.shape)
    right = xp.reshape(xp.take(values, flat + 1), low.shape)
    between = left + (clamped - xp.astype(low, xp.float64)) * (right - left)
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
    preds, lines, lines_bal, wave
        As for `decode`.
    verbose
        Log the numbers of spectra and boxes; nothing is printed.

    Returns
    -------
    c_line, z_line : array
        Confidence and redshift of each line, shape ``(nlines, n)``, float64.
    zbest : array
        Redshift of the most confident line, shape ``(n,)``.
    c_line_bal, z_line_bal : array
        The same for the broad absorption lines, shape ``(nlines_bal, n)``.

    Raises
    ------
    ValueError
        If `preds` has not one array for each line, or a line is unknown.
    """
    found = decode(preds, lines, lines_bal, wave)
    if verbose:
        nboxes = int(preds[0].shape[-1]) // 2
        _log.info("nspec = %d, nboxes = %d", found.zbest.shape[0], nboxes)
    return found.c_line, found.z_line, found.zbest, found.c_line_bal, found.z_line_bal


def is_quasar(c_line: Array, c_thresh: float = 0.5, n_thresh: int = 1) -> Array:
    """Whether enough lines are confident enough.

    Parameters
    ----------
    c_line
        Confidence of each emission line, shape ``(nlines, n)``.
    c_thresh
        A line counts where its confidence is above this.
    n_thresh
        Number of lines that make a quasar.

    Returns
    -------
    array of bool
        Shape ``(n,)``.
    """
    xp = array_namespace(c_line)
    counted = xp.astype(c_line > c_thresh, xp.int64)
    return xp.sum(counted, axis=0) >= n_thresh


def prior_width(z: Array, wave: Array = _wave, nboxes: int = 13) -> Array:
    """Full width of the redshift prior to hand to redrock.

    Parameters
    ----------
    z
        Redshifts, any shape.
    wave
        Grid of the network in Angstrom, shape ``(nbins,)``.
    nboxes
        Boxes a line has on that grid.

    Returns
    -------
    array
        Of the shape of `z`: two boxes,
        ``2 * (10 ** ((log10 g[-1] - log10 g[0]) / nboxes) - 1) * (1 + z)``.

    Notes
    -----
    The formula of desispec's ``scripts/qsoqn.py``, for ``rrdesi --priors``.
    """
    box = math.log10(float(wave[-1]) / float(wave[0])) / nboxes
    return 2 * (10**box - 1) * (1 + z)
