"""What is known of objects from elsewhere: their classes and redshifts.

Tables of truth have many forms: of visual inspections, of redrock, of SDSS' pipeline,
and catalogues of quasars. The columns of a table say of which form it is.
"""

from __future__ import annotations

import csv
import enum
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._text import read_text
from ..errors import SpectraError
from ._files import ensure_name
from ._fits import FitsFile
from ._truth_forms import (
    ALIASES,
    BAL_MARKS,
    FIBER,
    RESULTS,
    SIGNAL,
    SKY,
    WANTED,
    Form,
    find_form,
    refuse,
)
from .source import IDENTIFIERS, identify

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
_Problem = Callable[[str], Exception]

_TYPES = {**IDENTIFIERS, "THING_ID": "i8"}


class Kind(enum.IntEnum):
    """What an object is."""

    UNKNOWN = 0
    STAR = 1
    GALAXY = 2
    QUASAR = 3


_WORDS = {
    **dict.fromkeys(("QSO", "QUASAR"), Kind.QUASAR),
    **dict.fromkeys(("GALAXY", "GAL"), Kind.GALAXY),
    **dict.fromkeys(("STAR", "WD"), Kind.STAR),
    **dict.fromkeys(("", "?", "-", "--", "NAN", "NONE", "N/A"), Kind.UNKNOWN),
    **dict.fromkeys(("UNKNOWN", "UNSURE", "SKY", "BAD"), Kind.UNKNOWN),
}
_BLANK = [word for word, kind in _WORDS.items() if kind == Kind.UNKNOWN]
# Of CLASS_PERSON; 0 says that nobody inspected the spectrum, and 50 is a blazar.
_CLASSES = {1: Kind.STAR, 3: Kind.QUASAR, 4: Kind.GALAXY, 30: Kind.QUASAR}
_BAL_CLASS = 30
_NOTHING = np.empty(())


@dataclass(frozen=True)
class Truth:
    """What is known of n objects."""

    #: What messages call it.
    name: str
    #: TARGETID; PLATE, MJD, FIBERID; THING_ID; SDSS_ID; TARGET_RA, TARGET_DEC in
    #: degrees: those that are known.
    identifiers: dict[str, NDArray[Any]]
    #: NaN where it is not known.
    z: Float64
    #: Values of `Kind`.
    kind: NDArray[np.int8]
    #: 1 for a quasar with broad absorption lines, 0 for one without, -1 if unknown.
    bal: NDArray[np.int8]
    #: Whether class and redshift are beyond doubt.
    sure: Bool
    #: Signal to noise ratio of each, and the column that has it, where there is one.
    signal: Float64 | None = None
    signal_name: str = ""

    @property
    def n(self) -> int:
        """Number of objects."""
        return int(self.z.size)

    @property
    def is_quasar(self) -> Bool:
        """Whether each is a quasar."""
        return np.equal(self.kind, int(Kind.QUASAR))


