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
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import fitsio
import h5py
import hostile
import numpy as np
import pytest
from helpers import (
    Hdus,
    coadd_hdus,
    copy_hdf5,
    fibermap_table,
    gzipped,
    interruptible,
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
    path = case.file(case.coadd(2).read_bytes() + b"\0" * 2880)
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
    case.monkeypatch.setattr(_gzip, "_HARMLESS", 10**6)
    bomb = gzip.compress(case.coadd(2).read_bytes() + bytes(2880 * 20_000))
    case.refuses(case.file(bomb), SpectraError, r"more than \d+ bytes")


def test_a_fits_file_without_spectra(case: Case) -> None:
    path = write_hdus(
        case.folder / "x.fits", {"DARK": np.zeros((3, 4)), "BIAS": np.eye(2)}
    )
    case.refuses(path, SpectraError, "no spectra.*DARK, BIAS")


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


def test_brackets_in_the_name_of_a_file(case: Case) -> None:
    case.refuses(
        case.coadd(1).rename(case.folder / "coadd[1].fits"), SpectraError, "brackets"
    )


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


def test_one_good_pixel(case: Case) -> None:
    def edit(hdus: Hdus) -> None:
        in_row(0, IVAR=0)(hdus)
        hdus["B_IVAR"][0, 7] = 1

    assert case.status(edit) == [CONSTANT, 0, 0]


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
    with pytest.raises(FileNotFoundError, match="absent"):
        load_model(case.folder / "absent.h5")


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


class Unit(str):
    """What the package asks of a unit."""

    __slots__ = ()

    def is_equivalent(self, other: str) -> bool:
        return "Angstrom" in self and "Angstrom" in other


def test_spectra_in_jansky_or_electrons_with_a_unit(case: Case) -> None:
    class Quantity(np.ndarray):
        unit: Any

    wave, flux, ivar = noise()
    for name in ("Jy", "electron"):
        measured = flux.view(Quantity)
        measured.unit = Unit(name)
        case.refuses((wave, measured, ivar), SpectraError, f"flux.* {name}")


def test_records_without_ivar(case: Case) -> None:
    record = {"wavelength": WAVE, "flux": WAVE}
    case.refuses([record], SpectraError, r"record 0.*ivar.*retrieve\(")


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
        "n_thresh": (0, -1, 1.5, np.inf, np.nan),
        "batch_size": (0, -1, 1.5),
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=f"{name} must be"):
                case.classify(path, **{name: value})


def test_thresholds_batch_sizes_or_flags_of_another_type(case: Case) -> None:
    path = case.coadd(1)
    for name in ("c_thresh", "n_thresh", "batch_size", "use_mask", "coadd"):
        for value in ("1", None, [1]):
            with pytest.raises(TypeError, match=f"{name} must be"):
                case.classify(path, **{name: value})


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


def test_a_gpu_where_there_is_none(case: Case) -> None:
    case.monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"CuPy.*not installed"):
        classify(case.coadd(1), case.weights, device="gpu")


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
    match = rf"qnp-xp: error: {path}: \[Errno \d+\] [\w ]+: '.*/out/qn-0\.fits'\n"
    assert re.fullmatch(match, done.stderr)
    assert names(case.folder / "out") == []


@interruptible()
def test_an_interrupt_or_sigterm(case: Case) -> None:
    path = case.coadd(1)
    original = Path.write_bytes
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):

        def signalled(self: Path, content: bytes, number: int = number) -> None:
            original(self, content)
            os.kill(os.getpid(), number)

        case.monkeypatch.setattr(Path, "write_bytes", signalled)
        assert case.command(path, "--outdir", "out")[0] == status
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


def test_two_inputs_of_one_output(case: Case) -> None:
    (case.folder / "a").mkdir()
    paths = [case.coadd(1), case.coadd(1, name="a/coadd-0.fits")]
    status, err = case.command(*paths, "--outdir", "out")
    assert status == 1
    assert "several inputs would be written to" in err
    assert list(case.folder.rglob("qn-*")) == []


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
