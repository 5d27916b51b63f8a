"""Files that appear whole or not at all, and whether a file may be written."""

from __future__ import annotations

import collections
import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_PREFIX = ".qnp-partial-"
_DAY = 86400.0  # seconds
_BLOCK = 2880  # bytes of the first header, of no data
_START = 40 * _BLOCK  # that hold the header of any table of ours


def ensure_writable(
    path: Path, overwrite: bool, inputs: Iterable[str | Path] = ()
) -> None:
    """Raise an error for an output that cannot be written, before any work is done."""
    # Where a link leads, if it is none to itself.
    target = real_path(path) if path.is_symlink() else path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if not target.parent.is_dir():
        msg = f"{target.parent}: no such folder, for the output {path.name}"
        raise NotADirectoryError(msg)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, and the output must be a file")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a device or a pipe, and the output must be a file")
    if path.exists() and not overwrite:
        msg = f"{path} exists; replace it with --overwrite (overwrite=True)"
        raise FileExistsError(msg)
    ensure_not_input([path], inputs)


def ensure_name(name: Any, what: str) -> None:
    """Raise an error for what cannot be the name of a file."""
    kind: type[Exception] | None = None
    if not isinstance(name, (str, Path)):
        kind = TypeError
    elif not str(name) or "\0" in str(name):
        kind = ValueError
    if kind:
        raise kind(f"{what} must be the name of a file, got {name!r}")


def ensure_own(path: Path, kind: str) -> None:
    """Raise an error for an older file that no run wrote, where resuming would."""
    if path.exists() and not is_own(path, kind):
        what = f"table {kind}" if kind else "text"
        msg = f"{path} exists, and is no {what} of qnp-xp classify"
        raise FileExistsError(f"{msg}; replace it with --overwrite")


def is_own(path: Path, kind: str) -> bool:
    """Tell whether a file is empty, or begins as outputs whose HDU is called `kind` do.

    It may be damaged behind that, and packed by gzip. The text of a summary has no HDU.
    """
    start = _start(path)
    if not kind:
        return not start or start.startswith(b"qnp_xp ")
    name = f"EXTNAME = '{kind:<8}'".encode()
    return not start or any(card.startswith(name) for card in _cards(start))


def ensure_table_of_classify(path: Path, form: str) -> None:
    """Raise an error for an older file that is no table of classify in some form."""
    if not path.is_file():
        return
    start = _start(path)
    if form == ".fits":
        merged = any(card.startswith(b"QNTABLES=") for card in _cards(start))
        own = is_own(path, "QN") and not merged
    else:
        # Parquet has names of columns at its end.
        own = not start or b"QN_STATUS" in start + _end(path)
    if not own:
        msg = (
            f"{path} exists, and classify did not write it; name another, or remove it"
        )
        raise FileExistsError(msg)


def _start(path: Path) -> bytes:
    """Read the start of a file, unpacked."""
    with path.open("rb") as file:
        start = file.read(_START)
    if start.startswith(b"\x1f\x8b"):
        with contextlib.suppress(zlib.error):
            start = zlib.decompressobj(31).decompress(start, _START)
    return start


def _end(path: Path) -> bytes:
    """Read the end of a file."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _START, 0))
        return file.read()


def _cards(start: bytes) -> list[bytes]:
    """Cut the header of the first table out of the start of a FITS file."""
    header = start[_BLOCK:].split(b"END".ljust(80))[0]
    return [header[i : i + 80] for i in range(0, len(header), 80)]


def ensure_not_input(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Raise a ValueError where an output would replace an input."""
    read = {_identity(Path(name)) for name in inputs} - {None}
    for path in outputs:
        if _identity(path) in read:
            raise ValueError(f"{path} is an input and cannot be the output")


def ensure_apart(outputs: Iterable[Path]) -> None:
    """Raise a ValueError where two outputs are one file, by links or spelling."""
    names: dict[Path, list[Path]] = collections.defaultdict(list)
    for path in outputs:
        names[real_path(path)].append(path)
    for first, *others in names.values():
        if others:
            msg = f"{first}: outputs need files of their own, and two have this one"
            raise ValueError(msg)


def file_stamp(paths: Iterable[Path]) -> str:
    """Hash what tells files from others: paths, sizes, and times of the last change.

    The time of the last change of status is among them: no copy and no `touch` sets it.
    Without files, it is empty.
    """
    facts = []
    for path in paths:
        known: tuple[int, ...] = ()  # of a file that is not there
        with contextlib.suppress(OSError):
            status = path.stat()
            known = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        facts.append((str(real_path(path)), *known))
    text = repr(sorted(facts))
    return hashlib.sha256(text.encode()).hexdigest()[:32] if facts else ""


def different_files(paths: Iterable[Path]) -> list[Path]:
    """Leave out files that were named before, in any spelling or by links."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(real_path(path), path)
    return list(found.values())


def real_path(path: Path) -> Path:
    """Give the one name of a file without links, whether it is there or not."""
    return Path(os.path.realpath(path))


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

    An older file stays until then, and links stay: the file that they lead to is
    replaced. Whatever goes wrong, the temporary file is removed.
    """
    target = real_path(path)
    try:
        # A folder, since a file that tempfile makes can be read by its owner alone.
        with tempfile.TemporaryDirectory(
            prefix=_PREFIX, dir=target.parent, ignore_cleanup_errors=True
        ) as folder:
            temporary = Path(folder, target.name)
            yield temporary
            temporary.replace(target)
    except OSError as err:  # which names the temporary file
        number = err.errno or errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from err


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, gzipped where its name ends so."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(_packed(path, content))


def has_content(path: Path, content: bytes) -> bool:
    """Tell whether a file is there as `atomic_write` would write it."""
    try:
        return path.read_bytes() == _packed(path, content)
    except OSError:
        return False


def _packed(path: Path, content: bytes) -> bytes:
    if path.name.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    return content


def remove_output(path: Path) -> None:
    """Remove an older output, and not the links that lead to it."""
    real_path(path).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left: temporary files that are a day old."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if time.time() - path.stat().st_mtime > _DAY:
                shutil.rmtree(path, ignore_errors=True)  # another user's stay
