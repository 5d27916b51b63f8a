"""Which row of truth is which row of a table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._truth import Bool, Int64, Truth
from ._truth_forms import FIBER, SKY

_log = logging.getLogger(__name__)

#: What identifies an object, the surest first: columns of truth and of a table.
_KEYS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (FIBER, FIBER),
    (("TARGETID",), ("TARGETID",)),
    (("THING_ID",), ("TARGETID",)),  # what tables of SDSS' spectra have there
    (("SDSS_ID",), ("SDSS_ID",)),
)
_RADIUS = np.pi / 180 / 3600  # an arcsecond
_CHUNK = 4096  # rows whose neighbours in the sky are looked for at a time
_NEAR = 0.01  # |dz| / (1 + z) within which redshifts of one target agree
_NONE, _REFUSED = -1, -2  # for rows of truth


def match(table: Any, truth: Truth) -> Int64:
    """Find the row of truth of each row of a table, -1 where there is none.

    Objects are matched by PLATE, MJD and FIBERID, which tell spectra of one target
    apart, else by TARGETID, else by THING_ID or SDSS_ID, else by their places in the
    sky within an arcsecond. `table` is an array with columns or a mapping of them. Of
    several rows of truth that agree a sure one is taken; targets whose rows contradict
    each other are left out, with a warning.
    """
    names = table.dtype.names if isinstance(table, np.ndarray) else table
    columns = {name: np.asarray(table[name]) for name in names}
    n = len(next(iter(columns.values())))
    found = np.full(n, _NONE, dtype=np.int64)
    for known_names, own_names in _KEYS:
        left = np.flatnonzero(found == _NONE)
        known = _key(truth.identifiers, known_names, known_names[0])
        own = _key(columns, own_names, known_names[0])
        if known is not None and own is not None:
            found[left] = _by_key(own[left], known, truth)
    if all(set(SKY) <= known.keys() for known in (columns, truth.identifiers)):
        left = np.flatnonzero(found == _NONE)
        found[left] = _by_place({name: columns[name][left] for name in SKY}, truth)
    refused = np.flatnonzero(found == _REFUSED)
    if refused.size:
        first = f"row {refused[0]}"
        if "TARGETID" in columns:
            first = f"TARGETID {columns['TARGETID'][refused[0]]}"
        _log.warning(
            "%s: labels contradict each other for %d of %d rows, which are left out"
            " (%s first)",
            *(truth.name, refused.size, n, first),
        )
    return np.where(found == _REFUSED, _NONE, found)


def _key(
    columns: Mapping[str, NDArray[Any]], names: tuple[str, ...], meaning: str
) -> Int64 | None:
    """Make one integer of columns, -1 where they say nothing; None without them."""
    if not columns.keys() >= set(names):
        return None
    parts = [columns[name].astype(np.int64) for name in names]
    key = parts[0]
    for part in parts[1:]:
        key = (key << 20) | part  # plates, nights and fibers are below a million
    # DESI has negative TARGETIDs; elsewhere 0 and less stand for nothing.
    known = key != -1 if meaning == "TARGETID" else np.all(np.stack(parts) > 0, axis=0)
    return np.where(known, key, _NONE)


def _by_key(own: Int64, known: Int64, truth: Truth) -> Int64:
    """Find rows of truth by integers that both have."""
    wanted = np.unique(own[own != _NONE])
    if not wanted.size or not known.size:
        return np.full(own.size, _NONE, dtype=np.int64)
    place = np.minimum(np.searchsorted(wanted, known), wanted.size - 1)
    rows = np.flatnonzero((wanted[place] == known) & (known != _NONE))
    settled = _settle(place[rows], rows, wanted.size, truth)
    place = np.minimum(np.searchsorted(wanted, own), wanted.size - 1)
    return np.where(own == wanted[place], settled[place], _NONE)


def _by_place(own: Mapping[str, NDArray[Any]], truth: Truth) -> Int64:
    """Find rows of truth within an arcsecond of places in the sky."""
    ra, dec = (np.deg2rad(own[name].astype(np.float64)) for name in SKY)
    known_ra, known_dec = (np.deg2rad(truth.identifiers[name]) for name in SKY)
    there = np.flatnonzero(np.isfinite(known_ra) & np.isfinite(known_dec))
    there = there[np.argsort(known_dec[there], kind="stable")]
    heights = known_dec[there]
    found = np.full(ra.size, _NONE, dtype=np.int64)
    here = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    for start in range(0, here.size, _CHUNK):
        rows = here[start : start + _CHUNK]
        low = np.searchsorted(heights, dec[rows] - _RADIUS, "left")
        counts = np.searchsorted(heights, dec[rows] + _RADIUS, "right") - low
        owner = np.repeat(np.arange(rows.size), counts)
        first = np.repeat(low - (np.cumsum(counts) - counts), counts)
        other = there[first + np.arange(owner.size)]
        mine = rows[owner]
        near = np.sin((dec[mine] - known_dec[other]) / 2) ** 2
        cosines = np.cos(dec[mine]) * np.cos(known_dec[other])
        near += cosines * np.sin((ra[mine] - known_ra[other]) / 2) ** 2
        within = near <= np.sin(_RADIUS / 2) ** 2
        found[rows] = _settle(owner[within], other[within], rows.size, truth)
    return found


def _settle(owner: Int64, rows: Int64, n: int, truth: Truth) -> Int64:
    """Choose one row of truth for each of n owners, of all that are theirs.

    Sure rows count alone where there are some. Those that count have to agree.
    """
    found = np.full(n, _NONE, dtype=np.int64)
    if not rows.size:
        return found
    lacking = (truth.kind[rows] == 0) | np.isnan(truth.z[rows])
    order = np.lexsort((rows, lacking, ~truth.sure[rows], owner))
    owner, rows = owner[order], rows[order]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    counts = np.diff(np.append(starts, rows.size))
    sure = truth.sure[rows]
    counted = sure | ~np.repeat(sure[starts], counts)
    kind, z, bal = truth.kind[rows], truth.z[rows], truth.bal[rows]

    def spread(values: NDArray[Any], known: Bool) -> tuple[Any, Any]:
        known = known & counted
        low = np.minimum.reduceat(np.where(known, values, np.inf), starts)
        return low, np.maximum.reduceat(np.where(known, values, -np.inf), starts) - low

    low, width = spread(z, np.isfinite(z))
    agreed = ~(width > _NEAR * (1 + low))
    for values, unknown in ((kind, 0), (bal, -1)):
        agreed &= ~(spread(values, values != unknown)[1] > 0)
    found[owner[starts]] = np.where(agreed, rows[starts], _REFUSED)
    return found
