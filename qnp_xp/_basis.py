"""Quasar templates that redshifts are fitted with."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

#: Step of the lattice of wavelengths, in log10: 17 km/s, a 40th of a bin of DESI's
#: networks.
LATTICE = 2.5e-5


@dataclass(frozen=True, eq=False)
class Templates:
    """Spectra at rest whose sums are quasars."""

    edges: Float64  #: of the pixels in log10 of Angstrom, shape ``(npix + 1,)``
    flux: Float64  #: per wavelength, shape ``(ntemplates, npix)``

    def on_lattice(self) -> tuple[int, Float64]:
        """Integrate up to each place of the lattice; the first place comes along."""
        first = int(np.ceil(self.edges[0] / LATTICE))
        last = int(np.floor(self.edges[-1] / LATTICE))
        wave, places = 10**self.edges, 10 ** (LATTICE * np.arange(first, last + 1))
        light = np.cumsum(self.flux * np.diff(wave), axis=1)
        sums = [np.interp(places, wave, [0.0, *total]) for total in light]
        return first, np.stack(sums, axis=1)


@dataclass(frozen=True, eq=False)
class Basis:
    """Templates from one file, or from two for near and far quasars."""

    paths: tuple[Path, ...]
    sha256: str  #: of the bytes of the files
    parts: tuple[Templates, ...]  #: the first for near quasars

    @property
    def name(self) -> str:
        """Names of the files."""
        return " ".join(path.name for path in self.paths)

    @functools.cached_property
    def lattice(self) -> tuple[NDArray[np.int64], Float64]:
        """Integrals of all parts, one after the other, shape ``(nplaces, ntemplates)``.

        Before them, for each part: what to add to a place of the lattice, the first
        and last row, and the number of templates.
        """
        width = max(len(part.flux) for part in self.parts)
        rows, found, done = [], [], 0
        for part in self.parts:
            first, sums = part.on_lattice()
            last = done + len(sums) - 1
            rows.append((done - first, done, last, len(part.flux)))
            found.append(np.pad(sums, [(0, 0), (0, width - len(part.flux))]))
            done = last + 1
        return np.asarray(rows, dtype=np.int64), np.concatenate(found)
