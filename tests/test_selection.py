"""Which rows are taken, and which of them make one row of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qnp_xp.selection import Selection, row_indices, target_indices

if TYPE_CHECKING:
    from conftest import ArrayBackend

#: TARGETIDs of nine rows; -1 is no target.
KNOWN = np.array([30, 10, -1, 30, 20, 10, -1, 30, 40])


def test_rows_and_targets_may_lie_on_a_device(backend: ArrayBackend) -> None:
    rows = backend.array([5, -9, 3], "int64")
    assert row_indices(rows, 9).tolist() == [5, 0, 3]
    mask = backend.array(KNOWN == 10)
    assert row_indices(mask, 9).tolist() == [1, 5]
    targets = backend.array([20, 30], "int64")
    assert target_indices(targets, KNOWN, "coadd.fits").tolist() == [0, 3, 4, 7]


def test_targets_without_a_row_are_passed_over_or_refused() -> None:
    asked = [99, 20, *range(50, 60)]
    assert target_indices(asked, KNOWN, "coadd.fits").tolist() == [4]
    with pytest.raises(ValueError, match=r"coadd\.fits: .*99, 50, 51, 52, 53$"):
        target_indices(asked, KNOWN, "coadd.fits", all_known=True)
    assert target_indices([20], KNOWN, "coadd.fits", all_known=True).tolist() == [4]


@pytest.mark.parametrize("all_known", [True, False])
def test_targets_need_targetids_and_integers(all_known: bool) -> None:
    with pytest.raises(ValueError, match=r"coadd\.fits: .*no TARGETIDs"):
        target_indices([20], None, "coadd.fits", all_known=all_known)
    with pytest.raises(TypeError, match=r"targetids .*float64"):
        target_indices([20.0], KNOWN, "coadd.fits", all_known=all_known)


#: DESI's TARGETIDs are beyond 2**53: as float64 these are neighbours that are equal.
NEAR = np.array([39633140000000001, 39633140000000002, 39633140000000003])


@pytest.mark.parametrize("dtype", ["int64", "uint64", ">i8", "O"])
@pytest.mark.parametrize("others", [0, 20])
def test_targets_are_found_as_integers_of_any_type(dtype: str, others: int) -> None:
    asked = np.array([NEAR[1], *(NEAR[2] + 10**6 * np.arange(1, others + 1))])
    if dtype == "O":
        with pytest.raises(TypeError, match=r"targetids .*object"):
            target_indices(asked.astype(dtype), NEAR, "coadd.fits")
        return
    assert target_indices(asked.astype(dtype), NEAR, "coadd.fits").tolist() == [1]
    if others:
        with pytest.raises(ValueError, match=f"no target {NEAR[2] + 10**6}"):
            target_indices(asked.astype(dtype), NEAR, "coadd.fits", all_known=True)


def test_no_targets_have_no_rows_and_no_type() -> None:
    assert target_indices([], KNOWN, "coadd.fits").tolist() == []


def test_numbers_that_no_signed_integer_holds_are_no_targets_and_no_rows() -> None:
    last = np.array([2**64 - 1], dtype=np.uint64)  # -1, were it taken for one
    with pytest.raises(ValueError, match=r"targetids has 18446744073709551615"):
        target_indices(last, KNOWN, "coadd.fits")
    with pytest.raises(ValueError, match=r"rows has 18446744073709551615"):
        row_indices(last, 9)


def groups(targetids: list[int]) -> list[list[int]]:
    """Positions of each target in the order of their first ones; of -1 each alone."""
    found: dict[Any, list[int]] = {}
    for position, target in enumerate(targetids):
        key = ("unknown", position) if target == -1 else target
        found.setdefault(key, []).append(position)
    return list(found.values())


def split(selection: Selection) -> list[list[int]]:
    """Rows of the source by row of the table."""
    parts = np.split(selection.indices, np.cumsum(selection.counts)[:-1])
    return [part.tolist() for part in parts if part.size]


@given(st.lists(st.integers(-1, 4), max_size=12), st.randoms(use_true_random=False))
def test_rows_of_a_target_come_together_in_their_order(
    targetids: list[int], random: Any
) -> None:
    rows = np.array(random.sample(range(100), len(targetids)), dtype=np.int64)
    selection = Selection.of_targets(rows, np.array(targetids, dtype=np.int64))
    expected = [[int(rows[k]) for k in group] for group in groups(targetids)]
    assert split(selection) == expected
    assert selection.first.tolist() == [group[0] for group in expected]
    owners = [k for k, group in enumerate(expected) for _ in group]
    assert selection.owners.tolist() == owners


@given(st.lists(st.integers(1, 5), max_size=12), st.integers(1, 8))
def test_batches_are_whole_rows_of_the_table_of_no_more_than_their_size(
    counts: list[int], size: int
) -> None:
    indices = np.arange(sum(counts))[::-1].copy()
    whole = Selection(indices, np.array(counts, dtype=np.int64))
    batches = list(whole.batches(size))
    places = [place for rows, _ in batches for place in range(rows.start, rows.stop)]
    assert places == list(range(len(counts)))
    assert [part for _, batch in batches for part in split(batch)] == split(whole)
    for rows, batch in batches:
        assert batch.indices.size <= size or batch.counts.size == 1
        # Not one more row of the table would have fitted.
        following = counts[rows.stop] if rows.stop < len(counts) else size
        assert batch.indices.size + following > size
