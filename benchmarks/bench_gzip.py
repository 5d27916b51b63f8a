"""Gzipped coadds: the package with and without isal, cfitsio, and Python's gzip."""

from __future__ import annotations

import gzip
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import fitsio
import numpy as np
from common import coadd, header, interleave, median, parser, save

from qnp_xp.io.open import open_spectra


def read(path: Path) -> None:
    """Read all spectra of a file, as the package does."""
    with open_spectra(path) as source:
        list(source.read(np.arange(source.n)))


def read_without_isal(path: Path) -> None:
    """Read as where the extra `fast` is not installed."""
    with mock.patch.dict(sys.modules, {"isal": None}):
        read(path)


def read_with_fitsio(path: Path) -> None:
    """Read the same arrays through fitsio alone."""
    with fitsio.FITS(str(path)) as f:
        for arm in "BRZ":
            for part in ("WAVELENGTH", "FLUX", "IVAR"):
                f[f"{arm}_{part}"].read()


def unpack(path: Path) -> None:
    """Unpack the file through Python's gzip and do nothing else."""
    with gzip.open(path) as f:
        while f.read(1 << 20):
            pass


def main() -> None:
    """Measure and report."""
    p = parser(__doc__)
    p.add_argument("--rows", type=int, default=500, help="of the coadd (500)")
    args = p.parse_args()
    facts = header(rows=args.rows)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "coadd.fits"
        coadd(plain, args.rows)
        packed = plain.with_name("coadd.fits.gz")
        packed.write_bytes(gzip.compress(plain.read_bytes(), compresslevel=6))
        sizes = [path.stat().st_size / 1e6 for path in (plain, packed)]
        runs: dict[str, Callable[[], None]] = {
            "plain file": lambda: read(plain),
            "gzipped, with isal": lambda: read(packed),
            "gzipped, without": lambda: read_without_isal(packed),
            "gzipped, fitsio alone": lambda: read_with_fitsio(packed),
            "Python's gzip, unpacking alone": lambda: unpack(packed),
        }
        seconds = {k: median(v) for k, v in interleave(runs, args.repeats).items()}
    sys.stdout.write(f"{sizes[0]:.0f} MB, gzipped {sizes[1]:.0f} MB\n")
    for name, value in seconds.items():
        ratio = value / seconds["gzipped, with isal"]
        sys.stdout.write(f"{name:32} {1e3 * value:8.1f} ms  {ratio:6.2f}\n")
    save(args, "gzip", {"environment": facts, "megabytes": sizes, "seconds": seconds})


if __name__ == "__main__":
    main()
