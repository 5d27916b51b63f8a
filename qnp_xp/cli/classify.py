"""Write a table with a row for every row of each FILE.

It is called qn-* for coadd-* and spectra-* and lands in the current folder.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from .._classify import as_model
from .._options import Options
from .._xp.backend import device_of_rank, permitted
from ..batch.jobs import Job, JobResult, RunConfig, prepare_outputs, run_job
from ..batch.mpi import Ranks, mpi_results, serve, world
from ..batch.names import output_paths, priors_paths, summary_paths
from ..batch.processes import process_results
from ..batch.report import Report
from ..io._files import ensure_own, ensure_writable
from ..io.open import GROUPS, coadds_in, group_inputs, read_lists
from ..io.weights import weights_path
from ..model import QuasarNP
from . import _shared
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    add(
        "files FILE",
        "coadd, spectra-* or cframe file of DESI, folder of an exposure, spec-* or"
        " spPlate-* file of SDSS, each also gzipped; or @LIST, a file with one of these"
        " a line",
        nargs="*",
    )
    add(
        "--specprod DIR",
        "classify the coadds of a reduction; tables go to the same folders below"
        " --outdir",
    )
    meaning = "which of its coadds; may be given twice"
    add("--groups", meaning, action="append", choices=sorted(GROUPS))
    _shared.add_model(add)
    add_either = adder(p.add_mutually_exclusive_group())
    add_either("-o --output OUT", "table to write (one input)")
    add_either("--outdir DIR", "folder for the tables, made where it is missing")
    add_either = adder(p.add_mutually_exclusive_group())
    add_either("--overwrite", "replace older outputs")
    add_either(
        "--resume",
        "keep older outputs that are whole and made of these FILEs, unchanged since,"
        " with these weights and options; replace the others",
    )
    meaning = "priors of the quasars for rrdesi; a folder where there are several FILEs"
    add("--priors PATH", meaning)
    add_either = adder(p.add_mutually_exclusive_group())
    add_either(*_shared.ROWS, type=_shared.row_list)
    add_either("--targetids TARGETIDS", "TARGETIDs: 1,2,3 or @FILE with one a line")
    add("--coadd", "add up the spectra of each target, and write a row for each target")
    _shared.add_thresholds(add)
    _shared.add_lines(add)
    add_either = adder(p.add_mutually_exclusive_group())
    add_either("--mpi", "deal the files to the ranks of MPI, under srun or mpiexec")
    meaning = "processes that share the files and the cores (%(default)s)"
    add_either("--nproc NPROC", meaning, type=int, default=1)
    add(
        "--summary PATH",
        "write PATH.fits and PATH.txt, which sum up the run (qn-summary in the folder"
        " of the tables for --mpi, qn-summary-GROUPS for --specprod)",
    )
    add_either = adder(p.add_mutually_exclusive_group())
    add_either(*_shared.DEVICE)
    gpu = {"dest": "device", "action": "store_const", "const": "gpu"}
    add_either("--gpu", "short for --device gpu", **gpu)
    _shared.add_dtype(add)
    meaning = "spectra read at a time (%(default)s)"
    add("--batch-size BATCH_SIZE", meaning, type=int, default=256)
    add_either = adder(p.add_mutually_exclusive_group())
    add_either("-q --quiet", "say errors only")
    add_either("-v --verbose", "say times by stage")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    error = args.parser.error
    files, tree = bool(args.files), bool(args.specprod)
    if files and tree:
        error("argument --specprod: not allowed with argument FILE")
    if not files and not tree:
        error("the following arguments are required: FILE or --specprod")
    if tree != bool(args.groups):
        error("--specprod and --groups need each other")
    if tree and args.outdir is None:
        error("--specprod needs --outdir, below which its folders are mirrored")
    if args.nproc < 1:
        error(f"argument --nproc: must be 1 or more, got {args.nproc}")
    if args.mpi:
        with world() as ranks:
            return _run_on(ranks, args)
    plan = _plan(args, args.nproc)
    model = _model(args, plan.device)
    if plan.workers > 1:
        results = process_results(
            plan.jobs, model, plan.config, plan.workers, plan.device
        )
    else:
        results = (run_job(job, model, plan.config) for job in plan.jobs)
    return _report(args, plan, model, results)


def _run_on(ranks: Ranks, args: argparse.Namespace) -> int:
    """Run on one of the ranks of MPI: what the root reads, the others are given."""
    shared = ranks.share(lambda: (_plan(args, ranks.size), _model(args, "cpu")))
    if shared is None:
        return 1
    plan, model = shared

    def move() -> QuasarNP:
        device = device_of_rank(plan.device, ranks.local)
        return model.to(device).with_nproc(ranks.threads)

    own = ranks.agree(move)
    if own is None:
        return 1
    if not ranks.root:
        serve(ranks, own, plan.config)
        return 0
    results = mpi_results(ranks, plan.jobs, own, plan.config)
    return _report(args, plan, own, results)


@dataclass(frozen=True)
class _Plan:
    """What a run is to do."""

    jobs: list[Job]
    config: RunConfig
    #: Name of the summary, where one is written.
    summary: Path | None
    device: str
    #: Processes, or ranks of MPI.
    workers: int


def _plan(args: argparse.Namespace, workers: int) -> _Plan:
    """Name and check all outputs, before anything is read."""
    options = Options(
        args.c_thresh, args.n_thresh, args.use_mask, args.batch_size, args.coadd
    )
    targetids = None if args.targetids is None else _shared.id_list(args.targetids)
    config = RunConfig(options, args.rows, targetids, args.overwrite, args.resume)
    outdir = Path(args.outdir or ".")
    top = Path(args.specprod) if args.specprod else None
    names = coadds_in(top, args.groups) if top else read_lists(args.files)
    groups = group_inputs(names)
    outputs = output_paths(groups, args.output, outdir, top)
    priors = priors_paths(args.priors, outputs, outdir, tree=top is not None)
    jobs = [Job(*parts) for parts in zip(groups, outputs, priors, strict=True)]
    summary = args.summary
    if summary is None and (args.mpi or top):
        # Of each group one, so that none of several runs replaces another's.
        summary = outdir / "-".join(["qn-summary", *dict.fromkeys(args.groups or ())])
    others = [] if summary is None else list(summary_paths(summary))
    for path in others:
        ensure_writable(path, args.overwrite or args.resume)
        if args.resume:
            ensure_own(path, "FILES" if path.suffix == ".fits" else "")
    named = [*args.files, args.targetids or ""]
    lists = [name[1:] for name in named if name.startswith("@")]
    prepare_outputs(jobs, [weights_path(args.model), *lists], others)
    return _Plan(jobs, config, summary, permitted(args.device or "cpu"), workers)


def _model(args: argparse.Namespace, device: str) -> QuasarNP:
    return as_model(
        args.model, device, args.dtype, lines=args.lines, lines_bal=args.lines_bal
    )


def _report(
    args: argparse.Namespace,
    plan: _Plan,
    model: QuasarNP,
    results: Generator[JobResult, None, None],
) -> int:
    """Say what becomes of the files, and sum it up."""
    threshold = plan.config.options.threshold(model.c_thresh)
    report = Report(model, args.quiet, args.verbose, threshold)
    with contextlib.closing(results):  # at once, also where it ends early
        report.follow(results, len(plan.jobs))
    model.backend.release()
    if plan.summary is not None:
        report.write_summary(plan.summary, plan.workers)
    return report.exit_status(plan.config.targetids)
