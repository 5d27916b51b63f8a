"""Pictures: what is drawn, and the command that draws."""

from __future__ import annotations

import io
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import (
    LIGHT_SPEED,
    REST,
    TARGETID,
    Hdus,
    Run,
    coadd_hdus,
    gzipped,
    names,
    run_python,
    write_cframes,
    write_coadd,
    write_hdus,
    write_images_by_hand,
)

from qnp_xp import SpectraError, classify, load_model
from qnp_xp.cli import _shared
from qnp_xp.errors import MissingLibraryError, QnpError
from qnp_xp.model import QuasarNP
from qnp_xp.plot._draw import draw_spectrum
from qnp_xp.plot._views import Line, SpectrumView, smooth_flux

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
import matplotlib.figure  # noqa: E402, F811
from matplotlib import image  # noqa: E402

from qnp_xp import plot  # noqa: E402

N = 4
NAMES = ("LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha")


@pytest.fixture
def hdus() -> Hdus:
    """Spectra with a spike and a hole; the third has no good pixel."""
    found = coadd_hdus(N)
    found["R_FLUX"][:, 77] = 1e5
    found["B_IVAR"][0, 100:200] = 0
    for arm in "BRZ":
        found[f"{arm}_IVAR"][2] = 0
    return found


@pytest.fixture
def coadd(inputs: Path, hdus: Hdus) -> Path:
    return write_hdus(inputs / "coadd-1.fits", hdus)


def text(artist: Any) -> str:
    """All words in a figure or in axes."""
    found = artist.findobj(matplotlib.text.Text)
    return "\n".join(t.get_text() for t in found if t.get_visible())


def upright(axes: Any) -> dict[float, str]:
    """Line style of each vertical line by its wavelength."""
    lines = [line for line in axes.lines if len(set(np.ravel(line.get_xdata()))) == 1]
    return {
        float(np.ravel(line.get_xdata())[0]): line.get_linestyle()
        for line in lines
        if len(line.get_xdata()) == 2
    }


