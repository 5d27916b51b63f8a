"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = [
    "atomic_write",
    "ensure_not_input",
    "ensure_writable",
    "remove_leftovers",
    "replacing",
]

_TEMPORARY = re.compile(r"\.qnp-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}-.+")


def ensure_writable(
    path: Path,
    overwrite: bool,
    inputs: Iterable[str | Path] = (),
    *,
    fits: bool = False,
) -> None:
    """Raise an error for an output that cannot be written, before any work is done.

    Parameters
    ----------
    path : pathlib.Path
        File to be written.
    overwrite : bool
        Whether an older file may be replaced.
    inputs : iterable of str or pathlib.Path
        Files that are read, none of which the output may replace.
    fits : bool
        Whether cfitsio is to read the output later.

    Raises
    ------
    FileExistsError
        If there is a file and it may not be replaced.
    NotADirectoryError, IsADirectoryError
        If the folder does not exist, or the output is a folder itself.
    ValueError
        If the output is an input, or cfitsio would misread its name.
    """
    if fits and re.search(r"[\[\](]", str(path)):
        msg = f"{path}: brackets in the name of a file or folder confuse cfitsio"
        raise ValueError(msg)
    if not path.parent.is_dir():
        msg = f"{path.parent}: no such folder, for the output {path.name}"
        raise NotADirectoryError(msg)
    if path.is_dir():
        msg = f"{path} is a folder, and the output is to be a file"
        raise IsADirectoryError(msg)
    if path.exists() and not overwrite:
        msg = f"{path} exists; replace it with --overwrite (overwrite=True)"
        raise FileExistsError(msg)
    ensure_not_input([path], inputs)


def ensure_not_input(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Raise a ValueError where an output would replace an input."""
    read = {_identity(Path(name)) for name in inputs} - {None}
    for path in outputs:
        if _identity(path) in read:
            msg = f"{path} is an input and cannot be the output"
            raise ValueError(msg)


def _identity(path: Path) -> tuple[int, int] | None:
    """What the names of one file have in common; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


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
        Name to write to, in the same folder.

    Notes
    -----
    Whatever goes wrong, an interrupt included, the temporary file is removed.
    """
    owner = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".qnp-{owner}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file, gzipped where its name ends so.

    Parameters
    ----------
    path
        Name of the file; an older one is replaced.
    content
        All of it.

    Raises
    ------
    OSError
        If it cannot be written; the message names the file and not the temporary one.
    """
    if path.name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as err:
        raise OSError(err.errno, err.strerror, str(path)) from err


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed.

    Parameters
    ----------
    folder
        Where outputs are written. Files of other machines stay, since nobody here
        knows whether their processes live.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and match["host"] == _host() and not _lives(int(match["pid"])):
            with contextlib.suppress(OSError):  # another user's stay
                path.unlink()


def _host() -> str:
    """Name of this machine, without what would confuse cfitsio."""
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        pass
    return True
