"""Make the quasar templates that redshifts are fitted with, from simulated quasars.

::

    nice python training/basis.py

writes ``qnp_xp/data/quasar-basis.fits``, or ``--output``, in the layout of Redrock's
template files. It looks for data where ``train.py`` does, and needs neither torch nor
Keras.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np
import numpy.typing as npt
from absorption import LYA
from objects import OVERLAP
from parents import Parents
from templates import (
    BROADENINGS,
    GRID_START,
    REGIONS,
    STEP,
    Array,
    Generator,
    Templates,
    read_templates,
)
from world import ROOT, read_world, template_folder

SEED = 20251127
# Quasars are seen between these wavelengths (Angstrom).
SEEN = (3600.0, 9980.0)
# Simulated quasars, and the most often that a poor one is drawn again.
OBJECTS, ATTEMPTS = 4000, 10


@dataclass(frozen=True)
class Recipe:
    """One set of templates.

    Parameters
    ----------
    kind : str
        Redrock's name for it.
    zmin, zmax : float
        Redshifts of the quasars that it is made from.
    scatter : float
        Of the strengths of lines, in ln.
    count : int
        Templates to make.
    bluest : float
        Wavelength at rest from which on they are needed, in Angstrom.
    """

    kind: str
    zmin: float
    zmax: float
    scatter: float
    count: int
    bluest: float


# Far templates are few: with more of them, shapes of C IV pass for redshifts.
RECIPES = (
    Recipe("LOZ", 0.05, OVERLAP[1], 0.35, 8, 1300.0),
    Recipe("HIZ", OVERLAP[0], 5.1, 0.3, 5, 1260.0),
)


def draw_quasars(
    rng: Generator, templates: Templates, parents: Parents, recipe: Recipe
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Simulate quasars at rest as `objects.quasars` does, without what absorbs.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the scatter among objects.
    templates : Templates
        Not averaged over bins.
    parents : Parents
        Real quasars.
    recipe : Recipe
        Which quasars.

    Returns
    -------
    flux : ndarray, shape (n, npix), float32
    seen : ndarray, shape (n, npix), bool
        Where each would be seen from the Earth.
    """
    log_wave = log_wavelengths(templates)
    zp1 = 1 + rng.uniform(recipe.zmin, recipe.zmax, (OBJECTS, 1))
    low, high = (np.log10(edge / zp1) for edge in SEEN)
    seen = (log_wave > low) & (log_wave < high)
    flux = np.empty(seen.shape, dtype=np.float32)
    todo = np.arange(OBJECTS)
    for attempt in range(ATTEMPTS):
        m = todo.size
        gains = 0.2 * rng.standard_normal((m, 1))
        gains = gains + recipe.scatter * rng.standard_normal((m, len(REGIONS) + 1))
        level = rng.choice(len(BROADENINGS), m, p=(0.6, 0.25, 0.15))
        coefficients = parents.draw(rng, m)
        lines = np.empty((m, log_wave.size), dtype=np.float32)
        for number, broadened in enumerate(templates.lines):
            lines[level == number] = coefficients[level == number] @ broadened.T
        made = coefficients @ templates.continuum.T
        made += lines * np.exp(gains).astype(np.float32)[:, templates.region]
        checked = seen[todo] & (log_wave > np.log10(LYA))
        bad = ((made < 0.02) & checked).mean(axis=1) > 0.01
        flux[todo] = made
        todo = todo[bad]
        if not todo.size or attempt == ATTEMPTS - 1:
            break
    return flux, seen


def log_wavelengths(templates: Templates) -> npt.NDArray[np.float64]:
    """Middles of the pixels of templates that are not averaged, log10 of Angstrom."""
    return GRID_START + STEP * (
        templates.first + np.arange(len(templates.continuum)) + 0.5
    )


def principal(
    flux: Array, seen: npt.NDArray[np.bool_], count: int
) -> npt.NDArray[np.float64]:
    """Find the templates whose sums come closest to spectra, in parts of their flux.

    Parameters
    ----------
    flux : ndarray, shape (n, npix)
        Spectra.
    seen : ndarray of bool, shape (n, npix)
        Where to take the mean of each that it is divided by.
    count : int
        How many templates.

    Returns
    -------
    ndarray, shape (count, npix)
        Each of an rms of 1; its largest value is positive.
    """
    spectra = flux.astype(float)
    mean = (spectra * seen).sum(axis=1, keepdims=True) / seen.sum(axis=1, keepdims=True)
    spectra /= mean
    typical = np.maximum(np.abs(np.median(spectra, axis=0)), 0.05)
    relative = np.clip(spectra / typical, -10, 10)
    _, vectors = np.linalg.eigh(relative @ relative.T)
    found = (vectors[:, ::-1][:, :count].T @ relative) * typical
    found /= np.sqrt((found**2).mean(axis=1, keepdims=True))
    largest = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
    return found * np.sign(largest)


def main() -> None:
    """Make and write the templates."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT / "qnp_xp" / "data" / "quasar-basis.fits"
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    rng = np.random.default_rng(SEED)
    library = read_world().library
    args.output.unlink(missing_ok=True)
    with fitsio.FITS(str(args.output), "rw") as file:
        for recipe in RECIPES:
            path = template_folder() / f"rrtemplate-QSO-{recipe.kind}-v1.1.fits"
            fine = read_templates(path, split_lines=True, per_bin=1)
            near = recipe.kind == "LOZ"
            parents = library.low_parents if near else library.high_parents
            log_wave = log_wavelengths(fine)
            kept = log_wave > np.log10(recipe.bluest)
            flux, seen = draw_quasars(rng, fine, parents, recipe)
            found = principal(flux[:, kept], seen[:, kept], recipe.count)
            header = [
                {"name": "CRVAL1", "value": float(log_wave[kept][0])},
                {"name": "CDELT1", "value": STEP},
                {"name": "LOGLAM", "value": 1, "comment": "log10 of Angstrom"},
                {"name": "RRTYPE", "value": "QSO"},
                {"name": "RRSUBTYP", "value": recipe.kind},
            ]
            file.write(found.astype(np.float32), extname=recipe.kind, header=header)
            print(f"{recipe.kind}: {recipe.count} templates of {OBJECTS} quasars")


if __name__ == "__main__":
    main()
