"""Make a page to look at spectra and judge them.

The page is one file, which any browser opens without a network. Judgements are saved as
a csv in the form of DESI's prospect. This needs Bokeh: pip install '.[inspect]' in a
checkout.
"""

from __future__ import annotations

import argparse

from .._data import NEAR
from .._printing import say
from . import _shared
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    meaning = (
        "any file that classify takes, or @LIST, a file with one of these on each line"
    )
    add("files FILE", meaning, nargs="+")
    _shared.add_model(add)
    meaning = (
        "show the results in this table of classify or merge, with its column Z_FIT"
        " (default: the spectra are classified)"
    )
    add("--table QN", meaning)
    add(
        "-o --output OUT",
        "page to write (default: %(default)s)",
        default="inspect.html",
    )
    add("--overwrite", "replace an older page")
    add_either = adder(p.add_mutually_exclusive_group())
    _shared.add_targetids(add_either, " (default: all spectra)")
    add_either(*_shared.ROWS, type=_shared.row_list)
    add_either("--quasars", "only the quasars")
    meaning = (
        f"only spectra whose deciding confidence is within {NEAR} of the threshold"
    )
    add_either("--near-threshold", meaning)
    meaning = "only spectra whose class or redshift is another one in the table TRUTH"
    add_either("--disagree TRUTH", meaning)
    meaning = (
        "largest number of spectra, if you do not name them (default: %(default)s)"
    )
    add("--limit N", meaning, type=int, default=300)
    add("--use-mask", "leave out pixels whose MASK is set")
    meaning = (
        "confidence above which a line counts (default: that of the table or the"
        " network, else 0.5)"
    )
    add("--c-thresh C_THRESH", meaning, type=float)
    meaning = (
        "number of such lines that a quasar has at least (default: that of the table,"
        " else 1)"
    )
    add("--n-thresh N_THRESH", meaning, type=int)
    _shared.add_lines(add)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from .._inspect._make import make_page
    from .._inspect._rows import Ask
    from ..io._truth import open_truth
    from ..io.open import read_lists

    truth = None
    targetids = _shared.all_ids(args.targetids)
    if args.disagree is not None:
        truth = open_truth(args.disagree)
    made = make_page(
        *(read_lists(args.files), args.model, args.output),
        ask=Ask(args.rows, targetids, args.quasars, args.near_threshold, truth),
        table=args.table,
        limit=args.limit,
        overwrite=args.overwrite,
        settings={
            "c_thresh": args.c_thresh,
            "n_thresh": args.n_thresh,
            "use_mask": args.use_mask or None,
        },
        lines=args.lines,
        lines_bal=args.lines_bal,
    )
    say(made)
    return 0
