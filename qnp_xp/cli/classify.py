"""Write a table with a row for every row of each FILE.

Each FILE has a table of its own, which is called qn-* and lands in the current folder;
with -o they have one together, whose column QNINPUT names the FILE of a row.
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
    add_either(
        "-o --output OUT",
        "the one table to write, of all FILEs: .fits, .csv, .ecsv or .parquet (the"
        " latter needs pyarrow, and --resume a .fits)",
    )
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
    _shared.add_targetids(add_either)
    add("--coadd", "add up the spectra of each target, and write a row for each target")
    _shared.add_thresholds(add)
    _shared.add_lines(add)
    add("--fit", "fit the redshifts of quasars too: columns Z_FIT, ZERR_FIT, CHI2_FIT")
    add(
        "--fit-basis BASIS",
        "the same with other templates: redrock for those in $RR_TEMPLATE_DIR, or a"
        " file in Redrock's layout",
    )
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
    _shared.add_compiled(add)
    meaning = "spectra read at a time (%(default)s)"
    add("--batch-size BATCH_SIZE", meaning, type=int, default=256)
    add_either = adder(p.add_mutually_exclusive_group())
    add_either("-q --quiet", "say errors and the last line only")
    add_either("-v --verbose", "say times by stage")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from ._classifying import run as begin

    return begin(args)
