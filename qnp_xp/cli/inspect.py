"""Make a page to look at spectra and judge them.

It is one file that any browser opens, without a network. Judgements are saved as the
csv that DESI's prospect writes. Needs Bokeh, which pip install '.[inspect]' brings in a
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
    meaning = "whatever classify takes, or @LIST, which names one a line"
    add("files FILE", meaning, nargs="+")
    _shared.add_model(add)
    meaning = (
        "table of classify or merge whose results are shown, those of a column Z_FIT"
        " too (the spectra are classified)"
    )
    add("--table QN", meaning)
    add("-o --output OUT", "page to write (%(default)s)", default="inspect.html")
    add("--overwrite", "replace an older page")
    add_either = adder(p.add_mutually_exclusive_group())
    _shared.add_targetids(add_either, " (all spectra)")
    add_either(*_shared.ROWS, type=_shared.row_list)
    add_either("--quasars", "the quasars")
    meaning = f"spectra whose deciding confidence is within {NEAR} of the threshold"
    add_either("--near-threshold", meaning)
    meaning = "spectra of which a table says otherwise: no quasar, or another redshift"
    add_either("--disagree TRUTH", meaning)
    meaning = "most spectra that are not named one by one (%(default)s)"
    add("--limit N", meaning, type=int, default=300)
    add("--use-mask", "leave out pixels whose MASK is set")
    add("--c-thresh C_THRESH", "confidence of a line (0.5, or the table's)", type=float)
    add("--n-thresh N_THRESH", "lines that make a quasar (1, or the table's)", type=int)
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
