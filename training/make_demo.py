"""Make the demo coadd that the package ships.

Simulates spectra from formulas and writes ``demo-coadd.fits``::

    nice python training/make_demo.py
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from demo_coadd import simulate_coadd, write_coadd

SEED = 20240611


def main() -> int:
    """Write the file."""
    package_data = Path(__file__).resolve().parents[1] / "qnp_xp" / "data"
    parser = argparse.ArgumentParser(description="Make the demo coadd.")
    parser.add_argument("--outdir", type=Path, default=package_data)
    args = parser.parse_args()
    args.outdir.mkdir(parents=True, exist_ok=True)
    path = args.outdir / "demo-coadd.fits"
    write_coadd(path, simulate_coadd(np.random.default_rng(SEED)), SEED)
    print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
