"""Sums of pixels into the bins of a grid, as products with a matrix of zeros and ones.

Neighbouring pixels fall into neighbouring bins, so nearly all of the matrix is zero,
and what is not lies along its diagonal: on a CPU it is cut into dense blocks of 16
bins. A device takes the arms side by side and one product with the whole matrix: what
counts there is the number of operations. Without a scatter the sums have the same bits
on every run.
"""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._xp.backend import (
    Array,
    Backend,
    array_namespace,
    backend_of,
    device,
    numpy_within,
    pad_or_cut,
    real_floating,
    to_device,
    to_float64_device,
    to_host,
)
from .grids import Grid

Arm = tuple[Array, Array, Array]  # wavelengths, flux and inverse variance
Sums = tuple[Array, Array, Array]  # of flux * ivar and of ivar, and what was cleaned

_BLOCK = 16  # bins, on a CPU

# Spectra of one matrix product on a CPU. The shape is always the same, the last tile
# being filled up with zeros: a product of another shape may add in another order, and
# the bits of a spectrum would depend on how many others came with it.
_ROWS = 64
_ROWS_ON_DEVICE = 1024

# Wavelength arrays of which a plan is kept: those of a few files. On a device a plan of
# DESI's pixels takes 28 MB.
_KEPT = 64
_KEPT_ON_DEVICE = 8

# Pixels beyond this are as good as infinite: sums of squares would overflow.
_LARGEST = 1e100


@dataclass(frozen=True)
class Plan:
    """Say how the pixels of an arm are summed."""

    #: How the pixels are to be sorted first, shape ``(npix,)``; None if they need not.
    order: Array | None
    #: For each 16 bins, also past the end of the grid, or all bins on a device, the
    #: slice of pixels that fall into them, and their matrix of zeros and ones.
    blocks: tuple[tuple[slice, Array], ...]


def make_plan(wavelength: ArrayLike, grid: Grid, backend: Backend) -> Plan:
    """Plan the sums of pixels, given by wavelengths in any order, on a device."""
    bins = np.clip(grid.bins(wavelength), -1, grid.size)  # those off it in no block
    if not backend.is_host:
        # One matrix of all bins takes pixels in any order.
        ones = to_device(
            np.equal(bins[:, None], np.arange(grid.size)), backend, "float64"
        )
        return Plan(None, ((slice(0, bins.size), ones),))
    order = None
    if np.any(np.diff(bins) < 0):
        order = np.argsort(bins, kind="stable")
        bins = bins[order]
    edges = np.searchsorted(bins, [*range(0, grid.size, _BLOCK), grid.size])
    ones = np.equal(bins[:, None] % _BLOCK, np.arange(_BLOCK))
    ones = to_device(ones, backend, "float64")
    blocks = ((slice(i, k), ones[i:k, :]) for i, k in pairwise(edges.tolist()))
    return Plan(None if order is None else to_device(order, backend), tuple(blocks))