def open_truth(source: Any) -> Truth:
    """Read truth from a file, or from columns in memory, by their names."""
    if isinstance(source, Truth):
        return source
    if isinstance(source, np.ndarray) and source.dtype.names:
        source = {name: source[name] for name in source.dtype.names}
    if isinstance(source, Mapping):
        columns = {name.upper(): np.asarray(x) for name, x in source.items()}
        return _truth(columns, "truth", lambda what: SpectraError(f"truth: {what}"))
    ensure_name(source, "truth")
    path = Path(source)
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith((b"SIMPLE", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return _read_fits(path)
    columns = _read_text_table(path)
    return _truth(columns, str(path), lambda what: SpectraError(f"{path}: {what}"))


def _read_fits(path: Path) -> Truth:
    """Read the first table of a file that says what objects are."""
    with FitsFile(path) as file:
        names = [set(file.column_names(hdu)) for hdu in range(len(file))]
        hdus = [hdu for hdu, found in enumerate(names) if find_form(found)]
        # Of the spectra themselves, and of their lines, there are tables as well.
        named = set(itertools.chain(*ALIASES.values()))
        hdu = next((hdu for hdu in hdus if names[hdu] & named), None)
        if hdu is None or any(found >= RESULTS for found in names):
            refuse(set().union(*names), lambda what: SpectraError(f"{path}: {what}"))
        problem = functools.partial(file.problem, hdu)
        return _truth(file.columns(hdu, WANTED), str(path), problem)


def _read_text_table(path: Path) -> dict[str, NDArray[Any]]:
    """Read a text with a line of names, parted by commas or whatever these have."""
    try:
        text = read_text(path)
    except ValueError as err:
        raise SpectraError(f"{path}: neither a FITS file nor a text ({err})") from err
    lines = [x for x in text.splitlines() if x.strip() and not x.startswith("#")]
    if len(lines) < 2:
        raise SpectraError(f"{path}: needs a line of names, and a line for each object")
    parting = next((sign for sign in ",;\t" if sign in lines[0]), " ")
    try:
        rows = list(csv.reader(lines, delimiter=parting, skipinitialspace=True))
    except csv.Error as err:
        raise SpectraError(f"{path}: is no table ({err})") from err
    names = [name.strip().upper().replace(" ", "_") for name in rows[0]]
    if not find_form(names):
        refuse(names, lambda what: SpectraError(f"{path}: {what}"))
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            what = f"object {number} has {len(row)} values for {len(names)} names"
            raise SpectraError(f"{path}: {what}")
    columns = (np.asarray(values, dtype="U") for values in zip(*rows[1:], strict=True))
    return dict(zip(names, columns, strict=True))


def _truth(columns: Mapping[str, NDArray[Any]], name: str, problem: _Problem) -> Truth:
    """Make truth of columns with upper-case names."""
    form = find_form(columns)
    if form is None or columns.keys() >= RESULTS:
        refuse(columns, problem)
    n = len(next(iter(columns.values())))
    identifiers = _identifiers(columns, n, problem)
    if form.kind == "VI_SPECTYPE":
        columns = _with_pipeline(columns)
    kind = _kinds(columns, form, n, problem)
    (column, *_) = (name for name in form.z if name in columns)
    z = _numbers(columns[column], column, problem)
    if not kind.size == z.size == n:
        raise problem(f"has {z.size} redshifts and {kind.size} classes of {n} objects")
    sure = kind != int(Kind.UNKNOWN)
    for column in [name for name in form.quality if name in columns][:1]:
        quality = _numbers(columns[column], column, problem)
        sure &= quality == 0 if form.least is None else quality >= form.least
    if not np.any(kind):
        raise problem(f"says of none of its {n} objects what it is")
    bal = _broad_absorption(columns, kind, problem)
    column = next((x for x in SIGNAL if columns.get(x, _NOTHING).ndim == 1), "")
    signal = _numbers(columns[column], column, problem) if column else None
    # Markers such as -1 and -999 are no redshifts.
    z = np.where(np.isfinite(z) & (z > -0.5), z, np.nan)
    return Truth(name, identifiers, z, kind, bal, sure, signal, column)


def _identifiers(
    columns: Mapping[str, NDArray[Any]], n: int, problem: _Problem
) -> dict[str, NDArray[Any]]:
    """Find the columns that say which object a row is."""
    found: dict[str, NDArray[Any]] = {}
    for name, aliases in ALIASES.items():
        for alias in [alias for alias in aliases if alias in columns][:1]:
            values = columns[alias]
            if values.dtype.kind in "SU":
                convert = _numbers if _TYPES[name] == "f8" else _integers
                values = convert(values, alias, problem)
            found[name] = values
    for group in (FIBER, SKY):  # a part of them says nothing
        if not found.keys() >= set(group):
            found = {name: x for name, x in found.items() if name not in group}
    if not found:
        what = "TARGETID; PLATE, MJD, FIBERID; THING_ID; SDSS_ID; or RA, DEC"
        raise problem(f"does not say which object is which: {what} is needed")
    return identify(found, n, problem, {name: _TYPES[name] for name in found})


def _texts(values: NDArray[Any]) -> NDArray[np.str_]:
    """Give texts without blanks about them, upper case."""
    return np.char.upper(np.char.strip(values.astype("U")))


def _numbers(values: NDArray[Any], name: str, problem: _Problem) -> Float64:
    """Read numbers, perhaps written as texts; NaN where there is none."""
    if values.dtype.kind not in "SU":
        if values.dtype.kind not in "biuf" or values.ndim != 1:
            raise problem(f"column {name} has {values.dtype}, and no numbers")
        return values.astype(np.float64)
    words = _texts(values)
    words = np.where(np.isin(words, _BLANK), "NAN", words)
    try:
        return words.astype(np.float64)
    except ValueError as err:
        raise problem(f"column {name} has texts that are no numbers ({err})") from err


def _integers(values: NDArray[Any], name: str, problem: _Problem) -> Int64:
    """Read integers of 64 bits that are written as texts, -1 where there is none."""
    found = []
    for word in _texts(values).tolist():
        try:
            found.append(np.int64(int(word or -1)))
        except (ValueError, OverflowError):
            what = f"column {name} needs integers of 64 bits, and {word!r} is none"
            raise problem(what) from None
    return np.asarray(found, dtype=np.int64)


def _kinds(
    columns: Mapping[str, NDArray[Any]], form: Form, n: int, problem: _Problem
) -> NDArray[np.int8]:
    """Find what each object is."""
    if not form.kind:
        return np.full(n, int(Kind.QUASAR), dtype=np.int8)
    values = columns[form.kind]
    if form.kind == "CLASS_PERSON":
        numbers = _numbers(values, form.kind, problem)
        known = [numbers == number for number in _CLASSES]
        return np.select(known, [int(k) for k in _CLASSES.values()]).astype(np.int8)
    if values.dtype.kind not in "SU":
        raise problem(f"column {form.kind} has {values.dtype}, and no names of classes")
    words = _texts(values)
    distinct, inverse = np.unique(words, return_inverse=True)
    unknown = [word for word in distinct.tolist() if word not in _WORDS]
    if unknown:
        said = ", ".join(repr(word) for word in unknown[:3])
        raise problem(f"column {form.kind} has {said}: none of QSO, GALAXY and STAR")
    kinds = np.asarray([int(_WORDS[word]) for word in distinct.tolist()], dtype=np.int8)
    return kinds[inverse.reshape(-1)]


def _with_pipeline(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Fill in the pipeline's class and redshift where inspectors left a blank.

    This is what prospect's files mean, unless the issues of the row say that it is
    wrong, by the letter C of the class and R of the redshift.
    """
    filled = dict(columns)
    issues = _texts(columns.get("VI_ISSUE", np.full(columns["VI_Z"].size, "")))
    for name, pipeline, letter in (
        ("VI_SPECTYPE", "REDROCK_SPECTYPE", "C"),
        ("VI_Z", "REDROCK_Z", "R"),
    ):
        if pipeline in columns:
            own = _texts(columns[name])
            kept = np.isin(own, _BLANK) & (np.char.find(issues, letter) < 0)
            filled[name] = np.where(kept, _texts(columns[pipeline]), own)
    return filled


def _broad_absorption(
    columns: Mapping[str, NDArray[Any]], kind: NDArray[np.int8], problem: _Problem
) -> NDArray[np.int8]:
    """Tell quasars with broad absorption lines, by flag and balnicity index.

    Nothing is known where both are there and contradict each other.
    """
    marks = [_numbers(columns[x], x, problem) for x in BAL_MARKS if x in columns]
    if not marks and "CLASS_PERSON" in columns:
        classes = _numbers(columns["CLASS_PERSON"], "CLASS_PERSON", problem)
        marks = [np.where(classes == _BAL_CLASS, 1.0, -1.0)]
    bal = np.full(kind.size, -1, dtype=np.int8)
    if marks:
        bal[np.all([mark == 0 for mark in marks], axis=0)] = 0
        bal[np.all([mark > 0 for mark in marks], axis=0)] = 1
    bal[kind != int(Kind.QUASAR)] = -1
    return bal
