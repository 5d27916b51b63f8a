"""Images in FITS files, read by rows.

fitsio reads headers, tables and compressed images. Plain images are read straight
from the file: fitsio holds the interpreter's lock while it reads, and a reader that
works beside computing threads would gain nothing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO, Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from ..errors import SpectraError
from ._fits_header import tile_problem
from ._gzip import is_gzipped, unpack

__all__ = ["FitsFile", "Image"]

# What fitsio raises where a file is damaged, or is not what it is taken for.
_COMPLAINTS: tuple[type[Exception], ...] = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, fitsio.FITSFormatError),
)
_BITPIX = {-64: ">f8", -32: ">f4", 16: ">i2", 32: ">i4", 64: ">i8"}


class FitsFile:
    """An open FITS file whose complaints name it.

    Parameters
    ----------
    path
        The file, plain or compressed by gzip.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SpectraError
        If it is no FITS file, or a truncated one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        packed = is_gzipped(path)  # the usual error where there is no such file
        if re.search(r"[\[\](]", str(path)):
            msg = f"{path}: brackets in the name of a file or folder confuse cfitsio"
            raise SpectraError(msg)
        self._raw: IO[bytes] | None = None
        try:
            name = str(path)
            if packed:
                self._raw, name = unpack(path)
            problem = tile_problem(self._file())
            if problem is not None:
                raise OSError(problem)
            self._fits = fitsio.FITS(name)
            # Headers are read one after the other, and a cut shows where they end.
            names = [hdu.get_extname() for hdu in self._fits]
        except _COMPLAINTS as err:
            if self._raw is not None:
                self._raw.close()
            msg = f"{path}: not a FITS file, or cut short ({_first_line(err)})"
            raise SpectraError(msg) from err
        self._check_end()
        self._numbers = {name.upper(): i for i, name in enumerate(names) if name}

    def _check_end(self) -> None:
        """Complain if the file goes on behind its last HDU, or ends before it does.

        cfitsio takes a file that is cut within a header for one that ends before it:
        the arm behind the cut would be missing without a word.
        """
        end = int(self._fits[-1].get_offsets()["data_end"])
        size = self._size()
        if size != end:
            self.close()
            msg = (
                f"{self.path}: cut short, or followed by something else (its HDUs end"
                f" at byte {end}, the file at {size})"
            )
            raise SpectraError(msg)

    def _size(self) -> int:
        """Bytes of the file, unpacked."""
        return os.fstat(self._file().fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._fits.close()
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def __len__(self) -> int:
        return len(self._fits)

    @property
    def names(self) -> list[str]:
        """Names of the HDUs that have one, upper case."""
        return list(self._numbers)

    def problem(self, hdu: str | int, what: str) -> SpectraError:
        """An error that names the file and an HDU."""
        return SpectraError(f"{self.path}[{hdu}]: {what}")

    def _hdu(self, hdu: str | int) -> Any:
        number = self._numbers.get(hdu, len(self)) if isinstance(hdu, str) else hdu
        if number >= len(self):
            msg = f"{self.path}: has no HDU {hdu}"
            raise SpectraError(msg)
        return self._fits[number]

    def header(self, hdu: str | int) -> Any:
        """The header of an HDU; ``get`` gives the value of a keyword.

        Parameters
        ----------
        hdu
            EXTNAME or number of the HDU.

        Raises
        ------
        SpectraError
            If there is none, or it is damaged.
        """
        try:
            return self._hdu(hdu).read_header()
        except _COMPLAINTS as err:
            raise self._damaged(hdu, err) from err

    def _damaged(self, hdu: str | int, err: Exception) -> SpectraError:
        if isinstance(err, SpectraError):
            return err
        return self.problem(hdu, f"its header is damaged ({_first_line(err)})")

    def image_shape(self, hdu: str | int) -> tuple[int, ...]:
        """Shape of the image in an HDU, C order; empty where there is no image.

        Parameters
        ----------
        hdu
            EXTNAME or number of the HDU.

        Raises
        ------
        SpectraError
            If there is no such HDU, or it is damaged.
        """
        try:
            dims = self._hdu(hdu).get_info().get("dims", ())
        except _COMPLAINTS as err:
            raise self._damaged(hdu, err) from err
        return tuple(int(size) for size in dims)

    def column_names(self, hdu: str | int) -> list[str]:
        """Names of the columns of a table, upper case; none where there is no table.

        Parameters
        ----------
        hdu
            EXTNAME or number of the HDU.

        Raises
        ------
        SpectraError
            If there is no such HDU, or it is damaged.
        """
        try:
            columns: list[str] = getattr(self._hdu(hdu), "get_colnames", list)()
        except _COMPLAINTS as err:
            raise self._damaged(hdu, err) from err
        return [column.upper() for column in columns]

    def image(self, name: str | int) -> Image:
        """The image in an HDU; nothing of it is read yet.

        Parameters
        ----------
        name
            EXTNAME or number of the HDU.

        Returns
        -------
        Image

        Raises
        ------
        SpectraError
            If there is none, or it is no image, or the file ends before it does.
        """
        hdu = self._hdu(name)
        try:
            info, header = hdu.get_info(), hdu.read_header()
        except _COMPLAINTS as err:
            raise self._damaged(name, err) from err
        if "dims" not in info:
            raise self.problem(name, "an image is expected")
        shape = tuple(int(size) for size in info["dims"])
        scaled = any(header.get(key) is not None for key in ("BSCALE", "BZERO"))
        code = _BITPIX.get(info["img_type"])
        if header.get("BLANK") is not None:
            raise self.problem(name, "integers with a BLANK value are not supported")
        if scaled or code is None or hdu.is_compressed():
            return Image(self, name, shape, None, 0, hdu)
        dtype = np.dtype(code)
        start = int(hdu.get_offsets()["data_start"])
        if start + int(np.prod(shape)) * dtype.itemsize > self._size():
            raise self.problem(name, "the file ends before the data do")
        return Image(self, name, shape, dtype, start, hdu)

    def columns(self, name: str | int, wanted: list[str]) -> dict[str, NDArray[Any]]:
        """Columns of a table, those of them that it has.

        Parameters
        ----------
        name
            EXTNAME or number of the HDU.
        wanted
            Names of columns, upper case, whatever case they have in the file.

        Returns
        -------
        dict of numpy.ndarray
            By these names, in the byte order of the machine.

        Raises
        ------
        SpectraError
            If the table is missing or cannot be read.
        """
        hdu = self._hdu(name)
        try:
            own = {column.upper(): column for column in hdu.get_colnames()}
            present = {column: own[column] for column in wanted if column in own}
            table = hdu.read(columns=list(present.values())) if present else {}
        except _COMPLAINTS as err:
            raise self.problem(
                name, f"a table is expected ({_first_line(err)})"
            ) from err
        return {
            column: table[name].astype(table[name].dtype.newbyteorder("="))
            for column, name in present.items()
        }

    def _file(self) -> IO[bytes]:
        if self._raw is None:
            self._raw = self.path.open("rb")
        return self._raw


class Image:
    """An image whose rows are read when they are asked for.

    Parameters
    ----------
    file, name
        Where it is.
    shape
        Its shape, C order.
    dtype, start
        Type and place of its numbers in the file; dtype is None where only fitsio can
        read it.
    hdu
        The HDU of fitsio.
    """

    def __init__(
        self,
        file: FitsFile,
        name: str | int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | None,
        start: int,
        hdu: Any,
    ) -> None:
        self.file, self.name, self.shape = file, name, shape
        self._dtype, self._start, self._hdu = dtype, start, hdu

    def problem(self, what: str) -> SpectraError:
        """An error that names the file and the HDU."""
        return self.file.problem(self.name, what)

    def read(self) -> NDArray[Any]:
        """The whole image in the byte order of the machine."""
        try:
            return np.asarray(self._hdu.read())
        except _COMPLAINTS as err:
            raise self.problem(_first_line(err)) from err

    def read_rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of an image of two dimensions.

        Parameters
        ----------
        rows
            Their numbers, in any order.

        Returns
        -------
        numpy.ndarray
            Shape ``(rows.size, width)``, in the byte order of the machine.

        Raises
        ------
        SpectraError
            If the file ends before the rows do, or cannot be decompressed.
        """
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        runs = [run for run in runs if run.size]
        try:
            if self._dtype is None:
                parts = [self._hdu[int(run[0]) : int(run[-1]) + 1, :] for run in runs]
                return np.concatenate(parts) if parts else self._hdu.read()[:0]
            return self._read_raw(runs, rows.size)
        except _COMPLAINTS as err:
            raise self.problem(_first_line(err)) from err

    def _read_raw(self, runs: list[NDArray[np.int64]], count: int) -> NDArray[Any]:
        out = np.empty((count, self.shape[1]), dtype=self._dtype)
        file, done = self.file._file(), 0
        for run in runs:
            part = out[done : done + run.size]
            file.seek(self._start + int(run[0]) * part.itemsize * self.shape[1])
            if file.readinto(part.view(np.uint8)) != part.nbytes:  # type: ignore[attr-defined]
                raise self.problem("the file ends before the data do")
            done += run.size
        native = out.dtype.newbyteorder("=")
        return out if out.dtype == native else out.byteswap(inplace=True).view(native)


def _first_line(err: Exception) -> str:
    """Cfitsio's messages run over many lines, and the first says what happened."""
    lines = str(err).strip().splitlines()
    return lines[0] if lines else type(err).__name__
