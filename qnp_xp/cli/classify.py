"""The command ``qnp-xp classify``."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._classify import as_model
from .._options import Options
from .._xp.backend import device_of_rank, permitted
from ..batch._summary import Summary, summary_paths
from ..batch.jobs import Job, Outcome, RunConfig, prepare_jobs
from ..batch.mpi import Ranks, mpi_outcomes, serve, world
from ..batch.names import mirrored_paths, output_paths
from ..batch.processes import process_outcomes, serial_outcomes
from ..batch.report import Report, verdict
from ..io._files import ensure_writable
from ..io.open import GROUPS, coadds_in, group_inputs, read_lists
from ..io.weights import weights_path
from ..lines import LINES
from ..model import QuasarNP
from ._lists import id_list, name_list, row_list

__all__ = ["add_classify"]


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
    add("files", metavar="FILE", nargs="*", help="coadd, spectra-* or cframe file"
        " of DESI, folder of an exposure, spec-* or spPlate-* file of SDSS, each also"
        " gzipped; or @LIST, a file with one of these a line")  # fmt: skip
    add("--specprod", metavar="DIR", help="classify the coadds of a reduction; tables"
        " go to the same folders below --outdir")  # fmt: skip
    add("--groups", action="append", choices=sorted(GROUPS), help="which of its"
        " coadds; may be given twice")  # fmt: skip
    add("-m", "--model", metavar="WEIGHTS", help="weights file ($QN_MODEL_FILE,"
        " else the network that ships with the package)")  # fmt: skip
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
    which.add_argument("--rows", type=row_list, help="row numbers from 0: 0,3,5-9")
    which.add_argument("--targetids", help="TARGETIDs: 1,2,3 or @FILE with one a line")
    add("--coadd", action="store_true", help="add up the spectra of each target, and"
        " write a row for each target")  # fmt: skip
    add("--use-mask", action="store_true", help="leave out pixels whose MASK is set")
    add(
        "--c-thresh", type=float, default=0.5, help="confidence of a line (%(default)s)"
    )
    add(
        "--n-thresh", type=int, default=1, help="lines that make a quasar (%(default)s)"
    )
    add("--lines", type=name_list, help="emission lines of the network's outputs, if"
        f" it is not DESI's {','.join(LINES)}")  # fmt: skip
    add("--lines-bal", type=name_list, help="BAL lines of its other outputs")
    many = p.add_mutually_exclusive_group()
    many.add_argument("--mpi", action="store_true", help="deal the files to the ranks"
        " of MPI, under srun or mpiexec")  # fmt: skip
    many.add_argument("--nproc", type=int, default=1, help="processes that share the"
        " files and the cores (%(default)s)")  # fmt: skip
    add("--summary", metavar="PATH", help="write PATH.fits and PATH.txt, which sum up"
        " the run (qn-summary in the folder of the tables for --mpi and --specprod)"
        )  # fmt: skip
    on = p.add_mutually_exclusive_group()
    on.add_argument("--device", help="cpu, gpu, gpu:N or auto (cpu)")
    on.add_argument("--gpu", dest="device", action="store_const", const="gpu",
        help="short for --device gpu")  # fmt: skip
    add("--dtype", choices=("float32", "float64"), default="float32", help="what the"
        " network computes in (%(default)s)")  # fmt: skip
    add("--batch-size", type=int, default=256, help="spectra read at a time"
        " (%(default)s)")  # fmt: skip
    loud = p.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help="say errors only")
    loud.add_argument("-v", "--verbose", action="store_true", help="say times by stage")
    p.set_defaults(run=functools.partial(_classify, p))


def _classify(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    problem = _contradiction(args)
    if problem is not None:
        parser.error(problem)
    if args.mpi:
        with world() as ranks:
            return _classify_on(ranks, args)
    plan = _plan(args)
    model = _model(args, permitted(args.device or "cpu"))
    if args.nproc > 1:
        outcomes = process_outcomes(plan.jobs, model, plan.config, args.nproc)
    else:
        outcomes = serial_outcomes(plan.jobs, model, plan.config)
    return _follow(args, plan, model, outcomes, args.nproc)


def _classify_on(ranks: Ranks, args: argparse.Namespace) -> int:
    """The same on the ranks of MPI: what the root reads, the others are given."""

    def prepare() -> tuple[_Plan, str, QuasarNP]:
        plan = _plan(args)
        device = permitted(args.device or "cpu")
        return plan, device, _model(args, "cpu")

    shared = ranks.share(prepare)
    if shared is None:
        return 1
    plan, device, model = shared

    def move() -> QuasarNP:
        moved = model.to(device_of_rank(device, ranks.local))
        return moved.with_nproc(ranks.threads)

    own = ranks.agree(move)
    if own is None:
        return 1
    if not ranks.root:
        serve(ranks, own, plan.config)
        return 0
    outcomes = mpi_outcomes(ranks, plan.jobs, own, plan.config)
    return _follow(args, plan, own, outcomes, ranks.size)


def _contradiction(args: argparse.Namespace) -> str | None:
    """What is wrong with the options as a whole."""
    files, tree = bool(args.files), bool(args.specprod)
    wrong = {
        "argument --specprod: not allowed with argument FILE": files and tree,
        "the following arguments are required: FILE or --specprod": not files
        and not tree,
        "--specprod and --groups need each other": tree != bool(args.groups),
        "--specprod needs --outdir, below which its folders are mirrored": tree
        and args.outdir is None,
        f"argument --nproc: must be 1 or more, got {args.nproc}": args.nproc < 1,
    }
    return next((message for message, is_so in wrong.items() if is_so), None)


@dataclass(frozen=True)
class _Plan:
    """What a run is to do.

    Attributes
    ----------
    jobs, config
        See `qnp_xp.batch.jobs`.
    summary
        Name of its summary, if it writes one.
    """

    jobs: list[Job]
    config: RunConfig
    summary: Path | None


def _plan(args: argparse.Namespace) -> _Plan:
    options = Options(
        args.c_thresh, args.n_thresh, args.use_mask, args.batch_size, args.coadd
    )
    targetids = None if args.targetids is None else id_list(args.targetids)
    config = RunConfig(options, args.rows, targetids, args.overwrite, args.resume)
    if args.specprod:
        top, outdir = Path(args.specprod), Path(args.outdir)
        groups = group_inputs(coadds_in(top, args.groups))
        outputs = mirrored_paths(groups, top, outdir)
    else:
        top, outdir = None, Path(args.outdir or ".")
        groups = group_inputs(read_lists(args.files))
        outputs = output_paths(groups, args.output, args.outdir)
    priors = [_priors_path(args.priors, path, len(groups)) for path in outputs]
    if args.priors and top is not None:
        priors = _mirrored(Path(args.priors), outputs, outdir)
    jobs = [Job(*parts) for parts in zip(groups, outputs, priors, strict=True)]
    summary = args.summary
    if summary is None and (args.mpi or args.specprod):
        summary = outdir / "qn-summary"
    extra = [] if summary is None else list(summary_paths(summary))
    for path in extra:
        ensure_writable(path, args.overwrite or args.resume, fits=True)
    prepare_jobs(jobs, [weights_path(args.model)], extra)
    return _Plan(jobs, config, summary)


def _priors_path(priors: str | None, output: Path, count: int) -> Path | None:
    if not priors:
        return None
    if count == 1:
        return Path(priors)
    return Path(priors) / _priors_name(output)


def _mirrored(priors: Path, outputs: Iterable[Path], outdir: Path) -> list[Path | None]:
    """Priors in folders below one, as the tables are."""
    paths = [priors / p.relative_to(outdir).with_name(_priors_name(p)) for p in outputs]
    for folder in dict.fromkeys(path.parent for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
    return list(paths)


def _priors_name(output: Path) -> str:
    return output.name.replace("qn-", "priors-", 1)


def _model(args: argparse.Namespace, device: str) -> QuasarNP:
    return as_model(
        args.model, device, args.dtype, lines=args.lines, lines_bal=args.lines_bal
    )


def _follow(
    args: argparse.Namespace,
    plan: _Plan,
    model: QuasarNP,
    outcomes: Iterable[Outcome],
    workers: int,
) -> int:
    """Say what comes of the files, and sum it up."""
    start = time.perf_counter()
    report = Report(model, args.quiet, args.verbose, args.c_thresh)
    done = [
        dataclasses.replace(outcome, result=None)  # tables would fill the memory
        for outcome in report.follow(outcomes, len(plan.jobs))
    ]
    wall = time.perf_counter() - start
    model.backend.release()
    if plan.summary is not None:
        Summary(done, model, wall, workers).write(plan.summary)
    targetids = plan.config.targetids
    return verdict(done, None if targetids is None else targetids.tolist())
