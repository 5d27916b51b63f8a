"""Small files for the tests: spectra as DESI writes them, networks with a change.

All of it is written with fitsio, h5py and zipfile, and none of it with the package.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fitsio
import h5py
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

Hdus = dict[str, NDArray[Any]]

#: The command: exit status, and what it wrote to stdout and stderr.
Run = Callable[..., tuple[int, str, str]]

#: What `python -c` runs as the command.
COMMAND = "import sys; from qnp_xp.cli import main; sys.exit(main())"

#: What the package needs of the array API standard, and the tests may use.
OLDEST_STANDARD = "2023.12"

#: First and last wavelength of DESI's arms, in Angstrom.
ARMS = {"B": (3600.0, 5800.0), "R": (5760.0, 7620.0), "Z": (7520.0, 9824.0)}

#: A real TARGETID is far beyond what float64 counts exactly.
TARGETID = 39633140000000001

LIGHT_SPEED = 299792.458  # km/s

#: Rest wavelengths in Angstrom of DESI's six emission lines, in their order.
REST = (1215.67, 1548.2049, 1908.734, 2796.3511, 4862.68, 6562.8)

#: Networks that Keras wrote, in ``data/keras``.
KERAS = (
    "deep",
    "epsilon",
    "lambda_k3",
    "linear_grid",
    "nine_boxes",
    "odd_same",
    "options",
    "same",
    "stride3",
    "valid",
    "valid_rescaled",
)


def coadd_hdus(
    n: int = 6,
    *,
    arms: Sequence[str] = "BRZ",
    step: float = 4.0,
    dtype: str = "f4",
    mask: str | None = None,
    fibermap: bool = True,
    objtype: Sequence[str] | None = None,
    seed: int = 0,
) -> Hdus:
    """The HDUs of a coadd of noise with a broad line, in DESI's order.

    Pixels are `step` Angstrom wide, five of DESI's by default, to keep files small.
    The same spectrum has the same values whatever `n` and `arms` are.
    """
    hdus: Hdus = {}
    if fibermap:
        hdus["FIBERMAP"] = fibermap_table(n, objtype)
    for number, (arm, (low, high)) in enumerate(ARMS.items()):
        if arm not in arms:
            continue
        wave = np.arange(low, high + step / 2, step)
        rows = [np.random.default_rng([seed, number, row]) for row in range(n)]
        shape = (n, wave.size)
        flux = np.array([rng.normal(size=wave.size) for rng in rows]).reshape(shape)
        for row in range(n):
            centre = 4000 + 700 * row
            flux[row] += 20 * np.exp(-0.5 * ((wave - centre) / 60) ** 2)
        ivar = np.array([rng.uniform(0.5, 2, wave.size) for rng in rows])
        hdus[f"{arm}_WAVELENGTH"] = wave
        hdus[f"{arm}_FLUX"] = flux.astype(dtype)
        hdus[f"{arm}_IVAR"] = ivar.reshape(shape).astype(dtype)
        if mask is not None:
            bad = np.array([rng.uniform(size=wave.size) < 0.1 for rng in rows])
            hdus[f"{arm}_MASK"] = bad.reshape(shape).astype(mask)
    return hdus


def fibermap_table(n: int, objtype: Sequence[str] | None = None) -> NDArray[Any]:
    """A FIBERMAP with a column more than is needed."""
    columns = [
        ("TARGETID", "i8"),
        ("FIBER", "i4"),
        ("TARGET_RA", "f8"),
        ("TARGET_DEC", "f8"),
        ("OBJTYPE", "S3"),
    ]
    table = np.zeros(n, dtype=columns)
    table["TARGETID"] = TARGETID + np.arange(n)
    table["FIBER"] = np.arange(n)
    table["TARGET_RA"] = 150.1 + np.arange(n) / 100
    table["TARGET_DEC"] = -2.5 + np.arange(n) / 100
    table["OBJTYPE"] = list(objtype) if objtype is not None else "TGT"
    return table


def join_arms(hdus: Hdus) -> Hdus:
    """The same spectra with their arms as one, which DESI calls BRZ."""
    joined: Hdus = {k: v for k, v in hdus.items() if k == "FIBERMAP"}
    for part in ("WAVELENGTH", "FLUX", "IVAR"):
        arrays = [hdus[f"{arm}_{part}"] for arm in ARMS]
        joined[f"BRZ_{part}"] = np.concatenate(arrays, axis=-1)
    return joined


def write_hdus(path: Path, hdus: Mapping[str, NDArray[Any]], **options: Any) -> Path:
    """Write images and tables by name, after an empty primary HDU."""
    path.unlink(missing_ok=True)
    with fitsio.FITS(str(path), "rw") as f:
        f.write(None)
        for name, values in hdus.items():
            compressed = options if values.ndim == 2 else {}
            f.write(values, extname=name, **compressed)
    return path


def write_coadd(path: Path, n: int = 6, **options: Any) -> Path:
    """Write a coadd; `options` are those of `coadd_hdus`."""
    return write_hdus(path, coadd_hdus(n, **options))


def write_images_by_hand(path: Path, hdus: Mapping[str, NDArray[Any]]) -> Path:
    """Write images byte by byte, also such as fitsio refuses: those without rows."""
    blocks = [_header([("SIMPLE", "T"), ("BITPIX", 8), ("NAXIS", 0)])]
    bitpix = {"f4": -32, "f8": -64, "u1": 8, "i2": 16, "i4": 32, "i8": 64}
    for name, values in hdus.items():
        cards: list[tuple[str, Any]] = [
            ("XTENSION", "'IMAGE   '"),
            ("BITPIX", bitpix[values.dtype.str[1:]]),
            ("NAXIS", values.ndim),
        ]
        sizes = enumerate(reversed(values.shape), start=1)
        cards += [(f"NAXIS{axis}", size) for axis, size in sizes]
        cards += [("PCOUNT", 0), ("GCOUNT", 1), ("EXTNAME", f"'{name:8}'")]
        big = values.astype(values.dtype.newbyteorder(">")).tobytes()
        blocks += [_header(cards), big, b"\0" * (-len(big) % 2880)]
    path.write_bytes(b"".join(blocks))
    return path


def _header(cards: Sequence[tuple[str, Any]]) -> bytes:
    lines = []
    for key, value in cards:
        text = f"{value:8}" if str(value).startswith("'") else f"{value:>20}"
        lines.append(f"{key:8}= {text}".ljust(80))
    lines.append("END".ljust(80))
    text = "".join(lines)
    return (text + " " * (-len(text) % 2880)).encode("ascii")


def read_hdus(path: Path) -> Hdus:
    """The HDUs of a file that have a name, in their order."""
    with fitsio.FITS(str(path)) as f:
        return {hdu.get_extname(): hdu.read() for hdu in f if hdu.get_extname()}


def demand_unsigned() -> None:
    """Skip a test where fitsio is too old for unsigned integers of 64 bits."""
    try:
        with fitsio.FITS("mem://", "rw") as f:
            f.write(np.zeros(1, dtype=[("TARGETID", "u8")]))
    except ValueError:
        pytest.skip("this fitsio has no unsigned integers of 64 bits")


def gzipped(path: Path) -> Path:
    """Write a copy compressed by gzip beside a file."""
    copy = path.with_name(f"{path.name}.gz")
    copy.write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
    return copy


def write_cframes(
    night_folder: Path,
    hdus: Hdus,
    *,
    expid: str = "00071246",
    spec_number: int = 0,
    arms: Sequence[str] = "BRZ",
    compressed: Sequence[str] = "",
) -> Path:
    """Write the arms of a coadd as the cframes of an exposure, and name its folder."""
    folder = night_folder / expid
    folder.mkdir(parents=True, exist_ok=True)
    for arm in arms:
        images = {
            name.removeprefix(f"{arm}_"): values
            for name, values in hdus.items()
            if name.startswith(f"{arm}_")
        }
        if "FIBERMAP" in hdus:
            images["FIBERMAP"] = hdus["FIBERMAP"]
        path = folder / f"cframe-{arm.lower()}{spec_number}-{expid}.fits"
        write_hdus(path, images)
        if arm in compressed:
            gzipped(path)
            path.unlink()
    return folder


def copy_hdf5(
    source: Path, target: Path, edit: Callable[[dict[str, Any], h5py.File], None]
) -> Path:
    """Copy an HDF5 network after an edit of its description, or of the file itself."""
    shutil.copyfile(source, target)
    target.chmod(0o644)
    with h5py.File(target, "r+") as f:
        model = json.loads(f.attrs["model_config"])
        edit(model, f)
        if "model_config" in f.attrs:
            f.attrs["model_config"] = json.dumps(model)
    return target


def copy_archive(
    source: Path, target: Path, edit: Callable[[dict[str, bytes]], None]
) -> Path:
    """Copy a .keras archive after an edit of its members."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def edit_member_hdf5(
    members: dict[str, bytes], edit: Callable[[h5py.File], None]
) -> None:
    """Edit the weights within the members of a .keras archive."""
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as f:
        edit(f)
    members["model.weights.h5"] = buffer.getvalue()


