"""Tables against truth, counted by hand; and the command that compares them."""

from __future__ import annotations

import io
import logging
import math
import re
import sys
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import LIGHT_SPEED, Run, names, run_python, write_coadd

import qnp_xp
from qnp_xp import SpectraError, Validation, classify, load_model, validate
from qnp_xp._validate._rates import Rate
from qnp_xp.errors import MissingLibraryError
from qnp_xp.io.tables import table_dtype, write_catalog
from qnp_xp.lines import LINES, LINES_BAL

NAMES = ("LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha")
ENDS = ("PURITY", "COMPLETENESS", "GOOD_Z")


def results(scores: Any, z: Any, **columns: Any) -> np.ndarray:
    """A table whose rows have one confidence in CIV, and the TARGETIDs 1, 2, 3, ..."""
    scores = np.asarray(scores, dtype=np.float32)
    table = np.zeros(
        scores.size, table_dtype(LINES, LINES_BAL, ("TARGETID",), fitted=False)
    )
    table["TARGETID"] = np.arange(scores.size) + 1
    table["C_CIV"] = table["Z_QN_CONF"] = scores
    table["Z_CIV"] = table["Z_QN"] = z
    table["IS_QSO_QN"] = scores > 0.5
    for name, values in columns.items():
        table[name] = values
    return table


def truth_of(kinds: str, z: Any, **columns: Any) -> dict[str, Any]:
    """Truth of the same targets: Q a quasar, G a galaxy, S a star."""
    words = {"Q": "QSO", "G": "GALAXY", "S": "STAR", "?": ""}
    return {
        "TARGETID": np.arange(len(kinds)) + 1,
        "SPECTYPE": [words[kind] for kind in kinds],
        "Z": np.asarray(z, dtype=float),
        **columns,
    }


def wilson(k: int, n: int) -> tuple[float, float]:
    """Where a binomial distribution is one standard deviation from what was seen."""
    # The roots of (p - k/n)^2 = p (1 - p) / n, found by halving.
    ends = []
    for start in (0.0, 1.0):
        inside, outside = k / n, start
        for _ in range(200):
            middle = (inside + outside) / 2
            near = (middle - k / n) ** 2 <= middle * (1 - middle) / n
            inside, outside = (middle, outside) if near else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


# By hand, on real spectra.


