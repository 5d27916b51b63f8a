"""Tables of results against truth: purity, completeness and redshifts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._text import as_ascii
from ..io._files import atomic_write, ensure_writable
from ..io._report import csv_content, fits_content
from ..io._table_forms import Card
from ..io._truth import open_truth
from ..plot import new_figure, pdf, png
from ._compare import Comparison, compare, open_results
from ._draw import draw_report
from ._words import report

#: Endings of the files that `Validation.write` makes.
ENDINGS = (".fits", ".csv", ".png", ".pdf")


@dataclass(frozen=True, repr=False)
class Validation(Comparison):
    """A table against truth, as `qnp_xp.validate` returns it.

    Its text says the most important numbers in words.

    Attributes
    ----------
    name, truth_name : str
        What messages call the table and the truth.
    c_thresh, n_thresh, dz : float, int, float
        What makes a quasar, and the largest ``|dz| / (1 + z)`` of a good redshift.
    counts : dict of str to int
        Rows of the table; those with truth (``matched``), with sure truth (``sure``),
        and of these those with a result (``scored``), by which all numbers are made;
        and each ``quasar``, ``galaxy`` and ``star`` among them.
    purity : Rate
        Part of the rows called quasars that are quasars; of no rows where truth has
        nothing but quasars, since it cannot be known then.
    completeness : Rate
        Part of the quasars that are called quasars.
    good_z : Rate
        Part of the quasars found, with a redshift in truth, whose redshift is good.
    bal_recall, bal_purity : Rate
        Part of the BAL quasars of truth with a confidence of broad absorption above the
        threshold; part of the quasars with such a confidence that truth calls so.
    by_threshold, by_redshift, by_signal : numpy.ndarray
        Structured: these rates with the ends of Wilson's interval of 68.3 per cent, and
        the counts behind them, for thresholds and in bins. `by_signal` has no rows
        where nothing gives a signal to noise ratio.
    by_velocity : numpy.ndarray
        Structured: median velocity in km/s of each line by which it is off, and the
        percentiles 16 and 84, in narrow bins of redshift, of the quasars found.
    disagreeing : numpy.ndarray
        Structured: rows of the table that disagree with truth, with ROW, PROBLEM
        (``missed``, ``false`` or ``redshift``), TRUE_CLASS, TRUE_Z and DV in km/s.
    asked_purity, threshold, at_threshold : float or None, float, tuple of Rate
        The purity that was asked for, the lowest threshold that gives it (NaN if none
        does), and purity and completeness there.
    signal_name : str
        Column of the signal to noise ratio, and whose; empty without one.
    offsets : dict of str to tuple of numpy.ndarray
        True redshifts and velocities by which each line is off, of the quasars found.
    other : Validation or None
        The same of the table that this one is compared with.

    Notes
    -----
    A rate has a ``count`` of rows and the ``total`` that they are of, its ``value``,
    and as ``interval`` the ends of Wilson's interval of one standard deviation.

    Examples
    --------
    >>> from qnp_xp import validate
    >>> found = validate("qn-80605.fits", "truth.fits")  # doctest: +SKIP
    >>> found.completeness.value, found.completeness.interval  # doctest: +SKIP
    (0.93, (0.91, 0.945))
    """

    other: Validation | None = None

    def __repr__(self) -> str:
        return "\n".join(report(self, self.other))

    def draw(self, figure: Any = None) -> Any:
        """Draw the rates and the velocities of lines on one page.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            Empty figure to draw in; a new one by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingLibraryError
            If there is no matplotlib.

        Examples
        --------
        >>> found = validate("qn-80605.fits", "truth.fits")  # doctest: +SKIP
        >>> found.draw().savefig("report.pdf")  # doctest: +SKIP
        """
        return draw_report(self, self.other, new_figure() if figure is None else figure)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the tables or the picture to a file, whole or not at all.

        Parameters
        ----------
        path : str or pathlib.Path
            Name that ends in ``.fits`` for all tables, as the HDUs DISAGREE, THRESHOLD,
            REDSHIFT, SIGNAL and VELOCITY, and the same with ``_2`` of another table; in
            ``.csv`` for the rows that disagree; in ``.png`` or ``.pdf`` for the
            picture.
        overwrite : bool
            Replace the file if it is there.

        Raises
        ------
        FileExistsError
            If the file is there and is not to be replaced.
        ValueError
            If the name has another ending.

        Examples
        --------
        >>> found = validate("qn-80605.fits", "truth.fits")  # doctest: +SKIP
        >>> found.write("disagreeing.csv")  # doctest: +SKIP
        """
        path = Path(path)
        ensure_ending(path)
        ensure_writable(path, overwrite)
        atomic_write(path, self._content(path.suffix.lower()))

    def _content(self, ending: str) -> bytes:
        if ending == ".csv":
            return csv_content(self.disagreeing)
        if ending in (".png", ".pdf"):
            figure = self.draw()
            return png(figure) if ending == ".png" else pdf([figure])
        tables: dict[str, Any] = {}
        for suffix, found in (("", self), ("_2", self.other)):
            if found is not None:
                tables |= {
                    f"DISAGREE{suffix}": found.disagreeing,
                    f"THRESHOLD{suffix}": found.by_threshold,
                    f"REDSHIFT{suffix}": found.by_redshift,
                    f"SIGNAL{suffix}": found.by_signal,
                    f"VELOCITY{suffix}": found.by_velocity,
                }
        return fits_content(tables, self._cards())

    def _cards(self) -> list[Card]:
        """Say in a header what was compared."""
        cards: list[Card] = [
            ("QNTABLE", as_ascii(Path(self.name).name), "table"),
            ("QNTRUTH", as_ascii(Path(self.truth_name).name), "truth"),
            ("C_THRESH", self.c_thresh, "a line counts above this confidence"),
            ("N_THRESH", self.n_thresh, "lines that make a quasar"),
            ("QNDZ", self.dz, "largest |dz|/(1+z) of a good redshift"),
        ]
        if self.other is not None:
            other = as_ascii(Path(self.other.name).name)
            cards.insert(1, ("QNTABLE2", other, "other table"))
        return cards


