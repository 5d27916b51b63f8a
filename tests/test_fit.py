"""Redshifts fitted with quasar templates, lines that have pixels, little coverage."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fitsio
import numpy as np
import pytest
from helpers import LIGHT_SPEED, Run, coadd_hdus, write_coadd, write_hdus
from numpy.typing import NDArray

from qnp_xp import Status, classify, load_model, plot
from qnp_xp._basis import Basis
from qnp_xp._data import DEMO_COADD, QUASAR_BASIS, data_file
from qnp_xp._fit import Fitter
from qnp_xp._scorer import near_weight
from qnp_xp._xp.backend import backend_of, resolve
from qnp_xp.errors import SpectraError
from qnp_xp.grids import linear_wave, wave
from qnp_xp.io._basis import read_basis
from qnp_xp.model import QuasarNP

if TYPE_CHECKING:
    from conftest import ArrayBackend

Float64 = NDArray[np.float64]

# Redshifts, what the network is off by in km/s, and whether there is broad absorption.
OBJECTS = (
    (0.05, 300, False),
    (0.31, -900, False),
    (0.72, 1500, False),
    (1.21, -700, False),
    (1.493, 800, False),
    (1.8, 250, False),
    (2.6, -300, False),
    (2.6, -300, True),
    (3.4, 150, False),
    (4.6, 100, True),
)
NAMES = ("Z_FIT", "ZERR_FIT", "CHI2_FIT", "DZ_WARN")


def edges_of(grid: Float64) -> Float64:
    """Lower edges of the bins, and the upper edge of the last."""
    log = np.ptp(np.diff(np.log10(grid))) < 1e-6
    last = grid[-1] ** 2 / grid[-2] if log else 2 * grid[-1] - grid[-2]
    return np.append(grid, last)


def shifted(which: int, z: float, grid: Float64) -> Float64:
    """Templates at a redshift, averaged over bins, shape (nbins, ntemplates)."""
    with fitsio.FITS(str(data_file(QUASAR_BASIS))) as file:
        header, flux = file[which].read_header(), file[which].read().astype(float)
    pixels = np.arange(flux.shape[1] + 1) - 0.5
    rest = 10 ** (header["CRVAL1"] + header["CDELT1"] * pixels)
    light = np.concatenate(
        [np.zeros((len(flux), 1)), np.cumsum(flux * np.diff(rest), axis=1)], axis=1
    )
    edges = edges_of(grid)
    sums = np.array([np.interp(edges / (1 + z), rest, row) for row in light])
    return (np.diff(sums) / np.diff(edges)).T


def simulate(
    seed: int = 1, noise: float = 0.1, grid: Float64 = wave
) -> tuple[Float64, Float64, Float64, NDArray[np.bool_]]:
    """Flux and ivar of `OBJECTS`, where the network finds them, what is absorbed."""
    rng = np.random.default_rng(seed)
    flux, start = [], []
    for z, off, _ in OBJECTS:
        templates = shifted(int(z > 1.5), z, grid)
        # The first is the mean quasar, the others change it.
        flux.append(templates @ [1, *rng.normal(0, 0.15, templates.shape[1] - 1)])
        flux[-1] /= np.mean(np.abs(flux[-1][flux[-1] != 0]))
        start.append((1 + z) * (1 + off / LIGHT_SPEED) - 1)
    sigma = noise * rng.uniform(0.7, 1.3, (len(OBJECTS), grid.size))
    spectra = np.array(flux) + sigma * rng.normal(size=sigma.shape)
    absorbed = np.array([bal for *_, bal in OBJECTS])
    return spectra, sigma**-2, np.array(start), absorbed


def slow_fit(
    flux: Float64, ivar: Float64, z: float, absorbed: bool
) -> tuple[float, float, float]:
    """One redshift, its error and chi-square by least squares, 28 km/s by 28 km/s."""
    far = z >= 1.5
    sigma = np.sqrt(1 / ivar + (0.05 * flux) ** 2)
    used = edges_of(wave)[:-1] / (1 + z) > (1570 if absorbed else 1290)
    smooth = np.polynomial.polynomial.polyvander(np.linspace(-1, 1, wave.size), 2)
    tried = np.arange(-4140, 4141, 27.6) / LIGHT_SPEED
    chi2, count = [], 0
    for shift in tried:
        templates = shifted(int(far), (1 + z) * np.exp(shift) - 1, wave)
        matrix = np.hstack([templates, smooth])[used] / sigma[used, None]
        values = flux[used] / sigma[used]
        solution = np.linalg.lstsq(matrix, values, rcond=None)[0]
        chi2.append(np.sum((values - matrix @ solution) ** 2))
        count = matrix.shape[1]
    least = min(chi2) / (used.sum() - count - 1)
    total = np.array(chi2) / max(least, 1)
    if far:
        total += (tried * LIGHT_SPEED / 300) ** 2
    near = np.abs(tried - tried[total.argmin()]) < 150 / LIGHT_SPEED
    bend, slope, _ = np.polyfit(tried[near], total[near], 2)
    best = (1 + z) * np.exp(-slope / (2 * bend)) - 1
    return best, (1 + best) / np.sqrt(bend), least


@functools.cache
def oracle() -> Float64:
    """The slow fit of all objects, a row each."""
    return np.array([slow_fit(*one) for one in zip(*simulate(), strict=True)])


def basis() -> Basis:
    """The one that ships with the package."""
    found = read_basis(True)
    assert found is not None
    return found


def fit(
    backend: ArrayBackend, *arrays: Any, grid: Float64 = wave, dtype: str = "float64"
) -> Float64:
    """Fit on a backend; without float64 that is done on the host."""
    if not backend.has_float64:
        pytest.skip(f"{backend.name} has no float64")
    *numbers, absorbed = arrays
    given = [backend.array(x, dtype) for x in numbers]
    given.append(backend.array(absorbed))
    fitter = Fitter(grid, basis(), backend_of(given[0]))
    return backend.host(fitter(*given), "float64")


def on_host(*arrays: Any, grid: Float64 = wave) -> Float64:
    return Fitter(grid, basis(), resolve("cpu"))(*arrays)


def test_fits_agree_with_least_squares_on_a_fine_grid(backend: ArrayBackend) -> None:
    z, error, chi2, warning = fit(backend, *simulate())
    assert not warning.any()
    best, expected, least = oracle().T
    velocity = (z - best) / (1 + best) * LIGHT_SPEED
    np.testing.assert_allclose(velocity, 0, atol=15)
    np.testing.assert_allclose(error, expected, rtol=0.25)
    np.testing.assert_allclose(chi2, least, rtol=0.02)


def test_all_backends_find_the_same_redshifts(backend: ArrayBackend) -> None:
    arrays = simulate(seed=2)
    np.testing.assert_allclose(fit(backend, *arrays), on_host(*arrays), atol=1e-6)


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
def test_known_redshifts_are_recovered(grid: Float64) -> None:
    flux, ivar, start, absorbed = simulate(noise=1e-3, grid=grid)
    truth = np.array([z for z, *_ in OBJECTS])
    near = truth < 1.5
    z, error, _, warning = on_host(flux, ivar, start, absorbed, grid=grid)
    velocity = (z - truth) / (1 + truth) * LIGHT_SPEED
    assert not warning.any()
    assert np.abs(velocity[near]).max() < 30
    assert np.abs(velocity).max() < 150  # the network's redshift counts as well
    assert np.all(error > 0)


def test_errors_are_of_the_size_of_the_scatter() -> None:
    truth = np.array([z for z, *_ in OBJECTS])
    near = truth < 1.5
    pulls = []
    for seed in range(12):
        flux, ivar, _, absorbed = simulate(seed=seed, noise=0.3)
        z, error, _, _ = on_host(flux, ivar, truth, absorbed)
        pulls.append(((z - truth) / error)[near])
    assert 0.4 < np.nanmedian(np.abs(pulls)) < 1.0  # 0.67 of a normal distribution


def test_errors_that_are_claimed_too_small_make_redshifts_no_surer() -> None:
    flux, ivar, start, absorbed = simulate(noise=0.3)
    near = start < 1.4
    honest, bold = (on_host(flux, x, start, absorbed)[1] for x in (ivar, 9 * ivar))
    assert np.all(bold[near] > 0.7 * honest[near])


def test_fits_whose_error_leaves_the_window_have_a_warning() -> None:
    warnings = 0
    for seed in range(8):
        flux, ivar, start, absorbed = simulate(seed=seed, noise=10.0)
        z, error, _, warning = on_host(flux, ivar, start, absorbed)
        away = np.abs(z - start) / (1 + start), error / (1 + z)
        kept = warning == 0
        assert np.all(np.sum(away, axis=0)[kept] * LIGHT_SPEED < 4200)
        warnings += int(warning.sum())
    assert warnings > 3


def test_the_lattice_of_the_templates_need_not_be_that_of_the_grid() -> None:
    moved = wave * 10**1.1e-5  # half a step of it, 8 km/s
    found = []
    for grid in (wave, moved):
        flux, ivar, start, absorbed = simulate(noise=1e-5, grid=grid)
        found.append(on_host(flux, ivar, start, absorbed, grid=grid)[0][:4])
    first, second = found
    assert np.abs(np.mean((second - first) / (1 + first)) * LIGHT_SPEED) < 4


def test_templates_are_means_over_the_bins_of_a_linear_grid() -> None:
    arrays = simulate(noise=1e-5, grid=linear_wave)
    # With widths and edges that do not belong together it was 0.06.
    assert np.median(on_host(*arrays, grid=linear_wave)[2]) < 0.02


def test_a_fit_depends_on_where_it_begins_only_through_the_prior() -> None:
    flux, ivar, start, absorbed = simulate(noise=0.02)
    near = np.array([z for z, *_ in OBJECTS]) < 1.4
    arrays = flux[near], ivar[near], absorbed[near]
    first = on_host(arrays[0], arrays[1], start[near], arrays[2])
    moved = (1 + start[near]) * (1 + 300 / LIGHT_SPEED) - 1
    second = on_host(arrays[0], arrays[1], moved, arrays[2])
    np.testing.assert_allclose(first[0], second[0], rtol=0, atol=2e-6)


def test_a_spectrum_depends_on_no_other(backend: ArrayBackend) -> None:
    flux, ivar, start, absorbed = simulate()
    whole = fit(backend, flux, ivar, start, absorbed)
    for row in (0, 7):
        one = slice(row, row + 1)
        alone = fit(backend, flux[one], ivar[one], start[one], absorbed[one])
        np.testing.assert_allclose(alone[:, 0], whole[:, row], rtol=1e-7)


def test_more_spectra_than_one_pass_takes_keep_their_order() -> None:
    flux, ivar, start, absorbed = (np.repeat(x, 4, axis=0) for x in simulate())
    found = on_host(flux, ivar, start, absorbed)
    np.testing.assert_allclose(found, np.repeat(on_host(*simulate()), 4, axis=1))


def test_spectra_that_cannot_be_fitted_have_nan_and_a_warning(
    backend: ArrayBackend,
) -> None:
    flux, ivar, start, absorbed = simulate()
    expected = on_host(flux, ivar, start, absorbed)
    ivar[0] = 0  # no weight
    flux[1] = np.nan
    start[2] = np.nan
    start[3] = -1.5
    ivar[6, edges_of(wave)[:-1] > 1290 * 3.6] = 0  # nothing but the forest
    ivar[8, :-9] = 0  # fewer bins than templates
    start[5] = 400.0  # far off all templates
    found = fit(backend, flux, ivar, start, absorbed)
    lost = [0, 1, 2, 3, 5, 6, 8]
    assert np.flatnonzero(found[3]).tolist() == lost
    assert np.isnan(found[:3, lost]).all()
    kept = [4, 7, 9]
    np.testing.assert_allclose(found[:, kept], expected[:, kept], rtol=1e-7)


def test_a_quasar_outside_of_the_window_has_a_warning() -> None:
    flux, ivar, start, absorbed = simulate(noise=0.02)
    start = start * 0 + [(1 + z) * (1 + 0.02) - 1 for z, *_ in OBJECTS]  # 6,000 km/s
    near = start < 1.4
    assert np.all(on_host(flux, ivar, start, absorbed)[3, near] == 1)


def test_numbers_of_any_size_are_fitted() -> None:
    arrays = simulate()
    expected = on_host(*arrays)
    for scale in (1e-60, 1e40):
        flux, ivar, start, absorbed = arrays
        found = on_host(flux * scale, ivar / scale**2, start, absorbed)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_no_spectra_are_fitted_to_none() -> None:
    none = on_host(*(x[:0] for x in simulate()))
    assert none.shape == (4, 0)


# The table.


@pytest.fixture(scope="module")
def network() -> QuasarNP:
    """The one that ships with the package."""
    return load_model()


@pytest.fixture(scope="module")
def fitted(network: QuasarNP) -> NDArray[Any]:
    """The demo coadd with a fit."""
    return classify(data_file(DEMO_COADD), network, c_thresh=0.8, fit=True)


def test_the_fit_adds_columns_and_changes_no_other(
    network: QuasarNP, fitted: NDArray[Any]
) -> None:
    plain = classify(data_file(DEMO_COADD), network, c_thresh=0.8)
    assert {*fitted.dtype.names} - {*plain.dtype.names} == {*NAMES}
    for name in plain.dtype.names:
        np.testing.assert_array_equal(plain[name], fitted[name], err_msg=name)


def test_quasars_alone_are_fitted_and_their_redshifts_are_better(
    fitted: NDArray[Any],
) -> None:
    quasar = fitted["IS_QSO_QN"] == 1
    assert quasar.sum() == 13
    for name in NAMES[:3]:
        np.testing.assert_array_equal(np.isfinite(fitted[name]), quasar)
    assert not fitted["DZ_WARN"].any()
    truth = fitsio.read(str(data_file(DEMO_COADD)), ext="FIBERMAP")["TRUE_Z"]
    near = quasar & (truth < 1.5)
    before, after = (np.abs(fitted[n] - truth)[near] for n in ("Z_QN", "Z_FIT"))
    assert np.all(after / (1 + truth[near]) < 150 / LIGHT_SPEED)
    assert np.median(after) < 0.3 * np.median(before)


def test_results_of_a_device_are_those_of_the_host(
    backend: ArrayBackend, fitted: NDArray[Any], tmp_path: Path
) -> None:
    model = load_model(**backend.resolve())
    table = classify(data_file(DEMO_COADD), model, c_thresh=0.8, fit=True)
    for name in NAMES:
        np.testing.assert_allclose(table[name], fitted[name], atol=1e-6, rtol=1e-4)


def test_header_names_the_basis_and_its_digest(weights: Path, tmp_path: Path) -> None:
    coadd = write_coadd(tmp_path / "coadd.fits", 2)
    for which, name in ((False, "none"), (True, QUASAR_BASIS)):
        output = tmp_path / f"qn-{name}.fits"
        classify(coadd, weights, output=output, fit=which)
        header = fitsio.read_header(str(output), ext="QN")
        assert header["QNFIT"].strip() == name
    assert header["QNFITSHA"] == basis().sha256
    assert "QNFITSHA" not in fitsio.read_header(str(tmp_path / "qn-none.fits"), "QN")


def test_resume_keeps_tables_of_the_same_basis_alone(
    run: Run, here: Path, tmp_path: Path
) -> None:
    coadd = write_coadd(tmp_path / "coadd.fits", 2)
    other = tmp_path / "other.fits"
    other.write_bytes(data_file(QUASAR_BASIS).read_bytes() + b"\0" * 2880)
    settings = ([], ["--fit"], ["--fit-basis", other])
    for index, options in enumerate(settings):
        assert run("classify", coadd, "--resume", *options)[0] == 0
        kept = run("classify", coadd, "--resume", *options)[1]
        assert "kept" in kept
        following = settings[(index + 1) % len(settings)]
        assert "kept" not in run("classify", coadd, "--resume", *following)[1]


def test_tables_with_and_without_a_fit_are_not_merged(run: Run, here: Path) -> None:
    for number, options in enumerate(([], ["--fit"])):
        coadd = write_coadd(here / f"coadd-{number}.fits", 2, seed=number)
        assert run("classify", coadd, *options)[0] == 0
    status, _, err = run("merge", "all.fits", "qn-0.fits", "qn-1.fits")
    assert status == 1
    assert "QNFIT" in err


# Bases.


@pytest.fixture
def redrock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of templates in two files, as Redrock has them."""
    folder = tmp_path / "templates"
    folder.mkdir()
    with fitsio.FITS(str(data_file(QUASAR_BASIS))) as file:
        for number, kind in enumerate(("LOZ", "HIZ")):
            header, flux = file[number].read_header(), file[number].read()
            keys = ("CRVAL1", "CDELT1", "LOGLAM")
            for version in ("1.9", "1.10"):
                path = folder / f"rrtemplate-QSO-{kind}-v{version}.fits"
                with fitsio.FITS(str(path), "rw") as out:
                    cards = [{"name": key, "value": header[key]} for key in keys]
                    out.write(flux, extname="BASIS_VECTORS", header=cards)
                    out.write(np.zeros(7), extname="REDSHIFTS")
    monkeypatch.setenv("RR_TEMPLATE_DIR", str(folder))
    return folder


