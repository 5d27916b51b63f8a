"""The command ``qnp-xp``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .. import plot as pictures
from .._classify import as_model
from .._data import DEMO_COADD, data_file
from .._version import __version__
from .._xp.backend import permitted
from ..batch._console import complain, say
from ..errors import USER_ERRORS, MissingLibraryError
from ..io._files import atomic_write, ensure_writable
from ..io.weights import embed_grid
from ..lines import LINES, column_names
from .benchmark import benchmark
from .classify import add_classify
from .demo import ADVISED, DEMO_OUTPUT, classify_demo
from .info import describe
from .merge import add_merge
from .plot import add_plot

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Its arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0; 1 where a file or the command failed; 130 after an interrupt
        and 143 after SIGTERM, which leave no partial file either.
    """
    args = _parser().parse_args(argv)
    level = logging.WARNING
    if getattr(args, "verbose", False):
        level = logging.INFO
    elif getattr(args, "quiet", False):
        level = logging.ERROR
    logging.basicConfig(level=level, format="qnp-xp: %(levelname)s: %(message)s")
    try:
        with _terminable():
            return int(args.run(args))
    except USER_ERRORS as err:
        complain(err)
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except _Terminated:
        complain("terminated")
        return 143


class _Terminated(BaseException):
    """SIGTERM, with which batch systems announce the end of a job's time."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that temporary files are removed."""

    def end(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # where signals cannot be handled
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qnp-xp", description="Find quasars in DESI spectra with QuasarNET."
    )
    parser.add_argument("--version", action="version", version=f"qnp-xp {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_classify(commands)
    add_merge(commands)
    add_plot(commands)

    demo = commands.add_parser(
        "demo",
        help="classify the simulated coadd that ships with the package",
        description="Classify the simulated coadd that ships with the package, by the"
        " network that ships with it, print what was found beside what was simulated,"
        " and draw a picture, which needs matplotlib.",
    )
    demo.add_argument("-o", "--output", metavar="OUT", default=DEMO_OUTPUT,
        help="table to write (%(default)s)")  # fmt: skip
    demo.add_argument("--keep-coadd", action="store_true",
        help=f"write the coadd too, as {DEMO_COADD} beside OUT")  # fmt: skip
    demo.add_argument("--overwrite", action="store_true", help="replace what is there")
    demo.add_argument("--device", default="cpu",
        help="cpu, gpu, gpu:N or auto (%(default)s)")  # fmt: skip
    demo.set_defaults(run=_demo)

    bench = commands.add_parser(
        "benchmark",
        help="say how fast this machine classifies, by stage",
        description="Classify the spectra of FILE over and over, and say how long each"
        " stage takes. Nothing is written.",
    )
    bench.add_argument("file", metavar="FILE", nargs="?",
        help="coadd; the simulated one by default")  # fmt: skip
    bench.add_argument("-m", "--model", metavar="WEIGHTS", help="weights file"
        " ($QN_MODEL_FILE, else the network that ships with the package)")  # fmt: skip
    bench.add_argument("--spectra", type=int, default=500, help="at a time"
        " (%(default)s)")  # fmt: skip
    bench.add_argument("--repeats", type=int, default=5, help="rounds (%(default)s)")
    bench.add_argument("--device", default="cpu",
        help="cpu, gpu, gpu:N or auto (%(default)s)")  # fmt: skip
    bench.add_argument("--dtype", choices=("float32", "float64"), default="float32",
        help="what the network computes in (%(default)s)")  # fmt: skip
    bench.set_defaults(run=_benchmark)

    info = commands.add_parser(
        "info",
        help="say what a weights file holds",
        description="Say what network a weights file holds: its layers, lines, boxes"
        " and wavelength grid.",
    )
    info.add_argument("weights", metavar="WEIGHTS", help="Keras .h5 or .keras file")
    info.set_defaults(run=_info)

    embed = commands.add_parser(
        "embed-grid",
        help="copy a weights file and write its wavelength grid into it",
        description="Copy the weights file IN to OUT with the wavelength grid of its"
        " network, as QuasarNP's post_process_weights.py does.",
    )
    embed.add_argument("source", metavar="IN", help="weights file")
    embed.add_argument("target", metavar="OUT", help="the copy")
    embed.add_argument("--grid", choices=("log", "linear"), default="log",
        help="443 bins of 1e-3 in log10, or 458 of 13.6 Angstrom"
        " (%(default)s)")  # fmt: skip
    embed.add_argument("--overwrite", action="store_true", help="replace OUT")
    embed.set_defaults(run=_embed_grid)
    return parser


def _embed_grid(args: argparse.Namespace) -> int:
    embed_grid(args.source, args.target, args.grid, overwrite=args.overwrite)
    say(f"{args.target}: {args.source} with the {args.grid} grid")
    return 0


def _info(args: argparse.Namespace) -> int:
    for line in describe(args.weights):
        say(line)
    return 0


def _demo(args: argparse.Namespace) -> int:
    output = Path(args.output)
    picture = output.with_suffix(".png")
    ensure_writable(output, args.overwrite, fits=True)
    ensure_writable(picture, args.overwrite)
    coadd = output.with_name(DEMO_COADD)
    if args.keep_coadd:
        if output == coadd:
            msg = f"{output}: table and coadd need names of their own"
            raise ValueError(msg)
        ensure_writable(coadd, args.overwrite)
        atomic_write(coadd, data_file(DEMO_COADD).read_bytes())
    model, table, truth = classify_demo(
        args.output, device=permitted(args.device), overwrite=args.overwrite
    )
    say(f"{'':>20}   simulated           found")
    say(f"{'TARGETID':>20}   {'class':<10} {'z':>6}   {'quasar':<6} {'Z_QN':>6} conf")
    for row, kind, z in zip(
        table, truth["TRUE_SPECTYPE"], truth["TRUE_Z"], strict=True
    ):
        quasar, redshift, confidence = "no", "", ""
        known = f"{z:.3f}" if z >= 0 else ""  # NaN for a sky fiber
        if row["IS_QSO_QN"]:
            quasar, redshift = "yes", f"{row['Z_QN']:.3f}"
        if row["Z_QN_CONF"] >= 0:  # not NaN
            confidence = f"{row['Z_QN_CONF']:.2f}"
        say(
            f"{row['TARGETID']:>20}   {kind:<10} {known:>6}   {quasar:<6} {redshift:>6}"
            f" {confidence}".rstrip()
        )
    quasars = int(table["IS_QSO_QN"].sum())
    say(f"{table.size} spectra, {quasars} quasars -> {args.output}")
    if args.keep_coadd:
        say(f"spectra -> {coadd}")
    say(f"network: {model.weights_name}, trained on simulations")
    try:
        names = column_names(LINES)  # the quasar with the most of them is drawn
        row = int(np.argmax(np.sum([table[f"C_{n}"] > ADVISED for n in names], axis=0)))
        axes = pictures.spectrum(
            data_file(DEMO_COADD), model, row=row, c_thresh=ADVISED
        )
    except MissingLibraryError as err:
        say(f"no picture: {err}")
    else:
        atomic_write(picture, pictures.png(axes[0].figure))
        say(f"picture of row {row} -> {picture}")
    return 0


def _benchmark(args: argparse.Namespace) -> int:
    model = as_model(args.model, permitted(args.device), args.dtype)
    lines = benchmark(model, args.file, spectra=args.spectra, repeats=args.repeats)
    for line in lines:
        say(line)
    return 0
