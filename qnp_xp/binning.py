"""Sums of pixels into the bins of a grid, as products with a banded matrix.

No scatter: the sums have the same bits on every run, on every device.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from ._xp.backend import (
    Array,
    Backend,
    array_namespace,
    backend_of,
    device,
    to_device,
    to_host,
)
from .grids import BLOCK, bin_blocks, from_key, grid_key
from .padding import fill_rows

__all__ = ["sum_bins", "sum_bins_apart"]

# Spectra of one matrix product. The shape is always the same, the last tile being
# filled up with zeros: a product of another shape may add in another order, and the
# bits of a spectrum would depend on how many others came with it.
_ROWS = 64


def sum_bins(
    arms: Sequence[tuple[Array, Array, Array]], out_grid: Array
) -> tuple[Array, Array]:
    """Sum ``flux * ivar`` and ``ivar`` in each bin, over clean arms.

    Parameters
    ----------
    arms
        For each arm its wavelengths ``(npix,)``, flux and inverse variance
        ``(n, npix)``, finite and not negative.
    out_grid
        Grid of constant linear or logarithmic spacing, shape ``(nbins,)``, Angstrom.

    Returns
    -------
    flux_sum, ivar_sum : array
        Shape ``(n, nbins)``, float64.
    """
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


def sum_bins_apart(
    w_grid: Array, flux: Array, ivar: Array, out_grid: Array
) -> tuple[Array, Array]:
    """`sum_bins` for one arm in which each spectrum has wavelengths of its own.

    Parameters
    ----------
    w_grid, flux, ivar
        Shape ``(n, npix)``; wavelengths in Angstrom.
    out_grid
        As for `sum_bins`.

    Returns
    -------
    flux_sum, ivar_sum : array
        As for `sum_bins`.
    """
    xp = array_namespace(flux)
    wavelengths = to_host(w_grid)
    groups: dict[bytes, list[int]] = {}
    for row in range(wavelengths.shape[0]):
        groups.setdefault(grid_key(wavelengths[row, :]), []).append(row)
    if len(groups) <= 1:
        return sum_bins([(wavelengths[:1, :].reshape(-1), flux, ivar)], out_grid)
    sums = []
    for key, rows in groups.items():
        pick = xp.asarray(rows, dtype=xp.int64, device=device(flux))
        parts = (xp.take(x, pick, axis=0) for x in (flux, ivar))
        sums.append(sum_bins([(from_key(key), *parts)], out_grid))
    # Back into the order of the input.
    order = [row for rows in groups.values() for row in rows]
    back = xp.argsort(xp.asarray(order, dtype=xp.int64, device=device(flux)))
    flux_sum, ivar_sum = (xp.concat(part, axis=0) for part in zip(*sums, strict=True))
    return xp.take(flux_sum, back, axis=0), xp.take(ivar_sum, back, axis=0)


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
    """`sum_bins` for one tile of spectra."""
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
