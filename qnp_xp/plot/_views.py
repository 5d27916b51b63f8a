"""The numbers that pictures show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._classify import Result
from .._options import Options
from .._xp.backend import to_host
from ..io.source import Source
from ..lines import column_names, rest_wavelengths
from ..model import QuasarNP
from ..spectra import clean
from ..status import Status
from . import _curves
from ._curves import box_edges, without_spikes

__all__ = [
    "Marker",
    "SpectrumView",
    "SummaryView",
    "Trace",
    "rows_of_targets",
    "sum_up",
    "views",
]

Float64 = NDArray[np.float64]
_WIDEST = 1000  # pixels of smoothing


@dataclass(frozen=True)
class Trace:
    """One arm of one spectrum, by wavelength; NaN in pixels without weight.

    Attributes
    ----------
    name
        Of the arm.
    wave
        Wavelengths in Angstrom, shape ``(npix,)``, sorted.
    flux, sigma, smooth, calm
        Flux, its standard deviation, the smoothed flux, and that without spikes, of
        the same shape.
    """

    name: str
    wave: Float64
    flux: Float64
    sigma: Float64
    smooth: Float64
    calm: Float64


@dataclass(frozen=True)
class Marker:
    """Where a line of the network is at the redshift of the most confident line.

    Attributes
    ----------
    name
        Of the line, as in the columns of the table.
    wave
        Observed wavelength in Angstrom.
    confidence
        That of the line, 0 to 1.
    counts
        Whether it is above the threshold.
    """

    name: str
    wave: float
    confidence: float
    counts: bool


@dataclass(frozen=True)
class SpectrumView:
    """A spectrum, and what the network says of it.

    Attributes
    ----------
    name
        The file, or what messages call the source.
    number
        The row of the source.
    row
        Its row of the table of `qnp_xp.classify`.
    traces
        Its arms.
    edges
        Edges of the boxes in Angstrom, shape ``(nboxes + 1,)``.
    boxes
        Activations of each line's boxes, shape ``(nlines, nboxes)``, those of broad
        absorption last; NaN where the spectrum cannot be scored.
    names
        Of the lines, in the order of `boxes`.
    found
        Observed wavelength in Angstrom at which each line was found, ``(nlines,)``.
    markers
        The lines at Z_QN, in the order of `boxes`; none where the spectrum cannot be
        scored.
    c_thresh
        A line counts above this confidence.
    """

    name: str
    number: int
    row: Any
    traces: tuple[Trace, ...]
    edges: Float64
    boxes: Float64
    names: tuple[str, ...]
    found: Float64
    markers: tuple[Marker, ...]
    c_thresh: float

    @property
    def targetid(self) -> int:
        """TARGETID; -1 where it is not known."""
        return int(self.row["TARGETID"])

    @property
    def scored(self) -> bool:
        """Whether the network said anything."""
        return not int(self.row["QN_STATUS"]) & int(Status.UNSCORED)

    @property
    def quasar(self) -> bool:
        """Whether it is a quasar."""
        return bool(self.row["IS_QSO_QN"])

    @property
    def z(self) -> float:
        """Redshift of the most confident line; NaN where it cannot be scored."""
        return float(self.row["Z_QN"])


@dataclass(frozen=True)
class SummaryView:
    """What a table of results holds.

    Attributes
    ----------
    total
        Rows of the table.
    z, confidence, quasar
        Of each row with a result, shape ``(m,)``: Z_QN, Z_QN_CONF, and whether it is a
        quasar.
    names
        Of the emission lines.
    counts
        Quasars by the number of their lines above the threshold, from 0 to all,
        shape ``(nlines + 1,)``.
    by_line
        For each line, the quasars that have it above the threshold, shape
        ``(nlines,)``.
    c_thresh
        The threshold.
    """

    total: int
    z: Float64
    confidence: Float64
    quasar: NDArray[np.bool_]
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    by_line: NDArray[np.int64]
    c_thresh: float


def views(
    source: Source,
    result: Result,
    indices: NDArray[np.int64],
    model: QuasarNP,
    options: Options,
    smooth: float,
) -> Iterator[SpectrumView]:
    """Yield what the picture of each row shows; `result` has these rows and boxes."""
    if not 0 <= smooth <= _WIDEST:
        msg = f"smooth must be from 0 to {_WIDEST} pixels, got {smooth!r}"
        raise ValueError(msg)
    bal = [f"BAL_{name}" for name in column_names(model.lines_bal)]
    names = (*column_names(model.lines), *bal)
    rest = np.asarray(rest_wavelengths([*model.lines, *model.lines_bal]))
    edges = box_edges(model.wave, model.nboxes)
    activations: Any = result.boxes
    for index, row, boxes in zip(
        indices.tolist(), result.table, activations, strict=True
    ):
        arms = source.read(np.asarray([index], dtype=np.int64), options.use_mask)
        yield SpectrumView(
            source.name, index, row,
            tuple(
                _trace(arm.name, parts, smooth)
                for arm, parts in zip(source.arms, arms, strict=True)
            ),
            edges, boxes, names,
            np.asarray([row[f"Z_{name}"] + 1.0 for name in names]) * rest,
            tuple(_markers(row, names, rest, options.c_thresh)),
            options.c_thresh,
        )  # fmt: skip


def _trace(name: str, arm: Sequence[Any], width: float) -> Trace:
    wave, flux, ivar = (np.asarray(to_host(part), dtype=np.float64) for part in arm)
    order = np.argsort(np.ravel(wave), kind="stable")
    flux, ivar, _ = clean(flux, ivar)
    flux, ivar = flux[0, order], ivar[0, order]
    used = ivar > 0
    sigma = np.full(ivar.shape, np.nan)
    sigma[used] = ivar[used] ** -0.5
    return Trace(
        name, np.ravel(wave)[order], np.where(used, flux, np.nan), sigma,
        _curves.smooth(flux, ivar, width),
        _curves.smooth(without_spikes(flux, used), ivar, width),
    )  # fmt: skip


def _markers(
    row: Any, names: Sequence[str], rest: Float64, c_thresh: float
) -> Iterator[Marker]:
    z = float(row["Z_QN"])
    if not np.isfinite(z):
        return
    for name, wave in zip(names, rest.tolist(), strict=True):
        confidence = float(row[f"C_{name}"])
        yield Marker(name, wave * (1 + z), confidence, confidence > c_thresh)


def rows_of_targets(source: Source, targetids: ArrayLike) -> NDArray[np.int64]:
    """Rows of targets, all of them of each.

    Parameters
    ----------
    source
        An open source.
    targetids
        Their TARGETIDs, integers, shape ``(m,)``.

    Returns
    -------
    numpy.ndarray of int64
        All their rows, from 0, increasing, shape ``(k,)``.

    Raises
    ------
    ValueError
        If the source has no TARGETIDs, or lacks one of these.
    """
    if "TARGETID" not in source.identifiers:
        msg = f"{source.name}: has no TARGETIDs to select targets by"
        raise ValueError(msg)
    known, wanted = source.identifiers["TARGETID"], np.asarray(targetids)
    lacking = wanted[~np.isin(wanted, known)].tolist()
    if lacking:
        msg = f"{source.name}: no target {', '.join(map(str, lacking[:5]))}"
        raise ValueError(msg)
    return np.flatnonzero(np.isin(known, wanted)).astype(np.int64)


def sum_up(table: NDArray[Any], c_thresh: float) -> SummaryView:
    """Count what a table of results holds.

    Parameters
    ----------
    table
        As `qnp_xp.classify` returns it.
    c_thresh
        A line counts above this confidence.

    Returns
    -------
    SummaryView

    Raises
    ------
    ValueError
        If columns are lacking.
    """
    columns = table.dtype.names or ()
    for name in ("IS_QSO_QN", "Z_QN", "Z_QN_CONF"):
        if name not in columns:
            msg = f"no table of qnp-xp classify: it has no column {name}"
            raise ValueError(msg)
    names = tuple(
        name[2:]
        for name in columns
        if name.startswith("C_") and not name.startswith("C_BAL_")
    )
    quasar = np.asarray(table["IS_QSO_QN"]) == 1
    above = np.zeros((len(names), int(quasar.sum())), dtype=bool)
    for number, name in enumerate(names):
        above[number] = np.asarray(table[f"C_{name}"], dtype=np.float64)[quasar] > (
            c_thresh
        )
    scored = np.isfinite(np.asarray(table["Z_QN"]))
    return SummaryView(
        table.size,
        np.asarray(table["Z_QN"], dtype=np.float64)[scored],
        np.asarray(table["Z_QN_CONF"], dtype=np.float64)[scored],
        quasar[scored], names,
        np.bincount(above.sum(axis=0), minlength=len(names) + 1).astype(np.int64),
        above.sum(axis=1).astype(np.int64), c_thresh,
    )  # fmt: skip
