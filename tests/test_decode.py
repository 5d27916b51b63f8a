"""From the outputs of the network to redshifts, on every backend."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference as oracle
from numpy.typing import NDArray

from qnp_xp.decode import decode, is_quasar, prior_width, process_preds
from qnp_xp.grids import linear_wave, wave
from qnp_xp.lines import LINES, LINES_BAL, absorber_IGM

if TYPE_CHECKING:
    from conftest import ArrayBackend

NLINES, NBOXES = 7, 13
LYA = absorber_IGM["LYA"]


def draw(
    nlines: int, n: int, nboxes: int, seed: int = 0, dtype: str = "float64"
) -> NDArray[Any]:
    """Boxes in (0, 1) and offsets in (-0.1, 1.1), as networks give them."""
    preds = np.random.default_rng(seed).random((nlines, n, 2 * nboxes))
    preds[:, :, nboxes:] = 1.2 * preds[:, :, nboxes:] - 0.1
    return preds.astype(dtype)


def one_line(box: int, offset: float, nboxes: int = NBOXES) -> NDArray[np.float64]:
    """Outputs for one line of one spectrum that lies in a certain place."""
    preds = np.full((1, 1, 2 * nboxes), 0.25)
    preds[0, 0, box] = 0.75
    preds[0, 0, nboxes + box] = offset
    return preds


def test_lines_of_production_spectra_agree_with_quasarnp(
    backend: ArrayBackend, reference: Path
) -> None:
    folder = reference / "quasarnp"
    preds = backend.array(np.load(folder / "predict_data.npy"))
    c_line, z_line, zbest, c_bal, z_bal = process_preds(preds, LINES, LINES_BAL)
    confidence = np.load(folder / "predict_lya.npy")
    found = backend.host(c_line, "float64")
    assert found.shape == confidence.shape == (6, 383)
    np.testing.assert_allclose(found, confidence, rtol=0, atol=1e-6)
    redshift = np.load(folder / "predict_bal.npy")
    found = backend.host(z_bal, "float64")
    assert found.shape == redshift.shape == (1, 383)
    np.testing.assert_allclose(found, redshift, rtol=1e-2, atol=0)
    assert backend.host(z_line, "float64").shape == (6, 383)
    assert backend.host(zbest, "float64").shape == (383,)
    assert backend.host(c_bal, "float64").shape == (1, 383)


@pytest.mark.parametrize(
    ("nboxes", "grid"),
    [
        (13, wave),
        (13, linear_wave),
        (9, wave),
        (9, linear_wave),
        (9, 10 ** np.linspace(3.4, 4.1, 57)),
        (1, np.linspace(4000.0, 8000.0, 11)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decoding_agrees_with_the_oracle(
    backend: ArrayBackend, nboxes: int, grid: NDArray[np.float64], dtype: str
) -> None:
    preds = draw(NLINES, 40, nboxes, seed=nboxes, dtype=dtype)
    found = decode(backend.array(preds), LINES, LINES_BAL, grid)
    confidence, redshift = oracle.decode(preds, [*LINES, *LINES_BAL], grid)
    cbest, zbest = oracle.best(confidence[:6], redshift[:6])
    for ours, theirs in (
        (found.c_line, confidence[:6]),
        (found.c_line_bal, confidence[6:]),
        (found.cbest, cbest),
    ):
        np.testing.assert_array_equal(backend.host(ours, "float64"), theirs)
    for ours, theirs in (
        (found.z_line, redshift[:6]),
        (found.z_line_bal, redshift[6:]),
        (found.zbest, zbest),
    ):
        values = backend.host(ours, "float64")
        assert values.shape == theirs.shape
        np.testing.assert_allclose(values, theirs, rtol=0, atol=1e-13)


def test_process_preds_returns_what_decode_finds(backend: ArrayBackend) -> None:
    preds = backend.array(draw(NLINES, 20, NBOXES))
    found = decode(preds, LINES, LINES_BAL, linear_wave)
    expected = (
        found.c_line,
        found.z_line,
        found.zbest,
        found.c_line_bal,
        found.z_line_bal,
    )
    given = process_preds(preds, LINES, LINES_BAL, False, linear_wave)
    assert len(given) == 5
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_array_equal(
            backend.host(ours, "float64"), backend.host(theirs, "float64")
        )


@pytest.mark.parametrize(("box", "offset"), [(0, 0.0), (3, 0.25), (12, 0.5), (5, 1.0)])
def test_line_is_at_its_box_and_offset(
    backend: ArrayBackend, box: int, offset: float
) -> None:
    # 26 bins: two to a box, so that the place is 2 * (box + offset).
    grid = np.arange(3000.0, 3260.0, 10)
    preds = backend.array(one_line(box, offset))
    found = decode(preds, ["LYA"], wave=grid)
    observed = min(3000 + 20 * (box + offset), 3250)
    z = backend.host(found.z_line, "float64")
    np.testing.assert_allclose(z, [[observed / LYA - 1]], rtol=1e-14)
    assert backend.host(found.c_line).tolist() == [[0.75]]


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
@pytest.mark.parametrize(
    ("box", "offset", "end"),
    [
        (0, -0.1, 0),
        (0, -1e6, 0),
        (0, -np.inf, 0),
        (12, 0.999, -1),
        (12, 1.0, -1),
        (12, 1.1, -1),
        (12, 1e6, -1),
        (12, np.inf, -1),
    ],
)
def test_lines_beyond_the_grid_are_clamped_to_its_ends(
    backend: ArrayBackend, grid: NDArray[np.float64], box: int, offset: float, end: int
) -> None:
    found = decode(backend.array(one_line(box, offset)), ["LYA"], wave=grid)
    z = backend.host(found.zbest, "float64")
    np.testing.assert_allclose(z, [grid[end] / LYA - 1], rtol=1e-14)


def test_first_of_equal_boxes_has_the_line(backend: ArrayBackend) -> None:
    preds = np.full((1, 3, 2 * NBOXES), 0.5)
    preds[0, 1, [4, 7]] = 0.75
    preds[0, 2, 12] = 0.625
    preds[0, :, NBOXES:] = np.linspace(0, 1, NBOXES)
    found = decode(backend.array(preds), ["LYA"])
    boxes = np.array([0, 4, 12])
    place = (boxes + np.linspace(0, 1, NBOXES)[boxes]) * 443 / NBOXES
    expected = np.interp(place, np.arange(443), wave) / LYA - 1
    z = backend.host(found.z_line, "float64")
    np.testing.assert_allclose(z, [expected], rtol=1e-13)


def test_first_of_equally_confident_lines_gives_the_redshift(
    backend: ArrayBackend,
) -> None:
    preds = np.concatenate([one_line(2, 0.5), one_line(9, 0.5), one_line(5, 0.5)])
    found = decode(backend.array(preds), ["LYA", "CIV(1548)"], ["CIV(1548)"])
    z_line = backend.host(found.z_line)
    assert z_line[0, 0] != z_line[1, 0]
    assert backend.host(found.zbest).tolist() == [z_line[0, 0]]
    assert backend.host(found.cbest).tolist() == [0.75]


def test_absorption_lines_do_not_give_the_redshift(backend: ArrayBackend) -> None:
    preds = np.concatenate([one_line(2, 0.5), one_line(9, 0.5)])
    preds[1, 0, 9] = 0.99
    found = decode(backend.array(preds), ["LYA"], ["CIV(1548)"])
    assert backend.host(found.cbest).tolist() == [0.75]
    assert backend.host(found.c_line_bal).tolist() == [[0.99]]
    np.testing.assert_array_equal(
        backend.host(found.zbest), backend.host(found.z_line)[0]
    )


def test_emission_lines_alone_leave_no_rows_for_absorption(
    backend: ArrayBackend,
) -> None:
    found = decode(backend.array(draw(2, 4, NBOXES)), ["LYA", "Halpha"])
    assert backend.host(found.c_line_bal, "float64").shape == (0, 4)
    assert backend.host(found.z_line_bal, "float64").shape == (0, 4)


def test_absorption_lines_alone_have_no_best_redshift(backend: ArrayBackend) -> None:
    found = decode(backend.array(draw(1, 4, NBOXES)), [], ["CIV(1548)"])
    assert backend.host(found.c_line, "float64").shape == (0, 4)
    assert np.isfinite(backend.host(found.z_line_bal, "float64")).all()
    for best in (found.zbest, found.cbest):
        np.testing.assert_array_equal(backend.host(best, "float64"), np.full(4, np.nan))


def test_nan_stays_nan_and_spoils_no_other_spectrum(backend: ArrayBackend) -> None:
    preds = draw(NLINES, 5, NBOXES)
    expected = decode(backend.array(preds), LINES, LINES_BAL)
    preds[:, 2, :] = np.nan
    found = decode(backend.array(preds), LINES, LINES_BAL)
    for name in ("c_line", "z_line", "c_line_bal", "z_line_bal", "zbest", "cbest"):
        ours = backend.host(getattr(found, name), "float64")
        theirs = backend.host(getattr(expected, name), "float64").copy()
        theirs[..., 2] = np.nan
        np.testing.assert_array_equal(ours, theirs)
    assert not backend.host(is_quasar(found.c_line, 0.0), "bool")[2]


def test_nan_in_one_box_leaves_its_line_without_confidence(
    backend: ArrayBackend,
) -> None:
    preds = draw(NLINES, 3, NBOXES)
    preds[1, 0, 8] = np.nan
    c_line = backend.host(decode(backend.array(preds), LINES, LINES_BAL).c_line)
    expected = np.zeros((6, 3), dtype=bool)
    expected[1, 0] = True
    np.testing.assert_array_equal(np.isnan(c_line), expected)


def test_no_spectra_have_no_columns(backend: ArrayBackend) -> None:
    for preds in (
        backend.array(np.zeros((NLINES, 0, 26)), "float32"),
        [backend.array(np.zeros((0, 26)), "float32") for _ in range(NLINES)],
    ):
        c_line, z_line, zbest, c_bal, z_bal = process_preds(preds, LINES, LINES_BAL)
        assert backend.host(c_line, "float64").shape == (6, 0)
        assert backend.host(z_line, "float64").shape == (6, 0)
        assert backend.host(zbest, "float64").shape == (0,)
        assert backend.host(c_bal, "float64").shape == (1, 0)
        assert backend.host(z_bal, "float64").shape == (1, 0)
        assert backend.host(is_quasar(c_line), "bool").shape == (0,)
        assert backend.host(prior_width(zbest), "float64").shape == (0,)


@pytest.mark.parametrize("container", [list, tuple])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_list_of_arrays_decodes_as_one_array_does(
    backend: ArrayBackend, container: type, dtype: str
) -> None:
    preds = draw(NLINES, 6, NBOXES, dtype=dtype)
    arrays = container(backend.array(of_line) for of_line in preds)
    one = process_preds(backend.array(preds), LINES, LINES_BAL)
    many = process_preds(arrays, LINES, LINES_BAL)
    for ours, theirs in zip(many, one, strict=True):
        np.testing.assert_array_equal(
            backend.host(ours, "float64"), backend.host(theirs, "float64")
        )


@pytest.mark.parametrize(
    ("nlines", "lines", "lines_bal", "message"),
    [
        (6, LINES, LINES_BAL, "6 arrays; 6 lines and 1 BAL lines need one each"),
        (8, LINES, LINES_BAL, "8 arrays; 6 lines and 1 BAL lines need one each"),
        (7, LINES, (), "7 arrays; 6 lines and 0 BAL lines need one each"),
        (0, LINES, LINES_BAL, "0 arrays; 6 lines"),
        (0, (), (), "0 arrays; 0 lines"),
    ],
)
@pytest.mark.parametrize("stacked", [True, False])
def test_other_numbers_of_arrays_than_lines_are_refused(
    backend: ArrayBackend,
    nlines: int,
    lines: tuple[str, ...],
    lines_bal: tuple[str, ...],
    message: str,
    stacked: bool,
) -> None:
    preds = backend.array(draw(nlines, 3, NBOXES))
    arrays = preds if stacked else [preds[i, ...] for i in range(nlines)]
    with pytest.raises(ValueError, match=message):
        process_preds(arrays, lines, lines_bal)


@pytest.mark.parametrize("shape", [(1, 3, 25), (1, 3, 0), (1, 26), (1, 3, 26, 1)])
def test_arrays_of_another_shape_are_refused(
    backend: ArrayBackend, shape: tuple[int, ...]
) -> None:
    preds = backend.array(np.zeros(shape))
    with pytest.raises(ValueError, match=r"arrays \(n, 2 \* nboxes\), got shape"):
        decode(preds, ["LYA"])
    with pytest.raises(ValueError, match=r"arrays \(n, 2 \* nboxes\), got shape"):
        decode([preds[0, ...]], ["LYA"])


def test_unknown_lines_are_refused(backend: ArrayBackend) -> None:
    preds = backend.array(draw(2, 3, NBOXES))
    with pytest.raises(ValueError, match="unknown line 'CIV'"):
        decode(preds, ["LYA"], ["CIV"])


def test_decoding_changes_none_of_its_inputs(backend: ArrayBackend) -> None:
    preds = draw(NLINES, 4, NBOXES, dtype="float32")
    array = backend.array(preds)
    process_preds(array, LINES, LINES_BAL)
    np.testing.assert_array_equal(backend.host(array, "float32"), preds)


def test_grid_may_lie_on_the_device(backend: ArrayBackend) -> None:
    preds = backend.array(draw(1, 4, NBOXES))
    ours = decode(preds, ["LYA"], wave=backend.array(linear_wave)).zbest
    theirs = decode(preds, ["LYA"], wave=linear_wave).zbest
    np.testing.assert_array_equal(
        backend.host(ours, "float64"), backend.host(theirs, "float64")
    )


def test_process_preds_logs_and_prints_nothing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    preds = draw(NLINES, 4, NBOXES)
    with caplog.at_level(logging.INFO, logger="qnp_xp"):
        process_preds(preds, LINES, LINES_BAL)
        assert caplog.messages == []
        process_preds(list(preds), LINES, LINES_BAL, verbose=True)
    assert caplog.messages == ["nspec = 4, nboxes = 13"]
    assert capsys.readouterr() == ("", "")


def test_process_preds_writes_its_line_where_logging_is_not_set_up() -> None:
    code = """
