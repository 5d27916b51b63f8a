"""Files in and out: the names that users import from ``quasarnp.io``."""

from __future__ import annotations

from ..grids import linear_wave, nbins, nbins_linear, regrid, wave
from ..model import QuasarNP
from ..spectra import rebin, renormalize
from ._loaders import load_desi_coadd, load_desi_daily, load_desi_exposure
from ._training_write import write_data, write_truth
from .training import read_data, read_spall, read_truth
from .weights import embed_grid, load_file, load_model

__all__ = [
    "QuasarNP",
    "embed_grid",
    "linear_wave",
    "load_desi_coadd",
    "load_desi_daily",
    "load_desi_exposure",
    "load_file",
    "load_model",
    "nbins",
    "nbins_linear",
    "read_data",
    "read_spall",
    "read_truth",
    "rebin",
    "regrid",
    "renormalize",
    "wave",
    "write_data",
    "write_truth",
]
