"""The command ``qnp-xp classify``."""

from __future__ import annotations

import argparse
import collections
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._console import complain, say
from .inputs import group_inputs
from .jobs import Job, Orders, Outcome, prepare_jobs, run_job
from .lines import LINES, column_names
from .model import QuasarNP
from .outputs import output_paths
from .pipeline import as_model
from .results import Options, Result

__all__ = ["add_classify"]

_MOST_ROWS = 30  # of the table of quasars on a terminal


def add_classify(commands: Any) -> None:
    """Add the subcommand to a parser.

    Parameters
    ----------
    commands
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    p = commands.add_parser(
        "classify",
        help="find the quasars in files of spectra",
        description="Write a table with a row for every row of each FILE."
        " It is called qn-* for coadd-* and spectra-* and lands in the current folder.",
    )
    add = p.add_argument
    add("files", metavar="FILE", nargs="+", help="coadd, spectra-* or cframe file"
        " of DESI, folder of an exposure, spec-* or spPlate-* file of SDSS, each also"
        " gzipped")  # fmt: skip
    add("-m", "--model", metavar="WEIGHTS", help="weights file ($QN_MODEL_FILE)")
    where = p.add_mutually_exclusive_group()
    where.add_argument(
        "-o", "--output", metavar="OUT", help="table to write (one input)"
    )
    where.add_argument(
        "--outdir",
        metavar="DIR",
        help="folder for the tables, made where it is missing",
    )
    older = p.add_mutually_exclusive_group()
    older.add_argument("--overwrite", action="store_true", help="replace older outputs")
    older.add_argument("--resume", action="store_true", help="keep older outputs that"
        " are whole, newer than their FILE and made with these weights and options;"
        " replace the others")  # fmt: skip
    add("--priors", metavar="PATH", help="priors of the quasars for rrdesi; a folder"
        " where there are several FILEs")  # fmt: skip
    which = p.add_mutually_exclusive_group()
    which.add_argument("--rows", type=_row_list, help="row numbers from 0: 0,3,5-9")
    which.add_argument(
        "--targetids", type=_id_list, help="TARGETIDs: 1,2,3 or @FILE with one a line"
    )
    add("--coadd", action="store_true", help="add up the spectra of each target, and"
        " write a row for each target")  # fmt: skip
    add("--use-mask", action="store_true", help="leave out pixels whose MASK is set")
    add("--c-thresh", type=float, default=0.5, help="confidence of a line (0.5)")
    add("--n-thresh", type=int, default=1, help="lines that make a quasar (1)")
    add("--lines", type=_names, help="emission lines of the network's outputs, if it is"
        f" not DESI's {','.join(LINES)}")  # fmt: skip
    add("--lines-bal", type=_names, help="BAL lines of its other outputs")
    add("--device", default="cpu", help="cpu, gpu, gpu:N or auto (cpu)")
    add("--dtype", choices=("float32", "float64"), default="float32", help="what the"
        " network computes in (float32)")  # fmt: skip
    add("--batch-size", type=int, default=256, help="spectra read at a time (256)")
    loud = p.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help="say errors only")
    loud.add_argument("-v", "--verbose", action="store_true", help="say times by stage")
    p.set_defaults(run=_classify)


def _row_list(text: str) -> NDArray[np.int64]:
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            msg = f"rows are numbers and ranges, as in 0,3,5-9; {part!r} is neither"
            raise argparse.ArgumentTypeError(msg)
        numbers += range(first, last + 1)
    return np.asarray(numbers, dtype=np.int64)


def _id_list(text: str) -> NDArray[np.int64]:
    words: Iterable[str] = text.split(",")
    if text.startswith("@"):
        try:
            words = Path(text[1:]).read_text(encoding="utf-8").split()
        except (OSError, ValueError) as err:
            msg = f"{text}: no list of targets ({err})"
            raise argparse.ArgumentTypeError(msg) from err
    try:
        return np.asarray([int(word) for word in words], dtype=np.int64)
    except (OverflowError, ValueError) as err:
        msg = f"{text}: TARGETIDs are integers of 64 bits ({err})"
        raise argparse.ArgumentTypeError(msg) from err


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _classify(args: argparse.Namespace) -> int:
    options = Options(
        args.c_thresh, args.n_thresh, args.use_mask, args.batch_size, args.coadd
    )
    orders = Orders(options, args.rows, args.targetids, args.overwrite, args.resume)
    groups = group_inputs(args.files)
    outputs = output_paths(groups, args.output, args.outdir)
    jobs = [
        Job(group, output, _priors_path(args.priors, output, len(groups)))
        for group, output in zip(groups, outputs, strict=True)
    ]
    weights = args.model or os.environ.get("QN_MODEL_FILE")
    prepare_jobs(jobs, [weights] if weights else [])
    model = as_model(
        args.model, args.device, args.dtype, lines=args.lines, lines_bal=args.lines_bal
    )
    count: collections.Counter[str] = collections.Counter()
    found: set[int] = set()
    say, todo = _progress(args, jobs)
    for job in todo:
        outcome = run_job(job, model, orders)
        count[outcome.state] += 1
        _report(outcome, model, args, say)
        if args.targetids is not None and outcome.result is not None:
            found.update(outcome.result.table["TARGETID"].tolist())
    if count["failed"] and len(jobs) > 1:
        complain(f"{count['failed']} of {len(jobs)} inputs failed")
    lost = [] if args.targetids is None else sorted({*args.targetids.tolist()} - found)
    if lost and not count["kept"]:  # whose targets are not known
        complain(f"{len(lost)} TARGETIDs are in no file, {lost[0]} first")
        return 1
    return 1 if count["failed"] or count["skipped"] == len(jobs) else 0


def _priors_path(priors: str | None, output: Path, count: int) -> Path | None:
    if not priors:
        return None
    if count == 1:
        return Path(priors)
    return Path(priors) / output.name.replace("qn-", "priors-", 1)


def _report(
    outcome: Outcome,
    model: QuasarNP,
    args: argparse.Namespace,
    say: Callable[[str], None],
) -> None:
    """Say what came of one input."""
    if outcome.state == "failed":
        complain(outcome.message)
    elif outcome.state == "skipped":
        sys.stderr.write(f"qnp-xp: skipped: {outcome.message}\n")
    elif args.quiet:
        return
    elif outcome.result is None:
        say(f"{Path(outcome.job.name).name}: kept, {outcome.message}")
    else:
        say(_line(outcome, outcome.result, model))
        for line in _times(outcome.result) if args.verbose else ():
            say(line)
        if sys.stdout.isatty():
            for line in _quasars(outcome.result, model, args.c_thresh):
                say(line)


def _progress(
    args: argparse.Namespace, jobs: Sequence[Job]
) -> tuple[Callable[[str], None], Iterable[Job]]:
    """How to print a line, and the jobs, with a bar where one can be drawn."""
    if len(jobs) > 1 and not args.quiet and sys.stderr.isatty():
        try:
            from tqdm import tqdm  # noqa: PLC0415
        except ImportError:
            return say, jobs
        return tqdm.write, tqdm(jobs, unit="file", leave=False)
    return say, jobs


def _line(outcome: Outcome, result: Result, model: QuasarNP) -> str:
    rows, quasars = _count(result.table.size, "row"), _count(result.quasars, "quasar")
    return (
        f"{Path(result.name).name}: {rows}, {result.scored} scored, {quasars},"
        f" {outcome.seconds:.2f} s, {model.weights_name} -> {outcome.job.output}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _times(result: Result) -> list[str]:
    stages = (f"{name} {1e3 * value:.1f} ms" for name, value in result.seconds.items())
    return ["  " + ", ".join(stages)]


def _quasars(result: Result, model: QuasarNP, c_thresh: float) -> list[str]:
    """The quasars of a file, as a table for a terminal."""
    rows = np.flatnonzero(result.table["IS_QSO_QN"] == 1)
    if not rows.size:
        return []
    names = column_names(model.lines)
    text = [
        f"  {'row':>5} {'TARGETID':>20} {'Z_QN':>7} {'conf':>6}"
        "  lines above the threshold"
    ]
    for number in rows[:_MOST_ROWS]:
        row = result.table[number]
        above = [
            f"{name} {row[f'C_{name}']:.2f}"
            for name in names
            if row[f"C_{name}"] > c_thresh
        ]
        text.append(
            f"  {number:>5} {row['TARGETID']:>20} {row['Z_QN']:7.4f}"
            f" {row['Z_QN_CONF']:6.3f}  {', '.join(above)}"
        )
    if rows.size > _MOST_ROWS:
        text.append(f"  ... and {rows.size - _MOST_ROWS} more")
    return text
