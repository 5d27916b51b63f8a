"""Batches of labelled spectra, each with other noise and at another redshift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..grids import Grid
from ._examples import Examples, Float32, Float64, Int64
from ._loop import Batch
from ._network import UNKNOWN, Layout, labels
from ._settings import Settings


class Labeller:
    """Makes batches for a network of a layout, grid and lines."""

    def __init__(self, layout: Layout, wave: Float64, rest: Sequence[float]) -> None:
        self.layout = layout
        self.grid = Grid.from_wave(wave)
        self.rest = rest

    def batch(self, examples: Examples, z: Float64 | None = None) -> Batch:
        """Make a batch of some examples, perhaps moved to other redshifts."""
        layout, z = self.layout, examples.z if z is None else z
        bal = examples.bal == 1
        box, offset = labels(z, bal, self.rest, self.grid, layout)
        # Broad absorption is no line of what is not a quasar.
        unknown = torch.from_numpy(examples.quasar & (examples.bal < 0))
        box[unknown, layout.nlines :] = UNKNOWN
        return torch.from_numpy(examples.normalized()), box, offset


class Batches:
    """Makes random batches, of as many quasars as others."""

    def __init__(
        self,
        examples: Examples,
        labeller: Labeller,
        settings: Settings,
        rng: np.random.Generator,
    ) -> None:
        self.examples = examples
        self.labeller = labeller
        self.size = settings.batch_size
        self.noise = settings.noise
        self.rng = rng
        self.pools = [np.flatnonzero(examples.quasar == x) for x in (True, False)]
        self.factors, self.sources = _shifts(labeller.grid, settings.shift)

    def __call__(self) -> Batch:
        """Make the next batch."""
        half = self.size // 2
        sizes = (half, self.size - half)
        rows = [self.rng.choice(x, n) for x, n in zip(self.pools, sizes, strict=True)]
        picked = self.examples.take(np.concatenate(rows))
        which = self.rng.integers(0, len(self.factors), self.size)
        flux, ivar = _moved(picked.flux, picked.ivar, self.sources[which])
        flux, ivar = _noisier(self.rng, flux, ivar, self.noise)
        z = (1 + picked.z) * self.factors[which] - 1
        moved = Examples(flux, ivar, z, picked.kind, picked.bal, picked.target)
        return self.labeller.batch(moved)


def _shifts(grid: Grid, most: int) -> tuple[Float64, Int64]:
    """Give factors of 1 + z, and the bin that each bin comes from; -1 is off the grid.

    On a logarithmic grid these are shifts by whole bins, up to `most` either way.
    """
    edges = grid.start + grid.step * np.arange(grid.size + 1)
    if not grid.log:
        edges = np.log10(edges)
    bin_width = grid.step if grid.log else float(np.mean(np.diff(edges)))
    factors = np.power(10.0, bin_width * np.arange(-most, most + 1))
    centres = 10 ** ((edges[1:] + edges[:-1]) / 2)
    sources = np.stack([grid.bins(centres / factor) for factor in factors])
    return factors, np.where(sources < grid.size, np.maximum(sources, -1), -1)


def _moved(flux: Float32, ivar: Float32, sources: Int64) -> tuple[Float32, Float32]:
    """Take each bin from another one, without weight where there is none."""
    rows, there = np.arange(len(flux))[:, None], (sources >= 0).astype(np.float32)
    return flux[rows, sources] * there, ivar[rows, sources] * there


def _noisier(
    rng: Any, flux: Float32, ivar: Float32, most: float
) -> tuple[Float32, Float32]:
    """Add noise to half of the spectra: errors up to `most` times as large."""
    n = len(flux)
    factor = np.where(rng.random(n) < 0.5, 1, np.exp(rng.uniform(0, np.log(most), n)))
    noise = rng.standard_normal(flux.shape, dtype=np.float32)
    added = np.sqrt((factor**2 - 1)[:, None] / np.where(ivar > 0, ivar, np.inf))
    noisy: NDArray[Any] = flux + noise * added
    return noisy.astype(np.float32), (ivar / factor[:, None] ** 2).astype(np.float32)
