"""From the pixels of a spectrograph's arms to the input of the network.

Pure array functions: the pixels of all arms are summed into the bins of one grid,
weighted by their inverse variance, then each spectrum is normalised. Arrays hold real
numbers of any dtype: integers and bools become float64. What is no array, or not real,
is a TypeError that names the argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ._binning import Rebinner, clean_pixels, largest
from ._xp.backend import (
    Array,
    array_namespace,
    backend_of,
    device,
    real_floating,
    to_float64_device,
)
from ._xp.shapes import check_shapes
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

# A spectrum whose rms is below this part of its mean is rounding noise on a constant:
# products of float32 pixels are rounded at 6e-8.
_FLAT = 1e-7


def clean(flux: Array, ivar: Array) -> tuple[Array, Array, Array]:
    """Give no weight to pixels that cannot be used.

    Parameters
    ----------
    flux, ivar : array, shape (n, npix)
        Flux and its inverse variance.

    Returns
    -------
    flux, ivar : array, shape (n, npix)
        Zero where the flux is NaN or infinite or where the inverse variance is NaN,
        infinite, negative or zero. Beyond 1e100 counts as infinite, and so does a
        pixel whose product of both is.
    cleaned : array of bool, shape (n,)
        Whether a pixel was left out that had a weight or an impossible one. A NaN flux
        of weight 0 is usual and does not count.

    Examples
    --------
    >>> flux, ivar = np.asarray([[1.0, np.nan, 3.0]]), np.asarray([[1.0, 1.0, 0.0]])
    >>> [x.tolist() for x in clean(flux, ivar)]
    [[[1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]], [True]]
    """
    flux, ivar = real_floating(flux=flux, ivar=ivar)
    check_shapes(flux=(flux, "n npix"), ivar=(ivar, "n npix"))
    return clean_pixels(flux, ivar)


def rebin(
    flux: Array, ivar: Array, w_grid: Array, out_grid: Array = wave
) -> tuple[Array, Array]:
    """Sum the pixels of spectra into the bins of a grid.

    Parameters
    ----------
    flux, ivar : array, shape (n, npix)
        Flux and its inverse variance; for pixels that count for nothing see `clean`.
    w_grid : array, shape (npix,) or (n, npix)
        Wavelengths of the pixels in Angstrom, in any order, or those of each spectrum;
        pixels off the grid are left out.
    out_grid : array, shape (nbins,), optional
        Grid of constant linear or logarithmic spacing in Angstrom.

    Returns
    -------
    flux_sum, ivar_sum : array of float64, shape (n, nbins)
        Sums of ``flux * ivar`` and of ``ivar`` over the pixels of each bin, on the
        device of `flux`. A product is rounded to the dtype of the pixels, sums are
        float64. As in QuasarNP, the first sum is not yet divided by the second: sums of
        several arms can be added. `combine` adds and divides.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a grid is none.

    Notes
    -----
    Busca & Balland 2018, arXiv:1808.09955, section 2. The sums are products with a
    banded matrix of zeros and ones: no scatter, so that they have the same bits on
    every run. No decision depends on the values of flux and ivar, but for numpy's, so
    that ``jax.jit`` can trace them.

    Examples
    --------
    >>> flux, ivar = np.asarray([[1.0, 2.0, 5.0]]), np.asarray([[2.0, 2.0, 1.0]])
    >>> grid = np.asarray([4000.0, 4010.0])
    >>> [x.tolist() for x in rebin(flux, ivar, np.asarray([4001, 4009, 4011]), grid)]
    [[[6.0, 5.0]], [[4.0, 1.0]]]
    """
    return sum_arms([(w_grid, flux, ivar)], out_grid)[:2]


def sum_arms(
    arms: Iterable[tuple[Array, Array, Array]], out_grid: Array = wave
) -> tuple[Array, Array, Array]:
    """Sum the pixels of all arms of spectra into the bins of a grid.

    Parameters
    ----------
    arms : iterable of (array, array, array)
        For each arm its wavelengths, flux and inverse variance, as for `rebin`.
    out_grid : array, shape (nbins,), optional
        As for `rebin`.

    Returns
    -------
    flux_sum, ivar_sum : array of float64, shape (n, nbins)
        As for `rebin`. Sums of spectra of the same target can be added.
    cleaned : array of bool, shape (n,)
        See `clean`.

    Raises
    ------
    ValueError
        If there is no arm, or the shapes do not fit, or a grid is none.

    Examples
    --------
    >>> one, grid = np.asarray([[1.0]]), np.asarray([4000.0, 4010.0])
    >>> arms = [(np.asarray([4001.0]), one, one), (np.asarray([4012.0]), one, one)]
    >>> sum_arms(arms, grid)[0].tolist()
    [[1.0, 1.0]]
    """
    given: list[Any] = list(arms)
    for i, arm in enumerate(given):
        if not isinstance(arm, Sequence) or len(arm) != 3:
            msg = f"arms[{i}] must be (wave, flux, ivar), got {type(arm).__name__}"
            raise TypeError(msg)
    backend = backend_of(given[0][1] if given else None)
    return Rebinner(out_grid, backend)(given)


def average(flux_sum: Array, ivar_sum: Array) -> Array:
    """Divide the sums over the pixels of each bin.

    Parameters
    ----------
    flux_sum, ivar_sum : array, shape (n, nbins)
        As `sum_arms` returns them.

    Returns
    -------
    array, shape (n, nbins)
        ``flux_sum / ivar_sum``, 0 where nothing has weight.

    Examples
    --------
    >>> average(np.asarray([[6.0, 0.0]]), np.asarray([[4.0, 0.0]])).tolist()
    [[1.5, 0.0]]
    """
    flux_sum, ivar_sum = real_floating(flux_sum=flux_sum, ivar_sum=ivar_sum)
    check_shapes(flux_sum=(flux_sum, "n nbins"), ivar_sum=(ivar_sum, "n nbins"))
    xp = array_namespace(flux_sum, ivar_sum)
    one = xp.ones((), dtype=ivar_sum.dtype, device=device(ivar_sum))
    return flux_sum / xp.where(ivar_sum > 0, ivar_sum, one)


def combine(
    arms: Iterable[tuple[Array, Array, Array]], out_grid: Array = wave
) -> tuple[Array, Array, Array]:
    """Average the pixels of all arms of spectra in the bins of a grid.

    Parameters
    ----------
    arms, out_grid : as for `sum_arms`

    Returns
    -------
    flux : array of float64, shape (n, nbins)
        ``sum(flux * ivar) / sum(ivar)`` over the pixels of each bin, 0 where nothing
        has weight.
    ivar : array of float64, shape (n, nbins)
        ``sum(ivar)``.
    cleaned : array of bool, shape (n,)
        See `clean`.

    Raises
    ------
    ValueError
        As for `sum_arms`.

    Examples
    --------
    >>> flux, ivar = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 1.0]])
    >>> arm = np.asarray([4001.0, 4009.0]), flux, ivar
    >>> [x.tolist() for x in combine([arm], np.asarray([4000.0, 4010.0]))]
    [[[1.25, 0.0]], [[4.0, 0.0]], [False]]
    """
    flux_sum, ivar_sum, cleaned = sum_arms(arms, out_grid)
    return average(flux_sum, ivar_sum), ivar_sum, cleaned


def normalize(flux: Array, ivar: Array) -> tuple[Array, Array, Array]:
    """Subtract the weighted mean of each spectrum and divide by its weighted rms.

    Parameters
    ----------
    flux, ivar : array, shape (n, nbins)
        Flux in bins and its weights, which are not negative.

    Returns
    -------
    x : array, shape (n, nbins)
        Normalised spectra in the dtype of `flux`, computed in float64; zeros where one
        of the next two is False.
    weighted : array of bool, shape (n,)
        Whether some bin has weight.
    varied : array of bool, shape (n,)
        Whether the rms is not zero, up to rounding, and neither flux nor weights are
        beyond 1e100, or NaN, and the dtype can hold the result.

    Notes
    -----
    Busca & Balland 2018, arXiv:1808.09955, section 2. Bins without weight are
    normalised like the others, so that the zeros in them become ``-mean / rms``: the
    networks were trained on that.

    Examples
    --------
    >>> flux, ivar = np.asarray([[0.0, 5.0, 9.0]]), np.asarray([[0.0, 1.0, 1.0]])
    >>> [x.tolist() for x in normalize(flux, ivar)]
    [[[-3.5, -1.0, 1.0]], [True], [True]]
    """
    flux, ivar = real_floating(flux=flux, ivar=ivar)
    check_shapes(flux=(flux, "n nbins"), ivar=(ivar, "n nbins"))
    flux, ivar = to_float64_device(flux, ivar)
    xp = array_namespace(flux, ivar)
    dtype, limit = flux.dtype, largest(flux)
    flux, ivar = (xp.astype(x, xp.float64, copy=False) for x in (flux, ivar))
    zero = xp.zeros((), dtype=xp.float64, device=device(flux))
    one = xp.ones((), dtype=xp.float64, device=device(flux))
    small = (xp.abs(flux) <= largest(flux)) & (ivar <= largest(ivar))
    small = xp.all(small, axis=1, keepdims=True)
    flux = xp.where(small, flux, zero)
    weighted = xp.any(ivar > 0, axis=1, keepdims=True)
    ivar = xp.where(small, ivar, zero)
    weight = xp.sum(ivar, axis=1, keepdims=True)
    safe = xp.where(weight > 0, weight, one)
    mean = xp.sum(flux * ivar, axis=1, keepdims=True) / safe
    centred = flux - mean
    rms = xp.sqrt(xp.sum(centred * centred * ivar, axis=1, keepdims=True) / safe)
    varied = small & (rms > _FLAT * xp.abs(mean))
    usable = weighted & varied
    x = centred / xp.where(usable, rms, one)
    if dtype != xp.float64:
        held = xp.all(xp.abs(x) <= limit, axis=1, keepdims=True)
        usable, varied = usable & held, varied & held
    x = xp.astype(xp.where(usable, x, zero), dtype, copy=False)
    return x, xp.reshape(weighted, (-1,)), xp.reshape(varied, (-1,))


def renormalize(flux: Array, ivar: Array) -> Array:
    """Normalise spectra for the network, under QuasarNP's name.

    Parameters
    ----------
    flux, ivar : array, shape (n, nbins)
        As for `normalize`, which also says what could not be normalised.

    Returns
    -------
    array, shape (n, nbins)
        A spectrum without weight or without variance becomes zeros, where QuasarNP
        raises or returns NaN.

    Examples
    --------
    >>> renormalize(np.asarray([[5.0, 9.0]]), np.asarray([[1.0, 1.0]])).tolist()
    [[-1.0, 1.0]]
    """
    return normalize(flux, ivar)[0]
