"""The command ``qnp-xp classify``."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._console import TROUBLE, complain, say
from .decode import prior_width
from .errors import NoSpectraError
from .io.catalog import check_output, write_catalog, write_priors
from .lines import LINES, column_names
from .model import QuasarNP
from .outputs import keep_inputs, output_paths
from .pipeline import as_model, classify_file
from .results import Options, Result, header_cards

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
        help="find the quasars in coadds and spectra-* files",
        description="Write a table with a row for every row of each FILE."
        " It is called qn-* for coadd-* and spectra-* and lands in the current folder.",
    )
    add = p.add_argument
    add("files", metavar="FILE", nargs="+", help="coadd or spectra file, plain or .gz")
    add("-m", "--model", metavar="WEIGHTS", help="weights file ($QN_MODEL_FILE)")
    where = p.add_mutually_exclusive_group()
    where.add_argument(
        "-o", "--output", metavar="OUT", help="table to write (one FILE)"
    )
    where.add_argument(
        "--outdir",
        metavar="DIR",
        help="folder for the tables, made where it is missing",
    )
    add("--overwrite", action="store_true", help="replace older outputs")
    add("--priors", metavar="PATH", help="priors of the quasars for rrdesi; a folder"
        " where there are several FILEs")  # fmt: skip
    which = p.add_mutually_exclusive_group()
    which.add_argument("--rows", type=_row_list, help="row numbers from 0: 0,3,5-9")
    which.add_argument(
        "--targetids", type=_id_list, help="TARGETIDs: 1,2,3 or @FILE with one a line"
    )
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
    options = Options(args.c_thresh, args.n_thresh, args.use_mask, args.batch_size)
    outputs = output_paths(args.files, args.output, args.outdir)
    priors = [_priors_path(args, output) for output in outputs]
    written = [*outputs, *(path for path in priors if path is not None)]
    if len(set(written)) < len(written):
        msg = f"{args.priors}: tables and priors need files of their own"
        raise ValueError(msg)
    weights = args.model or os.environ.get("QN_MODEL_FILE")
    keep_inputs(written, [*args.files, *([weights] if weights else [])])
    model = as_model(
        args.model, args.device, args.dtype, lines=args.lines, lines_bal=args.lines_bal
    )
    failed = skipped = 0
    found: set[int] = set()
    say, files = _progress(args)
    terminal = sys.stdout.isatty()
    for filename, output, prior in zip(files, outputs, priors, strict=True):
        start = time.perf_counter()
        try:
            check_output(output, args.overwrite)
            result = _classify_one(filename, (output, prior), model, options, args)
        except NoSpectraError as err:
            # Wildcards catch the tables that lie beside the spectra.
            skipped += 1
            sys.stderr.write(f"qnp-xp: skipped: {err}\n")
            continue
        except TROUBLE as err:
            failed += 1
            complain(err if filename in str(err) else f"{filename}: {err}")
            continue
        found.update(result.table["TARGETID"].tolist())
        if not args.quiet:
            say(_line(result, output, model, time.perf_counter() - start))
            for line in _times(result) if args.verbose else ():
                say(line)
            for line in _quasars(result, model, args.c_thresh) if terminal else ():
                say(line)
    wanted = set() if args.targetids is None else set(args.targetids.tolist())
    lost = sorted(wanted - found)
    if failed and len(outputs) > 1:
        complain(f"{failed} of {len(outputs)} files failed")
    if lost:
        complain(f"{len(lost)} TARGETIDs are in no file, {lost[0]} first")
    return 1 if failed or lost or skipped == len(outputs) else 0


def _priors_path(args: argparse.Namespace, output: Path) -> Path | None:
    if not args.priors:
        return None
    if len(args.files) == 1:
        return Path(args.priors)
    return Path(args.priors) / output.name.replace("qn-", "priors-", 1)


def _classify_one(
    filename: str,
    outputs: tuple[Path, Path | None],
    model: QuasarNP,
    options: Options,
    args: argparse.Namespace,
) -> Result:
    output, priors = outputs
    if priors is not None:
        check_output(priors, args.overwrite)
    result = classify_file(
        filename, model, options, numbers=args.rows, targetids=args.targetids
    )
    quasars = result.table[result.table["IS_QSO_QN"] == 1]
    if priors is not None and np.any(quasars["TARGETID"] == -1):
        msg = f"{filename}: has no TARGETIDs, which priors need"
        raise ValueError(msg)
    cards = header_cards(model, options, result)
    write_catalog(output, result.table, cards, overwrite=args.overwrite)
    if priors is not None:
        z = quasars["Z_QN"].astype(np.float64)
        width = prior_width(z, model.wave, model.nboxes)
        write_priors(priors, quasars["TARGETID"], z, width, overwrite=args.overwrite)
    return result


def _progress(args: argparse.Namespace) -> tuple[Callable[[str], None], Iterable[str]]:
    """How to print a line, and the files, with a bar where one can be drawn."""
    if len(args.files) > 1 and not args.quiet and sys.stderr.isatty():
        try:
            from tqdm import tqdm  # noqa: PLC0415
        except ImportError:
            return say, args.files
        return tqdm.write, tqdm(args.files, unit="file", leave=False)
    return say, args.files


def _line(result: Result, output: Path, model: QuasarNP, seconds: float) -> str:
    rows, quasars = _count(result.table.size, "row"), _count(result.quasars, "quasar")
    return (
        f"{result.path.name}: {rows}, {result.scored} scored, {quasars},"
        f" {seconds:.2f} s, {model.weights_name} -> {output}"
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
