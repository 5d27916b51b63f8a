"""Write simulated spectra that are no quasars, to train beside a sample of quasars.

::

    nice python training/make_negatives.py negatives.fits --count 2000
    qnp-xp train ... --negatives negatives.fits

It has the layout of DESI's coadds, with one arm whose pixels are the bins of the grid.
"""

import argparse
from pathlib import Path

import fitsio
import numpy as np
from absorption import CENTRE
from ensemble import KINDS, simulate
from noise import draw_snr, observe
from world import read_world

SEED = 20251126
FIRST_TARGETID = 39628000000000001


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    args = parser.parse_args()
    for_objects, for_noise = np.random.SeedSequence(SEED).spawn(2)
    world = read_world()
    # More than half of the mixture are quasars.
    objects = simulate(for_objects, world.library, 3 * args.count)
    rows = np.flatnonzero(objects.kind != KINDS.index("QSO"))[: args.count]
    rng = np.random.default_rng(for_noise)
    snr = draw_snr(rng, objects.kind[rows], KINDS.index("SKY"))
    flux, ivar = observe(rng, objects.flux[rows], world.shapes, snr)
    table = np.zeros(rows.size, [("TARGETID", "i8"), ("TRUE_SPECTYPE", "S6")])
    table["TARGETID"] = FIRST_TARGETID + np.arange(rows.size)
    table["TRUE_SPECTYPE"] = np.array(KINDS, dtype="S6")[objects.kind[rows]]
    with fitsio.FITS(args.output, "rw", clobber=True) as fits:
        fits.write(None, header=[{"name": "SEED", "value": SEED, "comment": "random"}])
        fits.write(table, extname="FIBERMAP")
        for name, data in (
            ("WAVELENGTH", CENTRE.astype(np.float64)),
            ("FLUX", flux),
            ("IVAR", ivar),
        ):
            fits.write(data, extname=f"BRZ_{name}")
    print(f"{args.output}: {rows.size} spectra")


if __name__ == "__main__":
    main()
