"""Shapes that do not fit: errors that name the argument, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qnp_xp import layers, spectra
from qnp_xp._xp.shapes import check_shapes
from qnp_xp.decode import decode, is_quasar, prior_width, process_preds
from qnp_xp.lines import LINES, LINES_BAL
from qnp_xp.model import QuasarNP

if TYPE_CHECKING:
    from conftest import ArrayBackend

Ones = Callable[..., Any]


def preds(ones: Ones, **other: tuple[int, ...]) -> list[Any]:
    return [ones(*other.get(f"line{i}", (9, 26))) for i in range(7)]


def normal(ones: Ones, *sizes: int) -> list[Any]:
    return [ones(*sizes), *(ones(3) for _ in range(4))]


CALLS: dict[str, tuple[Callable[[Ones], Any], str]] = {
    "other pixels of clean": (
        lambda ones: spectra.clean(ones(5, 4), ones(5, 3)),
        r"ivar has shape \(5, 3\), expected \(n=5, npix=4\)",
    ),
    "one spectrum for clean": (
        lambda ones: spectra.clean(ones(4), ones(4)),
        r"flux has shape \(4,\), expected \(n, npix\)",
    ),
    "other bins of average": (
        lambda ones: spectra.average(ones(5, 4), ones(4, 4)),
        r"ivar_sum has shape \(4, 4\), expected \(n=5, nbins=4\)",
    ),
    "weights of one spectrum": (
        lambda ones: spectra.renormalize(ones(5, 4), ones(1, 4)),
        r"ivar has shape \(1, 4\), expected \(n=5, nbins=4\)",
    ),
    "weights of no spectrum": (
        lambda ones: spectra.normalize(ones(5, 4), ones(4)),
        r"ivar has shape \(4,\), expected \(n=5, nbins=4\)",
    ),
    "boxes of one line": (
        lambda ones: process_preds(preds(ones, line3=(9, 20)), LINES, LINES_BAL),
        r"preds\[3\] has shape \(9, 20\), expected \(n=9, 2\*nboxes=26\)",
    ),
    "spectra of one line": (
        lambda ones: decode(preds(ones, line6=(8, 26)), LINES, LINES_BAL),
        r"preds\[6\] has shape \(8, 26\), expected \(n=9, 2\*nboxes=26\)",
    ),
    "a grid of two dimensions": (
        lambda ones: decode(preds(ones), LINES, LINES_BAL, ones(4, 443)),
        r"wave has shape \(4, 443\), expected \(nbins\)",
    ),
    "a grid of no dimension": (
        lambda ones: prior_width(ones(3), ones()),
        r"wave has shape \(\), expected \(nbins\)",
    ),
    "a grid without bins": (
        lambda ones: decode(preds(ones), LINES, LINES_BAL, ones(0)),
        "wave has no bins",
    ),
    "a grid without bins for priors": (
        lambda ones: prior_width(ones(3), ones(0)),
        "wave has no bins",
    ),
    "one confidence": (
        lambda ones: is_quasar(ones()),
        r"c_line has shape \(\), expected \(nlines, ...\)",
    ),
    "kernel of dense": (
        lambda ones: layers.dense(ones(2, 4), ones(3, 5), ones(5), layers.relu),
        r"w has shape \(3, 5\), expected \(n_in=4, n_out\)",
    ),
    "bias of dense": (
        lambda ones: layers.dense(ones(2, 4), ones(4, 5), ones(4), layers.relu),
        r"b has shape \(4,\), expected \(n_out=5\)",
    ),
    "a number for dense": (
        lambda ones: layers.dense(ones(), ones(4, 5), ones(5), layers.relu),
        r"x has shape \(\), expected \(..., n_in\)",
    ),
    "channels of x": (
        lambda ones: layers.batch_normalization(*normal(ones, 2, 7, 4), 0.0),
        r"mean has shape \(3,\), expected \(channels=4\)",
    ),
    "channels of gamma": (
        lambda ones: layers.batch_normalization(
            *normal(ones, 2, 7, 3)[:4], ones(2), 0.0
        ),
        r"gamma has shape \(2,\), expected \(channels=3\)",
    ),
    "a number for flatten": (
        lambda ones: layers.flatten(ones()),
        r"x has shape \(\), expected \(n, ...\)",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_shapes_that_do_not_fit_are_errors_that_name_the_argument(
    backend: ArrayBackend, case: str
) -> None:
    call, match = CALLS[case]
    with pytest.raises(ValueError, match=f"^{match}$"):
        call(lambda *shape: backend.array(np.ones(shape)))


@pytest.mark.parametrize("parameter", [(), (1,), (4,)])
def test_one_number_does_for_all_channels(
    backend: ArrayBackend, parameter: tuple[int, ...]
) -> None:
    x, one = backend.array(np.full((2, 4), 3.0)), backend.array(np.ones(parameter))
    found = layers.batch_normalization(x, one, one, one, one, 3.0)
    assert backend.host(found).tolist() == 2 * [4 * [2.0]]
    found = layers.dense(x, backend.array(np.eye(4)), one, layers.linear)
    assert backend.host(found).tolist() == 2 * [4 * [4.0]]


@pytest.mark.parametrize("shape", [(3,), (2, 3), (5, 2, 3)])
def test_dots_stand_for_any_number_of_axes(shape: tuple[int, ...]) -> None:
    check_shapes(x=(np.ones(shape), "... n"), y=(np.ones((3, *shape)), "n ..."))


@pytest.mark.parametrize(
    ("arms", "match"),
    [
        ((np.ones(3), np.ones((2, 3)), np.ones((2, 3))), r"arms\[0\].* got ndarray"),
        ([(np.ones(3), np.ones((2, 3)))], r"arms\[0\] must be \(wave, flux, ivar\)"),
    ],
    ids=["an arm that is in no list", "two arrays"],
)
def test_what_is_no_arm_is_refused(arms: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        spectra.combine(arms)


def test_rows_of_several_lengths_are_no_input(model: QuasarNP) -> None:
    match = "numbers in rows of one length|must hold real numbers, got object"
    with pytest.raises(TypeError, match=match):
        model.predict([[1.0, 2.0], [1.0]])


def test_a_grid_that_is_no_array_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="wave must be an array, got list"):
        decode([np.ones((2, 26))], ["LYA"], wave=[3600.0, 3700.0])
    with pytest.raises(TypeError, match="wave must be an array, got list"):
        prior_width(2.0, [3600.0, 3700.0])


def test_normalised_values_that_the_dtype_cannot_hold_are_none(
    backend: ArrayBackend,
) -> None:
    flux, ivar = np.ones((2, 6)), np.ones((2, 6))
    flux[:, :3], flux[1, 5], ivar[1] = 2, 3e38, 1e36
    ivar[1, 5] = 0
    for dtype, held in (("float32", False), ("float64", True)):
        arrays = (backend.array(values, dtype) for values in (flux, ivar))
        x, weighted, varied = spectra.normalize(*arrays)
        assert backend.host(weighted).tolist() == [True, True]
        assert backend.host(varied).tolist() == [True, held]
        host = backend.host(x, dtype)
        np.testing.assert_allclose(host[0], [1, 1, 1, -1, -1, -1], rtol=1e-6)
        if held:
            np.testing.assert_allclose(host[1, 5], 3e38 / np.sqrt(0.24), rtol=1e-6)
        else:
            assert not host[1].any()