def curves(axes: Any, colour: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for line in axes.lines:
        if line.get_color() == colour and len(line.get_xdata()) > 2:
            yield np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def assert_picture(content: bytes) -> None:
    """A PNG with ink, and more than a frame."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(io.BytesIO(content), format="png")
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 500
    assert 0.01 < np.mean(np.any(pixels[..., :3] < 0.9, axis=2)) < 0.9


def assert_pages(content: bytes, count: int) -> None:
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == count
    assert len(content) > 10_000 * count


# What is drawn.


def test_lines_are_drawn_where_the_redshift_puts_them(
    coadd: Path, model: QuasarNP
) -> None:
    row = classify(coadd, model)[0]
    confidences = {name: float(row[f"C_{name}"]) for name in NAMES}
    threshold = float(np.median(list(confidences.values())))
    axes, strip = plot.spectrum(coadd, model, c_thresh=threshold)
    left, right = axes.get_xlim()
    for name, rest in zip(NAMES, REST, strict=True):
        wave, confidence = rest * (1 + float(row["Z_QN"])), confidences[name]
        inside = left < wave < right
        for panel, count in ((axes, int(inside)), (strip, 1)):
            near = [
                style
                for wavelength, style in upright(panel).items()
                if abs(wavelength / wave - 1) < 1 / LIGHT_SPEED
            ]
            dashed = "--" if panel is axes else ":"
            # Broad absorption is where C IV is, in a row of its own.
            assert near[:1] == ["-" if confidence > threshold else dashed][:count]
        assert (f"{name} {confidence:.2f}" in text(axes)) == inside
        assert f"{confidence:.2f}" in text(strip)


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of spectra that went through the network, call by call."""
    calls: list[int] = []
    forward = QuasarNP.forward

    def counted(self: QuasarNP, x: np.ndarray) -> np.ndarray:
        calls.append(x.shape[0])
        return forward(self, x)

    monkeypatch.setattr(QuasarNP, "forward", counted)
    return calls


def test_a_spectrum_goes_through_the_network_once(
    coadd: Path, model: QuasarNP, predicted: list[int]
) -> None:
    plot.spectrum(coadd, model)
    assert predicted == [1]


def test_spectra_of_a_file_go_through_the_network_once(
    run: Run, coadd: Path, here: Path, predicted: list[int]
) -> None:
    assert run("plot", coadd, "--c-thresh", 0)[0] == 0
    assert sum(predicted) == 3, "all but the one without a good pixel"


def test_circles_are_where_each_line_was_found(coadd: Path, model: QuasarNP) -> None:
    row = classify(coadd, model)[1]
    _, strip = plot.spectrum(coadd, model, row=1)
    circles = [line.get_xdata()[0] for line in strip.lines if line.get_marker() == "o"]
    expected = [
        rest * (1 + float(row[f"Z_{name}"]))
        for name, rest in zip(NAMES, REST, strict=True)
    ]
    expected.append(REST[1] * (1 + float(row["Z_BAL_CIV"])))
    np.testing.assert_allclose(circles, expected, rtol=1e-6)


def test_the_strip_has_the_activations_of_the_boxes(
    coadd: Path, hdus: Hdus, model: QuasarNP
) -> None:
    row = classify(coadd, model)[0]
    axes, strip = plot.spectrum(coadd, model, row=0)
    (mesh,) = strip.collections
    values = np.asarray(mesh.get_array()).reshape(model.nlines, model.nboxes)
    for line, name in enumerate((*NAMES, "BAL_CIV")):
        assert values[line].max() == pytest.approx(float(row[f"C_{name}"]), abs=1e-6)
        # The line is in its box, or a little outside: offsets are from -0.1 to 1.1.
        edges = model.wave[0] * 10 ** (0.443 * np.arange(14) / 13)
        box = int(values[line].argmax())
        found = [*REST, REST[1]][line] * (1 + float(row[f"Z_{name}"]))
        assert edges[box] * 0.98 < found < edges[box + 1] * 1.02
    edges = mesh.get_coordinates()[0, :, 0]
    assert edges[0] == 3600
    assert edges[-1] == pytest.approx(model.wave[-1])
    np.testing.assert_allclose(np.diff(np.log10(edges))[:-1], 0.443 / 13, rtol=1e-2)
    assert axes.get_xlim() == strip.get_xlim()


def test_the_smoothed_line_and_the_band_are_those_of_each_arm(
    coadd: Path, hdus: Hdus, model: QuasarNP
) -> None:
    axes, _ = plot.spectrum(coadd, model, smooth=3)
    low, high = axes.get_ylim()
    assert high - low < 100, "a spike does not make the picture"
    for arm, colour in (("B", "#0072B2"), ("R", "#D55E00"), ("Z", "#009E73")):
        flux, ivar = (
            hdus[f"{arm}_{part}"][0].astype(float) for part in ("FLUX", "IVAR")
        )
        ((x, y),) = curves(axes, colour)
        np.testing.assert_array_equal(x, hdus[f"{arm}_WAVELENGTH"])
        mean = smooth_flux(flux, ivar, 3)
        shown = (mean > low) & (mean < high)
        np.testing.assert_allclose(y[shown], mean[shown], rtol=1e-12)
        (band,) = (
            c for c in axes.collections
            if matplotlib.colors.to_hex(c.get_facecolor()[0]).upper() == colour
        )  # fmt: skip
        corners = np.concatenate([path.vertices for path in band.get_paths()])
        used = shown & (ivar > 0) & (flux < 100)
        for sign in (-1, 1):
            edge = mean[used] + sign * ivar[used] ** -0.5
            for wavelength, value in list(zip(x[used], edge, strict=True))[::50]:
                here = corners[corners[:, 0] == wavelength, 1]
                assert np.min(np.abs(here - value)) < 1e-9
    raw = list(curves(axes, "#888888"))
    assert [x.size for x, _ in raw] == [hdus[f"{arm}_FLUX"].shape[1] for arm in "BRZ"]
    assert np.all(np.isnan(raw[0][1][100:200])), "no line where nothing has weight"


def test_titles_and_axes_say_what_is_seen(coadd: Path, model: QuasarNP) -> None:
    row = classify(coadd, model)[3]
    axes, strip = plot.spectrum(coadd, model, targetid=TARGETID + 3, c_thresh=0)
    said = text(axes.figure)
    assert f"TARGETID {TARGETID + 3}, row 3 of coadd-1.fits" in said
    z, confidence = float(row["Z_QN"]), float(row["Z_QN_CONF"])
    found = f"Z_QN = {z:.4f}, confidence {confidence:.3f}"
    bal = f"BAL_CIV {row['C_BAL_CIV']:.2f}"
    assert f"\nquasar, {found}, {bal}, status: scored" in said
    assert "[10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹]" in axes.get_ylabel()
    assert "observed wavelength" in strip.get_xlabel()
    (rest,) = axes.child_axes
    assert rest.get_xlabel() == f"rest wavelength [Å] at z = {z:.4f}"
    axes.figure.canvas.draw()
    np.testing.assert_allclose(
        np.multiply(rest.get_xlim(), 1 + z), axes.get_xlim(), rtol=1e-9
    )
    axes, _ = plot.spectrum(coadd, model, row=-1, c_thresh=1)
    assert f"\nnot a quasar, {found}, status: scored" in text(axes.figure)


def test_a_spectrum_that_cannot_be_scored_says_why(
    coadd: Path, model: QuasarNP
) -> None:
    axes, strip = plot.spectrum(coadd, model, row=2)
    said = text(axes.figure)
    assert "status: not scored (no good pixel)" in said
    assert "cannot be scored:\nno pixel" in said
    assert "no activations" in text(strip)
    assert not axes.child_axes
    assert_picture(plot.png(axes.figure))


def test_spectra_without_a_target_are_named_by_plate_night_and_fiber() -> None:
    names = ["TARGETID", "PLATE", "MJD", "FIBERID", "QN_STATUS"]
    row = np.array([(-1, 3655, 55240, 66, 1)], dtype=[(name, "i8") for name in names])
    line = Line("LYA", np.nan, np.nan, np.nan, False, False)
    edges, boxes = np.array([3600.0, 9800.0]), np.full((1, 1), np.nan)
    view = SpectrumView("x/spPlate.fits", 65, row[0], (), (line,), edges, boxes, 0.5)
    axes, _ = draw_spectrum(view, plot.new_figure(), physical=True)
    assert "3655-55240-66, row 65 of spPlate.fits" in text(axes.figure)


def test_arrays_and_constant_spectra_can_be_drawn(model: QuasarNP) -> None:
    wave = np.arange(3600, 9800, 4.0)
    axes, _ = plot.spectrum((wave, np.full(wave.size, 5.0), np.ones(wave.size)), model)
    assert axes.get_ylabel() == "flux"
    assert "row 0 of arrays" in text(axes.figure)
    assert "constant, or too large" in text(axes.figure)
    assert_picture(plot.png(axes.figure))


@pytest.mark.parametrize("scale", [1e-17, 1e99])
def test_flux_of_any_size_can_be_drawn(model: QuasarNP, scale: float) -> None:
    wave = np.arange(3600, 9800, 4.0)
    flux = np.random.default_rng(0).normal(size=wave.size) * scale
    axes, _ = plot.spectrum((wave, flux, np.full(wave.size, scale**-0.5)), model)
    low, high = axes.get_ylim()
    assert -2 * scale < low < 0 < high < 2 * scale
    assert_picture(plot.png(axes.figure))


def test_labels_of_lines_do_not_overlap(
    data: Path, tmp_path: Path, coadd: Path
) -> None:
    """Seven emission lines, four of them side by side."""
    lines = ["MgII(2796)", "MgII(2804)", "FeII(2600)", "FeII(2587)", "CIV(1548)"]
    lines += ["CIV(1551)", "LYA"]
    from qnp_xp.io import embed_grid

    path = tmp_path / "seven.h5"
    embed_grid(data / "keras" / "valid_rescaled.h5", path)
    model = load_model(path, lines=lines, lines_bal=[])
    axes, _ = plot.spectrum(coadd, model)
    axes.figure.canvas.draw()
    labels = [t for t in axes.texts if re.search(r" \d\.\d\d$", t.get_text())]
    assert labels
    boxes = [label.get_window_extent() for label in labels]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_picture_says_where_the_target_is(inputs: Path, model: QuasarNP) -> None:
    hdus = coadd_hdus(2)
    hdus["FIBERMAP"]["TARGET_RA"] = [150.25, np.nan]
    hdus["FIBERMAP"]["TARGET_DEC"] = [-2.5, 1.0]
    path = write_hdus(inputs / "coadd-2.fits", hdus)
    first, second = (plot.spectrum(path, model, row=i) for i in (0, 1))
    assert "row 0 of coadd-2.fits, RA 150.25000, Dec -2.50000\n" in text(first.figure)
    assert "RA" not in text(second.figure)


def test_a_legend_says_what_is_drawn(coadd: Path, model: QuasarNP) -> None:
    row = classify(coadd, model)[0]
    threshold = float(np.median([row[f"C_{name}"] for name in NAMES]))
    axes, _ = plot.spectrum(coadd, model, c_thresh=threshold)
    said = [t.get_text() for t in axes.get_legend().get_texts()]
    assert said[:3] == ["flux of a pixel", "± its standard deviation", "smoothed flux"]
    below = f"line below {threshold:g}, or without pixels"
    assert {*said[3:]} <= {f"line above {threshold:g}", below}
    assert said[3:]


def test_no_line_is_drawn_on_what_is_no_quasar(coadd: Path, model: QuasarNP) -> None:
    axes, strip = plot.spectrum(coadd, model, c_thresh=1)
    assert upright(axes) == {}
    assert not axes.child_axes, "no rest wavelengths"
    assert not re.search(r"\bLYA \d", text(axes))
    assert "bar:" not in text(strip)
    assert upright(strip) == {}
    circles = [line for line in strip.lines if line.get_marker() == "o"]
    assert len(circles) == model.nlines


def test_the_range_of_flux_follows_a_zoom(model: QuasarNP) -> None:
    wave = np.arange(3600, 9800, 2.0)
    flux = np.where(wave < 5000, 100.0, 1.0) + 0.1 * np.sin(wave)
    axes, strip = plot.spectrum((wave, flux, np.ones(wave.size)), model)
    assert axes.get_ylim()[1] > 100
    strip.set_xlim(6000, 7000)
    low, high = axes.get_ylim()
    assert low < 0
    assert 1 < high < 2
    axes.set_xlim(3600, 9800)
    assert axes.get_ylim()[1] > 100
    # A range that a user sets stays.
    axes.set_ylim(-5, 50)
    axes.set_xlim(6000, 7000)
    assert axes.get_ylim() == (-5, 50)
    axes.set_xlim(20, 30)
    assert_picture(plot.png(axes.figure))


def test_labels_follow_a_zoom(coadd: Path, model: QuasarNP) -> None:
    axes, _ = plot.spectrum(coadd, model, c_thresh=0)
    axes.set_xlim(6000, 7400)
    shown = [t for t in axes.texts if t.get_visible()]
    arms = [t.get_text() for t in shown if t.get_text().startswith("arm ")]
    assert arms == ["arm R"]
    assert all(6000 < t.xy[0] < 7400 for t in shown)
    axes.set_xlim(3000, 11000)
    shown = [t for t in axes.texts if t.get_visible()]
    assert {"arm B", "arm R", "arm Z"} <= {t.get_text() for t in shown}


def test_several_spectra_are_drawn_below_each_other(
    coadd: Path, model: QuasarNP
) -> None:
    mask = np.array([True, False, False, True])
    for choice in ({"rows": mask}, {"targetids": [TARGETID, TARGETID + 3]}):
        panels = plot.spectrum(coadd, model, **choice)
        assert len(panels) == 4
        said = [text(panel.figure) for panel in panels[::2]]
        for row, words in zip((0, 3), said, strict=True):
            assert f"TARGETID {TARGETID + row}, row {row} of" in words
        assert panels.figure is panels[0].figure.figure
        assert panels.figure.get_figheight() > 12
    assert_picture(plot.png(panels.figure))


def test_axes_of_the_users_are_drawn_in(coadd: Path, model: QuasarNP) -> None:
    figure = matplotlib.figure.Figure(figsize=(8, 6))
    axes = figure.subplots(2, 2)
    (top,) = plot.spectrum(coadd, model, row=3, axes=axes[0, 0], c_thresh=0)
    assert top is axes[0, 0]
    lines = top.get_title().splitlines()
    assert len(lines) > 2
    whole = plot.spectrum(coadd, model, row=3, c_thresh=0).figure._suptitle.get_text()
    for part in re.split(", |\n", whole):
        assert any(part in line for line in lines), "broken after commas alone"
    assert "observed wavelength" in top.get_xlabel()
    both = plot.spectrum(coadd, model, axes=axes[1])
    assert tuple(both) == tuple(axes[1])
    assert "Circle: where a line was found" in axes[1, 1].get_title(loc="left")
    assert max(map(len, axes[1, 1].get_title(loc="left").splitlines())) < 70
    assert not axes[0, 1].lines
    assert len(figure.axes) == 4
    (panel,) = plot.summary(made_up(), axes=axes[0, 1])
    assert panel.get_title() == "6 rows, 5 scored, 3 quasars"
    assert_picture(plot.png(figure))


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ({"count": 3}, ValueError, "axes has 3 of them, .* 2 panels"),
        ({"axes": [1.5]}, TypeError, "matplotlib, got float"),
        ({"count": 1, "rows": [0, 1]}, ValueError, "one spectrum, and 2 are"),
        ({"count": 1, "figure": True}, ValueError, "figure and axes"),
        ({"rows": [0], "targetid": TARGETID}, ValueError, "targetid and rows"),
        ({"rows": []}, ValueError, "0 spectra are asked for"),
        ({"rows": [0] * 21}, ValueError, "21 spectra .* qnp_xp.inspect"),
        ({"targetids": [5]}, ValueError, "no target 5"),
    ],
    ids=str,
)
def test_a_choice_that_fits_no_picture_is_an_error(
    coadd: Path,
    model: QuasarNP,
    choice: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    options = dict(choice)
    if "count" in options:
        figure = matplotlib.figure.Figure()
        options["axes"] = figure.subplots(1, options.pop("count"))
    if "figure" in options:
        options["figure"] = figure
    with pytest.raises(error, match=message):
        plot.spectrum(coadd, model, **options)


def test_a_notebook_shows_a_picture_once(coadd: Path, model: QuasarNP) -> None:
    panels = plot.spectrum(coadd, model)
    assert repr(panels) == "<picture of 2 panels>"
    assert_picture(panels._repr_png_())
    # pyplot shows its figures itself.
    from matplotlib.backend_bases import FigureManagerBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = matplotlib.figure.Figure()
    FigureManagerBase(FigureCanvasAgg(figure), 1)
    assert plot.summary(made_up(), figure=figure)._repr_png_() is None


def test_arrays_one_by_one_are_told_the_right_call_of_pictures() -> None:
    with pytest.raises(TypeError, match=r"spectrum\(\(wave, flux, ivar\)\)"):
        plot.spectrum(*[np.ones(5)] * 3)


def test_a_zoom_leaves_labels_behind(coadd: Path, model: QuasarNP) -> None:
    axes = plot.spectrum(coadd, model, row=0)
    axes[0].set_xlim(8000, 8100)
    # A layout that labels leave no room for is a warning, and so an error here.
    assert_picture(plot.png(axes[0].figure))
    assert axes[0].get_position().width > 0.5


def test_odd_names_of_files_are_no_formulas(inputs: Path, model: QuasarNP) -> None:
    path = write_coadd(inputs / "co$add_^ \u4e2d.fits", 1)
    axes, _ = plot.spectrum(path, model)
    assert "co$add_^ \\u4e2d.fits" in text(axes.figure)
    assert_picture(plot.png(axes.figure))


def test_a_figure_of_the_users_is_drawn_in(coadd: Path, model: QuasarNP) -> None:
    figure = matplotlib.figure.Figure()
    axes, _ = plot.spectrum(coadd, model, figure=figure)
    assert axes.figure is figure


def test_pyplot_is_not_needed(coadd: Path, weights: Path) -> None:
    code = """
import sys
from qnp_xp import plot
axes = plot.spectrum(sys.argv[1], sys.argv[2])
plot.pdf([axes[0].figure])
print("matplotlib.pyplot" in sys.modules)
"""
    assert run_python(code, coadd, weights) == "False\n"


def test_threads_can_draw(coadd: Path, model: QuasarNP) -> None:
    found: list[bytes] = []

    def draw() -> None:
        found.append(plot.png(plot.spectrum(coadd, model)[0].figure))

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    # Formulas have a parser that threads would share.
    assert "$" not in text(plot.spectrum(coadd, model)[0].figure)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row": N}, r"row .*4 of 4 rows"),
        ({"targetid": 5}, "no target 5"),
        ({"row": 0, "targetid": TARGETID}, "row and targetid"),
        ({"smooth": -1}, "smooth .* 0 to 1000"),
        ({"smooth": float("nan")}, "smooth .* 0 to 1000"),
        ({"c_thresh": 2}, "c_thresh .* 0 and 1"),
    ],
    ids=str,
)
def test_arguments_that_fit_nothing_are_errors(
    coadd: Path, model: QuasarNP, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plot.spectrum(coadd, model, **options)


def test_a_row_is_a_whole_number(coadd: Path, model: QuasarNP) -> None:
    with pytest.raises(TypeError, match="integer"):
        plot.spectrum(coadd, model, row=1.5)


def test_a_target_of_several_rows_needs_a_row(
    inputs: Path, hdus: Hdus, model: QuasarNP
) -> None:
    hdus["FIBERMAP"]["TARGETID"][3] = TARGETID
    path = write_hdus(inputs / "spectra-1.fits", hdus)
    with pytest.raises(ValueError, match=rf"spectra-1\.fits: .*{TARGETID}.* 0, 3"):
        plot.spectrum(path, model, targetid=TARGETID)


# Tables.


def made_up(n: int = 6) -> np.ndarray:
    """A table with three quasars of 2, 1 and 2 lines above 0.5, and an unscored row."""
    columns = [("TARGETID", "i8"), ("IS_QSO_QN", "i2"), ("Z_QN", "f4")]
    columns += [("Z_QN_CONF", "f4"), ("C_LYA", "f4"), ("C_CIV", "f4")]
    columns += [("C_BAL_CIV", "f4"), ("QN_STATUS", "i4")]
    rows = [
        (1, 1, 2.15, 0.9, 0.9, 0.51, 0.9, 0),
        (2, 1, 2.35, 0.8, 0.5, 0.8, 0.9, 0),
        (3, 1, 2.37, 0.7, 0.7, 0.7, 0.0, 0),
        (4, 0, 0.40, 0.3, 0.3, 0.2, 0.9, 0),
        (5, 0, 0.95, 0.9, 0.9, 0.9, 0.9, 16),
        (6, 0, np.nan, np.nan, np.nan, np.nan, np.nan, 1),
    ]
    return np.array(rows[:n], dtype=columns)


def heights(axes: Any) -> list[float]:
    return [patch.get_height() for patch in axes.patches]


def test_a_summary_counts_quasars_by_redshift_and_line() -> None:
    axes = plot.summary(made_up(), c_thresh=0.5)
    bars = {round(p.get_x(), 6): p.get_height() for p in axes[0].patches}
    assert {x: h for x, h in bars.items() if h} == {2.1: 1, 2.3: 2}
    others, quasars = (line.get_xydata() for line in axes[1].lines[:2])
    np.testing.assert_allclose(others, [(0.4, 0.3), (0.95, 0.9)], rtol=1e-6)
    np.testing.assert_allclose(quasars, [(2.15, 0.9), (2.35, 0.8), (2.37, 0.7)], 1e-6)
    assert set(axes[1].lines[2].get_ydata()) == {0.5}
    assert heights(axes[2]) == [0, 1, 2]
    assert heights(axes[3]) == [2, 3]
    assert [t.get_text() for t in axes[3].get_xticklabels()] == ["LYA", "CIV"]
    assert "6 rows, 5 scored, 3 quasars" in text(axes[0].figure)
    assert "no quasar" not in text(axes[0].figure)
    assert_picture(plot.png(axes[0].figure))


def test_a_summary_goes_by_the_threshold_of_its_table(
    coadd: Path, model: QuasarNP
) -> None:
    table = classify(coadd, model, c_thresh=0.25)
    assert "above 0.25" in plot.summary(table)[2].get_xlabel()
    assert "above 0.25" in plot.summary(table[:2])[2].get_xlabel()
    assert "above 0.7" in plot.summary(table, c_thresh=0.7)[2].get_xlabel()
    assert "above 0.5" in plot.summary(np.asarray(table))[2].get_xlabel()


def test_rows_of_a_table_are_summarized() -> None:
    flags = made_up()["IS_QSO_QN"]
    for choice in ({"rows": flags}, {"rows": [0, 1, 2]}, {"targetids": [1, 2, 3]}):
        assert "3 rows, 3 scored" in text(plot.summary(made_up(), **choice).figure)
    with pytest.raises(ValueError, match="rows and targetids"):
        plot.summary(made_up(), rows=[0], targetids=[1])
    with pytest.raises(ValueError, match="9 of 6 rows"):
        plot.summary(made_up(), rows=[9])
    with pytest.raises(ValueError, match="table: has no TARGETIDs"):
        plot.summary(made_up()[["Z_QN"]], targetids=[1])


@pytest.mark.parametrize("quasars", [True, False], ids=["with quasars", "without"])
def test_thousands_of_rows_are_densities(quasars: bool) -> None:
    table = np.repeat(made_up(3 if quasars else 6)[0 if quasars else 3 :], 1500)
    table["Z_QN"][:1000] += np.linspace(0, 1, 1000, dtype="f4")
    axes = plot.summary(table)[1]
    assert sum(len(line.get_xdata()) for line in axes.lines) == 2, "the threshold alone"
    (mesh,) = axes.collections
    counts = np.ma.filled(np.ma.masked_invalid(mesh.get_array()), 0)
    scored = np.isfinite(table["Z_QN"]).sum()
    assert counts.sum() == scored > 2000 if quasars else counts.sum() == scored
    assert f"1 (pale) to {int(counts.max())} in a cell" in text(axes)
    assert_picture(plot.png(axes.figure))


@pytest.mark.parametrize("n", [0, 3])
def test_a_summary_without_quasars_says_so(n: int) -> None:
    axes = plot.summary(made_up()[3 : 3 + n])
    assert [("no quasar" in text(panel)) for panel in axes] == [True, False, True, True]
    assert_picture(plot.png(axes[0].figure))


def test_other_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="IS_QSO_QN"):
        plot.summary(np.zeros(3, dtype=[("TARGETID", "i8")]))
    with pytest.raises(ValueError, match="IS_QSO_QN"):
        plot.summary(np.zeros(3))
    path = write_coadd(tmp_path / "coadd.fits", 1)
    with pytest.raises(SpectraError, match=r"coadd\.fits: .*no table"):
        plot.summary(path)