def test_redrock_stands_for_its_newest_templates(redrock: Path) -> None:
    found, own = read_basis("redrock"), basis()
    assert found is not None
    assert [path.parent for path in found.paths] == [redrock, redrock]
    assert found.name.split() == [
        "rrtemplate-QSO-LOZ-v1.10.fits",
        "rrtemplate-QSO-HIZ-v1.10.fits",
    ]
    for one, other in zip(found.lattice, own.lattice, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.sha256 != own.sha256


def test_one_set_of_templates_serves_all_redshifts(redrock: Path) -> None:
    found = read_basis(redrock / "rrtemplate-QSO-LOZ-v1.9.fits")
    assert found is not None
    fitter = Fitter(wave, found, resolve("cpu"))
    flux, ivar, start, absorbed = simulate()
    near = start < 1.4
    expected = on_host(flux, ivar, start, absorbed)
    done = fitter(flux, ivar, start, absorbed)
    np.testing.assert_allclose(done[:, near], expected[:, near], rtol=1e-7)


def test_redrocks_own_templates_agree_with_the_packages(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RR_TEMPLATE_DIR", str(reference / "redrock-templates"))
    found = read_basis("redrock")
    assert found is not None
    assert "LOZ-v1.1" in found.name
    flux, ivar, start, absorbed = simulate(noise=0.05)
    z, _, _, warning = Fitter(wave, found, resolve("cpu"))(flux, ivar, start, absorbed)
    truth = np.array([z for z, *_ in OBJECTS])
    assert np.nanmedian(np.abs(z - truth) / (1 + truth) * LIGHT_SPEED) < 200
    assert warning.sum() <= 1


def test_redrock_without_its_folder_or_files_says_which(
    redrock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in redrock.glob("*HIZ*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"rrtemplate-QSO-HIZ.*RR_TEMPLATE_DIR"):
        read_basis("redrock")
    monkeypatch.delenv("RR_TEMPLATE_DIR")
    with pytest.raises(ValueError, match="RR_TEMPLATE_DIR is not set"):
        read_basis("redrock")


def damaged(name: str, path: Path) -> Path:
    """A file that is no basis, for the reason that its name says."""
    cards: list[dict[str, Any]] = [
        {"name": "CRVAL1", "value": 3.1},
        {"name": "CDELT1", "value": 1e-4},
        {"name": "LOGLAM", "value": 1},
    ]
    flux, count = np.ones((3, 50)), 1
    if name == "NaN":
        flux[0, 0] = np.nan
    elif name == "too many templates":
        flux = np.ones((40, 50))
    elif name == "falling wavelengths":
        cards[1]["value"] = -1e-4
    elif name == "texts":
        cards[0]["value"] = "blue"
    elif name == "no wavelengths":
        cards = []
    elif name == "three sets":
        count = 3
    elif name == "negative wavelengths":
        cards = [{"name": "CRVAL1", "value": -50.0}, {"name": "CDELT1", "value": 1.0}]
    with fitsio.FITS(str(path), "rw") as file:
        for _ in range(count):
            file.write(flux, header=cards)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "NaN",
        "too many templates",
        "falling wavelengths",
        "texts",
        "no wavelengths",
        "three sets",
        "negative wavelengths",
    ],
)
def test_what_is_no_basis_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = damaged(name, tmp_path / "basis.fits")
    with pytest.raises(SpectraError, match=r"basis\.fits.*CRVAL1|.*LOGLAM"):
        read_basis(path)


def test_templates_by_linear_wavelength_are_read(tmp_path: Path) -> None:
    path = tmp_path / "basis.fits"
    cards = [{"name": "CRVAL1", "value": 1500.0}, {"name": "CDELT1", "value": 2.0}]
    with fitsio.FITS(str(path), "rw") as file:
        file.write(np.ones((1, 4000)), header=cards)
    found = read_basis(path)
    assert found is not None
    (part,) = found.parts
    np.testing.assert_allclose(10 ** part.edges[[0, -1]], [1499, 9499])


@pytest.mark.parametrize("which", [3, None, ["a"]], ids=["number", "none", "list"])
def test_what_names_no_basis_is_a_type_error(which: Any) -> None:
    with pytest.raises(TypeError, match="fit must be"):
        classify(data_file(DEMO_COADD), fit=which)


def test_a_basis_is_never_overwritten(
    run: Run, redrock: Path, weights: Path, tmp_path: Path
) -> None:
    coadd = write_coadd(tmp_path / "coadd.fits", 2)
    path = redrock / "rrtemplate-QSO-LOZ-v1.9.fits"
    before = path.read_bytes()
    with pytest.raises(ValueError, match="LOZ"):
        classify(coadd, weights, output=path, overwrite=True, fit=path)
    options = ("--fit-basis", path, "-o", path, "--overwrite")
    assert run("classify", coadd, *options)[0] != 0
    assert path.read_bytes() == before


# Evidence.


def test_a_line_counts_where_a_bin_within_two_has_weight() -> None:
    covered = np.zeros((2, 20), dtype=bool)
    covered[0, 10], covered[1, :] = True, True
    bins = np.array([[7, 0], [8, 25], [12, -3], [13, 4]])
    found = near_weight(bins, covered)
    assert found.tolist() == [[False, True], [True, True], [True, True], [False, True]]


def test_lines_without_pixels_are_not_counted(model: QuasarNP, tmp_path: Path) -> None:
    hdus = coadd_hdus(6)
    hdus["R_IVAR"][:] = hdus["Z_IVAR"][:] = 0
    table = classify(write_hdus(tmp_path / "c.fits", hdus), model, c_thresh=0.0)
    names = ("LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha")
    rest = (1215.67, 1548.2049, 1908.734, 2796.3511, 4862.68, 6562.8)
    found = [(1 + table[f"Z_{n}"]) * r for n, r in zip(names, rest, strict=True)]
    # Up to two bins of 0.23% beyond the last pixel of the arm.
    certain, possible = (np.sum(np.array(found) < x, axis=0) for x in (5800, 5840))
    assert np.all((certain <= table["N_LINES_QN"]) & (table["N_LINES_QN"] <= possible))
    assert table["N_LINES_QN"].min() < 6
    whole = classify(write_coadd(tmp_path / "d.fits", 6), model, c_thresh=0.0)
    assert whole["N_LINES_QN"].tolist() == [6] * 6


def test_rows_that_are_not_scored_have_no_lines(
    model: QuasarNP, tmp_path: Path
) -> None:
    hdus = coadd_hdus(2)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][0] = 0
    table = classify(write_hdus(tmp_path / "c.fits", hdus), model, c_thresh=0, fit=True)
    assert table["N_LINES_QN"].tolist() == [0, 6]
    assert table["QN_STATUS"].tolist() == [int(Status.NO_GOOD_PIXEL), 0]
    assert table["DZ_WARN"][0] == 0
    assert np.isnan(table["Z_FIT"][0])


@pytest.mark.parametrize(
    ("last", "little"), [(3600 * 10**0.147, True), (3600 * 10**0.148, False)]
)
def test_little_coverage_is_less_than_a_third_of_the_bins(
    model: QuasarNP, last: float, little: bool
) -> None:
    pixels = np.arange(3601.0, 9800.0, 2.0)
    flux = np.random.default_rng(0).normal(1, 0.1, (1, pixels.size))
    ivar = np.where(pixels < last - 0.1, 1.0, 0.0)[None]
    table = classify((pixels, flux, ivar), model)
    assert (table["QN_STATUS"][0] & Status.LITTLE_COVERAGE > 0) == little
    assert np.isfinite(table["Z_QN"][0])


def test_lines_without_pixels_are_drawn_hollow_and_said(
    model: QuasarNP, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    hdus = coadd_hdus(2)
    hdus["R_IVAR"][:] = hdus["Z_IVAR"][:] = 0
    path = write_hdus(tmp_path / "c.fits", hdus)
    table = classify(path, model, rows=[1], c_thresh=0.0)
    axes, strip = plot.spectrum(path, model, row=1, c_thresh=0.0)
    circles = [line for line in strip.lines if line.get_marker() == "o"][:6]
    hollow = [line.get_markerfacecolor() == "none" for line in circles]
    assert 0 < sum(hollow) == 6 - table["N_LINES_QN"][0]
    labels = [text.get_text() for text in axes.texts]
    assert any("(no pixels)" in label for label in labels)
    assert "hollow" in strip.get_title(loc="left")
