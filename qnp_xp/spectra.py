"""From the pixels of a spectrograph's arms to the input of the network.

Pure array functions: the pixels of all arms are summed into the bins of one grid,
weighted by their inverse variance, then each spectrum is normalised.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ._backend import (
    Array,
    Backend,
    array_namespace,
    backend_of,
    device,
    to_device,
    to_host,
)
from .grids import BLOCK, bin_blocks, from_key, grid_key, wave
from .padding import fill_rows

__all__ = ["clean", "combine", "normalize", "rebin", "renormalize"]

# Spectra of one matrix product. The shape is always the same, the last tile being
# filled up with zeros: a product of another shape may add in another order, and the
# bits of a spectrum would depend on how many others came with it.
_ROWS = 64

# A spectrum whose rms is below this part of its mean is rounding noise on a constant.
_FLAT = 1e-10

# Pixels beyond this are as good as infinite: sums of squares would overflow.
_LARGEST = 1e100


def clean(flux: Array, ivar: Array) -> tuple[Array, Array, Array]:
    """Give no weight to pixels that cannot be used.

    Parameters
    ----------
    flux
        Flux, shape ``(n, npix)``, any real floating-point dtype.
    ivar
        Inverse variance of the flux, of the same shape.

    Returns
    -------
    flux, ivar : array
        Of the same shape and dtype, zero where the flux is NaN or infinite or where
        the inverse variance is NaN, infinite, negative or zero. Beyond 1e100 counts
        as infinite.
    cleaned : array of bool
        Shape ``(n,)``: whether a pixel was left out that had a weight or an
        impossible one. A NaN flux of weight 0 is usual and does not count.
    """
    xp = array_namespace(flux, ivar)
    zero = xp.zeros_like(flux)
    sane = (ivar >= 0) & (ivar <= _largest(ivar))
    finite = xp.abs(flux) <= _largest(flux)
    used = sane & finite & (ivar > 0)
    suspect = ~sane | (~finite & (ivar != 0))
    return (
        xp.where(used, flux, zero),
        xp.where(used, ivar, xp.zeros_like(ivar)),
        xp.any(suspect, axis=1),
    )


def _largest(x: Array) -> float:
    xp = array_namespace(x)
    return min(_LARGEST, float(xp.finfo(x.dtype).max))


def rebin(
    flux: Array, ivar: Array, w_grid: Array, out_grid: Array = wave
) -> tuple[Array, Array]:
    """Sum the pixels of spectra into the bins of a grid.

    Parameters
    ----------
    flux
        Flux, shape ``(n, npix)``.
    ivar
        Inverse variance of the flux, of the same shape. Pixels without a usable flux
        or weight count for nothing; see `clean`.
    w_grid
        Wavelengths of the pixels in Angstrom, shape ``(npix,)``, in any order; those
        off the grid are left out.
    out_grid
        Grid of constant linear or logarithmic spacing, shape ``(nbins,)``, Angstrom.

    Returns
    -------
    flux_sum, ivar_sum : array
        Sums of ``flux * ivar`` and of ``ivar`` over the pixels of each bin, shape
        ``(n, nbins)``, float64, on the device of `flux`. As in QuasarNP, the first is
        not yet divided by the second: sums of several arms can be added. `combine`
        adds and divides.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a grid is none.

    Notes
    -----
    Busca & Balland 2018, arXiv:1808.09955, section 2. The sums are products with a
    banded matrix of zeros and ones: no scatter, so that they have the same bits on
    every run.
    """
    _check_shapes(w_grid, flux, ivar)
    flux, ivar, _ = _clean_if_needed(flux, ivar)
    return _sum_bins([(w_grid, flux, ivar)], out_grid)


def _check_shapes(w_grid: Array, flux: Array, ivar: Array) -> None:
    shape, npix = tuple(flux.shape), int(w_grid.shape[0])
    if len(shape) != 2 or shape != tuple(ivar.shape) or shape[1] != npix:
        msg = (
            f"flux {shape} and ivar {tuple(ivar.shape)} must both have the shape"
            f" (n, {npix}) that the {npix} wavelengths ask for"
        )
        raise ValueError(msg)


def _usable(x: Array, lowest: float) -> bool:
    """Whether all of an array is in range; False where anything is NaN."""
    xp = array_namespace(x)
    if 0 in x.shape:
        return True
    return bool(xp.min(x) >= lowest) and bool(xp.max(x) <= _largest(x))


def _clean_if_needed(flux: Array, ivar: Array) -> tuple[Array, Array, Array]:
    """`clean`, left out where it would change nothing: a look costs a tenth of it."""
    xp = array_namespace(flux, ivar)
    if _usable(ivar, 0.0) and _usable(flux, -_largest(flux)):
        return (
            flux,
            ivar,
            xp.zeros((flux.shape[0],), dtype=xp.bool, device=device(flux)),
        )
    return clean(flux, ivar)


def _sum_bins(
    arms: Sequence[tuple[Array, Array, Array]], out_grid: Array
) -> tuple[Array, Array]:
    """Sums of ``flux * ivar`` and of ``ivar`` in each bin, over clean arms."""
    xp = array_namespace(arms[0][1])
    backend = backend_of(arms[0][1])
    grid = grid_key(to_host(out_grid))
    plans = [_plan(grid_key(to_host(w_grid)), grid, backend) for w_grid, *_ in arms]
    n, nbins = arms[0][1].shape[0], int(out_grid.shape[0])
    tiles = []
    for first in range(0, n, _ROWS):
        rows = slice(first, min(first + _ROWS, n))
        parts = [(flux[rows, :], ivar[rows, :]) for _, flux, ivar in arms]
        sums = _sum_tile(parts, plans)
        tiles.append([x[: rows.stop - first, :nbins] for x in sums])
    if not tiles:
        empty = xp.zeros((0, nbins), dtype=xp.float64, device=device(arms[0][1]))
        return empty, empty
    weighted, weights = zip(*tiles, strict=True)
    return xp.concat(weighted, axis=0), xp.concat(weights, axis=0)


@dataclass(frozen=True)
class _Plan:
    """How the pixels of an arm are summed, on the device of its spectra."""

    order: Array | None
    blocks: tuple[tuple[int, slice, Array], ...]
    count: int


@functools.lru_cache(maxsize=64)
def _plan(w_grid: bytes, out_grid: bytes, backend: Backend) -> _Plan:
    """The plan for a pair of grids, given by their keys."""
    order, blocks = bin_blocks(from_key(w_grid), from_key(out_grid))
    return _Plan(
        None if order is None else to_device(order, backend),
        tuple(
            (number, block.pixels, to_device(block.matrix, backend))
            for number, block in enumerate(blocks)
            if block.pixels.stop > block.pixels.start
        ),
        len(blocks),
    )


def _sum_tile(
    parts: Sequence[tuple[Array, Array]], plans: Sequence[_Plan]
) -> tuple[Array, Array]:
    """`_sum_bins` for one tile of spectra."""
    xp = array_namespace(parts[0][0])
    blocks: list[Array | None] = [None] * plans[0].count
    for (flux, ivar), plan in zip(parts, plans, strict=True):
        weight = fill_rows(xp.astype(ivar, xp.float64), _ROWS)
        weighted = fill_rows(xp.astype(flux, xp.float64), _ROWS) * weight
        both = xp.concat([weighted, weight], axis=0)
        if plan.order is not None:
            both = xp.take(both, plan.order, axis=1)
        for number, pixels, matrix in plan.blocks:
            part = xp.matmul(both[:, pixels], matrix)
            before = blocks[number]
            blocks[number] = part if before is None else before + part
    zero = xp.zeros((2 * _ROWS, BLOCK), dtype=xp.float64, device=device(parts[0][0]))
    sums = xp.concat([zero if block is None else block for block in blocks], axis=1)
    return sums[:_ROWS, :], sums[_ROWS:, :]


def combine(
    arms: Iterable[tuple[Array, Array, Array]], out_grid: Array = wave
) -> tuple[Array, Array, Array]:
    """Average the pixels of all arms of spectra in the bins of a grid.

    Parameters
    ----------
    arms
        For each arm its wavelengths ``(npix,)`` in Angstrom, flux ``(n, npix)`` and
        inverse variance ``(n, npix)``.
    out_grid
        Grid of constant linear or logarithmic spacing, shape ``(nbins,)``, Angstrom.

    Returns
    -------
    flux : array
        ``sum(flux * ivar) / sum(ivar)`` over the pixels of each bin, 0 where nothing
        has weight; shape ``(n, nbins)``, float64.
    ivar : array
        ``sum(ivar)``, of the same shape.
    cleaned : array of bool
        Shape ``(n,)``; see `clean`.

    Raises
    ------
    ValueError
        If there is no arm, or the shapes do not fit.
    """
    cleaned = []
    good: list[tuple[Array, Array, Array]] = []
    for w_grid, flux, ivar in arms:
        _check_shapes(w_grid, flux, ivar)
        if good and flux.shape[0] != good[0][1].shape[0]:
            n = good[0][1].shape[0]
            msg = f"all arms must have one shape: {n} and {flux.shape[0]} spectra"
            raise ValueError(msg)
        flux, ivar, suspect = _clean_if_needed(flux, ivar)  # noqa: PLW2901
        good.append((w_grid, flux, ivar))
        cleaned.append(suspect)
    if not good:
        msg = "combine() needs one arm or more"
        raise ValueError(msg)
    flux_sum, ivar_sum = _sum_bins(good, out_grid)
    xp = array_namespace(flux_sum)
    one = xp.ones_like(ivar_sum)
    mean = flux_sum / xp.where(ivar_sum > 0, ivar_sum, one)
    return mean, ivar_sum, functools.reduce(operator.or_, cleaned)


def normalize(flux: Array, ivar: Array) -> tuple[Array, Array, Array]:
    """Subtract the weighted mean of each spectrum and divide by its weighted rms.

    Parameters
    ----------
    flux
        Flux in bins, shape ``(n, nbins)``, floating-point.
    ivar
        Weights, of the same shape, not negative.

    Returns
    -------
    x : array
        Normalised spectra, of the same shape and dtype (computed in float64); zeros
        where the next two are not True.
    weighted : array of bool
        Shape ``(n,)``: some bin has weight.
    varied : array of bool
        Shape ``(n,)``: the rms is not zero, up to rounding, and neither flux nor
        weights are beyond 1e100, or NaN.

    Notes
    -----
    Busca & Balland 2018, arXiv:1808.09955, section 2. Bins without weight are
    normalised like the others, so that the zeros in them become ``-mean / rms``: the
    networks were trained on that.
    """
    xp = array_namespace(flux, ivar)
    dtype = flux.dtype
    flux, ivar = xp.astype(flux, xp.float64), xp.astype(ivar, xp.float64)
    small = (xp.abs(flux) <= _largest(flux)) & (ivar <= _largest(ivar))
    small = xp.all(small, axis=1, keepdims=True)
    flux = xp.where(small, flux, xp.zeros_like(flux))
    weighted = xp.any(ivar > 0, axis=1, keepdims=True)
    ivar = xp.where(small, ivar, xp.zeros_like(ivar))
    weight = xp.sum(ivar, axis=1, keepdims=True)
    safe = xp.where(weight > 0, weight, xp.ones_like(weight))
    mean = xp.sum(flux * ivar, axis=1, keepdims=True) / safe
    centred = flux - mean
    rms = xp.sqrt(xp.sum(centred * centred * ivar, axis=1, keepdims=True) / safe)
    varied = small & (rms > _FLAT * xp.abs(mean))
    usable = weighted & varied
    x = xp.where(
        usable,
        centred / xp.where(usable, rms, xp.ones_like(rms)),
        xp.zeros_like(centred),
    )
    x = xp.astype(x, dtype, copy=False)
    return x, xp.reshape(weighted, (-1,)), xp.reshape(varied, (-1,))


def renormalize(flux: Array, ivar: Array) -> Array:
    """Normalise spectra for the network, under QuasarNP's name.

    Parameters
    ----------
    flux
        Flux in bins, shape ``(n, nbins)``, floating-point.
    ivar
        Weights, of the same shape, not negative.

    Returns
    -------
    array
        Of the same shape; a spectrum without weight or without variance becomes
        zeros, where QuasarNP raises or returns NaN.

    See Also
    --------
    normalize : also says which spectra these are.
    """
    return normalize(flux, ivar)[0]
