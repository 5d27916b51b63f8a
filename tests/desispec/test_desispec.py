"""desispec's own afterburners, unchanged, with qnp_xp in the place of QuasarNP.

Only redrock's rerun is replaced, and not even that in the last test. What is read is
real: coadds and the network of the reference data.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fitsio
import numpy as np
import pytest

import qnp_xp
import qnp_xp.io
import qnp_xp.utils

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray

LINES = ["LYA", "CIV(1548)", "CIII(1909)", "MgII(2796)", "Hbeta", "Halpha"]
LINES_BAL = ["CIV(1548)"]
NBOXES = 13
THRESHOLDS = {"c_thresh": 0.5, "n_thresh": 1}

# test_coadd.fits: its rows, the one without a good pixel, and those that Keras' own
# output for this network calls quasars.
NROWS = 25
BAD_ROW = 11
QUASAR_ROWS = [3, 4, 6, 8, 9, 18, 23]


def desi_module(name: str) -> ModuleType:
    """Import a module of desispec; a missing one skips, or fails where required."""
    if os.environ.get("QNP_XP_REQUIRE_DESISPEC"):
        return importlib.import_module(name)
    reason = f"{name} or what it imports is missing"
    module: ModuleType = pytest.importorskip(name, reason=reason)
    return module


@pytest.fixture(scope="module")
def as_quasarnp() -> Iterator[None]:
    """Register qnp_xp as quasarnp for this module's tests only."""

    def registered() -> dict[str, ModuleType]:
        return {n: m for n, m in sys.modules.items() if n.split(".")[0] == "quasarnp"}

    before = registered()
    qnp_xp.install_as_quasarnp()
    yield
    for name in registered():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture(scope="module")
def zmtl(as_quasarnp: None) -> ModuleType:
    """Return desispec.zmtl, imported after the registration."""
    return desi_module("desispec.zmtl")


@pytest.fixture(scope="module")
def qsoqn(as_quasarnp: None) -> ModuleType:
    """Return desispec.scripts.qsoqn, imported after the registration."""
    return desi_module("desispec.scripts.qsoqn")


