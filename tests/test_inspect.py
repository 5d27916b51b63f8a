"""Pages to look at spectra: what they hold, what is refused, and their csv."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import (
    TARGETID,
    Run,
    coadd_hdus,
    names,
    write_coadd,
    write_hdus,
    write_images_by_hand,
)
from numpy.typing import NDArray
from sdss_files import write_spec, write_spplate

from qnp_xp import classify
from qnp_xp._data import DEMO_COADD, data_file
from qnp_xp._inspect._figure import bokeh_script
from qnp_xp._inspect._pack import pack_values, pack_wave, scaled
from qnp_xp.errors import MissingLibraryError
from qnp_xp.io.tables import read_catalog, write_catalog

pytest.importorskip("bokeh", reason="bokeh is not installed")
from qnp_xp import inspect

N = 6
LINES = ("LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha")
PROSPECT = (
    "TARGETID,EXPID,NIGHT,TILEID,Spec_version,Redrock_version,Template_version,"
    "Redrock_spectype,Redrock_z,Redrock_deltachi2,VI_scanner,VI_quality,VI_issue,VI_z,"
    "VI_spectype,VI_comment"
)


def page_data(page: Path) -> dict[str, Any]:
    """What a page holds."""
    text = page.read_text("utf-8")
    (data,) = re.findall(r'<script id="data"[^>]*>(.*?)</script>', text, re.DOTALL)
    found: dict[str, Any] = json.loads(data)
    return found


def unpacked(text: str, dtype: str) -> NDArray[Any]:
    """Numbers that were packed, as the page reads them."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text), -15), np.uint8)
    size = np.dtype(dtype).itemsize
    return np.ascontiguousarray(planes.reshape(size, -1).T).view(dtype)[:, 0]


def arms_of(data: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """Wavelengths, flux and standard deviation of each arm of a target."""
    values = unpacked(target["values"], "<f2").astype(np.float64)
    found, start = {}, 0
    for arm in target["arms"]:
        n = arm["size"]
        flux = values[start : start + n] * 2.0 ** arm["flux"]
        sigma = values[start + n : start + 2 * n] * 2.0 ** arm["sigma"]
        steps = unpacked(data["grids"][arm["grid"]], "<i4").astype(np.int64)
        wave = np.cumsum(np.cumsum(steps)) / 1000
        found[data["arms"][arm["arm"]]] = wave, flux, sigma
        start += 2 * n
    assert start == values.size
    return found


def shown(page: Path) -> list[int]:
    """Rows of the spectra that a page shows."""
    return [target["row"] for target in page_data(page)["targets"]]


@pytest.fixture
def coadd(inputs: Path) -> Path:
    return write_coadd(inputs / "coadd.fits", N, mask="u4")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


@pytest.fixture
def demo() -> Path:
    return data_file(DEMO_COADD)


# Packed numbers.


def test_packed_numbers_keep_three_digits_of_any_unit() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=5000) * 10.0 ** rng.uniform(-3, 3, 5000) * 1e-17
    values[[7, 8, 9]] = np.nan, 0, 1e-9
    fitting, exponent = scaled(values)
    found = unpacked(pack_values(fitting), "<f2").astype(float) * 2.0**exponent
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    assert found[8] == 0
    inside = (np.abs(values) < 1e-13) & (np.abs(values) > 1e-20)
    assert inside.sum() > 4500
    np.testing.assert_allclose(found[inside], values[inside], rtol=5e-4)
    assert found[9] > 1e-13  # cut off, and still the largest
    assert np.nanmax(found) == found[9]


def test_a_positive_number_never_becomes_zero() -> None:
    fitting, _ = scaled(np.array([1.0, 1.0, 1e-12]))
    assert unpacked(pack_values(fitting), "<f2")[2] > 0


@pytest.mark.parametrize("values", [[], [np.nan], [0.0, 0.0]], ids=str)
def test_numbers_without_a_size_are_packed_as_they_are(values: list[float]) -> None:
    fitting, exponent = scaled(np.asarray(values))
    assert exponent == 0
    np.testing.assert_array_equal(unpacked(pack_values(fitting), "<f2"), values)


