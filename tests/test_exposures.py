"""The cframes of an exposure, and folders of them, in `classify` and the command."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import (
    Hdus,
    Run,
    coadd_hdus,
    demand_unsigned,
    gzipped,
    names,
    read_hdus,
    write_cframes,
    write_coadd,
    write_hdus,
)

from qnp_xp import SpectraError, Status, classify
from qnp_xp.io.open import cframes_in, coadds_in, group_inputs, joint_name

EXPID = "00071246"


@pytest.fixture
def hdus() -> Hdus:
    return coadd_hdus(4, mask="i4")


@pytest.fixture
def exposure(tmp_path: Path, hdus: Hdus) -> Path:
    """One spectrograph of an exposure, one of its arms gzipped."""
    return write_cframes(tmp_path / "20210107", hdus, compressed="R")


def same(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def test_a_folder_its_cframes_and_the_coadd_give_the_same(
    tmp_path: Path, hdus: Hdus, exposure: Path, weights: Path
) -> None:
    expected = classify(write_hdus(tmp_path / "coadd.fits", hdus), weights)
    same(classify(exposure, weights), expected)
    same(classify(cframes_in(exposure)[::-1], weights), expected)


@pytest.mark.parametrize("compressed", ["", "BRZ"])
def test_real_cframes_give_the_answers_of_the_coadd(
    reference: Path, tmp_path: Path, compressed: str
) -> None:
    coadd = reference / "quasarnp" / "test_coadd.fits"
    weights = reference / "quasarnp" / "test_weights_6_layer.h5"
    folder = write_cframes(tmp_path, read_hdus(coadd), compressed=compressed)
    expected, found = classify(coadd, weights), classify(folder, weights)
    assert names(folder)[0].endswith(".gz") == bool(compressed)
    assert found.dtype == expected.dtype
    for name in expected.dtype.names or ():
        np.testing.assert_allclose(
            found[name], expected[name], rtol=0, atol=1e-6, err_msg=name
        )


def test_the_command_groups_the_arms(
    run: Run, tmp_path: Path, here: Path, hdus: Hdus, weights: Path
) -> None:
    night = tmp_path / "20210107"
    folders = [write_cframes(night, hdus, spec_number=spec) for spec in (0, 3)]
    files = sorted(folders[0].iterdir())
    assert len(files) == 6
    status, out, err = run("classify", *files, "--outdir", "a")
    assert (status, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == [
        f"cframe-[brz]0-{EXPID}.fits",
        f"cframe-[brz]3-{EXPID}.fits",
    ]
    assert names(here / "a") == [f"qn-0-{EXPID}.fits", f"qn-3-{EXPID}.fits"]
    status, _, _ = run("classify", folders[0], "--outdir", "b")
    assert status == 0
    assert names(here / "b") == names(here / "a")
    expected = classify(files[:1] + files[2:3] + files[4:5], weights)
    for folder in "ab":
        table, header = fitsio.read(
            here / folder / f"qn-0-{EXPID}.fits", ext="QN", header=True
        )
        for name in expected.dtype.names or ():
            np.testing.assert_array_equal(table[name], expected[name])
        assert header["QNINPUT"].strip() == f"cframe-[brz]0-{EXPID}.fits"
        assert header["QNARMS"].strip() == "BRZ"


def test_a_missing_arm_is_reported_and_the_others_are_used(
    run: Run, tmp_path: Path, here: Path, hdus: Hdus, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_cframes(tmp_path, hdus, arms="BZ", spec_number=9)
    status, _, _ = run("classify", folder)
    assert status == 0
    (record,) = caplog.records
    assert record.getMessage().endswith(f"cframe-[bz]9-{EXPID}.fits: no arm R")
    table = fitsio.read(here / f"qn-9-{EXPID}.fits", ext="QN")
    assert np.all(table["QN_STATUS"] & int(Status.ARM_MISSING))


def test_a_cframe_alone_is_classified_whatever_its_name_is(
    tmp_path: Path, exposure: Path, weights: Path
) -> None:
    source = exposure / f"cframe-b0-{EXPID}.fits"
    with fitsio.FITS(str(source), "rw") as f:
        f["FLUX"].write_key("CAMERA", "b0")
    renamed = Path(shutil.copy(source, tmp_path / "mine.fits"))
    found = classify(renamed, weights)
    same(found, classify(source, weights))
    assert np.all(found["QN_STATUS"] & int(Status.ARM_MISSING))


def test_a_gzipped_file_beside_its_plain_one_is_passed_over_in_folders(
    exposure: Path, weights: Path
) -> None:
    expected = classify(exposure, weights)
    gzipped(exposure / f"cframe-b0-{EXPID}.fits")
    same(classify(exposure, weights), expected)
    both = [exposure / f"cframe-b0-{EXPID}.fits{suffix}" for suffix in ("", ".gz")]
    with pytest.raises(SpectraError, match=r"gz.*a second file of arm B"):
        classify(both, weights)


def test_arms_of_different_targets_are_refused(
    exposure: Path, hdus: Hdus, weights: Path
) -> None:
    hdus["FIBERMAP"]["TARGETID"][2] += 1
    write_cframes(exposure.parent, hdus, arms="Z")
    match = rf"cframe-z0-{EXPID}.*FIBERMAP.*other targets than cframe-b0"
    with pytest.raises(SpectraError, match=match):
        classify(exposure, weights)


def test_targets_of_arms_are_compared_as_integers(
    exposure: Path, hdus: Hdus, weights: Path
) -> None:
    demand_unsigned()
    # As float64 the targets of the first arms and of the last would be the same.
    near = 39633140000000000 + np.arange(4)
    hdus["FIBERMAP"]["TARGETID"] = near
    write_cframes(exposure.parent, hdus, arms="BR", compressed="R")
    table = hdus["FIBERMAP"].astype(
        [(n, "u8" if n == "TARGETID" else t) for n, t in hdus["FIBERMAP"].dtype.descr]
    )
    hdus["FIBERMAP"] = table
    write_cframes(exposure.parent, hdus, arms="Z")
    assert classify(exposure, weights)["TARGETID"].tolist() == near.tolist()
    table["TARGETID"] += 1
    write_cframes(exposure.parent, hdus, arms="Z")
    with pytest.raises(SpectraError, match=rf"cframe-z0-{EXPID}.*other targets"):
        classify(exposure, weights)


def test_frames_that_are_not_calibrated_are_refused(
    exposure: Path, weights: Path
) -> None:
    path = exposure / f"cframe-b0-{EXPID}.fits"
    with fitsio.FITS(str(path), "rw") as f:
        f["FLUX"].write_key("BUNIT", "electron/Angstrom")
    with pytest.raises(SpectraError, match=r"\[FLUX\]: is in electron/Angstrom"):
        classify(path, weights)


def test_a_camera_that_does_not_exist_is_refused(exposure: Path, weights: Path) -> None:
    path = exposure / f"cframe-b0-{EXPID}.fits"
    with fitsio.FITS(str(path), "rw") as f:
        f["FLUX"].write_key("CAMERA", "x0")
    with pytest.raises(SpectraError, match=r"CAMERA='x0' is not b, r or z"):
        classify(path, weights)


def test_files_that_are_no_cframes_do_not_belong_together(
    exposure: Path, hdus: Hdus, weights: Path
) -> None:
    path = exposure / f"cframe-b0-{EXPID}.fits"
    write_hdus(path, hdus)
    with pytest.raises(SpectraError, match=r"cframe-b0.*is no cframe"):
        classify(exposure, weights)


def test_a_folder_without_cframes_loses_no_other_input(
    run: Run, inputs: Path, here: Path
) -> None:
    write_coadd(inputs / "coadd-0.fits", 1)
    status, _, err = run("classify", inputs, inputs / "coadd-0.fits")
    assert status == 1
    assert f"{inputs}: a folder without cframes; name files in it" in err
    assert names(here) == ["qn-0.fits"]


def test_a_folder_of_several_spectrographs_makes_one_table(
    tmp_path: Path, hdus: Hdus, weights: Path
) -> None:
    for spec in (0, 1):
        folder = write_cframes(tmp_path, hdus, spec_number=spec)
    table = classify(folder, weights)
    parts = [classify(sorted(folder.glob(f"*{spec}-*")), weights) for spec in (0, 1)]
    assert table["TARGETID"].tolist() == [
        target for part in parts for target in part["TARGETID"]
    ]
    assert len(set(table["QNINPUT"])) == 2


#: Where a production has the coadds of each group.
COADDS = {
    "cumulative": "tiles/cumulative/80605/20210205/coadd-0-80605-thru20210205.fits",
    "pernight": "tiles/pernight/80605/20210205/coadd-0-80605-20210205.fits",
    "perexp": "tiles/perexp/80605/00071246/coadd-0-80605-exp00071246.fits",
    "healpix": "healpix/main/dark/99/9999/coadd-main-dark-9999.fits",
    "uniqpix": "spectra/main/dark/40/4096/coadd-main-dark-4096.fits",
}


def test_coadds_of_each_group_are_found_where_desi_writes_them(tmp_path: Path) -> None:
    for name in COADDS.values():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for group, name in COADDS.items():
        assert coadds_in(tmp_path, [group]) == [tmp_path / name]


def test_a_group_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    for group in ("perexp", "uniqpix"):
        (tmp_path / COADDS[group]).parent.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no healpix.*has perexp, uniqpix$"):
        coadds_in(tmp_path, ["healpix"])


def test_several_groups_are_classified_one_after_the_other_into_one_folder(
    run: Run, tmp_path: Path, here: Path
) -> None:
    for number, group in enumerate(("perexp", "uniqpix")):
        path = tmp_path / "redux" / COADDS[group]
        path.parent.mkdir(parents=True)
        write_coadd(path, 1 + number)
        done = run(
            "classify",
            "--specprod",
            tmp_path / "redux",
            "--groups",
            group,
            "--outdir",
            "out",
        )
        assert done[0] == 0
    for group, rows in (("perexp", 1), ("uniqpix", 2)):
        header = fitsio.read_header(f"out/qn-summary-{group}.fits", ext="FILES")
        assert header["QNROWS"] == rows


def test_inputs_are_grouped_in_the_order_in_which_they_are_named(
    tmp_path: Path,
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    cframes = {arm: a / f"cframe-{arm}0-{EXPID}.fits" for arm in "brz"}
    other = b / f"cframe-b0-{EXPID}.fits.gz"
    groups = group_inputs([cframes["z"], "coadd-1.fits", other, cframes["b"]])
    assert groups == [(cframes["z"], cframes["b"]), (Path("coadd-1.fits"),), (other,)]
    assert joint_name(groups[0]) == str(a / f"cframe-[zb]0-{EXPID}.fits")
    assert joint_name(groups[1]) == "coadd-1.fits"
    assert joint_name(groups[2]) == str(other)
