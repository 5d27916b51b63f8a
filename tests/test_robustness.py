"""Every row of docs/robustness.md as a test, in the order of its tables.

What the rows have in common with tests of single modules is short here: these go
through `classify` or the command, as users do.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import hashlib
import lzma
import marshal
import os
import re
import resource
import shlex
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import fitsio
import h5py
import hostile
import numpy as np
import pytest
from helpers import (
    TARGETID,
    Hdus,
    coadd_hdus,
    copy_hdf5,
    demand,
    fibermap_table,
    gzipped,
    interruptible,
    layer,
    names,
    quantity,
    start_writing,
    workers,
    write_cframes,
    write_coadd,
    write_hdus,
    write_images_by_hand,
)
from sdss_files import write_spec, write_spspec

from qnp_xp import (
    DeviceError,
    NoSpectraError,
    QnpError,
    SpectraError,
    Status,
    WeightsError,
    _scorer,
    classify,
    cli,
    convert,
    load_model,
    train,
)
from qnp_xp._data import EMBEDDED_NETWORK, QUASAR_BASIS, data_file
from qnp_xp._train import _convert
from qnp_xp.batch import jobs
from qnp_xp.errors import MissingLibraryError
from qnp_xp.grids import linear_wave, wave
from qnp_xp.io import _packed, load_desi_coadd, load_desi_exposure
from qnp_xp.io.open import open_spectra
from qnp_xp.io.tables import read_catalog
from qnp_xp.io.weights import _reading, embed_grid
from qnp_xp.lines import LINES, LINES_BAL
from qnp_xp.model import QuasarNP
from qnp_xp.utils import process_preds, renormalize

PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
COMMAND = "import sys; from qnp_xp.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Case:
    """A folder, a network, and what pytest gives a test."""

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


@pytest.fixture
def case(
    tmp_path: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Case:
    folder = tmp_path / "case"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Case(folder, weights, load_model(weights), monkeypatch, capsys, caplog)


# Files of spectra.


def test_no_such_file(case: Case) -> None:
    case.refuses(case.folder / "absent.fits", FileNotFoundError, "absent")


def test_an_empty_file(case: Case) -> None:
    case.refuses(case.file(b""), SpectraError, "not a FITS file")


def test_a_file_of_another_kind(case: Case) -> None:
    case.refuses(case.file(b"hello\n" * 1000), SpectraError, "not a FITS file")
    case.refuses(
        case.file(gzip.compress(b"hello\n" * 999)), SpectraError, "not a FITS file"
    )


def test_a_weights_file(case: Case) -> None:
    case.refuses(case.weights, SpectraError, "not a FITS file")


def test_a_fits_file_cut_short_anywhere(case: Case) -> None:
    content = case.coadd(2).read_bytes()
    for size in range(1, len(content), 1777):
        case.refuses(case.file(content[:size]), SpectraError, "cut short|not a FITS")


def test_a_fits_file_followed_by_something_else(case: Case) -> None:
    path = case.file(case.coadd(2).read_bytes() + b"\1" * 2880)
    case.refuses(path, SpectraError, "followed by something else")


def test_a_gzipped_file_cut_short(case: Case) -> None:
    content = gzipped(case.coadd(2)).read_bytes()
    for size in range(30, len(content), 4999):
        case.refuses(case.file(content[:size]), SpectraError, "cut short|not a FITS")


def test_a_gzipped_file_with_a_flipped_bit(case: Case) -> None:
    content = bytearray(gzipped(case.coadd(2)).read_bytes())
    for offset in range(40, len(content), 4999):
        content[offset] ^= 16
        case.refuses(case.file(bytes(content)), SpectraError, "cut short")
        content[offset] ^= 16


def test_a_gzipped_file_that_unpacks_to_far_more_than_spectra_do(case: Case) -> None:
    case.monkeypatch.setattr(_packed, "_HARMLESS", 10**6)
    bomb = gzip.compress(case.coadd(2).read_bytes() + bytes(2880 * 20_000))
    case.refuses(case.file(bomb), SpectraError, r"more than \d+ bytes")


def test_a_device_or_a_pipe(case: Case) -> None:
    pipe = case.folder / "pipe.fits"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        case.refuses(path, SpectraError, "a device or a pipe")


def test_a_large_file_of_another_kind(case: Case) -> None:
    empty = b"".join(
        card.ljust(80) for card in (b"SIMPLE  =                    T", b"BITPIX  = 8")
    )
    for first in (b"hello", empty.ljust(2880)):
        path = case.file(first)
        os.truncate(path, 1 << 40)  # without blocks on the disk
        case.refuses(path, SpectraError, "not a FITS file")


def test_a_file_packed_by_bzip2_or_xz(case: Case) -> None:
    coadd = case.coadd(2)
    expected = case.classify(coadd)
    for packer in (bz2, lzma):
        content = packer.compress(coadd.read_bytes())
        path = case.file(content, f"coadd-1.fits.{packer.__name__}")
        assert case.classify(path).tobytes() == expected.tobytes()
        case.refuses(case.file(content[:-99]), SpectraError, "cut short")
        case.refuses(
            case.file(content[:99] + b"?" + content[99:]), SpectraError, "FITS"
        )
        case.refuses(case.file(packer.compress(b"hello")), SpectraError, "SIMPLE")


def test_a_file_packed_by_zip_compress_zstd_or_7_zip(case: Case) -> None:
    with zipfile.ZipFile(case.folder / "some.fits", "w") as archive:
        archive.write(case.coadd(1), "coadd.fits")
    case.refuses(case.folder / "some.fits", SpectraError, "packed by zip")
    firsts = {"compress": "1f9d90", "zstd": "28b52ffd", "7-Zip": "377abcaf271c"}
    for program, first in firsts.items():
        path = case.file(bytes.fromhex(first) + bytes(99))
        case.refuses(path, SpectraError, f"packed by {program}: unpack it first")


def test_a_fits_file_filled_up_with_zeros_as_on_a_tape(case: Case) -> None:
    coadd = case.coadd(2)
    expected, content = case.classify(coadd), coadd.read_bytes()
    for more in (1, 2880, 28_800 - 1):
        path = case.file(content + bytes(more))
        assert case.classify(path).tobytes() == expected.tobytes()
    case.refuses(case.file(content + bytes(28_800)), SpectraError, "followed by zeros")
    case.refuses(case.file(content + bytes(9) + b"x"), SpectraError, "something else")


def test_a_header_that_claims_more_than_the_file_holds(case: Case) -> None:
    for size in (b"NAXIS2  =                    3", b"NAXIS1  =                  138"):
        content = case.coadd(3).read_bytes()
        start = content.index(size)
        far_more = b"%s%21d" % (size[:9], 10**9)
        path = case.file(content[:start] + far_more + content[start + 30 :])
        case.refuses(path, SpectraError, r"HDU \d: cut short, \d+ of \d+ bytes")


def test_damaged_tiles_of_a_compressed_image(case: Case) -> None:
    hdus = coadd_hdus(6, arms="R", step=16.0)
    path = write_hdus(case.folder / "coadd.fits", hdus, compress="hcompress")
    assert (
        case.classify(path)["TARGETID"].tolist()
        == hdus["FIBERMAP"]["TARGETID"].tolist()
    )
    content = path.read_bytes()
    start = content.index(b"\xdd\x99\0\0\0") + 2
    path = case.file(content[:start] + bytes(8) + content[start + 8 :])
    case.refuses(path, SpectraError, r"HDU 3: a tile .* is damaged")


def test_a_sound_file_after_a_damaged_one(case: Case) -> None:
    sound = case.coadd(2)
    expected, content = case.classify(sound), sound.read_bytes()
    for start in range(2880, 5760, 400):
        # Pixels are taken for keywords: cfitsio's messages, which it keeps, hold them.
        damaged = case.file(content[:start] + content[start + 8 :])
        with contextlib.suppress(OSError, ValueError), fitsio.FITS(damaged) as f:
            len(f)  # by the user, without the package
        assert case.classify(sound).tobytes() == expected.tobytes()
        case.refuses(damaged, SpectraError, "cut short")
        assert [hdu.get_extname() for hdu in fitsio.FITS(sound)][1] == "FIBERMAP"
        assert case.classify(sound).tobytes() == expected.tobytes()


def test_a_file_that_is_replaced_while_it_is_read(case: Case) -> None:
    path = case.coadd(2)
    expected = case.classify(path)
    hdus = coadd_hdus(2, step=16.0, seed=5)
    hdus["FIBERMAP"]["TARGETID"] += 5
    new = write_hdus(case.folder / "new.fits", hdus)
    opened = fitsio.FITS

    def replaced(*arguments: Any) -> Any:
        if new.exists():
            new.replace(path)
        return opened(*arguments)

    case.monkeypatch.setattr(fitsio, "FITS", replaced)
    assert case.classify(path).tobytes() == expected.tobytes()
    targets = (expected["TARGETID"] + 5).tolist()
    assert case.classify(path)["TARGETID"].tolist() == targets


def test_a_file_that_is_changed_while_it_is_read(case: Case) -> None:
    path = case.coadd(2)
    with open_spectra(path) as source:
        next(source.read(np.arange(2)))
        content = path.read_bytes()
        path.write_bytes(content)
        os.utime(path, (0, 0))
        with pytest.raises(SpectraError, match=r"coadd-0\.fits: was changed while"):
            next(source.read(np.arange(2)))


def test_two_hdus_of_one_name(case: Case) -> None:
    expected = case.classify(case.coadd(3))
    path = case.coadd(3)
    with fitsio.FITS(str(path), "rw") as f:
        f.write(np.ones((3, 7), "f4"), extname="B_FLUX", extver=2)
        f.write(fibermap_table(1), extname="fibermap")
    assert case.classify(path).tobytes() == expected.tobytes()


def test_a_file_that_ends_after_its_fibermap(case: Case) -> None:
    hdus = {name: fibermap_table(2) for name in ("FIBERMAP", "EXP_FIBERMAP")}
    path = write_hdus(case.folder / "coadd-0.fits", hdus)
    with pytest.raises(SpectraError, match=r"coadd-0\.fits.*cut short") as caught:
        case.classify(path)
    assert not isinstance(caught.value, NoSpectraError)
    assert case.command(path, "--outdir", "out")[0] == 1


def test_a_column_of_the_fibermap_of_another_type_or_shape(case: Case) -> None:
    columns = {
        "TARGETID": np.zeros((3, 2), "i8"),
        "TARGET_RA": np.array([b"12h"] * 3),
        "TARGET_DEC": np.zeros((3, 2)),
        "OBJTYPE": np.array([[b"TGT", b"SKY"]] * 3),
    }
    odd = [*columns.items(), ("TARGETID", np.arange(3.0)), ("OBJTYPE", np.arange(3))]
    for name, values in odd:

        def edit(hdus: Hdus, name: str = name, values: Any = values) -> None:
            table = hdus["FIBERMAP"]
            kept = [other for other in table.dtype.names if other != name]
            layout = [(other, table.dtype[other]) for other in kept]
            changed = np.zeros(3, [*layout, (name, values.dtype, values.shape[1:])])
            for other in kept:
                changed[other] = table[other]
            changed[name] = values
            hdus["FIBERMAP"] = changed

        case.refuses(
            case.changed(edit), SpectraError, rf"\[FIBERMAP\]: column {name} has"
        )


def with_unit(case: Case, **units: str) -> Path:
    """A coadd whose images have units in their headers."""
    path = case.coadd(2)
    with fitsio.FITS(str(path), "rw") as f:
        for name, unit in units.items():
            f[name].write_key("BUNIT", unit)
    return path


FLUX_UNIT = "10**-17 erg/(s cm2 Angstrom)"
IVAR_UNIT = "10**+34 (s2 cm4 Angstrom2) / erg2"


def test_flux_that_is_not_per_wavelength_by_its_bunit(case: Case) -> None:
    expected = case.classify(case.coadd(2))
    path = with_unit(case, B_FLUX=FLUX_UNIT, R_FLUX=FLUX_UNIT, B_IVAR=IVAR_UNIT)
    assert case.classify(path).tobytes() == expected.tobytes()
    for unit in ("Jy", "nJy", "erg / (s cm2 Hz)", "nanomaggy", "electron/Angstrom"):
        path = with_unit(case, R_FLUX=unit)
        case.refuses(path, SpectraError, rf"\[R_FLUX\]: is in {re.escape(unit)}, ")


def test_ivar_in_the_unit_of_flux_by_its_bunit(case: Case) -> None:
    path = with_unit(case, B_FLUX=FLUX_UNIT, B_IVAR=FLUX_UNIT)
    case.refuses(path, SpectraError, rf"\[B_IVAR\]: is in {re.escape(FLUX_UNIT)}, ")


def test_arms_in_units_of_different_scale(case: Case) -> None:
    path = with_unit(case, B_FLUX=FLUX_UNIT, Z_FLUX="erg/s/cm2/A")
    match = rf"\[Z_FLUX\]: is in erg/s/cm2/A, .*{re.escape(FLUX_UNIT)}"
    case.refuses(path, SpectraError, match)


def test_a_unit_in_one_arm_only(case: Case) -> None:
    expected = case.classify(case.coadd(2))
    path = with_unit(case, B_FLUX=FLUX_UNIT, B_IVAR=IVAR_UNIT)
    assert case.classify(path).tobytes() == expected.tobytes()
    path = with_unit(case, B_FLUX="erg/s/cm2/A")
    case.refuses(path, SpectraError, r"\[R_FLUX\]: has no unit.*erg/s/cm2/A")
    path = with_unit(case, Z_IVAR="1/(erg/s/cm2/A)2")
    case.refuses(path, SpectraError, r"\[Z_IVAR\]: is in 1/\(erg.*no unit")


def test_wavelengths_in_another_unit_than_angstrom(case: Case) -> None:
    case.classify(with_unit(case, B_WAVELENGTH="Angstrom", R_WAVELENGTH="AA"))
    path = with_unit(case, B_WAVELENGTH="nm")
    case.refuses(path, SpectraError, r"\[B_WAVELENGTH\]: is in nm, .*Angstrom")
    path = with_unit(case, B_WAVELENGTH="pixel")
    case.refuses(path, SpectraError, r"\[B_WAVELENGTH\]: is in pixel, .*Angstrom")


def test_a_fits_file_without_spectra(case: Case) -> None:
    path = write_hdus(
        case.folder / "x.fits", {"DARK": np.zeros((3, 4)), "BIAS": np.eye(2)}
    )
    case.refuses(path, SpectraError, "no spectra.*DARK, BIAS")


def test_a_spectrum_of_lamost_or_of_another_survey(case: Case) -> None:
    path = write_spspec(case.folder / "spec-55859-F5902.fits", TELESCOP="LAMOST")
    case.refuses(path, SpectraError, r"spec-55859-F5902\.fits\[0\]: .*LAMOST")
    for key, name in {
        **{"TELESCOP": "ESO-VISTA", "ORIGIN": "NAOC-LAMOST"},
        **{"SURVEY": "GAMA", "INSTRUME": "WEAVE"},
    }.items():
        path = case.coadd(1)
        with fitsio.FITS(str(path), "rw") as f:
            f["B_FLUX"].write_key(key, name)
        case.refuses(path, SpectraError, rf"\[B_FLUX\]: {key}='{name}'")
    with fitsio.FITS(str(case.coadd(1)), "rw") as f:
        for key, name in {"TELESCOP": "Mayall", "SURVEY": "main"}.items():
            f["B_FLUX"].write_key(key, name)
    assert case.classify(path).size == 1


def test_tables_beside_spectra_redrock_spzbest_qn(case: Case) -> None:
    coadd = case.coadd(2)
    classify(coadd, case.model, output=case.folder / "qn.fits")
    redrock = write_hdus(
        case.folder / "redrock-0.fits", {"REDSHIFTS": fibermap_table(2)}
    )
    for path in (case.folder / "qn.fits", redrock):
        case.refuses(path, NoSpectraError, "no spectra")
        status, err = case.command(path, coadd, "--outdir", "out", "--overwrite")
        assert status == 0
        assert err.startswith(f"qnp-xp: skipped: {path}: ")


def test_images_beside_spectra_rrmodel_sky_fluxcalib(case: Case) -> None:
    case.coadd(2)
    for name, hdu in (
        ("rrmodel", "R_MODEL"),
        ("sky", "SKY"),
        ("fluxcalib", "FLUXCALIB"),
    ):
        images = {hdu: np.zeros((2, 3)), "R_WAVELENGTH": np.zeros(3)}
        path = write_hdus(case.folder / f"{name}-0.fits", images)
        case.refuses(path, NoSpectraError, f"only {hdu}")
    status, err = case.command(*sorted(case.folder.glob("*-0.fits")), "--outdir", "out")
    assert (status, err.count("holds no spectra")) == (0, 3)


def test_a_folder_without_cframes(case: Case) -> None:
    case.refuses(case.folder, IsADirectoryError, r"coadd-\*\.fits")


def test_a_missing_hdu(case: Case) -> None:
    for name in ("B_IVAR", "Z_WAVELENGTH"):
        path = case.changed(lambda hdus, name=name: hdus.pop(name))
        case.refuses(path, SpectraError, f"no HDU {name}")


def test_a_table_where_an_image_is_expected(case: Case) -> None:
    path = case.changed(lambda hdus: hdus.update(R_FLUX=fibermap_table(3)))
    case.refuses(path, SpectraError, r"\[R_FLUX\].*image")


def test_flux_and_ivar_of_different_shapes(case: Case) -> None:
    path = case.changed(lambda hdus: hdus.update(R_IVAR=np.ones((3, 7), "f4")))
    case.refuses(path, SpectraError, r"\[R_IVAR\].*\(3, 7\).*\(3, \d+\)")


def test_flux_of_one_or_three_dimensions(case: Case) -> None:
    for shape in ((138,), (1, 3, 138)):
        path = case.changed(lambda h, s=shape: h.update(B_FLUX=np.ones(s, "f4")))
        case.refuses(path, SpectraError, r"\[B_FLUX\].*2 dimensions")


def test_arms_of_different_numbers_of_spectra(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        for part in ("FLUX", "IVAR"):
            hdus[f"R_{part}"] = hdus[f"R_{part}"][:2]

    case.refuses(case.changed(edit), SpectraError, "2 spectra.*arm B.*3")


def test_a_fibermap_of_another_length(case: Case) -> None:
    path = case.changed(lambda hdus: hdus.update(FIBERMAP=fibermap_table(4)))
    case.refuses(path, SpectraError, r"\[FIBERMAP\].*4 rows.*3 spectra")


def test_columns_of_a_fibermap_of_another_kind(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        kinds = [(n, t) for n, t in hdus["FIBERMAP"].dtype.descr if n != "TARGET_RA"]
        table = np.zeros(3, [*kinds, ("TARGET_RA", "S4")])
        table["TARGET_RA"] = "12h"
        hdus["FIBERMAP"] = table

    case.refuses(case.changed(edit), SpectraError, r"\[FIBERMAP\]: column TARGET_RA")


def test_targetids_that_are_floats(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        kinds = hdus["FIBERMAP"].dtype.descr
        kinds = [(n, "f8" if n == "TARGETID" else t) for n, t in kinds]
        hdus["FIBERMAP"] = hdus["FIBERMAP"].astype(kinds)

    match = r"\[FIBERMAP\]: column TARGETID has float64"
    case.refuses(case.changed(edit), SpectraError, match)


def test_a_fibermap_under_its_old_name_coadd_fibermap(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        hdus["COADD_FIBERMAP"] = hdus.pop("FIBERMAP")

    objtype = ["TGT", "SKY", "TGT"]
    expected = case.classify(case.coadd(3, objtype=objtype))
    found = case.classify(case.changed(edit, objtype=objtype))
    assert found.tobytes() == expected.tobytes()


def test_wavelengths_of_another_length(case: Case) -> None:
    path = case.changed(lambda hdus: hdus.update(Z_WAVELENGTH=np.arange(7.0) + 8000))
    case.refuses(path, SpectraError, r"\[Z_WAVELENGTH\].*\(7,\).*flux")


def test_nan_infinite_zero_or_negative_wavelengths(case: Case) -> None:
    for value in (np.nan, np.inf, 0.0, -4000.0):

        def edit(hdus: Hdus, value: float = value) -> None:
            hdus["R_WAVELENGTH"][5] = value

        case.refuses(case.changed(edit), SpectraError, r"\[R_WAVELENGTH\].*finite")


def test_decreasing_or_unsorted_wavelengths(case: Case) -> None:
    expected = case.classify(case.coadd(3))
    for order in (slice(None, None, -1), np.random.default_rng(0).permutation(117)):

        def edit(hdus: Hdus, order: Any = order) -> None:
            for part in ("WAVELENGTH", "FLUX", "IVAR"):
                values = hdus[f"R_{part}"]
                hdus[f"R_{part}"] = np.ascontiguousarray(values[..., order])

        found = case.classify(case.changed(edit))
        for name in ("Z_QN", "C_LYA"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_a_missing_arm(case: Case) -> None:
    path = case.coadd(2, arms="BZ")
    table = case.classify(path)
    assert table["QN_STATUS"].tolist() == [Status.ARM_MISSING] * 2
    assert case.caplog.records[-1].getMessage() == f"{path}: no arm R"


def test_a_missing_arm_of_arms_that_are_coadded_to_one(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        for part in ("WAVELENGTH", "FLUX", "IVAR"):
            arms = [hdus.pop(f"{arm}_{part}") for arm in "BR"]
            hdus[f"BR_{part}"] = np.concatenate(arms, axis=-1)

    expected = case.classify(case.coadd(2, arms="BR"))
    found = case.classify(case.changed(edit, 2, arms="BR"))
    assert found["QN_STATUS"].tolist() == [Status.ARM_MISSING] * 2
    np.testing.assert_allclose(found["Z_QN"], expected["Z_QN"], rtol=1e-5)
    assert case.caplog.records[-1].getMessage().endswith("changed.fits: no arm Z")


def test_no_fibermap(case: Case) -> None:
    table = case.classify(case.coadd(2, fibermap=False))
    assert table["TARGETID"].tolist() == [-1, -1]
    assert "TARGET_RA" not in (table.dtype.names or ())


def test_no_rows(case: Case) -> None:
    hdus = coadd_hdus(0, fibermap=False)
    path = write_images_by_hand(case.folder / "empty.fits", hdus)
    assert case.classify(path).shape == (0,)


def test_integer_pixels_with_blank(case: Case) -> None:
    path = case.changed(lambda h: h.update(B_FLUX=np.round(h["B_FLUX"]).astype("i2")))
    with fitsio.FITS(str(path), "rw") as f:
        f["B_FLUX"].write_key("BLANK", -999)
    case.refuses(path, SpectraError, r"\[B_FLUX\].*BLANK")


def test_a_column_of_integers_that_tscal_or_tzero_scales(case: Case) -> None:
    path = case.file(write_spec(case.folder / "spec.fits").read_bytes(), "scaled.fits")
    content = path.read_bytes()
    table = fitsio.read(path, ext=2)
    number = 1 + list(table.dtype.names).index("THING_ID")
    start = content.rindex(f"TTYPE{number:<3}=".encode())
    end = content.index(b"END".ljust(80), start)
    card = f"TSCAL{number:<3}= 2.0".ljust(80).encode()
    path.write_bytes(
        content[:end] + card + content[end : end + 80] + content[end + 160 :]
    )
    assert fitsio.read(path, ext=2)["THING_ID"] != 2 * table["THING_ID"]
    case.refuses(path, SpectraError, "THING_ID")


def test_integer_or_scaled_pixels(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        hdus["B_FLUX"] = np.round(10 * hdus["B_FLUX"]).astype("i2")

    path = case.changed(edit)
    whole = case.changed(
        lambda hdus: hdus.update(B_FLUX=fitsio.read(path, ext="B_FLUX"))
    )
    expected = case.classify(whole)
    assert case.classify(case.changed(edit)).tobytes() == expected.tobytes()
    with fitsio.FITS(str(path), "rw") as f:
        f["B_FLUX"].write_key("BSCALE", 0.1)
        f["B_FLUX"].write_key("BZERO", 0.0)
    scaled = coadd_hdus(3, step=16.0)
    edit(scaled)
    scaled["B_FLUX"] = scaled["B_FLUX"] * 0.1
    expected = case.classify(write_hdus(case.folder / "scaled.fits", scaled))
    np.testing.assert_allclose(case.classify(path)["Z_QN"], expected["Z_QN"], rtol=1e-5)


def test_flux_in_electrons_a_frame_not_a_cframe(case: Case) -> None:
    folder = write_cframes(case.folder, coadd_hdus(2), arms="B")
    (path,) = folder.iterdir()
    with fitsio.FITS(str(path), "rw") as f:
        f["FLUX"].write_key("BUNIT", "electron/Angstrom")
    case.refuses(path, SpectraError, r"\[FLUX\].*electron/Angstrom")


def test_cframes_of_different_targets(case: Case) -> None:
    hdus = coadd_hdus(2)
    folder = write_cframes(case.folder, hdus, arms="B")
    hdus["FIBERMAP"]["TARGETID"] += 1
    write_cframes(case.folder, hdus, arms="R")
    with pytest.raises(SpectraError, match=r"cframe-r0.*targets.*cframe-b0"):
        case.classify(folder)


def test_two_files_of_one_arm(case: Case) -> None:
    (path,) = write_cframes(case.folder, coadd_hdus(2), arms="B").iterdir()
    with pytest.raises(SpectraError, match="second file of arm B"):
        case.classify([path, gzipped(path)])


def test_brackets_or_what_else_cfitsio_gives_a_meaning_in_the_name_of_a_file(
    case: Case,
) -> None:
    case.coadd(1, name="coadd.fits")  # what cfitsio would read instead
    hdus = coadd_hdus(1, step=16.0)
    hdus["FIBERMAP"]["TARGETID"] = 7
    own = write_hdus(case.folder / "own.fits", hdus)
    for name in (
        "!coadd.fits",
        "coadd.fits[1]",
        "coadd.fits+1",
        "~",
        "-",
        " coadd.fits",
    ):
        Path(name).write_bytes(own.read_bytes())
        assert case.classify(Path(name))["TARGETID"].tolist() == [7]


def test_other_letters_than_ascii_in_the_name_of_a_file(case: Case) -> None:
    path = case.coadd(1, name="coadd-é.fits")
    case.classify(path, output=case.folder / "qn.fits")
    header = fitsio.read_header(case.folder / "qn.fits", ext="QN")
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


def test_no_pixel_of_positive_ivar(case: Case) -> None:
    assert case.status(in_row(1, IVAR=0)) == [0, NONE, 0]
    assert case.status(in_row(1, IVAR=0, FLUX=np.nan)) == [0, NONE, 0]


def test_no_pixel_on_the_grid_of_the_network(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        for arm in "BRZ":
            hdus[f"{arm}_WAVELENGTH"] /= 10

    assert case.status(edit) == [NONE] * 3
    assert "are they in Angstrom?" in case.caplog.records[-1].getMessage()


def test_a_constant_spectrum(case: Case) -> None:
    assert case.status(in_row(2, FLUX=2.5)) == [0, 0, CONSTANT]
    assert case.status(in_row(2, FLUX=0)) == [0, 0, CONSTANT]


def test_numbers_that_the_network_cannot_compute_with_pixels_1e38_times_the_rms_away(
    case: Case,
) -> None:
    wave, flux, ivar = noise()
    flux[0, 300:303], ivar[:] = 3e38, 1e36
    ivar[0, 300:303] = 1e-44
    table = case.classify((wave, flux.astype("f4"), ivar.astype("f4")))
    assert table["QN_STATUS"].tolist() == [int(Status.ZERO_VARIANCE), 0]
    assert np.isnan(table["Z_QN"]).tolist() == [True, False]


def test_one_good_pixel(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        in_row(0, IVAR=0)(hdus)
        hdus["B_IVAR"][0, 7] = 1

    assert case.status(edit) == [CONSTANT | int(Status.ARM_MISSING), 0, 0]


def test_nan_or_infinite_flux_of_positive_ivar(case: Case) -> None:
    for value in (np.nan, np.inf, -np.inf):
        assert case.status(in_pixel(1, FLUX=value)) == [0, CLEANED, 0]


def test_nan_infinite_or_negative_ivar(case: Case) -> None:
    for value in (np.nan, np.inf, -np.inf, -1.0):
        assert case.status(in_pixel(1, IVAR=value)) == [0, CLEANED, 0]


def test_nan_flux_of_ivar_0(case: Case) -> None:
    assert case.status(in_pixel(1, FLUX=np.nan, IVAR=0)) == [0, 0, 0]


def test_flux_of_1e30_in_float32(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        for arm in "BRZ":
            hdus[f"{arm}_FLUX"] *= 1e30

    expected = case.classify(case.coadd(3))
    found = case.classify(case.changed(edit))
    assert found["QN_STATUS"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(found["Z_QN"], expected["Z_QN"], rtol=1e-4)


def test_flux_beyond_1e100(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        hdus["R_FLUX"] = hdus["R_FLUX"].astype("f8")
        in_pixel(1, FLUX=1e300)(hdus)

    assert case.status(edit) == [0, CLEANED, 0]


def test_an_arm_without_a_usable_pixel_in_one_row(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        hdus["Z_IVAR"][1] = 0

    assert case.status(edit) == [0, int(Status.ARM_MISSING), 0]


def test_a_bad_spectrum_among_good_ones(case: Case) -> None:
    expected = case.classify(case.coadd(3))
    for edit in (in_row(1, IVAR=0), in_row(1, FLUX=7), in_row(1, FLUX=np.inf)):
        found = case.classify(case.changed(edit))
        assert found[[0, 2]].tobytes() == expected[[0, 2]].tobytes()


def test_a_sky_fiber(case: Case) -> None:
    path = case.coadd(2, objtype=["TGT", "SKY"])
    table = case.classify(path, c_thresh=0.0)
    assert table["QN_STATUS"].tolist() == [0, Status.NOT_TARGET]
    assert table["IS_QSO_QN"].tolist() == [1, 0]
    assert np.all(np.isfinite(table["Z_QN"]))


def test_a_blank_objtype_as_desi_s_mocks_have_it(case: Case) -> None:
    table = case.classify(case.coadd(2, objtype=["", ""]), c_thresh=0.0)
    assert table["QN_STATUS"].tolist() == [0, 0]
    assert table["IS_QSO_QN"].tolist() == [1, 1]


def test_a_mask_of_sdss_that_calls_no_pixel_bad(case: Case) -> None:
    path = write_spec(case.folder / "spec.fits")
    plain = case.classify(path)
    for bit, same in ((4, True), (24, False)):  # MANYBADCOLUMNS, NODATA
        with fitsio.FITS(str(path), "rw") as f:
            mask = np.zeros(f[1].get_nrows(), dtype="i4")
            mask[::2] = 1 << bit
            f[1].write_column("AND_MASK", mask)
        found = case.classify(path, use_mask=True)
        assert (found.tobytes() == plain.tobytes()) == same


def test_weight_in_less_than_a_third_of_the_bins(case: Case) -> None:
    table = case.classify(case.coadd(arms="Z"))
    assert np.all(table["QN_STATUS"] & int(Status.LITTLE_COVERAGE))
    assert np.all(np.isfinite(table["Z_QN"]))


def test_a_quasar_that_no_template_fits_near_its_redshift_with_fit(case: Case) -> None:
    path = case.changed(lambda h: h["B_FLUX"].__imul__(1e3), n=20)
    table = case.classify(path, fit=True, c_thresh=0.0)
    lost = table["DZ_WARN"] == 1
    assert lost.any()
    assert np.isnan(table["Z_FIT"][lost]).all()
    assert np.isfinite(table["Z_QN"]).all()


# Weights files.

KERAS = Path(__file__).parent / "data" / "keras"


def refuses_weights(path: Path, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def described(case: Case, edit: Callable[[Any], None]) -> Path:
    """A network after an edit of its description."""
    target = case.folder / "net.h5"
    return copy_hdf5(KERAS / "same.h5", target, lambda model, _: edit(model))


def stored(case: Case, edit: Callable[[Any], None]) -> Path:
    """A network after an edit of its file."""
    target = case.folder / "net.h5"
    return copy_hdf5(KERAS / "same.h5", target, lambda _, f: edit(f))


def test_a_weights_file_that_does_not_exist(case: Case) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent.*leave out -m"):
        load_model(case.folder / "absent.h5")


def test_a_folder_a_device_or_a_fifo_for_weights(case: Case) -> None:
    os.mkfifo(case.folder / "net.h5")
    refuses_weights(case.folder / "net.h5", "not a regular file")
    refuses_weights(Path("/dev/zero"), "not a regular file")
    refuses_weights(case.folder, "a folder")


def test_a_file_of_more_than_256_mib_for_weights(case: Case) -> None:
    path = case.file((KERAS / "same.h5").read_bytes(), "net.h5")
    with path.open("r+b") as file:
        file.truncate((1 << 28) + 1)
    refuses_weights(path, r"268435457 bytes, .* at most 268435456")


def test_weights_that_change_while_they_are_read(case: Case) -> None:
    content = (KERAS / "same.h5").read_bytes()
    path = case.file(content, "net.h5")
    expected = load_model(path).predict(np.ones((1, 443)))
    original = _reading.open_hdf5

    def changing(*arguments: Any) -> Any:
        path.write_bytes((KERAS / "valid.h5").read_bytes())
        return original(*arguments)

    case.monkeypatch.setattr(_reading, "open_hdf5", changing)
    model = load_model(path)
    assert model.weights_sha256 == hashlib.sha256(content).hexdigest()
    np.testing.assert_array_equal(model.predict(np.ones((1, 443))), expected)


def test_a_file_that_holds_no_network(case: Case) -> None:
    refuses_weights(case.coadd(1), "neither.*HDF5.*keras")
    refuses_weights(case.file(b"", "empty.h5"), "neither.*HDF5.*keras")
    with h5py.File(case.folder / "mine.h5", "w") as f:
        f["mine"] = np.arange(9)
    refuses_weights(case.folder / "mine.h5", "not saved by Keras")


def test_a_weights_file_cut_short_anywhere(case: Case) -> None:
    for kind in ("h5", "keras"):
        content = (KERAS / f"same.{kind}").read_bytes()
        for size in range(16, len(content), len(content) // 23):
            refuses_weights(
                case.file(content[:size], f"cut.{kind}"),
                "damaged|neither an HDF5 file nor|no model_config|text of",
            )


def test_a_network_of_another_kind(case: Case) -> None:
    def edit(model: Any) -> None:
        entry = layer(model, "conv_2")
        entry["class_name"] = "LSTM"

    refuses_weights(described(case, edit), r"layer 'conv_2' \(LSTM\)")


def test_a_setting_of_a_layer_or_an_argument_of_its_call_that_is_not_understood(
    case: Case,
) -> None:
    def first(model: Any) -> None:
        layer(model, "flatten")["config"]["data_format"] = "channels_first"

    def second(model: Any) -> None:
        layer(model, "dropout_1")["inbound_nodes"][0]["kwargs"]["training"] = True

    refuses_weights(described(case, first), "'flatten'.*data_format='channels_first'")
    refuses_weights(described(case, second), "'dropout_1'.*training=True")


def test_arrays_that_no_layer_should_have_or_of_integers(case: Case) -> None:
    def first(f: Any) -> None:
        f["model_weights/conv_2/conv_2/kernel_scale"] = np.ones(4, "f4")

    refuses_weights(stored(case, first), "'conv_2'.*kernel_scale")
    second = hostile.replaced(hostile.KERNEL, hostile.of_type("i1"))
    refuses_weights(stored(case, second), "'conv_2'.*'kernel' has type int8")


def test_arrays_that_contradict_the_description(case: Case) -> None:
    def edit(model: Any) -> None:
        layer(model, "conv_2")["config"]["filters"] += 1

    refuses_weights(described(case, edit), r"layer 'conv_2' .*\(10, 4, 4\)")


def test_weights_that_are_not_finite(case: Case) -> None:
    for value in (np.nan, np.inf):

        def edit(f: Any, value: float = value) -> None:
            f[hostile.KERNEL][3, 1, 2] = value

        refuses_weights(stored(case, edit), "layer 'conv_2'.*finite")


def test_another_number_of_bins_than_the_grid_has(case: Case) -> None:
    def edit(f: Any) -> None:
        f["model_grid"] = np.linspace(3600, 9000, 442)

    refuses_weights(stored(case, edit), r"model_grid.*\(442,\).* 443")


def test_wave_of_another_grid_than_the_file_holds(case: Case) -> None:
    path = stored(case, lambda f: f.__setitem__("model_grid", wave))
    for other in (linear_wave, wave[:-1], wave + 1):
        with pytest.raises((WeightsError, ValueError), match=r"net\.h5.*443"):
            load_model(path, wave=other)
    np.testing.assert_array_equal(load_model(path, wave=wave).wave, wave)


def test_a_grid_without_constant_spacing_also_for_embed_grid_and_convert(
    case: Case,
) -> None:
    path = stored(case, lambda _: None)
    case.monkeypatch.setattr(_convert, "import_onnx", lambda: None)
    bad = np.linspace(3600, 9000, 443) ** 1.1
    target = case.folder / "new.onnx"
    for use in (
        lambda: load_model(path, wave=bad),
        lambda: embed_grid(path, target, bad),
        lambda: convert(path, target, wave=bad),
    ):
        with pytest.raises(ValueError, match="spacing"):
            use()
    assert not target.exists()


def test_a_threshold_in_the_file_that_is_no_number_from_0_to_1_unknown_lines_or_too_few(
    case: Case,
) -> None:
    for name, value in (
        ("c_thresh", 1.5),
        ("c_thresh", "high"),
        ("c_thresh", np.nan),
        ("lines", "LYA,NoSuchLine"),
        ("lines", "LYA"),
    ):
        path = stored(case, lambda f, n=name, v=value: f.attrs.__setitem__(n, v))
        refuses_weights(path, name)


def test_weights_that_are_converted_over_themselves_or_over_what_is_there(
    case: Case,
) -> None:
    path = stored(case, lambda _: None)
    before = path.read_bytes()
    there = case.file(b"mine", "new.onnx")
    for target, overwrite, match in (
        (path, True, "net.h5 is an input"),
        (there, False, "new.onnx exists"),
    ):
        with pytest.raises((FileExistsError, ValueError), match=match):
            convert(path, target, overwrite=overwrite)
    assert (path.read_bytes(), there.read_bytes()) == (before, b"mine")


def test_a_converted_file_that_would_compute_another_network(case: Case) -> None:
    def run(_: Path, x: np.ndarray) -> np.ndarray:
        return np.zeros((len(x), 2, 26))

    content = SimpleNamespace(SerializeToString=lambda: b"onnx")
    for name, stand_in in (
        ("import_onnx", lambda: None),
        ("onnx_network", lambda *_: content),
        ("run_onnx", run),
    ):
        case.monkeypatch.setattr(_convert, name, stand_in)
    target = case.folder / "new.onnx"
    path = stored(case, lambda _: None)
    with pytest.raises(WeightsError, match=r"net\.h5.*new\.onnx would differ by \d"):
        convert(path, target)
    assert not target.exists()


def test_convert_without_keras_pytorch_or_onnx_or_with_keras_on_another_library(
    case: Case,
) -> None:
    path = stored(case, lambda _: None)
    case.monkeypatch.setenv("KERAS_BACKEND", "torch")
    for library, suffix, extra in (
        ("keras", ".keras", "train"),
        ("onnx", ".onnx", "onnx"),
    ):
        case.monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(MissingLibraryError, match=rf"pip install '\.\[{extra}\]'"):
            convert(path, case.folder / f"new{suffix}")
    case.monkeypatch.delitem(sys.modules, "keras")
    case.monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(MissingLibraryError, match="KERAS_BACKEND=torch"):
        convert(path, case.folder / "new.keras")


def test_a_lambda_other_than_quasarnet_s_own(case: Case) -> None:
    def edit(model: Any) -> None:
        for entry in model["config"]["layers"]:
            if entry["class_name"] == "Lambda":
                code = marshal.dumps((lambda x: 1.2 - 0.1 * x).__code__)
                text = base64.b64encode(code).decode()
                entry["config"]["function"]["config"]["code"] = text

    target = case.folder / "net.h5"
    path = copy_hdf5(KERAS / "lambda_k3.h5", target, lambda model, _: edit(model))
    refuses_weights(path, "Lambda.*Rescaling")


def test_a_link_or_storage_that_leads_out_of_the_hdf5_file(case: Case) -> None:
    makers = [hostile.as_soft_link, hostile.as_external_link, hostile.in_another_file]
    for make in (*makers, hostile.in_another_dataset):
        path = stored(case, hostile.replaced(hostile.KERNEL, make))
        refuses_weights(path, "not followed")


def test_arrays_of_text_of_objects_or_of_references(case: Case) -> None:
    for dtype in (h5py.string_dtype(), "S4", h5py.ref_dtype, "c8"):
        path = stored(case, hostile.replaced(hostile.KERNEL, hostile.of_type(dtype)))
        refuses_weights(path, "numbers")


def test_an_array_that_claims_or_unpacks_to_more_than_the_network_needs(
    case: Case,
) -> None:
    for make in (hostile.without_storage, hostile.packed_zeros, hostile.packed_bomb):
        refuses_weights(
            stored(case, hostile.replaced(hostile.KERNEL, make)),
            "layer .conv_2.|conv_2/kernel",
        )


def test_an_archive_that_unpacks_to_more_than_its_network_needs(case: Case) -> None:
    source, target = KERAS / "same.keras", case.folder / "net.keras"
    for member in ("config.json", "model.weights.h5"):
        path = hostile.bomb(source, target, member, b"\0")
        refuses_weights(path, member)


def test_a_description_of_an_absurd_network(case: Case) -> None:
    refuses_weights(described(case, hostile.absurd), "16777216")


def test_layers_in_a_circle(case: Case) -> None:
    def edit(model: Any) -> None:
        layer(model, "conv_1")["inbound_nodes"] = layer(model, "conv_2")[
            "inbound_nodes"
        ]

    refuses_weights(described(case, edit), "cycle")


def test_hdf5_structures_that_lead_back_to_themselves(case: Case) -> None:
    content = bytearray((KERAS / "same.h5").read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 32] = bytes(16)  # an object of no number and no size
    refuses_weights(case.file(bytes(content), "net.h5"), r"text of \d+ bytes.* 0 ")


def test_hdf5_structures_that_are_shared_to_take_for_ever(case: Case) -> None:
    places, content = 20_000, (KERAS / "same.h5").read_bytes()
    chain = [struct.pack("<QQ", 16 * (i + 1), 16) for i in range(places - 1)]
    chain.append(struct.pack("<QQ", 1, 16))
    head = struct.pack("<5s3xQQQ", b"HEAP\0", 16 * places, 0, len(content))
    path = case.file(content + b"".join(chain) + 10_000 * head, "net.h5")
    start = time.process_time()
    refuses_weights(path, "free list of the heap")
    assert time.process_time() - start < 10


def test_the_state_of_an_optimizer_in_the_file(case: Case) -> None:
    def edit(f: Any) -> None:
        f["optimizer_weights/adam/kernel/m"] = np.zeros((10, 4, 4))
        f["optimizer_weights"].attrs["weight_names"] = [b"adam/kernel/m"]

    expected = load_model(KERAS / "same.h5").predict(np.ones((1, 443)))
    found = load_model(stored(case, edit)).predict(np.ones((1, 443)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# Arrays and arguments.

WAVE = np.linspace(3600, 9800, 600)


def noise(n: int = 2) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(3)
    return WAVE, rng.normal(size=(n, WAVE.size)), rng.uniform(1, 2, (n, WAVE.size))


def test_big_endian_arrays(case: Case) -> None:
    expected = case.classify(noise())
    found = case.classify([x.astype(">f8") for x in noise()])
    assert found.tobytes() == expected.tobytes()


def test_arrays_that_are_not_contiguous_or_cannot_be_written_to(case: Case) -> None:
    wave, flux, ivar = noise()
    flux[0, 3] = np.nan
    expected = case.classify((wave, flux, ivar))
    columns = np.asfortranarray(flux)
    columns.setflags(write=False)
    strided = np.repeat(ivar, 2, axis=0)[::2]
    copies = [columns.copy(), strided.copy()]
    found = case.classify((wave, columns, strided))
    assert found.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(columns, copies[0])
    np.testing.assert_array_equal(strided, copies[1])


def test_integer_arrays(case: Case) -> None:
    wave, flux, ivar = noise()
    flux, ivar = np.round(9 * flux), np.round(9 * ivar)
    expected = case.classify((wave, flux, ivar))
    found = case.classify((wave, flux.astype(int), ivar.astype("u1")))
    assert found.tobytes() == expected.tobytes()


def test_complex_boolean_string_or_object_arrays(case: Case) -> None:
    wave, flux, ivar = noise()
    for bad in (flux + 1j, flux > 0, flux.astype(str), flux.astype(object)):
        case.refuses((wave, bad, ivar), TypeError, "arm 0: flux.*real")
        case.refuses((wave, flux, bad), TypeError, "arm 0: ivar.*real")
    for bad in (wave + 1j, wave > 0, wave.astype(str), wave.astype(object)):
        case.refuses((bad, flux, ivar), TypeError, "arm 0: wavelengths.*real")


def test_lists_of_different_lengths(case: Case) -> None:
    wave, flux, ivar = noise()
    ragged = [flux[0].tolist(), flux[1, :-1].tolist()]
    case.refuses((wave, ragged, ivar), TypeError, "arm 0: flux")
    case.refuses(([[1.0], [1.0, 2.0]], flux, ivar), TypeError, "arm 0: wavelengths")


def test_masked_arrays(case: Case) -> None:
    wave, flux, ivar = noise()
    hidden = np.arange(wave.size) % 9 == 0
    expected = case.classify((wave, flux, np.where(hidden, 0, ivar)))
    mask = np.broadcast_to(hidden, flux.shape)
    for masked in (
        (np.ma.array(wave, mask=hidden), flux, ivar),
        (wave, np.ma.array(flux, mask=mask), ivar),
        (wave, flux, np.ma.array(ivar, mask=mask)),
    ):
        assert case.classify(masked).tobytes() == expected.tobytes()


def test_something_that_holds_no_spectra(case: Case) -> None:
    for thing in (None, 3, [], {}, WAVE, (WAVE, WAVE), b"coadd.fits", [None]):
        case.refuses(thing, TypeError, "expected a file")


def test_arrays_of_shapes_that_do_not_fit(case: Case) -> None:
    wave, flux, ivar = noise()
    case.refuses((wave[1:], flux, ivar), SpectraError, r"\(599,\).*flux")
    case.refuses((wave, flux, ivar[:1]), SpectraError, r"\(1, 600\).*\(2, 600\)")
    case.refuses((wave, flux[None], ivar[None]), SpectraError, "2 dimensions")
    arms = [(wave, flux, ivar), (wave, flux[:1], ivar[:1])]
    case.refuses(arms, SpectraError, "1 spectra.*arm 0.*2")


def test_array_functions_with_shapes_that_do_not_fit(case: Case) -> None:
    flux = np.ones((5, 443))
    with pytest.raises(ValueError, match=r"ivar.*\(5, 442\).*n=5, nbins=443"):
        renormalize(flux, flux[:, 1:])
    preds = [np.ones((3, 26)) for _ in range(6)]
    with pytest.raises(ValueError, match=r"preds\[6\].*\(2, 26\).*n=3"):
        process_preds([*preds, np.ones((2, 26))], LINES, LINES_BAL)


def test_a_list_of_one_dimensional_spectra_that_share_their_wavelengths(
    case: Case,
) -> None:
    wave, flux, ivar = noise(3)
    found = case.classify([(wave, f, i) for f, i in zip(flux, ivar, strict=True)])
    assert found.tobytes() == case.classify((wave, flux, ivar)).tobytes()


def test_a_list_of_several_spectra_each_that_share_their_wavelengths(
    case: Case,
) -> None:
    match = r"\(n, npix\).*exposures.*concatenate"
    case.refuses([noise(), noise()], SpectraError, match)


FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"


def test_spectra_in_jansky_or_electrons_with_a_unit(case: Case) -> None:
    wave, flux, ivar = noise()
    for name in ("Jy", "electron"):
        spectra = (wave, quantity(flux, name), ivar)
        case.refuses(spectra, SpectraError, f"flux.* {name}")


def in_two_arms(unit: str, factor: float, of_ivar: str | None = None) -> list[Any]:
    """Noise in two arms, the second of them in another unit."""
    wave, flux, ivar = noise()
    blue, red = slice(0, 300), slice(300, 600)
    flux_red, ivar_red = flux[:, red] * factor, ivar[:, red] / factor**2
    return [
        (wave[blue], quantity(flux[:, blue], FLUX_UNIT), ivar[:, blue]),
        (
            wave[red],
            quantity(flux_red, unit) if unit else flux_red,
            quantity(ivar_red, of_ivar) if of_ivar else ivar_red,
        ),
    ]


def test_flux_in_several_units(case: Case) -> None:
    expected = case.classify(in_two_arms(FLUX_UNIT, 1.0))
    unit = "erg / (s cm2 Angstrom)"
    for of_ivar in (None, "cm4 Angstrom2 s2 / erg2"):
        found = case.classify(in_two_arms(unit, 1e-17, of_ivar))
        np.testing.assert_allclose(found["Z_QN"], expected["Z_QN"], rtol=1e-5)
        np.testing.assert_allclose(found["C_LYA"], expected["C_LYA"], rtol=1e-4)


def test_ivar_in_a_unit_that_is_not_that_of_the_flux(case: Case) -> None:
    spectra = in_two_arms(FLUX_UNIT, 1.0, "ct")
    case.refuses(spectra, SpectraError, r"arm 1: ivar is in ct.*1e-17 erg")


def test_flux_with_a_unit_beside_flux_without(case: Case) -> None:
    case.refuses(in_two_arms("", 1.0), SpectraError, "arm 1: flux has no unit")


def test_wavelengths_in_nm_or_micron_with_a_unit(case: Case) -> None:
    wave, flux, ivar = noise()
    expected = case.classify((wave, flux, ivar))
    for unit, factor in (("nm", 10), ("micron", 1e4)):
        found = case.classify((quantity(wave / factor, unit), flux, ivar))
        np.testing.assert_allclose(found["Z_QN"], expected["Z_QN"], rtol=1e-5)


def test_wavelengths_in_hz_with_a_unit(case: Case) -> None:
    wave, flux, ivar = noise()
    spectra = (quantity(3e18 / wave, "Hz"), flux, ivar)
    case.refuses(spectra, SpectraError, "arm 0: wavelengths are in Hz")


def test_columns_of_astropy_and_pandas(case: Case) -> None:
    class Column:
        def __init__(self, values: Any, unit: str | None) -> None:
            self.values, self.unit, self.shape = values, unit, values.shape

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return self.values

    wave, flux, ivar = noise()
    columns = Column(wave / 10, "nm"), Column(flux[0], FLUX_UNIT), Column(ivar[0], None)
    expected = case.classify((wave, flux[0], ivar[0]))
    found = case.classify(columns)
    np.testing.assert_allclose(found["Z_QN"], expected["Z_QN"], rtol=1e-5)


def test_the_mask_of_a_spectrum_of_specutils(case: Case) -> None:
    wave, flux, ivar = noise()
    mask = np.arange(wave.size) % 9 == 0
    spectrum = SimpleNamespace(
        wavelength=wave,
        flux=flux[0],
        uncertainty=SimpleNamespace(array=ivar[0], uncertainty_type="ivar"),
        mask=mask,
    )
    for use_mask, weight in ((False, ivar[0]), (True, np.where(mask, 0, ivar[0]))):
        expected = case.classify((wave, flux[0], weight))
        found = case.classify(spectrum, use_mask=use_mask)
        assert found.tobytes() == expected.tobytes()


def test_records_without_ivar(case: Case) -> None:
    record = {"wavelength": WAVE, "flux": WAVE}
    case.refuses([record], SpectraError, r"record 0.*ivar.*retrieve\(")


def test_records_that_sparcl_does_not_have(case: Case) -> None:
    missing = {"sparcl_id": None, "specid": None, "_dr": "DESI-DR1"}
    table = case.classify([missing])
    assert table["QN_STATUS"].tolist() == [Status.NO_GOOD_PIXEL]
    assert np.isnan(table["Z_QN"]).tolist() == [True]
    assert case.classify(SimpleNamespace(records=[])).shape == (0,)


def test_rows_beyond_the_last_or_a_mask_of_another_length(case: Case) -> None:
    path = case.coadd(3)
    for rows in ([3], [-4], [True, False]):
        with pytest.raises(ValueError, match="3 rows"):
            case.classify(path, rows=rows)


def test_rows_of_zeros_and_ones_that_could_be_either(case: Case) -> None:
    with pytest.raises(ValueError, match="boolean mask"):
        case.classify(case.coadd(2), rows=[0, 1])


def test_rows_or_targetids_that_are_no_integers(case: Case) -> None:
    path = case.coadd(3)
    for rows in ("all", 1.5, [[0]], {1}):
        with pytest.raises(ValueError, match=r"rows.*1 dimension"):
            case.classify(path, rows=rows)
    for option in ({"rows": [0.5]}, {"targetids": [1.5]}, {"targetids": ["a"]}):
        with pytest.raises(TypeError, match=r"must be (boolean or )?integer"):
            case.classify(path, **option)


def test_targetids_without_a_sign(case: Case) -> None:
    path = case.coadd(3)
    known = fibermap_table(3)["TARGETID"]
    others = known[0] + 10**6 * np.arange(1, 20)
    asked = np.array([known[1], *others], dtype=np.uint64)
    assert case.classify(path, targetids=asked)["TARGETID"].tolist() == [known[1]]
    with pytest.raises(ValueError, match=r"targetids has 18446744073709551615"):
        case.classify(path, targetids=np.array([2**64 - 1], dtype=np.uint64))


def test_rows_and_targetids_together(case: Case) -> None:
    with pytest.raises(ValueError, match="both"):
        case.classify(case.coadd(3), rows=[0], targetids=[1])


def test_targetids_that_are_in_no_file(case: Case) -> None:
    path = case.coadd(3)
    assert case.classify(path, targetids=[5]).shape == (0,)
    status, err = case.command(path, "--targetids", "5,7")
    assert (status, err) == (1, "qnp-xp: error: 2 TARGETIDs are in no file, 5 first\n")


def test_thresholds_or_batch_sizes_out_of_range(case: Case) -> None:
    path = case.coadd(1)
    for name, values in {
        "c_thresh": (-0.1, 1.1, np.nan),
        "n_thresh": (0, -1, 1.5, np.inf, np.nan, 10**30),
        "batch_size": (0, -1, 1.5, 10**30, 10**400),
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=f"{name} must be"):
                case.classify(path, **{name: value})


def test_thresholds_batch_sizes_or_flags_of_another_type(case: Case) -> None:
    path = case.coadd(1)
    for name in ("c_thresh", "n_thresh", "batch_size", "use_mask", "coadd"):
        for value in ("1", None, [1], np.complex64(1)):
            if (name, value) == ("c_thresh", None):
                continue  # the network's own
            with pytest.raises(TypeError, match=f"{name} must be"):
                case.classify(path, **{name: value})


def test_templates_for_fit_that_are_none_or_damaged(case: Case) -> None:
    path = case.coadd(1)
    basis = data_file(QUASAR_BASIS).read_bytes()
    for file, match in (
        (path, r"coadd-0\.fits: has 0 sets of templates"),
        (case.file(basis[:-9000], "cut.fits"), r"cut\.fits.*cut short"),
    ):
        with pytest.raises(SpectraError, match=match):
            case.classify(path, fit=file)
    with pytest.raises(TypeError, match="fit must be"):
        case.classify(path, fit=3)


def test_redrock_s_templates_that_are_not_there_for_fit(case: Case) -> None:
    case.monkeypatch.delenv("RR_TEMPLATE_DIR", raising=False)
    with pytest.raises(ValueError, match="RR_TEMPLATE_DIR is not set"):
        case.classify(case.coadd(1), fit="redrock")
    case.monkeypatch.setenv("RR_TEMPLATE_DIR", str(case.folder))
    status, err = case.command(case.folder / "coadd-0.fits", "--fit-basis", "redrock")
    assert status == 1
    assert re.search("rrtemplate-QSO-LOZ.*RR_TEMPLATE_DIR", err)


def test_an_unknown_device_or_dtype(case: Case) -> None:
    for name in ("device", "dtype"):
        for value in ("tpu", 3, None):
            with pytest.raises(ValueError, match=f"{name}=.*not one of"):
                classify(case.coadd(1), case.weights, **{name: value})


def test_a_device_that_the_library_does_not_have(case: Case) -> None:
    strict = pytest.importorskip("array_api_strict")
    for device in ("device7", "gpu", 3):
        with pytest.raises(DeviceError, match=f"array_api_strict .*device {device!r}"):
            load_model(case.weights, device, xp=strict)


def test_a_library_that_follows_no_standard_or_dask(case: Case) -> None:
    for name, match in (("mlx.core", r"xp=mlx\.core"), ("dask.array", "map_blocks")):
        with pytest.raises(DeviceError, match=match):
            load_model(case.weights, xp=ModuleType(name))


def test_float64_on_a_device_that_has_none(case: Case) -> None:
    strict = pytest.importorskip("array_api_strict")
    where = {"device": strict.Device("no_float64"), "xp": strict}
    with pytest.raises(DeviceError, match=r"dtype='float64'.*no_float64"):
        load_model(case.weights, dtype="float64", **where)
    table = classify(case.coadd(), load_model(case.weights, **where))
    expected = case.classify(case.coadd(name="coadd-1.fits"))
    np.testing.assert_allclose(table["Z_QN"], expected["Z_QN"], rtol=3e-6)


def test_names_that_no_file_can_have(case: Case) -> None:
    for name in ("", "a\0b"):
        case.refuses(name, ValueError, "spectra must be the name of a file")
        with pytest.raises(ValueError, match="output must be the name of a file"):
            case.classify(case.coadd(1), output=name)
    with pytest.raises(TypeError, match="output must be the name of a file, got 5"):
        case.classify(case.coadd(1), output=5)
    case.refuses(".", IsADirectoryError, "a folder without cframes")


def test_a_gpu_where_there_is_none(case: Case) -> None:
    case.monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"CuPy.*not installed"):
        classify(case.coadd(1), case.weights, device="gpu")


def without_compat(case: Case, code: str) -> str:
    """Run code without array-api-compat, and return its output or its last error."""
    code = f"import sys; sys.modules['array_api_compat'] = None\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(case.coadd(3)), str(case.weights)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout or done.stderr.strip().splitlines()[-1]


def test_no_array_api_compat_with_numpy_2_1_or_later(case: Case) -> None:
    if not hasattr(np, "__array_namespace_info__"):
        pytest.skip("numpy is older than 2.1")
    code = "from qnp_xp import classify; print(classify(*sys.argv[1:])[{}].tolist())"
    expected = case.classify(case.coadd(3))["Z_QN"].tolist()
    assert without_compat(case, code.format("'Z_QN'")) == f"{expected}\n"
    code = "sys.modules['cupy'] = sys; from qnp_xp import classify;"
    code += "classify(*sys.argv[1:], device='gpu')"
    found = without_compat(case, code)
    assert found.startswith("qnp_xp.errors.DeviceError: CuPy needs array-api-compat")
    assert "pip install --user array-api-compat" in found


def test_no_array_api_compat_with_an_older_numpy(case: Case) -> None:
    code = "import numpy; vars(numpy).pop('__array_namespace_info__', None)"
    found = without_compat(case, f"{code}; import qnp_xp")
    assert found.startswith("ImportError: qnp_xp needs array-api-compat, or numpy 2.1")
    assert found.endswith("pip install --user array-api-compat")


def test_a_model_that_is_none(case: Case) -> None:
    for model in (3, {}, b"network.h5", case.model.network):
        with pytest.raises(TypeError, match="model must be"):
            classify(case.coadd(1), model)  # type: ignore[arg-type]


def test_input_of_predict_of_another_shape_or_type(case: Case) -> None:
    for shape in ((443,), (2, 442), (2, 443, 2), ()):
        with pytest.raises(ValueError, match=r"\(n, 443\)"):
            case.model.predict(np.zeros(shape))
    for bad in (None, "x", np.zeros((2, 443), complex), np.zeros((2, 443), object)):
        with pytest.raises(TypeError, match="real numbers"):
            case.model.predict(bad)


def test_an_output_grid_that_is_neither_linear_nor_logarithmic(case: Case) -> None:
    path = case.coadd(1)
    for grid in ([1, 2, 4, 9], [], 3, [np.nan, 1], [3, 2, 1], [0, 0]):
        with pytest.raises(ValueError, match="grid"):
            load_desi_coadd(path, out_grid=grid)
    with pytest.raises(TypeError, match="Angstrom"):
        load_desi_coadd(path, out_grid="log")  # type: ignore[arg-type]


def test_unknown_lines_or_too_few(case: Case) -> None:
    with pytest.raises(ValueError, match=r"line 'x'.*known.*AlII"):
        load_model(case.weights, lines=["x"])
    with pytest.raises(ValueError, match=r"7 outputs.*lines_bal name 1 "):
        load_model(case.weights, lines=["LYA"])


def test_a_spectrograph_that_does_not_exist(case: Case) -> None:
    for number in (-1, 10, "0", None):
        with pytest.raises(ValueError, match=r"spec_number.*0 to 9"):
            load_desi_exposure(case.folder, number)  # type: ignore[arg-type]


# Outputs.


def test_an_output_that_exists(case: Case) -> None:
    output = case.file(b"mine", "qn.fits")
    with pytest.raises(FileExistsError, match=r"qn\.fits exists"):
        case.classify(case.folder / "absent.fits", output=output)
    assert output.read_bytes() == b"mine"


def test_brackets_in_the_name_of_an_output(case: Case) -> None:
    path = case.coadd(2).rename(case.folder / "coadd-1 (1)[2].fits")
    assert case.command(path) == (0, "")
    assert (case.folder / "qn-1 (1)[2].fits").read_bytes().startswith(b"SIMPLE")


def test_an_output_that_is_an_input(case: Case) -> None:
    path = case.coadd(1)
    for spectra, model in ((path, case.model), (case.folder / "absent.fits", path)):
        with pytest.raises(ValueError, match=r"coadd-0\.fits.*input"):
            classify(spectra, model, output=path, overwrite=True)


def test_an_output_in_a_folder_that_does_not_exist(case: Case) -> None:
    with pytest.raises(NotADirectoryError, match="no such folder"):
        case.classify(
            case.folder / "absent.fits", output=case.folder / "no" / "qn.fits"
        )


def test_an_output_that_is_a_folder(case: Case) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        case.classify(case.folder / "absent.fits", output=case.folder, overwrite=True)


def test_an_output_that_is_a_device_or_a_pipe(case: Case) -> None:
    os.mkfifo(case.folder / "pipe")
    for output in (Path("/dev/null"), case.folder / "pipe"):
        with pytest.raises(OSError, match=rf"{output} is a device or a pipe"):
            case.classify(case.folder / "absent.fits", output=output, overwrite=True)
        assert case.command(case.coadd(1), "-o", output, "--resume")[0] == 1
        assert output.exists()
        assert not output.is_file()


def test_an_output_that_is_a_link(case: Case) -> None:
    (case.folder / "far").mkdir()
    link = case.folder / "qn.fits"
    link.symlink_to("far/table.fits")
    path = case.coadd(2)
    for option in ((), ("--overwrite",), ("--resume",)):
        assert case.command(path, "-o", link, *option)[0] == 0
        assert len(fitsio.read(case.folder / "far" / "table.fits", ext="QN")) == 2
        assert link.is_symlink()
        assert names(case.folder / "far") == ["table.fits"]


def test_a_folder_that_cannot_be_written_to(case: Case) -> None:
    # The super-user may write everywhere, but for what the kernel keeps.
    folder = Path("/proc") if os.geteuid() == 0 else case.folder / "locked"
    if os.geteuid():
        folder.mkdir(mode=0o500)
    before = names(folder) if folder.name == "locked" else []
    with pytest.raises(OSError, match=re.escape(str(folder / "qn.fits"))):
        case.classify(case.coadd(1), output=folder / "qn.fits")
    assert before == []
    assert not (folder / "qn.fits").exists()


def test_a_full_disk(case: Case) -> None:
    path = case.coadd(60)

    options = ["-m", case.weights, "--outdir", case.folder / "out"]

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
    output = case.folder / "out" / "qn-0.fits"
    assert done.stderr == f"qnp-xp: error: {path}: {output}: File too large\n"
    assert names(case.folder / "out") == []


@interruptible()
def test_an_interrupt_sigterm_or_sighup(case: Case) -> None:
    path = case.coadd(1)
    original = Path.write_bytes
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):

        def signalled(self: Path, content: bytes, number: int = number) -> None:
            original(self, content)
            os.kill(os.getpid(), number)

        case.monkeypatch.setattr(Path, "write_bytes", signalled)
        assert case.command(path, "--outdir", "out")[0] == 128 + number
        assert names(case.folder / "out") == []


def test_a_run_that_was_killed(case: Case) -> None:
    paths = [case.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
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
    arguments = [
        "classify",
        *map(str, paths),
        "-m",
        str(case.weights),
        "--outdir",
        "out",
    ]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    left = names(case.folder / "out")
    assert len(left) == 2  # a whole table, and a folder with a part of the next
    assert left[1] == "qn-0.fits"
    os.utime(case.folder / "out" / left[0], (0, 0))  # a day later
    status, err = case.command(*paths, "--outdir", "out", "--resume")
    assert (status, err) == (0, "")
    assert names(case.folder / "out") == ["qn-0.fits", "qn-1.fits", "qn-2.fits"]


def test_a_bad_file_among_others(case: Case) -> None:
    paths = [case.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    paths[1].write_bytes(b"SIMPLE  =                    T")
    status, err = case.command(*paths, "--outdir", "out")
    assert status == 1
    first, last = err.splitlines()
    assert first.startswith(f"qnp-xp: error: {paths[1]}: not a FITS file")
    assert last == "qnp-xp: error: 1 of 3 inputs failed"
    assert names(case.folder / "out") == ["qn-0.fits", "qn-2.fits"]


def test_a_process_of_nproc_that_is_killed(case: Case) -> None:
    paths = [case.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
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
    script = case.folder / "script.py"
    script.write_text(code)
    arguments = [
        "classify",
        *map(str, paths),
        "-m",
        str(case.weights),
        "--outdir",
        "out",
    ]
    done = subprocess.run(
        [sys.executable, script, *arguments, "--nproc", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"error: {paths[1]}: the process that worked on it died" in done.stderr
    assert names(case.folder / "out") == ["qn-0.fits", "qn-2.fits"]


def test_an_error_that_nobody_foresaw_in_one_file(case: Case) -> None:
    paths = [case.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    original = jobs.classify_file

    def surprising(files: Any, *args: Any, **kwargs: Any) -> Any:
        if files == (paths[1],):
            msg = "by nothing"
            raise ZeroDivisionError(msg)
        return original(files, *args, **kwargs)

    case.monkeypatch.setattr(jobs, "classify_file", surprising)
    status, err = case.command(*paths, "--outdir", "out")
    assert status == 1
    assert f"error: {paths[1]}: ZeroDivisionError: by nothing" in err
    assert names(case.folder / "out") == ["qn-0.fits", "qn-2.fits"]


def test_tables_of_other_weights_or_settings_or_of_the_same_targets_in_merge(
    case: Case,
) -> None:
    path = case.coadd(2)
    for name, threshold in (("a", 0.5), ("b", 0.5), ("c", 0.8)):
        case.classify(path, output=case.folder / f"{name}.fits", c_thresh=threshold)
    for others, match in (
        ("b", r"2 TARGETIDs are in several rows: \d+ \(coadd-0\.fits\)"),
        ("c", r"c\.fits: .*0\.8, and .*0\.5"),
    ):
        case.capsys.readouterr()
        assert cli.main(["merge", "all.fits", "a.fits", f"{others}.fits"]) == 1
        assert re.search(match, case.capsys.readouterr().err)
        assert not (case.folder / "all.fits").exists()


def test_copies_of_a_table_without_targetids_in_merge(case: Case) -> None:
    path = case.coadd(2, fibermap=False)
    case.classify(path, output=case.folder / "a.fits")
    case.file((case.folder / "a.fits").read_bytes(), "b.fits")
    assert cli.main(["merge", "all.fits", "a.fits", "b.fits"]) == 1
    assert "a.fits and b.fits: of the same spectra" in case.capsys.readouterr().err
    assert not (case.folder / "all.fits").exists()


def test_a_table_with_columns_of_another_kind_in_merge_and_plot_summary(
    case: Case,
) -> None:
    case.classify(case.coadd(2), output=case.folder / "a.fits")
    table, header = fitsio.read(case.folder / "a.fits", ext="QN", header=True)
    floats = [
        (k, "f8" if k == "TARGETID" else table.dtype[k]) for k in table.dtype.names
    ]
    fitsio.write("b.fits", table.astype(floats), extname="QN", header=header)
    for command in (["merge", "all.fits", "b.fits"], ["plot", "--summary", "b.fits"]):
        assert cli.main(command) == 1
        err = case.capsys.readouterr().err
        assert "b.fits[QN]: column TARGETID has float64" in err


def test_a_table_of_classify_as_the_output_of_merge(case: Case) -> None:
    for i in range(2):
        path = case.coadd(2, name=f"coadd-{i}.fits")
        case.classify(path, output=case.folder / f"qn-{i}.fits")
    before = (case.folder / "qn-0.fits").read_bytes()
    for option in ((), ("--overwrite",)):
        assert cli.main(["merge", "qn-0.fits", "qn-1.fits", *option]) == 1
        assert "qn-0.fits: written by classify" in case.capsys.readouterr().err
        assert (case.folder / "qn-0.fits").read_bytes() == before


def test_two_inputs_of_one_output(case: Case) -> None:
    (case.folder / "a").mkdir()
    paths = [case.coadd(1), case.coadd(1, name="a/coadd-0.fits")]
    status, err = case.command(*paths, "--outdir", "out")
    assert status == 1
    assert "several inputs would be written to" in err
    assert list(case.folder.rglob("qn-*")) == []


def test_two_outputs_of_one_file_by_links_or_spelling(case: Case) -> None:
    (case.folder / "link.fits").symlink_to("qn.fits")
    for other in (case.folder / "qn.fits", "link.fits"):
        status, err = case.command("absent.fits", "-o", "qn.fits", "--priors", other)
        assert status == 1
        assert "qn.fits: outputs need files of their own" in err


def test_a_file_that_is_named_twice(case: Case) -> None:
    path = case.coadd(2)
    assert case.command(path, path.name, "--outdir", "out") == (0, "")
    assert len(fitsio.read(case.folder / "out" / "qn-0.fits", ext="QN")) == 2


def test_a_table_of_another_input_with_resume(case: Case) -> None:
    path = case.coadd(2)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    assert case.command(path, "-o", "qn.fits") == (0, "")
    before = fitsio.read(case.folder / "qn.fits", ext="QN")["Z_QN_CONF"]
    for other in (path, case.coadd(2, name="other.fits", seed=2)):
        case.coadd(2, name=other.name, seed=1 + (other == path))
        os.utime(other, ns=times)
        assert case.command(other, "-o", "qn.fits", "--resume") == (0, "")
        after = fitsio.read(case.folder / "qn.fits", ext="QN")["Z_QN_CONF"]
        assert np.all(after != before)
        before = after


def test_a_table_of_other_settings_with_resume(case: Case) -> None:
    path = case.coadd(2)
    written = set()
    for threshold in (0.3, 0.1 + 0.2, 0.1 + 0.2):
        arguments = ["-o", "qn.fits", "--c-thresh", repr(threshold), "--resume"]
        assert case.command(path, *arguments) == (0, "")
        written.add((case.folder / "qn.fits").stat().st_mtime_ns)
    assert len(written) == 2


def test_a_table_whose_rows_were_changed_with_resume(case: Case) -> None:
    path, output = case.coadd(4), case.folder / "qn.fits"
    assert case.command(path, "-o", "qn.fits") == (0, "")
    before = output.read_bytes()
    with fitsio.FITS(str(output), "rw") as f:
        f["QN"].delete_rows([1])
    assert case.command(path, "-o", "qn.fits", "--resume") == (0, "")
    assert output.read_bytes() == before


def test_an_output_that_no_run_wrote_with_resume(case: Case) -> None:
    path, mine = case.coadd(2), case.coadd(2, name="mine.fits", seed=2)
    before = mine.read_bytes()
    status, err = case.command(path, "-o", "mine.fits", "--resume")
    assert status == 1
    assert "mine.fits exists, and classify did not write it" in err
    assert mine.read_bytes() == before
    (case.folder / "out").mkdir()
    other = case.coadd(2, name="out/qn-0.fits", seed=2)
    before = other.read_bytes()
    status, err = case.command(path, "--outdir", "out", "--resume")
    assert status == 1
    assert "--overwrite" in err
    assert other.read_bytes() == before
    assert case.command(path, "--outdir", "out", "--overwrite")[0] == 0


def test_a_table_of_o_that_classify_did_not_write_a_merged_table_spectra_a_text(
    case: Case,
) -> None:
    path, spectra = case.coadd(2), case.coadd(2, name="mine.fits", seed=2)
    case.classify(path, output="qn.fits")
    assert cli.main(["merge", "merged.fits", "qn.fits"]) == 0
    text = case.file(b"mine", "text.fits")
    for there in (spectra, case.folder / "merged.fits", text):
        before = there.read_bytes()
        with pytest.raises(FileExistsError, match=rf"{there.name} exists"):
            case.classify(path, output=there, overwrite=True)
        assert case.command(path, "-o", there, "--overwrite")[0] == 1
        assert there.read_bytes() == before


def test_a_table_whose_ending_is_not_known(case: Case) -> None:
    absent = case.folder / "absent.fits"
    for name in ("qn", "qn.txt", "qn.fits[QN]", "qn.parquet.gz"):
        with pytest.raises(ValueError, match=r"tables end in \.fits, \.csv"):
            case.classify(absent, output=name)
        status, err = case.command(absent, "-o", name)
        assert status == 1
        assert "tables end in .fits, .csv" in err


def test_parquet_without_pyarrow(case: Case) -> None:
    case.monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingLibraryError, match=r"pyarrow: pip install .*parquet"):
        case.classify(case.folder / "absent.fits", output="qn.parquet")


def test_a_bad_file_among_those_of_one_table(case: Case) -> None:
    paths = case.coadd(2), case.file(b"hello\n" * 1000, "bad.fits")
    status, err = case.command(*paths, "-o", "all.fits")
    assert status == 1
    assert "bad.fits: not a FITS file" in err
    table, header = read_catalog("all.fits")
    assert len(table) == 2
    assert header["QNFAIL"][0] == 1
    assert "bad.fits" in header["QNBAD00"][0]
    assert "not a FITS file" in str(fitsio.read("all.fits", ext="INPUTS")["MESSAGE"][1])


def test_an_interrupt_before_one_table_of_many_files_is_whole(case: Case) -> None:
    paths = [case.coadd(2, name=f"coadd-{i}.fits", seed=i) for i in range(2)]
    original = jobs.classify_file

    def stop(files: Any, *args: Any, **settings: Any) -> Any:
        if files[0] == paths[1]:
            raise KeyboardInterrupt
        return original(files, *args, **settings)

    with case.monkeypatch.context() as patch:
        patch.setattr(jobs, "classify_file", stop)
        assert case.command(*paths, "-o", "all.fits")[0] == 130
    assert not Path("all.fits").exists()
    assert case.command(*paths, "-o", "all.fits", "--resume") == (0, "")
    assert len(fitsio.read("all.fits", ext="QN")) == 4


def test_priors_of_other_quasars_than_the_table_s_with_resume(case: Case) -> None:
    path = case.coadd(4)
    found = case.classify(path)["Z_QN_CONF"]
    few = ["-o", "qn.fits", "--c-thresh", repr(float(np.median(found)))]
    priors = ["--priors", "p.fits"]
    assert case.command(path, "-o", "qn.fits", "--c-thresh", "0", *priors) == (0, "")
    assert len(fitsio.read("p.fits", ext="PRIORS")) == 4
    assert case.command(path, *few, "--resume") == (0, "")
    assert case.command(path, *few, "--resume", *priors) == (0, "")
    assert len(fitsio.read("p.fits", ext="PRIORS")) == 2


def test_priors_where_a_target_has_several_rows(case: Case) -> None:
    def one_target(hdus: Hdus) -> None:
        hdus["FIBERMAP"]["TARGETID"] = 5

    path = case.changed(one_target, 4)
    table = case.classify(path, c_thresh=0.0)
    arguments = ["-o", "qn.fits", "--c-thresh", "0", "--priors", "p.fits"]
    assert case.command(path, *arguments) == (0, "")
    (prior,) = fitsio.read("p.fits", ext="PRIORS")
    assert prior["TARGETID"] == 5
    assert prior["Z"] == table["Z_QN"][np.argmax(table["Z_QN_CONF"])]


def test_priors_where_there_is_no_quasar(case: Case) -> None:
    path = case.coadd(2)
    arguments = [path, "-o", "qn.fits", "--priors", "p.fits", "--c-thresh"]
    assert case.command(*arguments, "0") == (0, "")
    assert (case.folder / "p.fits").exists()
    assert case.command(*arguments, "1", "--overwrite")[0] == 0
    assert "has no quasars, and so no priors" in case.caplog.text
    assert names(case.folder) == ["coadd-0.fits", "qn.fits"]
    (case.folder / "p.fits").write_text("no priors")
    assert case.command(*arguments, "1", "--overwrite")[0] == 0
    assert (case.folder / "p.fits").read_text() == "no priors"


# The command and its processes.


def in_a_shell(
    case: Case, redirection: str, *paths: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command on some files, with its output led somewhere."""
    words = ["-m", "qnp_xp", "classify", *paths, "-m", case.weights, "--outdir", "out"]
    line = " ".join(shlex.quote(str(word)) for word in (sys.executable, *words))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{line} {redirection}"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_stdout_that_is_full(case: Case) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is full")
    done = in_a_shell(case, "> /dev/full", case.coadd(1), case.coadd(1, name="b.fits"))
    assert done.stderr == "qnp-xp: error: stdout: No space left on device\n"
    assert done.returncode == 1
    assert names(case.folder / "out") == ["qn-0.fits", "qn-b.fits"]


