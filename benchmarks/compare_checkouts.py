"""Compare the results of two checkouts of the package, bit for bit.

Each checkout computes with the same python and the same inputs: the tables and their
headers from files and arrays, with and without options; the input of the network; its
outputs; pictures; and what the command writes. The digests must be equal.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def digest(value: Any) -> str:
    """Return the SHA-256 of the bytes of a value."""
    if isinstance(value, (list, tuple)):
        return digest("".join(map(digest, value)).encode())
    content = value if isinstance(value, bytes) else np.ascontiguousarray(value)
    return hashlib.sha256(content).hexdigest()


def coadds(data: Path) -> list[Path]:
    """List the files of DESI that hold spectra."""
    found = sorted((data / "desi").glob("coadd-*")) + sorted(
        (data / "desi").glob("spectra-*")
    )
    return [data / "quasarnp" / "test_coadd.fits", *found]


def results(data: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Compute what is compared, by name."""
    networks = [
        None,
        data / "quasarnp" / "test_weights.h5",
        data / "quasarnp" / "test_weights_6_layer.h5",
    ]
    for weights in networks:
        for dtype in ("float32", "float64"):
            yield from _with(data, folder, weights, dtype)
    yield from _arrays(data)
    yield from _command(data, folder)


def _with(
    data: Path, folder: Path, weights: Path | None, dtype: str
) -> Iterator[tuple[str, str]]:
    """Classify all files with one network."""
    from qnp_xp import SpectraError, classify, load_model  # noqa: PLC0415

    model = load_model(weights, dtype=dtype)
    name = f"{model.weights_name} {dtype}"
    for path in [*coadds(data), *sorted((data / "boss").glob("spec-*"))]:
        for coadd in (False, True):
            output = folder / "qn.fits"
            what = f"{name} {path.name} coadd={coadd}"
            try:
                table = classify(
                    path,
                    model,
                    coadd=coadd,
                    c_thresh=0.8,
                    output=output,
                    overwrite=True,
                )
            except SpectraError:  # it has no identifiers to coadd by
                yield what, "refused"
                continue
            yield f"{what} table", digest(table)
            yield f"{what} file", digest(output.read_bytes())
            output.unlink()
    x = np.load(data / "quasarnp" / "coadd_x.npy")
    yield f"{name} predict", digest(model.predict(x))


def _arrays(data: Path) -> Iterator[tuple[str, str]]:
    """Call array functions and loaders."""
    from qnp_xp.io import load_desi_coadd, load_file, read_truth  # noqa: PLC0415
    from qnp_xp.utils import (  # noqa: PLC0415
        desi_wave,
        linear_wave,
        process_preds,
        rebin,
        regrid,
        renormalize,
        wave,
    )

    for path in coadds(data):
        for grid in (None, linear_wave):
            x, kept = load_desi_coadd(path, out_grid=grid)
            yield f"load_desi_coadd {path.name} {grid is None}", digest([x, kept])
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(70, desi_wave.size)).astype("f4")
    ivar = rng.uniform(-0.1, 2, size=flux.shape).astype("f4")
    flux[3, 5:9] = np.nan
    for grid in (wave, linear_wave):
        sums = rebin(flux, ivar, desi_wave, grid)
        yield f"rebin {grid.size}", digest([*sums, renormalize(*sums)])
        yield f"regrid {grid.size}", digest(regrid(desi_wave, grid))
    preds = np.load(data / "quasarnp" / "predict_data.npy")
    lines = ["LYA", "CIV(1548)", "CIII(1909)", "MgII(2796)", "Hbeta", "Halpha"]
    found = process_preds(preds, lines, ["CIV(1548)"])
    yield "process_preds", digest(found)
    for name in ("test_weights.h5", "test_weights_6_layer.h5"):
        weights, config, grid = load_file(data / "quasarnp" / name)
        flat = [
            weights[layer][key] for layer in sorted(weights) for key in weights[layer]
        ]
        yield f"load_file {name}", digest([*flat, repr(config).encode(), grid])
    yield "read_truth", digest(repr(read_truth([])).encode())


def _command(data: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Run commands, and take what they write and say, but for times."""
    import re  # noqa: PLC0415

    from qnp_xp.cli import main  # noqa: PLC0415

    os.chdir(folder)
    coadd, targets = map(str, coadds(data)[:2])
    spectra = sorted(str(path) for path in (data / "boss").glob("spec-*"))[:5]
    tables = [f"out/{name}" for name in _tables(coadd, spectra)]
    for arguments in (
        ["classify", targets, "--outdir", "out", "--priors", "priors.fits"],
        ["classify", coadd, *spectra, "--outdir", "out", "--nproc", "2"],
        ["merge", "all.fits", *tables, "--duplicates", "keep"],
        ["plot", coadd, "--rows", "0,11", "-o", "rows.png"],
        ["plot", spectra[0], "-o", "boss.png"],
        ["plot", "--summary", "all.fits", "-o", "summary.png"],
        ["info", str(data / "quasarnp" / "test_weights_6_layer.h5")],
        ["embed-grid", str(data / "quasarnp" / "test_weights.h5"), "grid.h5"],
        ["demo"],
    ):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = main(arguments)
        text = re.sub(r"\d+\.\d+ s", "S s", said.getvalue())
        yield f"{arguments[0]} says", digest(f"{status} {text}".encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in {".fits", ".png"}:
            yield str(path.relative_to(folder)), digest(path.read_bytes())


def _tables(coadd: str, spectra: list[str]) -> list[str]:
    """Name the tables of some inputs."""
    names = [Path(name).name for name in (coadd, *spectra)]
    return [
        f"qn-{name.removesuffix('.gz').removesuffix('.fits')}.fits" for name in names
    ]


def main() -> int:
    """Run both checkouts and compare what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="+", type=Path, help="BEFORE and AFTER")
    parser.add_argument("--data", type=Path, default=_DATA, help="reference data")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        with tempfile.TemporaryDirectory() as name:
            found = dict(results(args.data, Path(name)))
        sys.stdout.write(json.dumps(found))
        return 0
    both = []
    for checkout in args.checkouts:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(checkout), "--data", args.data],
            env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
            check=True,
            capture_output=True,
            text=True,
        )
        both.append(json.loads(done.stdout))
    before, after = both
    different = [name for name in before if before[name] != after.get(name)]
    for name in different:
        sys.stdout.write(f"different: {name}\n")
    sys.stdout.write(f"{len(before)} results compared, {len(different)} different\n")
    return 1 if different or set(before) != set(after) else 0


if __name__ == "__main__":
    sys.exit(main())