# The command.


def test_quasars_of_a_file_are_the_pages_of_a_pdf(
    run: Run, coadd: Path, here: Path
) -> None:
    status, out, err = run("plot", coadd, "--c-thresh", 0)
    assert (status, err) == (0, "")
    assert out == f"{coadd}: 3 spectra (all quasars) -> plot-coadd-1.pdf\n"
    assert names(here) == ["plot-coadd-1.pdf"]
    first = (here / "plot-coadd-1.pdf").read_bytes()
    assert_pages(first, 3)
    assert run("plot", coadd, "--c-thresh", 0)[0] == 1
    status, _, err = run("plot", coadd, "--c-thresh", 0, "--overwrite")
    assert (status, err) == (0, "")
    assert (here / "plot-coadd-1.pdf").read_bytes() == first


def test_only_so_many_are_drawn_unasked(
    run: Run, coadd: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _shared.MOST_PICTURES == 20
    monkeypatch.setattr(_shared, "MOST_PICTURES", 2)
    status, out, _ = run("plot", coadd, "--c-thresh", 0)
    assert status == 0
    assert "2 spectra (the first of 3 quasars) -> plot-coadd-1.pdf" in out
    assert_pages((here / "plot-coadd-1.pdf").read_bytes(), 2)


def test_without_a_quasar_the_most_confident_row_is_drawn(
    run: Run, coadd: Path, model: QuasarNP, here: Path
) -> None:
    confidence = classify(coadd, model)["Z_QN_CONF"]
    best = int(np.nanargmax(confidence))
    status, out, _ = run("plot", coadd, "--c-thresh", 1)
    assert status == 0
    what = f"the most confident, {confidence[best]:.2f}: there is no quasar"
    assert out == f"{coadd}: 1 spectrum ({what}) -> plot-coadd-1.png\n"
    drawn = (here / "plot-coadd-1.png").read_bytes()
    assert_picture(drawn)
    arguments = ("--rows", best, "--c-thresh", 1, "-o", "row.png")
    assert run("plot", coadd, *arguments)[0] == 0
    assert drawn == (here / "row.png").read_bytes()


def test_where_nothing_has_a_result_the_first_row_is_drawn(
    run: Run, inputs: Path, hdus: Hdus, here: Path
) -> None:
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][:] = 0
    path = write_hdus(inputs / "coadd-2.fits", hdus)
    status, out, _ = run("plot", path)
    assert status == 0
    what = "1 spectrum (the first: none has a result)"
    assert out == f"{path}: {what} -> plot-coadd-2.png\n"