def layer(model: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The description of a layer in that of a model."""
    found: dict[str, Any] = next(
        entry for entry in model["config"]["layers"] if entry["config"]["name"] == name
    )
    return found


def decode_line(
    pred: ArrayLike, grid: ArrayLike, rest: float
) -> tuple[list[float], list[float]]:
    """Confidence and redshift of one line, one spectrum at a time."""
    wave = np.asarray(grid, dtype=np.float64)
    confidences, redshifts = [], []
    for row in np.asarray(pred, dtype=np.float64):
        boxes, offsets = row[: row.size // 2], row[row.size // 2 :]
        box = int(np.argmax(boxes))
        bin_number = (box + offsets[box]) * wave.size / boxes.size
        observed = np.interp(bin_number, np.arange(wave.size), wave)
        confidences.append(float(boxes[box]))
        redshifts.append(float(observed) / rest - 1)
    return confidences, redshifts


def best_redshifts(
    preds: ArrayLike, grid: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Confidence and redshift of the most confident of DESI's six emission lines."""
    values = np.asarray(preds)
    lines = [
        decode_line(pred, grid, rest)
        for pred, rest in zip(values[: len(REST)], REST, strict=True)
    ]
    c = np.array([line[0] for line in lines])
    z = np.array([line[1] for line in lines])
    best = np.argmax(c, axis=0), np.arange(c.shape[1])
    return c[best], z[best]


def split_closing(out: str) -> tuple[str, str]:
    """Part what classify prints from its last line, which may not be there."""
    pattern = r"(?:\A|(?<=\n))\d+ (?:of \d+ )?files?, \d+ rows?, .*\d s\b.*\n\Z"
    found = re.search(pattern, out)
    return (out[: found.start()], found[0]) if found else (out, "")


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def open_files(folder: Path) -> list[str]:
    """Files of a folder that this process holds open (Linux)."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:  # that of the listing itself
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


def run_python(code: str, *arguments: object, seconds: float = 60) -> str:
    """What some code prints in a process of its own, which may import this module."""
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
    )
    return done.stdout


def peak_memory() -> int:
    """The most memory that this process ever had, in MiB.

    On Linux, what `getrusage` gives is that of the process which started this one, if
    it is more.
    """
    status = Path("/proc/self/status")
    if not status.exists():  # macOS
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
    lines = status.read_text("ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) >> 10


def expected_input(
    hdus: Hdus, *, linear: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Input of the network by the formulas, and the rows that have one."""
    size = 458 if linear else 443
    arms = [name.split("_")[0] for name in hdus if name.endswith("_FLUX")]
    n = hdus[f"{arms[0]}_FLUX"].shape[0]
    x, kept = np.zeros((n, size)), []
    for row in range(n):
        sums = np.zeros((2, size))
        for arm in arms:
            wave = hdus[f"{arm}_WAVELENGTH"].astype(np.float64)
            pixels = hdus[f"{arm}_FLUX"][row], hdus[f"{arm}_IVAR"][row]
            flux, ivar = (x if x.dtype.kind == "f" else x + 0.0 for x in pixels)
            if linear:
                position = (wave - 3600) / 13.6
            else:
                position = (np.log10(wave) - np.log10(3600)) / 1e-3
            bins = np.floor(np.round(position, 9)).astype(int)
            used = (bins >= 0) & (bins < size) & np.isfinite(flux) & np.isfinite(ivar)
            used &= ivar > 0
            place, weight, value = bins[used], ivar[used], flux[used]
            sums[0] += np.bincount(place, weight, size)
            # The product has the precision of the pixels.
            sums[1] += np.bincount(place, weight * value, size)
        ivar, flux = sums[0], sums[1]
        flux = np.divide(flux, ivar, out=np.zeros(size), where=ivar > 0)
        if not np.any(ivar > 0):
            continue
        flux = flux - np.average(flux, weights=ivar)
        rms = np.sqrt(np.average(flux**2, weights=ivar))
        if rms > 0:
            x[row] = flux / rms
            kept.append(row)
    return x[kept], np.array(kept, dtype=np.int64)


NUMPY_STANDS_IN = pytest.mark.skipif(
    importlib.util.find_spec("array_api_compat") is None,
    reason="without array-api-compat, numpy is imported to stand in for it",
)


def demand(*names: str) -> None:
    """Skip a test without these libraries; fail where they are asked for."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("QNP_XP_REQUIRE_TRAINING"):
        pytest.fail(f"$QNP_XP_REQUIRE_TRAINING is set, and there is no {missing}")
    if missing:
        pytest.skip(f"no {', '.join(missing)} to train or compare with")


class Quantity(np.ndarray):
    """Numbers with a unit."""

    unit: str


def quantity(x: Any, unit: str) -> Any:
    """Numbers as astropy has them with a unit, without astropy."""
    result = np.array(x).view(Quantity)
    result.unit = unit
    return result


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Handle signals as python does, though the parent of this process ignores them."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, how) for number, how in usual.items()}
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)


def workers(group: int) -> list[int]:
    """Processes of multiprocessing in a group (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if os.getpgid(int(folder.name)) == group and b"spawn_main" in command:
                found.append(int(folder.name))
    return found


def wait_for(path: Path, limit: float = 60) -> None:
    """Wait until something is there."""
    end = time.monotonic() + limit
    while not path.exists():
        if time.monotonic() > end:
            pytest.fail(f"{path} has not come in {limit} s")
        time.sleep(0.01)


#: Has every python process that is started stop where it opens certain files.
_STALL = """
import os, sys, time

def stall(event, args):
    if event == "open" and str(args[0]) in os.environ["STALLED"].split(os.pathsep):
        os.makedirs(f"{args[0]}.opened")
        time.sleep(3600)

sys.addaudithook(stall)
"""


def stalled(folder: Path, *paths: Path) -> dict[str, str]:
    """An environment in which some files are read for ever, by a module in a folder.

    Where that begins, a folder ``NAME.opened`` is made.
    """
    (folder / "sitecustomize.py").write_text(_STALL)
    search = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    names = {"PYTHONPATH": search, "STALLED": map(str, paths)}
    return {**os.environ, **{k: os.pathsep.join(v) for k, v in names.items()}}


#: The command on a disk that is so slow that files are partial for long.
_SLOW = """
import pathlib, sys, time
from qnp_xp.cli import main
write = pathlib.Path.write_bytes
def slowly(self, content):
    write(self, content[:1000])
    pathlib.Path("out/writing").touch()
    time.sleep(30)
pathlib.Path.write_bytes = slowly
if __name__ == "__main__":
    sys.exit(main(["classify", *sys.argv[1:], "--outdir", "out"]))
"""


def start_writing(arguments: Sequence[object], folder: Path) -> subprocess.Popen[str]:
    """Start `classify` in a group of its own, and wait until it writes to ``out``."""
    script = folder / "slow.py"
    script.write_text(_SLOW)
    process = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not (folder / "out" / "writing").exists():
        time.sleep(0.02)
    return process


def kill_and_resume(
    coadds: Sequence[Path], weights: Path, folder: Path, kills: int, seed: int
) -> int:
    """Kill runs at random moments, resume to the end, and compare what was written.

    Returns how many of the killed runs had written some outputs and not all of them.
    """
    rng = random.Random(seed)
    program = [sys.executable, "-c", COMMAND, "classify", *map(str, coadds)]
    program += ["-m", str(weights), "--resume", "-q", "--outdir"]
    start = time.perf_counter()
    subprocess.run([*program, str(folder / "undisturbed")], check=True)
    duration = time.perf_counter() - start
    expected = {p.name: p.read_bytes() for p in (folder / "undisturbed").iterdir()}
    assert len(expected) == len(coadds)
    halfway, out = 0, folder / "killed"
    for number in range(kills):
        if number % 5 == 0 and out.exists():  # from the beginning now and then
            shutil.rmtree(out)
        process = subprocess.Popen([*program, str(out)])
        time.sleep(rng.uniform(0.5, 1.1) * duration)
        process.kill()
        process.wait()
        written = list(out.glob("qn-*.fits")) if out.exists() else []
        halfway += 0 < len(written) < len(coadds)
        for path in written:
            assert path.read_bytes() == expected[path.name]
    subprocess.run([*program, str(out)], check=True)
    assert {p.name: p.read_bytes() for p in out.glob("qn-*.fits")} == expected
    return halfway
