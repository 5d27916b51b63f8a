"""From the spectra of a source to the input of the network."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .._binning import Rebinner, add_rows
from .._xp.backend import Array, Backend, array_namespace, device, to_device, to_host
from .._xp.clock import Clock
from ..selection import Selection
from ..spectra import average, normalize
from ..status import Status
from .source import Source

# Of flux * ivar and of ivar; which rows were cleaned; and, shape (n, narms), which arms
# of a row have a pixel that can be used.
_Sums = tuple[Array, Array, Array, NDArray[np.bool_]]


@dataclass(frozen=True)
class Prepared:
    """Spectra that are ready for the network."""

    #: Normalised spectra of the rows that can be scored, on the device.
    x: Array
    #: Which rows these are.
    good: NDArray[np.int64]
    #: What happened to each row: bits of `qnp_xp.Status`.
    status: NDArray[np.int32]
    #: Which bins of each row have weight.
    covered: NDArray[np.bool_]
    #: Flux in bins and inverse variance of each row, on the device.
    flux: Array
    ivar: Array


@dataclass(frozen=True)
class Preparer:
    """Reads, rebins, coadds and normalises batches of the spectra of a source."""

    source: Source
    rebinner: Rebinner
    backend: Backend
    use_mask: bool = False
    #: Spectra that are read at a time where a target has more.
    batch_size: int = 256
    clock: Clock = field(default_factory=Clock)

    def __call__(self, batch: Selection) -> Prepared:
        """Prepare the rows of the table that a batch makes."""
        flux_sum, ivar_sum, cleaned, used = self.sums(batch)
        with self.clock("normalise"):
            xp, flux = self.backend.xp, average(flux_sum, ivar_sum)
            x, *facts = normalize(flux, ivar_sum)
            facts = [*facts, to_device(cleaned, self.backend)]
            # All that the host is to know at once: a device is waited for each time.
            seen = to_host(xp.concat([xp.stack(facts, axis=1), ivar_sum > 0], axis=1))
            (weighted, varied, cleaned), covered = seen[:, :3].T, seen[:, 3:]
            unscored = np.select(
                [~weighted, ~varied],
                [int(Status.NO_GOOD_PIXEL), int(Status.ZERO_VARIANCE)],
            )
            good = np.flatnonzero(unscored == 0).astype(np.int64)
            if good.size < unscored.size:
                x = xp.take(x, to_device(good, self.backend), axis=0)
            self.backend.finish()
        status = unscored | np.where(cleaned, int(Status.PIXELS_CLEANED), 0)
        some = np.any(used, axis=1) & ~np.all(used, axis=1)
        status = status | np.where(some, int(Status.ARM_MISSING), 0)
        few = (unscored == 0) & (3 * np.sum(covered, axis=1) < covered.shape[1])
        status = status | np.where(few, int(Status.LITTLE_COVERAGE), 0)
        return Prepared(x, good, status.astype(np.int32), covered, flux, ivar_sum)

    def sums(self, batch: Selection) -> _Sums:
        """Add up the pixels of each bin, for each row of the table."""
        if batch.counts.size == batch.indices.size:
            return self._sum_arms(batch.indices)
        return self._sum_targets(batch)

    def _sum_arms(self, indices: NDArray[np.int64]) -> _Sums:
        """Read, upload and rebin some rows of the source."""
        with self.clock("read"):
            arms = list(self.source.read(indices, self.use_mask))
            # Before they go to the device, which would have to be waited for.
            used = np.stack([_usable(flux, ivar) for _, flux, ivar in arms], axis=1)
        with self.clock("upload"):
            arms = [
                (wave, to_device(flux, self.backend), to_device(ivar, self.backend))
                for wave, flux, ivar in arms
            ]
        with self.clock("rebin"):
            return *self.rebinner(arms), used

    def _sum_targets(self, batch: Selection) -> _Sums:
        """Add up the sums of the spectra of each target."""
        xp, n = self.backend.xp, batch.counts.size
        parts = [
            self._sum_arms(batch.indices[low : low + self.batch_size])
            for low in range(0, batch.indices.size, self.batch_size)
        ]
        with self.clock("rebin"):
            *sums, suspect, usable = zip(*parts, strict=True)
            flux, ivar = (xp.concat(part, axis=0) for part in sums)
            shape = (n, flux.shape[1])
            nothing = xp.zeros(shape, dtype=flux.dtype, device=device(flux))
            owners = batch.owners.tolist()
            flux, ivar = (add_rows(nothing, rows, owners) for rows in (flux, ivar))
        cleaned = batch.owners[to_host(xp.concat(suspect, axis=0))]
        used = np.logical_or.reduceat(
            np.concatenate(usable), np.cumsum(batch.counts) - batch.counts
        )
        return flux, ivar, np.isin(np.arange(n), cleaned), used


def _usable(flux: Array, ivar: Array) -> NDArray[np.bool_]:
    """Tell which rows of an arm have a pixel of positive weight and finite flux."""
    xp = array_namespace(flux, ivar)
    n, npix = flux.shape
    usable = np.zeros(n, dtype=bool)
    # All pixels only where a look at those in the middle is not enough.
    for first, last in ((npix // 2, min(npix // 2 + 64, npix)), (0, npix)):
        sound = (ivar[:, first:last] > 0) & xp.isfinite(flux[:, first:last])
        usable = to_host(xp.any(sound, axis=1))
        if np.all(usable):
            break
    return usable
