"""Spectra to train on: what the network would see of them, and what they are."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._binning import Rebinner
from .._options import Options
from .._xp.backend import resolve
from ..errors import NoSpectraError, SpectraError
from ..io._match import match
from ..io._prepare import Preparer
from ..io._truth import Kind, Truth, open_truth
from ..io._truth_forms import FIBER, SKY
from ..io.open import group_inputs, open_group
from ..io.source import Source
from ..selection import Selection
from ..spectra import average, normalize

_log = logging.getLogger(__name__)

Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
Bool: TypeAlias = NDArray[np.bool_]
Int64: TypeAlias = NDArray[np.int64]
Files: TypeAlias = "str | Path | Sequence[str | Path]"

#: Targets of a kind from which on some can be held out.
FEWEST = 10
#: What one is called, and several.
_WORDS = {
    Kind.QUASAR: ("quasar", "quasars"),
    Kind.GALAXY: ("galaxy", "galaxies"),
    Kind.STAR: ("star", "stars"),
    Kind.UNKNOWN: ("negative", "negatives"),
}
_UNKNOWN = {"TARGETID": -1, **dict.fromkeys(FIBER, -1), **dict.fromkeys(SKY, np.nan)}


@dataclass(frozen=True)
class Examples:
    """Spectra on the grid of a network, and what they are."""

    flux: Float32
    ivar: Float32
    #: NaN for what is not a quasar.
    z: Float64
    #: Values of `Kind`; what was named as no quasar is UNKNOWN.
    kind: NDArray[np.int8]
    #: 1 for broad absorption lines, 0 for none, -1 where nobody knows.
    bal: NDArray[np.int8]
    #: Which rows are of one target, by a number of it.
    target: Int64
    #: Why other spectra are left out, and how many.
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of spectra."""
        return int(self.z.size)

    @property
    def quasar(self) -> Bool:
        """Whether each is a quasar."""
        return np.equal(self.kind, int(Kind.QUASAR))

    def take(self, rows: Int64 | Bool) -> Examples:
        """Keep some rows."""
        names = [x.name for x in fields(self) if x.name != "left_out"]
        return Examples(**{name: getattr(self, name)[rows] for name in names})

    def normalized(self) -> Float32:
        """Give the input of the network."""
        return np.asarray(normalize(self.flux, self.ivar)[0], dtype=np.float32)

    def describe(self) -> str:
        """Say what they are: classes and redshifts."""
        counts = collections.Counter(self.kind.tolist())
        said = [
            f"{counts[int(kind)]} {words[counts[int(kind)] != 1]}"
            for kind, words in _WORDS.items()
        ]
        z = self.z[self.quasar]
        ranges = f" (z {z.min():.2f} to {z.max():.2f})" if z.size else ""
        bal = int(np.sum(self.bal == 1))
        said[0] += ranges + (f", {bal} of them with BALs" if bal else "")
        there = [text for text in said if not text.startswith("0 ")]
        targets = np.unique(self.target).size
        return f"{self.n} spectra of {targets} targets: {', '.join(there)}"


def read_examples(
    data: Iterable[tuple[Files, Any]], negatives: Files, wave: Float64, options: Options
) -> Examples:
    """Read files with their truth, and files that hold no quasars.

    What `classify` would not score is left out, and so is what truth does not know, or
    not for sure.
    """
    parts: list[tuple[dict[str, NDArray[Any]], tuple[NDArray[Any], ...]]] = []
    left_out: collections.Counter[str] = collections.Counter()
    rebinner = Rebinner(wave, resolve("cpu", None))
    for number, (files, given) in enumerate([*data, (negatives, None)]):
        truth = None if given is None else open_truth(given)
        before = len(parts)
        for source in _sources(files):
            with source:
                found = _read(source, truth, rebinner, options, left_out)
                if found is not None:
                    columns, arrays = found
                    row = columns["ROW"]
                    columns["ROW"] = np.where(row < 0, -1, row + (number << 40))
                    parts.append((columns, arrays))
        if truth is not None and len(parts) == before:
            names = ", ".join(map(str, names_of(files)[:3]))
            msg = f"{truth.name}: has no sure label for a usable spectrum of {names}"
            raise SpectraError(msg)
    if not parts:
        msg = "there are no spectra to train on"
        raise SpectraError(msg)
    columns = {
        name: np.concatenate([columns[name] for columns, _ in parts])
        for name in parts[0][0]
    }
    flux, ivar, z, kind, bal = (
        np.concatenate(each) for each in zip(*(x for _, x in parts), strict=True)
    )
    target = _targets(columns)
    return Examples(flux, ivar, z, kind, bal, target, dict(left_out))


def names_of(files: Files) -> list[str | Path]:
    """List files, of which there may be one."""
    return [files] if isinstance(files, (str, Path)) else list(files)


def _sources(files: Files) -> Iterator[Source]:
    """Open each file, or the cframes that belong together."""
    for group in group_inputs(names_of(files)):
        try:
            yield open_group(group)
        except NoSpectraError as err:
            _log.warning("skipped: %s", err)


