"""Tables of results in memory: what their columns are, and how they were made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._text import html_table
from ..errors import MissingLibraryError
from ..status import Status, status_words

#: Units of the columns that have one.
UNITS = {"TARGET_RA": "deg", "TARGET_DEC": "deg"}
_NOTES = {
    "TARGETID": "target, -1 where the input has none",
    "TARGET_RA": "right ascension",
    "TARGET_DEC": "declination",
    "PLATE": "plate of SDSS",
    "MJD": "its night, modified Julian date",
    "FIBERID": "fiber on the plate, from 1",
    "FIELD": "field of SDSS-V",
    "CATALOGID": "object in the catalogue of SDSS-V",
    "SDSS_ID": "object in all catalogues of SDSS-V",
    "SPECID": "spectrum, as SPARCL has it",
    "SPARCL_ID": "record of SPARCL",
    "QNINPUT": "file of the spectrum",
    "IS_QSO_QN": "1 is a quasar by C_THRESH, N_THRESH",
    "Z_QN": "redshift of the most confident line",
    "Z_QN_CONF": "confidence of that line, 0 to 1",
    "N_LINES_QN": "lines above C_THRESH where there are pixels",
    "Z_FIT": "redshift fitted near Z_QN, of quasars",
    "ZERR_FIT": "its standard deviation",
    "CHI2_FIT": "its chi-square per degree of freedom",
    "DZ_WARN": "1 where the fit leaves the 4100 km/s",
    "QN_STATUS": "0 is scored, else bits: see QNBITnn",
}
#: Columns of 0 and 1.
_FLAGS = ("IS_QSO_QN", "DZ_WARN")
_SHOWN = 10  # rows, in a notebook
# Columns that a notebook shows, and how their numbers are written.
_FORMATS = {
    "TARGETID": "d",
    "PLATE": "d",
    "FIELD": "d",
    "MJD": "d",
    "FIBERID": "d",
    "TARGET_RA": ".5f",
    "TARGET_DEC": ".5f",
    "IS_QSO_QN": "d",
    "Z_QN": ".4f",
    "Z_QN_CONF": ".3f",
    "Z_FIT": ".5f",
}
_NEEDED = {"IS_QSO_QN", "Z_QN", "QN_STATUS"}


def column_note(column: str) -> str:
    """Say what a column of results is."""
    if column in _NOTES:
        return _NOTES[column]
    what = "confidence of" if column.startswith("C_") else "redshift from"
    line = re.sub("^[CZ]_(BAL_)?", "", column)
    return f"{what} {'broad absorption in ' if '_BAL_' in column else ''}{line}"


class ResultTable(np.ndarray[Any, np.dtype[Any]]):
    """A table of results, and the header that says how it was made.

    It is a structured array of numpy, and rows that are chosen of it keep the header. A
    column is a plain array. Columns of integers such as IS_QSO_QN hold 0 and 1, which
    as an index would be row numbers: ``table[table["IS_QSO_QN"]]`` is an error, and
    ``table[table["IS_QSO_QN"] == 1]`` has the quasars.

    Attributes
    ----------
    header : dict of str to (value, str)
        Values and comments by keyword: C_THRESH, N_THRESH, QNMODEL and the others of
        the files that `qnp_xp.classify` writes. Empty where tables were put together.

    Examples
    --------
    >>> import numpy as np
    >>> from qnp_xp import classify
    >>> wave = np.arange(3600.0, 9824.0, 0.8)
    >>> table = classify((wave, np.sin(wave), np.ones(wave.size)), c_thresh=0.8)
    >>> table
    <ResultTable: 1 row, 1 scored, 0 quasars, threshold 0.8 (asked for)>
    >>> table.header["C_THRESH"]
    (0.8, 'lines count above it (asked for)')
    """

    header: dict[str, tuple[Any, str]]

    def __new__(
        cls, table: NDArray[Any], header: Mapping[str, tuple[Any, str]]
    ) -> ResultTable:
        made = table.view(cls)
        made.header = dict(header)
        return made

    def __array_finalize__(self, origin: Any) -> None:
        # Its own: rows that were chosen may be changed and written for themselves.
        self.header = dict(getattr(origin, "header", {}))

    def __reduce__(self) -> Any:
        made: Any = super().__reduce__()
        return *made[:2], (made[2], self.header)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self.header = state[1]

    def __getitem__(self, key: Any) -> Any:
        self._refuse_column(key)
        found = super().__getitem__(key)
        if isinstance(found, ResultTable) and found.dtype.names is None:
            return found.view(np.ndarray)
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        self._refuse_column(key)
        super().__setitem__(key, value)

    def _refuse_column(self, key: Any) -> None:
        """Raise an error for a column of integers that is taken for a choice of rows.

        Numpy's own functions give row numbers of 32 or 64 bits.
        """
        if isinstance(key, np.ndarray) and key.dtype.kind in "iu" and key.ndim:
            if key.dtype.itemsize >= 4 and not np.may_share_memory(key, self):
                return
            msg = (
                f"an index of {key.dtype} would be row numbers, and flags are none:"
                ' write table[table["IS_QSO_QN"] == 1] for the quasars'
            )
            raise IndexError(msg)

    @property
    def _complete(self) -> bool:
        """Whether there are the columns that say what was found."""
        return self.ndim == 1 and {*(self.dtype.names or ())} >= _NEEDED

    def _summary(self) -> str:
        """Count rows and quasars, and name the threshold."""
        scored = (self["QN_STATUS"] & int(Status.UNSCORED)) == 0
        numbers = [(self.size, "row"), (int(scored.sum()), "scored")]
        numbers.append((int(np.sum(self["IS_QSO_QN"] == 1)), "quasar"))
        said = [
            f"{n} {what}{'' if n == 1 or what == 'scored' else 's'}"
            for n, what in numbers
        ]
        if "C_THRESH" in self.header:
            value, comment = self.header["C_THRESH"]
            origin = comment.partition("(")[2]
            said.append(f"threshold {value:g}{f' ({origin}' if origin else ''}")
        return ", ".join(said)

    def __repr__(self) -> str:
        if not self._complete:
            return repr(self.view(np.ndarray))
        return f"<ResultTable: {self._summary()}>"

    def _repr_html_(self) -> str | None:
        """Show the first rows in a notebook, and how the table was made."""
        if not self._complete:
            return None
        names = [name for name in _FORMATS if name in (self.dtype.names or ())]
        rows = [
            [
                *(f"{row[name]:{_FORMATS[name]}}" for name in names),
                ", ".join(self._lines_above(row)),
                status_words(int(row["QN_STATUS"])),
            ]
            for row in self[:_SHOWN]
        ]
        facts = [self._summary()]
        for keyword, what in (("QNINPUT", "spectra"), ("QNMODEL", "network")):
            if keyword in self.header:
                facts.append(f"{what} {self.header[keyword][0]}")
        more = f"{self.size - _SHOWN} more rows" if self.size > _SHOWN else ""
        heads = [*names, "lines above the threshold", "status"]
        return html_table(rows, heads, ", ".join(facts), more)

    def _lines_above(self, row: Any) -> list[str]:
        """Name the lines of a row whose confidence is above the threshold."""
        c_thresh = self.header.get("C_THRESH", (0.5, ""))[0]
        names = [x for x in self.dtype.names or () if x.startswith("C_")]
        return [name[2:] for name in names if row[name] > c_thresh]

    def to_table(self) -> Any:
        """Make a table of astropy, with units and the header.

        Returns
        -------
        astropy.table.Table
            IS_QSO_QN and DZ_WARN are boolean, texts are `str`, columns have units and
            descriptions, and ``meta`` has the values of `header`.

        Raises
        ------
        MissingLibraryError
            If there is no astropy.

        Examples
        --------
        >>> from qnp_xp import classify, demo_coadd
        >>> table = classify(demo_coadd()).to_table()  # doctest: +SKIP
        >>> table[table["IS_QSO_QN"]]["TARGET_RA"].unit  # doctest: +SKIP
        Unit("deg")
        """
        try:
            from astropy.table import Column, Table  # noqa: PLC0415
        except ImportError as err:
            raise _missing("to_table", "astropy", err) from err
        columns = [
            Column(values, name, unit=UNITS.get(name), description=column_note(name))
            for name, values in self._columns().items()
        ]
        return Table(columns, meta=self._values())

    def to_pandas(self) -> Any:
        """Make a data frame of pandas.

        Returns
        -------
        pandas.DataFrame
            IS_QSO_QN and DZ_WARN are boolean, texts are `str`, and ``attrs`` has the
            values of `header`.

        Raises
        ------
        MissingLibraryError
            If there is no pandas.

        Examples
        --------
        >>> from qnp_xp import classify, demo_coadd
        >>> frame = classify(demo_coadd()).to_pandas()  # doctest: +SKIP
        >>> frame[frame.IS_QSO_QN].Z_QN.median()  # doctest: +SKIP
        """
        try:
            from pandas import DataFrame  # noqa: PLC0415
        except ImportError as err:
            raise _missing("to_pandas", "pandas", err) from err
        frame = DataFrame(
            {
                name: values if values.ndim == 1 else list(values)
                for name, values in self._columns().items()
            }
        )
        frame.attrs.update(self._values())
        return frame

    def _values(self) -> dict[str, Any]:
        """Give the values of the header alone."""
        return {keyword: value for keyword, (value, _) in self.header.items()}

    def _columns(self) -> dict[str, NDArray[Any]]:
        """Give columns as other libraries have them: flags boolean, texts decoded."""
        found = {}
        for name in self.dtype.names or ():
            kind = self.dtype[name].base.newbyteorder("=")
            kind = np.dtype(bool) if name in _FLAGS else kind
            found[name] = self[name].astype("U" if kind.kind == "S" else kind)
        return found


def _missing(method: str, library: str, err: ImportError) -> MissingLibraryError:
    """Say what to install."""
    how = f"pip install {library}, or '.[tables]' in a checkout"
    return MissingLibraryError(f"{method} needs {library}: {how} ({err})")


def result_table(
    table: NDArray[Any], cards: Sequence[tuple[str, Any, str]]
) -> ResultTable:
    """Make a table of results of an array and the cards of its header."""
    return ResultTable(table, {key: (value, comment) for key, value, comment in cards})


def results_of(table: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    """Take the rows and the header's values of a table, also astropy's or pandas'."""
    if isinstance(table, ResultTable):
        return table.view(np.ndarray), table._values()
    header = getattr(table, "meta", None) or getattr(table, "attrs", None)
    if hasattr(table, "to_records"):
        table = table.to_records(index=False)
    return np.asarray(table), dict(header) if isinstance(header, Mapping) else {}
