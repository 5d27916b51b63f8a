"""What pictures show, as numbers on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._classify import Result
from .._options import Options
from .._saliency import differentiable, output_index, output_names, saliency
from .._scorer import near_weight
from .._xp.backend import to_host
from ..grids import Grid
from ..io._prepare import Preparer
from ..io.source import Source
from ..lines import rest_wavelengths
from ..model import QuasarNP
from ..selection import Selection
from ..spectra import clean
from ..status import Status

Float64 = NDArray[np.float64]

_WIDEST = 1000  # pixels of smoothing
_NARROWEST = 0.1  # pixels; below it the neighbours of a pixel have no weight
_REACH = 4  # of a Gaussian, in standard deviations
_WINDOW = 5  # pixels of a running median


@dataclass(frozen=True)
class Trace:
    """One arm of a spectrum, by wavelength; NaN in pixels without weight."""

    name: str
    wave: Float64  #: Angstrom
    flux: Float64
    sigma: Float64  #: standard deviation of the flux of a pixel
    smooth: Float64  #: smoothed flux
    despiked: Float64  #: smoothed flux without spikes


@dataclass(frozen=True)
class Line:
    """What the network says of a line; NaN where the spectrum cannot be scored."""

    name: str  #: as in the columns of the table
    wave: float  #: where Z_QN, the redshift of the spectrum, puts it, in Angstrom
    found: float  #: where the network found it, in Angstrom
    confidence: float
    above: bool  #: whether the confidence is above the threshold
    on_pixels: bool  #: whether there are pixels of weight where it was found

    @property
    def counts(self) -> bool:
        """Whether it is drawn as evidence."""
        return self.above and self.on_pixels


@dataclass(frozen=True)
class Saliency:
    """How the confidence of a line changes with each bin."""

    line: int  #: among the lines of the view
    edges: Float64  #: of the bins, in Angstrom
    slopes: Float64  #: NaN where the spectrum cannot be scored


@dataclass(frozen=True)
class SpectrumView:
    """A spectrum, and what the network says of it."""

    name: str  #: of the source
    index: int  #: row of the source
    row: Any  #: row of the table of results
    traces: tuple[Trace, ...]
    lines: tuple[Line, ...]
    edges: Float64  #: of the boxes, in Angstrom
    boxes: Float64  #: activations, shape (nlines, nboxes)
    c_thresh: float
    saliency: Saliency | None = None  #: where it was asked for

    @property
    def scored(self) -> bool:
        """Whether there is a result."""
        return not int(self.row["QN_STATUS"]) & int(Status.UNSCORED)

    @property
    def is_quasar(self) -> bool:
        """Whether it is called a quasar."""
        return bool(self.row["IS_QSO_QN"])

    @property
    def place(self) -> tuple[float, float] | None:
        """Right ascension and declination in degrees, where they are known."""
        names = ("TARGET_RA", "TARGET_DEC")
        if not set(names) <= set(self.row.dtype.names):
            return None
        ra, dec = (float(self.row[name]) for name in names)
        return (ra, dec) if np.isfinite(ra) and np.isfinite(dec) else None

    @property
    def label(self) -> str:
        """The target's name: TARGETID, or plate, night and fiber; empty without."""
        row, plate = self.row, ("PLATE", "MJD", "FIBERID")
        if row["TARGETID"] != -1:
            return f"TARGETID {row['TARGETID']}"
        if set(plate) <= set(row.dtype.names):
            return "-".join(str(row[column]) for column in plate)
        return ""


@dataclass(frozen=True)
class SummaryView:
    """What a table of results holds."""

    total: int  #: rows of the table
    z: Float64  #: Z_QN of each row with a result, as are the next two
    confidence: Float64
    quasar: NDArray[np.bool_]
    names: list[str]  #: of the emission lines
    above: NDArray[np.bool_]  #: whether a line of a quasar counts, by line and row
    c_thresh: float


def views(
    source: Source,
    result: Result,
    indices: NDArray[np.int64],
    model: QuasarNP,
    options: Options,
    smooth: float,
    salient: str | None = None,
) -> Iterator[SpectrumView]:
    """Yield the views of rows of a source; `result` has their table and boxes.

    `salient` names the line whose saliency is shown.
    """
    if not 0 <= smooth <= _WIDEST:
        msg = f"smooth must be from 0 to {_WIDEST} pixels, got {smooth!r}"
        raise ValueError(msg)
    rest = rest_wavelengths([*model.lines, *model.lines_bal])
    c_thresh = options.threshold(model.c_thresh).value
    known = list(zip(output_names(model), rest, strict=True))
    explain = None if salient is None else _explainer(source, model, options, salient)
    edges = box_edges(model.wave, model.nboxes)
    activations: Any = result.boxes
    rows = zip(indices.tolist(), result.table, activations, strict=True)
    for index, row, boxes in rows:
        one = np.asarray([index], dtype=np.int64)
        arms = zip(source.arms, source.read(one, options.use_mask), strict=True)
        traces = tuple(_trace(arm.name, parts, smooth) for arm, parts in arms)
        covered = _covered(traces, model.rebinner.grid)
        lines = tuple(_line(row, name, wave, c_thresh, covered) for name, wave in known)
        saliency = None if explain is None else explain(one)
        facts = (source.name, index, row, traces, lines, edges, boxes)
        yield SpectrumView(*facts, c_thresh, saliency)


