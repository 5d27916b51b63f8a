"""What the command says, and which errors it says without a traceback."""

from __future__ import annotations

import sys

__all__ = ["complain", "count", "note", "say"]


def say(text: str) -> None:
    """Print a line.

    Parameters
    ----------
    text
        The line.
    """
    sys.stdout.write(f"{text}\n")


def complain(what: object) -> None:
    """Print an error on stderr.

    Parameters
    ----------
    what
        The exception, or its message.
    """
    note(f"error: {what}")


def note(text: str) -> None:
    """Print on stderr what is no error.

    Parameters
    ----------
    text
        The line.
    """
    sys.stderr.write(f"qnp-xp: {text}\n")


def count(number: int, what: str) -> str:
    """A number of things.

    Parameters
    ----------
    number
        How many.
    what
        What one of them is called.

    Returns
    -------
    str
        As ``1 row`` and ``2 rows``.
    """
    return f"{number} {what}{'' if number == 1 else 's'}"