@pytest.mark.parametrize(
    "wave",
    [np.arange(3600, 9824.1, 0.8), 10 ** np.arange(3.55, 4.01, 1e-4), np.array([5e3])],
    ids=["DESI", "SDSS", "one pixel"],
)
def test_wavelengths_are_packed_to_a_thousandth(wave: NDArray[np.float64]) -> None:
    packed = pack_wave(wave)
    found = np.cumsum(np.cumsum(unpacked(packed, "<i4").astype(np.int64))) / 1000
    np.testing.assert_allclose(found, wave, rtol=0, atol=5.1e-4)
    assert len(packed) < 2 * wave.size + 100


# What a page holds.


def test_spectra_are_those_of_the_file(coadd: Path, page: Path, weights: Path) -> None:
    hdus = coadd_hdus(N, mask="u4")
    hdus["B_IVAR"][1, 10:20] = 0
    write_hdus(coadd, hdus)
    inspect(coadd, weights, output=page)
    data = page_data(page)
    assert data["arms"] == ["B", "R", "Z"]
    assert len(data["grids"]) == 3
    for row, target in enumerate(data["targets"]):
        for name, (wave, flux, sigma) in arms_of(data, target).items():
            ivar = hdus[f"{name}_IVAR"][row]
            np.testing.assert_allclose(wave, hdus[f"{name}_WAVELENGTH"], atol=1e-3)
            expected = np.where(ivar > 0, hdus[f"{name}_FLUX"][row], np.nan)
            np.testing.assert_allclose(flux, expected, rtol=5e-4, atol=1e-4)
            expected = np.where(ivar > 0, ivar, np.nan) ** -0.5
            np.testing.assert_allclose(sigma, expected, rtol=5e-4)


def test_results_are_those_of_classify(coadd: Path, page: Path, weights: Path) -> None:
    table = classify(coadd, weights)
    inspect(coadd, weights, output=page)
    data = page_data(page)
    assert data["threshold"] == 0.5
    assert data["lines"] == ["LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha", "BAL_CIV"]
    for row, target in zip(table, data["targets"], strict=True):
        assert target["targetid"] == str(row["TARGETID"])
        assert target["quasar"] == bool(row["IS_QSO_QN"])
        np.testing.assert_allclose(target["z"]["qn"], row["Z_QN"], rtol=1e-5)
        np.testing.assert_allclose(target["confidence"], row["Z_QN_CONF"], rtol=1e-5)
        # The confidence of a line is that of its best box.
        confidences = [confidence for confidence, _ in target["lines"]]
        best = [max(boxes) for boxes in target["boxes"]]
        np.testing.assert_allclose(best, confidences, rtol=1e-2, atol=1e-6)
        ra, dec = target["sky"]
        np.testing.assert_allclose([ra, dec], [row["TARGET_RA"], row["TARGET_DEC"]])


def test_the_network_s_own_threshold_counts(
    coadd: Path, page: Path, weights: Path
) -> None:
    with h5py.File(weights, "r+") as f:
        f.attrs["c_thresh"] = 0.9
    table = classify(coadd, weights)
    quasars = np.flatnonzero(table["IS_QSO_QN"]).tolist()
    assert quasars != np.flatnonzero(table["Z_QN_CONF"] > 0.5).tolist()
    inspect(coadd, weights, output=page, quasars=True)
    assert page_data(page)["threshold"] == 0.9
    assert shown(page) == quasars


def test_a_row_without_result_holds_no_numbers(
    coadd: Path, page: Path, weights: Path
) -> None:
    hdus = coadd_hdus(2)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][1] = 0
    write_hdus(coadd, hdus)
    inspect(coadd, weights, output=page)
    _, lost = page_data(page)["targets"]
    assert (lost["scored"], lost["confidence"], lost["z"]["qn"]) == (False, None, None)
    assert "no good pixel" in lost["status"]


def test_pixels_whose_mask_is_set_are_marked_where_they_have_weight(
    coadd: Path, page: Path, weights: Path
) -> None:
    hdus = coadd_hdus(2, mask="u4")
    (name,) = [name for name in hdus if name == "B_MASK"]
    hdus[name][:] = 0
    hdus[name][1, 5:9] = 2
    hdus["B_IVAR"][1, 7] = 0
    write_hdus(coadd, hdus)
    inspect(coadd, weights, output=page)
    first, second = page_data(page)["targets"]
    assert first["arms"][0]["flagged"] == []
    assert second["arms"][0]["flagged"] == [[5, 6], [8, 8]]


