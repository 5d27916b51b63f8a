"""What the command says, and which errors it says without a traceback."""

from __future__ import annotations

import sys

from .errors import QnpError

__all__ = ["TROUBLE", "complain", "say"]

#: Errors that a user can mend.
TROUBLE = (QnpError, OSError, ValueError, TypeError)


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
    sys.stderr.write(f"qnp-xp: error: {what}\n")
