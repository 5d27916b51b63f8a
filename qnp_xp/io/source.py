"""Spectra that are read when they are asked for, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._xp.backend import Array, array_namespace, backend_of, to_device
from ..errors import SpectraError

__all__ = [
    "IDENTIFIERS",
    "Arm",
    "HeldRows",
    "Rows",
    "Source",
    "assemble",
    "make_arm",
    "science_targets",
]

#: Columns that say which spectrum a row is; a source has some of them.
IDENTIFIERS = ("TARGETID", "TARGET_RA", "TARGET_DEC", "PLATE", "MJD", "FIBERID")


class Rows(Protocol):
    """Two-dimensional numbers of which rows can be had, such as an image of a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def read_rows(self, rows: NDArray[np.int64]) -> Array:
        """Some of the rows.

        Parameters
        ----------
        rows
            Their numbers, shape ``(m,)``, in any order.

        Returns
        -------
        array
            Shape ``(rows.size, width)``.
        """

    def problem(self, what: str) -> SpectraError:
        """An error that says where these numbers come from.

        Parameters
        ----------
        what
            What is wrong with them.

        Returns
        -------
        SpectraError
        """


@dataclass(frozen=True)
class HeldRows:
    """Rows of an array that is in memory already, of any library.

    Attributes
    ----------
    values
        Shape ``(n, npix)``.
    origin
        What messages call it.
    """

    values: Array
    origin: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return tuple(self.values.shape)

    def read_rows(self, rows: NDArray[np.int64]) -> Array:
        """Some of the rows, in the order of their numbers.

        Parameters
        ----------
        rows
            Their numbers, shape ``(m,)``.

        Returns
        -------
        array
            Shape ``(rows.size, width)``.
        """
        if rows.size and np.all(np.diff(rows) == 1):
            return self.values[int(rows[0]) : int(rows[-1]) + 1, :]
        xp = array_namespace(self.values)
        backend = backend_of(self.values)
        return xp.take(self.values, to_device(rows, backend), axis=0)

    def problem(self, what: str) -> SpectraError:
        """An error that says where these numbers come from.

        Parameters
        ----------
        what
            What is wrong with them.

        Returns
        -------
        SpectraError
        """
        return SpectraError(f"{self.origin}: {what}")


@dataclass(frozen=True)
class Arm:
    """One arm of the spectrograph.

    Attributes
    ----------
    name
        ``"B"``, ``"R"``, ``"Z"``; other names where there are no such arms.
    wave
        Wavelengths in Angstrom, shape ``(npix,)``, or ``(n, npix)`` where each
        spectrum has its own.
    flux, ivar, mask
        Numbers of shape ``(n, npix)``; there may be no mask.
    """

    name: str
    wave: NDArray[np.float64]
    flux: Rows
    ivar: Rows
    mask: Rows | None = None

    def read(
        self, rows: NDArray[np.int64], use_mask: bool = False
    ) -> tuple[NDArray[np.float64], Array, Array]:
        """Wavelengths, flux and inverse variance of some spectra.

        Parameters
        ----------
        rows
            Numbers of the spectra, shape ``(m,)``.
        use_mask
            Give no weight to pixels whose mask is not zero.

        Returns
        -------
        wave, flux, ivar : array
            Shape ``(rows.size, npix)``, wavelengths perhaps ``(npix,)``; flux in
            1e-17 erg / (s cm2 Angstrom).

        Raises
        ------
        SpectraError
            If a file is damaged, or there is no mask and it is to be used.
        """
        flux, ivar = self.flux.read_rows(rows), self.ivar.read_rows(rows)
        if use_mask:
            if self.mask is None:
                raise self.flux.problem("has no mask, and use_mask asks for it")
            ivar = np.where(self.mask.read_rows(rows) == 0, ivar, 0).astype(ivar.dtype)
        wave = self.wave if self.wave.ndim == 1 else self.wave[rows, :]
        return wave, _floating(flux), _floating(ivar)


def _floating(x: Array) -> Array:
    xp = array_namespace(x)
    return x if xp.isdtype(x.dtype, "real floating") else xp.astype(x, xp.float64)


