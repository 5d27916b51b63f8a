"""Gzipped files, unpacked into memory.

cfitsio unpacks by itself, more slowly and with the interpreter's lock held, and what
it unpacked cannot be read in any other way.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from typing import IO, Any

MAGIC = b"\x1f\x8b"  # the first bytes of a gzipped file
_CHUNK = 1 << 20

# Spectra shrink by less than ten. What is packed a hundred times smaller, and large all
# the same, was made to fill the memory.
_MOST_TIMES = 100
_HARMLESS = 1 << 30  # bytes


def unpack(packed: IO[bytes], file: IO[bytes]) -> None:
    """Unpack a file into another, and check its checksum."""
    open_gzip, damage = _library()
    most = max(_HARMLESS, _MOST_TIMES * packed.seek(0, 2))
    packed.seek(0)
    try:
        with open_gzip(packed, "rb") as chunks:
            while chunk := chunks.read(_CHUNK):
                if file.tell() + len(chunk) > most:
                    raise OSError(f"it unpacks to more than {most} bytes")
                file.write(chunk)
        file.flush()
    except (EOFError, damage) as err:
        raise OSError(str(err)) from err


def _library() -> tuple[Any, Any]:
    """Give the opener of isal, of the extra `fast`, or Python's, and its error."""
    try:
        from isal import igzip, igzip_lib  # noqa: PLC0415
    except ImportError:
        return gzip.open, zlib.error
    return igzip.open, igzip_lib.IsalError


def unnamed_file() -> tuple[IO[bytes], str]:
    """Make a file in memory, or in $TMPDIR where Linux' own call is missing.

    cfitsio can open it by the name that is returned as long as it is not closed.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("qnp_xp")
        return os.fdopen(descriptor, "w+b"), f"/proc/self/fd/{descriptor}"
    file = tempfile.NamedTemporaryFile(prefix="qnp_xp-")  # noqa: SIM115
    return file, file.name