@pytest.fixture
def several(inputs: Path) -> list[Path]:
    """Files of which the second has other targets."""
    found = [write_coadd(inputs / "coadd-8.fits", 2)]
    others = coadd_hdus(2, seed=5)
    others["FIBERMAP"]["TARGETID"] += 100
    return [*found, write_hdus(inputs / "coadd-9.fits", others)]


def test_quasars_of_many_files_are_the_pages_of_one_pdf(
    run: Run,
    several: list[Path],
    inputs: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_shared, "MOST_PICTURES", 3)
    status, out, err = run("plot", *several, "--c-thresh", 0)
    assert (status, err) == (0, "")
    what = "2 files: 3 spectra (the first of 4 quasars)"
    assert out == f"{what} -> plot-spectra.pdf\n"
    assert_pages((here / "plot-spectra.pdf").read_bytes(), 3)
    # A bad file loses no other, and one without spectra is skipped.
    bad = inputs / "bad.fits"
    bad.write_text("no")
    beside = inputs / "redrock-8.fits"
    fitsio.write(str(beside), np.zeros(1, [("Z", "f8")]), extname="REDSHIFTS")
    arguments = ("--c-thresh", 0, "--overwrite")
    status, out, err = run("plot", bad, several[0], beside, *arguments)
    assert status == 1
    assert out == "3 files, 1 failed: 2 spectra (all quasars) -> plot-spectra.pdf\n"
    assert f"error: {bad}" in err
    assert f"skipped: {beside}" in err