def test_a_page_needs_nothing_from_elsewhere(
    coadd: Path, page: Path, weights: Path
) -> None:
    inspect(coadd, weights, output=page, rows=[0])
    text = page.read_text("utf-8")
    own = text.replace(bokeh_script(), "")
    assert len(own) < len(text) - 1e6
    assert not re.search(r"<link|@import|url\(| (src|href)=|https?:", own)
    assert "{{" not in text.partition('<script id="data"')[0]


def test_a_file_s_name_ends_no_script(inputs: Path, page: Path, weights: Path) -> None:
    path = write_coadd(inputs / "a<script>b.fits", 1)
    inspect(path, weights, output=page.with_name("<b>.html"))
    text = page.with_name("<b>.html").read_text("utf-8")
    assert "a<script>b" not in text
    assert "<title>&lt;b&gt;</title>" in text
    (target,) = page_data(page.with_name("<b>.html"))["targets"]
    assert target["file"] == path.name


def test_the_same_spectra_have_the_same_key(
    coadd: Path, page: Path, weights: Path
) -> None:
    keys = []
    for rows in ([0, 1], [0, 1], [0, 2]):
        inspect(coadd, weights, output=page, rows=rows, overwrite=True)
        keys.append(page_data(page)["key"])
    assert keys[0] == keys[1] != keys[2]


def test_300_spectra_of_desi_take_less_than_15_megabytes(
    demo: Path, page: Path
) -> None:
    inspect(demo, output=page)
    data = page_data(page)
    assert sum(arm["size"] for arm in data["targets"][0]["arms"]) > 7800
    own = len(json.dumps(data["targets"]))
    rest = page.stat().st_size - own
    assert rest < 2e6
    assert 300 / len(data["targets"]) * own + rest < 15e6


def test_arrays_in_memory_are_shown(page: Path, weights: Path) -> None:
    wave = np.arange(3600.0, 9800.0, 2.0)
    flux = np.random.default_rng(0).normal(size=(2, wave.size))
    inspect((wave, flux * 1e-17, np.full(flux.shape, 1e34)), weights, output=page)
    data = page_data(page)
    assert [target["label"] for target in data["targets"]] == ["row 0", "row 1"]
    ((_, found, sigma),) = arms_of(data, data["targets"][1]).values()
    np.testing.assert_allclose(found, flux[1] * 1e-17, rtol=5e-4, atol=1e-21)
    np.testing.assert_allclose(sigma, 1e-17, rtol=5e-4)
    assert data["columns"] == ["FILE", "ROW"]


# Which spectra.


def test_all_spectra_of_several_files_are_shown(
    inputs: Path, page: Path, weights: Path
) -> None:
    files = [write_coadd(inputs / "a.fits", 2), write_spec(inputs / "spec.fits")]
    inspect(files, weights, output=page)
    data = page_data(page)
    found = [(target["file"], target["row"]) for target in data["targets"]]
    assert found == [("a.fits", 0), ("a.fits", 1), ("spec.fits", 0)]
    assert data["targets"][2]["known"]["PLATE"] == "3655"


def test_quasars_are_shown(demo: Path, page: Path) -> None:
    table = classify(demo, c_thresh=0.8)
    inspect(demo, output=page, quasars=True, c_thresh=0.8)
    assert shown(page) == np.flatnonzero(table["IS_QSO_QN"]).tolist()
    assert len(shown(page)) == 13


@pytest.mark.parametrize("n_thresh", [1, 2, 7])
def test_spectra_near_the_threshold_are_shown(
    demo: Path, page: Path, n_thresh: int
) -> None:
    table = classify(demo)
    lines = np.sort(
        [table[f"C_{x}"] for x in ("LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha")],
        axis=0,
    )
    settings = {"c_thresh": 0.85, "n_thresh": n_thresh}
    if n_thresh > len(lines):
        with pytest.raises(ValueError, match=r"demo-coadd\.fits: no spectrum has a"):
            inspect(demo, output=page, near_threshold=True, **settings)
        return
    near = np.abs(lines[-n_thresh] - 0.85) <= 0.2
    near &= (table["QN_STATUS"] & 16) == 0
    inspect(demo, output=page, near_threshold=True, **settings)
    assert shown(page) == np.flatnonzero(near).tolist()
    distances = np.where(near, np.abs(lines[-n_thresh] - 0.85), np.inf)
    inspect(demo, output=page, near_threshold=True, limit=2, overwrite=True, **settings)
    assert shown(page) == sorted(np.argsort(distances)[:2].tolist())


