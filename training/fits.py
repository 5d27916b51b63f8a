"""How good fitted redshifts are, of this network and of one of QuasarNP's tests."""

from typing import Any

import numpy as np
from blind_spots import CLOSE
from ensemble import EVALUATION, simulate
from noise import normalise, observe
from templates import C_KMS
from world import World

from qnp_xp._fit import FAR, Fitter
from qnp_xp.io._basis import read_basis
from qnp_xp.spectra import normalize

COUNT = 8000
SNRS = (3.0, 30.0)
CALIBRATION = ((0.3, 0.8), (0.8, 1.5), (2.1, 3.3))
SIMULATED = ((0.05, 0.3), (0.3, 0.8), (0.8, 1.5), (1.5, 2.1), (2.1, 3.0), (3.0, 4.8))


def _fit(
    judge: Any, spectra: np.ndarray, flux: np.ndarray, ivar: np.ndarray, c_thresh: float
) -> tuple[np.ndarray, ...]:
    """Redshifts of the network, fitted ones and their errors; NaN if not called so."""
    said = judge(spectra)
    model = judge.model
    fitter = Fitter(np.asarray(model.wave), read_basis(True), model.backend)
    found = said.cbest > c_thresh
    absorbed = said.c_line_bal[0] > c_thresh
    both = (x.astype(np.float64)[found] for x in (flux, ivar))
    fitted = np.asarray(fitter(*both, said.zbest[found], absorbed[found]))
    z, z_fit, error = np.full((3, len(flux)), np.nan)
    z[found], z_fit[found], error[found] = said.zbest[found], fitted[0], fitted[1]
    return z, z_fit, error


def fits(
    judges: dict[str, tuple[Any, float]],
    world: World,
    for_objects: np.random.SeedSequence,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Measure fitted redshifts on calibration spectra and on simulated quasars.

    Parameters
    ----------
    judges : dict of str to (Judge, float)
        Networks and their thresholds.
    world : World
        Templates, noise, calibration spectra.
    for_objects : numpy.random.SeedSequence
        For the simulated objects.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    dict
        For each sample and range, by network: how many have a good redshift, and the
        medians of the velocities in km/s of it and of the fitted one, both of the same
        spectra. Also the medians of the errors over those that are claimed.
    """
    observed = world.observed
    rows = np.flatnonzero(observed.quasar)
    flux, ivar = observed.flux[rows], observed.ivar[rows]
    calibration = normalize(flux, ivar)[0], flux, ivar, observed.z[rows]
    objects = simulate(for_objects, world.library, COUNT, EVALUATION)
    rows = np.flatnonzero(objects.kind == 0)
    snr = np.exp(rng.uniform(*np.log(SNRS), rows.size)).astype(np.float32)
    flux, ivar = observe(rng, objects.flux[rows], world.shapes, snr)
    simulated = normalise(flux, ivar), flux, ivar, objects.z[rows]
    results: dict[str, Any] = {}
    for sample, data, ranges in (
        ("calibration", calibration, CALIBRATION),
        ("simulated", simulated, SIMULATED),
    ):
        *spectra, truth = data
        results[sample] = {f"{low} to {high}": {} for low, high in ranges}
        results[f"{sample}, |dz| / error"] = {}
        for name, (judge, c_thresh) in judges.items():
            z, z_fit, error = _fit(judge, *spectra, c_thresh)
            good = np.abs(z - truth) < CLOSE * (1 + truth)
            good &= np.isfinite(z_fit)
            speed, fitted = (
                C_KMS * np.abs(x - truth) / (1 + truth) for x in (z, z_fit)
            )
            for low, high in ranges:
                among = good & (truth >= low) & (truth < high)
                medians = [int(np.median(x[among]).round()) for x in (speed, fitted)]
                own = results[sample][f"{low} to {high}"]
                own[name] = [int(among.sum()), *medians]
            pull = np.abs(z_fit - truth) / error
            results[f"{sample}, |dz| / error"][name] = [
                round(float(np.median(pull[good & which])), 2)
                for which in (truth < FAR, truth >= FAR)
            ]
    return results