def test_the_most_confident_row_of_many_files_is_drawn(
    run: Run, several: list[Path], model: QuasarNP, here: Path
) -> None:
    confidence = [classify(path, model)["Z_QN_CONF"].max() for path in several]
    best = several[int(np.argmax(confidence))].stem
    status, out, _ = run("plot", *several, "--c-thresh", 1)
    assert status == 0
    what = f"the most confident, {max(confidence):.2f}: there is no quasar"
    assert out == f"2 files: 1 spectrum ({what}) -> plot-{best}.png\n"


def test_targets_of_many_files_are_named_in_any_order(
    run: Run, several: list[Path], here: Path
) -> None:
    wanted = [TARGETID + 1, TARGETID + 100]
    status, out, err = run(*("plot", "--targetid", *wanted, *several, "-o", "q.png"))
    assert (status, err) == (0, "")
    assert names(here) == [f"q-{target}.png" for target in wanted]
    status, out, _ = run("plot", several[0], "--targetid", wanted[0], several[1])
    assert (status, out) == (0, "2 files: 1 spectrum -> plot-coadd-8.png\n")
    status, _, err = run("plot", *several, "--targetid", 5)
    assert (status, err) == (1, "qnp-xp: error: 2 files: no target 5\n")


def test_pictures_of_equal_rows_of_files_are_told_apart(
    run: Run, several: list[Path], here: Path
) -> None:
    same = gzipped(several[0])
    assert run("plot", *several, same, "--rows", 0, "-o", "q.png")[0] == 0
    first = f"q-{TARGETID}-coadd-8-row0"
    assert set(names(here)) == {
        *(f"{first}.png", f"{first}-2.png", f"q-{TARGETID + 100}.png")
    }