def ensure_ending(path: Path) -> None:
    """Raise a ValueError for a file whose name says of no kind of report."""
    if path.suffix.lower() not in ENDINGS:
        msg = f"{path}: names of reports end in {', '.join(ENDINGS)}"
        raise ValueError(msg)


def validate(
    table: Any,
    truth: Any,
    *,
    other: Any = None,
    c_thresh: float | None = None,
    n_thresh: int | None = None,
    dz: float = 0.01,
    purity: float | None = None,
) -> Validation:
    """Compare a table of results with truth.

    Parameters
    ----------
    table : numpy.ndarray, str, pathlib.Path, or list of str or pathlib.Path
        What `qnp_xp.classify` returned, or one or more files that it, ``qnp-xp
        classify`` or ``qnp-xp merge`` wrote.
    truth : str, pathlib.Path, numpy.ndarray or mapping
        A file, or columns by name: TARGETID, or PLATE, MJD and FIBERID, or THING_ID, or
        RA and DEC in degrees; redshift and class. The columns of QuasarNET's truth
        tables and SDSS' quasar catalogues, of DESI's visual inspections and prospect's,
        of redrock and of SDSS' pipeline are known.
    other : as `table`, optional
        Another table to compare with, of old weights for one.
    c_thresh, n_thresh : float, int, optional
        What makes a quasar, as for `qnp_xp.classify`; by default that of the table's
        header, else 0.5 and 1.
    dz : float
        Largest ``|dz| / (1 + z)`` of a good redshift; 0.01 is 2998 km/s, and
        QuasarNET's limit of 6000 km/s is 0.02.
    purity : float, optional
        Purity for which the threshold is looked for.

    Returns
    -------
    Validation

    Raises
    ------
    FileNotFoundError, SpectraError
        If a file is missing, or holds no results or no truth.
    ValueError
        If table and truth have no object in common, nothing in common is sure, or an
        argument is none of the above.

    Notes
    -----
    Rows whose truth is not sure, and rows without a result, are counted and left out. A
    row is called a quasar as `qnp_xp.classify` does it. Errors are those of Wilson 1927
    (J. Am. Stat. Assoc. 22, 209) of one standard deviation. Busca & Balland 2018
    (arXiv:1808.09955) count quasars with a good redshift alone as found: their
    completeness is the product of `completeness` and `good_z`.

    Examples
    --------
    >>> import numpy as np
    >>> from qnp_xp import classify, validate
    >>> wave = np.arange(3600.0, 9824.0, 0.8)
    >>> flux, ivar = np.ones((2, wave.size)), np.full((2, wave.size), 100.0)
    >>> flux[1] = 2 - wave / 1e4
    >>> for line in (1215.67, 1548.2, 1908.7):
    ...     flux[0] += 3 * np.exp(-0.5 * ((wave / 3.3 - line) / 12) ** 2)
    >>> table = classify((wave, flux, ivar))
    >>> table["TARGETID"] = 1, 2
    >>> truth = {"TARGETID": [1, 2], "Z": [2.3, 0.0], "SPECTYPE": ["QSO", "STAR"]}
    >>> found = validate(table, truth)
    >>> found.completeness.value, found.good_z.count
    (1.0, 1)
    """
    if not 0 < dz < 1:
        msg = f"dz must be above 0 and below 1, got {dz!r}"
        raise ValueError(msg)
    if purity is not None and not 0 < purity <= 1:
        msg = f"purity must be above 0 and at most 1, got {purity!r}"
        raise ValueError(msg)
    known = open_truth(truth)
    settings = (known, dz, purity)
    first, *rest = (
        Validation(**vars(compare(open_results(x, c_thresh, n_thresh), *settings)))
        for x in ([table] if other is None else [table, other])
    )
    return replace(first, other=rest[0]) if rest else first
