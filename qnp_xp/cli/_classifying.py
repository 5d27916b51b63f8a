"""Plan the run of `qnp-xp classify`, run it, and report."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .._classify import as_model
from .._options import Options
from .._xp.backend import device_of_rank, permitted
from ..batch.jobs import Job, JobResult, RunConfig, prepare_outputs, run_job
from ..batch.joined import JoinedTable, so_far
from ..batch.mpi import Ranks, mpi_results, serve, world
from ..batch.names import output_paths, priors_paths, summary_paths
from ..batch.processes import process_results
from ..batch.report import Report
from ..io._basis import read_basis
from ..io._files import ensure_own, ensure_table_of_classify, ensure_writable
from ..io._table_forms import form_of
from ..io.open import coadds_in, group_inputs, read_lists
from ..io.weights import weights_path
from ..model import QuasarNP
from . import _shared

Results: TypeAlias = Generator[JobResult, None, None]


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

    def do(jobs: list[Job]) -> Results:
        if plan.workers > 1:
            workers = plan.workers, plan.device
            return process_results(jobs, model, plan.config, *workers)
        return (run_job(job, model, plan.config) for job in jobs)

    return _report(args, plan, model, do)


def _run_on(ranks: Ranks, args: argparse.Namespace) -> int:
    """Run on one of the ranks of MPI: what the root reads, the others are given."""
    shared = ranks.share(lambda: (_plan(args, ranks.size), _model(args, "cpu")))
    if shared is None:
        return 1
    plan, model = shared

    def move() -> QuasarNP:
        device = device_of_rank(plan.device, ranks.local)
        there = model.to(device, compiled=args.compiled)
        return there.with_nproc(ranks.threads)

    own = ranks.agree(move)
    if own is None:
        return 1
    if not ranks.root:
        serve(ranks, own, plan.config)
        return 0
    return _report(
        args, plan, own, lambda jobs: mpi_results(ranks, jobs, own, plan.config)
    )


@dataclass(frozen=True)
class _Plan:
    """What a run is to do."""

    jobs: list[Job]
    config: RunConfig
    #: Name of the one table of several files, where one is written.
    joined: Path | None
    #: Name of the summary, where one is written.
    summary: Path | None
    device: str
    #: Processes, or ranks of MPI.
    workers: int


def _plan(args: argparse.Namespace, workers: int) -> _Plan:
    """Name and check all outputs, before anything is read."""
    settings = args.c_thresh, args.n_thresh, args.use_mask, args.batch_size
    basis = read_basis(args.fit_basis or args.fit)
    options = Options(*settings, args.coadd, basis)
    targetids = _shared.all_ids(args.targetids)
    config = RunConfig(options, args.rows, targetids, args.overwrite, args.resume)
    outdir = Path(args.outdir or ".")
    top = Path(args.specprod) if args.specprod else None
    names = coadds_in(top, args.groups) if top else read_lists(args.files)
    groups = group_inputs(names)
    joined = None
    if args.output is None:
        outputs = output_paths(groups, outdir, top)
        priors = priors_paths(args.priors, outputs, outdir, tree=top is not None)
        jobs = [Job(*parts) for parts in zip(groups, outputs, priors, strict=True)]
    else:
        output, outdir = Path(args.output), Path(args.output).parent
        _check_output(output, args, several=len(groups) > 1)
        if len(groups) > 1:
            joined = output
            jobs = [Job(group, None) for group in groups]
        else:
            jobs = [Job(groups[0], output, Path(args.priors) if args.priors else None)]
    summary = args.summary
    if summary is None and (args.mpi or top):
        # Of each group one, so that none of several runs replaces another's.
        summary = outdir / "-".join(["qn-summary", *dict.fromkeys(args.groups or ())])
    others = [] if summary is None else list(summary_paths(summary))
    for path in others:
        ensure_writable(path, args.overwrite or args.resume)
        if args.resume:
            ensure_own(path, "FILES" if path.suffix == ".fits" else "")
    others += [] if joined is None else [joined, so_far(joined)]
    named = [*args.files, *(args.targetids or ())]
    lists = [name[1:] for name in named if name.startswith("@")]
    inputs = [weights_path(args.model), *lists, *(basis.paths if basis else ())]
    prepare_outputs(jobs, inputs, others)
    if args.output and (args.overwrite or args.resume):
        ensure_table_of_classify(Path(args.output), form_of(Path(args.output)))
    return _Plan(
        jobs, config, joined, summary, permitted(args.device or "cpu"), workers
    )


def _check_output(path: Path, args: argparse.Namespace, *, several: bool) -> None:
    """Refuse a table that -o cannot name, before anything is read."""
    form = form_of(path)
    if args.resume and form != ".fits":
        msg = f"{path}: --resume needs a table that ends in .fits"
        raise ValueError(msg)
    if several and args.priors:
        msg = "--priors needs a table for each FILE: use --outdir instead of -o"
        raise ValueError(msg)
    if several:  # those of one file are checked with its job
        ensure_writable(path, args.overwrite or args.resume)


def _model(args: argparse.Namespace, device: str) -> QuasarNP:
    lines = {"lines": args.lines, "lines_bal": args.lines_bal}
    return as_model(args.model, device, args.dtype, compiled=args.compiled, **lines)


def _report(
    args: argparse.Namespace,
    plan: _Plan,
    model: QuasarNP,
    do: Callable[[list[Job]], Results],
) -> int:
    """Have the jobs done, say what becomes of the files, and sum it up."""
    threshold = plan.config.options.threshold(model.c_thresh)
    report = Report(model, args.quiet, args.verbose, threshold)
    table, kept = None, []
    if plan.joined is not None:
        table = JoinedTable(plan.joined, plan.jobs, model, plan.config)
        kept = table.kept() if args.resume else []
    done = {result.job.files for result in kept}
    results = do([job for job in plan.jobs if job.files not in done])
    if table is not None:
        results = table.collect(results)
    with contextlib.closing(results):  # at once, also where it ends early
        try:
            report.follow(itertools.chain(kept, results), len(plan.jobs))
            written = table is not None and table.write()
        except BaseException:
            resumable = table is None or table.save()
            how = " instead of --overwrite" if args.overwrite else ""
            again = f"the same with --resume{how} goes on"
            end = f"; {again if resumable else 'there is no table'}"
            report.close(len(plan.jobs), end)
            raise
    model.backend.release()
    if plan.summary is not None:
        report.write_summary(plan.summary, plan.workers)
    report.close(len(plan.jobs), f" -> {plan.joined}" if written else "")
    return report.exit_status(plan.config.targetids)
