"""Compare tables with truth: purity, completeness, redshifts, and rows that disagree.

TRUTH is a table of visual inspections, of redrock or of SDSS' pipeline, or a catalogue
of quasars, or a text with TARGETID, Z and SPECTYPE. Each TABLE is one of qnp-xp
classify or merge. Several tables must be of the same network, and are counted together.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from .._printing import say
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    meaning = (
        "table of classify or merge, or @LIST, a file with one of these on each line"
    )
    add("files TABLE", meaning, nargs="+")
    add(
        "--truth TRUTH",
        "table of what is known of the objects: FITS or text",
        required=True,
    )
    meaning = "second set of tables to compare with, such as those of older weights"
    add("--compare TABLE", meaning, nargs="+")
    meaning = (
        "report to write: .fits for all tables, .csv for the rows that disagree, .png"
        " or .pdf for the pictures; without an ending, OUT.fits and OUT.png"
    )
    add("-o --output OUT", meaning)
    add("--overwrite", "replace older reports")
    meaning = "find the lowest threshold that gives this purity, which is 0 to 1"
    add("--purity PURITY", meaning, type=float)
    meaning = "confidence above which a line counts (default: that of the table)"
    add("--c-thresh C_THRESH", meaning, type=float)
    meaning = (
        "number of such lines that a quasar has at least (default: that of the table)"
    )
    add("--n-thresh N_THRESH", meaning, type=int)
    meaning = (
        "how far from 0 dz/(1+z) of a good redshift may be (default: %(default)s, which"
        " is 2998 km/s)"
    )
    add("--dz DZ", meaning, type=float, default=0.01)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from .._validate import ENDINGS, validate
    from ..io._files import ensure_apart, ensure_writable
    from ..io.open import read_lists
    from ..plot import new_figure

    files, others = read_lists(args.files), read_lists(args.compare or [])
    lists = [x[1:] for x in (*args.files, *(args.compare or ())) if x.startswith("@")]
    inputs = [*files, *others, *lists, args.truth]
    outputs = _outputs(args, ENDINGS)
    for path in outputs:
        ensure_writable(path, args.overwrite, inputs)
    ensure_apart(outputs)
    if any(path.suffix.lower() in (".png", ".pdf") for path in outputs):
        new_figure()  # matplotlib may be missing
    found = validate(
        files,
        args.truth,
        other=others or None,
        c_thresh=args.c_thresh,
        n_thresh=args.n_thresh,
        dz=args.dz,
        purity=args.purity,
    )
    for line in str(found).splitlines():
        say(line)
    for path in outputs:
        found.write(path, overwrite=args.overwrite)
    if outputs:
        say(f"report -> {', '.join(map(str, outputs))}")
    return 0


def _outputs(args: argparse.Namespace, endings: Collection[str]) -> list[Path]:
    """Name the files of the report."""
    if not args.output:
        return []
    output = Path(args.output)
    if output.suffix.lower() in endings:
        return [output]
    if output.suffix:
        args.parser.error(f"-o {args.output}: names end in {', '.join(endings)}")
    return [output.with_suffix(ending) for ending in (".fits", ".png")]
