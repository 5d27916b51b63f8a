"""The legacy readers of BOSS tables, with expectations computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fitsio
import numpy as np
import pytest

from qnp_xp import SpectraError
from qnp_xp.io import read_data, read_spall, read_truth

TRUTH = [
    ("THING_ID", "i8"),
    ("Z_VI", "f8"),
    ("PLATE", "i4"),
    ("MJD", "i4"),
    ("FIBERID", "i4"),
    ("CLASS_PERSON", "i2"),
    ("Z_CONF_PERSON", "i2"),
    ("BAL_FLAG_VI", "i2"),
    ("BI_CIV", "f8"),
]
STAR, QSO, GALAXY, BAL = 1, 3, 4, 30
SURE = 3
NBINS = 443


def write_table(path: Path, table: np.ndarray, primary: Any = None) -> Path:
    """Write a table as HDU 1, with an image before it or none."""
    path.unlink(missing_ok=True)
    with fitsio.FITS(str(path), "rw") as f:
        f.write(primary)
        f.write(table, extname="TABLE")
    return path


def lower_case(table: np.ndarray) -> np.ndarray:
    """The same table with lower-case names of columns."""
    names = [name.lower() for name in table.dtype.names or ()]
    return table.astype([(n, table.dtype[i]) for i, n in enumerate(names)])


def without(table: np.ndarray, column: str) -> np.ndarray:
    """The same table without a column."""
    names = [name for name in table.dtype.names or () if name != column]
    smaller = np.zeros(table.size, dtype=[(n, table.dtype[n]) for n in names])
    for name in names:
        smaller[name] = table[name]
    return smaller


@pytest.fixture
def truth_table() -> np.ndarray:
    return np.array(
        [
            (101, 0.001, 3655, 55240, 2, STAR, SURE, 0, 0.0),
            (102, 2.345, 3655, 55240, 26, QSO, SURE, 1, 512.5),
            (103, 0.5, 3656, 55269, 1000, GALAXY, 2, 0, 0.0),
        ],
        dtype=TRUTH,
    )


# read_truth.


@pytest.mark.parametrize("change", [np.copy, lower_case])
def test_truth_is_an_object_for_each_target(
    tmp_path: Path, truth_table: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = write_table(tmp_path / "truth.fits", change(truth_table))
    truth = read_truth([path])
    assert set(truth) == {101, 102, 103}
    assert all(type(key) is int for key in truth)
    found = truth[102]
    assert found.z_vi == 2.345
    assert (found.plate, found.mjd, found.fiberid) == (3655, 55240, 26)
    assert (found.class_person, found.z_conf_person) == (QSO, SURE)
    assert (found.bal_flag_vi, found.bi_civ) == (1, 512.5)
    assert set(vars(found)) == {name.lower() for name, _ in TRUTH[1:]}


def test_truth_of_several_files_is_joined_and_the_last_word_counts(
    tmp_path: Path, truth_table: np.ndarray
) -> None:
    first = write_table(tmp_path / "a.fits", truth_table)
    truth_table = truth_table[1:]
    truth_table["THING_ID"] = [102, 999]
    truth_table["Z_VI"] = [3.1, 0.7]
    second = write_table(tmp_path / "b.fits", truth_table)
    truth = read_truth([str(first), second])
    redshifts = {key: float(found.z_vi) for key, found in truth.items()}
    assert redshifts == {101: 0.001, 102: 3.1, 103: 0.5, 999: 0.7}
    assert read_truth([]) == {}


@pytest.mark.parametrize("column", ["THING_ID", "Z_VI", "BI_CIV"])
def test_truth_without_a_column_is_an_error_that_names_it(
    tmp_path: Path, truth_table: np.ndarray, column: str
) -> None:
    path = write_table(tmp_path / "truth.fits", without(truth_table, column))
    with pytest.raises(SpectraError, match=rf"truth\.fits.*has no column {column}"):
        read_truth([path])


# read_spall.


def test_a_real_spall_is_read(reference: Path) -> None:
    path = reference / "boss" / "spAll-plate3655.fits"
    tid, pmf2tid = read_spall(path)
    names = ["PLATE", "MJD", "FIBERID", "THING_ID"]
    table = fitsio.read(str(path), columns=names)
    assert tid.dtype == np.int64
    np.testing.assert_array_equal(tid, table["THING_ID"])
    assert len(pmf2tid) == len(np.unique(table[names[:3]]))
    row = table[17]
    key = int(row["PLATE"]), int(row["MJD"]), int(row["FIBERID"])
    assert pmf2tid[key] == row["THING_ID"]
    assert {plate for plate, _, _ in pmf2tid} == set(table["PLATE"].tolist())


@pytest.mark.parametrize("change", [np.copy, lower_case])
def test_spall_gives_targets_by_plate_mjd_and_fiber(
    tmp_path: Path, truth_table: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = write_table(tmp_path / "spAll.fits", change(truth_table))
    tid, pmf2tid = read_spall(str(path))
    assert tid.tolist() == [101, 102, 103]
    assert pmf2tid == {
        (3655, 55240, 2): 101,
        (3655, 55240, 26): 102,
        (3656, 55269, 1000): 103,
    }


def test_spall_without_a_column_is_an_error_that_names_it(
    tmp_path: Path, truth_table: np.ndarray
) -> None:
    path = write_table(tmp_path / "spAll.fits", without(truth_table, "FIBERID"))
    with pytest.raises(SpectraError, match=r"spAll\.fits.*has no column FIBERID"):
        read_spall(path)


# read_data.


#: Targets, in the order of their rows: what people say of them, and what comes of it.
#: CLASS_PERSON, Z_CONF_PERSON, Z_VI, BAL_FLAG_VI, BI_CIV; class and BAL, if kept.
PEOPLE = {
    101: ((STAR, SURE, 0.0, 0, 0.0), (0, -1)),
    102: ((GALAXY, SURE, 0.7, 0, 0.0), (1, -1)),
    103: ((QSO, SURE, 1.5, 1, 0.0), (2, 0)),
    104: ((QSO, SURE, 2.1, 1, 10.0), (3, 1)),
    105: ((BAL, SURE, 3.0, 0, 10.0), (3, 0)),
    106: ((BAL, SURE, 2.0, 1, 0.5), (2, 1)),
    107: ((QSO, 2, 2.5, 0, 0.0), (4, -1)),
    108: ((GALAXY, 0, 0.2, 0, 0.0), (4, -1)),
    109: ((0, 1, 0.3, 0, 0.0), (4, -1)),
    110: ((0, 0, 0.0, 0, 0.0), None),  # nobody looked at it
    111: ((QSO, SURE, 2.2, 0, 0.0), None),  # no weight
    112: ((QSO, SURE, 2.2, 0, 0.0), None),  # constant
}
UNKNOWN = 113
TARGETS = [-1, *PEOPLE, UNKNOWN]
KEPT = [target for target, (_, result) in PEOPLE.items() if result is not None]


@pytest.fixture
def truth() -> dict[int, SimpleNamespace]:
    names = ("class_person", "z_conf_person", "z_vi", "bal_flag_vi", "bi_civ")
    return {
        target: SimpleNamespace(**dict(zip(names, said, strict=True)))
        for target, (said, _) in PEOPLE.items()
    }


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(8)
    image = rng.normal(3, 2, size=(len(TARGETS), 2 * NBINS))
    image[:, NBINS:] = rng.uniform(0, 2, size=(len(TARGETS), NBINS)).clip(0.5) - 0.5
    image[TARGETS.index(111), NBINS:] = 0
    image[TARGETS.index(112), :NBINS] = 4.25
    return image.astype(np.float32)


@pytest.fixture
def table() -> np.ndarray:
    names = ("TARGETID", "PLATE", "MJD", "FIBERID")
    table = np.zeros(len(TARGETS), dtype=[(name, "i8") for name in names])
    table["TARGETID"] = TARGETS
    for number, name in enumerate(names[1:], start=1):
        table[name] = 1000 * number + np.arange(len(TARGETS))
    return table


@pytest.fixture
def path(tmp_path: Path, table: np.ndarray, image: np.ndarray) -> Path:
    return write_table(tmp_path / "data.fits", table, image)


def normalised(row: np.ndarray) -> np.ndarray:
    """One spectrum, minus its weighted mean, over its weighted rms."""
    flux, weight = row[:NBINS].astype(np.float64), row[NBINS:].astype(np.float64)
    centred = flux - np.sum(flux * weight) / np.sum(weight)
    variance = np.sum(centred**2 * weight) / np.sum(weight)
    return np.asarray(centred / np.sqrt(variance))


def test_data_without_truth_are_targets_and_normalised_spectra(
    path: Path, image: np.ndarray
) -> None:
    tids, x = read_data([path])
    expected = [t for t in TARGETS if t not in (-1, 111, 112)]
    assert tids.dtype == np.int64
    assert tids.tolist() == expected
    assert (x.dtype, x.shape) == (np.float64, (len(expected), NBINS))
    for target, spectrum in zip(expected, x, strict=True):
        row = normalised(image[TARGETS.index(target)])
        np.testing.assert_allclose(spectrum, row, rtol=0, atol=1e-12)


def test_truth_gives_classes_redshifts_and_bal_flags(
    path: Path, truth: dict[int, SimpleNamespace], image: np.ndarray
) -> None:
    tids, x, y, z, bal = read_data([path], truth)
    assert tids.tolist() == KEPT
    classes = [PEOPLE[target][1][0] for target in KEPT]  # type: ignore[index]
    np.testing.assert_array_equal(y, np.eye(5)[classes])
    np.testing.assert_array_equal(z, [PEOPLE[target][0][2] for target in KEPT])
    flags = [PEOPLE[target][1][1] for target in KEPT]  # type: ignore[index]
    np.testing.assert_array_equal(bal, flags)
    row = normalised(image[TARGETS.index(KEPT[3])])
    np.testing.assert_allclose(x[3], row, rtol=0, atol=1e-12)


def test_the_limit_parts_low_redshifts_from_high_ones(
    path: Path, truth: dict[int, SimpleNamespace]
) -> None:
    quasars = {101: 0, 103: 1.5, 104: 2.1, 105: 3.0, 106: 2.0}
    for limit, high in ((1.5, [103, 104, 105, 106]), (2.05, [104, 105]), (9.0, [])):
        tids, _, y, _, _ = read_data([path], truth, z_lim=limit)
        assert tids[y[:, 3] == 1].tolist() == high
        low = [t for t in quasars if t not in high and t != 101]
        assert tids[y[:, 2] == 1].tolist() == low


def test_plates_are_those_of_the_spectra_that_are_kept(
    path: Path, truth: dict[int, SimpleNamespace]
) -> None:
    *_, plate, mjd, fiber = read_data([path], truth, return_pmf=True)
    rows = np.array([TARGETS.index(target) for target in KEPT])
    np.testing.assert_array_equal(plate, 1000 + rows)
    np.testing.assert_array_equal(mjd, 2000 + rows)
    np.testing.assert_array_equal(fiber, 3000 + rows)
    found = read_data([path], return_pmf=True)
    assert [len(array) for array in found] == [len(TARGETS) - 3] * 5


def test_spectra_of_several_files_follow_each_other(
    path: Path, tmp_path: Path, table: np.ndarray, image: np.ndarray
) -> None:
    other = write_table(tmp_path / "b.fits", lower_case(table)[5:8], image[5:8] + 1)
    tids, x = read_data([other, str(path)])
    first, first_x = read_data([other])
    second, second_x = read_data([path])
    assert tids.tolist() == [*first.tolist(), *second.tolist()]
    np.testing.assert_array_equal(x, np.concatenate([first_x, second_x]))


@pytest.mark.parametrize(
    ("nspec", "first"), [(1, []), (4, [101, 102, 103]), (999, KEPT)]
)
def test_only_so_many_spectra_are_read_of_each_file(
    path: Path,
    tmp_path: Path,
    truth: dict[int, SimpleNamespace],
    nspec: int,
    first: list[int],
) -> None:
    copy = tmp_path / "copy.fits"
    copy.write_bytes(path.read_bytes())
    tids, *_ = read_data([path, copy], truth, nspec=nspec)
    assert tids.tolist() == 2 * first


def test_fewer_spectra_than_one_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match=r"nspec must be a whole number .* got 0"):
        read_data([path], nspec=0)


def test_truth_about_none_of_the_spectra_leaves_none(path: Path) -> None:
    tids, x, y, z, bal = read_data([path], {})
    assert (tids.shape, x.shape, y.shape) == ((0,), (0, NBINS), (0, 5))
    assert (z.shape, bal.shape) == ((0,), (0,))


def test_truth_from_a_file_labels_the_data(
    path: Path, tmp_path: Path, truth_table: np.ndarray
) -> None:
    truth = read_truth([write_table(tmp_path / "truth.fits", truth_table)])
    tids, _, y, z, bal = read_data([path], truth)
    assert tids.tolist() == [101, 102, 103]
    assert np.argmax(y, axis=1).tolist() == [0, 3, 4]
    assert z.tolist() == [0.001, 2.345, 0.5]
    assert bal.tolist() == [-1, 1, -1]


def test_a_sure_spectrum_of_no_class_is_an_error(
    path: Path, truth: dict[int, SimpleNamespace]
) -> None:
    truth[102].class_person = 7
    with pytest.raises(ValueError, match=r"CLASS_PERSON.*1, 3, 4 or 30.*7"):
        read_data([path], truth)


def test_no_file_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs one file or more"):
        read_data([])


def test_nothing_is_printed(
    path: Path, truth: dict[int, SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    read_data([path], truth)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("column", ["TARGETID", "MJD"])
def test_data_without_a_column_are_an_error_that_names_it(
    tmp_path: Path, table: np.ndarray, image: np.ndarray, column: str
) -> None:
    path = write_table(tmp_path / "data.fits", without(table, column), image)
    with pytest.raises(SpectraError, match=rf"data\.fits.*has no column {column}"):
        read_data([path], return_pmf=True)


@pytest.mark.parametrize("width", [NBINS, 2 * NBINS - 1, 2 * NBINS + 1])
def test_images_of_another_width_are_refused(
    tmp_path: Path, table: np.ndarray, width: int
) -> None:
    image = np.ones((len(TARGETS), width))
    path = write_table(tmp_path / "data.fits", table, image)
    with pytest.raises(SpectraError, match=rf"data\.fits\[0\]: has shape.*{width}\)"):
        read_data([path])


def test_images_of_fewer_rows_than_the_table_are_refused(
    tmp_path: Path, table: np.ndarray, image: np.ndarray
) -> None:
    path = write_table(tmp_path / "data.fits", table, image[:-1])
    with pytest.raises(SpectraError, match=r"data\.fits\[0\]: has shape \(13, 886\)"):
        read_data([path])


def test_files_without_an_image_are_refused(tmp_path: Path, table: np.ndarray) -> None:
    path = write_table(tmp_path / "data.fits", table)
    with pytest.raises(SpectraError, match=r"data\.fits"):
        read_data([path])


# All three.


READERS: list[Callable[[Path], Any]] = [
    lambda path: read_truth([path]),
    lambda path: read_data([path]),
    read_spall,
]


@pytest.mark.parametrize("read", READERS, ids=["truth", "data", "spall"])
def test_missing_files_are_the_usual_error(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.fits"):
        read(tmp_path / "absent.fits")


@pytest.mark.parametrize("read", READERS, ids=["truth", "data", "spall"])
def test_files_that_are_no_tables_are_refused(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    path = tmp_path / "other.fits"
    for content in (b"", b"hello\n" * 1000):
        path.write_bytes(content)
        with pytest.raises(SpectraError, match=r"other\.fits: not a FITS file"):
            read(path)
    path.unlink()
    with fitsio.FITS(str(path), "rw") as f:
        f.write(np.zeros((3, 3)))
    with pytest.raises(SpectraError, match=r"other\.fits: has no HDU 1"):
        read(path)
    path.unlink()
    with fitsio.FITS(str(path), "rw") as f:
        f.write(np.zeros((3, 2 * NBINS)))
        f.write(np.zeros((3, 3)), extname="IMAGE")
    with pytest.raises(SpectraError, match=r"other\.fits\[1\]: a table is expected"):
        read(path)


@pytest.mark.parametrize("read", READERS, ids=["truth", "data", "spall"])
def test_tables_cut_short_are_refused(
    tmp_path: Path,
    truth_table: np.ndarray,
    table: np.ndarray,
    image: np.ndarray,
    read: Callable[[Path], Any],
) -> None:
    both = np.zeros(len(TARGETS), dtype=[*truth_table.dtype.descr, ("TARGETID", "i8")])
    path = write_table(tmp_path / "cut.fits", both, image)
    content = path.read_bytes()
    with fitsio.FITS(str(path)) as f:
        end = f[1].get_offsets()["data_start"] + both.nbytes
    for length in range(1, end, end // 20):
        path.write_bytes(content[:length])
        with pytest.raises(SpectraError, match=r"cut\.fits: .*cut short"):
            read(path)
