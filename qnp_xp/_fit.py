"""Redshifts refined by a fit of quasar templates, within 4,100 km/s of the network's.

A bin of the grid is 690 km/s wide, and the network says where a line is to half of
that; all lines together, and their shapes, say more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ._basis import LATTICE, Basis
from ._xp.backend import Array, Backend, array_namespace, device, to_device
from .decode import pick
from .grids import Grid

LIGHT_SPEED = 299792.458  # km/s

# Redshifts are first tried in steps of 414 km/s, then of 138 km/s about the best. All
# of them are on one lattice, whatever the redshift that the search begins from.
_STEP = 8
_COARSE = 3 * _STEP
_REACH = 10
_FINE = 3

_DEGREE = 2  # of the polynomial that is fitted with the templates
_MODEL_ERROR = 0.05  # part of the flux that templates are off by

# From here on the far templates are used, and the redshift of the network as a prior.
FAR = 1.5
_PRIOR = 300.0  # km/s
# The forest, and Lyman alpha that it eats into, are left out; so is C IV where there is
# broad absorption. Places on the lattice.
_BLUEST = round(math.log10(1290.0) / LATTICE)
_BLUEST_ABSORBED = round(math.log10(1570.0) / LATTICE)

_SPECTRA = 32  # of one pass on a CPU, whose arrays take 60 MB
_SPECTRA_ON_DEVICE = 128


class Fitter:
    """Fits the templates of a basis to spectra on one grid, on one device."""

    def __init__(
        self, wave: NDArray[np.float64], basis: Basis, backend: Backend
    ) -> None:
        self.backend = backend.for_float64
        grid = Grid.from_wave(wave)
        edges = grid.start + grid.step * np.arange(grid.size + 1)
        edges = edges if grid.log else np.log10(edges)
        places = np.rint(edges / LATTICE).astype(np.int64)
        #: What the lattice is off by, which redshifts are corrected for.
        self.offset = float(np.mean(places * LATTICE - edges))
        parts, sums = basis.lattice
        x = np.linspace(-1, 1, grid.size)
        smooth = np.stack([x**power for power in range(_DEGREE + 1)], axis=1)
        widths = np.diff(10 ** (places * LATTICE))
        tables = (places, 1 / widths, smooth, parts[[0, -1]], sums)
        moved = (to_device(x, self.backend) for x in tables)
        self.places, self.per_width, self.smooth, self.parts, self.sums = moved

    def __call__(self, flux: Array, ivar: Array, z: Array, absorbed: Array) -> Array:
        """Fit spectra near redshifts: see `fit_redshifts`."""
        xp, n = self.backend.xp, flux.shape[0]
        given = (xp.astype(x, xp.float64, copy=False) for x in (flux, ivar, z))
        flux, ivar, z = given
        size = _SPECTRA if self.backend.is_host else _SPECTRA_ON_DEVICE
        starts = range(0, max(n, 1), size)
        tiles = [slice(first, min(first + size, n)) for first in starts]
        found = [
            fit_redshifts(self, flux[i, :], ivar[i, :], z[i], absorbed[i])
            for i in tiles
        ]
        return xp.concat(found, axis=1)


def fit_redshifts(
    fitter: Fitter, flux: Array, ivar: Array, z: Array, absorbed: Array
) -> Array:
    """Find redshift, its error, chi-square per degree of freedom and a warning.

    The result has these as its rows, for spectra in bins, redshifts to begin from, and
    whether there is broad absorption. Where the warning is not 0, all else is NaN: the
    chi-square has no minimum in the window, or one so shallow that the error leaves it.
    """
    xp = array_namespace(flux, ivar, z)
    zero = xp.zeros((), dtype=xp.float64, device=device(z))
    nan = xp.full((), xp.nan, dtype=xp.float64, device=device(z))
    known = xp.isfinite(z) & (z > -1)
    start = xp.log10(1 + xp.where(known, z, zero)) + fitter.offset
    far = z >= FAR
    near = xp.astype(xp.round(start / (_COARSE * LATTICE)), xp.int64) * _COARSE
    part = [xp.where(far, fitter.parts[1, i], fitter.parts[0, i]) for i in range(4)]
    bluest = [xp.full_like(near, x) for x in (_BLUEST_ABSORBED, _BLUEST)]
    bluest = xp.where(absorbed, *bluest)
    scale, data = _weigh(fitter, flux, ivar, near, part, bluest)
    free = xp.sum(xp.astype(scale > 0, xp.float64), axis=1) - _DEGREE - 2
    free = free - xp.astype(part[3], xp.float64)
    usable = known & (free > 0)
    free = xp.where(usable, free, zero + 1)
    prior = xp.where(far, zero + (math.log(10) * LIGHT_SPEED / _PRIOR), zero)

    def judge(near: Array, reach: int, step: int) -> tuple[Array, Array]:
        """Compute the chi-squares around shifts, and what the prior adds to them."""
        shifts = near[:, None] + _steps(near, reach, step)
        away = xp.astype(shifts, xp.float64) * LATTICE - start[:, None]
        chi2 = _chi_squares(fitter, shifts, part, scale, data)
        return chi2, (away * prior[:, None]) ** 2

    chi2, penalty = judge(near, _REACH, _COARSE)
    least = xp.min(chi2, axis=1) / free
    expected = xp.where(least > 1, least, zero + 1)[:, None]
    best = xp.argmin(chi2 / expected + penalty, axis=1)
    near = near + (best - _REACH) * _COARSE
    chi2, penalty = judge(near, _FINE, _STEP)
    least = xp.min(chi2, axis=1) / free
    chi2 = chi2 / expected + penalty
    middle = xp.clip(xp.argmin(chi2, axis=1), 1, 2 * _FINE - 1)
    before, lowest, after = (pick(middle + i, 1, chi2)[0] for i in (-1, 0, 1))
    # A parabola through the three gives the minimum, and where chi-square is 1 more.
    bend = before - 2 * lowest + after
    usable = usable & (bend > 0)
    bend = xp.where(usable, bend, zero + 1)
    shift = xp.astype(near + (middle - _FINE) * _STEP, xp.float64)
    shift = (shift + 0.5 * _STEP * (before - after) / bend) * LATTICE
    error = _STEP * LATTICE * xp.sqrt(2 / bend)
    usable = usable & (xp.abs(shift - start) + error <= _REACH * _COARSE * LATTICE)
    fitted = 10 ** (shift - fitter.offset)
    values = (fitted - 1, fitted * error * math.log(10), least)
    warning = xp.astype(~usable, xp.float64)
    return xp.stack([*(xp.where(usable, x, nan) for x in values), warning])


def _steps(like: Array, reach: int, step: int) -> Array:
    """Count steps to both sides of nothing."""
    xp = array_namespace(like)
    where = {"dtype": like.dtype, "device": device(like)}
    return xp.arange(-reach, reach + 1, **where) * step


def _weigh(
    fitter: Fitter,
    flux: Array,
    ivar: Array,
    near: Array,
    part: list[Array],
    bluest: Array,
) -> tuple[Array, Array]:
    """Find the part that each bin plays in a fit, and the data in units of their noise.

    The part is 0 in bins that the templates do not reach in all of the window, and in
    the forest.
    """
    xp = array_namespace(flux, ivar, near)
    zero = xp.zeros((), dtype=xp.float64, device=device(flux))
    used = (ivar > 0) & xp.isfinite(flux) & xp.isfinite(ivar)
    flux, ivar = xp.where(used, flux, zero), xp.where(used, ivar, zero)
    rest = fitter.places - near[:, None]
    used = used & (rest[:, :-1] >= bluest[:, None])
    rows, reach = rest + part[0][:, None], _REACH * _COARSE
    used = used & (rows[:, :-1] - reach >= part[1][:, None])
    used = used & (rows[:, 1:] + reach <= part[2][:, None])
    one = zero + 1
    noise = 1 / xp.sqrt(xp.where(used, ivar, one))
    noise = noise * xp.sqrt(1 + (_MODEL_ERROR * flux / noise) ** 2)
    scale = xp.where(used, xp.min(noise, axis=1, keepdims=True) / noise, zero)
    return scale, xp.where(used, flux / noise, zero)


def _chi_squares(
    fitter: Fitter, shifts: Array, part: list[Array], scale: Array, data: Array
) -> Array:
    """Compute the chi-square of the best sum of templates at shifts of each spectrum.

    It is what is left of the square of the data after Gaussian elimination of the
    normal equations (the Schur complement), which needs no linear algebra of a library.
    """
    xp = array_namespace(shifts, scale, data)
    (n, tried), nbins = shifts.shape, scale.shape[1]
    rows = fitter.places - shifts[:, :, None] + part[0][:, None, None]
    rows = xp.clip(rows, part[1][:, None, None], part[2][:, None, None])
    sums = xp.take(fitter.sums, xp.reshape(rows, (-1,)), axis=0)
    sums = xp.reshape(sums, (n, tried, nbins + 1, fitter.sums.shape[1]))
    weight = (scale * fitter.per_width)[:, None, :, None]
    shifted = (sums[:, :, 1:, :] - sums[:, :, :-1, :]) * weight
    fixed = fitter.smooth * scale[:, :, None]
    fixed = xp.expand_dims(xp.concat([fixed, data[:, :, None]], axis=2), axis=1)
    transposed = xp.matrix_transpose(shifted)
    inner = xp.matmul(transposed, shifted)
    mixed = xp.matmul(transposed, fixed)
    own = xp.matmul(xp.matrix_transpose(fixed), fixed)
    own = xp.broadcast_to(own, (n, tried, *own.shape[2:]))
    upper = xp.concat([inner, mixed], axis=3)
    lower = xp.concat([xp.matrix_transpose(mixed), own], axis=3)
    return _eliminate(xp.concat([upper, lower], axis=2))


def _eliminate(matrix: Array) -> Array:
    """Eliminate all variables but the last from matrices ``(..., m, m)``."""
    xp = array_namespace(matrix)
    one = xp.ones((), dtype=matrix.dtype, device=device(matrix))
    size = matrix.shape[-1]
    eye = xp.eye(size, dtype=matrix.dtype, device=device(matrix))
    # What is left of a variable that others make up is rounding.
    least = 1e-10 * xp.sum(matrix * eye, axis=-1)
    for i in range(size - 1):
        pivot = matrix[..., 0:1, 0:1]
        sound = pivot > least[..., i : i + 1, None]
        share = matrix[..., 1:, 0:1] / xp.where(sound, pivot, one)
        column = xp.where(sound, share, 0 * one)
        matrix = matrix[..., 1:, 1:] - column * matrix[..., 0:1, 1:]
    return matrix[..., 0, 0]
