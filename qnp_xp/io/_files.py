"""Files that appear whole or not at all, and whether a file may be written."""

from __future__ import annotations

import contextlib
import gzip
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_PREFIX = ".qnp-partial-"
_DAY = 86400.0  # seconds


def ensure_writable(
    path: Path,
    overwrite: bool,
    inputs: Iterable[str | Path] = (),
    *,
    fits: bool = False,
) -> None:
    """Raise an error for an output that cannot be written, before any work is done."""
    if fits:
        ensure_no_brackets(path, ValueError)
    if not path.parent.is_dir():
        msg = f"{path.parent}: no such folder, for the output {path.name}"
        raise NotADirectoryError(msg)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, and the output must be a file")
    if path.exists() and not overwrite:
        msg = f"{path} exists; replace it with --overwrite (overwrite=True)"
        raise FileExistsError(msg)
    ensure_not_input([path], inputs)


def ensure_no_brackets(path: Path, error: type[Exception]) -> None:
    """Raise an error for a name that cfitsio takes for a file and a filter."""
    if re.search(r"[\[\](]", str(path)):
        raise error(f"{path}: brackets in the name of a file or folder confuse cfitsio")


def ensure_not_input(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Raise a ValueError where an output would replace an input."""
    read = {_identity(Path(name)) for name in inputs} - {None}
    for path in outputs:
        if _identity(path) in read:
            raise ValueError(f"{path} is an input and cannot be the output")


def _identity(path: Path) -> tuple[int, int] | None:
    """Give what all names of one file have in common; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` at the end.

    An older file stays until then. Whatever goes wrong, the temporary file is removed.
    """
    # A folder, since a file that tempfile makes can be read by its owner alone.
    with tempfile.TemporaryDirectory(
        prefix=_PREFIX, dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        temporary = Path(folder, path.name)
        yield temporary
        temporary.replace(path)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, gzipped where its name ends so."""
    if path.name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as err:  # which names the temporary file
        raise OSError(err.errno, err.strerror, str(path)) from err


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left: temporary files that are a day old."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if time.time() - path.stat().st_mtime > _DAY:
                shutil.rmtree(path, ignore_errors=True)  # another user's stay
