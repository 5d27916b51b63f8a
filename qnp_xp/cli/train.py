"""Train a network on your own labels, or tune one.

Give a --truth after each --data. This needs Keras 3 and PyTorch: pip install '.[train]'
in a checkout.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from .._printing import flush, say, step_bar
from ..errors import MissingLibraryError
from . import _shared
from ._shared import adder

#: Options that `train` has under the same names.
_SETTINGS = (
    *("start", "lines", "lines_bal", "steps", "epochs", "minutes", "held", "seed"),
    *("rate", "batch_size", "noise", "shift", "use_mask", "coadd", "threads"),
    *("overwrite", "dry_run"),
)


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    meaning = (
        "files of spectra, or @LIST, a file with one on each line; may be given again"
    )
    add("--data FILE", meaning, nargs="+", action="append", required=True)
    meaning = "table of what is known of these, as for validate; one for each --data"
    add("--truth TRUTH", meaning, action="append", required=True)
    meaning = "files of spectra without any quasar"
    add("--negatives FILE", meaning, nargs="+", default=[])
    meaning = (
        "begin with these weights, of any kind that classify takes, or with bundled for"
        " those that ship with the package (default: random weights)"
    )
    add("--from WEIGHTS", meaning, dest="start")
    meaning = "weights file to write, .h5 or .keras; the curve is drawn beside it"
    add("-o --output OUT", meaning, required=True)
    add("--overwrite", "replace older files")
    add("--dry-run", "print what the training would use, and end")
    add_either = adder(p.add_mutually_exclusive_group())
    meaning = "number of batches (default: 600 with --from, else 6000)"
    add_either("--steps N", meaning, type=int)
    add_either(
        "--epochs N",
        "number of passes over the spectra, instead of --steps",
        type=float,
    )
    add("--minutes N", "number of minutes after which training ends", type=float)
    meaning = "fraction of the targets that is held out (default: %(default)s)"
    add("--held FRACTION", meaning, type=float, default=0.2)
    meaning = "seed of the random numbers (default: %(default)s)"
    add("--seed N", meaning, type=int, default=0)
    meaning = "largest learning rate (default: 1e-4 with --from, else 2e-3)"
    add("--rate RATE", meaning, type=float)
    meaning = (
        "number of spectra in a batch, of which half are quasars (default: %(default)s)"
    )
    add("--batch-size N", meaning, type=int, default=64)
    meaning = "largest factor by which noise makes errors larger (default: %(default)s)"
    add("--noise FACTOR", meaning, type=float, default=3.0)
    meaning = "largest shift of a spectrum in redshift, in bins (default: %(default)s)"
    add("--shift BINS", meaning, type=int, default=30)
    meaning = (
        "number of PyTorch's threads; it changes the network (default: %(default)s)"
    )
    add("--threads N", meaning, type=int, default=1)
    add("--use-mask", "leave out pixels whose MASK is set")
    add("--coadd", "add up the spectra of each target")
    _shared.add_lines(add)
    add("-q --quiet", "print only the results on what is held out")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from .._train import train
    from .._train._curve import draw_curve
    from ..io._files import atomic_write, ensure_apart, ensure_writable
    from ..io.open import read_lists
    from ..plot import png

    if len(args.data) != len(args.truth):
        args.parser.error(
            f"each --data needs its --truth: {len(args.data)} and {len(args.truth)}"
            " are given"
        )
    data = [
        (read_lists(files), truth)
        for files, truth in zip(args.data, args.truth, strict=True)
    ]
    output = Path(args.output)
    picture = output.with_suffix(".png")
    ensure_apart([output, picture])
    ensure_writable(picture, args.overwrite or args.dry_run)
    settings = {name: getattr(args, name) for name in _SETTINGS}
    with step_bar(args.quiet) as show:
        done = train(
            data,
            output,
            negatives=read_lists(args.negatives),
            tell=None if args.quiet and not args.dry_run else _say_all,
            progress=lambda step, steps, loss, held: show(
                step, steps, f"loss {loss:.3g}, {held:.3g} on what is held out"
            ),
            **settings,
        )
    if done.validation is None:  # a dry run
        return 0
    _say_all(str(done.validation).splitlines())
    steps = done.plan.steps
    say(f"weights of step {done.step} of {steps} -> {output}")
    say(f"a line counts above {done.c_thresh:.3f}, as the file says")
    try:
        figure = draw_curve(done.curve, done.step, output.name)
    except MissingLibraryError as err:
        say(f"no picture: {err}")
    else:
        atomic_write(picture, png(figure))
        say(f"curve -> {picture}")
    return 0


def _say_all(lines: Iterable[str]) -> None:
    """Print lines, and have them seen before what comes next."""
    for line in lines:
        say(line)
    flush("stdout")
