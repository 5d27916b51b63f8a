"""Files of SDSS, as the tests write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

PIXELS = 460
THING_ID = 432118404


def spectra(n: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Logarithmic wavelengths, and noise of n spectra with a broad line each."""
    loglam = np.round(3.5515 + 1e-3 * np.arange(PIXELS), 4)
    rng = np.random.default_rng(7)
    flux = rng.normal(size=(n, PIXELS))
    distance = np.arange(PIXELS) - 100 - 40 * np.arange(n)[:, None]
    flux += 20 * np.exp(-0.5 * (distance / 8) ** 2)
    ivar = rng.uniform(0.5, 2, (n, PIXELS))
    return loglam.astype("f4"), flux.astype("f4"), ivar.astype("f4")


def write_spec(
    path: Path, *, upper: bool = True, objtype: str = "QSO", **cards: Any
) -> Path:
    """One spectrum as SDSS writes it, its columns in upper or in lower case."""
    loglam, flux, ivar = spectra(1)
    columns = [("flux", "f4"), ("loglam", "f4"), ("ivar", "f4"), ("and_mask", "i4")]
    table = np.zeros(PIXELS, dtype=columns)
    table["flux"], table["loglam"], table["ivar"] = flux[0], loglam, ivar[0]
    table["and_mask"][:50] = 1 << 23
    about = np.zeros(
        1,
        dtype=[
            ("plug_ra", "f8"),
            ("plug_dec", "f8"),
            ("thing_id", "i4"),
            ("objtype", "S16"),
            ("fiberid", "i4"),
        ],
    )
    about["plug_ra"], about["plug_dec"], about["thing_id"] = 112.05, 39.73, THING_ID
    about["objtype"], about["fiberid"] = objtype, 2
    if upper:
        for part in (table, about):
            part.dtype.names = tuple(name.upper() for name in part.dtype.names)
    header = {"PLATEID": 3655, "MJD": 55240, "FIBERID": 2, **cards}
    with fitsio.FITS(str(path), "rw") as f:
        f.write(None, header=header)
        f.write(table)
        f.write(about)
    return path


def write_spplate(
    folder: Path, n: int = 4, *, zbest: bool = True, **cards: Any
) -> Path:
    """The spectra of a plate, and beside it what the pipeline made of them."""
    loglam, flux, ivar = spectra(n)
    plugged = np.zeros(
        n, dtype=[("FIBERID", "i4"), ("RA", "f8"), ("DEC", "f8"), ("OBJTYPE", "S16")]
    )
    plugged["FIBERID"] = np.arange(1, n + 1)
    plugged["RA"], plugged["OBJTYPE"] = 112 + np.arange(n), "NA"
    plugged["OBJTYPE"][1] = "SKY"
    header = {
        "COEFF0": float(np.round(loglam[0], 4)),
        "COEFF1": 1e-3,
        "PLATEID": 3655,
        "MJD": 55240,
        **cards,
    }
    mask = np.zeros(flux.shape, dtype="i4")
    mask[:, :50] = 1
    path = folder / "spPlate-3655-55240.fits"
    with fitsio.FITS(str(path), "rw") as f:
        f.write(flux, header=header)
        for image in (ivar, mask, mask, flux):
            f.write(image)
        f.write(plugged)
        f.write(flux)
    if zbest:
        columns = [(name, "i4") for name in ("PLATE", "FIBERID", "THING_ID")]
        found = np.zeros(n, dtype=[*columns, ("Z", "f4")])
        found["FIBERID"] = np.arange(n, 0, -1)  # matched by number, not by row
        found["THING_ID"] = 1000 + found["FIBERID"]
        found["THING_ID"][0] = -1
        with fitsio.FITS(str(folder / "spZbest-3655-55240.fits"), "rw") as f:
            f.write(None)
            f.write(found)
            f.write(flux)
    return path