@pytest.fixture(scope="module")
def boss(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of the 80 spectra of BOSS, by the network that ships."""
    folder = tmp_path_factory.mktemp("boss")
    model = load_model(Path(qnp_xp.__file__).parent / "data" / "embedded-network.h5")
    for path in sorted((reference / "boss").glob("spec-*.fits")):
        classify(path, model, output=folder / f"qn-{path.name}")
    return folder


def counts_by_hand(
    tables: list[Path], catalog: Path, threshold: float, all_quasars: bool
) -> dict[str, int]:
    """Count rows one by one, with dictionaries."""
    found = dict.fromkeys(("rows", "quasars", "called", "both", "good", "bal"), 0)
    by_fiber, by_thing = {}, {}
    for row in fitsio.read(catalog, ext=1):
        kind = "QSO" if all_quasars else str(row["CLASS"]).strip()
        sure = all_quasars or row["ZWARNING"] == 0
        index = float(row["BI_CIV"]) if all_quasars else -1.0
        known = kind, float(row["Z"]), sure, index
        by_fiber[tuple(int(row[x]) for x in ("PLATE", "MJD", "FIBERID"))] = known
        by_thing.setdefault(int(row["THING_ID"]), []).append(known)
    for path in tables:
        row = fitsio.read(path, ext="QN")[0]
        fiber = tuple(int(row[x]) for x in ("PLATE", "MJD", "FIBERID"))
        known = by_fiber.get(fiber)
        if known is None and int(row["TARGETID"]) in by_thing:
            known = by_thing[int(row["TARGETID"])][0]
        if known is None or not known[2]:
            continue
        kind, z, _, index = known
        confidence = max(float(row[f"C_{name}"]) for name in NAMES)
        called, quasar = confidence > threshold, kind == "QSO"
        found["rows"] += 1
        found["quasars"] += quasar
        found["called"] += called
        found["both"] += called and quasar
        good = abs(float(row["Z_QN"]) - z) / (1 + z) <= 0.01
        found["good"] += called and quasar and good
        found["bal"] += quasar and index > 0
    return found


@pytest.mark.parametrize("threshold", [0.5, 0.99])
@pytest.mark.parametrize(
    ("catalog", "all_quasars"),
    [("spAll-plate3655.fits", False), ("cat_for_clustering_plate3655.fits.gz", True)],
    ids=["spAll", "quasars"],
)
def test_numbers_on_real_spectra_are_those_of_a_hand_count(
    reference: Path, boss: Path, catalog: str, all_quasars: bool, threshold: float
) -> None:
    path, tables = reference / "boss" / catalog, sorted(boss.iterdir())
    expected = counts_by_hand(tables, path, threshold, all_quasars)
    found = validate(tables, path, c_thresh=threshold)
    assert expected["rows"] > 70
    assert found.counts["rows"] == 80
    assert found.counts["scored"] == expected["rows"]
    assert found.counts["quasar"] == expected["quasars"]
    assert found.completeness == Rate(expected["both"], expected["quasars"])
    assert found.good_z == Rate(expected["good"], expected["both"])
    assert found.bal_recall.total == expected["bal"]
    if all_quasars:  # where nothing can be called so wrongly
        assert found.purity == Rate(0, 0)
        assert "nothing but quasars" in repr(found)
    else:
        assert found.purity == Rate(expected["both"], expected["called"])
    problems = found.disagreeing["PROBLEM"].tolist()
    assert problems.count(b"missed") == expected["quasars"] - expected["both"]
    assert problems.count(b"false") == expected["called"] - expected["both"]
    assert problems.count(b"redshift") == expected["both"] - expected["good"]


# By hand, on rows that were made up.


TABLE = results(
    [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.95, 0.55], [2.0, 2.5, 1.0, 0.3, 1.5, 0.0, 3.0, 2.2]
)
TRUTH = truth_of("QQSGQSQ?", [2.01, 2.6, 0.0, 0.3, 1.5, 0.0, np.nan, 2.2])


def test_rates_of_a_few_rows() -> None:
    found = validate(TABLE, TRUTH)
    expected = {"rows": 8, "matched": 8, "sure": 7, "scored": 7, "quasar": 4}
    assert found.counts == {**expected, "galaxy": 1, "star": 2}
    assert found.purity == Rate(3, 5)
    assert found.completeness == Rate(3, 4)
    assert found.good_z == Rate(1, 2)  # the third has no redshift in truth
    assert validate(TABLE, TRUTH, dz=0.03).good_z == Rate(2, 2)
    assert (found.c_thresh, found.n_thresh, found.dz) == (0.5, 1, 0.01)


@pytest.mark.parametrize(("k", "n"), [(3, 5), (0, 4), (4, 4), (999, 1000), (1, 2)])
def test_errors_are_wilsons(k: int, n: int) -> None:
    assert Rate(k, n).value == k / n
    assert Rate(k, n).interval == pytest.approx(wilson(k, n), abs=1e-12)


def test_rates_of_no_rows_are_not_known() -> None:
    assert math.isnan(Rate(0, 0).value)
    assert np.isnan(Rate(0, 0).interval).all()
    assert str(Rate(0, 0)) == "not known (of no rows)"
    low, high = wilson(3, 4)
    expected = f"0.750 +{high - 0.75:.3f} -{0.75 - low:.3f} (3 of 4)"
    assert str(Rate(3, 4)) == expected


def test_rows_that_disagree_are_listed_with_what_is_wrong() -> None:
    rows = validate(TABLE, TRUTH).disagreeing
    assert rows["ROW"].tolist() == [1, 2, 3, 4]
    assert rows["PROBLEM"].tolist() == [b"redshift", b"false", b"false", b"missed"]
    expected = [b"QSO", b"STAR", b"GALAXY", b"QSO"]
    assert rows["TRUE_CLASS"].tolist() == expected
    assert rows["TRUE_Z"].tolist() == [2.6, 0.0, 0.3, 1.5]
    assert rows["DV"][0] == pytest.approx(LIGHT_SPEED * -0.1 / 3.6)
    assert np.isnan(rows["DV"][1:3]).all()
    for name in TABLE.dtype.names:
        assert rows[name].tolist() == TABLE[name][1:5].tolist()


def test_thresholds_are_counted_one_by_one() -> None:
    table = TABLE.copy()
    table["C_CIV"][6] = 0.5  # which is not above 0.5
    table["IS_QSO_QN"][6] = 0
    found = validate(table, TRUTH)
    assert found.completeness == Rate(2, 4)
    curve = found.by_threshold
    quasar = np.asarray([True, True, False, False, True, False, True])
    score = table["C_CIV"].astype(float)[:7]
    for row in curve:
        above = score > row["C_THRESH"]
        assert row["N_CALLED"] == above.sum()
        assert row["N_RIGHT"] == row["N_FOUND"] == (above & quasar).sum()
        assert row["N_GOOD"] == sum(above[i] for i in (0, 4))
        assert row["N_Z"] == sum(above[i] for i in (0, 1, 4))
        if above.any():
            assert row["PURITY"] == row["N_RIGHT"] / row["N_CALLED"]
            ends = row["PURITY_LOW"], row["PURITY_HIGH"]
            assert ends == pytest.approx(wilson(row["N_RIGHT"], row["N_CALLED"]))
        else:
            assert np.isnan(row["PURITY"])
        assert row["COMPLETENESS"] == row["N_FOUND"] / 4


def test_bins_of_redshift_have_all_rows() -> None:
    bins = validate(TABLE, TRUTH).by_redshift
    assert (np.diff(bins["Z_LOW"]) == 0.25).all()
    counted = dict.fromkeys(("N_QSO", "N_FOUND", "N_GOOD", "N_CALLED"), 0)
    for low, high, row in zip(bins["Z_LOW"], bins["Z_HIGH"], bins, strict=True):
        in_truth = [low <= z < high for z in (2.01, 2.6, 1.5)]
        assert row["N_QSO"] == sum(in_truth)
        assert row["N_FOUND"] == sum(in_truth[:2])
        assert row["N_GOOD"] == in_truth[0]
        called = [2.0, 2.5, 1.0, np.float32(0.3), 3.0]
        # The last bin has its upper end as well.
        last = high == bins["Z_HIGH"][-1]
        assert row["N_CALLED"] == sum(
            low <= z < high or (last and z == high) for z in called
        )
        for name in counted:
            counted[name] += row[name]
    assert counted == {"N_QSO": 3, "N_FOUND": 2, "N_GOOD": 1, "N_CALLED": 5}


def test_bins_of_signal_double(caplog: pytest.LogCaptureFixture) -> None:
    signal = [0.3, 1.5, 1.6, 3.0, 5.0, 0.0, np.nan, 1.0]
    found = validate(TABLE, {**TRUTH, "SN_MEDIAN_ALL": signal})
    assert found.signal_name == "SN_MEDIAN_ALL of truth"
    bins = found.by_signal
    assert bins["SN_LOW"].tolist() == [0.25, 0.5, 1, 2, 4]
    assert bins["SN_HIGH"].tolist() == [0.5, 1, 2, 4, 8]
    assert bins["N_QSO"].tolist() == [1, 0, 1, 0, 1]
    assert bins["N_FOUND"].tolist() == [1, 0, 1, 0, 0]
    assert bins["N_CALLED"].tolist() == [1, 0, 2, 1, 0]
    assert bins["N_RIGHT"].tolist() == [1, 0, 1, 0, 0]


def test_a_signal_of_the_table_comes_first_and_none_makes_no_bins() -> None:
    assert validate(TABLE, TRUTH).by_signal.size == 0
    assert validate(TABLE, TRUTH).signal_name == ""
    own = np.zeros(8, dtype=[*TABLE.dtype.descr, ("SNR", "f4")])
    for name in TABLE.dtype.names:
        own[name] = TABLE[name]
    own["SNR"] = 3.0
    found = validate(own, {**TRUTH, "SNR": np.full(8, 9.0)})
    assert found.signal_name == "SNR of the table"
    assert found.by_signal["SN_LOW"].tolist() == [2.0]
    dark = validate(TABLE, {**TRUTH, "SNR": np.zeros(8)})
    assert dark.by_signal.size == 0


def test_lines_are_compared_one_by_one_and_a_wiggle_shows() -> None:
    n = 6000
    z = np.linspace(1.0, 3.0, n)
    wiggle = 0.003 * np.sin(2 * np.pi * np.log10(1 + z) / 0.034)
    table = results(np.full(n, 0.9), z)
    table["Z_CIV"] = z + wiggle * (1 + z)
    table["C_LYA"], table["Z_LYA"] = 0.8, z + 0.001 * (1 + z)
    table["C_CIII"] = 0.4  # below the threshold
    found = validate(table, truth_of("Q" * n, z))
    true_z, dv = found.offsets["CIV"]
    np.testing.assert_allclose(dv, LIGHT_SPEED * wiggle, atol=0.1)
    np.testing.assert_array_equal(true_z, z)
    assert found.offsets["CIII"][0].size == 0
    rows = found.by_velocity
    assert set(rows["LINE"].tolist()) == {b"LYA", b"CIV"}
    lya = rows[rows["LINE"] == b"LYA"]
    assert lya["N"].sum() == n
    np.testing.assert_allclose(lya["DV"], 0.001 * LIGHT_SPEED, atol=0.2)
    civ = rows[rows["LINE"] == b"CIV"]
    assert (civ["Z_LOW"][1:] == civ["Z_HIGH"][:-1]).all()
    for low, high, row in zip(civ["Z_LOW"], civ["Z_HIGH"], civ, strict=True):
        inside = dv[(z >= low) & (z < high)]
        assert row["N"] == inside.size
        expected = np.percentile(inside, [16, 50, 84])
        assert [row["DV_P16"], row["DV"], row["DV_P84"]] == pytest.approx(expected)
    # Nearly the whole of it, in the bins.
    assert civ["DV"].max() > 0.9 * 0.003 * LIGHT_SPEED
    assert civ["DV"].min() < -0.9 * 0.003 * LIGHT_SPEED


def test_broad_absorption_is_counted_where_truth_knows_of_it() -> None:
    table = results(np.full(6, 0.9), np.full(6, 2.0))
    table["C_BAL_CIV"] = [0.9, 0.2, 0.9, 0.1, 0.9, 0.9]
    bal = [500.0, 20.0, 0.0, 0.0, -1.0, 3.0]
    truth = truth_of("QQQQQS", np.full(6, 2.0), BI_CIV=bal)
    found = validate(table, truth)
    assert found.bal_recall == Rate(1, 2)
    assert found.bal_purity == Rate(1, 2)
    plain = validate(table, truth_of("QQQQQS", np.full(6, 2.0)))
    assert plain.bal_recall == plain.bal_purity == Rate(0, 0)


@pytest.mark.parametrize("purity", [0.3, 0.5, 0.6, 0.75, 0.9, 1.0])
def test_the_threshold_for_a_purity_is_the_lowest(purity: float) -> None:
    rng = np.random.default_rng(3)
    quasar = rng.uniform(size=200) < 0.5
    scores = np.where(quasar, rng.beta(3, 2, 200), rng.beta(2, 3, 200))
    table = results(scores, np.ones(200))
    table["C_LYA"][:3] = 0.0
    kinds = "".join("Q" if is_quasar else "S" for is_quasar in quasar)
    found = validate(table, truth_of(kinds, np.ones(200)), purity=purity)
    score = table["C_CIV"].astype(float)

    def reached(threshold: float) -> bool:
        above = score > threshold
        return bool(above.any()) and quasar[above].mean() >= purity

    assert reached(found.threshold)
    chosen = (score > found.threshold).sum()
    lower = [x for x in [0.0, *np.sort(score)] if (score > x).sum() > chosen]
    assert not any(reached(x) for x in lower)
    above = score > found.threshold
    one, two = found.at_threshold
    assert one == Rate(int((above & quasar).sum()), int(above.sum()))
    assert two == Rate(int((above & quasar).sum()), int(quasar.sum()))
    assert f"purity {purity:g}: from a threshold of {found.threshold:g}" in repr(found)
    # By the number that is printed, too.
    assert (score > float(f"{found.threshold:g}")).sum() == above.sum()


def test_purities_that_no_threshold_gives_are_said_so() -> None:
    table = results([0.9, 0.8, 0.7], [1.0, 1.0, 1.0])
    found = validate(table, truth_of("SQQ", np.ones(3)), purity=0.9)
    assert math.isnan(found.threshold)
    assert "no threshold gives it (at most 0.667)" in repr(found)
    alone = validate(table, truth_of("QQQ", np.ones(3)), purity=0.9)
    assert math.isnan(alone.threshold)
    assert np.isnan(alone.by_threshold["PURITY"]).all()
    assert "purity 0.9: not known: truth has nothing but quasars" in repr(alone)


def test_rows_without_a_result_and_sky_fibers() -> None:
    table = results([np.nan, 0.9, 0.9], [np.nan, 1.0, 1.0], QN_STATUS=[1, 16, 0])
    table["IS_QSO_QN"] = [0, 0, 1]
    found = validate(table, truth_of("QSQ", np.ones(3)))
    assert (found.counts["sure"], found.counts["scored"]) == (3, 2)
    # What is no target is no quasar, whatever its confidence.
    assert found.purity == Rate(1, 1)
    assert found.by_threshold["N_CALLED"].max() == 1


def test_several_lines_may_be_asked_for() -> None:
    table = results([0.9, 0.9, 0.9], np.ones(3))
    table["C_LYA"] = [0.6, 0.2, 0.7]
    found = validate(table, truth_of("QQS", np.ones(3)), n_thresh=2)
    assert found.completeness == Rate(1, 2)
    assert found.purity == Rate(1, 2)
    assert "above 0.5 in 2 lines" in repr(found)


def test_an_array_of_another_threshold_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = results([0.9, 0.6], np.ones(2), IS_QSO_QN=[1, 0])
    truth = truth_of("QS", np.ones(2))
    with caplog.at_level(logging.WARNING):
        validate(table, truth, c_thresh=0.8, n_thresh=1)
        validate(TABLE, TRUTH)
        assert caplog.messages == []
        validate(table, truth)
    assert "another threshold than 0.5" in caplog.text


def test_another_table_is_compared_beside() -> None:
    old = results(np.full(8, 0.6), np.ones(8))
    found = validate(TABLE, TRUTH, other=old, purity=0.5)
    assert repr(found.other) == repr(validate(old, TRUTH, purity=0.5))
    one, two = repr(found).split("\n\n")
    assert one == repr(validate(TABLE, TRUTH, purity=0.5))
    assert two == repr(found.other)


def test_the_text_says_what_was_left_out() -> None:
    truth = truth_of("QS?", [1, 0, 0.0])
    truth["TARGETID"] = np.asarray([1, 2, 3])
    table = results([0.9, np.nan, 0.2, 0.1], np.ones(4), QN_STATUS=[0, 1, 0, 0])
    text = repr(validate(table, truth))
    assert "4 rows, 1 compared (1 without truth, 1 not sure, 1 not scored)" in text
    assert "1 QSO, 0 GALAXY, 0 STAR" in text


def test_a_hundred_thousand_rows_take_less_than_two_seconds() -> None:
    code = (
        "import time; import numpy as np; from qnp_xp import validate\n"
        "from qnp_xp.io.tables import table_dtype; from qnp_xp.lines import *\n"
        "n = 100_000; rng = np.random.default_rng(0)\n"
        "t = np.zeros(n, table_dtype(LINES, LINES_BAL, ('TARGETID',), fitted=False))\n"
        "t['TARGETID'] = rng.permutation(n); quasar = rng.random(n) < 0.5\n"
        "for x in t.dtype.names[4:-1]: t[x] = rng.random(n)\n"
        "words = np.where(quasar, 'QSO', 'STAR')\n"
        "truth = dict(TARGETID=np.arange(n), Z=rng.random(n), SPECTYPE=words)\n"
        "start = time.process_time(); validate(t, truth, c_thresh=0.8, n_thresh=1)\n"
        "print(time.process_time() - start)"
    )
    assert float(run_python(code)) < 2


# Refusals.


def test_truth_of_other_objects_is_refused() -> None:
    truth = {**TRUTH, "TARGETID": np.arange(8) + 100}
    with pytest.raises(ValueError, match=r"none of its 8 objects.*TARGETID"):
        validate(TABLE, truth)


def test_truth_that_is_never_sure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"none of the 8 rows.*sure"):
        validate(TABLE, {**TRUTH, "ZWARN": np.full(8, 4)})


def test_tables_without_a_result_are_refused() -> None:
    table = results([np.nan], [np.nan], QN_STATUS=[1])
    with pytest.raises(ValueError, match=r"none of the 1 rows.*result"):
        validate(table, truth_of("Q", [1]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dz": 0}, "dz"),
        ({"dz": 1.5}, "dz"),
        ({"purity": 0}, "purity"),
        ({"purity": 95}, "purity"),
        ({"c_thresh": 2}, "c_thresh"),
        ({"n_thresh": 0}, "n_thresh"),
        ({"n_thresh": 7}, "n_thresh is 7, of 6"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        validate(TABLE, TRUTH, **settings)


def test_what_is_no_table_of_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column"):
        validate(np.zeros(3, dtype=[("TARGETID", "i8")]), TRUTH)
    with pytest.raises(ValueError, match="no table of qnp-xp classify"):
        validate(np.zeros(3), TRUTH)
    with pytest.raises(ValueError, match="no table of results"):
        validate([], TRUTH)
    coadd = write_coadd(tmp_path / "coadd-1.fits", 2)
    with pytest.raises(SpectraError, match=r"coadd-1\.fits: holds no table"):
        validate(coadd, TRUTH)


# Files.


@pytest.fixture
def found() -> Validation:
    other = results(np.full(8, 0.6), np.ones(8))
    return validate(TABLE, {**TRUTH, "SNR": np.arange(8.0)}, other=other, purity=0.7)


def test_a_fits_file_has_all_tables(found: Validation, tmp_path: Path) -> None:
    path = tmp_path / "report.fits"
    found.write(path)
    assert names(tmp_path) == ["report.fits"]
    for suffix, part in (("", found), ("_2", found.other)):
        for hdu, table in (
            ("DISAGREE", part.disagreeing),
            ("THRESHOLD", part.by_threshold),
            ("REDSHIFT", part.by_redshift),
            ("SIGNAL", part.by_signal),
            ("VELOCITY", part.by_velocity),
        ):
            read = fitsio.read(path, ext=f"{hdu}{suffix}")
            assert read.dtype.names == table.dtype.names
            for name in table.dtype.names:
                values = read[name]
                if values.dtype.kind in "SU":
                    values = values.astype("S")
                np.testing.assert_array_equal(values, table[name])
    header = fitsio.read_header(path, ext=1)
    assert (header["C_THRESH"], header["QNTRUTH"], header["QNDZ"]) == (
        0.5,
        "truth",
        0.01,
    )


def test_a_csv_file_has_the_rows_that_disagree(
    found: Validation, tmp_path: Path
) -> None:
    path = tmp_path / "report.csv"
    found.write(path)
    read = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="ascii")
    assert read["PROBLEM"].tolist() == ["redshift", "false", "false", "missed"]
    np.testing.assert_array_equal(read["TRUE_Z"], found.disagreeing["TRUE_Z"])
    np.testing.assert_array_equal(
        read["C_CIV"].astype(np.float32), found.disagreeing["C_CIV"]
    )


def test_a_report_without_rows_is_written(tmp_path: Path) -> None:
    nothing = validate(results([0.9], [1.0]), truth_of("Q", [1.0]))
    assert nothing.disagreeing.size == 0
    for ending in ("fits", "csv"):
        nothing.write(tmp_path / f"report.{ending}")
    assert fitsio.read_header(tmp_path / "report.fits", ext="DISAGREE")["NAXIS2"] == 0
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 1


def test_files_are_replaced_only_where_that_is_asked_for(
    found: Validation, tmp_path: Path
) -> None:
    path = tmp_path / "report.csv"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"report\.csv"):
        found.write(path)
    assert path.read_text() == "mine"
    found.write(path, overwrite=True)
    assert path.read_text().startswith("ROW,PROBLEM")
    with pytest.raises(ValueError, match=r"report\.txt.*\.fits, \.csv"):
        found.write(tmp_path / "report.txt")


# Pictures.


def drawn(axes: Any) -> str:
    """All words on axes."""
    legend = axes.get_legend()
    texts = [t.get_text() for t in axes.texts]
    texts += [t.get_text() for t in legend.get_texts()] if legend else []
    return "\n".join([*texts, axes.get_xlabel(), axes.get_title(loc="left")])


def test_the_picture_shows_rates_and_lines_of_both_tables(found: Validation) -> None:
    pytest.importorskip("matplotlib")
    figure = found.draw()
    assert len(figure.axes) == 4 + len(NAMES)
    curves, by_z, purity, signal, *velocities = figure.axes
    upright = [x.get_xdata()[0] for x in curves.lines if len(x.get_xdata()) == 2]
    assert upright == [0.5, found.threshold, 0.5]  # which the other never reaches
    solid = [x for x in curves.lines if len(x.get_xdata()) > 2]
    for line, name in zip(solid, ENDS, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), found.by_threshold[name])
    assert len(solid) == 6
    styles = [line.get_linestyle() for line in solid]
    assert styles == ["-"] * 3 + ["--"] * 3
    assert "completeness" in drawn(by_z)
    assert "purity" in drawn(purity)
    assert "SNR of truth" in drawn(signal)
    assert [drawn(axes).split("\n")[-1] for axes in velocities] == list(NAMES)
    points = velocities[1].lines[1]
    np.testing.assert_array_equal(points.get_ydata(), found.offsets["CIV"][1])
    assert "no line above the threshold" in drawn(velocities[0])


def test_the_picture_says_what_is_not_known() -> None:
    pytest.importorskip("matplotlib")
    figure = validate(results([0.9], [1.0]), truth_of("Q", [1.0])).draw()
    assert "nothing but quasars" in drawn(figure.axes[2])
    assert "no signal to noise ratio" in drawn(figure.axes[3])
    assert len(figure.axes[1].containers) == 2
    figure = validate(results([0.1], [1.0]), truth_of("S", [0.0])).draw()
    assert "no row is called a quasar" in drawn(figure.axes[2])
    assert "nothing but quasars" not in drawn(figure.axes[2])


def test_medians_are_drawn_where_points_are_many() -> None:
    pytest.importorskip("matplotlib")
    n = 4000
    z = np.linspace(1.0, 3.0, n)
    figure = validate(results(np.full(n, 0.9), z), truth_of("Q" * n, z)).draw()
    civ = figure.axes[5]
    assert max(len(line.get_xdata()) for line in civ.lines) < 200
    assert len(civ.collections) == 1


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF-")])
def test_pictures_are_written(
    found: Validation, tmp_path: Path, ending: str, start: bytes
) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    path = tmp_path / f"report.{ending}"
    found.write(path)
    content = path.read_bytes()
    assert content.startswith(start)
    if ending == "png":
        pixels = matplotlib.image.imread(io.BytesIO(content), format="png")
        assert pixels.shape[0] > pixels.shape[1] > 800


# The command.


@pytest.fixture
def files(here: Path) -> Path:
    """Two tables of one network, truth as a text, and a summary of a run."""
    cards = [("C_THRESH", 0.75, ""), ("N_THRESH", 1, ""), ("QNSHA256", "x", "")]
    cards += [(f"QNLINE{i:02d}", line, "") for i, line in enumerate(LINES)]
    write_catalog(here / "qn-1.fits", TABLE[:4], cards)
    write_catalog(here / "qn-2.fits", TABLE[4:], cards)
    columns = zip(*TRUTH.values(), strict=True)
    rows = [",".join(map(str, row)) for row in columns]
    (here / "truth.csv").write_text("\n".join([",".join(TRUTH), *rows]))
    return here


def test_the_command_prints_numbers_by_the_threshold_of_the_table(
    run: Run, files: Path
) -> None:
    status, out, err = run("validate", "qn-1.fits", "qn-2.fits", "--truth", "truth.csv")
    assert (status, err) == (0, "")
    expected = validate(TABLE, "truth.csv", c_thresh=0.75, n_thresh=1)
    assert expected.completeness == Rate(3, 4)
    assert expected.purity == Rate(3, 3)
    assert out.splitlines()[0] == "qn-1.fits ... qn-2.fits against truth.csv"
    assert out.splitlines()[1:] == repr(expected).splitlines()[1:]
    _, out, _ = run(
        "validate", "qn-1.fits", "qn-2.fits", "--truth", "truth.csv", "--c-thresh", 0.5,
        "--dz", 0.03, "--purity", 0.5, "--n-thresh", 1,
    )  # fmt: skip
    expected = validate(
        TABLE, "truth.csv", c_thresh=0.5, n_thresh=1, dz=0.03, purity=0.5
    )
    assert out.splitlines()[1:] == repr(expected).splitlines()[1:]
    assert names(files) == ["qn-1.fits", "qn-2.fits", "truth.csv"]


def test_the_command_writes_reports(run: Run, files: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ("validate", "qn-1.fits", "--truth", "truth.csv", "-o")
    status, out, err = run(*command, "report")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "report -> report.fits, report.png"
    assert run(*command, "rows.csv")[0] == 0
    made = {"report.fits", "report.png", "rows.csv"}
    assert made <= set(names(files))
    status, _, err = run(*command, "report")
    assert status == 1
    assert "report.fits exists" in err
    assert run(*command, "rows.csv")[0] == 1
    assert run(*command, "rows.csv", "--overwrite")[0] == 0


def test_the_command_compares_two_tables(run: Run, files: Path) -> None:
    (files / "list.txt").write_text("qn-1.fits\nqn-2.fits\n")
    status, out, err = run(
        "validate", "qn-1.fits", "--truth", "truth.csv", "--compare", "@list.txt",
        "-o", "report.fits",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "qn-1.fits ... qn-2.fits against truth.csv" in out
    header = fitsio.read_header("report.fits", ext="DISAGREE")
    named = header["QNTABLE"], header["QNTABLE2"]
    assert named == ("qn-1.fits", "qn-1.fits ... qn-2.fits")


def test_a_summary_among_the_tables_is_skipped(
    run: Run, inputs: Path, here: Path
) -> None:
    coadds = [write_coadd(inputs / f"coadd-{i}.fits", 2, seed=i) for i in range(2)]
    assert run("classify", *coadds, "--summary", "qn-summary.fits")[0] == 0
    ids = fitsio.read("qn-0.fits")["TARGETID"]
    rows = [f"{target},1.0,QSO" for target in ids.tolist()]
    Path("truth.csv").write_text("\n".join(["TARGETID,Z,SPECTYPE", *rows]))
    tables = ("qn-0.fits", "qn-1.fits", "qn-summary.fits")
    status, out, err = run("validate", *tables, "--truth", "truth.csv")
    assert (status, err) == (0, "")
    assert "4 rows, 4 compared" in out
    status, _, err = run("validate", tables[2], "--truth", "truth.csv")
    assert status == 1
    assert "qn-summary.fits: holds no table" in err


@pytest.mark.parametrize("output", ["qn-1.fits", "truth.csv"])
def test_reports_never_replace_an_input(run: Run, files: Path, output: str) -> None:
    before = (files / output).read_bytes()
    status, _, err = run(
        "validate", "qn-1.fits", "--truth", "truth.csv", "-o", output, "--overwrite"
    )
    assert status == 1
    assert f"{output} is an input" in err
    assert (files / output).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["qn-1.fits"], 2, "--truth"),
        (["qn-1.fits", "--truth", "absent.csv"], 1, "absent.csv"),
        (["absent.fits", "--truth", "truth.csv"], 1, "absent.fits"),
        (["truth.csv", "--truth", "truth.csv"], 1, "truth.csv"),
        (["qn-1.fits", "--truth", "qn-2.fits"], 1, "qn-2.fits.*no truth"),
        (["qn-1.fits", "--truth", "truth.csv", "-o", "a.txt"], 2, r"a\.txt.*\.fits"),
        (["qn-1.fits", "--truth", "truth.csv", "-o", "no/a.csv"], 1, "no such folder"),
        (["qn-1.fits", "--truth", "truth.csv", "--purity", "9"], 1, "purity"),
    ],
)
def test_mistakes_are_said_and_leave_nothing(
    run: Run, files: Path, arguments: list[str], status: int, words: str
) -> None:

    before = names(files)
    found, out, err = run("validate", *arguments)
    assert (found, out) == (status, "")
    assert re.search(words, err)
    assert names(files) == before


def test_pictures_without_matplotlib_are_an_error_before_any_work(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, err = run("validate", "qn-1.fits", "--truth", "truth.csv", "-o", "a")
    assert (status, out) == (1, "")
    assert "matplotlib" in err
    with pytest.raises(MissingLibraryError, match="matplotlib"):
        validate(TABLE, TRUTH).draw()
    assert run("validate", "qn-1.fits", "--truth", "truth.csv", "-o", "a.fits")[0] == 0
