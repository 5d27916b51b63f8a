"""Images and tables in FITS files, images by rows.

Plain images and columns are read straight from the file, and fitsio reads all others.
Of plain images it takes twice as long, and holds the interpreter's lock, so that no
other thread computes meanwhile: 5% from a file of 500 spectra to their table. Of a
spectrum of SDSS in a file of its own it takes ten times as long, for the headers.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from ._fits_header import Header, check_headers
from ._fits_layout import Layout, asked_layout, layout_of, read_plain
from ._packed import unpacked

# What fitsio raises where a file is damaged, or is not what it is taken for.
_DAMAGE: tuple[type[Exception], ...] = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, fitsio.FITSFormatError),
)
# Types of integers in cfitsio, and what TZERO makes of them with or without a sign.
_SIGNS = {(11, 12), (21, 20), (41, 40), (81, 80)}
_TAPE = 28_800  # bytes of a record of a tape, which is filled up with zeros
_cfitsio = threading.Lock()  # its messages are of all threads


class FitsFile:
    """An open FITS file, plain or packed, whose errors name it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # The usual errors where there is no such file, or a folder.
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise SpectraError(f"{path}: not a FITS file, but a device or a pipe")
        self._opened = contextlib.ExitStack()
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            file = self._opened.enter_context(path.open("rb"))
            try:
                #: What is read of the file, by cfitsio as well, whatever becomes of it.
                self.content, self._name = unpacked(file)
                self._opened.callback(self.content.close)
                self._state = _state(self.content)
                self._headers = check_headers(self.content)
                self._layouts = self._find_layouts()
            except _DAMAGE as err:
                what = f"not a FITS file, or cut short ({_first_line(err)})"
                raise SpectraError(f"{path}: {what}") from err
            # cfitsio takes a file that is cut within a header for one that ends before
            # it: the arm after the cut would be missing without a word.
            end = self._layouts[-1].end
            self.size = self.content.seek(0, 2)
            self.content.seek(end)
            more = self.content.read(_TAPE)
            if self.size < end or len(more) == _TAPE or any(more):
                what = "zeros" if more and not any(more) else "something else"
                raise SpectraError(
                    f"{path}: cut short, or followed by {what} (its HDUs end at"
                    f" byte {end}, the file at {self.size})"
                )
            failed.pop_all()
        self._read: dict[str | int, Any] = {}
        #: Indices of the HDUs that have a name, by their names, upper case.
        self.indices: dict[str, int] = {}
        for index, found in enumerate(self._layouts):
            if found.name:  # of two that share one the first, as fitsio and astropy do
                self.indices.setdefault(found.name.upper(), index)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def __enter__(self) -> FitsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self.indices

    def __len__(self) -> int:
        return len(self._layouts)

    @functools.cached_property
    def fits(self) -> Any:
        """The same file through fitsio, opened when it is first needed."""
        self._opened.callback(_forget_messages)
        with _cfitsio:
            try:
                found = _open(self._name)
            except UnicodeDecodeError:
                # These were messages about another file, which are gone now.
                found = _open(self._name)
        self._opened.callback(found.close)
        return found

    def _find_layouts(self) -> list[Layout]:
        """Find the layouts of all HDUs, all through cfitsio where one is in doubt."""
        try:
            return [layout_of(header, not i) for i, header in enumerate(self._headers)]
        except ValueError:
            headers = itertools.chain(self._headers, itertools.repeat(Header()))
            return [asked_layout(*hdu) for hdu in zip(self.fits, headers, strict=False)]

    def _index(self, hdu: str | int) -> int:
        """Find the index of an HDU; it is beyond the last where there is none."""
        return self.indices.get(hdu, len(self)) if isinstance(hdu, str) else hdu

    def problem(self, hdu: str | int, what: str) -> SpectraError:
        """Make an error that names the file and an HDU."""
        return SpectraError(f"{self.path}[{hdu}]: {what}")

    @contextlib.contextmanager
    def reading(
        self, hdu: str | int, failure: str = "its header is damaged"
    ) -> Iterator[int]:
        """Give the index of an HDU of a name or index; name it where reading fails."""
        index = self._index(hdu)
        if index >= len(self):
            raise SpectraError(f"{self.path}: has no HDU {hdu}")
        try:
            yield index
            if _state(self.content) != self._state:
                raise SpectraError(f"{self.path}: was changed while it was read")
        except SpectraError:
            raise
        except _DAMAGE as err:
            raise self.problem(hdu, f"{failure} ({_first_line(err)})") from err

    def value(self, hdu: str | int, key: str) -> Any:
        """Read the value of a keyword; None where it is not there."""
        with self.reading(hdu) as index:
            try:
                return self._headers[index].value(key)
            except ValueError:
                return self.header(hdu).get(key)

    def header(self, hdu: str | int) -> Any:
        """Read a header through fitsio."""
        if hdu not in self._read:
            with self.reading(hdu) as index:
                self._read[hdu] = self.fits[index].read_header()
        return self._read[hdu]

    def image_shape(self, hdu: str | int) -> tuple[int, ...]:
        """Give the shape of an image, C order; it is empty where there is no image."""
        with self.reading(hdu) as index:
            return self._layouts[index].shape or ()

    def column_names(self, hdu: str | int) -> list[str]:
        """List the columns of a table, upper case; none where there is no table."""
        with self.reading(hdu) as index:
            return [column.name.upper() for column in self._layouts[index].columns]

    def column_unit(self, hdu: str | int, name: str) -> str:
        """Give the unit of a column of a table; empty where there is none."""
        names = self.column_names(hdu)
        number = names.index(name) + 1 if name in names else 0
        return str(self.value(hdu, f"TUNIT{number}") or "").strip()

    def image(self, hdu: str | int) -> Image:
        """Find an image, of which nothing is read yet."""
        with self.reading(hdu) as index:
            found = self._layouts[index]
            if found.shape is None:
                raise self.problem(hdu, "an image is expected")
            unit = str(self.value(hdu, "BUNIT") or "").strip()
            if self.value(hdu, "BLANK") is not None:
                raise self.problem(hdu, "integers with a BLANK value are not supported")
            if found.dtype is None:
                return Image(self, hdu, found.shape, unit)
            if found.start + math.prod(found.shape) * found.dtype.itemsize > self.size:
                raise self.problem(hdu, "the file ends before the data do")
            if any(self.value(hdu, key) is not None for key in ("BSCALE", "BZERO")):
                return Image(self, hdu, found.shape, unit)
            return Image(self, hdu, found.shape, unit, found.dtype, found.start)

    def columns(
        self, hdu: str | int, wanted: list[str], rows: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """Read those of some columns that a table has, by their upper-case names.

        Where `rows` says for how many spectra they are, there must be a value for each.
        """
        with self.reading(hdu, "a table is expected") as index:
            layout = self._layouts[index]
            own = {column.name.upper(): column for column in layout.columns}
            present = {name: own[name] for name in wanted if name in own}
            for column in present.values():
                # cfitsio makes room for the longest array that the header claims.
                if column.variable:
                    what = f"column {column.name} has arrays of any lengths"
                    raise self.problem(hdu, what)
            if layout.shape is not None:
                raise self.problem(hdu, "a table is expected")
            if not present:
                return {}
            if all(column.dtype is not None for column in present.values()):
                table = read_plain(self.content, layout, present.values())
            else:
                names = [column.name for column in present.values()]
                table = self._read_table(hdu, self.fits[index], names)
            if rows is not None and len(table) != rows:
                raise self.problem(hdu, f"has {len(table)} rows for {rows} spectra")
            return {name: _native(table[x.name]) for name, x in present.items()}

    def table(self, hdu: str | int) -> NDArray[Any]:
        """Read a whole table, in the byte order of the machine."""
        with self.reading(hdu, "a table is expected") as index:
            return _native(self._read_table(hdu, self.fits[index], None))

    def _read_table(
        self, hdu: str | int, found: Any, names: list[str] | None
    ) -> NDArray[Any]:
        """Read columns, or all, through fitsio, which reads scaled integers wrongly."""
        for column in found.get_info().get("colinfo", ()):
            name, types = column["name"], (column["type"], column["eqtype"])
            asked = names is None or name in names
            if asked and types[0] != types[1] and types not in _SIGNS:
                what = f"column {name} has integers scaled by TSCAL or TZERO"
                raise self.problem(hdu, f"{what}, which are not supported")
        table: NDArray[Any] = found.read(columns=names)
        return table


def open_files(paths: Sequence[Path]) -> list[FitsFile]:
    """Open files that belong together; several are unpacked at the same time."""
    if len(paths) == 1:
        return [FitsFile(paths[0])]
    with ThreadPoolExecutor(max(len(paths), 1)) as pool:
        files = [pool.submit(FitsFile, path) for path in paths]
    try:
        return [file.result() for file in files]
    except BaseException:
        for file in files:
            if file.exception() is None:
                file.result().close()
        raise


@dataclass(frozen=True)
class Image:
    """An image whose rows are read when they are asked for."""

    file: FitsFile
    hdu: str | int
    shape: tuple[int, ...]
    #: As the header says it; empty where it does not.
    unit: str = ""
    #: Type and start of the values in the file; None where only fitsio can read them.
    dtype: np.dtype[Any] | None = None
    start: int = 0

    def problem(self, what: str) -> SpectraError:
        """Make an error that names the file and the HDU."""
        return self.file.problem(self.hdu, what)

    def read(self) -> NDArray[Any]:
        """Read the whole image in the byte order of the machine."""
        with self.file.reading(self.hdu, "cannot be read") as index:
            return np.asarray(self.file.fits[index].read())

    def read_rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows by their indices in any order, in the byte order of the machine."""
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        runs = [run for run in runs if run.size]
        with self.file.reading(self.hdu, "cannot be read") as index:
            if self.dtype is not None:
                return self._read_plain(runs, rows.size, self.dtype)
            found = self.file.fits[index]
            parts = [found[int(run[0]) : int(run[-1]) + 1, :] for run in runs]
            return np.concatenate(parts) if parts else found.read()[:0]

    def _read_plain(
        self, runs: list[NDArray[np.int64]], count: int, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Read runs of rows straight from the file."""
        out = np.empty((count, self.shape[1]), dtype=dtype)
        content, width, done = self.file.content, out[:1].nbytes, 0
        for run in runs:
            part = out[done : done + run.size]
            content.seek(self.start + int(run[0]) * width)
            if content.readinto(part.view(np.uint8)) != part.nbytes:  # type: ignore[attr-defined]
                raise self.problem("the file ends before the data do")
            done += run.size
        # Into another array: numpy swaps bytes in place three times as slowly.
        return out.astype(dtype.newbyteorder("="), copy=False)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Give values in the byte order of the machine, and texts as such."""
    if values.dtype.kind == "S":
        return values.astype("U")
    return values.astype(values.dtype.newbyteorder("="))


def _open(name: str) -> Any:
    """Open a file through fitsio, and read its headers; a cut shows where they end."""
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(fitsio.FITS(name))
        for hdu in file:
            hdu.get_extname()
        opened.pop_all()
    return file


def _forget_messages() -> None:
    """Empty cfitsio's list of messages.

    It holds those of all files. fitsio takes them with the next failure, also where it
    looks for an HDU after the last of a sound file, and cannot read all of them.
    """
    with contextlib.suppress(OSError, ValueError):
        fitsio.FITS(os.devnull)


def _state(file: IO[bytes]) -> tuple[int, int]:
    """Tell a file from what it was before it was written to."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _first_line(err: Exception) -> str:
    """Take the first line of a message, which says most: cfitsio's have many."""
    if isinstance(err, UnicodeDecodeError):  # bytes of the file are in the message
        text = err.object.decode("ascii", "replace")
    else:
        text = str(err)
    lines = text.strip().splitlines()
    return lines[0] if lines else type(err).__name__
