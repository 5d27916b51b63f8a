"""The gradient of a line's confidence, against small steps on numpy in float64."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import Run, coadd_hdus, names, write_hdus

from qnp_xp import DeviceError, load_model, saliency
from qnp_xp._data import data_file
from qnp_xp._saliency import differentiable as moved
from qnp_xp._xp import libraries
from qnp_xp._xp.backend import to_host
from qnp_xp.decode import decode
from qnp_xp.errors import MissingLibraryError
from qnp_xp.io import load_desi_coadd
from qnp_xp.lines import LINES
from qnp_xp.model import QuasarNP

if TYPE_CHECKING:
    from conftest import ArrayBackend

STEP = 1e-6


@pytest.fixture
def differentiable(backend: ArrayBackend) -> ArrayBackend:
    """Each library that computes gradients in turn."""
    if backend.name not in ("torch", "jax", "jax-float32"):
        pytest.skip(f"{backend.name} computes no gradients")
    return backend


@pytest.fixture
def model(differentiable: ArrayBackend, data: Path) -> QuasarNP:
    """A small network of seven outputs."""
    path = data / "keras" / "valid_rescaled.h5"
    return load_model(path, **differentiable.resolve())


def spectra(n: int, nbins: int = 443) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, nbins)).astype("float32")


def confidences(x: np.ndarray, model: QuasarNP) -> np.ndarray:
    """Confidences of all lines, shape (nlines, n)."""
    found = decode(model.predict(x), model.lines, model.lines_bal, model.wave)
    return np.concatenate([found.c_line, found.c_line_bal])


def differences(x: np.ndarray, model: QuasarNP) -> np.ndarray:
    """Central differences on numpy, shape (nlines, n, nbins)."""
    wide = model.to("cpu").__replace__(dtype="float64")
    steps = STEP * np.eye(wide.nbins)
    changes = [
        confidences(row + steps, wide) - confidences(row - steps, wide)
        for row in x.astype("float64")
    ]
    return np.stack(changes, axis=1) / (2 * STEP)


def assert_close(found: Any, known: np.ndarray, part: float) -> None:
    largest = np.max(np.abs(known))
    assert largest > 1e-6
    np.testing.assert_allclose(to_host(found), known, rtol=0, atol=part * largest)


# --- the numbers


def test_it_is_what_small_steps_change(differentiable: ArrayBackend) -> None:
    model = load_model(**differentiable.resolve())
    x, _ = load_desi_coadd(data_file("demo-coadd.fits"), rows=[14, 0])
    x = x.astype("float32")
    before, known = x.copy(), differences(x, model)
    for output, line in ((1, "CIV(1548)"), (3, "MgII"), (6, "BAL_CIV")):
        given = differentiable.array(x)
        found = saliency(given, model, line)
        assert_close(differentiable.host(found, "float32"), known[output], 1e-4)
        np.testing.assert_array_equal(differentiable.host(given), before)
    np.testing.assert_array_equal(x, before)


@pytest.mark.float64
@pytest.mark.parametrize("network", ["same", "stride3", "nine_boxes", "linear_grid"])
def test_it_is_what_small_steps_change_in_any_network(
    differentiable: ArrayBackend, data: Path, network: str
) -> None:
    path = data / "keras" / f"{network}.h5"
    bal, count = ["CIV(1548)"], load_model(path).nlines
    where = differentiable.resolve()
    model = load_model(
        path, dtype="float64", lines=LINES[: count - 1], lines_bal=bal, **where
    )
    x = spectra(2, model.nbins).astype("float64")
    known = differences(x, model)
    for output, line in ((0, "LYA"), (count - 1, "BAL_CIV(1548)")):
        found = saliency(differentiable.array(x), model, line)
        assert_close(differentiable.host(found, "float64"), known[output], 1e-5)


def test_rows_without_weight_have_zeros_and_those_of_nan_have_nan(
    differentiable: ArrayBackend, model: QuasarNP
) -> None:
    x = spectra(5)
    x[1], x[2, 7] = 0, np.nan
    found = differentiable.host(saliency(differentiable.array(x), model, "LYA"))
    assert np.all(found[1] == 0)
    assert np.all(np.isnan(found[2]))
    others = saliency(differentiable.array(x[[0, 3, 4]]), model, "LYA")
    assert_close(others, found[[0, 3, 4]], 1e-5)


@pytest.mark.parametrize("n", [0, 1, 300])
def test_any_number_of_spectra_has_the_gradients_of_each(
    differentiable: ArrayBackend, model: QuasarNP, n: int
) -> None:
    x = spectra(n)
    found = differentiable.host(saliency(x, model, "Hbeta"), "float32")
    assert found.shape == (n, 443)
    deep = differentiable.host(saliency(x[:, :, None], model, "Hbeta"))
    np.testing.assert_array_equal(deep, found[:, :, None])
    for row in range(0, n, 149):
        known = differences(x[row : row + 1], model)[4]
        assert_close(found[row : row + 1], known, 1e-4)


def test_numbers_of_other_kinds_are_moved_to_the_model(
    differentiable: ArrayBackend, model: QuasarNP
) -> None:
    x = (10 * spectra(2)).astype("int16")
    known = differentiable.host(saliency(x.astype("float32"), model, "LYA"))
    for given in (x, x.astype(">f8"), x.tolist(), np.broadcast_to(x, x.shape)):
        found = differentiable.host(saliency(given, model, "LYA"), "float32")
        np.testing.assert_array_equal(found, known)


# --- which line


def test_lines_have_the_names_of_the_model_and_of_its_columns(
    differentiable: ArrayBackend, model: QuasarNP
) -> None:
    x = spectra(2)
    emitted, absorbed = (
        to_host(saliency(x, model, name)) for name in ("CIV(1548)", "BAL_CIV(1548)")
    )
    assert not np.allclose(emitted, absorbed)
    np.testing.assert_array_equal(to_host(saliency(x, model, "CIV")), emitted)
    np.testing.assert_array_equal(to_host(saliency(x, model, "BAL_CIV")), absorbed)


@pytest.mark.parametrize("line", ["CV", "", "C_CIV", "BAL_LYA", None, 1])
def test_unknown_lines_are_errors_that_name_the_others(line: Any) -> None:
    with pytest.raises(ValueError, match=r"embedded-network\.h5 .*MgII.*BAL_CIV"):
        saliency(spectra(1), load_model(), line)


def test_outputs_without_names_are_errors_that_say_how_to_name_them(data: Path) -> None:
    model = load_model(data / "keras" / "same.h5")
    with pytest.raises(ValueError, match=r"same\.h5 .*lines="):
        saliency(spectra(1), model, "LYA")


# --- which library


def test_a_model_on_numpy_says_what_is_needed() -> None:
    with pytest.raises(DeviceError, match=r"'cpu'.*torch.*jax\.numpy"):
        saliency(spectra(1), load_model(), "LYA")


def test_a_model_is_copied_only_from_a_library_without_gradients(
    differentiable: ArrayBackend, model: QuasarNP
) -> None:
    assert moved(model) is model
    copied = moved(model.to("cpu"))
    assert copied.backend.xp is not model.to("cpu").backend.xp
    found = to_host(saliency(spectra(2), copied, "LYA"))
    assert_close(saliency(spectra(2), model, "LYA"), found, 1e-4)


def test_without_torch_and_jax_their_names_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libraries, "_DIFFERENTIABLE", ("no_such_library",))
    with pytest.raises(MissingLibraryError, match="pip install torch, or jax"):
        moved(load_model())


@pytest.mark.parametrize("shape", [(443,), (2, 442), (2, 443, 2), (1, 2, 443, 1)])
def test_other_shapes_are_errors(
    differentiable: ArrayBackend, model: QuasarNP, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"x has shape .* expected .*443"):
        saliency(np.zeros(shape), model, "LYA")


def test_torch_is_left_as_it_was(differentiable: ArrayBackend, model: QuasarNP) -> None:
    if differentiable.name != "torch":
        pytest.skip("JAX has no such state")
    torch = pytest.importorskip("torch")
    x = torch.asarray(spectra(2), requires_grad=True)
    graph = x * 2
    known = to_host(saliency(spectra(2) * 2, model, "LYA"))
    with torch.inference_mode():
        inferred = x * 2
        results = [saliency(inferred, model, "LYA")]
    with torch.no_grad():
        results.append(saliency(graph, model, "LYA"))
        assert not torch.is_grad_enabled()
    results.append(saliency(graph, model, "LYA"))
    for found in results:
        assert not found.requires_grad
        assert found.grad_fn is None
        np.testing.assert_array_equal(to_host(found), known)
    assert x.requires_grad
    assert x.grad is None
    graph.sum().backward()  # the graph of the user is still there
    assert bool(torch.all(x.grad == 2))
    network = model._layers
    weights = [network.heads[0], *network.trunk[0][:2], network.convs[0][0].kernel]
    assert not any(weight.requires_grad for weight in weights)
    assert all(weight.grad is None for weight in weights)


def test_jax_compiles_it(differentiable: ArrayBackend, model: QuasarNP) -> None:
    if differentiable.name == "torch":
        pytest.skip("of JAX alone")
    jax = pytest.importorskip("jax")
    x = differentiable.array(spectra(2))
    with jax.checking_leaks():
        found = jax.jit(lambda x: saliency(x, model, "LYA"))(x)
    assert_close(found, to_host(saliency(x, model, "LYA")), 1e-5)


# --- pictures


@pytest.fixture
def coadd(inputs: Path) -> Path:
    """Three spectra, the last of them without a good pixel."""
    hdus = coadd_hdus(3)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][2] = 0
    return write_hdus(inputs / "coadd-1.fits", hdus)


@pytest.fixture
def ramp(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Gradients that pictures get in the place of true ones, which need a library."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from qnp_xp.plot import _views

    slopes = np.linspace(-1, 2, 443)
    monkeypatch.setattr(_views, "differentiable", lambda model: model)
    monkeypatch.setattr(_views, "saliency", lambda x, model, line: slopes[None, :])
    return slopes


def drawn(panel: Any, grid: np.ndarray) -> np.ndarray:
    """Sum of the heights of what is filled in each bin."""
    total = np.zeros(grid.size)
    for patch in panel.patches:
        values, edges, _ = patch.get_data()
        np.testing.assert_array_equal(edges[:-1], grid)
        assert edges[-1] > grid[-1]
        total += values
    return total


def test_saliency_is_drawn_over_its_bins(
    coadd: Path, weights: Path, ramp: np.ndarray
) -> None:
    from qnp_xp import plot

    model = load_model(weights)
    axes, strip, panel = plot.spectrum(coadd, model, row=1, saliency="CIV(1548)")
    np.testing.assert_array_equal(drawn(panel, model.wave), ramp)
    blue, red = (patch.get_data()[0] for patch in panel.patches)
    assert blue.min() == 0 == red.max()
    assert "Saliency of CIV:" in panel.get_title(loc="left")
    assert panel.get_xlim() == axes.get_xlim()
    heights = [a.get_position().y0 for a in (axes, panel, strip)]
    axes.figure.canvas.draw()
    assert heights == sorted(heights, reverse=True)
    assert len(plot.spectrum(coadd, model, row=1)) == 2


def test_the_saliency_of_a_spectrum_that_cannot_be_scored_says_so(
    coadd: Path, weights: Path, ramp: np.ndarray
) -> None:
    from qnp_xp import plot

    *_, panel = plot.spectrum(coadd, load_model(weights), row=2, saliency="LYA")
    assert [text.get_text() for text in panel.texts] == ["no gradient"]
    assert not panel.patches


def test_what_is_drawn_is_the_saliency_of_the_normalised_spectrum(
    differentiable: ArrayBackend, coadd: Path, weights: Path
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from qnp_xp import plot

    model = load_model(weights, **differentiable.resolve())
    *_, panel = plot.spectrum(coadd, model, row=1, saliency="BAL_CIV")
    x, _ = load_desi_coadd(coadd, rows=[1])
    known = to_host(saliency(x.astype("float32"), model, "BAL_CIV"))
    assert_close(drawn(panel, model.wave)[None, :], known, 1e-4)


def test_the_command_draws_it(
    run: Run, coadd: Path, here: Path, ramp: np.ndarray
) -> None:
    assert run("plot", coadd, "--rows", "0,1", "--saliency", "CIV")[0] == 0
    assert names(here) == ["plot-coadd-1.pdf"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--saliency", "CV"], 1, "'CV'"),
        (["--saliency", "CIV"], 1, "pip install torch, or jax"),
        (["--saliency", "CIV", "--summary"], 2, "no --saliency"),
    ],
    ids=["unknown", "no library", "summary"],
)
def test_errors_of_the_command_are_said_and_nothing_is_written(
    run: Run,
    coadd: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr(libraries, "_DIFFERENTIABLE", ("no_such_library",))
    found, out, err = run("plot", coadd, *arguments)
    assert (found, out) == (status, "")
    assert message in err
    assert names(here) == []
