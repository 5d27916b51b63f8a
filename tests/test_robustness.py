"""Every row of docs/robustness.md as a test, in the order of its tables.

What the rows have in common with tests of single modules is short here: these go
through `classify` or the command, as users do.
"""

from __future__ import annotations

import base64
import gzip
import marshal
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fitsio
import h5py
import numpy as np
import pytest
import test_hostile_weights as hostile
from helpers import (
    Hdus,
    coadd_hdus,
    copy_hdf5,
    fibermap_table,
    gzipped,
    layer,
    names,
    write_cframes,
    write_coadd,
    write_hdus,
    write_images_by_hand,
)

from qnp_xp import (
    DeviceError,
    NoSpectraError,
    QnpError,
    SpectraError,
    Status,
    WeightsError,
    classify,
    cli,
    load_model,
)
from qnp_xp.batch import jobs
from qnp_xp.io import _gzip, load_desi_coadd, load_desi_exposure
from qnp_xp.model import QuasarNP

PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
COMMAND = "import sys; from qnp_xp.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Place:
    """A folder for a case, and a network."""

    folder: Path
    weights: Path
    model: QuasarNP
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    caplog: pytest.LogCaptureFixture

    def coadd(self, n: int = 3, name: str = "coadd-0.fits", **options: Any) -> Path:
        return write_coadd(self.folder / name, n, step=16.0, **options)

    def changed(self, edit: Callable[[Hdus], Any], n: int = 3, **options: Any) -> Path:
        hdus = coadd_hdus(n, step=16.0, **options)
        edit(hdus)
        return write_hdus(self.folder / "changed.fits", hdus)

    def file(self, content: bytes, name: str = "some.fits") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def classify(self, spectra: Any, **options: Any) -> Any:
        return classify(spectra, self.model, **options)

    def status(self, edit: Callable[[Hdus], Any]) -> list[int]:
        """QN_STATUS of a coadd after an edit; rows without a result hold NaN."""
        table = self.classify(self.changed(edit))
        unscored = (table["QN_STATUS"] & int(Status.UNSCORED)) != 0
        for column in ("Z_QN", "Z_QN_CONF", "C_LYA", "Z_Halpha"):
            np.testing.assert_array_equal(np.isnan(table[column]), unscored)
        return [int(value) for value in table["QN_STATUS"]]

    def command(self, *arguments: Any) -> tuple[int, str]:
        """Exit status and stderr of ``qnp-xp classify``."""
        self.capsys.readouterr()
        try:
            status = cli.main(
                ["classify", *map(str, arguments), "-m", str(self.weights)]
            )
        except SystemExit as err:
            status = int(err.code or 0)
        err = self.capsys.readouterr().err
        assert "Traceback" not in err
        return status, err

    def refuses(
        self, spectra: Any, kind: type[Exception], match: str, **o: Any
    ) -> None:
        with pytest.raises(kind, match=match) as caught:
            self.classify(spectra, **o)
        if isinstance(spectra, Path):
            assert str(spectra) in str(caught.value)


Case = Callable[[Place], None]
CASES: dict[str, Case] = {}


def case(*rows: str) -> Callable[[Case], Case]:
    """Make a function the test of a row."""

    def register(function: Case) -> Case:
        for row in rows:
            assert row not in CASES
            CASES[row] = function
        return function

    return register


