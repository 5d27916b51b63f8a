"""The command ``qnp-xp``; what each of its commands runs is a file of that name."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
from collections.abc import Iterator, Sequence

from .._version import __version__
from ..batch.report import complain
from ..errors import USER_ERRORS
from . import benchmark, classify, demo, embed_grid, info, merge, plot

__all__ = ["main"]

#: What each command runs, and what it does in short. Its module's docstring says more.
_COMMANDS = {
    "classify": (classify, "find the quasars in files of spectra"),
    "merge": (merge, "make one catalogue of many tables"),
    "plot": (plot, "draw spectra and what the network says of them"),
    "demo": (demo, "classify the simulated coadd that ships with the package"),
    "benchmark": (benchmark, "say how fast this machine classifies, by stage"),
    "info": (info, "say what a weights file holds"),
    "embed-grid": (embed_grid, "copy a weights file and add its wavelength grid"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status.

    It is 1 where a file or the command failed, 130 after an interrupt and 143 after
    SIGTERM, which leave no partial file either.
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qnp-xp", description="Find quasars in DESI spectra with QuasarNET."
    )
    parser.add_argument("--version", action="version", version=f"qnp-xp {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=module.__doc__)
        module.add_options(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


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
