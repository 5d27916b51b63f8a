"""From spectra to the rows of a table, a batch at a time.

The thread that asks for it reads, rebins and normalises a batch while others run the
network on the batch before.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._binning import add_rows
from ._options import Options
from ._xp.backend import Array, to_device, to_host
from ._xp.clock import Clock
from ._xp.threads import worker_pool
from .decode import Decoded, decode, is_quasar
from .io.source import Source
from .lines import column_names
from .model import QuasarNP
from .spectra import average, normalize, sum_arms
from .status import Status

__all__ = ["Selection", "score"]


@dataclass(frozen=True)
class Selection:
    """Which spectra of a source make which rows of a table.

    Attributes
    ----------
    numbers
        Rows of the source, sorted by the rows of the table that they make, shape
        ``(m,)``.
    counts
        For each row of the table, how many of these, shape ``(n,)``; ones without
        coaddition.
    """

    numbers: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of_targets(
        cls, numbers: NDArray[np.int64], targetid: NDArray[Any]
    ) -> Selection:
        """Every row of the table a target, in the order in which these come first.

        Parameters
        ----------
        numbers
            Selected rows of the source, shape ``(m,)``.
        targetid
            TARGETIDs of these, of the same shape; rows of -1, which says that a target
            is not known, are targets of their own.

        Returns
        -------
        Selection
        """
        position: dict[Any, int] = {}
        keys = [t if t != -1 else (i,) for i, t in enumerate(targetid.tolist())]
        owners = np.asarray([position.setdefault(k, len(position)) for k in keys], int)
        order = np.argsort(owners, kind="stable")
        return cls(numbers[order], np.bincount(owners, minlength=len(position)))

    @property
    def first(self) -> NDArray[np.int64]:
        """The first row of the source of each row of the table."""
        first: NDArray[np.int64] = np.cumsum(self.counts) - self.counts
        return self.numbers[first]

    def batches(self, size: int) -> list[tuple[slice, Selection]]:
        """Cut it into pieces of some `size` spectra, and of whole targets.

        Parameters
        ----------
        size
            Spectra of a piece; a target of more makes a larger one.

        Returns
        -------
        list of (slice, Selection)
            Rows of the table and what makes them.
        """
        ends = np.cumsum(self.counts)
        pieces, low, start = [], 0, 0
        while low < ends.size:
            high = max(int(np.searchsorted(ends, start + size, "right")), low + 1)
            stop = int(ends[high - 1])
            piece = Selection(self.numbers[start:stop], self.counts[low:high])
            pieces.append((slice(low, high), piece))
            low, start = high, stop
        return pieces


def score(
    source: Source,
    selection: Selection,
    model: QuasarNP,
    options: Options,
    table: NDArray[Any],
    clock: Clock,
    boxes: NDArray[np.float64] | None = None,
) -> None:
    """Fill a table with the results of spectra.

    Parameters
    ----------
    source, selection
        Spectra, and which of them make which row.
    model, options
        What to do with them.
    table
        Structured, of the columns of `qnp_xp.io.tables.table_dtype`; its confidences
        and redshifts are NaN, and stay so where there is no result.
    clock
        Takes the time by stage.
    boxes
        Filled with the activations of each row, if it is given.

    Raises
    ------
    SpectraError
        If the source is damaged.
    """
    model.backend.settle()  # weights, and arrays of the user, are on their way
    with worker_pool(model.threads) as pool:
        waiting: list[tuple[NDArray[Any], Any, _Ready, list[Future[Array]]]] = []
        for rows, piece in selection.batches(options.batch_size):
            ready = _prepare(source, piece, model, options, clock)
            n, step = ready.x.shape[0], model.block
            outputs = [
                pool.submit(
                    _forward, model, ready.x[low : min(low + step, n), :], clock
                )
                for low in range(0, max(n, 1), step)
            ]
            kept = None if boxes is None else boxes[rows]
            waiting.append((table[rows], kept, ready, outputs))
            if len(waiting) > 1:
                _finish(*waiting.pop(0), model, options, clock)
        for done in waiting:
            _finish(*done, model, options, clock)


@dataclass(frozen=True)
class _Ready:
    """A batch of spectra, ready for the network.

    Attributes
    ----------
    x
        Those that could be normalised, on the device.
    weighted, varied, cleaned
        Which spectra could be, and why not; see `qnp_xp.spectra`.
    """

    x: Array
    weighted: NDArray[np.bool_]
    varied: NDArray[np.bool_]
    cleaned: NDArray[np.bool_]


def _prepare(
    source: Source,
    piece: Selection,
    model: QuasarNP,
    options: Options,
    clock: Clock,
) -> _Ready:
    """Read, rebin and normalise a batch, on the device."""
    backend = model.backend
    with backend.stream("prepare"):
        flux_sum, ivar_sum, cleaned = _sums(source, piece, model, options, clock)
        with clock("normalise"):
            x, weighted, varied = normalize(average(flux_sum, ivar_sum), ivar_sum)
            weighted, varied = to_host(weighted), to_host(varied)
            good = np.flatnonzero(weighted & varied)
            x = backend.xp.take(x, to_device(good, backend), axis=0)
            backend.finish()
            return _Ready(x, weighted, varied, cleaned)


def _sums(
    source: Source,
    piece: Selection,
    model: QuasarNP,
    options: Options,
    clock: Clock,
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Sums over the pixels of each bin, and over the spectra of each row."""
    if np.all(piece.counts == 1):
        return _sums_of_rows(source, piece.numbers, model, options, clock)
    xp, device = model.backend.xp, model.backend.device
    shape = (piece.counts.size, model.wave.size)
    sums = [xp.zeros(shape, dtype=xp.float64, device=device) for _ in range(2)]
    owners = np.repeat(np.arange(piece.counts.size), piece.counts)
    cleaned = np.zeros(piece.counts.size, dtype=bool)
    for low in range(0, owners.size, options.batch_size):
        part = slice(low, low + options.batch_size)
        *rows, suspect = _sums_of_rows(
            source, piece.numbers[part], model, options, clock
        )
        with clock("rebin"):
            own = owners[part].tolist()
            sums = [add_rows(a, b, own) for a, b in zip(sums, rows, strict=True)]
        cleaned[owners[part][suspect]] = True
    return sums[0], sums[1], cleaned