@pytest.fixture
def weights(reference: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the 6-layer network, which desispec finds in the environment."""
    path = reference / "quasarnp" / "test_weights_6_layer.h5"
    monkeypatch.setenv("QN_MODEL_FILE", str(path))
    return path


@dataclass(frozen=True)
class Scores:
    """What qnp_xp itself says of a coadd, one column per kept spectrum."""

    kept: NDArray[np.int64]
    c_line: NDArray[Any]
    z_line: NDArray[Any]
    zbest: NDArray[Any]
    grid: NDArray[np.float64]

    @property
    def is_qso(self) -> NDArray[np.bool_]:
        """Return which of the kept spectra are quasars."""
        sure = np.sum(self.c_line > THRESHOLDS["c_thresh"], axis=0)
        found: NDArray[np.bool_] = sure >= THRESHOLDS["n_thresh"]
        return found

    @property
    def prior(self) -> NDArray[np.float64]:
        """Return redrock's prior width, from the width of a box of the network."""
        box = (np.log10(self.grid[-1]) - np.log10(self.grid[0])) / NBOXES
        width: NDArray[np.float64] = 2 * (10**box - 1) * (1 + self.zbest)
        return width


def score(weights: Path, coadd: Path, rows: NDArray[np.bool_] | None = None) -> Scores:
    """Score a coadd through qnp_xp's own names."""
    model, grid = qnp_xp.load_model(weights)
    data, kept = qnp_xp.io.load_desi_coadd(coadd, rows, grid)
    c_line, z_line, zbest, *_ = qnp_xp.utils.process_preds(
        model.predict(data), LINES, LINES_BAL, verbose=False, wave=grid
    )
    return Scores(kept, c_line, z_line, zbest, grid)


def write_coadd(path: Path, reference: Path, *, blank: bool = False) -> Path:
    """Write QuasarNP's test spectra with the FIBERMAP that they lack."""
    with (
        fitsio.FITS(str(reference / "quasarnp" / "test_coadd.fits")) as source,
        fitsio.FITS(str(path), "rw", clobber=True) as out,
    ):
        n = len(source["B_FLUX"].read())
        fibermap = np.zeros(
            n,
            dtype=[
                ("TARGETID", "i8"),
                ("OBJTYPE", "U3"),
                ("TARGET_RA", "f8"),
                ("TARGET_DEC", "f8"),
                ("DESI_TARGET", "i8"),
            ],
        )
        # Falling, so that a mistake in the order cannot pass for sorted input.
        fibermap["TARGETID"] = 39_627_000_000_000_000 - 7 * np.arange(n)
        fibermap["OBJTYPE"] = "TGT"
        fibermap["TARGET_RA"] = 150.0 + 0.01 * np.arange(n)
        fibermap["DESI_TARGET"] = 1 << 2
        out.write(fibermap, extname="FIBERMAP")
        for arm in "BRZ":
            out.write(source[f"{arm}_WAVELENGTH"].read(), extname=f"{arm}_WAVELENGTH")
            out.write(source[f"{arm}_FLUX"].read(), extname=f"{arm}_FLUX")
            ivar = source[f"{arm}_IVAR"].read()
            out.write(ivar * (not blank), extname=f"{arm}_IVAR")
    return path


@pytest.fixture
def quasars(reference: Path, tmp_path: Path) -> Path:
    """Return a coadd of 25 real spectra, 7 of them quasars."""
    return write_coadd(tmp_path / "coadd-0-80605-thru20210205.fits", reference)


@pytest.fixture(
    params=["coadd-5-169-thru20210419.fits", "coadd-sv3-dark-26065.fits", "quasars"]
)
def coadd(request: pytest.FixtureRequest, reference: Path, tmp_path: Path) -> Path:
    """Return coadds with bad rows: at the start, in between, all but the last."""
    if request.param == "quasars":
        return write_coadd(tmp_path / "coadd-0-80605-thru20210205.fits", reference)
    return reference / "desi" / str(request.param)


def read_fibermap(coadd: Path) -> NDArray[Any]:
    """Read the FIBERMAP as desispec does."""
    fibermap: NDArray[Any] = fitsio.read(str(coadd), "FIBERMAP")
    return fibermap


def galaxies(targetid: NDArray[np.int64]) -> NDArray[Any]:
    """Return redrock's REDSHIFTS with every target a galaxy at z = 0.1."""
    table = np.zeros(
        len(targetid),
        dtype=[
            ("TARGETID", "i8"),
            ("Z", "f8"),
            ("ZERR", "f8"),
            ("ZWARN", "i8"),
            ("CHI2", "f8"),
            ("COEFF", "f8", (10,)),
            ("SPECTYPE", "U6"),
            ("SUBTYPE", "U20"),
            ("DELTACHI2", "f8"),
        ],
    )
    table["TARGETID"] = targetid
    table["Z"] = 0.1
    table["SPECTYPE"] = "GALAXY"
    return table


@dataclass
class Rerun:
    """Stand in for redrock's rerun: keep what it was asked, answer plausibly."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self, spectra_name: str, targetid: NDArray[np.int64], **asked: Any
    ) -> NDArray[Any]:
        """Answer that each target is a quasar close to QuasarNET's redshift."""
        self.calls.append({"spectra_name": spectra_name, "targetid": targetid, **asked})
        table = galaxies(targetid)
        table["Z"] = asked["z_qn"] + 0.001
        table["SPECTYPE"] = "QSO"
        table["COEFF"][:, :4] = 1.0
        return table


@pytest.fixture
def rerun(qsoqn: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Rerun:
    """Put the stand-in where desispec looks for its rerun of redrock."""
    stand_in = Rerun()
    monkeypatch.setattr(qsoqn, "collect_redshift_with_new_RR_run", stand_in)
    return stand_in


def select(qsoqn: ModuleType, coadd: Path, **changes: Any) -> Any:
    """Call selection_targets_with_QN as desispec's script does, but for changes."""
    fibermap = read_fibermap(coadd)
    arguments = {
        "redrock": galaxies(fibermap["TARGETID"]),
        "fibermap": fibermap,
        "sel_to_QN": np.ones(len(fibermap), dtype=bool),
        "DESI_TARGET": "DESI_TARGET",
        "spectra_name": str(coadd),
        "param_QN": THRESHOLDS,
        "param_RR": {"template_filenames": ["unused"]},
        "save_target": "all",
    }
    return qsoqn.selection_targets_with_QN(**(arguments | changes))


def assert_scored(table: Any, scores: Scores) -> None:
    """Compare every QuasarNET column; rows not kept are NaN."""
    want = {"Z_QN": scores.zbest}
    for i, line in enumerate(LINES):
        name = line.split("(")[0]
        want[f"C_{name}"] = scores.c_line[i]
        want[f"Z_{name}"] = scores.z_line[i]
    for name, values in want.items():
        column = np.full(len(table), np.nan, dtype=np.float32)
        column[scores.kept] = values
        np.testing.assert_array_equal(np.asarray(table[name]), column, err_msg=name)


def test_desispec_calls_qnp_xp(zmtl: ModuleType, qsoqn: ModuleType) -> None:
    """The functions that desispec holds are qnp_xp's own."""
    assert sys.modules["quasarnp.io"].load_model is qnp_xp.io.load_model
    assert sys.modules["quasarnp.io"].load_desi_coadd is qnp_xp.io.load_desi_coadd
    assert sys.modules["quasarnp.utils"].process_preds is qnp_xp.utils.process_preds
    for user in (zmtl, qsoqn):
        assert user.load_model is qnp_xp.io.load_model
        assert user.load_desi_coadd is qnp_xp.io.load_desi_coadd
        assert user.process_preds is qnp_xp.utils.process_preds


def test_load_qn_model_gives_model_lines_and_grid(
    zmtl: ModuleType, weights: Path
) -> None:
    """The model unpacks, and the grid is the one that the network was trained on."""
    model, lines, lines_bal, grid = zmtl.load_qn_model(zmtl.get_qn_model_fname())
    assert (lines, lines_bal) == (LINES, LINES_BAL)
    assert type(grid) is np.ndarray
    np.testing.assert_allclose(grid, 10 ** (np.log10(3600) + 1e-3 * np.arange(443)))
    assert len(model.predict(np.zeros((1, 443, 1)))) == len(LINES) + len(LINES_BAL)


def test_add_qn_data_fills_the_kept_rows(
    zmtl: ModuleType, weights: Path, coadd: Path
) -> None:
    """The zmtl columns hold qnp_xp's answers, and bad rows stay as they were."""
    fibermap = read_fibermap(coadd)
    dtype = zmtl.zmtldatamodel.dtype.descr + zmtl.qndm
    table = np.full(len(fibermap), -1, dtype=dtype)
    table["TARGETID"] = fibermap["TARGETID"]
    model = zmtl.load_qn_model(str(weights))

    out = zmtl.add_qn_data(table, str(coadd), *model)

    scores = score(weights, coadd)
    assert 0 < len(scores.kept) < len(table)
    want = {
        "Z_QN": scores.zbest,
        "Z_QN_CONF": scores.c_line.max(axis=0),
        "IS_QSO_QN": scores.is_qso,
    }
    for name, values in want.items():
        column = np.full(len(table), -1.0)
        column[scores.kept] = values
        np.testing.assert_array_equal(out[name], column, err_msg=name)
    np.testing.assert_array_equal(out["TARGETID"], fibermap["TARGETID"])


def test_zmtl_file_from_a_redrock_file(
    zmtl: ModuleType, reference: Path, weights: Path, tmp_path: Path
) -> None:
    """From redrock's file to the zmtl on disk, which names qnp_xp's version."""
    depend = desi_module("desiutil.depend")
    coadd = reference / "desi" / "coadd-4-80613-thru20210324.fits"
    redrock = coadd.with_name(coadd.name.replace("coadd", "redrock"))
    model = zmtl.load_qn_model(str(weights))

    table = zmtl.make_new_zmtl(str(redrock), qn_flag=True)
    table = zmtl.add_qn_data(table, str(coadd), *model)
    path = zmtl.write_zmtl(
        table, str(tmp_path / "zmtl.fits"), qn_flag=True, qnp_model_file=str(weights)
    )

    written, header = fitsio.read(path, "ZMTL", header=True)
    scores = score(weights, coadd)
    np.testing.assert_array_equal(written["TARGETID"], read_fibermap(coadd)["TARGETID"])
    np.testing.assert_array_equal(written["Z_QN"], scores.zbest)
    np.testing.assert_array_equal(written["Z_QN_CONF"], scores.c_line.max(axis=0))
    version = depend.getdep(header, "quasarnp")
    assert version == f"0.2.1+qnp_xp.{qnp_xp.__version__}"


def test_selection_of_every_row(
    qsoqn: ModuleType, weights: Path, coadd: Path, rerun: Rerun
) -> None:
    """One row per input row, in the input's order; NaN where nothing was scored."""
    table = select(qsoqn, coadd)

    np.testing.assert_array_equal(table["TARGETID"], read_fibermap(coadd)["TARGETID"])
    assert_scored(table, score(weights, coadd))
    # Everything is a galaxy to redrock, so that each quasar found is run again.
    found = table["TARGETID"][table["IS_QSO_QN_NEW_RR"]]
    asked = [call["targetid"] for call in rerun.calls]
    np.testing.assert_array_equal(np.concatenate([*asked, []]), found)


def test_quasars_agree_with_keras(
    qsoqn: ModuleType, reference: Path, weights: Path, quasars: Path, rerun: Rerun
) -> None:
    """The columns are those of Keras' own output for this network."""
    keras = np.load(reference / "quasarnp" / "qnet_output_6_layer.npy")
    c_line = keras[: len(LINES), :, :NBOXES].max(axis=2)
    _, _, zbest, *_ = qnp_xp.utils.process_preds(list(keras), LINES, LINES_BAL)
    good = np.delete(np.arange(NROWS), BAD_ROW)

    table = select(qsoqn, quasars)

    np.testing.assert_allclose(table["Z_QN"][good], zbest, rtol=0, atol=1e-5)
    for line, confidence in zip(LINES, c_line, strict=True):
        name = f"C_{line.split('(')[0]}"
        np.testing.assert_allclose(table[name][good], confidence, rtol=0, atol=1e-5)
    assert np.flatnonzero(table["IS_QSO_QN_NEW_RR"]).tolist() == QUASAR_ROWS


def test_rerun_gets_the_quasars_and_their_priors(
    qsoqn: ModuleType, weights: Path, quasars: Path, rerun: Rerun
) -> None:
    """Redrock is run again on the 7 quasars, around QuasarNET's redshifts."""
    table = select(qsoqn, quasars)

    scores = score(weights, quasars)
    [call] = rerun.calls
    assert call["spectra_name"] == str(quasars)
    targetid = read_fibermap(quasars)["TARGETID"]
    np.testing.assert_array_equal(call["targetid"], targetid[QUASAR_ROWS])
    np.testing.assert_array_equal(call["z_qn"], scores.zbest[scores.is_qso])
    np.testing.assert_allclose(call["z_prior"], scores.prior[scores.is_qso], rtol=1e-6)
    # What redrock answered goes back to the rows that it was asked for.
    z_new = np.full(len(table), np.nan)
    z_new[QUASAR_ROWS] = call["z_qn"] + 0.001
    np.testing.assert_array_equal(table["Z_NEW"], z_new)
    assert np.flatnonzero(table["SPECTYPE_NEW"] == "QSO").tolist() == QUASAR_ROWS


def test_rerun_leaves_out_sky_and_what_redrock_has_right(
    qsoqn: ModuleType, weights: Path, quasars: Path, rerun: Rerun
) -> None:
    """Redrock's own quasars are kept inside the prior, and sky is no quasar."""
    scores = score(weights, quasars)
    z_qn = np.full(NROWS, np.nan)
    z_qn[scores.kept] = scores.zbest
    width = np.full(NROWS, np.nan)
    width[scores.kept] = scores.prior
    agrees, disagrees, sky = QUASAR_ROWS[:3]
    fibermap = read_fibermap(quasars)
    fibermap["OBJTYPE"][sky] = "SKY"
    redrock = galaxies(fibermap["TARGETID"])
    redrock["SPECTYPE"][[agrees, disagrees]] = "QSO"
    redrock["Z"][agrees] = z_qn[agrees] + 0.49 * width[agrees]
    redrock["Z"][disagrees] = z_qn[disagrees] + 0.51 * width[disagrees]

    table = select(qsoqn, quasars, redrock=redrock, fibermap=fibermap)

    again = [row for row in QUASAR_ROWS if row not in (agrees, sky)]
    [call] = rerun.calls
    np.testing.assert_array_equal(call["targetid"], fibermap["TARGETID"][again])
    assert np.flatnonzero(table["IS_QSO_QN_NEW_RR"]).tolist() == again
    assert_scored(table, scores)


def test_restricted_output_has_the_rerun_quasars(
    qsoqn: ModuleType, weights: Path, quasars: Path, rerun: Rerun
) -> None:
    """With save_target="restricted" the table is the 7 quasars alone."""
    table = select(qsoqn, quasars, save_target="restricted")

    targetid = read_fibermap(quasars)["TARGETID"]
    np.testing.assert_array_equal(table["TARGETID"], targetid[QUASAR_ROWS])
    scores = score(weights, quasars)
    z_qn = scores.zbest[scores.is_qso].astype(np.float32)
    np.testing.assert_array_equal(table["Z_QN"], z_qn)


def test_selection_of_the_first_rows(
    qsoqn: ModuleType, weights: Path, quasars: Path, rerun: Rerun
) -> None:
    """A selection works where its positions are the file's: the first n rows."""
    first = 20
    rows = np.arange(NROWS) < first

    table = select(qsoqn, quasars, sel_to_QN=rows)

    fibermap = read_fibermap(quasars)
    np.testing.assert_array_equal(table["TARGETID"], fibermap["TARGETID"][rows])
    assert_scored(table, score(weights, quasars, rows))
    [call] = rerun.calls
    asked = fibermap["TARGETID"][[row for row in QUASAR_ROWS if row < first]]
    np.testing.assert_array_equal(call["targetid"], asked)


def test_selection_with_a_gap_is_refused_by_desispec(
    qsoqn: ModuleType, weights: Path, reference: Path, rerun: Rerun
) -> None:
    """Only desispec's own check stops a selection that is not the first rows.

    It looks up the whole FIBERMAP by positions within the selection, which is why its
    script takes all rows only. The positions count within the selection all the same,
    as QuasarNP's do: positions within the file would end in an IndexError earlier.
    """
    coadd = reference / "desi" / "coadd-sv3-dark-26065.fits"
    rows = np.array([False, False, True, False, True])
    _, grid = qsoqn.load_model(str(weights))
    _, kept = qsoqn.load_desi_coadd(str(coadd), rows, out_grid=grid)
    assert kept.dtype == np.int64
    assert kept.tolist() == [0, 1]

    # An assert of desispec without a message: nothing to match.
    with pytest.raises(AssertionError):
        select(qsoqn, coadd, sel_to_QN=rows)


@pytest.mark.parametrize(
    "rows",
    [[True, True, False, False, False], [True, False, False, True, False]],
    ids=["first rows", "with a gap"],
)
def test_selection_without_a_good_spectrum(
    qsoqn: ModuleType, weights: Path, reference: Path, rerun: Rerun, rows: list[bool]
) -> None:
    """Selected rows that are all bad come back as NaN, and redrock is not run."""
    coadd = reference / "desi" / "coadd-sv3-dark-26065.fits"
    chosen = np.array(rows)

    table = select(qsoqn, coadd, sel_to_QN=chosen)

    targetid = read_fibermap(coadd)["TARGETID"][chosen]
    np.testing.assert_array_equal(table["TARGETID"], targetid)
    assert np.isnan(table["Z_QN"]).all()
    assert np.isnan(table["C_LYA"]).all()
    assert not table["IS_QSO_QN_NEW_RR"].any()
    assert rerun.calls == []


@pytest.fixture
def bad(reference: Path, tmp_path: Path) -> Path:
    """Return a coadd without a good pixel."""
    return write_coadd(tmp_path / "coadd-bad.fits", reference, blank=True)


def test_coadd_without_a_good_spectrum(
    qsoqn: ModuleType, weights: Path, bad: Path, rerun: Rerun
) -> None:
    """A petal that is all bad gives a row of NaN for each target."""
    table = select(qsoqn, bad)

    np.testing.assert_array_equal(table["TARGETID"], read_fibermap(bad)["TARGETID"])
    assert_scored(table, score(weights, bad))
    assert np.isnan(table["Z_QN"]).all()
    assert rerun.calls == []


def test_add_qn_data_without_a_good_spectrum(
    zmtl: ModuleType, weights: Path, bad: Path
) -> None:
    """A petal that is all bad leaves the zmtl as it was.

    zmtl has no branch for this, so that the network and the decoding get 0 spectra.
    """
    table = np.full(NROWS, -1, dtype=zmtl.zmtldatamodel.dtype.descr + zmtl.qndm)
    out = zmtl.add_qn_data(table, str(bad), *zmtl.load_qn_model(str(weights)))

    for name in ("Z_QN", "Z_QN_CONF", "IS_QSO_QN"):
        np.testing.assert_array_equal(out[name], np.full(NROWS, -1), err_msg=name)


def run_script(
    qsoqn: ModuleType, coadd: Path, redrock: Path, output: Path, templates: list[Path]
) -> NDArray[Any]:
    """Run desi_qso_qn_afterburner on all rows and read what it wrote."""
    options = ["--coadd", coadd, "--redrock", redrock, "--output", output]
    options += ["--target_selection", "all", "--save_target", "all"]
    options += ["--templates", *templates]
    assert qsoqn.main([str(option) for option in options]) == 0
    table: NDArray[Any] = fitsio.read(str(output), "QN_RR")
    return table


def test_script_writes_one_row_per_target(
    qsoqn: ModuleType, weights: Path, quasars: Path, rerun: Rerun, tmp_path: Path
) -> None:
    """The pipeline's script runs from files to a file."""
    fibermap = read_fibermap(quasars)
    redrock = tmp_path / quasars.name.replace("coadd", "redrock")
    with fitsio.FITS(str(redrock), "rw") as out:
        out.write(galaxies(fibermap["TARGETID"]), extname="REDSHIFTS")
        out.write(fibermap, extname="FIBERMAP")

    table = run_script(
        qsoqn, quasars, redrock, tmp_path / "qso_qn.fits", [Path("unused")]
    )

    np.testing.assert_array_equal(table["TARGETID"], fibermap["TARGETID"])
    assert_scored(table, score(weights, quasars))
    assert np.flatnonzero(table["IS_QSO_QN_NEW_RR"]).tolist() == QUASAR_ROWS


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) >= "2.0.0",
    reason="redrock 0.21's priors use np.NaN, which numpy 2 does not have",
)
# desispec turns a one-element array into an int, deprecated since numpy 1.25.
@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
def test_script_with_redrock_itself(
    qsoqn: ModuleType,
    reference: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is replaced: a real target that QuasarNET calls a quasar, run again."""
    coadd = reference / "desi" / "coadd-special-dark-27247.fits"
    redrock = coadd.with_name(coadd.name.replace("coadd", "redrock"))
    folder = reference / "redrock-templates"
    templates = [folder / f"rrtemplate-QSO-{z}-v1.1.fits" for z in ("HIZ", "LOZ")]
    scores = score(weights, coadd)
    assert scores.is_qso.all()
    rrdesi = qsoqn.rrdesi

    def serial(options: list[str], comm: object = None) -> None:
        # Redrock would fork as many processes as half the cores, from a test.
        rrdesi([*options, "--mp", "1"], comm=comm)

    monkeypatch.setattr(qsoqn, "rrdesi", serial)

    table = run_script(qsoqn, coadd, redrock, tmp_path / "qso_qn.fits", templates)

    assert_scored(table, scores)
    assert table["IS_QSO_QN_NEW_RR"].all()
    assert table["SPECTYPE_NEW"].tolist() == ["QSO"]
    # The prior that desispec made of qnp_xp's redshift bounds redrock's answer.
    assert abs(table["Z_NEW"] - scores.zbest) <= scores.prior / 2
