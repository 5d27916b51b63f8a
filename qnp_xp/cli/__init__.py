"""The command ``qnp-xp``; what each of its commands runs is a file of that name."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import itertools
import logging
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from .._printing import LogHandler, complain, end_printing, show, start_printing
from .._text import printable
from .._version import __version__
from ..errors import USER_ERRORS
from . import (
    benchmark,
    classify,
    convert,
    demo,
    embed_grid,
    info,
    inspect,
    merge,
    plot,
    train,
    validate,
)

__all__ = ["main"]

#: What each command runs, and what it does in short. Its module's docstring says more.
_COMMANDS = {
    "classify": (classify, "find the quasars in files of spectra"),
    "merge": (merge, "make one catalogue of many tables"),
    "plot": (plot, "draw spectra and what the network says of them"),
    "inspect": (inspect, "make a page to look at spectra and judge them"),
    "validate": (
        validate,
        "compare tables with truth: purity, completeness, redshifts",
    ),
    "demo": (demo, "classify the simulated coadd that ships with the package"),
    "benchmark": (benchmark, "measure how fast this machine classifies"),
    "info": (info, "describe a weights file"),
    "train": (train, "train a network on your own labels, or tune one"),
    "convert": (convert, "write the network of a weights file for Keras 3 or as ONNX"),
    "embed-grid": (embed_grid, "copy a weights file and add its wavelength grid"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status.

    It is 1 where a file or the command failed, or not all could be printed, 2 where the
    command line is wrong, and 130, 143 or 129 after an interrupt, SIGTERM or SIGHUP,
    which leave no partial file either.
    """
    start_printing()
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as err:  # argparse has said why
        status = int(err.code or 0)
    return status if end_printing() else status or 1


def _run(argv: list[str]) -> int:
    parser = _parser()
    if argv and not argv[0].startswith("-") and argv[0] not in _COMMANDS:
        known = f", only {', '.join(_COMMANDS)}"
        parser.error(f"no command {argv[0]}{_suggest(argv[0], _COMMANDS) or known}")
    args = parser.parse_args(argv)
    level = logging.WARNING
    if getattr(args, "verbose", False):
        level = logging.INFO
    elif getattr(args, "quiet", False):
        level = logging.ERROR
    logging.basicConfig(level=level, handlers=[LogHandler()])
    try:
        with _stoppable():
            return int(args.run(args))
    except USER_ERRORS as err:
        complain(err)
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return 128 + signal.SIGINT
    except _Stopped as err:
        complain(err)
        return 128 + err.number


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="qnp-xp", description="Find quasars in DESI spectra with QuasarNET."
    )
    parser.add_argument("--version", action="version", version=f"qnp-xp {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=module.__doc__)
        module.add_options(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that says what a misspelt option may have been meant for."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # A list of TARGETIDs may begin with a negative one. No option has a digit.
        self._negative_number_matcher = re.compile(r"-\d[\d,-]*$")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments, and refuse those that are not known."""
        options = list(self._option_string_actions)
        args = list(sys.argv[1:] if args is None else args)
        if "--targetids" in options:
            args = _one_by_one(args)
        for arg in itertools.takewhile(lambda arg: arg != "--", args):
            if re.match("-[^-]", arg) and f"-{arg}" in options:
                # Else -output would be -o with the rest of the word as its value.
                self.error(f"unrecognized arguments: {arg}; did you mean -{arg}?")
        found, others = super().parse_known_args(args, namespace)
        many = [
            a for a in self._actions if not a.option_strings and a.nargs in ("*", "+")
        ]
        if many and not any(arg.startswith("-") for arg in others):
            # Behind an option too: argparse takes those before the first one only.
            setattr(found, many[0].dest, [*getattr(found, many[0].dest), *others])
            others = []
        if others:
            names = [arg.partition("=")[0] for arg in others if arg.startswith("-")]
            hints = [_suggest(name, options) for name in names]
            self.error(f"unrecognized arguments: {' '.join(others)}{''.join(hints)}")
        return found, others

    def error(self, message: str) -> NoReturn:
        """Print how the command is used and what is wrong, and exit."""
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        show(message, "stdout" if file is sys.stdout else "stderr")


def _one_by_one(args: Iterable[str]) -> list[str]:
    """Give each TARGETID an option of its own, so that a FILE behind them is none."""
    found: list[str] = []
    after = ""  # the option that numbers belong to
    for arg in args:
        name = arg.partition("=")[0]
        if name in ("--targetid", "--targetids"):
            after = name
            found.append(arg)
        elif after and re.fullmatch(r"[+-]?\d[\d,+-]*", arg):
            found += [arg] if found[-1] == after else [f"{after}={arg}"]
        else:
            # The value of an option may also be a list in a file.
            after = after if found and found[-1] == after and arg[:1] == "@" else ""
            found.append(arg)
    return found


def _suggest(name: str, known: Iterable[str]) -> str:
    """Ask whether a known name was meant, if one is like a name that is not."""
    near = difflib.get_close_matches(name, known, 1, 0.7)
    return f"; did you mean {near[0]}?" if near else ""


class _Stopped(BaseException):
    """A signal that announces the end: SIGTERM of batch systems, or a lost terminal."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__("terminated" if number == signal.SIGTERM else "hung up")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let the first signal unwind the stack, so that temporary files are removed."""
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    if threading.current_thread() is not threading.main_thread():
        yield  # where signals cannot be handled
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def end(number: int, _: object) -> NoReturn:
        for known in before:
            signal.signal(known, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else _Stopped(number)

    try:
        for number, handler in before.items():
            if handler not in (None, signal.SIG_IGN):  # the latter by nohup
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
