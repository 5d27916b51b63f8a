"""Text as people read it: of files, of errors, and in lists."""

from __future__ import annotations

import codecs
import glob
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

# Lists of files and targets are shorter; a device may have no end.
_MOST = 64 << 20  # bytes


def printable(text: str) -> str:
    """Write what a terminal might obey, or cannot show, as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def as_ascii(text: str) -> str:
    """Write a text as FITS can hold it, other letters as their escapes."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def explain(err: BaseException) -> str:
    """Say what went wrong: Python's words without their numbers, the file first."""
    if isinstance(err, MemoryError):
        return f"not enough memory ({str(err) or 'Python does not say for what'})"
    if not isinstance(err, OSError) or not err.strerror:
        return str(err) or type(err).__name__
    if err.filename is None:
        return err.strerror
    name = str(err.filename)
    if isinstance(err, FileNotFoundError) and glob.has_magic(name):
        # Shells replace a pattern by the names that it matches, and leave it if none.
        if not glob.glob(name):  # noqa: PTH207 - of any folder
            return f"{name}: no file matches"
        return f"{name}: no such file; leave a pattern to the shell, without quotes"
    return f"{name}: {err.strerror}"


def read_text(path: Path) -> str:
    """Read a text in UTF-8, or in UTF-16 with the mark by which Windows begins it."""
    with path.open("rb") as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        msg = f"it is larger than {_MOST >> 20} MiB"
        raise ValueError(msg)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as err:
        msg = "it is no text in UTF-8"
        raise ValueError(msg) from err


def html_table(
    rows: Iterable[Sequence[str]],
    heads: Sequence[str] = (),
    before: str = "",
    after: str = "",
) -> str:
    """Write cells as a table of HTML that looks as notebooks have them."""
    lines = [[f"<td>{html.escape(cell)}</td>" for cell in row] for row in rows]
    if heads:
        lines.insert(0, [f"<th>{html.escape(head)}</th>" for head in heads])
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    texts = [f"<p>{html.escape(text)}</p>" if text else "" for text in (before, after)]
    return f'{texts[0]}<table class="dataframe">{body}</table>{texts[1]}'