def test_stdout_or_stderr_that_is_closed(case: Case) -> None:
    path = case.coadd(1)
    bad = case.file(b"SIMPLE")
    for redirection in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = in_a_shell(case, redirection, path, bad)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert names(case.folder / "out") == ["qn-0.fits"]
        (case.folder / "out" / "qn-0.fits").unlink()
        assert in_a_shell(case, redirection, path).returncode == 0
        assert fitsio.read(str(case.folder / "out" / "qn-0.fits")).size == 1
        (case.folder / "out" / "qn-0.fits").unlink()


def test_names_that_the_encoding_of_stdout_lacks(case: Case) -> None:
    paths = [case.coadd(1, name="coadd-\xe9\u2605.fits"), case.coadd(1)]
    for encoding, name in (("ascii", r"\xe9\u2605"), ("latin-1", "\xe9\\u2605")):
        done = in_a_shell(case, "| iconv -f latin1", *paths, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, "")
        first, second, _ = done.stdout.splitlines()
        assert first.startswith(f"coadd-{name}.fits: 1 row, ")
        assert second.startswith("coadd-0.fits: 1 row, ")
        for path in (case.folder / "out").iterdir():
            path.unlink()


def test_a_pipe_whose_reader_has_seen_enough(case: Case) -> None:
    paths = [case.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    done = in_a_shell(case, "| head -n 1", *paths)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("coadd-0.fits: ")
    assert done.stdout.count("\n") == 1
    assert names(case.folder / "out") == ["qn-0.fits", "qn-1.fits", "qn-2.fits"]


def test_text_of_a_file_that_a_terminal_would_obey(case: Case) -> None:
    title = "\x1b]0;mine\x07\x9b2J\u202e\nfile  other"

    def edit(model: dict[str, Any], file: h5py.File) -> None:
        file.attrs["keras_version"] = f"2{title}"
        model["config"]["layers"][1]["class_name"] = f"Magic{title}"

    path = copy_hdf5(case.weights, case.folder / "odd.h5", edit)
    escaped = r"\x1b]0;mine\x07\x9b2J\u202e\nfile  other"
    with pytest.raises(WeightsError, match=re.escape(f"Magic{escaped}")):
        load_model(path)
    copy_hdf5(case.weights, path, lambda _, f: f.attrs.create("keras_version", title))
    case.capsys.readouterr()
    assert cli.main(["info", str(path)]) == 0
    assert f"\nwritten by  Keras {escaped}\n" in case.capsys.readouterr().out
    status, err = case.command(case.folder / f"coadd-{title[4:8]}\x1bc.fits")
    assert status == 1
    assert r"coadd-mine\x1bc.fits: No such file" in err


def test_misspelt_commands_and_options(case: Case) -> None:
    path = case.coadd(1)
    for arguments, meant in (
        (["clasify", path], "no command clasify; did you mean classify?"),
        (["emebd-grid"], "did you mean embed-grid?"),
        (["spectra.fits"], "no command spectra.fits, only classify, merge, plot, "),
        (["classify", path, "--otudir=x"], "--otudir=x; did you mean --outdir?"),
        (["classify", path, "--no-such"], "unrecognized arguments: --no-such\n"),
        # Else they would be -o with a value.
        (["classify", path, "-overwrite"], "-overwrite; did you mean --overwrite?"),
        (["plot", path, "-output", "x"], "-output; did you mean --output?"),
    ):
        case.capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == 2
        assert meant in case.capsys.readouterr().err
    assert names(case.folder) == ["coadd-0.fits"]


def test_a_pattern_that_the_shell_left_as_it_was(case: Case) -> None:
    case.file(b"*.fit\n", "list.txt")
    for name, match in (("c?add-*.fits", "c?add-*.fits"), ("@list.txt", "*.fit")):
        status, err = case.command(name)
        assert (status, err) == (1, f"qnp-xp: error: {match}: no file matches\n")
    case.coadd(1)
    status, err = case.command("coadd-*.fits")
    assert status == 1
    assert "coadd-*.fits: no such file; leave a pattern to the shell" in err
    status, err = case.command("absent.fits")
    assert err == "qnp-xp: error: absent.fits: No such file or directory\n"


def test_weights_that_are_not_found(case: Case) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no\.h5: .*leave out -m \(filename, model\)"
    ):
        load_model("no.h5")
    case.monkeypatch.setenv("QN_MODEL_FILE", "gone.h5")
    with pytest.raises(FileNotFoundError, match=r"gone\.h5: .*unset \$QN_MODEL_FILE"):
        load_model()
    case.coadd(1)
    for command in (["classify", "coadd-0.fits"], ["benchmark"], ["info"]):
        case.capsys.readouterr()
        assert cli.main(command) == 1
        assert (
            "unset $QN_MODEL_FILE, which names it, to use the bundled"
            in case.capsys.readouterr().err
        )