import logging, sys
import numpy as np
from qnp_xp.utils import process_preds
preds = [np.zeros((3, 26))]
process_preds(preds, ["LYA"], [])
process_preds(preds, ["LYA"], [], verbose=True)
sys.stderr = None
process_preds(preds, ["LYA"], [], verbose=True)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "INFO: nspec = 3, nboxes = 13\n"


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ({}, [False, True, True, True, False]),
        ({"n_thresh": 2}, [False, False, True, True, False]),
        ({"n_thresh": 3}, [False, False, False, True, False]),
        ({"c_thresh": 0.75}, [False, False, True, True, False]),
        ({"c_thresh": 0.99}, [False] * 5),
        ({"c_thresh": 0.0, "n_thresh": 3}, [True, True, True, True, False]),
        ({"n_thresh": 4}, [False] * 5),
        ({"n_thresh": 0}, [True] * 5),
    ],
)
def test_quasars_have_enough_lines_above_the_threshold(
    backend: ArrayBackend, thresholds: dict[str, Any], expected: list[bool]
) -> None:
    c_line = backend.array(
        [
            [0.5, 0.75, 0.875, 0.9, np.nan],
            [0.5, 0.5, 0.1, 0.9, 0.1],
            [0.4, 0.25, 0.75, 0.9, 0.2],
        ]
    )
    found = backend.host(is_quasar(c_line, **thresholds), "bool")
    assert found.tolist() == expected