def _sums_of_rows(
    source: Source,
    numbers: NDArray[np.int64],
    model: QuasarNP,
    options: Options,
    clock: Clock,
) -> tuple[Array, Array, NDArray[np.bool_]]:
    with clock("read"):
        arms = list(source.read(numbers, options.use_mask))
    return _sums_of_arms(arms, model, clock)


def _sums_of_arms(
    arms: list[tuple[Array, Array, Array]], model: QuasarNP, clock: Clock
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Upload and rebin; in two halves where the memory of a device runs out."""
    n = arms[0][1].shape[0]
    try:
        with clock("upload"):
            on_device = [
                (w, *(to_device(x, model.backend) for x in parts)) for w, *parts in arms
            ]
        with clock("rebin"):
            flux_sum, ivar_sum, cleaned = sum_arms(on_device, model.wave)
            return flux_sum, ivar_sum, to_host(cleaned)
    except MemoryError:
        if n <= 1 or model.backend.is_host:
            raise
    on_device = []
    model.backend.release()
    halves = [
        _sums_of_arms([_rows_of(arm, part) for arm in arms], model, clock)
        for part in (slice(0, n // 2), slice(n // 2, n))
    ]
    flux_sum, ivar_sum = (
        model.backend.xp.concat([half[k] for half in halves], axis=0) for k in (0, 1)
    )
    return flux_sum, ivar_sum, np.concatenate([half[2] for half in halves])


def _rows_of(
    arm: tuple[Array, Array, Array], rows: slice
) -> tuple[Array, Array, Array]:
    wave, flux, ivar = arm
    return wave if wave.ndim == 1 else wave[rows, :], flux[rows, :], ivar[rows, :]


def _forward(model: QuasarNP, x: Array, clock: Clock) -> Array:
    with clock("predict"), model.backend.stream("predict"):
        outputs = model.forward(x)
        model.backend.finish()
        return outputs


def _finish(
    table: NDArray[Any],
    boxes: NDArray[np.float64] | None,
    ready: _Ready,
    outputs: list[Future[Array]],
    model: QuasarNP,
    options: Options,
    clock: Clock,
) -> None:
    """Wait for the outputs of a batch, decode them, and fill its rows of the table."""
    done = [output.result() for output in outputs]
    good = np.flatnonzero(ready.weighted & ready.varied)
    constant = ready.weighted & ~ready.varied
    with clock("decode"), model.backend.stream("prepare"):
        preds = model.split(model.backend.xp.concat(done, axis=0))
        found = decode(preds, model.lines, model.lines_bal, model.wave)
        quasar = to_host(is_quasar(found.c_line, options.c_thresh, options.n_thresh))
        table["QN_STATUS"] |= (
            np.where(ready.weighted, 0, int(Status.NO_GOOD_PIXEL))
            | np.where(constant, int(Status.ZERO_VARIANCE), 0)
            | np.where(ready.cleaned, int(Status.PIXELS_CLEANED), 0)
        ).astype(np.int32)
        _fill(table, good, found, model)
        if boxes is not None:
            for line, outputs_of_line in enumerate(preds):
                activations = to_host(outputs_of_line)[:, : model.nboxes]
                boxes[good, line, :] = activations
        target = (table["QN_STATUS"][good] & int(Status.NOT_TARGET)) == 0
        table["IS_QSO_QN"][good] = quasar & target


def _fill(
    table: NDArray[Any], good: NDArray[np.intp], found: Decoded, model: QuasarNP
) -> None:
    table["Z_QN"][good] = to_host(found.zbest)
    table["Z_QN_CONF"][good] = to_host(found.cbest)
    for prefix, names, confidences, redshifts in (
        ("", column_names(model.lines), found.c_line, found.z_line),
        ("BAL_", column_names(model.lines_bal), found.c_line_bal, found.z_line_bal),
    ):
        c, z = to_host(confidences), to_host(redshifts)
        for line, name in enumerate(names):
            table[f"C_{prefix}{name}"][good] = c[line]
            table[f"Z_{prefix}{name}"][good] = z[line]