def test_a_range_of_rows_far_beyond_the_last(case: Case) -> None:
    path = case.coadd(3)
    for options in ([], ["--resume"], ["--nproc", "2"]):
        status, err = case.command(path, "--rows", "1,0-99999999999999", *options)
        assert status == 1
        assert f"{path}: rows has numbers from 0 to 99999999999999 of 3 rows" in err
    status, _ = case.command(path, "--rows", "2,0-1")
    assert status == 0
    expected = case.classify(path)["TARGETID"][[2, 0, 1]]
    np.testing.assert_array_equal(fitsio.read("qn-0.fits")["TARGETID"], expected)
    written = Path("qn-0.fits").stat().st_mtime_ns
    assert case.command(path, "--rows", "2,0,1", "--resume") == (0, "")
    assert Path("qn-0.fits").stat().st_mtime_ns == written


def test_lists_with_a_byte_order_mark(case: Case) -> None:
    paths = [case.coadd(3, name=f"coadd-{i}.fits") for i in range(3)]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        listing = f"{paths[2]}\r\n{paths[0]}\r\n".encode(encoding)
        case.file(listing, "list.txt")
        wanted = f"{TARGETID + 1}\r\n{TARGETID}\r\n".encode(encoding)
        case.file(wanted, "targets.txt")
        options = ["--targetids", "@targets.txt", "--outdir", encoding]
        assert case.command("@list.txt", *options) == (0, "")
        assert names(case.folder / encoding) == ["qn-0.fits", "qn-2.fits"]
        for path in (case.folder / encoding).iterdir():
            table = fitsio.read(str(path))
            assert table["TARGETID"].tolist() == [TARGETID, TARGETID + 1]


