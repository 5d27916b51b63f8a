"""Redrock's templates on a logarithmic lattice on which a redshift is a shift.

The lattice has ten steps in a bin of the network's grid, and redshifts are drawn on it
(69 km/s apart). So a spectrum at any redshift is every tenth element of an array.
"""

from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from qnp_xp.grids import nbins, wave

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Generator = np.random.Generator

C_KMS = 299792.458
GRID_START, GRID_STEP = float(np.log10(wave[0])), 1e-3
STEP, PER_BIN = 1e-4, 10
# Standard deviations in km/s by which lines are broadened over the templates' own.
BROADENINGS = (0.0, 1200.0, 2400.0)

# Stretches of the rest frame (Angstrom) with little line emission, through whose means
# the continuum of a quasar runs.
# fmt: off
CONTINUUM = (
    (600, 700), (820, 880), (1085, 1100), (1142, 1152), (1275, 1292), (1345, 1360),
    (1440, 1470), (1690, 1710), (1800, 1820), (1975, 2000), (2150, 2200), (2630, 2690),
    (3010, 3060), (3500, 3600), (4010, 4060), (4200, 4230), (4730, 4780), (5080, 5110),
    (5560, 5700), (6000, 6150), (6900, 7000), (7700, 7800), (8800, 9000),
)
# fmt: on
# Lines between two of these scale together: they lie where there is little emission.
REGIONS = (
    900,
    1090,
    1150,
    1284,
    1352,
    1455,
    1700,
    1810,
    1988,
    2180,
    2660,
    3040,
    3550,
    4035,
    4215,
    4755,
    4920,
    5095,
    5630,
    6075,
    6950,
)  # fmt: skip


@dataclass(frozen=True)
class Templates:
    """Basis vectors of one kind of object, averaged over the network's bins.

    Parameters
    ----------
    first : int
        Place on the lattice of the first element, counted from 3600 Angstrom.
    continuum : ndarray, shape (npix, nbasis), float32
        For each place the mean over a bin that starts there.
    lines : ndarray, shape (nbroadenings, npix, nbasis), float32
        What the lines add to it, broadened by `BROADENINGS`; empty for objects whose
        lines are not told apart.
    region : ndarray, shape (npix,), int64
        Number of the stretch between two of `REGIONS`.
    coefficients : ndarray, shape (nobjects, nbasis), float32
        Those of real objects, of any brightness; empty where there are none.
    """

    first: int
    continuum: Array
    lines: Array
    region: Ints
    coefficients: Array

    def places(self, shift: Ints) -> Ints:
        """Where to look for the bins of objects at redshifts on the lattice.

        Parameters
        ----------
        shift : ndarray, shape (n,), int64
            log10(1 + z) in steps of the lattice.

        Returns
        -------
        ndarray, shape (n, nbins), int64
        """
        start = -shift[:, None] - self.first
        places = start + PER_BIN * np.arange(nbins)
        if places.size and (places.min() < 0 or places.max() >= len(self.continuum)):
            msg = "the templates do not cover the grid at these redshifts"
            raise ValueError(msg)
        return places

    def spectra(
        self,
        shift: Ints,
        coefficients: Array,
        gains: Array | None = None,
        broadening: Ints | None = None,
    ) -> Array:
        """Spectra on the network's grid.

        Parameters
        ----------
        shift : ndarray, shape (n,), int64
            log10(1 + z) in steps of the lattice.
        coefficients : ndarray, shape (n, nbasis), float32
            Of the basis vectors.
        gains : ndarray, shape (n, nregions), float32, optional
            Strength of the lines in each region.
        broadening : ndarray, shape (n,), int64, optional
            Which of `BROADENINGS` to apply.

        Returns
        -------
        ndarray, shape (n, nbins), float32
        """
        places = self.places(shift)
        weights = coefficients[:, None, :]
        flux = (self.continuum[places] * weights).sum(axis=2)
        if self.lines.size:
            level = np.zeros_like(shift) if broadening is None else broadening
            lines = (self.lines[level[:, None], places] * weights).sum(axis=2)
            if gains is not None:
                lines *= np.take_along_axis(gains, self.region[places], axis=1)
            flux += lines
        return flux