def make_arm(
    name: str,
    wave: NDArray[Any],
    flux: Rows,
    ivar: Rows,
    mask: Rows | None = None,
    *,
    about_wave: Callable[[str], SpectraError] | None = None,
) -> Arm:
    """Put an arm together whose parts fit each other.

    Parameters
    ----------
    name, wave, flux, ivar, mask
        As for `Arm`.
    about_wave
        Makes an error of the wavelengths from what is wrong with them; by default
        that of the flux.

    Returns
    -------
    Arm

    Raises
    ------
    SpectraError
        If their shapes contradict each other, or wavelengths are impossible.
    """
    if len(flux.shape) != 2:
        raise flux.problem(f"needs 2 dimensions, has shape {flux.shape}")
    for rows in (ivar, mask):
        if rows is not None and rows.shape != flux.shape:
            raise rows.problem(f"has shape {rows.shape}, and the flux {flux.shape}")
    wave = np.asarray(wave, dtype=np.float64)
    wrong = about_wave or flux.problem
    if wave.shape not in {flux.shape, flux.shape[1:]}:
        raise wrong(f"{wave.shape} wavelengths for flux of shape {flux.shape}")
    if not np.all(np.isfinite(wave)) or np.any(wave <= 0):
        raise wrong("wavelengths must be finite and positive (Angstrom)")
    return Arm(name, wave, flux, ivar, mask)


@dataclass(frozen=True)
class Source:
    """Spectra of one file, of one exposure, or in memory; a context manager.

    Attributes
    ----------
    name
        What messages call it: the file, for one.
    n
        Number of spectra.
    arms
        Those that are there.
    missing
        Names of the arms b, r, z that should be there and are not.
    identifiers
        By name, those of `IDENTIFIERS` that are known, each of length n.
    target
        Whether a row is a science target, shape ``(n,)``; None where nothing says so.
    columns
        Reads further columns of the table of fibers, those of a list that it has.
    closing
        What is to be called at the end.
    """

    name: str
    n: int
    arms: tuple[Arm, ...]
    missing: tuple[str, ...] = ()
    identifiers: dict[str, NDArray[Any]] = field(default_factory=dict)
    target: NDArray[np.bool_] | None = None
    columns: Callable[[list[str]], dict[str, NDArray[Any]]] = lambda _: {}
    closing: tuple[Callable[[], None], ...] = field(default=(), repr=False)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        for close in self.closing:
            close()

    def read(
        self, rows: NDArray[np.int64], use_mask: bool = False
    ) -> Iterator[tuple[NDArray[np.float64], Array, Array]]:
        """Wavelength, flux and inverse variance of some spectra, arm by arm.

        Parameters
        ----------
        rows, use_mask
            As for `Arm.read`.

        Yields
        ------
        wave, flux, ivar : array
            As for `Arm.read`.
        """
        for arm in self.arms:
            yield arm.read(rows, use_mask)


def science_targets(objtype: ArrayLike) -> NDArray[np.bool_]:
    """Whether DESI calls a spectrum that of a target, and not of the sky.

    Parameters
    ----------
    objtype
        OBJTYPE of the FIBERMAP, bytes or strings, shape ``(n,)``.

    Returns
    -------
    numpy.ndarray of bool
        Of shape ``(n,)``.
    """
    names = np.char.strip(np.asarray(objtype).astype("U"))
    return np.asarray(names == "TGT", dtype=bool)


def assemble(name: str, arms: Sequence[Arm], **details: Any) -> Source:
    """Put a source together whose parts fit each other.

    Parameters
    ----------
    name, arms
        As for `Source`.
    **details
        Its other attributes.

    Returns
    -------
    Source

    Raises
    ------
    SpectraError
        If the arms are of different numbers of spectra.
    """
    n = arms[0].flux.shape[0]
    for arm in arms:
        if arm.flux.shape[0] != n:
            what = f"has {arm.flux.shape[0]} spectra, and arm {arms[0].name} has {n}"
            raise arm.flux.problem(what)
    return Source(name, n, tuple(arms), **details)