def test_several_png_files_are_named_for_their_targets(
    run: Run, coadd: Path, here: Path
) -> None:
    wanted = f"{TARGETID + 3},{TARGETID}"
    status, out, err = run("plot", coadd, "--targetid", wanted, "-o", "q.png")
    assert (status, err) == (0, "")
    expected = [f"q-{TARGETID}.png", f"q-{TARGETID + 3}.png"]
    assert out == f"{coadd}: 2 spectra -> {expected[0]} ... {expected[1]}\n"
    assert names(here) == expected
    for name in expected:
        assert_picture((here / name).read_bytes())
    # None is written where one of them is there.
    status, _, err = run("plot", coadd, "--rows", "0-2", "-o", "q.png")
    assert status == 1
    assert f"q-{TARGETID}.png exists" in err
    assert names(here) == expected


def test_targets_may_be_apart_or_in_a_file(run: Run, coadd: Path, here: Path) -> None:
    (here / "list").write_text(f"{TARGETID}\n{TARGETID + 1}\n")
    assert run("plot", coadd, "--targetids", TARGETID, TARGETID + 1)[0] == 0
    first = (here / "plot-coadd-1.pdf").read_bytes()
    assert run("plot", coadd, "--targetids", "@list", "--overwrite")[0] == 0
    assert (here / "plot-coadd-1.pdf").read_bytes() == first
    assert_pages(first, 2)


