"""One table of the rows of many inputs, which says what became of each of them."""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._text import as_ascii, explain, printable
from ..errors import NoSpectraError, SpectraError
from ._catalog import current_table
from ._files import file_stamp
from ._fits import FitsFile
from ._merge import Part, merge_tables
from ._table_forms import Card
from .open import joint_name, open_group
from .sdss import with_zbest
from .source import Source

_log = logging.getLogger(__name__)

#: Inputs without a table that the header names.
_MOST_NAMED = 100
_LONGEST = 60  # letters of a name in the header


@dataclass(frozen=True)
class Input:
    """What became of one input."""

    #: What messages call it.
    name: str
    #: As in the summary of a run: done, failed or skipped.
    state: str
    #: Its rows, where it is done.
    table: NDArray[Any] | None = None
    #: Names of the arms that were used.
    arms: str = ""
    #: Hash of the state of its files.
    stamp: str = ""
    #: Why it is not done.
    message: str = ""


class Found(Protocol):
    """What a source was found to hold."""

    @property
    def table(self) -> NDArray[Any]:
        """Its rows."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that were used."""


def each_input(
    groups: Sequence[Sequence[Path]], score: Callable[[Source], Found]
) -> list[Input]:
    """Open the files of each group, and log why one of them cannot be read."""
    inputs: list[Input] = []
    first: Exception | None = None
    for group in groups:
        name, stamp = joint_name(group), file_stamp(with_zbest(group))
        try:
            with open_group(group) as source:
                found = score(source)
            arms = "".join(found.arms)
            inputs.append(Input(name, "done", found.table, arms, stamp))
        except Exception as err:  # one file of many loses no other
            state = "skipped" if isinstance(err, NoSpectraError) else "failed"
            reason = explain(err) if name in explain(err) else f"{name}: {explain(err)}"
            _log.error("%s: %s", state, reason)
            inputs.append(Input(name, state, stamp=stamp, message=reason))
            first = first or err
    left = sum(x.table is None for x in inputs)
    if first and left == len(inputs):
        raise first
    if left:
        _log.error("%d of %d files are not in the table", left, len(inputs))
    return inputs


def short_names(names: Sequence[str]) -> list[str]:
    """Leave out the folders of inputs, but of those that would share a name."""
    times = collections.Counter(Path(name).name for name in names)
    return [n if times[Path(n).name] > 1 else Path(n).name for n in names]


def join_tables(
    inputs: Sequence[Input], cards: Sequence[Card]
) -> tuple[NDArray[Any], list[Card], NDArray[Any]]:
    """Join the rows of inputs, in their order; `cards` are what their headers share.

    The table has the column QNINPUT, the header says which inputs are lacking, and a
    second table has a row for each input.
    """
    names = [
        as_ascii(printable(name)) for name in short_names([x.name for x in inputs])
    ]
    common = {key: (value, note) for key, value, note in cards}
    parts = []
    for name, found in zip(names, inputs, strict=True):
        if found.table is not None:
            own = {"QNINPUT": (name, ""), "QNARMS": (found.arms, "arms used")}
            header = collections.ChainMap(own, common)
            parts.append(Part(Path(found.name), found.table, header))
    table, merged = merge_tables(parts)
    left_out = {"QNINPUT", "QNTABLES"}
    states = collections.Counter(found.state for found in inputs)
    header_cards = [
        *(card for card in merged if card[0] not in left_out),
        ("QNFILES", len(inputs), "inputs, see HDU INPUTS"),
        ("QNFAIL", states["failed"], "of these, failed: their rows are lacking"),
        ("QNSKIP", states["skipped"], "of these, without spectra"),
    ]
    failed = [n for n, x in zip(names, inputs, strict=True) if x.state == "failed"]
    for number, name in enumerate(failed[:_MOST_NAMED]):
        header_cards.append(
            (f"QNBAD{number:02d}", name[-_LONGEST:], "input that failed")
        )
    return table, header_cards, _inputs_table(names, inputs)


def read_joined(path: Path, identity: Iterable[Card]) -> list[Input]:
    """Read the inputs of a sound joined table with these cards, those that are done.

    There are none where no such table is there.
    """
    table = current_table(path, [card for card in identity if card[0] != "QNSTAMP"])
    if table is None:
        return []
    try:
        with FitsFile(path) as file:
            rows = file.table("INPUTS")
        texts = {
            name: [text.decode() for text in rows[name].astype("S").tolist()]
            for name in ("NAME", "STATE", "ARMS", "STAMP")
        }
    except (OSError, SpectraError, UnicodeError, ValueError):
        return []
    columns = [name for name in table.dtype.names or () if name != "QNINPUT"]
    ends = np.cumsum(rows["ROWS"])
    found = []
    for i, end in enumerate(ends.tolist()):
        if texts["STATE"][i] == "done":
            own = table[columns][end - int(rows["ROWS"][i]) : end]
            facts = (texts["ARMS"][i], texts["STAMP"][i])
            found.append(Input(texts["NAME"][i], "done", own, *facts))
    return found


def _inputs_table(names: Sequence[str], inputs: Sequence[Input]) -> NDArray[Any]:
    """Make a row for each input."""
    columns: dict[str, list[Any]] = {
        "QNINPUT": list(names),
        "NAME": [as_ascii(printable(x.name)) for x in inputs],
        "STATE": [x.state for x in inputs],
        "ROWS": [0 if x.table is None else x.table.size for x in inputs],
        "ARMS": [x.arms for x in inputs],
        "STAMP": [x.stamp for x in inputs],
        "MESSAGE": [as_ascii(printable(x.message)) for x in inputs],
    }
    arrays = []
    for values in columns.values():
        array = np.asarray(values)
        arrays.append(array.astype("S") if array.dtype.kind == "U" else array)
    dtype = [(name, a.dtype) for name, a in zip(columns, arrays, strict=True)]
    found: NDArray[Any] = np.rec.fromarrays(arrays, dtype=dtype)
    return found
