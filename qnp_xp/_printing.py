"""What a command prints: trouble with that does not end a run."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from traceback import format_exception
from typing import Any

from ._text import explain, printable

#: Why stdout could not be written to, where that was so.
_lost: list[str] = []


def start_printing() -> None:
    """Have standard streams that are closed lead nowhere, and forget older trouble."""
    _lost.clear()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would have its number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: PTH123, SIM115


def end_printing() -> bool:
    """Print what waits to be printed, and tell whether stdout took all there was."""
    flush("stdout")
    flush("stderr")
    return not _lost


@contextlib.contextmanager
def _guard(name: str) -> Iterator[Any]:
    """Give the standard stream of a name, and let trouble with it end nothing."""
    stream = getattr(sys, name)
    try:
        yield stream
    except (OSError, ValueError) as err:
        # What waits in its buffer would be trouble again when Python ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        closed_pipe = isinstance(err, OSError) and err.errno == errno.EPIPE
        if name == "stdout" and not closed_pipe:  # else the reader has seen enough
            _lost.append(explain(err))
            complain(f"stdout: {explain(err)}")


def show(text: str, name: str) -> None:
    """Write to a standard stream, with escapes for what its encoding lacks."""
    with _guard(name) as stream:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def flush(name: str) -> None:
    """Have what was written to a standard stream seen."""
    with _guard(name) as stream:
        stream.flush()


def say(text: str) -> None:
    """Print a line."""
    show(f"{printable(text)}\n", "stdout")


def complain(what: object) -> None:
    """Print an error, or its message, on stderr."""
    note(f"error: {explain(what) if isinstance(what, Exception) else what}")


def note(text: str) -> None:
    """Print on stderr what is no error."""
    show(f"qnp-xp: {printable(text)}\n", "stderr")


class LogHandler(logging.Handler):
    """Print what is logged as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, and the traceback that comes with it."""
        try:
            note(f"{record.levelname}: {record.getMessage()}")
            if record.exc_info:
                for line in "".join(format_exception(*record.exc_info)).splitlines():
                    show(f"{printable(line)}\n", "stderr")
        except Exception:  # of arguments that do not fit, as every handler has it
            self.handleError(record)


def count(number: int, what: str) -> str:
    """Write a number of things, as in ``1 row`` and ``2 rows``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


@contextlib.contextmanager
def step_bar(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Give what shows a step, of how many, and words: by a bar, or now and then."""
    with contextlib.ExitStack() as stack:
        bar: Any = None
        if not quiet and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm  # noqa: PLC0415

                bar = stack.enter_context(tqdm(unit="step", leave=False))

        def follow(step: int, steps: int, words: str) -> None:
            if bar is not None:
                bar.total = steps
                bar.set_postfix_str(words, refresh=False)
                bar.update(step - bar.n)
            elif not quiet and step % max(steps // 10, 1) == 0:
                say(f"step {step} of {steps}: {words}")
                flush("stdout")

        yield follow
