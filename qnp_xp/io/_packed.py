"""Files as cfitsio can open them: unpacked, by a name that it cannot misunderstand.

cfitsio gives a meaning to parts of a name, as to the "!" in "!coadd.fits", and may find
another file by it. It unpacks gzip by itself, more slowly and with the interpreter's
lock held, and what it unpacked cannot be read in any other way.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

FIRST = b"SIMPLE  ="  # the first bytes of a FITS file
_CHUNK = 1 << 20

# Packed files by their first bytes: those that Python unpacks, and others.
_UNPACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_NAMED = {
    b"PK\x03\x04": "zip",
    b"\x1f\x9d": "compress",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
}

# Spectra shrink by less than ten. What is packed a hundred times smaller, and large all
# the same, was made to fill the memory.
_MOST_TIMES = 100
_HARMLESS = 1 << 26  # bytes


def most_unpacked(size: int) -> int:
    """Limit how many bytes a file of some size may unpack to."""
    return max(_HARMLESS, _MOST_TIMES * size)


def unpacked(file: IO[bytes]) -> tuple[IO[bytes], str]:
    """Give a FITS file unpacked, and a name by which cfitsio can open the very same.

    What is no FITS file is an OSError, without being read to its end.
    """
    first = file.read(len(FIRST))
    for magic, program in _NAMED.items():
        if first.startswith(magic):
            raise OSError(f"it is packed by {program}: unpack it first")
    packer = next((_UNPACKED[m] for m in _UNPACKED if first.startswith(m)), None)
    if packer is None and first != FIRST:
        raise OSError("it does not begin with SIMPLE =")
    name = f"/proc/self/fd/{file.fileno()}"
    if packer is None and Path(name).exists():
        return file, name
    copy, name = _unnamed_file()
    try:
        _unpack(file, copy, packer)
    except BaseException:
        copy.close()
        raise
    return copy, name


def _unpack(packed: IO[bytes], file: IO[bytes], packer: str | None) -> None:
    """Unpack a file into another, and check its checksum; copy one that is plain."""
    most = most_unpacked(packed.seek(0, 2))
    packed.seek(0)
    opener, damage = _library(packer)
    try:
        with opener(packed, "rb") as chunks:
            while chunk := chunks.read(_CHUNK):
                if not file.tell() and not chunk.startswith(FIRST):
                    raise OSError("what it unpacks to does not begin with SIMPLE =")
                if file.tell() + len(chunk) > most:
                    raise OSError(f"it unpacks to more than {most} bytes")
                file.write(chunk)
        file.flush()
    except (EOFError, damage) as err:
        raise OSError(str(err)) from err


def _library(packer: str | None) -> tuple[Any, Any]:
    """Give what opens a packed file, and what it raises where the file is damaged."""
    if packer is None:
        return lambda file, _: contextlib.nullcontext(file), EOFError
    if packer == "bzip2":
        import bz2  # noqa: PLC0415

        return bz2.open, EOFError
    if packer == "xz":
        import lzma  # noqa: PLC0415

        return lzma.open, lzma.LZMAError
    try:
        from isal import igzip, igzip_lib  # noqa: PLC0415
    except ImportError:
        return gzip.open, zlib.error
    return igzip.open, igzip_lib.IsalError


def _unnamed_file() -> tuple[IO[bytes], str]:
    """Make a file in memory, or in $TMPDIR where Linux' own call is missing.

    cfitsio can open it by the name that is returned as long as it is not closed.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("qnp_xp")
        return os.fdopen(descriptor, "w+b"), f"/proc/self/fd/{descriptor}"
    file = tempfile.NamedTemporaryFile(prefix="qnp_xp-")  # noqa: SIM115
    return file, file.name