def test_lists_without_an_end(case: Case) -> None:
    for options in (["@/dev/zero"], [case.coadd(1), "--targetids", "@/dev/zero"]):
        status, err = case.command(*options, "-o", case.folder / "x.fits")
        assert (status, err.count("\n")) == (1, 1)
        assert "@/dev/zero: no list of " in err
        assert "larger than 64 MiB" in err


def test_targetids_that_are_no_integers_of_64_bits(case: Case) -> None:
    for text, word in {"1,2,": "", "1.5": "1.5", "1,9" + "9" * 18: "9" * 19}.items():
        status, err = case.command(case.coadd(1), "--targetids", text, "--outdir", ".")
        wanted = f"{text}: TARGETIDs are integers of 64 bits, and {word!r} is none"
        assert (status, err) == (1, f"qnp-xp: error: {wanted}\n")


@interruptible()
def test_signals_to_all_processes_of_nproc(case: Case) -> None:
    paths = [case.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    arguments = [*paths, "-m", case.weights, "--nproc", 2]
    process = start_writing(arguments, case.folder)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=25)
    assert (process.returncode, err) == (143, "qnp-xp: error: terminated\n")
    assert workers(process.pid) == []
    assert names(case.folder / "out") == ["writing"]


@interruptible()
def test_a_killed_run_of_nproc(case: Case) -> None:
    paths = [case.coadd(1, name=f"coadd-{i}.fits") for i in range(3)]
    arguments = [*paths, "-m", case.weights, "--nproc", 2]
    process = start_writing(arguments, case.folder)
    process.kill()
    process.communicate(timeout=25)  # their stderr is closed as well
    for _ in range(50):
        if not workers(process.pid):
            break
        time.sleep(0.1)
    assert workers(process.pid) == []
    assert names(case.folder / "out") == ["writing"]


