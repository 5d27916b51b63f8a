"""From the spectra of a source to the rows of a table, a batch at a time.

The thread that asks for it reads, rebins and normalises a batch while others run the
network on the batch before.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._options import Options
from ._xp.backend import Array, to_host
from ._xp.clock import Clock
from ._xp.threads import worker_pool
from .decode import decode, is_quasar
from .io._prepare import Prepared, Preparer
from .io.source import Source
from .io.tables import result_columns
from .lines import column_names
from .model import QuasarNP
from .selection import Selection
from .status import Status


def score(
    source: Source,
    selection: Selection,
    model: QuasarNP,
    options: Options,
    table: NDArray[Any],
    boxes: NDArray[np.float64] | None,
    clock: Clock,
) -> None:
    """Fill a table, and the activations of boxes if they are kept, with results."""
    backend = model.backend
    size = int(options.batch_size)
    c_thresh = options.threshold(model.c_thresh).value
    prepare = Preparer(
        source, model.rebinner, model.rebinner.backend, options.use_mask, size, clock
    )
    batches = selection.batches(size)
    backend.settle()  # arrays of the user may be on their way
    pool = worker_pool(model.threads) if backend.is_host else nullcontext(_thread())
    with pool as threads:
        for rows, prepared, futures in _predict(batches, prepare, model, threads):
            done = [future.result() for future in futures]
            part = table[rows]
            with clock("decode"), backend.stream("prepare"):
                outputs = done[0] if len(done) == 1 else backend.xp.concat(done, axis=0)
                preds = model.split(outputs)
                found = decode(preds, model.lines, model.lines_bal, model.wave)
                columns = result_columns(found, model)
                finite = np.all(np.isfinite(list(columns.values())), axis=0)
                good, lost = prepared.good[finite], prepared.good[~finite]
                part["QN_STATUS"] |= prepared.status
                part["QN_STATUS"][lost] |= int(Status.ZERO_VARIANCE)
                for name, values in columns.items():
                    part[name][good] = values[finite]
                c_line = [columns[f"C_{x}"][finite] for x in column_names(model.lines)]
                quasar = is_quasar(np.stack(c_line), c_thresh, options.n_thresh)
                target = (part["QN_STATUS"][good] & int(Status.NOT_TARGET)) == 0
                part["IS_QSO_QN"][good] = quasar & target
                if boxes is not None:
                    activations = [line[:, : model.nboxes] for line in preds]
                    activations = backend.xp.stack(activations, axis=1)
                    boxes[rows][good] = to_host(activations)[finite]


@functools.cache
def _thread() -> ThreadPoolExecutor:
    """Start the thread that works on a device, for all files: each has CUDA handles."""
    return ThreadPoolExecutor(1)


def _predict(
    batches: Iterator[tuple[slice, Selection]],
    prepare: Preparer,
    model: QuasarNP,
    threads: ThreadPoolExecutor,
) -> Iterator[tuple[slice, Prepared, list[Future[Array]]]]:
    """Run the network on each batch in other threads, while the next is prepared."""
    running: deque[tuple[slice, Prepared, list[Future[Array]]]] = deque()
    for rows, batch in batches:
        with model.backend.stream("prepare"):
            prepared = prepare(batch)
        n, step = prepared.x.shape[0], model.block
        blocks = [
            prepared.x[low : min(low + step, n), :] for low in range(0, max(n, 1), step)
        ]
        futures = [threads.submit(_forward, model, x, prepare.clock) for x in blocks]
        running.append((rows, prepared, futures))
        if len(running) > 1:
            yield running.popleft()
    yield from running


def _forward(model: QuasarNP, x: Array, clock: Clock) -> Array:
    """Run the network on a block of spectra, in the thread that calls it."""
    with clock("predict"), model.backend.stream("predict"):
        outputs = model.forward(x)
        model.backend.finish()
        return outputs
