"""Find the quasars in files of spectra, and write tables with a row for each spectrum.

Each FILE gets a table qn-* in the current folder. With -o, all FILEs get one table,
whose column QNINPUT names the FILE of each row.
"""

from __future__ import annotations

import argparse

from .._data import GROUPS
from . import _shared
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    add(
        "files FILE",
        "coadd, spectra-* or cframe file of DESI, folder of an exposure, or spec-* or"
        " spPlate-* file of SDSS; files may be gzipped; @LIST is a file with one of"
        " these on each line",
        nargs="*",
    )
    add(
        "--specprod DIR",
        "classify the coadds of the reduction in DIR; tables go to the same folders"
        " below --outdir",
    )
    meaning = "which coadds of the reduction; may be given again"
    add("--groups", meaning, action="append", choices=sorted(GROUPS))
    _shared.add_model(add)
    add_either = adder(p.add_mutually_exclusive_group())
    add_either(
        "-o --output OUT",
        "write one table of all FILEs: .fits, .csv, .ecsv or .parquet (.parquet needs"
        " pyarrow, and --resume needs .fits)",
    )
    add_either("--outdir DIR", "folder for the tables; it is made if it is missing")
    add_either = adder(p.add_mutually_exclusive_group())
    add_either("--overwrite", "replace older outputs")
    add_either(
        "--resume",
        "keep older outputs that are whole, if they were made with these weights and"
        " options from FILEs that have not changed since; replace the others",
    )
    meaning = (
        "write priors of the quasars for rrdesi; for several FILEs, PATH is a folder"
    )
    add("--priors PATH", meaning)
    add_either = adder(p.add_mutually_exclusive_group())
    add_either(*_shared.ROWS, type=_shared.row_list)
    _shared.add_targetids(add_either)
    add("--coadd", "add up the spectra of each target, and write a row for each target")
    _shared.add_thresholds(add)
    _shared.add_lines(add)
    add(
        "--fit",
        "also fit redshifts of quasars: columns Z_FIT, ZERR_FIT, CHI2_FIT, DZ_WARN",
    )
    add(
        "--fit-basis BASIS",
        "fit with other templates: a file in Redrock's layout, or redrock for those in"
        " $RR_TEMPLATE_DIR",
    )
    add_either = adder(p.add_mutually_exclusive_group())
    add_either("--mpi", "share the files among the ranks that srun or mpiexec started")
    meaning = "number of processes that share files and cores (default: %(default)s)"
    add_either("--nproc NPROC", meaning, type=int, default=1)
    add(
        "--summary PATH",
        "write PATH.fits and PATH.txt with a summary of the run (default: with --mpi"
        " qn-summary and with --specprod qn-summary-GROUPS, in the folder of the"
        " tables)",
    )
    add_either = adder(p.add_mutually_exclusive_group())
    add_either(*_shared.DEVICE)
    gpu = {"dest": "device", "action": "store_const", "const": "gpu"}
    add_either("--gpu", "the same as --device gpu", **gpu)
    _shared.add_dtype(add)
    _shared.add_compiled(add)
    meaning = "number of spectra that are read at a time (default: %(default)s)"
    add("--batch-size BATCH_SIZE", meaning, type=int, default=256)
    add_either = adder(p.add_mutually_exclusive_group())
    add_either("-q --quiet", "print only errors and the last line")
    add_either("-v --verbose", "also print the time of each stage")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from ._classifying import run as begin

    return begin(args)