@pytest.mark.float64
@pytest.mark.parametrize(
    ("threshold", "value"), [(0.5, 0.5), (0.95, 0.95), (0.1, np.nextafter(0.1, 0))]
)
def test_confidence_equal_to_the_threshold_is_not_enough(
    backend: ArrayBackend, threshold: float, value: float
) -> None:
    above = np.nextafter(threshold, 1)
    c_line = backend.array([[value, above]])
    assert backend.host(is_quasar(c_line, threshold)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("grid", "nboxes"), [(wave, 13), (linear_wave, 13), (wave, 9)], ids=str
)
def test_prior_width_is_that_of_desispec(
    backend: ArrayBackend, grid: NDArray[np.float64], nboxes: int
) -> None:
    z = np.array([0.0, 0.7, 2.1, 5.0])
    box = (np.log10(grid[-1]) - np.log10(grid[0])) / nboxes
    expected = 2 * (10**box - 1) * (1 + z)
    found = backend.host(prior_width(backend.array(z), grid, nboxes), "float64")
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.float64
def test_prior_is_two_boxes_of_34_bins_wide_by_default(backend: ArrayBackend) -> None:
    found = backend.host(prior_width(backend.array([0.0, 2.0])), "float64")
    boxes = 2 * (10**0.034 - 1)
    np.testing.assert_allclose(found, [boxes, 3 * boxes], rtol=1e-13)


