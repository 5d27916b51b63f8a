"""The forms of truth: which columns tables have, and what these mean together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

#: Columns that together say which object a row is.
FIBER = ("PLATE", "MJD", "FIBERID")
SKY = ("TARGET_RA", "TARGET_DEC")
# What these and others may be called.
ALIASES = {
    **{name: (name,) for name in ("TARGETID", *FIBER, "THING_ID", "SDSS_ID")},
    "TARGET_RA": ("TARGET_RA", "RA", "PLUG_RA"),
    "TARGET_DEC": ("TARGET_DEC", "DEC", "PLUG_DEC"),
}


@dataclass(frozen=True)
class Form:
    """Columns that go together: class, redshift, and how sure they are."""

    kind: str
    z: tuple[str, ...]
    quality: tuple[str, ...] = ()
    #: From which quality on they are; without it, at zero.
    least: float | None = None


_Z = ("Z", "REDSHIFT", "Z_TRUE", "TRUE_Z", "TRUEZ", "Z_BEST")
_ZWARN = ("ZWARN", "ZWARNING")

#: The first that fits counts: people have looked where there is a pipeline's as well.
#: DESI's inspectors call a mean quality of 2.5 sure (Alexander et al. 2023).
FORMS = (
    Form("CLASS_PERSON", ("Z_VI", "Z"), ("Z_CONF_PERSON", "Z_CONF"), 3),
    Form("BEST_SPECTYPE", ("BEST_Z",), ("BEST_QUALITY",), 2.5),
    Form("VI_SPECTYPE", ("VI_Z",), ("VI_QUALITY",), 2.5),
    Form("TRUE_SPECTYPE", ("TRUE_Z", *_Z)),
    Form("TRUESPECTYPE", ("TRUEZ", *_Z)),
    Form("SPECTYPE", _Z, _ZWARN),
    Form("CLASS", _Z, _ZWARN),
)
# Columns that catalogues of quasars alone have: each of their rows is a quasar.
_OF_QUASARS = ("BI_CIV", "AI_CIV", "BAL_PROB", "Z_QSO")
QUASARS = Form("", ("Z_QSO", *_Z), _ZWARN)
# Flags of broad absorption lines, and the balnicity index.
BAL_MARKS = ("BAL_FLAG_VI", "IS_BAL", "BAL", "BI_CIV")
#: What may say how good a spectrum is.
SIGNAL = ("SNR", "SN", "SN_MEDIAN_ALL", "TSNR2_QSO", "TSNR2_LYA")
WANTED = [
    *itertools.chain(*ALIASES.values(), *((f.kind, *f.z, *f.quality) for f in FORMS)),
    *(*_OF_QUASARS, *BAL_MARKS, "REDROCK_SPECTYPE", "REDROCK_Z", "VI_ISSUE"),
    *SIGNAL,
]
_CLASS_NAMES = tuple(form.kind for form in FORMS)
#: Columns by which the results of this package are told.
RESULTS = {"IS_QSO_QN", "Z_QN_CONF", "QN_STATUS"}


def find_form(names: Iterable[str]) -> Form | None:
    """Find the form of a table by its columns."""
    known = set(names)
    if known.intersection(_OF_QUASARS) and not known.intersection(_CLASS_NAMES):
        return QUASARS if known.intersection(QUASARS.z) else None
    fit = (f for f in FORMS if f.kind in known and known.intersection(f.z))
    return next(fit, None)


def refuse(names: Iterable[str], problem: Callable[[str], Exception]) -> NoReturn:
    """Say what a table lacks that is no truth."""
    known = set(names)
    kinds = f"a class ({', '.join(_CLASS_NAMES)})"
    if known >= RESULTS:
        what = "is a table of qnp-xp classify, and what a network says is no truth"
    elif known.intersection(_CLASS_NAMES):
        what = "has classes, and no redshifts that go with them (as Z)"
    elif known.intersection(itertools.chain(*(form.z for form in FORMS))):
        what = f"has redshifts without classes: {kinds} is needed"
    else:
        what = f"has no truth: {kinds} and a redshift (as Z) are needed"
    raise problem(what)
