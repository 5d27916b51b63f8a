"""What Redrock makes of the calibration spectra, to see how good redshifts can be.

Run ``python training/redrock_floor.py``. It needs redrock (0.21 was used), scipy and
the package.
"""

import time
from pathlib import Path

import fitsio
import numpy as np
import scipy.sparse
from blind_spots import CLOSE
from parents import read_boss
from redrock.targets import DistTargetsCopy, Spectrum, Target
from redrock.templates import load_dist_templates
from redrock.zfind import zfind
from templates import C_KMS
from world import reference_folder, template_folder

from qnp_xp._fit import FAR

# 1e4 log10 of the bluest of 4,340 pixels, the last of which is at 9793 Angstrom.
FIRST, PIXELS = 35_570, 4_340
TEMPLATES = ("rrtemplate-QSO-LOZ-v1.1.fits", "rrtemplate-QSO-HIZ-v1.1.fits")


def _target(number: int, path: Path) -> Target:
    """Read a spectrum, with the resolution that its file gives."""
    given = fitsio.read(str(path), ext=1, lower=True)
    place = np.round(given["loglam"].astype(float) * 1e4).astype(int) - FIRST
    inside = (place >= 0) & (place < PIXELS)
    pixels = {"flux": np.zeros(PIXELS), "ivar": np.zeros(PIXELS)}
    pixels["wdisp"] = np.ones(PIXELS)
    for name, values in pixels.items():
        values[place[inside]] = given[name][inside]
    # Each pixel's light, spread as a Gaussian over the pixels around it.
    steps = np.arange(-5, 6)
    spread = np.exp(-0.5 * (steps[:, None] / np.clip(pixels["wdisp"], 0.5, 3)) ** 2)
    spread /= spread.sum(axis=0)
    resolution = scipy.sparse.dia_matrix((spread, -steps), shape=(PIXELS, PIXELS))
    wave = 10 ** ((FIRST + np.arange(PIXELS)) / 1e4)
    arm = (wave, pixels["flux"], pixels["ivar"], resolution, resolution.tocsr())
    return Target(number, [Spectrum(*arm, band="b")])


def main() -> None:
    """Print median velocities of Redrock's redshifts, and its time for a spectrum."""
    folder = reference_folder() / "boss"
    observed = read_boss(folder)
    paths = sorted(folder.glob("spec-*.fits"))  # in the order of `observed`
    quasars = np.flatnonzero(observed.quasar)
    targets = [_target(int(i), paths[i]) for i in quasars]
    wave = {x.wavehash: x.wave for target in targets for x in target.spectra}
    names = [str(template_folder() / name) for name in TEMPLATES]
    templates = load_dist_templates(wave, templates=names)
    start = time.perf_counter()
    _, found = zfind(DistTargetsCopy(targets), templates)
    seconds = (time.perf_counter() - start) / len(targets)
    found = found[found["znum"] == 0]
    z = observed.z[found["targetid"]]
    off = np.abs(found["z"] - z) / (1 + z)
    for name, part in (("below", z < FAR), ("above", z >= FAR)):
        good = part & (off < CLOSE)
        dv = C_KMS * np.median(off[good])
        print(
            f"{name} z = {FAR}: {good.sum()} of {part.sum()} close, |dv| {dv:.0f} km/s"
        )
    print(f"{seconds:.2f} s a spectrum")


if __name__ == "__main__":
    main()
