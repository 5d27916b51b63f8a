"""Which rows of a file a user means."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._xp.backend import to_host

__all__ = ["check_indices", "row_indices"]


def row_indices(
    rows: ArrayLike | None, n: int, name: str = "rows"
) -> NDArray[np.int64]:
    """Turn a selection of rows into their numbers.

    Parameters
    ----------
    rows
        None for all; a boolean mask or an array of zeros and ones, of length n; or
        an array of row numbers, kept in their order.
    n
        Number of rows there are.
    name
        Name of the argument, for messages.

    Returns
    -------
    numpy.ndarray of int64
        Row numbers from 0 to n - 1, shape ``(m,)``.

    Raises
    ------
    ValueError
        If the selection does not fit n, or zeros and ones could mean either.
    TypeError
        If it is neither boolean nor integer.
    """
    if rows is None:
        return np.arange(n, dtype=np.int64)
    values = to_host(rows)
    if values.ndim != 1:
        msg = f"{name} must have 1 dimension, got shape {values.shape}"
        raise ValueError(msg)
    if values.size == 0:
        return np.empty(0, dtype=np.int64)
    if values.dtype.kind not in "biu":
        msg = f"{name} must be boolean or integer, got {values.dtype}"
        raise TypeError(msg)
    full = values.size == n and values.dtype.kind != "b"
    binary = full and set(values.tolist()) <= {0, 1}
    if binary and n <= 2 and sorted(values.tolist()) == list(range(n)):
        msg = (
            f"{name}={values.tolist()} of {n} rows could be a mask or row numbers;"
            " pass a boolean mask"
        )
        raise ValueError(msg)
    if binary or values.dtype.kind == "b":
        if values.size != n:
            msg = f"{name} is a mask of length {values.size}, and there are {n} rows"
            raise ValueError(msg)
        return np.flatnonzero(values).astype(np.int64)
    return check_indices(values.astype(np.int64), n, name)


def check_indices(numbers: NDArray[np.int64], n: int, name: str) -> NDArray[np.int64]:
    """Check row numbers, and count negative ones from the end.

    Parameters
    ----------
    numbers
        Of rows, shape ``(m,)``, not empty.
    n, name
        As for `row_indices`.

    Returns
    -------
    numpy.ndarray of int64
        From 0 to n - 1, of the same shape.

    Raises
    ------
    ValueError
        If one is out of range.
    """
    if numbers.min() < -n or numbers.max() >= n:
        msg = f"{name} has numbers from {numbers.min()} to {numbers.max()} of {n} rows"
        raise ValueError(msg)
    return np.where(numbers < 0, numbers + n, numbers)
