"""What every format of spectra is read as: arms of rows, and which spectrum is which.

A new format needs a function that returns a `Source`, called in `qnp_xp.io.open`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._xp.backend import Array, array_namespace, backend_of, real_floating, to_device
from ..errors import SpectraError
from ..selection import Indices, Selection, holds
from ._units import ensure_flux_units

#: Columns that say which spectrum a row is, and their types. A source has some of them.
IDENTIFIERS = {
    "TARGETID": "i8",
    **dict.fromkeys(("TARGET_RA", "TARGET_DEC"), "f8"),
    **dict.fromkeys(("PLATE", "MJD", "FIBERID", "FIELD"), "i4"),
    **dict.fromkeys(("CATALOGID", "SDSS_ID", "SPECID"), "i8"),
    "SPARCL_ID": "S36",
}


class Rows(Protocol):
    """Values in two dimensions that are read by rows, such as an image of a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of rows and columns."""

    @property
    def unit(self) -> str:
        """Unit as the file says it; empty where nothing does."""

    def read_rows(self, rows: NDArray[np.int64]) -> Array:
        """Read rows by their indices, in any order."""

    def problem(self, what: str) -> SpectraError:
        """Make an error that names the file and HDU, or the argument."""


@dataclass(frozen=True)
class HeldRows:
    """Rows of an array that is in memory already, of any library."""

    values: Array
    #: What messages call it.
    origin: str
    unit: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of rows and columns."""
        return tuple(self.values.shape)

    def read_rows(self, rows: NDArray[np.int64]) -> Array:
        """Take rows by their indices, in any order."""
        if rows.size and np.all(np.diff(rows) == 1):
            return self.values[int(rows[0]) : int(rows[-1]) + 1, :]
        xp = array_namespace(self.values)
        return xp.take(self.values, to_device(rows, backend_of(self.values)), axis=0)

    def problem(self, what: str) -> SpectraError:
        """Make an error that names the argument."""
        return SpectraError(f"{self.origin}: {what}")


@dataclass(frozen=True)
class Arm:
    """One arm of the spectrograph, whose parts must fit each other.

    Parameters
    ----------
    name : str
        ``"B"``, ``"R"`` or ``"Z"``; another where there are no such arms.
    wave : array of float64, shape (npix,) or (n, npix)
        Wavelengths in Angstrom, of all spectra or of each.
    flux, ivar, mask : Rows, shape (n, npix)
        Flux in 1e-17 erg / (s cm2 Angstrom), inverse variance, and perhaps a mask.
    wave_problem : callable, optional
        Makes an error of the wavelengths from a text; default is ``flux.problem``.
    bad_bits : int, optional
        Bits of the mask that say that a pixel is bad; default is any of them.
    """

    name: str
    wave: NDArray[np.float64]
    flux: Rows
    ivar: Rows
    mask: Rows | None = None
    wave_problem: Callable[[str], SpectraError] | None = None
    bad_bits: int | None = None

    def __post_init__(self) -> None:
        shape, wave = self.flux.shape, self.wave
        if len(shape) != 2:
            raise self.flux.problem(f"needs 2 dimensions, has shape {shape}")
        for rows in (self.ivar, self.mask):
            if rows is not None and rows.shape != shape:
                raise rows.problem(f"has shape {rows.shape}, and the flux {shape}")
        problem = self.wave_problem or self.flux.problem
        if wave.shape not in {shape, shape[1:]}:
            raise problem(f"{wave.shape} wavelengths for flux of shape {shape}")
        if not np.all(np.isfinite(wave)) or np.any(wave <= 0):
            raise problem("wavelengths must be finite and positive (Angstrom)")

    def read(
        self, rows: NDArray[np.int64], use_mask: bool = False
    ) -> tuple[NDArray[np.float64], Array, Array]:
        """Read wavelengths, flux and inverse variance of some rows."""
        flux, ivar = self.flux.read_rows(rows), self.ivar.read_rows(rows)
        if use_mask:
            if self.mask is None:
                raise self.flux.problem("has no mask, and use_mask asks for it")
            mask = self.mask.read_rows(rows)
            if self.bad_bits is not None:
                mask = mask.astype(np.int64) & self.bad_bits
            ivar = np.where(mask == 0, ivar, 0).astype(ivar.dtype)
        wave = self.wave if self.wave.ndim == 1 else self.wave[rows, :]
        return (wave, *real_floating(flux=flux, ivar=ivar))