@pytest.fixture
def place(
    tmp_path: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Place:
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Place(folder, weights, load_model(weights), monkeypatch, capsys, caplog)


# Files of spectra.


@case("no such file")
def _(p: Place) -> None:
    p.refuses(p.folder / "absent.fits", FileNotFoundError, "absent")


@case("an empty file")
def _(p: Place) -> None:
    p.refuses(p.file(b""), SpectraError, "not a FITS file")


@case("a file of another kind")
def _(p: Place) -> None:
    p.refuses(p.file(b"hello\n" * 1000), SpectraError, "not a FITS file")
    p.refuses(p.file(gzip.compress(b"hello\n" * 999)), SpectraError, "not a FITS file")


@case("a weights file")
def _(p: Place) -> None:
    p.refuses(p.weights, SpectraError, "not a FITS file")


@case("a FITS file cut short anywhere")
def _(p: Place) -> None:
    content = p.coadd(2).read_bytes()
    for size in range(1, len(content), 1777):
        p.refuses(p.file(content[:size]), SpectraError, "cut short|not a FITS")


@case("a FITS file followed by something else")
def _(p: Place) -> None:
    path = p.file(p.coadd(2).read_bytes() + b"\0" * 2880)
    p.refuses(path, SpectraError, "followed by something else")


@case("a gzipped file cut short")
def _(p: Place) -> None:
    content = gzipped(p.coadd(2)).read_bytes()
    for size in range(30, len(content), 4999):
        p.refuses(p.file(content[:size]), SpectraError, "cut short|not a FITS")


@case("a gzipped file with a flipped bit")
def _(p: Place) -> None:
    content = bytearray(gzipped(p.coadd(2)).read_bytes())
    for place in range(40, len(content), 4999):
        content[place] ^= 16
        p.refuses(p.file(bytes(content)), SpectraError, "cut short")
        content[place] ^= 16


@case("a gzipped file that unpacks to far more than spectra do")
def _(p: Place) -> None:
    p.monkeypatch.setattr(_gzip, "_HARMLESS", 10**6)
    bomb = gzip.compress(p.coadd(2).read_bytes() + bytes(2880 * 20_000))
    p.refuses(p.file(bomb), SpectraError, r"it unpacks to more than \d+ bytes")


@case("a FITS file without spectra")
def _(p: Place) -> None:
    path = write_hdus(
        p.folder / "x.fits", {"DARK": np.zeros((3, 4)), "BIAS": np.eye(2)}
    )
    p.refuses(path, SpectraError, "holds no spectra of DESI or SDSS, only DARK, BIAS")


@case("tables beside spectra (redrock, spZbest, QN)")
def _(p: Place) -> None:
    coadd = p.coadd(2)
    classify(coadd, p.model, output=p.folder / "qn.fits")
    redrock = write_hdus(p.folder / "redrock-0.fits", {"REDSHIFTS": fibermap_table(2)})
    for path in (p.folder / "qn.fits", redrock):
        p.refuses(path, NoSpectraError, "holds no spectra")
        status, err = p.command(path, coadd, "--outdir", "out", "--overwrite")
        assert status == 0
        assert err.startswith(f"qnp-xp: skipped: {path}: ")


@case("a folder without cframes")
def _(p: Place) -> None:
    p.refuses(p.folder, IsADirectoryError, r"name files in it, as coadd-\*\.fits")


@case("a missing HDU")
def _(p: Place) -> None:
    for name in ("B_IVAR", "Z_WAVELENGTH"):
        path = p.changed(lambda hdus, name=name: hdus.pop(name))
        p.refuses(path, SpectraError, f"has no HDU {name}")


@case("a table where an image is expected")
def _(p: Place) -> None:
    path = p.changed(lambda hdus: hdus.update(R_FLUX=fibermap_table(3)))
    p.refuses(path, SpectraError, r"\[R_FLUX\]: an image is expected")


@case("flux and ivar of different shapes")
def _(p: Place) -> None:
    path = p.changed(lambda hdus: hdus.update(R_IVAR=np.ones((3, 7), "f4")))
    p.refuses(path, SpectraError, r"\[R_IVAR\]: has shape \(3, 7\), and the flux \(3,")


@case("flux of one or three dimensions")
def _(p: Place) -> None:
    for shape in ((138,), (1, 3, 138)):
        path = p.changed(lambda h, s=shape: h.update(B_FLUX=np.ones(s, "f4")))
        p.refuses(path, SpectraError, r"\[B_FLUX\]: needs 2 dimensions, has shape")


@case("arms of different numbers of spectra")
def _(p: Place) -> None:
    def edit(hdus: Hdus) -> None:
        for part in ("FLUX", "IVAR"):
            hdus[f"R_{part}"] = hdus[f"R_{part}"][:2]

    p.refuses(p.changed(edit), SpectraError, "has 2 spectra, and arm B has 3")


@case("a FIBERMAP of another length")
def _(p: Place) -> None:
    path = p.changed(lambda hdus: hdus.update(FIBERMAP=fibermap_table(4)))
    p.refuses(path, SpectraError, r"\[FIBERMAP\]: has 4 rows for 3 spectra")


@case("wavelengths of another length")
def _(p: Place) -> None:
    path = p.changed(lambda hdus: hdus.update(Z_WAVELENGTH=np.arange(7.0) + 8000))
    p.refuses(path, SpectraError, r"\[Z_WAVELENGTH\]: \(7,\) wavelengths for flux of")


@case("NaN, infinite, zero or negative wavelengths")
def _(p: Place) -> None:
    for value in (np.nan, np.inf, 0.0, -4000.0):

        def edit(hdus: Hdus, value: float = value) -> None:
            hdus["R_WAVELENGTH"][5] = value

        p.refuses(p.changed(edit), SpectraError, r"\[R_WAVELENGTH\]: .*finite and pos")


@case("decreasing or unsorted wavelengths")
def _(p: Place) -> None:
    expected = p.classify(p.coadd(3))
    for order in (slice(None, None, -1), np.random.default_rng(0).permutation(117)):

        def edit(hdus: Hdus, order: Any = order) -> None:
            for part in ("WAVELENGTH", "FLUX", "IVAR"):
                values = hdus[f"R_{part}"]
                hdus[f"R_{part}"] = np.ascontiguousarray(values[..., order])

        found = p.classify(p.changed(edit))
        for name in ("Z_QN", "C_LYA"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


@case("a missing arm")
def _(p: Place) -> None:
    path = p.coadd(2, arms="BZ")
    table = p.classify(path)
    assert table["QN_STATUS"].tolist() == [Status.ARM_MISSING] * 2
    assert p.caplog.records[-1].getMessage() == f"{path}: no arm R"


@case("no FIBERMAP")
def _(p: Place) -> None:
    table = p.classify(p.coadd(2, fibermap=False))
    assert table["TARGETID"].tolist() == [-1, -1]
    assert "TARGET_RA" not in (table.dtype.names or ())


@case("no rows")
def _(p: Place) -> None:
    hdus = coadd_hdus(0, fibermap=False)
    path = write_images_by_hand(p.folder / "empty.fits", hdus)
    assert p.classify(path).shape == (0,)


@case("integer pixels with BLANK")
def _(p: Place) -> None:
    path = p.changed(lambda h: h.update(B_FLUX=np.round(h["B_FLUX"]).astype("i2")))
    with fitsio.FITS(str(path), "rw") as f:
        f["B_FLUX"].write_key("BLANK", -999)
    p.refuses(path, SpectraError, r"\[B_FLUX\]: integers with a BLANK value")


@case("integer or scaled pixels")
def _(p: Place) -> None:
    def edit(hdus: Hdus) -> None:
        hdus["B_FLUX"] = np.round(10 * hdus["B_FLUX"]).astype("i2")

    path = p.changed(edit)
    whole = p.changed(lambda hdus: hdus.update(B_FLUX=fitsio.read(path, ext="B_FLUX")))
    expected = p.classify(whole)
    assert p.classify(p.changed(edit)).tobytes() == expected.tobytes()
    with fitsio.FITS(str(path), "rw") as f:
        f["B_FLUX"].write_key("BSCALE", 0.1)
        f["B_FLUX"].write_key("BZERO", 0.0)
    scaled = coadd_hdus(3, step=16.0)
    edit(scaled)
    scaled["B_FLUX"] = scaled["B_FLUX"] * 0.1
    expected = p.classify(write_hdus(p.folder / "scaled.fits", scaled))
    np.testing.assert_allclose(p.classify(path)["Z_QN"], expected["Z_QN"], rtol=1e-5)


@case("flux in electrons (a frame, not a cframe)")
def _(p: Place) -> None:
    folder = write_cframes(p.folder, coadd_hdus(2), arms="B")
    (path,) = folder.iterdir()
    with fitsio.FITS(str(path), "rw") as f:
        f["FLUX"].write_key("BUNIT", "electron/Angstrom")
    p.refuses(path, SpectraError, r"\[FLUX\]: is in electron/Angstrom")


@case("cframes of different targets")
def _(p: Place) -> None:
    hdus = coadd_hdus(2)
    folder = write_cframes(p.folder, hdus, arms="B")
    hdus["FIBERMAP"]["TARGETID"] += 1
    write_cframes(p.folder, hdus, arms="R")
    with pytest.raises(SpectraError, match=r"cframe-r0.*other targets than cframe-b0"):
        p.classify(folder)


@case("two files of one arm")
def _(p: Place) -> None:
    (path,) = write_cframes(p.folder, coadd_hdus(2), arms="B").iterdir()
    with pytest.raises(SpectraError, match="a second file of arm B"):
        p.classify([path, gzipped(path)])


@case("brackets in the name of a file")
def _(p: Place) -> None:
    p.refuses(p.coadd(1).rename(p.folder / "coadd[1].fits"), SpectraError, "brackets")


@case("other letters than ASCII in the name of a file")
def _(p: Place) -> None:
    path = p.coadd(1, name="coadd-é.fits")
    p.classify(path, output=p.folder / "qn.fits")
    header = fitsio.read_header(p.folder / "qn.fits", ext="QN")
    assert header["QNINPUT"] == r"coadd-\xe9.fits"


# Spectra.


def in_row(row: int, **values: Any) -> Callable[[Hdus], None]:
    """Set flux or ivar of all arms in one row."""

    def edit(hdus: Hdus) -> None:
        for arm in "BRZ":
            for part, value in values.items():
                hdus[f"{arm}_{part}"][row] = value

    return edit


def in_pixel(row: int, **values: float) -> Callable[[Hdus], None]:
    def edit(hdus: Hdus) -> None:
        for part, value in values.items():
            hdus[f"R_{part}"][row, 50] = value

    return edit


NONE, CONSTANT, CLEANED = 1, 2, 8


@case("no pixel of positive ivar")
def _(p: Place) -> None:
    assert p.status(in_row(1, IVAR=0)) == [0, NONE, 0]
    assert p.status(in_row(1, IVAR=0, FLUX=np.nan)) == [0, NONE, 0]


@case("no pixel on the grid of the network")
def _(p: Place) -> None:
    def edit(hdus: Hdus) -> None:
        for arm in "BRZ":
            hdus[f"{arm}_WAVELENGTH"] /= 10

    assert p.status(edit) == [NONE] * 3
    assert "are they in Angstrom?" in p.caplog.records[-1].getMessage()


@case("a constant spectrum")
def _(p: Place) -> None:
    assert p.status(in_row(2, FLUX=2.5)) == [0, 0, CONSTANT]
    assert p.status(in_row(2, FLUX=0)) == [0, 0, CONSTANT]


@case("one good pixel")
def _(p: Place) -> None:
    def edit(hdus: Hdus) -> None:
        in_row(0, IVAR=0)(hdus)
        hdus["B_IVAR"][0, 7] = 1

    assert p.status(edit) == [CONSTANT, 0, 0]


@case("NaN or infinite flux of positive ivar")
def _(p: Place) -> None:
    for value in (np.nan, np.inf, -np.inf):
        assert p.status(in_pixel(1, FLUX=value)) == [0, CLEANED, 0]


@case("NaN, infinite or negative ivar")
def _(p: Place) -> None:
    for value in (np.nan, np.inf, -np.inf, -1.0):
        assert p.status(in_pixel(1, IVAR=value)) == [0, CLEANED, 0]


@case("NaN flux of ivar 0")
def _(p: Place) -> None:
    assert p.status(in_pixel(1, FLUX=np.nan, IVAR=0)) == [0, 0, 0]


@case("flux of 1e30 in float32")
def _(p: Place) -> None:
    def edit(hdus: Hdus) -> None:
        for arm in "BRZ":
            hdus[f"{arm}_FLUX"] *= 1e30

    expected = p.classify(p.coadd(3))
    found = p.classify(p.changed(edit))
    assert found["QN_STATUS"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(found["Z_QN"], expected["Z_QN"], rtol=1e-4)


@case("flux beyond 1e100")
def _(p: Place) -> None:
    def edit(hdus: Hdus) -> None:
        hdus["R_FLUX"] = hdus["R_FLUX"].astype("f8")
        in_pixel(1, FLUX=1e300)(hdus)

    assert p.status(edit) == [0, CLEANED, 0]


@case("a bad spectrum among good ones")
def _(p: Place) -> None:
    expected = p.classify(p.coadd(3))
    for edit in (in_row(1, IVAR=0), in_row(1, FLUX=7), in_row(1, FLUX=np.inf)):
        found = p.classify(p.changed(edit))
        assert found[[0, 2]].tobytes() == expected[[0, 2]].tobytes()


@case("a sky fiber")
def _(p: Place) -> None:
    path = p.coadd(2, objtype=["TGT", "SKY"])
    table = p.classify(path, c_thresh=0.0)
    assert table["QN_STATUS"].tolist() == [0, Status.NOT_TARGET]
    assert table["IS_QSO_QN"].tolist() == [1, 0]
    assert np.all(np.isfinite(table["Z_QN"]))


# Weights files.

KERAS = Path(__file__).parent / "data" / "keras"


def refuses_weights(path: Path, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def described(p: Place, edit: Callable[[Any], None]) -> Path:
    """A network after an edit of its description."""
    target = p.folder / "net.h5"
    return copy_hdf5(KERAS / "same.h5", target, lambda model, _: edit(model))


def stored(p: Place, edit: Callable[[Any], None]) -> Path:
    """A network after an edit of its file."""
    target = p.folder / "net.h5"
    return copy_hdf5(KERAS / "same.h5", target, lambda _, f: edit(f))


@case("a weights file that does not exist")
def _(p: Place) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        load_model(p.folder / "absent.h5")


@case("a file that holds no network")
def _(p: Place) -> None:
    refuses_weights(p.coadd(1), "neither an HDF5 file nor a .keras archive")
    refuses_weights(p.file(b"", "empty.h5"), "neither an HDF5 file nor")
    with h5py.File(p.folder / "mine.h5", "w") as f:
        f["mine"] = np.arange(9)
    refuses_weights(p.folder / "mine.h5", "not saved by Keras")


@case("a weights file cut short anywhere")
def _(p: Place) -> None:
    for kind in ("h5", "keras"):
        content = (KERAS / f"same.{kind}").read_bytes()
        for size in range(16, len(content), len(content) // 23):
            refuses_weights(
                p.file(content[:size], f"cut.{kind}"),
                "damaged|neither an HDF5 file nor|no model_config|text of",
            )


@case("a network of another kind")
def _(p: Place) -> None:
    def edit(model: Any) -> None:
        entry = layer(model, "conv_2")
        entry["class_name"] = "LSTM"

    refuses_weights(described(p, edit), r"layer 'conv_2' \(LSTM\)")


@case("arrays that contradict the description")
def _(p: Place) -> None:
    def edit(model: Any) -> None:
        layer(model, "conv_2")["config"]["filters"] += 1

    refuses_weights(described(p, edit), r"layer 'conv_2' .*\(10, 4, 4\)")


@case("weights that are not finite")
def _(p: Place) -> None:
    for value in (np.nan, np.inf):

        def edit(f: Any, value: float = value) -> None:
            f[hostile.KERNEL][3, 1, 2] = value

        refuses_weights(stored(p, edit), "layer 'conv_2'.*finite")


@case("another number of bins than the grid has")
def _(p: Place) -> None:
    def edit(f: Any) -> None:
        f["model_grid"] = np.linspace(3600, 9000, 442)

    refuses_weights(stored(p, edit), r"model_grid.*\(442,\).* 443")


@case("a Lambda other than QuasarNET's own")
def _(p: Place) -> None:
    def edit(model: Any) -> None:
        for entry in model["config"]["layers"]:
            if entry["class_name"] == "Lambda":
                code = marshal.dumps((lambda x: 1.2 - 0.1 * x).__code__)
                text = base64.b64encode(code).decode()
                entry["config"]["function"]["config"]["code"] = text

    target = p.folder / "net.h5"
    path = copy_hdf5(KERAS / "lambda_k3.h5", target, lambda model, _: edit(model))
    refuses_weights(path, "Lambda.*Rescaling")


@case("a link, or storage, that leads out of the HDF5 file")
def _(p: Place) -> None:
    makers = [hostile.as_soft_link, hostile.as_external_link, hostile.in_another_file]
    for make in (*makers, hostile.in_another_dataset):
        path = stored(p, hostile.replaced(hostile.KERNEL, make))
        refuses_weights(path, "not followed")


@case("arrays of text, of objects or of references")
def _(p: Place) -> None:
    for dtype in (h5py.string_dtype(), "S4", h5py.ref_dtype, "c8"):
        path = stored(p, hostile.replaced(hostile.KERNEL, hostile.of_type(dtype)))
        refuses_weights(path, "plain numbers are needed|numbers")


@case("an array that claims or unpacks to more than the network needs")
def _(p: Place) -> None:
    for make in (hostile.without_storage, hostile.packed_zeros, hostile.packed_bomb):
        refuses_weights(
            stored(p, hostile.replaced(hostile.KERNEL, make)),
            "layer .conv_2.|conv_2/kernel",
        )


@case("an archive that unpacks to more than its network needs")
def _(p: Place) -> None:
    source, target = KERAS / "same.keras", p.folder / "net.keras"
    for member in ("config.json", "model.weights.h5"):
        path = hostile.bomb(source, target, member, b"\0")
        refuses_weights(path, member)


@case("a description of an absurd network")
def _(p: Place) -> None:
    refuses_weights(described(p, hostile.absurd), "has more than 16777216 weights")


@case("layers in a circle")
def _(p: Place) -> None:
    def edit(model: Any) -> None:
        layer(model, "conv_1")["inbound_nodes"] = layer(model, "conv_2")[
            "inbound_nodes"
        ]

    refuses_weights(described(p, edit), "the graph has a cycle")


@case("HDF5 structures that lead back to themselves")
def _(p: Place) -> None:
    content = bytearray((KERAS / "same.h5").read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 32] = bytes(16)  # an object of no number and no size
    refuses_weights(
        p.file(bytes(content), "net.h5"), r"a text of \d+ bytes, of which 0 exist"
    )


@case("the state of an optimizer in the file")
def _(p: Place) -> None:
    def edit(f: Any) -> None:
        f["optimizer_weights/adam/kernel/m"] = np.zeros((10, 4, 4))
        f["optimizer_weights"].attrs["weight_names"] = [b"adam/kernel/m"]

    expected = load_model(KERAS / "same.h5").predict(np.ones((1, 443)))
    found = load_model(stored(p, edit)).predict(np.ones((1, 443)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# Arrays and arguments.

WAVE = np.linspace(3600, 9800, 600)


def noise(n: int = 2) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(3)
    return WAVE, rng.normal(size=(n, WAVE.size)), rng.uniform(1, 2, (n, WAVE.size))


@case("big-endian arrays")
def _(p: Place) -> None:
    expected = p.classify(noise())
    found = p.classify([x.astype(">f8") for x in noise()])
    assert found.tobytes() == expected.tobytes()


@case("arrays that are not contiguous or cannot be written to")
def _(p: Place) -> None:
    wave, flux, ivar = noise()
    flux[0, 3] = np.nan
    expected = p.classify((wave, flux, ivar))
    columns = np.asfortranarray(flux)
    columns.setflags(write=False)
    strided = np.repeat(ivar, 2, axis=0)[::2]
    copies = [columns.copy(), strided.copy()]
    found = p.classify((wave, columns, strided))
    assert found.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(columns, copies[0])
    np.testing.assert_array_equal(strided, copies[1])


@case("integer arrays")
def _(p: Place) -> None:
    wave, flux, ivar = noise()
    flux, ivar = np.round(9 * flux), np.round(9 * ivar)
    expected = p.classify((wave, flux, ivar))
    found = p.classify((wave, flux.astype(int), ivar.astype("u1")))
    assert found.tobytes() == expected.tobytes()


@case("complex, boolean, string or object arrays")
def _(p: Place) -> None:
    wave, flux, ivar = noise()
    for bad in (flux + 1j, flux > 0, flux.astype(str), flux.astype(object)):
        p.refuses((wave, bad, ivar), TypeError, "arm 0: flux: real numbers are needed")
        p.refuses((wave, flux, bad), TypeError, "arm 0: ivar: real numbers are needed")


@case("something that holds no spectra")
def _(p: Place) -> None:
    for thing in (None, 3, [], {}, WAVE, (WAVE, WAVE), b"coadd.fits", [None]):
        p.refuses(thing, TypeError, "expected a file, or")


@case("arrays of shapes that do not fit")
def _(p: Place) -> None:
    wave, flux, ivar = noise()
    p.refuses((wave[1:], flux, ivar), SpectraError, r"\(599,\) wavelengths for flux of")
    p.refuses((wave, flux, ivar[:1]), SpectraError, r"has shape \(1, 600\), and the fl")
    p.refuses((wave, flux[None], ivar[None]), SpectraError, "needs 2 dimensions")
    arms = [(wave, flux, ivar), (wave, flux[:1], ivar[:1])]
    p.refuses(arms, SpectraError, "has 1 spectra, and arm 0 has 2")


class Unit(str):
    """What the package asks of a unit."""

    __slots__ = ()

    def is_equivalent(self, other: str) -> bool:
        return "Angstrom" in self and "Angstrom" in other


@case("spectra in Jansky or electrons, with a unit")
def _(p: Place) -> None:
    class Quantity(np.ndarray):
        unit: Any

    wave, flux, ivar = noise()
    for name in ("Jy", "electron"):
        measured = flux.view(Quantity)
        measured.unit = Unit(name)
        p.refuses((wave, measured, ivar), SpectraError, f"flux is in {name}, and is ne")


@case("records without ivar")
def _(p: Place) -> None:
    record = {"wavelength": WAVE, "flux": WAVE}
    p.refuses([record], SpectraError, r"record 0: has no ivar; name it in retrieve\(")


@case("rows beyond the last, or a mask of another length")
def _(p: Place) -> None:
    path = p.coadd(3)
    for rows in ([3], [-4], [True, False]):
        with pytest.raises(ValueError, match="3 rows"):
            p.classify(path, rows=rows)


@case("rows of zeros and ones that could be either")
def _(p: Place) -> None:
    with pytest.raises(ValueError, match="pass a boolean mask"):
        p.classify(p.coadd(2), rows=[0, 1])


@case("rows or targetids that are no integers")
def _(p: Place) -> None:
    path = p.coadd(3)
    for rows in ("all", 1.5, [[0]], {1}):
        with pytest.raises(ValueError, match="rows must have 1 dimension"):
            p.classify(path, rows=rows)
    for option in ({"rows": [0.5]}, {"targetids": [1.5]}, {"targetids": ["a"]}):
        with pytest.raises(TypeError, match=r"must be (boolean or )?integer"):
            p.classify(path, **option)


@case("rows and targetids together")
def _(p: Place) -> None:
    with pytest.raises(ValueError, match="cannot be given both"):
        p.classify(p.coadd(3), rows=[0], targetids=[1])


@case("targetids that are in no file")
def _(p: Place) -> None:
    path = p.coadd(3)
    assert p.classify(path, targetids=[5]).shape == (0,)
    status, err = p.command(path, "--targetids", "5,7")
    assert (status, err) == (1, "qnp-xp: error: 2 TARGETIDs are in no file, 5 first\n")


@case("thresholds or batch sizes out of range")
def _(p: Place) -> None:
    path = p.coadd(1)
    for name, values in {
        "c_thresh": (-0.1, 1.1, np.nan),
        "n_thresh": (0, -1, 1.5, np.inf, np.nan),
        "batch_size": (0, -1, 1.5),
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=f"{name} must be"):
                p.classify(path, **{name: value})


@case("thresholds, batch sizes or flags of another type")
def _(p: Place) -> None:
    path = p.coadd(1)
    for name in ("c_thresh", "n_thresh", "batch_size", "use_mask", "coadd"):
        for value in ("1", None, [1]):
            with pytest.raises(TypeError, match=f"{name} must be"):
                p.classify(path, **{name: value})


@case("an unknown device or dtype")
def _(p: Place) -> None:
    for name in ("device", "dtype"):
        for value in ("tpu", 3, None):
            with pytest.raises(ValueError, match=f"{name}=.* is not one of"):
                classify(p.coadd(1), p.weights, **{name: value})


@case("a GPU where there is none")
def _(p: Place) -> None:
    p.monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"needs CuPy, which is not installed"):
        classify(p.coadd(1), p.weights, device="gpu")


@case("a model that is none")
def _(p: Place) -> None:
    for model in (3, {}, b"network.h5", p.model.network):
        with pytest.raises(TypeError, match="model must be a model, the name of"):
            classify(p.coadd(1), model)  # type: ignore[arg-type]


@case("input of predict of another shape or type")
def _(p: Place) -> None:
    for shape in ((443,), (2, 442), (2, 443, 2), ()):
        with pytest.raises(ValueError, match=r"predict takes \(n, 443\) or"):
            p.model.predict(np.zeros(shape))
    for bad in (None, "x", np.zeros((2, 443), complex), np.zeros((2, 443), object)):
        with pytest.raises(TypeError, match="x must hold real numbers"):
            p.model.predict(bad)


@case("an output grid that is neither linear nor logarithmic")
def _(p: Place) -> None:
    path = p.coadd(1)
    for grid in ([1, 2, 4, 9], [], 3, [np.nan, 1], [3, 2, 1], [0, 0]):
        with pytest.raises(ValueError, match="grid"):
            load_desi_coadd(path, out_grid=grid)
    with pytest.raises(TypeError, match="a grid is made of wavelengths in Angstrom"):
        load_desi_coadd(path, out_grid="log")  # type: ignore[arg-type]


@case("unknown lines, or too few")
def _(p: Place) -> None:
    with pytest.raises(ValueError, match="unknown line 'x'; the known lines are AlII"):
        load_model(p.weights, lines=["x"])
    with pytest.raises(ValueError, match=r"has 7 outputs; lines and lines_bal name 1 "):
        load_model(p.weights, lines=["LYA"])


@case("a spectrograph that does not exist")
def _(p: Place) -> None:
    for number in (-1, 10, "0", None):
        with pytest.raises(ValueError, match="spec_number must be 0 to 9"):
            load_desi_exposure(p.folder, number)  # type: ignore[arg-type]


# Outputs.


@case("an output that exists")
def _(p: Place) -> None:
    output = p.file(b"mine", "qn.fits")
    with pytest.raises(FileExistsError, match=r"qn\.fits exists; replace it"):
        p.classify(p.folder / "absent.fits", output=output)
    assert output.read_bytes() == b"mine"


@case("an output that is an input")
def _(p: Place) -> None:
    path = p.coadd(1)
    for spectra, model in ((path, p.model), (p.folder / "absent.fits", path)):
        with pytest.raises(ValueError, match="is an input and cannot be the output"):
            classify(spectra, model, output=path, overwrite=True)


@case("an output in a folder that does not exist")
def _(p: Place) -> None:
    with pytest.raises(NotADirectoryError, match="no such folder"):
        p.classify(p.folder / "absent.fits", output=p.folder / "no" / "qn.fits")


@case("an output that is a folder")
def _(p: Place) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder, and the output"):
        p.classify(p.folder / "absent.fits", output=p.folder, overwrite=True)


@case("a folder that cannot be written to")
def _(p: Place) -> None:
    # The super-user may write everywhere, but for what the kernel keeps.
    folder = Path("/proc") if os.geteuid() == 0 else p.folder / "locked"
    if os.geteuid():
        folder.mkdir(mode=0o500)
    before = names(folder) if folder.name == "locked" else []
    with pytest.raises(OSError, match=re.escape(str(folder / "qn.fits"))):
        p.classify(p.coadd(1), output=folder / "qn.fits")
    assert before == []
    assert not (folder / "qn.fits").exists()


@case("a full disk")
def _(p: Place) -> None:
    path = p.coadd(60)

    options = ["-m", p.weights, "--outdir", p.folder / "out"]

    def small_disk() -> None:  # as far as a file can be told
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "classify", path, *options],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=small_disk,
        # What measures coverage would write to that disk as well.
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
    )
    assert done.returncode == 1
    match = rf"qnp-xp: error: {path}: \[Errno \d+\] [\w ]+: '.*/out/qn-0\.fits'\n"
    assert re.fullmatch(match, done.stderr)
    assert names(p.folder / "out") == []


@case("an interrupt or SIGTERM")
def _(p: Place) -> None:
    path = p.coadd(1)
    original = Path.write_bytes
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):

        def signalled(self: Path, content: bytes, number: int = number) -> None:
            original(self, content)
            os.kill(os.getpid(), number)

        p.monkeypatch.setattr(Path, "write_bytes", signalled)
        assert p.command(path, "--outdir", "out")[0] == status
        assert names(p.folder / "out") == []


@case("a run that was killed")
def _(p: Place) -> None:
    paths = [p.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from qnp_xp.cli import main\n"
        "write = Path.write_bytes\n"
        "def killed(self, content):\n"
        "    write(self, content[:5000] if 'qn-1' in self.name else content)\n"
        "    'qn-1' in self.name and os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.write_bytes = killed\n"
        "main()\n"
    )
    arguments = ["classify", *map(str, paths), "-m", str(p.weights), "--outdir", "out"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    left = names(p.folder / "out")
    assert len(left) == 2  # a whole table, and a folder with a part of the next
    assert left[1] == "qn-0.fits"
    os.utime(p.folder / "out" / left[0], (0, 0))  # a day later
    status, err = p.command(*paths, "--outdir", "out", "--resume")
    assert (status, err) == (0, "")
    assert names(p.folder / "out") == ["qn-0.fits", "qn-1.fits", "qn-2.fits"]


@case("a bad file among others")
def _(p: Place) -> None:
    paths = [p.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    paths[1].write_bytes(b"SIMPLE  =                    T")
    status, err = p.command(*paths, "--outdir", "out")
    assert status == 1
    first, last = err.splitlines()
    assert first.startswith(f"qnp-xp: error: {paths[1]}: not a FITS file")
    assert last == "qnp-xp: error: 1 of 3 inputs failed"
    assert names(p.folder / "out") == ["qn-0.fits", "qn-2.fits"]


@case("a process of `--nproc` that is killed")
def _(p: Place) -> None:
    paths = [p.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from qnp_xp.batch import jobs\n"
        "from qnp_xp.cli import main\n"
        "classify = jobs.classify_file\n"
        "def killed(files, *args, **kwargs):\n"
        "    if files[0].name == 'coadd-1.fits':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return classify(files, *args, **kwargs)\n"
        "jobs.classify_file = killed\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(main())\n"
    )
    script = p.folder / "script.py"
    script.write_text(code)
    arguments = ["classify", *map(str, paths), "-m", str(p.weights), "--outdir", "out"]
    done = subprocess.run(
        [sys.executable, script, *arguments, "--nproc", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"error: {paths[1]}: the process that worked on it died" in done.stderr
    assert names(p.folder / "out") == ["qn-0.fits", "qn-2.fits"]


@case("an error that nobody foresaw, in one file")
def _(p: Place) -> None:
    paths = [p.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    original = jobs.classify_file

    def surprising(files: Any, *args: Any, **kwargs: Any) -> Any:
        if files == (paths[1],):
            msg = "by nothing"
            raise ZeroDivisionError(msg)
        return original(files, *args, **kwargs)

    p.monkeypatch.setattr(jobs, "classify_file", surprising)
    status, err = p.command(*paths, "--outdir", "out")
    assert status == 1
    assert f"error: {paths[1]}: ZeroDivisionError: by nothing" in err
    assert names(p.folder / "out") == ["qn-0.fits", "qn-2.fits"]


@case("tables of other weights or settings, or of the same targets, in `merge`")
def _(p: Place) -> None:
    path = p.coadd(2)
    for name, threshold in (("a", 0.5), ("b", 0.5), ("c", 0.8)):
        p.classify(path, output=p.folder / f"{name}.fits", c_thresh=threshold)
    for others, match in (
        ("b", r"2 TARGETIDs are in several rows: \d+ \(coadd-0\.fits\)"),
        ("c", r"c\.fits: .*threshold"),
    ):
        p.capsys.readouterr()
        assert cli.main(["merge", "all.fits", "a.fits", f"{others}.fits"]) == 1
        assert re.search(match, p.capsys.readouterr().err)
        assert not (p.folder / "all.fits").exists()


@case("two inputs of one output")
def _(p: Place) -> None:
    (p.folder / "a").mkdir()
    paths = [p.coadd(1), p.coadd(1, name="a/coadd-0.fits")]
    status, err = p.command(*paths, "--outdir", "out")
    assert status == 1
    assert "several inputs would be written to" in err
    assert names(p.folder / "out") == []


# The tables.


def rows() -> list[str]:
    """First columns of the tables of the page."""
    found = re.findall(r"^\| (.+?) \| .+ \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [row for row in found if row != "input"]


@pytest.mark.parametrize("row", CASES)
def test_bad_input(row: str, place: Place) -> None:
    CASES[row](place)


def test_every_row_of_the_page_is_a_test_and_every_test_a_row() -> None:
    assert rows() == list(CASES)


def test_errors_of_the_package_are_those_that_the_page_names() -> None:
    assert issubclass(NoSpectraError, SpectraError)
    for error in (SpectraError, WeightsError, DeviceError):
        assert issubclass(error, QnpError)
        assert error.__name__ in PAGE.read_text("utf-8")
