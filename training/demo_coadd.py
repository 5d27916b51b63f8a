"""The demo coadd: some simulated objects in the layout of DESI's coadd files."""

from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np
import numpy.typing as npt
from demo_instrument import ARMS, arm_ivar, arm_slice, arm_wave, fine_bins
from demo_spectra import Array, Generator, galaxies, quasars, stars

FIRST_TARGETID = 39627000000000001
# Bits of desispec.maskbits: BADFIBER of `fibermask`, ALLBADPIX and BADFIBER of
# `specmask`.
FIBERSTATUS_BADFIBER = 2**16
MASK_ALLBADPIX, MASK_BADFIBER = 2**1, 2**9
LOST_PIXELS = 2e-3
FLUX_UNIT = "10**-17 erg/(s cm2 Angstrom)"
IVAR_UNIT = "10**+34 (s2 cm4 Angstrom2) / erg2"


@dataclass(frozen=True)
class Target:
    """One row of the coadd.

    Parameters
    ----------
    spectype, subtype : str
        What is simulated.
    z : float
        Redshift; NaN for a sky fiber.
    brightness : float
        Median flux density in 1e-17 erg/(s cm2 Angstrom).
    value : float
        Share of old stars in a galaxy, temperature of a star in kelvin.
    dead : bool
        Whether the fiber delivers no data.
    """

    spectype: str
    subtype: str
    z: float
    brightness: float
    value: float = 0.0
    dead: bool = False


TARGETS = (
    Target("QSO", "", 0.55, 3.2),
    Target("GALAXY", "BGS", 0.11, 5.0, 0.6),
    Target("QSO", "", 0.38, 4.0),
    Target("STAR", "K", 0.0, 3.0, 4500.0),
    Target("QSO", "", 0.87, 2.6),
    Target("STAR", "G", 0.0, 4.0, 5600.0),
    Target("QSO", "", 1.21, 2.0),
    Target("QSO", "", 1.58, 1.8),
    Target("SKY", "", np.nan, 0.0),
    Target("GALAXY", "BGS", 0.34, 3.0, 0.9),
    Target("QSO", "", 1.93, 1.6),
    Target("QSO", "", 1.74, 2.2),
    Target("GALAXY", "ELG", 1.32, 0.7, 0.2),
    Target("STAR", "A", 0.0, 4.0, 9000.0),
    Target("QSO", "BAL", 2.27, 2.4),
    Target("GALAXY", "LRG", 0.72, 1.6, 1.0),
    Target("QSO", "", 2.48, 1.3),
    Target("STAR", "M", 0.0, 2.0, 3300.0),
    Target("QSO", "", 2.95, 1.6),
    Target("QSO", "", 4.12, 2.0),
    Target("GALAXY", "LRG", 0.55, 2.2, 0.9),
    Target("GALAXY", "ELG", 1.05, 0.8, 0.1),
    Target("QSO", "", 3.52, 1.8),
    Target("QSO", "BAL", 2.66, 2.6),
    Target("STAR", "F", 0.0, 4.0, 6500.0, dead=True),
)


