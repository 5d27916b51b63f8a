"""Read damaged files, and say of each what came of it.

``python tests/fuzz/worker.py KIND SEED FIRST COUNT FOLDER`` writes a line of JSON for
each file before it is read and one after. A file that takes too long, or at which the
process dies, is the last of which only the first line is there; it stays in FOLDER.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import logging
import random
import resource
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from fuzz.mutations import mutate  # noqa: E402
from helpers import coadd_hdus, join_arms, peak_memory, write_cframes, write_hdus  # noqa: E402
from sdss_files import write_spec, write_spplate  # noqa: E402

from qnp_xp import QnpError, load_model  # noqa: E402
from qnp_xp.io.open import open_spectra  # noqa: E402

SECONDS = 10  # for one file
ADDRESSES = 4 << 30  # bytes of address space for the process

NETWORKS = ("same", "options", "stride3", "lambda_k3", "linear_grid")


def spectra() -> list[bytes]:
    """Small files of spectra, of each kind that is read in another way."""
    plain = coadd_hdus(2, arms="BZ", step=40)
    masked = coadd_hdus(2, arms="R", step=40, mask="i4")
    rows = coadd_hdus(6, arms="R", step=40)  # tiles of HCOMPRESS have four at least
    whole = {k: v if v.ndim == 1 else v.round().astype("i2") for k, v in rows.items()}
    whole["R_FLUX"] = abs(whole["R_FLUX"])  # as PLIO needs them
    exact = {"qlevel": 16, "qmethod": "NO_DITHER"}  # the dither depends on the clock
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "coadd.fits"
        exposure = write_cframes(folder, masked, arms="R")
        return [
            write_hdus(path, plain).read_bytes(),
            write_hdus(path, masked).read_bytes(),
            write_hdus(path, join_arms(coadd_hdus(2, step=40))).read_bytes(),
            write_hdus(path, plain, compress="gzip", qlevel=0).read_bytes(),
            write_hdus(path, masked, compress="rice", **exact).read_bytes(),
            write_hdus(path, rows, compress="hcompress", **exact).read_bytes(),
            write_hdus(path, whole, compress="plio").read_bytes(),
            next(exposure.iterdir()).read_bytes(),
            write_spec(folder / "spec.fits").read_bytes(),
            write_spplate(folder, 2).read_bytes(),
        ]


def networks(suffix: str) -> list[bytes]:
    """Small weights files, made by Keras."""
    paths = [TESTS / "data" / "keras" / f"{name}{suffix}" for name in NETWORKS]
    return [path.read_bytes() for path in paths if path.exists()]


def packed(bases: list[bytes], rng: random.Random) -> bytes:
    """A damaged file packed by gzip, or a packed file damaged."""
    if rng.random() < 0.5:
        return gzip.compress(mutate(bases, rng), compresslevel=1, mtime=0)
    return mutate([gzip.compress(base, 1, mtime=0) for base in bases], rng)


def archived(bases: list[bytes], rng: random.Random) -> bytes:
    """A damaged archive, or an archive with a damaged member."""
    if rng.random() < 0.4:
        return mutate(bases, rng)
    with zipfile.ZipFile(io.BytesIO(rng.choice(bases))) as old:
        members = {name: old.read(name) for name in old.namelist()}
    weights = "model.weights.h5"
    name = weights if rng.random() < 0.7 else rng.choice(sorted(members))
    members[name] = mutate([members[name]], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for member, content in members.items():
            new.writestr(zipfile.ZipInfo(member), content)
    return buffer.getvalue()


def read_spectra(path: Path) -> None:
    """Open a file of spectra and read all of it."""
    with open_spectra(path) as source:
        for use_mask in (False, source.arms[0].mask is not None):
            for _ in source.read(np.arange(source.n), use_mask):
                pass


#: For each kind, which is the suffix: sound files, how to damage and how to read one.
KINDS: dict[str, tuple[Callable[[], list[bytes]], Any, Callable[[Path], Any]]] = {
    "fits": (spectra, mutate, read_spectra),
    "fits.gz": (spectra, packed, read_spectra),
    "h5": (lambda: networks(".h5"), mutate, load_model),
    "keras": (lambda: networks(".keras"), archived, load_model),
}

#: Kinds of which each file is followed by a sound one, which must be read all the same.
FITS = ("fits", "fits.gz")


def outcome(kind: str, path: Path) -> tuple[str, str]:
    """Whether a file is loaded or refused, or something else happens, and why."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        KINDS[kind][2](path)
    except QnpError as err:
        return "refused", str(err)
    except BaseException as err:
        return "wrong", repr(err)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return "loaded", ""


def main(kind: str, seed: str, first: str, count: str, folder: str) -> None:
    """Go through some of the files of a kind."""
    build, damage, _ = KINDS[kind]
    bases = build()
    logging.disable()
    warnings.simplefilter("error")
    sound = Path(folder, f"sound-{first}.fits")
    if kind in FITS:
        sound.write_bytes(bases[0])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    for number in range(int(first), int(first) + int(count)):
        # Each file by itself, whichever were made before it.
        content = damage(bases, random.Random(f"{seed} {kind} {number}"))
        path = Path(folder, f"r{number}.{kind}")  # the arm, where it is a cframe
        path.write_bytes(content)
        _say(number=number)
        what, why = outcome(kind, path)
        if kind in FITS and what != "wrong":
            after, said = outcome("fits", sound)
            if after != "loaded":
                what, why = "wrong", f"the sound file after it is {after}: {said}"
        _say(number=number, outcome=what, why=why, megabytes=peak_memory())
        if what != "wrong" and int(count) > 1:
            path.unlink()


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    faulthandler.enable()
    main(*sys.argv[1:])