def test_rows_of_one_target_or_of_none_have_names_of_their_own(
    run: Run, inputs: Path, hdus: Hdus, here: Path
) -> None:
    hdus["FIBERMAP"]["TARGETID"] = [7, -1, 7, -1]
    path = write_hdus(inputs / "spectra-1.fits", hdus)
    status, _, err = run("plot", path, "--rows", "0-3,0", "-o", "s.png")
    assert (status, err) == (0, "")
    expected = ["s-7-row0.png", "s-7-row2.png", "s-row1.png", "s-row3.png"]
    assert names(here) == expected


@pytest.mark.parametrize("kind", ["gzip", "cframes", "arm", "no fibermap"])
def test_all_that_is_classified_is_drawn(
    run: Run, inputs: Path, here: Path, kind: str
) -> None:
    if kind == "gzip":
        path, name = gzipped(write_coadd(inputs / "coadd-2.fits", 1)), "plot-coadd-2"
    elif kind == "cframes":
        path, name = write_cframes(inputs, coadd_hdus(1)), "plot-cframe-0-00071246"
    elif kind == "arm":
        path, name = (
            write_coadd(inputs / "spectra-3.fits", 1, arms="RZ"),
            "plot-spectra-3",
        )
    else:
        path, name = write_coadd(inputs / "x.fits", 1, fibermap=False), "plot-x"
    status, _, _ = run("plot", path, "--rows", "0")
    assert status == 0
    assert_picture((here / f"{name}.png").read_bytes())


def test_real_spectra_of_sdss_are_drawn(run: Run, reference: Path, here: Path) -> None:
    path = reference / "boss" / "spec-3655-55240-0066.fits"
    weights = reference / "quasarnp" / "test_weights.h5"
    status, out, _ = run("plot", path, "-m", weights)
    assert status == 0
    assert "1 spectrum (the only quasar) -> plot-spec-3655-55240-0066.png" in out
    assert_picture((here / "plot-spec-3655-55240-0066.png").read_bytes())