def _round(values: Array, bits: int) -> Array:
    """Keep `bits` bits of the mantissa; what follows is noise, and zeros compress."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2**bits) / 2**bits, exponent).astype(np.float32)


def _clean(rng: Generator, target: Target) -> Array:
    """Flux densities of one object without noise on the lattice of all arms."""
    bins, z = fine_bins(), np.array([target.z], dtype=np.float32)
    if target.spectype == "QSO":
        flux = quasars(rng, bins, z, np.array([target.subtype == "BAL"]))
    elif target.spectype == "GALAXY":
        flux = galaxies(rng, bins, z, np.array([target.value]))
    elif target.spectype == "STAR":
        flux = stars(rng, bins, np.array([target.value]))
    else:
        return np.zeros(bins.wave.size, dtype=np.float32)
    return target.brightness * flux[0] / np.median(flux[0])


def simulate_coadd(rng: Generator) -> dict[str, tuple[Array, Array]]:
    """Simulate `TARGETS`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of objects and noise.

    Returns
    -------
    dict of str to (flux, ivar)
        For each arm arrays of shape (ntargets, npixels), float32.
    """
    rows: dict[str, list[tuple[Array, Array]]] = {arm: [] for arm in ARMS}
    for target in TARGETS:
        clean = _clean(rng, target)
        for arm in ARMS:
            ivar = arm_ivar(rng, arm)
            truth = clean[arm_slice(arm)]
            ivar /= 1 + 0.15 * np.maximum(truth, 0)
            noise = rng.standard_normal(ivar.size, dtype=np.float32)
            flux = truth + noise / np.sqrt(ivar)
            keep = (rng.random(ivar.size) > LOST_PIXELS) & (not target.dead)
            rows[arm].append((_round(flux * keep, 10), _round(ivar * keep, 8)))
    stacked = {}
    for arm, pairs in rows.items():
        flux, ivar = (np.stack(part) for part in zip(*pairs, strict=True))
        stacked[arm] = (flux, ivar)
    return stacked


def fibermap() -> npt.NDArray[np.void]:
    """Table of `TARGETS`: DESI's columns that matter here, and the truth."""
    table = np.zeros(
        len(TARGETS),
        dtype=[
            ("TARGETID", "i8"),
            ("COADD_FIBERSTATUS", "i4"),
            ("TARGET_RA", "f8"),
            ("TARGET_DEC", "f8"),
            ("OBJTYPE", "S3"),
            ("TRUE_SPECTYPE", "S6"),
            ("TRUE_SUBTYPE", "S3"),
            ("TRUE_Z", "f8"),
        ],
    )
    for i, target in enumerate(TARGETS):
        table[i] = (
            FIRST_TARGETID + i,
            FIBERSTATUS_BADFIBER if target.dead else 0,
            # A made-up place: a tidy grid that nobody takes for a catalogue.
            150.0 + 0.01 * (i % 5),
            2.0 + 0.01 * (i // 5),
            "SKY" if target.spectype == "SKY" else "TGT",
            target.spectype,
            target.subtype,
            target.z,
        )
    return table


def write_coadd(path: Path, arms: dict[str, tuple[Array, Array]], seed: int) -> None:
    """Write the file.

    Parameters
    ----------
    path : Path
        File to write; an old one is replaced.
    arms : dict of str to (flux, ivar)
        From `simulate_coadd`.
    seed : int
        The seed that it was simulated with, for the header.
    """
    with fitsio.FITS(path, "rw", clobber=True) as fits:
        fits.write(None, header=[{"name": "SEED", "value": seed, "comment": "random"}])
        fits[0].write_comment(
            "SIMULATED spectra from analytic formulas, not DESI data."
        )
        fits[0].write_comment("Made by training/make_demo.py of qnp_xp to try it out.")
        fits[0].write_comment("TRUE_* columns of FIBERMAP tell what was simulated.")
        fits.write(
            fibermap(), extname="FIBERMAP", units=["", "", "deg", "deg", "", "", "", ""]
        )
        for arm, (flux, ivar) in arms.items():
            for name, data, unit in (
                ("WAVELENGTH", arm_wave(arm), "Angstrom"),
                ("FLUX", flux, FLUX_UNIT),
                ("IVAR", ivar, IVAR_UNIT),
            ):
                fits.write(data, extname=f"{arm}_{name}", header={"BUNIT": unit})
            dead = np.array([[target.dead] for target in TARGETS])
            mask = np.where(ivar == 0, MASK_ALLBADPIX, 0)
            mask |= np.where(dead, MASK_BADFIBER, 0)
            # Nearly all zeros: compressed, as FLUX and IVAR are not to be.
            fits.write(mask.astype(np.int32), extname=f"{arm}_MASK", compress="RICE_1")