def test_spectra_are_shown_of_which_truth_says_otherwise(
    demo: Path, page: Path
) -> None:
    table = classify(demo, c_thresh=0.8)
    quasar = table["IS_QSO_QN"] == 1
    truth = {
        "TARGETID": table["TARGETID"][:20],
        "SPECTYPE": np.where(quasar, "QSO", "STAR")[:20],
        "Z": np.nan_to_num(table["Z_QN"])[:20].astype("f8"),
        "ZWARN": np.zeros(20, int),
    }
    first, second, third = np.flatnonzero(quasar)[:3].tolist()
    star = int(np.flatnonzero(~quasar)[0])
    truth["SPECTYPE"][[first, star]] = "STAR", "QSO"
    truth["Z"][second] += 0.5
    truth["Z"][third] += 0.5
    truth["ZWARN"][third] = 4
    inspect(demo, output=page, disagree=truth, c_thresh=0.8)
    assert shown(page) == sorted([first, second, star])
    words = {target["row"]: target["truth"] for target in page_data(page)["targets"]}
    assert words[first].startswith("star")
    assert words[second] == f"quasar, z = {truth['Z'][second]:.4f}"


def test_targets_and_rows_are_shown_in_spite_of_a_limit(
    coadd: Path, page: Path, weights: Path
) -> None:
    inspect(coadd, weights, output=page, rows=[4, -1, 4, 2], limit=1)
    assert shown(page) == [4, 5, 2]
    ids = [TARGETID + 3, TARGETID + 1]
    inspect(coadd, weights, output=page, targetids=ids, limit=1, overwrite=True)
    assert shown(page) == [1, 3]
    inspect(coadd, weights, output=page, limit=2, overwrite=True)
    assert shown(page) == [0, 1]


# A table that is there.


def test_results_are_those_of_a_table(coadd: Path, page: Path, weights: Path) -> None:
    path = page.with_name("qn.fits")
    classify(coadd, weights, output=path, c_thresh=0.3, n_thresh=2, rows=[4, 1, 2])
    table, _ = read_catalog(path)
    old = dict(table.dtype.descr)
    more = np.zeros(table.size, [*old.items(), ("Z_FIT", "f8")])
    for name in old:
        more[name] = table[name]
    more["Z_FIT"], more["Z_QN"] = 1.25, 0.75
    cards = [(k, v, c) for k, (v, c) in read_catalog(path)[1].items() if k != "QNHASH"]
    write_catalog(path, more, cards, overwrite=True)
    inspect(coadd, weights, output=page, table=path)
    data = page_data(page)
    assert data["threshold"] == 0.3
    assert shown(page) == [1, 2, 4]
    assert {(t["z"]["qn"], t["z"]["fit"]) for t in data["targets"]} == {(0.75, 1.25)}
    by_row = {row["TARGETID"] - TARGETID: row["Z_QN_CONF"] for row in more}
    for target in data["targets"]:
        np.testing.assert_allclose(target["confidence"], by_row[target["row"]], 1e-5)
        assert len(target["boxes"]) == 7
    inspect(coadd, weights, output=page, table=path, rows=[2, 3], overwrite=True)
    assert shown(page) == [2]


def test_rows_of_a_target_are_told_apart_by_their_order(
    coadd: Path, page: Path, weights: Path
) -> None:
    hdus = coadd_hdus(4)
    hdus["FIBERMAP"]["TARGETID"][:] = TARGETID
    write_hdus(coadd, hdus)
    path = page.with_name("qn.fits")
    table = classify(coadd, weights, output=path)
    inspect(coadd, weights, output=page, table=path)
    found = [target["confidence"] for target in page_data(page)["targets"]]
    np.testing.assert_allclose(found, table["Z_QN_CONF"], rtol=1e-5)
    inspect(coadd, weights, output=page, table=path, rows=[3, 1], overwrite=True)
    found = [target["confidence"] for target in page_data(page)["targets"]]
    np.testing.assert_allclose(found, table["Z_QN_CONF"][[3, 1]], rtol=1e-5)
    classify(coadd, weights, output=path, rows=[3, 1], overwrite=True)
    with pytest.raises(ValueError, match=r"qn\.fits: has several rows of a target"):
        inspect(coadd, weights, output=page, table=path, overwrite=True)


