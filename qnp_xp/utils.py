"""The names that QuasarNP's users import from ``quasarnp.utils``."""

from __future__ import annotations

from .decode import process_preds
from .grids import (
    desi_wave,
    dl,
    l_max,
    l_min,
    linear_wave,
    nbins,
    nbins_linear,
    regrid,
    wave,
    wdelta,
    wdelta_qnet,
    wmax,
    wmin,
)
from .lines import absorber_IGM
from .spectra import rebin, renormalize

__all__ = [
    "absorber_IGM",
    "desi_wave",
    "dl",
    "l_max",
    "l_min",
    "linear_wave",
    "nbins",
    "nbins_linear",
    "process_preds",
    "rebin",
    "regrid",
    "renormalize",
    "wave",
    "wdelta",
    "wdelta_qnet",
    "wmax",
    "wmin",
]
