"""Gzipped files, unpacked into memory.

cfitsio unpacks by itself, more slowly and with the interpreter's lock held, and what
it unpacked cannot be read in any other way.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

__all__ = ["is_gzipped", "unpack"]

_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20

# Spectra shrink by less than ten. What is packed a hundred times smaller, and large all
# the same, was made to fill the memory.
_MOST_TIMES = 100
_HARMLESS = 1 << 30  # bytes


def is_gzipped(path: Path) -> bool:
    """Whether a file is compressed by gzip, by its first bytes."""
    with path.open("rb") as f:
        return f.read(len(_MAGIC)) == _MAGIC


def unpack(path: Path) -> tuple[IO[bytes], str]:
    """Unpack a file, checksum included.

    The second value is a name under which cfitsio can open what was unpacked, as long
    as the first, which is the open file, is not closed.
    """
    file, name = _nameless()
    opened, damage = _library()
    most = max(_HARMLESS, _MOST_TIMES * path.stat().st_size)
    try:
        with opened(path, "rb") as packed:
            while chunk := packed.read(_CHUNK):
                if file.tell() + len(chunk) > most:
                    msg = f"it unpacks to more than {most} bytes"
                    raise OSError(msg)
                file.write(chunk)
        file.flush()
    except (EOFError, damage) as err:
        file.close()
        raise OSError(str(err)) from err
    except BaseException:
        file.close()
        raise
    return file, name


def _library() -> tuple[Any, Any]:
    """How to open, and what damage raises: isal's, of the extra `fast`, or Python's."""
    try:
        from isal import igzip, igzip_lib  # noqa: PLC0415
    except ImportError:
        return gzip.open, zlib.error
    return igzip.open, igzip_lib.IsalError


def _nameless() -> tuple[IO[bytes], str]:
    """A file in memory, or where Linux' own call is missing one in $TMPDIR."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("qnp_xp")
        return os.fdopen(descriptor, "w+b"), f"/proc/self/fd/{descriptor}"
    file = tempfile.NamedTemporaryFile(prefix="qnp_xp-")  # noqa: SIM115
    return file, file.name