def test_rows_without_targetid_are_found_by_plate_and_fiber(
    inputs: Path, page: Path, weights: Path
) -> None:
    path = write_spplate(inputs, zbest=False)
    table = classify(path, weights, output=page.with_name("qn.fits"), rows=[2, 0])
    assert set(table["TARGETID"]) == {-1}
    inspect(path, weights, output=page, table=page.with_name("qn.fits"))
    data = page_data(page)
    assert [target["row"] for target in data["targets"]] == [0, 2]
    found = [target["confidence"] for target in data["targets"]]
    np.testing.assert_allclose(found, table["Z_QN_CONF"][::-1], rtol=1e-5)


def test_rows_of_a_merged_table_are_found_by_their_file(
    run: Run, inputs: Path, here: Path, page: Path
) -> None:
    files = []
    for seed, name in enumerate(("a.fits", "b.fits")):
        hdus = coadd_hdus(2, seed=seed)
        hdus["FIBERMAP"]["TARGETID"] += 10 * seed
        files.append(write_hdus(inputs / name, hdus))
        assert run("classify", files[-1])[0] == 0
    assert run("merge", "all.fits", "qn-a.fits", "qn-b.fits")[0] == 0
    status, out, err = run("inspect", *files, "--table", "all.fits", "-o", page)
    assert (status, err) == (0, "")
    assert out.startswith("4 spectra, ")
    found = [target["confidence"] for target in page_data(page)["targets"]]
    table, _ = read_catalog("all.fits")
    np.testing.assert_allclose(found, table["Z_QN_CONF"], rtol=1e-5)


def test_a_table_of_other_weights_is_refused(
    coadd: Path, page: Path, weights: Path
) -> None:
    path = page.with_name("qn.fits")
    classify(coadd, output=path)
    with pytest.raises(ValueError, match=r"qn\.fits: was made with .* name them"):
        inspect(coadd, weights, output=page, table=path)
    assert not page.exists()


def test_a_table_of_other_spectra_is_refused(
    coadd: Path, inputs: Path, page: Path, weights: Path
) -> None:
    other = coadd_hdus(2)
    other["FIBERMAP"]["TARGETID"] += 1000
    path = page.with_name("qn.fits")
    classify(write_hdus(inputs / "other.fits", other), weights, output=path)
    with pytest.raises(ValueError, match=r"qn\.fits: has no row of .*coadd\.fits"):
        inspect(coadd, weights, output=page, table=path)
    wave = np.arange(3600.0, 9800.0, 2.0)
    with pytest.raises(ValueError, match=r"qn\.fits: no column says which"):
        inspect((wave, np.sin(wave), wave), weights, output=page, table=path)


def test_a_table_of_sums_is_refused(coadd: Path, page: Path, weights: Path) -> None:
    path = page.with_name("qn.fits")
    classify(coadd, weights, output=path, coadd=True)
    with pytest.raises(ValueError, match=r"qn\.fits: its rows are sums"):
        inspect(coadd, weights, output=page, table=path)


# What is refused.


@pytest.mark.parametrize(
    ("asked", "fact"),
    [
        ({"rows": [99]}, "99"),
        ({"rows": []}, "no spectrum"),
        ({"targetids": [5]}, "no target 5"),
        ({"rows": [0], "quasars": True}, "rows and quasars"),
        ({"quasars": True, "near_threshold": True}, "quasars and near_threshold"),
        ({"limit": 0}, "limit"),
        ({"c_thresh": 2.0}, "c_thresh"),
        ({"quasars": True, "c_thresh": 1.0}, "coadd.fits: no spectrum"),
    ],
    ids=str,
)
def test_what_leaves_nothing_to_show_is_refused(
    coadd: Path, page: Path, weights: Path, asked: dict[str, Any], fact: str
) -> None:
    with pytest.raises(ValueError, match=fact):
        inspect(coadd, weights, output=page, **asked)
    assert not page.exists()


def test_rows_of_several_files_are_refused(
    inputs: Path, page: Path, weights: Path
) -> None:
    files = [write_coadd(inputs / name, 1) for name in ("a.fits", "b.fits")]
    with pytest.raises(ValueError, match=r"rows .* there are 2"):
        inspect(files, weights, output=page, rows=[0])


