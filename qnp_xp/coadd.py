"""Several spectra of one target added up."""

from __future__ import annotations

from collections.abc import Sequence

from ._xp.backend import Array, array_namespace, device

__all__ = ["add_rows"]


def add_rows(total: Array, rows: Array, owners: Sequence[int]) -> Array:
    """Add each row of one array to a row of another.

    Parameters
    ----------
    total
        Sums so far, shape ``(m, nbins)``.
    rows
        What is to be added, shape ``(n, nbins)``.
    owners
        For each of the n rows, the row of `total` that it belongs to.

    Returns
    -------
    array
        Shape ``(m, nbins)``. The rows of one owner are added one after the other in
        their order, so that the bits of a sum depend on nothing else.

    Notes
    -----
    Spectra of one target are coadded as sums of ``flux * ivar`` and of ``ivar``: the
    sum over spectra and that over the pixels of a bin can be taken in either order.
    """
    xp = array_namespace(total, rows)
    nothing = rows.shape[0]  # number of the row of zeros that is put behind the others
    zeros = xp.zeros((1, rows.shape[1]), dtype=rows.dtype, device=device(rows))
    rows = xp.concat([rows, zeros], axis=0)
    rounds: list[list[int]] = []
    done: dict[int, int] = {}
    for row, owner in enumerate(owners):
        number = done.get(owner, 0)
        done[owner] = number + 1
        if number == len(rounds):
            rounds.append([nothing] * total.shape[0])
        rounds[number][owner] = row
    for picks in rounds:
        index = xp.asarray(picks, dtype=xp.int64, device=device(rows))
        total = total + xp.take(rows, index, axis=0)
    return total