class Rebinner:
    """Sum the pixels of all arms of spectra into the bins of a grid, on one device.

    Plans are kept for the wavelengths that came last, so that a file which is read in
    batches needs one for each arm. Threads may share it.
    """

    def __init__(
        self, out_grid: Array, backend: Backend, *, compiled: bool = False
    ) -> None:
        self.grid = Grid.from_wave(to_host(out_grid))
        self.backend = backend.for_float64
        #: Sum float32 by what LLVM compiles, one pixel after the other.
        self.compiled = compiled
        self._plans: dict[tuple[str, bytes], Any] = {}
        self._lock = threading.Lock()

    def plan(self, wavelength: NDArray[np.float64]) -> Plan:
        """Find the plan for some wavelengths, or make it."""
        plan: Plan = self._kept("plan", wavelength, self._make_plan)
        return plan

    def _make_plan(self, wavelength: NDArray[np.float64]) -> Plan:
        with self.backend.eager():  # for a trace is not to be kept
            return make_plan(wavelength, self.grid, self.backend)

    def _bins(self, wavelength: NDArray[np.float64]) -> NDArray[np.intp]:
        """Find the bin of each pixel, -1 off the grid."""
        bins = self.grid.bins(wavelength)
        inside = (bins >= 0) & (bins < self.grid.size)
        return np.where(inside, bins, -1).astype(np.intp)

    def _kept(
        self,
        kind: str,
        wavelength: NDArray[np.float64],
        make: Callable[[NDArray[np.float64]], Any],
    ) -> Any:
        """Find what was made of some wavelengths, or make it."""
        key = kind, wavelength.tobytes()
        with self._lock:
            made = self._plans.pop(key, None)
            if made is None:
                made = make(wavelength)
            self._plans[key] = made  # now the last one
            if len(self._plans) > (_KEPT if self.backend.is_host else _KEPT_ON_DEVICE):
                del self._plans[next(iter(self._plans))]
        return made

    def __call__(self, arms: Iterable[Arm]) -> Sums:
        """Sum as `qnp_xp.spectra.sum_arms` does."""
        shared: list[Arm] = []
        apart: list[Arm] = []
        for wavelength, flux, ivar in arms:
            host = np.asarray(to_host(wavelength), dtype=np.float64)
            pixels = to_float64_device(*real_floating(flux=flux, ivar=ivar))
            arm = (host, *pixels)
            _check_shapes(*arm)
            (shared if host.ndim == 1 else apart).append(arm)
        if not shared + apart:
            msg = "combine() needs one arm or more"
            raise ValueError(msg)
        sizes = [flux.shape[0] for _, flux, _ in shared + apart]
        if len(set(sizes)) > 1:
            msg = f"all arms must have as many spectra as the first, got {sizes}"
            raise ValueError(msg)
        sums = [self._sum(shared)] if shared else []
        sums += [self._sum_apart(*arm) for arm in apart]
        return functools.reduce(_add_sums, sums)

    def _sum(self, arms: Sequence[Arm]) -> Sums:
        """Sum arms in which all spectra have the same wavelengths."""
        pixels = [x for _, *both in arms for x in both]
        if self.compiled and all(x.dtype == np.float32 for x in pixels):
            from ._xp.kernels import sum_pixels  # noqa: PLC0415

            return sum_pixels(
                [(self._kept("bins", w, self._bins), *pixels) for w, *pixels in arms],
                self.grid.size,
            )
        xp = array_namespace(arms[0][1])
        host, n = self.backend.is_host, arms[0][1].shape[0]
        if len(arms) > 1 and not host:
            waves, *pixels = zip(*arms, strict=True)
            flux, ivar = (xp.concat(x, axis=1) for x in pixels)
            arms = [(np.concatenate(waves), flux, ivar)]
        plans = [self.plan(wavelength) for wavelength, *_ in arms]
        tiles, most = [], _ROWS if host else _ROWS_ON_DEVICE
        for first in range(0, max(n, 1), most):
            rows = slice(first, min(first + most, n))
            parts = [(flux[rows, :], ivar[rows, :]) for _, flux, ivar in arms]
            tiles.append(_sum_tile(parts, plans, self.grid.size, most if host else 0))
        return tiles[0] if len(tiles) == 1 else _concat(tiles)

    def _sum_apart(self, wavelengths: Array, flux: Array, ivar: Array) -> Sums:
        """Sum an arm in which each spectrum has wavelengths of its own."""
        xp = array_namespace(flux)
        groups: dict[bytes, list[int]] = {}
        for row, wavelength in enumerate(wavelengths):
            groups.setdefault(wavelength.tobytes(), []).append(row)
        if len(groups) <= 1:
            return self._sum([(wavelengths[:1, :].reshape(-1), flux, ivar)])
        sums = []
        for rows in groups.values():
            index = to_device(np.asarray(rows), self.backend)
            parts = (xp.take(x, index, axis=0) for x in (flux, ivar))
            sums.append(self._sum([(wavelengths[rows[0], :], *parts)]))
        order = np.argsort(np.concatenate(list(groups.values())))  # that of the input
        index = to_device(order, self.backend)
        flux_sum, ivar_sum, cleaned = (
            xp.take(part, index, axis=0) for part in _concat(sums)
        )
        return flux_sum, ivar_sum, cleaned


def _check_shapes(wavelength: Array, flux: Array, ivar: Array) -> None:
    """Refuse flux and inverse variance that do not fit the wavelengths."""
    array_namespace(flux, ivar)  # complains of two libraries
    shape = tuple(flux.shape)
    if wavelength.ndim != 1 and wavelength.shape != shape:
        msg = f"wavelengths of shape {wavelength.shape} for flux of shape {shape}"
        raise ValueError(msg)
    npix = wavelength.shape[-1]
    if len(shape) != 2 or shape != tuple(ivar.shape) or shape[1] != npix:
        msg = (
            f"flux {shape} and ivar {tuple(ivar.shape)} must both have the shape"
            f" (n, {npix}) that the {npix} wavelengths ask for"
        )
        raise ValueError(msg)


def _concat(sums: Sequence[Sums]) -> Sums:
    """Join the sums of spectra after each other."""
    xp = array_namespace(sums[0][0])
    flux_sum, ivar_sum, cleaned = (
        xp.concat(part, axis=0) for part in zip(*sums, strict=True)
    )
    return flux_sum, ivar_sum, cleaned


