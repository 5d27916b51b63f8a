"""From the pixels of a spectrograph's arms to the input of the network.

Pure array functions: the pixels of all arms are summed into the bins of one grid,
weighted by their inverse variance, then each spectrum is normalised.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

from ._xp.backend import Array, array_namespace, device
from .binning import sum_bins, sum_bins_apart
from .grids import wave

__all__ = [
    "average",
    "clean",
    "combine",
    "normalize",
    "rebin",
    "renormalize",
    "sum_arms",
]

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
        off the grid are left out. Of shape ``(n, npix)``, those of each spectrum.
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
    if len(w_grid.shape) == 2:
        return sum_bins_apart(w_grid, flux, ivar, out_grid)
    return sum_bins([(w_grid, flux, ivar)], out_grid)


def _check_shapes(w_grid: Array, flux: Array, ivar: Array) -> None:
    array_namespace(flux, ivar)  # complains of what is no array
    shape, npix = tuple(flux.shape), int(w_grid.shape[-1])
    if len(w_grid.shape) == 2 and tuple(w_grid.shape) != shape:
        msg = f"wavelengths of shape {tuple(w_grid.shape)} for flux of shape {shape}"
        raise ValueError(msg)
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


def sum_arms(
    arms: Iterable[tuple[Array, Array, Array]], out_grid: Array = wave
) -> tuple[Array, Array, Array]:
    """Sum the pixels of all arms of spectra into the bins of a grid.

    Parameters
    ----------
    arms
        For each arm its wavelengths ``(npix,)`` in Angstrom, flux ``(n, npix)`` and
        inverse variance ``(n, npix)``. Wavelengths ``(n, npix)`` are those of each
        spectrum.
    out_grid
        Grid of constant linear or logarithmic spacing, shape ``(nbins,)``, Angstrom.

    Returns
    -------
    flux_sum, ivar_sum : array
        As for `rebin`. Sums of spectra of the same target can be added.
    cleaned : array of bool
        Shape ``(n,)``; see `clean`.

    Raises
    ------
    ValueError
        If there is no arm, or the shapes do not fit.
    """
    cleaned: list[Array] = []
    shared: list[tuple[Array, Array, Array]] = []
    apart: list[tuple[Array, Array, Array]] = []
    first = None
    for w_grid, flux, ivar in arms:
        _check_shapes(w_grid, flux, ivar)
        n = flux.shape[0]
        if first is not None and n != first:
            msg = f"all arms must have one shape: {first} and {n} spectra"
            raise ValueError(msg)
        first = n
        flux, ivar, suspect = _clean_if_needed(flux, ivar)  # noqa: PLW2901
        (shared if len(w_grid.shape) == 1 else apart).append((w_grid, flux, ivar))
        cleaned.append(suspect)
    if not cleaned:
        msg = "combine() needs one arm or more"
        raise ValueError(msg)
    sums = [sum_bins(shared, out_grid)] if shared else []
    sums += [sum_bins_apart(*arm, out_grid) for arm in apart]
    flux_sum, ivar_sum = sums[0]
    for flux, ivar in sums[1:]:
        flux_sum, ivar_sum = flux_sum + flux, ivar_sum + ivar
    return flux_sum, ivar_sum, functools.reduce(operator.or_, cleaned)


def average(flux_sum: Array, ivar_sum: Array) -> Array:
    """The flux in bins from sums over their pixels.

    Parameters
    ----------
    flux_sum, ivar_sum
        As `sum_arms` returns them.

    Returns
    -------
    array
        ``flux_sum / ivar_sum``, of the same shape, 0 where nothing has weight.
    """
    xp = array_namespace(flux_sum)
    return flux_sum / xp.where(ivar_sum > 0, ivar_sum, xp.ones_like(ivar_sum))


def combine(
    arms: Iterable[tuple[Array, Array, Array]], out_grid: Array = wave
) -> tuple[Array, Array, Array]:
    """Average the pixels of all arms of spectra in the bins of a grid.

    Parameters
    ----------
    arms, out_grid
        As for `sum_arms`.

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
    flux_sum, ivar_sum, cleaned = sum_arms(arms, out_grid)
    return average(flux_sum, ivar_sum), ivar_sum, cleaned


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
    qnp_xp.spectra.normalize : also says which spectra these are.
    """
    return normalize(flux, ivar)[0]