def _explainer(
    source: Source, model: QuasarNP, options: Options, line: str
) -> Callable[[NDArray[np.int64]], Saliency]:
    """Make a function that finds the saliency of one row of a source."""
    number = output_index(model, line)
    model = differentiable(model)
    settings = (source, model.rebinner, model.rebinner.backend, options.use_mask)
    prepare = Preparer(*settings)
    edges = np.append(model.wave, 2 * model.wave[-1] - model.wave[-2])

    def explain(index: NDArray[np.int64]) -> Saliency:
        x = prepare(Selection.of_rows(index)).x
        slopes = np.full(model.nbins, np.nan)
        if x.shape[0]:
            slopes[:] = to_host(saliency(x, model, line))[0, :]
        return Saliency(number, edges, slopes)

    return explain


def _trace(name: str, parts: Sequence[Any], width: float) -> Trace:
    """Clean, sort and smooth the wavelengths, flux and ivar of one spectrum."""
    wave, flux, ivar = (np.asarray(to_host(x), dtype=np.float64) for x in parts)
    wave = np.ravel(wave)
    order = np.argsort(wave, kind="stable")
    flux, ivar, _ = clean(flux, ivar)
    flux, ivar = flux[0, order], ivar[0, order]
    used = ivar > 0
    sigma = np.where(used, ivar, np.nan) ** -0.5
    smooth = smooth_flux(flux, ivar, width)
    despiked = smooth_flux(remove_spikes(flux, used), ivar, width)
    flux = np.where(used, flux, np.nan)
    return Trace(name, wave[order], flux, sigma, smooth, despiked)


def _covered(traces: Sequence[Trace], grid: Grid) -> Callable[[float], bool]:
    """Make a function that tells whether a line has pixels of weight."""
    used = [trace.wave[np.isfinite(trace.flux)] for trace in traces]
    bins = grid.bins(np.concatenate(used))
    covered = np.isin(np.arange(grid.size), bins)
    return lambda found: bool(near_weight(grid.bins([found]), covered[None])[0])


def _line(
    row: Any, name: str, rest: float, c_thresh: float, covered: Callable[[float], bool]
) -> Line:
    """Take what a row of the table says of a line."""
    wave = rest * (1 + float(row["Z_QN"]))
    found = rest * (1 + float(row[f"Z_{name}"]))
    confidence = float(row[f"C_{name}"])
    on_pixels = found > 0 and covered(found)  # NaN where it is not scored
    return Line(name, wave, found, confidence, confidence > c_thresh, on_pixels)


def smooth_flux(flux: Float64, ivar: Float64, width: float) -> Float64:
    """Take the mean of neighbours, weighted by a Gaussian and by inverse variance."""
    if not flux.size:
        return np.empty(0)
    reach = min(int(np.ceil(_REACH * width)), flux.size - 1)
    reach = reach if width >= _NARROWEST else 0
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / max(width, _NARROWEST)) ** 2)
    # Weights of another size altogether would be lost in sums, or overflow.
    weight = ivar / max(float(ivar.max(initial=0)), np.finfo(float).tiny)
    middle = slice(reach, reach + flux.size)
    total = np.convolve(weight, kernel)[middle]
    mean = np.convolve(flux * weight, kernel)[middle]
    mean[total <= 0] = np.nan
    smoothed: Float64 = mean / np.where(total > 0, total, 1)
    return smoothed


def remove_spikes(flux: Float64, used: NDArray[np.bool_]) -> Float64:
    """Take the median of five neighbours in use: no spike of two pixels is left."""
    values = flux[used]
    despiked: Float64 = flux.copy()
    if values.size >= _WINDOW:
        # At the ends the neighbours on one side stand for those that are lacking.
        padded = np.pad(values, _WINDOW // 2, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)
        despiked[used] = np.median(windows, axis=1)
    return despiked


def box_edges(wave: ArrayLike, nboxes: int) -> Float64:
    """Return the wavelengths at which decoding puts offsets 0 and 1 of each box."""
    grid = np.asarray(wave, dtype=np.float64)
    position = np.arange(nboxes + 1) * (grid.size / nboxes)
    edges: Float64 = np.interp(position, np.arange(grid.size), grid)
    return edges


def summarize(table: NDArray[Any], c_thresh: float) -> SummaryView:
    """Find the quasars in a table of results, and the lines that count."""
    columns = table.dtype.names or ()
    for name in ("IS_QSO_QN", "Z_QN", "Z_QN_CONF"):
        if name not in columns:
            msg = f"no table of qnp-xp classify: it has no column {name}"
            raise ValueError(msg)
    names = [name.removeprefix("C_") for name in columns if name.startswith("C_")]
    names = [name for name in names if not name.startswith("BAL_")]
    scored = table[np.isfinite(table["Z_QN"])]
    quasar = scored["IS_QSO_QN"] == 1
    confidences = [scored[f"C_{name}"].astype(np.float64) for name in names]
    above = quasar & (np.reshape(confidences, (len(names), scored.size)) > c_thresh)
    z, confidence = (scored[name].astype(np.float64) for name in ("Z_QN", "Z_QN_CONF"))
    return SummaryView(table.size, z, confidence, quasar, names, above, c_thresh)