def _add_sums(one: Sums, other: Sums) -> Sums:
    """Add the sums of other arms of the same spectra."""
    return one[0] + other[0], one[1] + other[1], one[2] | other[2]


def _sum_tile(
    parts: Sequence[tuple[Array, Array]], plans: Sequence[Plan], size: int, rows: int
) -> Sums:
    """Sum the arms of a few spectra, filled up to a number of rows."""
    xp = array_namespace(parts[0][0])
    n = parts[0][0].shape[0]
    rows = max(rows, n)
    blocks: dict[int, Array] = {}
    cleaned = []
    for part, plan in zip(parts, plans, strict=True):
        *both, suspect = _weigh(*part)
        cleaned.append(suspect)
        both = xp.concat([pad_or_cut(x, 0, rows, axis=0) for x in both], axis=0)
        if plan.order is not None:
            both = xp.take(both, plan.order, axis=1)
        for i, (pixels, matrix) in enumerate(plan.blocks):
            if pixels.stop > pixels.start:
                block = xp.matmul(both[:, pixels], matrix)
                blocks[i] = blocks[i] + block if i in blocks else block
    for i, (_, matrix) in enumerate(plans[0].blocks):
        if i not in blocks:
            shape = (2 * rows, matrix.shape[1])
            blocks[i] = xp.zeros(shape, dtype=xp.float64, device=device(matrix))
    sums = blocks[0]
    if len(blocks) > 1:
        sums = xp.concat([blocks[i] for i in sorted(blocks)], axis=1)
    sums = sums[:, :size]
    cleaned = functools.reduce(operator.or_, cleaned)
    return sums[:n, :], sums[rows : rows + n, :], cleaned


def _weigh(flux: Array, ivar: Array) -> Sums:
    """Multiply flux and weight, without the pixels that cannot be used, as float64.

    The product is one in the dtype of the pixels, as in QuasarNP.
    """
    xp = array_namespace(flux, ivar)
    product = _multiply(flux, ivar)
    if (  # a look costs a tenth of cleaning
        numpy_within(ivar, 0.0, largest(ivar))
        and numpy_within(flux, -largest(flux), largest(flux))
        and numpy_within(product, -_finite(product), _finite(product))
    ):
        weight = ivar
        suspect = xp.zeros((flux.shape[0],), dtype=xp.bool, device=device(flux))
    else:
        product, weight, suspect = _clean(product, flux, ivar, product)
    return xp.astype(product, xp.float64), xp.astype(weight, xp.float64), suspect


def clean_pixels(flux: Array, ivar: Array) -> Sums:
    """Clean pixels as `qnp_xp.spectra.clean` does."""
    return _clean(flux, flux, ivar, _multiply(flux, ivar))


def _multiply(flux: Array, ivar: Array) -> Array:
    """Multiply pixels that may be anything."""
    with np.errstate(over="ignore", invalid="ignore"):
        return flux * ivar


def _clean(values: Array, flux: Array, ivar: Array, product: Array) -> Sums:
    """Set values and weights to zero where a pixel cannot be used."""
    xp = array_namespace(flux, ivar)
    used = (ivar > 0) & (ivar <= largest(ivar)) & (xp.abs(flux) <= largest(flux))
    used = used & (xp.abs(product) <= _finite(product))
    values, weight = (
        xp.where(used, x, xp.zeros((), dtype=x.dtype, device=device(x)))
        for x in (values, ivar)
    )
    return values, weight, xp.any(weight != ivar, axis=1)


def _finite(x: Array) -> float:
    """Find the largest number of the dtype of an array."""
    return float(array_namespace(x).finfo(x.dtype).max)


def largest(x: Array) -> float:
    """Find the largest number that counts as finite in the dtype of an array."""
    return min(_LARGEST, _finite(x))


def add_rows(total: Array, rows: Array, owners: Sequence[int]) -> Array:
    """Add rows to those of a total that own them, one after the other in their order.

    Rows of one owner are adjacent: `owners` never decreases.
    """
    xp = array_namespace(total, rows)
    n, m = rows.shape[0], total.shape[0]
    edges = np.searchsorted(owners, np.arange(m + 1))
    counts = np.diff(edges)
    # The row of zeros at the end is for owners that have no more of them.
    rows = pad_or_cut(rows, 0, n + 1, axis=0)
    for k in range(counts.max(initial=0)):
        index = np.where(k < counts, edges[:-1] + k, n)
        index = to_device(index, backend_of(rows))
        total = total + xp.take(rows, index, axis=0)
    return total