@dataclass(frozen=True)
class Source:
    """The spectra of a file, of an exposure or in memory; a context manager.

    Parameters
    ----------
    name : str
        What messages call it: the file, for one.
    arms : tuple of Arm
        Those that are there, of the same spectra.
    missing : tuple of str
        Names of the arms B, R, Z that should be there and are not.
    identifiers : dict of array, shape (n,)
        Those of `IDENTIFIERS` that are known.
    """

    name: str
    arms: tuple[Arm, ...]
    missing: tuple[str, ...] = ()
    identifiers: dict[str, NDArray[Any]] = field(default_factory=dict)
    #: Whether each spectrum is of a science target; None where nothing says so.
    target: NDArray[np.bool_] | None = None
    #: Reads further columns of the table of fibers, those of a list that it has.
    columns: Callable[[list[str]], dict[str, NDArray[Any]]] = lambda _: {}
    #: What to call at the end.
    closing: tuple[Callable[[], None], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for arm in self.arms:
            count = arm.flux.shape[0]
            if count != self.n:
                what = f"has {count} spectra, and arm {self.arms[0].name} has {self.n}"
                raise arm.flux.problem(what)
        ensure_flux_units(
            [arm.flux for arm in self.arms], [arm.ivar for arm in self.arms]
        )

    @property
    def n(self) -> int:
        """Number of spectra."""
        return self.arms[0].flux.shape[0]

    def select(self, rows: Indices, coadd: bool) -> Selection:
        """Make a row of the table of each row, or of all those of a target."""
        if not coadd:
            return Selection.of_rows(rows)
        if "TARGETID" not in self.identifiers:
            msg = f"{self.name}: has no TARGETIDs to coadd spectra by"
            raise SpectraError(msg)
        return Selection.of_targets(rows, self.identifiers["TARGETID"][rows])

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        for close in self.closing:
            close()

    def read(
        self, rows: NDArray[np.int64], use_mask: bool = False
    ) -> Iterator[tuple[NDArray[np.float64], Array, Array]]:
        """Yield what `Arm.read` gives, arm by arm."""
        for arm in self.arms:
            yield arm.read(rows, use_mask)


def science_targets(objtype: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell from DESI's OBJTYPE, where it is not blank, which spectra are of targets."""
    names = np.char.strip(objtype.astype("U"))
    return np.isin(names, ["TGT", ""])


def identify(
    columns: Mapping[str, ArrayLike],
    n: int,
    problem: Callable[[str], Exception],
    types: Mapping[str, Any] = IDENTIFIERS,
) -> dict[str, NDArray[Any]]:
    """Check columns of `IDENTIFIERS` and OBJTYPE, and give them the types of tables.

    An identifier is never rounded: integers of 64 bits have no room in a float.
    """
    kinds = {"i": ("iu", "integers"), "f": ("iuf", "numbers"), "S": ("SU", "texts")}
    found = {}
    for name, column in columns.items():
        values, dtype = np.asarray(column), np.dtype(types.get(name, "S"))
        kind, meaning = kinds[dtype.kind]
        if values.shape != (n,) or (n and values.dtype.kind not in kind):
            has = "texts" if values.dtype.kind in "SU" else values.dtype
            what = f"column {name} has {has} of shape {values.shape}"
            raise problem(f"{what}, and {n} {meaning} are needed")
        if dtype.kind == "i" and not holds(dtype, values):
            raise problem(f"column {name} has integers that are none of {dtype}")
        found[name] = values if dtype.itemsize == 0 else values.astype(dtype)
    return found