@interruptible()
def test_an_interrupt_in_a_large_batch(case: Case) -> None:
    done: list[int] = []
    original = _scorer._forward

    def forward(*args: Any) -> Any:
        result = original(*args)
        done.append(1)
        if len(done) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    case.monkeypatch.setattr(_scorer, "_forward", forward)
    n = 64 * case.model.block
    flux = np.random.default_rng(0).normal(size=(n, 700)).astype(np.float32)
    arrays = np.linspace(3600, 9800, 700), flux, np.ones_like(flux)
    with pytest.raises(KeyboardInterrupt):
        case.classify(arrays, batch_size=n)
    assert len(done) < 32  # of 64


# Training.


def labels_of(n: int, quasars: int, first: int = TARGETID) -> dict[str, Any]:
    """Truth for a coadd of n targets."""
    kinds = ["QSO"] * quasars + ["GALAXY"] * (n - quasars)
    ids = first + np.arange(n)
    return {"TARGETID": ids, "SPECTYPE": kinds, "Z": np.linspace(0.5, 3, n)}


def test_truth_that_knows_none_of_the_spectra(case: Case) -> None:
    data = [(case.coadd(24), labels_of(24, 12, TARGETID + 100))]
    with pytest.raises(SpectraError, match=r"truth: has no sure label .*coadd-0\.fits"):
        train(data, "out.h5", dry_run=True)