def _read(
    source: Source,
    truth: Truth | None,
    rebinner: Rebinner,
    options: Options,
    left_out: collections.Counter[str],
) -> tuple[dict[str, NDArray[Any]], tuple[NDArray[Any], ...]] | None:
    """Read what is labelled of a source: what it is called, and what it is."""
    target = np.ones(source.n, dtype=bool) if source.target is None else source.target
    left_out["not science targets"] += int(np.sum(~target))
    rows = np.flatnonzero(target).astype(np.int64)
    row: NDArray[np.int64] = np.full(source.n, -1, dtype=np.int64)
    if truth is not None:
        if not source.identifiers:
            msg = f"{source.name}: says of no spectrum which object it is"
            raise SpectraError(msg)
        row = match(source.identifiers, truth)
        known = (row >= 0) & (truth.kind[row] != int(Kind.UNKNOWN))
        left_out["without a class in the truth"] += int(np.sum(~known[rows]))
        sure = known & truth.sure[row]
        left_out["with an unsure label"] += int(np.sum(known[rows] & ~sure[rows]))
        rows = rows[sure[rows]]
        lacking = truth.is_quasar[row[rows]] & ~np.isfinite(truth.z[row[rows]])
        if np.any(lacking):
            msg = (
                f"{truth.name}: {int(lacking.sum())} quasars have no redshift, of row"
                f" {int(row[rows][lacking][0])} for one"
            )
            raise SpectraError(msg)
    selection = source.select(rows, options.coadd)
    prepare = Preparer(source, rebinner, rebinner.backend, options.use_mask)
    pixels = [_bins(prepare, part) for _, part in selection.batches(options.batch_size)]
    if not pixels:
        return None
    flux, ivar, good = map(np.concatenate, zip(*pixels, strict=True))
    left_out["without usable pixels"] += int(np.sum(~good))
    if not np.any(good):
        return None
    rows = selection.first[good]
    columns = {"ROW": row[rows]}
    for name, unknown in _UNKNOWN.items():
        values = source.identifiers.get(name)
        columns[name] = (
            np.full(rows.size, unknown) if values is None else np.asarray(values)[rows]
        )
    if truth is None:
        nothing = np.zeros(rows.size, dtype=np.int8)
        labels = np.full(rows.size, np.nan), nothing, nothing - np.int8(1)
    else:
        row = row[rows]
        z = np.where(truth.is_quasar[row], truth.z[row], np.nan)
        labels = z, truth.kind[row], truth.bal[row]
    return columns, (flux[good], ivar[good], *labels)


def _bins(prepare: Preparer, batch: Selection) -> tuple[Float32, Float32, Bool]:
    """Give flux and inverse variance of a batch, and which rows can be scored."""
    flux, ivar, *_ = prepare.sums(batch)
    flux = average(flux, ivar)
    _, weighted, varied = normalize(flux, ivar)
    with np.errstate(over="ignore"):
        flux, ivar = (np.asarray(x, dtype=np.float32) for x in (flux, ivar))
    finite = np.all(np.isfinite(flux) & np.isfinite(ivar), axis=1)
    return flux, ivar, np.asarray(weighted & varied) & finite


def _targets(columns: dict[str, NDArray[Any]]) -> Int64:
    """Give rows of one TARGETID, fiber, place or row of truth the same number."""
    n = columns["TARGETID"].size
    blank = np.zeros(n, dtype=np.int8)
    label = np.arange(n)
    links = []
    for known in (
        {"TARGETID": columns["TARGETID"]},
        {"TARGETID": columns["ROW"]},  # of truth
        {name: columns[name] for name in FIBER},
        {name: columns[name] for name in SKY},
    ):
        itself = Truth("", known, np.full(n, np.nan), blank, blank - 1, blank > 0)
        first = match(known, itself)
        links.append(np.where(first < 0, label, first))
    while True:
        before = label
        for first in links:
            label = np.minimum(label, label[first])
            np.minimum.at(label, first, label.copy())
        if np.array_equal(before, label):
            return label


def hold_out(examples: Examples, share: float, seed: int) -> Bool:
    """Choose the rows that are held out: all of some targets, of both kinds."""
    rng = np.random.default_rng(seed)
    quasars = np.unique(examples.target[examples.quasar])
    others = np.setdiff1d(examples.target, quasars)
    chosen = []
    for targets, what in ((quasars, "quasars"), (others, "no quasars")):
        if targets.size < FEWEST:
            hint = ""
            if what == "no quasars":
                hint = "; name files of stars and galaxies as well (--negatives)"
            msg = (
                f"{targets.size} of the labelled targets are {what}: to train on some"
                f" and hold some out, {FEWEST} or more are needed{hint}"
            )
            raise SpectraError(msg)
        count = min(max(round(share * targets.size), 1), targets.size - 1)
        chosen.append(rng.permutation(targets)[:count])
    return np.isin(examples.target, np.concatenate(chosen))
