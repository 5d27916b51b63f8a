"""Files of SDSS, as the tests write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

PIXELS = 460
THING_ID = 432118404
CATALOGID = 27021597842639438


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
    folder: Path, n: int = 4, *, zbest: bool = True, plate: int = 3655, **cards: Any
) -> Path:
    """The spectra of plate 3655, and beside it what the pipeline made of some plate."""
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
    mask[:, :50] = 1 << 24
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
        found["THING_ID"][0], found["PLATE"] = -1, plate
        with fitsio.FITS(str(folder / "spZbest-3655-55240.fits"), "rw") as f:
            f.write(None)
            f.write(found)
            f.write(flux)
    return path


def write_sdssv(path: Path, **columns: Any) -> Path:
    """One spectrum as SDSS-V writes it: no plate, no fiber, and other identifiers."""
    loglam, flux, ivar = spectra(1)
    table = np.zeros(PIXELS, [(name, "f4") for name in ("FLUX", "LOGLAM", "IVAR")])
    table["FLUX"], table["LOGLAM"], table["IVAR"] = flux[0], loglam, ivar[0]
    values = {
        **{"FIELD": 112360, "MJD": 60000, "CATALOGID": CATALOGID},
        **{"SDSS_ID": 61731453, "OBJTYPE": "QSO", "PLUG_RA": 149.0, "PLUG_DEC": 1.5},
        **columns,
    }
    about = [np.array([value]) for value in values.values()]
    header = {"PLATEID": "", "FIELDID": "112360", "MJD": 60000}
    with fitsio.FITS(str(path), "rw") as f:
        f.write(None, header=header)
        f.write(table, extname="COADD")
        f.write(about, names=list(values), extname="SPALL")
    return path


def write_spfield(folder: Path, catalogids: Any, **columns: Any) -> Path:
    """The spectra of a field of SDSS-V, whose CATALOGIDs may be texts."""
    n = len(catalogids)
    loglam, flux, ivar = spectra(n)
    plugmap = {
        **{"FIBERID": np.arange(1, n + 1), "RA": 10.0 + np.arange(n)},
        **{"DEC": np.zeros(n), "OBJTYPE": np.array(["science"] * n)},
        **{"CATALOGID": np.asarray(catalogids), **columns},
    }
    header = {"PLATEID": "", "FIELDID": "112360", "MJD": 60000}
    header.update(COEFF0=float(np.round(loglam[0], 4)), COEFF1=1e-3)
    path = folder / "spField-112360-60000.fits"
    with fitsio.FITS(str(path), "rw") as f:
        f.write(flux, header=header)
        for image in (ivar, flux, flux, flux):
            f.write(image)
        f.write(list(plugmap.values()), names=list(plugmap))
    return path


def write_spspec(path: Path, *, rows: int = 5, **cards: Any) -> Path:
    """One spectrum as SDSS wrote it up to DR7: flux, continuum, noise, mask and sky."""
    loglam, flux, ivar = spectra(1)
    image = np.zeros((rows, PIXELS), dtype="f4")
    image[0], image[1], image[2] = flux[0], -flux[0], ivar[0] ** -0.5
    image[3, :50] = 1 << 23
    image[3, 50:] = 1 << 4
    image[2, 7] = 0  # no noise is known: a pixel without weight
    header = {"COEFF0": float(np.round(loglam[0], 4)), "COEFF1": 1e-3}
    header.update(PLATEID=266, MJD=51630, FIBERID=46, RAOBJ=146.25, DECOBJ=-0.5)
    header.update(RA=147.0, DEC=-1.0, TELESCOP="SDSS 2.5-M")  # of the plate
    with fitsio.FITS(str(path), "rw") as f:
        f.write(image, header={**header, **cards})
        for _ in range(6):  # tables of lines and indices
            f.write(np.zeros(3, dtype=[("EW", "f4")]))
    return path