def test_quasars_without_redshift_in_truth(case: Case) -> None:
    truth = labels_of(24, 12)
    truth["Z"][3:5] = np.nan
    with pytest.raises(SpectraError, match=r"truth: 2 quasars .* row 3"):
        train([(case.coadd(24), truth)], "out.h5", dry_run=True)


def test_spectra_of_quasars_alone_or_too_few_of_a_kind(case: Case) -> None:
    coadd = case.coadd(24)
    for quasars, message in ((24, "0 .*are no quasars"), (9, "9 .*are quasars")):
        with pytest.raises(SpectraError, match=message):
            train([(coadd, labels_of(24, quasars))], "out.h5", dry_run=True)


def test_weights_that_are_there_as_the_output_of_train(case: Case) -> None:
    data = [(case.coadd(24), labels_of(24, 12))]
    with pytest.raises(FileExistsError, match=re.escape(str(case.weights))):
        train(data, case.weights, dry_run=True)
    bundled = data_file(EMBEDDED_NETWORK)
    with pytest.raises(ValueError, match=re.escape(str(bundled))):
        train(data, bundled, overwrite=True, dry_run=True)


@pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")
def test_an_interrupt_of_train(case: Case) -> None:
    demand("torch", "keras")
    data = [(case.coadd(24), labels_of(24, 12))]

    def interrupt_at(last: int) -> Callable[..., None]:
        def interrupt(step: int, *_: Any) -> None:
            if step == last:
                raise KeyboardInterrupt

        return interrupt

    settings: dict[str, Any] = {"start": case.weights, "rate": 0.01}
    for last, written in ((1, []), (30, ["out.h5"])):
        with pytest.raises(KeyboardInterrupt):
            train(data, "out.h5", progress=interrupt_at(last), **settings)
        assert [path.name for path in case.folder.glob("*.h5")] == written


# The page.


def test_the_page_has_these_rows_in_this_order() -> None:
    rows = re.findall(r"^\| (.+?) \| .+ \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    names = ["_".join(re.findall(r"\w+", row.lower())) for row in rows]
    functions = {k: v for k, v in globals().items() if k.startswith("test_")}
    tests = [k for k, v in functions.items() if "case" in signature(v).parameters]
    assert tests == [f"test_{name}" for name in names if name != "input"]


def test_errors_of_the_package_are_those_that_the_page_names() -> None:
    assert issubclass(NoSpectraError, SpectraError)
    for error in (SpectraError, WeightsError, DeviceError):
        assert issubclass(error, QnpError)
        assert error.__name__ in PAGE.read_text("utf-8")