def redshift(shift: Ints) -> npt.NDArray[np.float64]:
    """Redshift of a shift in steps of the lattice."""
    return 10 ** (STEP * shift) - 1


def draw_shift(rng: Generator, low: float, high: float, n: int) -> Ints:
    """Shifts on the lattice whose redshifts are uniform between two values."""
    return np.rint(np.log10(1 + rng.uniform(low, high, n)) / STEP).astype(np.int64)


def read_templates(
    path: Path, *, split_lines: bool = False, per_bin: int = PER_BIN, last: float = 0.0
) -> Templates:
    """Read a template file of Redrock.

    Parameters
    ----------
    path : Path
        The file.
    split_lines : bool
        Whether to tell lines from the continuum.
    per_bin : int
        Steps of the lattice to average over.
    last : float
        Wavelength up to which the last value is carried on, where the file ends before.

    Returns
    -------
    Templates
    """
    with fitsio.FITS(str(path)) as f:
        header, basis = f[0].read_header(), f[0].read().astype(float)
        names = [hdu.get_extname() for hdu in f]
        known = "ARCHETYPE_COEFF" in names
        coefficients = f["ARCHETYPE_COEFF"].read() if known else np.empty((0, 0))
    start, step = header["CRVAL1"], header["CDELT1"]
    end = np.log10(last) if header.get("LOGLAM") and last else last
    missing = max(int(np.ceil((end - start) / step)) - basis.shape[1], 0)
    basis = np.pad(basis, ((0, 0), (0, missing)), mode="edge")
    axis = start + step * np.arange(basis.shape[1] + 1)
    edges = axis - 0.5 * step
    log_edges = edges if header.get("LOGLAM") else np.log10(edges)
    # The mean over a bin is a difference of the running integral.
    width = np.diff(10**log_edges)
    total = np.concatenate(
        [np.zeros((len(basis), 1)), np.cumsum(basis * width, axis=1)], axis=1
    )
    first = int(np.ceil((log_edges[0] - GRID_START) / STEP))
    final = int(np.floor((log_edges[-1] - GRID_START) / STEP))
    lattice = 10 ** (GRID_START + STEP * np.arange(first, final + 1))
    at = np.array([np.interp(lattice, 10**log_edges, row) for row in total])
    mean = (at[:, per_bin:] - at[:, :-per_bin]) / (
        lattice[per_bin:] - lattice[:-per_bin]
    )
    centre = np.sqrt(lattice[per_bin:] * lattice[:-per_bin])
    lines = np.empty((0, 0, 0), dtype=np.float32)
    if split_lines:
        smooth = _continuum(centre, mean)
        rest = mean - smooth
        pixels = np.array(BROADENINGS) / (C_KMS * STEP * np.log(10))
        broadened = [rest, *(gaussian_filter1d(rest, s, axis=1) for s in pixels[1:])]
        lines = np.stack([part.T for part in broadened]).astype(np.float32)
        mean = smooth
    return Templates(
        first,
        np.ascontiguousarray(mean.T, dtype=np.float32),
        lines,
        np.searchsorted(REGIONS, centre),
        np.asarray(coefficients, dtype=np.float32),
    )


def _continuum(
    centre: npt.NDArray[np.float64], basis: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Straight pieces through the means over `CONTINUUM`.

    It is linear in the basis vectors, so that it holds for any sum of them.
    """
    inside = [(centre > low) & (centre < high) for low, high in CONTINUUM]
    inside = [part for part in inside if part.sum() > 20]
    knots = np.log([centre[part].mean() for part in inside])
    values = np.array([[row[part].mean() for part in inside] for row in basis])
    return np.array([np.interp(np.log(centre), knots, row) for row in values])