def test_a_file_without_spectra_is_refused(
    inputs: Path, page: Path, weights: Path
) -> None:
    path = write_images_by_hand(inputs / "empty.fits", coadd_hdus(0, fibermap=False))
    with pytest.raises(ValueError, match=r"empty\.fits: holds no spectra"):
        inspect(path, weights, output=page)


def test_an_output_never_replaces_what_was_not_made_here(
    coadd: Path, page: Path, weights: Path
) -> None:
    page.write_text("mine")
    with pytest.raises(FileExistsError, match=r"page\.html exists"):
        inspect(coadd, weights, output=page)
    assert page.read_text() == "mine"
    inspect(coadd, weights, output=page, overwrite=True)
    for name in ("coadd.html", "weights.html", "truth.html"):
        shutil.copy(coadd if name == "coadd.html" else weights, page.with_name(name))
    own = page.with_name("coadd.html")
    with pytest.raises(ValueError, match=r"coadd\.html is an input"):
        inspect(own, weights, output=own, overwrite=True)
    own = page.with_name("weights.html")
    with pytest.raises(ValueError, match=r"weights\.html is an input"):
        inspect(coadd, own, output=own, overwrite=True)
    truth = page.with_name("truth.html")
    truth.write_text(f"TARGETID,SPECTYPE,Z\n{TARGETID},QSO,9\n")
    with pytest.raises(ValueError, match=r"truth\.html is an input"):
        inspect(coadd, weights, output=truth, disagree=truth, overwrite=True)


@pytest.mark.parametrize("name", ["page.png", "page", ""])
def test_an_output_is_a_file_of_html(
    coadd: Path, page: Path, weights: Path, name: str
) -> None:
    output = str(page.with_name(name)) if name else name
    with pytest.raises(ValueError, match=r"html|name of a file"):
        inspect(coadd, weights, output=output)


def test_without_bokeh_the_extra_is_named(
    coadd: Path, page: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bokeh.plotting", None)
    with pytest.raises(MissingLibraryError, match=r"\[inspect\]"):
        inspect(coadd, weights, output=page)


# The csv.


def test_targets_with_ids_of_their_own_need_prospect_s_columns_alone(
    coadd: Path, page: Path, weights: Path
) -> None:
    inspect(coadd, weights, output=page)
    assert page_data(page)["columns"] == []


def test_other_targets_have_columns_that_tell_them_apart(
    inputs: Path, coadd: Path, page: Path, weights: Path
) -> None:
    hdus = coadd_hdus(3)
    hdus["FIBERMAP"]["TARGETID"][2] = TARGETID
    inspect(write_hdus(coadd, hdus), weights, output=page)
    assert page_data(page)["columns"] == ["FILE", "ROW"]
    spec = write_spec(inputs / "spec.fits")
    inspect([coadd, spec], weights, output=page, overwrite=True)
    columns = page_data(page)["columns"]
    assert columns == ["PLATE", "MJD", "FIBERID", "FILE", "ROW"]


# The command.


def test_the_command_makes_a_page(run: Run, coadd: Path, here: Path) -> None:
    status, out, err = run("inspect", coadd, "--limit", 4)
    assert (status, err) == (0, "")
    assert re.fullmatch(r"4 of 6 spectra, [12]\.\d MB -> inspect\.html\n", out)
    assert names(here) == ["inspect.html"]
    status, _, err = run("inspect", coadd)
    assert status == 1
    assert "inspect.html exists" in err
    ids = f"{TARGETID + 1},{TARGETID + 2}"
    status, out, _ = run("inspect", coadd, "--overwrite", "--targetids", ids)
    assert (status, out.split()[0]) == (0, "2")
    assert shown(here / "inspect.html") == [1, 2]
    assert run("inspect", coadd, "--overwrite", "--rows", "3-4,3")[0] == 0
    assert shown(here / "inspect.html") == [3, 4]


def test_the_command_compares_with_truth(run: Run, coadd: Path, here: Path) -> None:
    truth = here / "truth.csv"
    truth.write_text(f"TARGETID,SPECTYPE,Z\n{TARGETID + 1},QSO,9.5\n")
    run("inspect", coadd, "--disagree", truth)
    assert shown(here / "inspect.html") == [1]


def test_choices_exclude_each_other(run: Run, coadd: Path) -> None:
    status, _, err = run("inspect", coadd, "--quasars", "--rows", "1")
    assert status == 2
    assert "not allowed with" in err
