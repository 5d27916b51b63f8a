"""Truth in the forms that people have, and which row of a table is which of it."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import TARGETID, write_coadd, write_hdus

from qnp_xp import SpectraError, classify
from qnp_xp.io._match import match
from qnp_xp.io._truth import Kind, Truth, open_truth
from qnp_xp.io.tables import write_catalog

STAR, GALAXY, QSO, UNKNOWN = Kind.STAR, Kind.GALAXY, Kind.QUASAR, Kind.UNKNOWN


def table(**columns: Any) -> np.ndarray:
    """A table of columns, whose texts are bytes as in FITS."""
    arrays = [np.asarray(x) for x in columns.values()]
    arrays = [x.astype("S") if x.dtype.kind == "U" else x for x in arrays]
    dtype = [(n, x.dtype, x.shape[1:]) for n, x in zip(columns, arrays, strict=True)]
    return np.rec.fromarrays(arrays, dtype=dtype).view(np.ndarray)


def write(path: Path, hdu: str = "TABLE", **columns: Any) -> Path:
    return write_hdus(path, {hdu: table(**columns)})


def facts(truth: Truth) -> list[tuple[Kind, float | None, bool]]:
    """Class, redshift and whether it is sure, of each object."""
    z = [None if np.isnan(x) else round(x, 6) for x in truth.z.tolist()]
    kinds = map(Kind, truth.kind.tolist())
    return list(zip(kinds, z, truth.sure.tolist(), strict=True))


# Forms.


def test_the_superset_of_dr12q(tmp_path: Path) -> None:
    path = write(
        tmp_path / "superset.fits",
        THING_ID=np.arange(1, 9),
        PLATE=np.full(8, 3655, "i4"), MJD=np.full(8, 55240, "i4"),
        FIBERID=np.arange(1, 9, dtype="i4"),
        Z_VI=[2.3, 0.0, 0.4, 2.5, -1.0, 1.0, 2.0, 3.0],
        CLASS_PERSON=np.asarray([3, 1, 4, 30, 0, 3, 30, 50], "i2"),
        Z_CONF_PERSON=np.asarray([3, 3, 3, 3, 0, 2, 3, 3], "i2"),
        BAL_FLAG_VI=np.asarray([0, 0, 0, 1, 0, 1, 1, 0], "i2"),
        BI_CIV=[0.0, 0.0, 0.0, 512.0, 0.0, 9.0, 0.0, 0.0],
    )  # fmt: skip
    truth = open_truth(path)
    assert facts(truth) == [
        (QSO, 2.3, True), (STAR, 0.0, True), (GALAXY, 0.4, True), (QSO, 2.5, True),
        (UNKNOWN, None, False), (QSO, 1.0, False), (QSO, 2.0, True),
        (UNKNOWN, 3.0, False),
    ]  # fmt: skip
    # Where flag and balnicity index contradict each other nothing is known.
    assert truth.bal.tolist() == [0, -1, -1, 1, -1, 1, -1, -1]
    assert sorted(truth.identifiers) == ["FIBERID", "MJD", "PLATE", "THING_ID"]


def test_the_superset_of_dr16q_calls_its_confidence_otherwise() -> None:
    truth = open_truth(
        {"THING_ID": [1, 2], "Z_VI": [2.3, 1.0], "CLASS_PERSON": [30, 3],
         "Z_CONF": [3, 1], "Z": [9.0, 9.0], "IS_QSO_QN": [1, 1]}
    )  # fmt: skip
    assert facts(truth) == [(QSO, 2.3, True), (QSO, 1.0, False)]
    assert truth.bal.tolist() == [1, -1]  # by the class alone


@pytest.mark.parametrize(
    "names",
    [
        ("VI_Z", "VI_QUALITY", "VI_SPECTYPE"),
        ("best z", "best quality", "best spectype"),
    ],
    ids=["merged", "best of several inspectors"],
)
def test_visual_inspections_of_desi(tmp_path: Path, names: tuple[str, ...]) -> None:
    z, quality, spectype = names
    path = tmp_path / "vi.csv"
    path.write_text(
        f"TARGETID,{z},{quality},{spectype}\n"
        "39633140000000001,2.1,4.0,QSO\n39633140000000002,0.5,2.5,GALAXY\n"
        "-5,0.0,2.0,STAR\n"
    )
    truth = open_truth(path)
    assert facts(truth) == [(QSO, 2.1, True), (GALAXY, 0.5, True), (STAR, 0.0, False)]
    # Beyond what float64 counts exactly; DESI has negative ones too.
    expected = [39633140000000001, 39633140000000002, -5]
    assert truth.identifiers["TARGETID"].tolist() == expected


PROSPECT = """\
TARGETID,EXPID,Redrock_spectype,Redrock_z,VI_scanner,VI_quality,VI_issue,VI_z,VI_spectype,VI_comment
1,0,GALAXY,0.5312,me,4,,,,
2,0,GALAXY,0.5,me,4,C,,QSO,"broad, surely"
3,0,QSO,0.5,me,3,R,2.1,,
4,0,STAR,0.0,me,0,CR,,,
5,0,QSO,1.5,me,-1,,,,
6,0,QSO,1.5,me,3,S,,,
"""


def test_blanks_of_prospect_are_what_the_pipeline_says(tmp_path: Path) -> None:
    path = tmp_path / "vi.csv"
    path.write_text(PROSPECT)
    assert facts(open_truth(path)) == [
        (GALAXY, 0.5312, True), (QSO, 0.5, True), (QSO, 2.1, True),
        (UNKNOWN, None, False), (QSO, 1.5, False), (QSO, 1.5, True),
    ]  # fmt: skip


def test_names_are_matched_without_case(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text(PROSPECT)
    head, *rows = PROSPECT.splitlines()
    (tmp_path / "two.csv").write_text("\n".join([head.upper(), *rows]))
    one, two = (open_truth(tmp_path / f"{name}.csv") for name in ("one", "two"))
    assert facts(one) == facts(two)


def test_blanks_of_prospect_in_fits_are_nan_or_texts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "vi.fits",
        TARGETID=[1, 2], REDROCK_Z=[0.123456789012345, 1.0],
        REDROCK_SPECTYPE=["QSO", "STAR"], VI_Z=[np.nan, 2.0],
        VI_SPECTYPE=["", "QSO"], VI_QUALITY=[4, 4],
    )  # fmt: skip
    truth = open_truth(path)
    assert truth.z.tolist() == [0.123456789012345, 2.0]
    assert truth.kind.tolist() == [QSO, QSO]


@pytest.mark.parametrize("hdu", ["REDSHIFTS", "ZBEST"])
def test_redrock_is_sure_without_a_warning(tmp_path: Path, hdu: str) -> None:
    rows = table(TARGETID=[7, 8, 9], Z=[2.0, 0.1, 0.0], ZWARN=[0, 4, 0],
                 SPECTYPE=["QSO", "GALAXY", "STAR"])  # fmt: skip
    other = table(TARGETID=[1], SUBTYPE=["QSO"], Z=[0.0])
    path = write_hdus(tmp_path / "redrock.fits", {"FIBERMAP": other, hdu: rows})
    truth = open_truth(path)
    assert facts(truth) == [(QSO, 2.0, True), (GALAXY, 0.1, False), (STAR, 0.0, True)]
    assert truth.identifiers["TARGETID"].tolist() == [7, 8, 9]


def test_real_tables_of_redrock_and_sdss(reference: Path) -> None:
    redrock = open_truth(reference / "desi" / "redrock-4-80613-thru20210324.fits")
    assert facts(redrock) == [(GALAXY, 0.368744, True)]
    path = reference / "boss" / "spAll-plate3655.fits"
    found, rows = open_truth(path), fitsio.read(path, ext=1)
    quasar = np.char.strip(rows["CLASS"]) == "QSO"
    assert found.is_quasar.tolist() == quasar.tolist()
    assert found.sure.tolist() == (rows["ZWARNING"] == 0).tolist()
    np.testing.assert_array_equal(found.z, rows["Z"])
    np.testing.assert_array_equal(found.signal, rows["SN_MEDIAN_ALL"])
    assert found.signal_name == "SN_MEDIAN_ALL"
    path = reference / "boss" / "cat_for_clustering_plate3655.fits.gz"
    found, rows = open_truth(path), fitsio.read(path, ext=1)
    assert found.is_quasar.all()  # a catalogue of quasars, which says no class
    assert found.bal.tolist() == (rows["BI_CIV"] > 0).astype(int).tolist()
    np.testing.assert_array_equal(found.identifiers["TARGET_RA"], rows["RA"])


def test_a_spectrum_of_sdss_says_what_it_is(reference: Path) -> None:
    truth = open_truth(reference / "boss" / "spec-3655-55240-0002.fits")
    assert facts(truth) == [(QSO, 2.355238, True)]


@pytest.mark.parametrize("sign", [",", ";", "\t", "  "])
def test_texts_with_any_sign_between_values(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "truth.txt"
    rows = [("targetid", "z", "class"), ("5", "2.5", "quasar"), ("6", "nan", "star")]
    text = "\n".join(["# by hand", *(sign.join(row) for row in rows), "", ""])
    path.write_text(text)
    assert facts(open_truth(path)) == [(QSO, 2.5, True), (STAR, None, True)]


def test_truth_in_memory_and_packed(tmp_path: Path) -> None:
    columns = {"targetid": [1], "Z": [2.5], "SpecType": ["QSO"]}
    path = write(tmp_path / "t.fits", **columns)
    packed = tmp_path / "t.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    expected = [(QSO, 2.5, True)]
    assert facts(open_truth(columns)) == expected
    assert facts(open_truth(table(**columns))) == expected
    assert facts(open_truth(packed)) == expected
    truth = open_truth(str(path))
    assert open_truth(truth) is truth


def test_the_demo_says_what_was_simulated() -> None:
    path = Path(open_truth.__code__.co_filename).parents[1] / "data" / "demo-coadd.fits"
    truth = open_truth(path)
    assert np.bincount(truth.kind).tolist() == [1, 5, 6, 13]


# Refusals.


REFUSED = {
    "no class": ({"TARGETID": [1], "Z": [1.0]}, "without classes.*SPECTYPE"),
    "no redshift": ({"TARGETID": [1], "SPECTYPE": ["QSO"]}, "no redshifts"),
    "no redshift of quasars": ({"THING_ID": [1], "BI_CIV": [0.0]}, "no truth"),
    "nothing": ({"TARGETID": [1], "FLUX": [1.0]}, "has no truth.*SPECTYPE"),
    "no identifier": ({"Z": [1.0], "SPECTYPE": ["QSO"]}, "which object.*TARGETID"),
    "half of a place": ({"RA": [1.0], "Z": [1.0], "SPECTYPE": ["QSO"]}, "RA, DEC"),
    "other classes": (
        {"TARGETID": [1], "Z": [1.0], "SPECTYPE": ["ELG"]}, "SPECTYPE.*'ELG'"
    ),
    "numbers as classes": (
        {"TARGETID": [1], "Z": [1.0], "SPECTYPE": [3]}, "SPECTYPE.*int64"
    ),
    "no labels": (
        {"TARGETID": [1, 2], "Z": [1.0, 2.0], "SPECTYPE": ["", "?"]}, "none of its 2"
    ),
    "a rounded identifier": (
        {"TARGETID": [1.5], "Z": [1.0], "SPECTYPE": ["QSO"]}, "TARGETID.*integers"
    ),
    "a text for a number": (
        {"TARGETID": [1], "Z": ["far"], "SPECTYPE": ["QSO"]}, "Z.*no numbers.*FAR"
    ),
    "several redshifts": (
        {"TARGETID": [1], "Z": [[1.0, 2.0]], "SPECTYPE": ["QSO"]}, "Z has.*no numbers"
    ),
    "columns of two lengths": (
        {"TARGETID": [1, 2], "Z": [1.0, 2.0], "SPECTYPE": ["QSO"]}, "1 classes of 2"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_truth_is_refused_in_words(case: str) -> None:
    columns, words = REFUSED[case]
    with pytest.raises(SpectraError, match=rf"^truth: .*{words}"):
        open_truth(columns)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a line of names"),
        ("TARGETID,Z,SPECTYPE\n", "a line of names"),
        ("TARGETID,Z,SPECTYPE\n1,2.0,QSO\n1,2.0\n", "object 2 has 2 values for 3"),
        ("TARGETID,Z,SPECTYPE\n3.9e16,2.0,QSO\n", "TARGETID.*'3.9E16'"),
        ("TARGETID,Z,SPECTYPE\n99999999999999999999,2.0,QSO\n", "TARGETID.*64 bits"),
        ("TARGETID,Z\n1,2.0\n", "without classes"),
        ("hello\nworld\n", "no truth"),
        (f"TARGETID,Z,SPECTYPE\n1,2.0,{'Q' * 200_000}\n", "is no table"),
    ],
)
def test_texts_that_are_no_truth_are_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(SpectraError, match=rf"truth\.csv: .*{words}"):
        open_truth(path)


def test_files_that_are_no_truth_are_refused(tmp_path: Path) -> None:
    coadd = write_coadd(tmp_path / "coadd-1.fits", 2)
    with pytest.raises(SpectraError, match=r"coadd-1\.fits: has no truth"):
        open_truth(coadd)
    noise = tmp_path / "noise.bin"
    noise.write_bytes(bytes(range(128, 256)))
    with pytest.raises(SpectraError, match=r"noise\.bin: neither a FITS file nor"):
        open_truth(noise)
    with pytest.raises(FileNotFoundError, match=r"absent\.fits"):
        open_truth(tmp_path / "absent.fits")
    with pytest.raises(TypeError, match="truth must be the name"):
        open_truth(3)


def test_results_of_a_network_are_no_truth(tmp_path: Path) -> None:
    coadd = write_coadd(tmp_path / "coadd-1.fits", 2)
    results = classify(coadd)
    with pytest.raises(SpectraError, match="no truth"):
        open_truth(results)
    path = tmp_path / "qn.fits"
    write_catalog(path, results, [])
    with pytest.raises(SpectraError, match=r"qn\.fits: is a table of qnp-xp classify"):
        open_truth(path)
    # Nor where they are joined with something that is.
    joined = {name: results[name] for name in results.dtype.names}
    joined |= {"Z": np.zeros(2), "SPECTYPE": np.full(2, "QSO")}
    with pytest.raises(SpectraError, match="no truth"):
        open_truth(joined)


# Matches.


def truth_of(**columns: Any) -> Truth:
    """Truth of quasars of redshift 1, unless columns say otherwise."""
    n = len(next(iter(columns.values())))
    return open_truth({"Z": np.ones(n), "SPECTYPE": np.full(n, "QSO"), **columns})


def test_spectra_of_one_target_are_matched_by_their_fibers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fibers = {"PLATE": [1, 1, 1], "MJD": [5, 6, 5], "FIBERID": [1, 1, 2]}
    truth = truth_of(TARGETID=[7, 7, 8], SPECTYPE=["QSO", "STAR", "QSO"], **fibers)
    rows = {"TARGETID": np.asarray([7, 7, 7]), "PLATE": np.asarray([1, 1, 1])}
    rows |= {"MJD": np.asarray([6, 5, 9]), "FIBERID": np.asarray([1, 1, 1])}
    # Of a third spectrum nobody says what it is, and the two others contradict.
    assert match(rows, truth).tolist() == [1, 0, -1]
    assert "for 1 of 3 rows" in caplog.text


def test_targets_are_matched_by_targetid() -> None:
    truth = truth_of(TARGETID=TARGETID + np.asarray([3, 1, 2]))
    rows = {"TARGETID": TARGETID + np.arange(4)}
    assert match(rows, truth).tolist() == [-1, 1, 2, 0]


def test_unknown_identifiers_match_nothing() -> None:
    truth = truth_of(TARGETID=[-1, 5, -7], THING_ID=[0, -1, 0])
    rows = {"TARGETID": np.asarray([-1, 5, 0, -7])}
    # DESI has negative TARGETIDs.
    assert match(rows, truth).tolist() == [-1, 1, -1, 2]


def test_fibers_are_matched_before_things() -> None:
    fibers = {"PLATE": [1, 1, 2], "MJD": [5, 5, 5], "FIBERID": [1, 2, 1]}
    truth = truth_of(THING_ID=[10, 20, 30], **fibers)
    rows = {
        "TARGETID": np.asarray([30, 99, 20, 99]),
        "PLATE": np.asarray([1, 1, 9, 9]),
        "MJD": np.asarray([5, 5, 5, 5]),
        "FIBERID": np.asarray([1, 2, 1, 9]),
    }
    # The third row is another observation of a known thing, the last of nothing.
    assert match(rows, truth).tolist() == [0, 1, 1, -1]


def test_things_are_matched_with_what_tables_of_sdss_call_targetid() -> None:
    truth = truth_of(THING_ID=[7, -1, 8])
    rows = {"TARGETID": np.asarray([8, -1, 7])}
    assert match(rows, truth).tolist() == [2, -1, 0]


def test_sdss_v_is_matched_by_sdss_id() -> None:
    truth = truth_of(SDSS_ID=[70, 80])
    rows = {"TARGETID": np.asarray([-1, -1]), "SDSS_ID": np.asarray([80, 0])}
    assert match(rows, truth).tolist() == [1, -1]


def distances(ra: np.ndarray, dec: np.ndarray, other: Truth) -> np.ndarray:
    """Angles in arcseconds between all places and all of truth, by vectors."""

    def vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        ra, dec = np.deg2rad(ra), np.deg2rad(dec)
        parts = np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)
        return np.stack(parts, axis=-1)

    one = vectors(ra, dec)[:, None]
    two = vectors(other.identifiers["TARGET_RA"], other.identifiers["TARGET_DEC"])
    chord = np.linalg.norm(one - two, axis=-1)
    return np.rad2deg(2 * np.arcsin(chord / 2)) * 3600


def test_places_within_an_arcsecond_are_one_object() -> None:
    rng = np.random.default_rng(1)
    n = 300
    ra = np.concatenate([rng.uniform(0, 360, n - 20), np.full(20, 359.99999)])
    dec = np.concatenate([rng.uniform(-89.9, 89.9, n - 30), rng.uniform(89.9, 90, 30)])
    truth = truth_of(RA=ra, DEC=dec)
    shift, angle = rng.uniform(0, 2, n) / 3600, rng.uniform(0, 2 * np.pi, n)
    moved_dec = np.clip(dec + shift * np.sin(angle), -90, 90)
    moved_ra = (ra + shift * np.cos(angle) / np.cos(np.deg2rad(moved_dec))) % 360
    moved_ra[5], moved_dec[6] = np.nan, np.nan
    found = match({"TARGET_RA": moved_ra, "TARGET_DEC": moved_dec}, truth)
    near = distances(moved_ra, moved_dec, truth) <= 1
    expected = np.where(near.any(axis=1), near.argmax(axis=1), -1)
    assert found.tolist() == expected.tolist()
    assert 100 < (found >= 0).sum() < 250


def test_rows_without_identifiers_are_matched_by_their_places() -> None:
    truth = truth_of(TARGETID=[1, 2], RA=[10.0, 20.0], DEC=[0.0, 1.0])
    rows = {
        "TARGETID": np.asarray([2, -1]),
        "TARGET_RA": np.asarray([10.0, 10.0]),
        "TARGET_DEC": np.asarray([0.0, 0.0]),
    }
    assert match(rows, truth).tolist() == [1, 0]


def test_of_rows_that_agree_a_sure_and_full_one_is_taken() -> None:
    truth = open_truth(
        {"TARGETID": [1, 1, 2, 2, 3, 3], "ZWARN": [4, 0, 0, 0, 0, 0],
         "Z": [3.0, 1.0, np.nan, 1.0, 1.0, 1.009],
         "SPECTYPE": ["STAR", "QSO", "QSO", "QSO", "QSO", "QSO"]}
    )  # fmt: skip
    assert match({"TARGETID": np.asarray([1, 2, 3])}, truth).tolist() == [1, 3, 4]


CONTRADICTIONS = {
    "class": {"SPECTYPE": ["QSO", "STAR"]},
    "redshift": {"Z": [1.0, 1.05]},
    "broad absorption": {"IS_BAL": [0, 1]},
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_labels_that_contradict_each_other_are_left_out_and_counted(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {"Z": [1.0, 1.0], "SPECTYPE": ["QSO", "QSO"], **CONTRADICTIONS[case]}
    both = {name: [*values, values[0]] for name, values in labels.items()}
    truth = open_truth(
        {"TARGETID": [8, 8, 9], **both, "RA": [5.0] * 3, "DEC": [5.0] * 3}
    )
    rows = {"TARGETID": np.asarray([9, 8, 8])}
    places = {"TARGET_RA": np.full(3, 5.0), "TARGET_DEC": np.full(3, 5.0)}
    with caplog.at_level(logging.WARNING):
        # Neither the one nor the other, and no neighbour in their stead.
        assert match({**rows, **places}, truth).tolist() == [2, -1, -1]
    (message,) = caplog.messages
    assert "truth: " in message
    assert "2 of 3" in message
    assert "TARGETID 8" in message


def test_contradictions_in_one_place_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    truth = open_truth(
        {"RA": [1.0, 1.0], "DEC": [0.0, 0.0001], "Z": [1.0, 0.0],
         "SPECTYPE": ["QSO", "STAR"]}
    )  # fmt: skip
    rows = {"TARGET_RA": np.asarray([1.0]), "TARGET_DEC": np.asarray([0.0])}
    assert match(rows, truth).tolist() == [-1]
    assert "1 of 1" in caplog.text
    assert "row 0" in caplog.text
