"""Coefficients of the real quasars that set the distribution of the simulated ones."""

from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np
import numpy.typing as npt
from templates import GRID_START, GRID_STEP, STEP, Array, Generator, Templates

from qnp_xp.grids import nbins, wave
from qnp_xp.spectra import combine

LYA = 1215.67
CATALOGUE = "cat_for_clustering_plate3655.fits.gz"


@dataclass(frozen=True)
class Observed:
    """The calibration spectra of data/boss on the network's grid.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, nbins), float64
        As the package combines them.
    z : ndarray, shape (n,), float64
        The better redshift: that of the catalogue of plate 3655 where it has the
        object, else the pipeline's.
    quasar : ndarray, shape (n,), bool
        Whether the pipeline says so.
    """

    flux: npt.NDArray[np.float64]
    ivar: npt.NDArray[np.float64]
    z: npt.NDArray[np.float64]
    quasar: npt.NDArray[np.bool_]


def read_boss(folder: Path) -> Observed:
    """Read the 80 spectra of data/boss.

    Parameters
    ----------
    folder : Path
        Where the spec files and the catalogue lie.

    Returns
    -------
    Observed
    """
    catalogue = fitsio.read(str(folder / CATALOGUE))
    better = dict(zip(catalogue["THING_ID"], catalogue["Z"], strict=True))
    flux, ivar, z, quasar = [], [], [], []
    for path in sorted(folder.glob("spec-*.fits")):
        with fitsio.FITS(str(path)) as f:
            pixels, about = f[1].read(), f[2].read()[0]
        arm = [pixels[name].astype(float) for name in ("LOGLAM", "FLUX", "IVAR")]
        one_flux, one_ivar, _ = combine([(10 ** arm[0], arm[1][None], arm[2][None])])
        flux.append(one_flux[0])
        ivar.append(one_ivar[0])
        z.append(better.get(about["THING_ID"], about["Z"]))
        quasar.append(about["CLASS"].strip() == "QSO")
    return Observed(np.array(flux), np.array(ivar), np.array(z), np.array(quasar))


@dataclass(frozen=True)
class Parents:
    """Coefficients of real quasars for one set of templates.

    Parameters
    ----------
    coefficients : ndarray, shape (nparents, nbasis), float32
        For a mean flux of 1 over the bins that were fitted.
    z : ndarray, shape (nparents,), float64
        Their redshifts.
    scatter : ndarray, shape (nbasis, nbasis), float32
        Square root of their covariance: noise to add is normal deviates times this.
    """

    coefficients: Array
    z: npt.NDArray[np.float64]
    scatter: Array

    def draw(self, rng: Generator, n: int, noise: float = 0.45) -> Array:
        """Mix two parents and add a part of the covariance as noise.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the mixtures.
        n : int
            How many.
        noise : float
            That part.

        Returns
        -------
        ndarray, shape (n, nbasis), float32
        """
        one, two = rng.integers(0, len(self.coefficients), (2, n))
        share = rng.random((n, 1), dtype=np.float32)
        mixed = share * self.coefficients[one] + (1 - share) * self.coefficients[two]
        normal = rng.standard_normal(mixed.shape, dtype=np.float32)
        return mixed + noise**0.5 * normal @ self.scatter


def fit_parents(
    templates: Templates, observed: Observed, zmin: float, zmax: float
) -> Parents:
    """Fit templates to the quasars of a range of redshifts by ridge regression.

    Parameters
    ----------
    templates : Templates
        The basis.
    observed : Observed
        Spectra to fit.
    zmin, zmax : float
        Which of them.

    Returns
    -------
    Parents
    """
    rows = np.flatnonzero(observed.quasar & (observed.z > zmin) & (observed.z < zmax))
    centre = 10 ** (GRID_START + GRID_STEP * (np.arange(nbins) + 0.5))
    nbasis, fitted = templates.continuum.shape[1], []
    for row in rows:
        z = observed.z[row]
        shift = np.rint(np.log10([1 + z] * nbasis) / STEP).astype(np.int64)
        basis = templates.spectra(shift, np.eye(nbasis, dtype=np.float32)).T
        # The forest is none of the templates' business, nor are the edges.
        used = (centre / (1 + z) > LYA + 3) & (wave > 3700) & (wave < 9600)
        # 5% of the flux at least: the templates are no better than that.
        flux = observed.flux[row]
        weight = np.zeros_like(flux)
        has = used & (observed.ivar[row] > 0)
        weight[has] = 1 / (1 / observed.ivar[row][has] + (0.05 * flux[has]) ** 2)
        scale = np.sum(flux * weight) / weight.sum()
        weight *= scale**2
        matrix = basis.T @ (weight[:, None] * basis)
        ridge = 0.02 * np.diag(np.diag(matrix))
        ridge[0, 0] = 0  # the mean quasar is what the others are drawn towards
        right = basis.T @ (weight * flux / scale)
        fitted.append(np.linalg.solve(matrix + ridge, right))
    coefficients = np.array(fitted)
    covariance = np.cov(coefficients.T)
    values, vectors = np.linalg.eigh(covariance)
    scatter = (vectors * np.sqrt(np.maximum(values, 0))).T
    return Parents(
        coefficients.astype(np.float32), observed.z[rows], scatter.astype(np.float32)
    )