def test_real_spectra_of_desi_are_drawn(run: Run, reference: Path, here: Path) -> None:
    path = reference / "quasarnp" / "test_coadd.fits"
    weights = reference / "quasarnp" / "test_weights_6_layer.h5"
    assert run("plot", path, "-m", weights, "--rows", "3,11")[0] == 0
    assert_pages((here / "plot-test_coadd.pdf").read_bytes(), 2)


def test_a_table_is_summarized(run: Run, coadd: Path, here: Path) -> None:
    assert run("classify", coadd, "--c-thresh", 0.25)[0] == 0
    shutil.copy(here / "qn-1.fits", here / "qn-2.fits")
    merge = ("merge", "all.fits", "qn-1.fits", "qn-2.fits", "--duplicates", "keep")
    assert run(*merge)[0] == 0
    status, out, err = run("plot", "--summary", "all.fits")
    assert (status, out, err) == (0, "all.fits -> plot-all.png\n", "")
    assert_picture((here / "plot-all.png").read_bytes())
    assert run("plot", "--summary", "qn-1.fits", "-o", "one.pdf")[0] == 0
    assert_pages((here / "one.pdf").read_bytes(), 1)
    axes = plot.summary(here / "all.fits")
    table = fitsio.read(str(here / "all.fits"), ext="QN")
    assert "above 0.25" in axes[2].get_xlabel()
    assert sum(heights(axes[2])) == table["IS_QSO_QN"].sum()
    assert "8 rows, 6 scored" in text(axes[0].figure)


def test_a_table_drawn_as_spectra_names_the_option_to_use(
    run: Run, coadd: Path, here: Path
) -> None:
    assert run("classify", coadd, "-o", "table.fits")[0] == 0
    status, out, err = run("plot", "table.fits")
    assert (status, out) == (1, "")
    assert "table.fits: " in err
    assert "--summary" in err
    assert names(here) == ["table.fits"]


def test_a_file_without_spectra_cannot_be_drawn(
    run: Run, inputs: Path, here: Path
) -> None:
    hdus = coadd_hdus(0, fibermap=False)
    empty = write_images_by_hand(inputs / "coadd-0.fits", hdus)
    status, out, err = run("plot", empty)
    assert (status, out) == (1, "")
    assert f"{empty}: holds no spectra" in err
    assert names(here) == []


def test_targets_need_targetids(run: Run, inputs: Path, here: Path) -> None:
    nameless = write_hdus(inputs / "coadd-0.fits", coadd_hdus(2, fibermap=False))
    status, out, err = run("plot", nameless, "--targetid", TARGETID)
    assert (status, out) == (1, "")
    assert f"{nameless}: has no TARGETIDs" in err
    assert names(here) == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere.fits"], 1, "nowhere.fits"),
        (["--targetid", "5"], 1, "no target 5"),
        (["--targetid", "five"], 1, "five: "),
        (["--rows", "9"], 1, "9 of 4 rows"),
        (["--smooth", "-3"], 1, "from 0 to 1000 pixels, got -3.0"),
        (["-o", "x.jpeg"], 2, "-o x.jpeg: "),
        (["-o", "no/x.png"], 1, "no: no such folder"),
        (["--summary"], 1, "coadd-1.fits: holds no table"),
        (["--summary", "--rows", "1"], 2, "no --rows"),
        (["--summary", "more.fits"], 2, "draws one table"),
        (["--rows", "1", "--targetid", "1"], 2, "not allowed with"),
    ],
    ids=str,
)
def test_errors_are_said_and_nothing_is_written(
    run: Run, coadd: Path, here: Path, arguments: list[str], status: int, message: str
) -> None:
    file = [] if arguments[0].endswith(".fits") else [coadd]
    found, out, err = run("plot", *file, *arguments)
    assert (found, out) == (status, "")
    assert message in err
    assert names(here) == []


def test_an_input_is_never_replaced(run: Run, inputs: Path, here: Path) -> None:
    path = write_coadd(inputs / "coadd.png", 1)
    before = path.read_bytes()
    status, _, err = run("plot", path, "--rows", 0, "-o", path, "--overwrite")
    assert status == 1
    assert f"{path} is an input" in err
    assert path.read_bytes() == before


def test_spectrographs_of_an_exposure_are_drawn_together(
    run: Run, inputs: Path, here: Path
) -> None:
    for spec in (0, 1):
        folder = write_cframes(inputs, coadd_hdus(1), spec_number=spec)
    status, out, _ = run("plot", folder, "--rows", 0)
    assert status == 0
    assert out == "2 files: 2 spectra -> plot-spectra.pdf\n"


def test_without_matplotlib_the_extra_is_named(
    run: Run, coadd: Path, model: QuasarNP, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, err = run("plot", coadd)
    assert (status, out) == (1, "")
    assert "pip install '.[plot]'" in err
    assert names(here) == []
    for draw in (lambda: plot.spectrum(coadd, model), lambda: plot.summary(made_up())):
        with pytest.raises(MissingLibraryError, match=re.escape("'.[plot]'")):
            draw()
    assert issubclass(MissingLibraryError, QnpError)
    assert issubclass(MissingLibraryError, ImportError)


def test_help_names_what_can_be_drawn(run: Run) -> None:
    status, out, _ = run("plot", "--help")
    assert status == 0
    for option in ("--summary", "--targetid", "--rows", "--smooth", "--output"):
        assert option in out
