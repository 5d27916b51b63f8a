"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a file, and rename it to that file at the end.

    Parameters
    ----------
    path
        Name that the finished file is to have. An older file of that name stays
        until the new one is whole.

    Yields
    ------
    pathlib.Path
        Name to write to, in the same folder and with the same ending.

    Notes
    -----
    Whatever goes wrong, an interrupt included, the temporary file is removed.
    """
    # The ending stays last: cfitsio compresses by it.
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