@pytest.mark.parametrize("wrong", [None, {}, 7 * [[0.5]]])
def test_what_holds_no_arrays_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="preds must be"):
        decode(wrong, LINES, LINES_BAL)


def test_one_number_is_no_predictions() -> None:
    with pytest.raises(ValueError, match="preds has 0 arrays"):
        decode(0.5, LINES, LINES_BAL)


@pytest.mark.parametrize("function", [is_quasar, prior_width, process_preds])
def test_complex_numbers_are_refused_by_name(
    backend: ArrayBackend, function: Any
) -> None:
    bad = backend.xp.astype(backend.array(np.ones((7, 26))), backend.xp.complex64)
    lines = (LINES, LINES_BAL) if function is process_preds else ()
    with pytest.raises(TypeError, match=r"(c_line|z|preds) must hold real numbers"):
        function(bad, *lines)


@pytest.mark.float64
def test_integers_are_confidences_and_redshifts(backend: ArrayBackend) -> None:
    ints = backend.array([[0, 1]], "int64")
    assert backend.host(is_quasar(ints), "bool").tolist() == [False, True]
    floats = backend.array([[0.0, 1.0]])
    np.testing.assert_array_equal(
        backend.host(prior_width(ints), "float64"), backend.host(prior_width(floats))
    )
    assert prior_width(1) == backend.host(prior_width(floats))[0, 1]
