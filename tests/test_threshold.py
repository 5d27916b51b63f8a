"""The threshold: asked for, the network's own, or the default, and who is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fitsio
import h5py
import numpy as np
import pytest
from helpers import Run, copy_archive, write_coadd

from qnp_xp import WeightsError, classify, load_model, plot
from qnp_xp._options import Options
from qnp_xp.decode import is_quasar
from qnp_xp.io.weights import embed_grid
from qnp_xp.lines import column_names

#: Between the confidences of the small network, of which some are above.
OWN = 0.9


@pytest.fixture
def own(weights: Path) -> Path:
    """The small network with a threshold of its own."""
    with h5py.File(weights, "r+") as f:
        f.attrs["c_thresh"] = OWN
    return weights


def quasars(table: np.ndarray, threshold: float) -> np.ndarray:
    """Which rows are quasars by a threshold."""
    lines = column_names(load_model().lines)
    confidences = np.stack([table[f"C_{name}"] for name in lines])
    return np.asarray(is_quasar(confidences, threshold, 1))


def header(path: Path) -> Any:
    return fitsio.FITS(str(path))["QN"].read_header()


def origin(path: Path) -> tuple[float, str]:
    """The threshold in a header, and what its comment says of it."""
    records = header(path).records()
    (card,) = [card for card in records if card["name"] == "C_THRESH"]
    return card["value"], card["comment"]


@pytest.mark.parametrize(
    ("asked", "embedded", "expected", "whose"),
    [
        (None, None, 0.5, "the default"),
        (None, OWN, OWN, "the network's own"),
        (0.95, OWN, 0.95, "asked for"),
        (0.5, None, 0.5, "asked for"),
        (None, 0.0, 0.0, "the network's own"),
        (0.0, OWN, 0.0, "asked for"),
    ],
)
def test_a_network_s_own_threshold_counts_unless_another_is_asked_for(
    weights: Path,
    tmp_path: Path,
    asked: float | None,
    embedded: float | None,
    expected: float,
    whose: str,
) -> None:
    if embedded is not None:
        with h5py.File(weights, "r+") as f:
            f.attrs["c_thresh"] = embedded
    assert load_model(weights).c_thresh == embedded
    coadd = write_coadd(tmp_path / "coadd.fits", 12)
    table = classify(coadd, weights, c_thresh=asked, output=tmp_path / "qn.fits")
    np.testing.assert_array_equal(table["IS_QSO_QN"], quasars(table, expected))
    assert origin(tmp_path / "qn.fits") == (expected, f"lines count above it ({whose})")


def test_the_threshold_tells_spectra_apart(own: Path, tmp_path: Path) -> None:
    table = classify(write_coadd(tmp_path / "coadd.fits", 12), own)
    found = table["IS_QSO_QN"]
    assert 0 < found.sum() < quasars(table, 0.5).sum()


def test_a_model_keeps_its_threshold_where_it_goes(own: Path) -> None:
    model = load_model(own)
    assert model.with_nproc(2).c_thresh == model.to("cpu").c_thresh == OWN


def test_the_line_and_the_summary_of_a_run_say_whose_it_is(
    run: Run, here: Path, own: Path, inputs: Path
) -> None:
    coadd = write_coadd(inputs / "coadd-0.fits", 3)
    _, out, _ = run("classify", coadd, "-m", own, "--summary", "run")
    assert ", network.h5, threshold 0.9 (the network's own) -> qn-0.fits\n" in out
    assert "threshold 0.9 (the network's own)" in (here / "run.txt").read_text()
    assert fitsio.read_header(here / "run.fits", ext="FILES")["C_THRESH"] == OWN
    _, out, _ = run(
        *("classify", coadd, "-m", own, "--c-thresh", "0.25", "--overwrite")
    )
    assert ", threshold 0.25 (asked for) -> " in out


def test_resuming_goes_by_the_threshold_whoever_chose_it(
    run: Run, here: Path, own: Path, inputs: Path
) -> None:
    coadd = write_coadd(inputs / "coadd-0.fits", 3)
    resume = "classify", coadd, "-m", own, "--resume"
    assert "3 rows" in run(*resume)[1]
    assert "kept" in run(*resume)[1]
    assert "kept" in run(*resume, "--c-thresh", OWN)[1]
    assert "3 rows" in run(*resume, "--c-thresh", 0.5)[1]
    assert header(here / "qn-0.fits")["C_THRESH"] == 0.5
    assert "3 rows" in run(*resume)[1]


def test_pictures_go_by_it(own: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    coadd = write_coadd(tmp_path / "coadd.fits", 1)
    texts = [
        " ".join(t.get_text() for t in axes[0].figure.findobj(match=_has_text))
        for axes in (
            plot.spectrum(coadd, own),
            plot.spectrum(coadd, own, c_thresh=0.25),
        )
    ]
    assert "above 0.9;" in texts[0]
    assert "above 0.25;" in texts[1]


def _has_text(artist: Any) -> bool:
    return hasattr(artist, "get_text")


@pytest.mark.parametrize("name", ["valid.h5", "valid.keras"])
def test_an_embedded_grid_leaves_the_threshold_in_the_file(
    run: Run, data: Path, tmp_path: Path, name: str
) -> None:
    source = tmp_path / name
    if name.endswith(".h5"):
        source.write_bytes((data / "keras" / name).read_bytes())
        with h5py.File(source, "r+") as f:
            f.attrs["c_thresh"], f.attrs["lines"] = 0.75, "LYA,LYB,CIV(1548)"
            f.attrs["lines_bal"] = np.asarray(
                ["LYA", "LYB", "CIV(1548)", "OVI(1038)"], "S"
            )
    else:
        said = {"c_thresh": 0.75, "lines": "LYA,LYB,CIV(1548)"}
        said["lines_bal"] = "LYA,LYB,CIV(1548),OVI(1038)"
        content = json.dumps(said).encode()
        copy_archive(
            *(data / "keras" / name, source),
            lambda members: members.update({"model_attributes.json": content}),
        )
    embed_grid(source, tmp_path / f"new-{name}")
    for path in (source, tmp_path / f"new-{name}"):
        model = load_model(path)
        assert model.c_thresh == 0.75
        assert model.lines == ("LYA", "LYB", "CIV(1548)")
        assert model.lines_bal == ("LYA", "LYB", "CIV(1548)", "OVI(1038)")
        _, out, _ = run("info", path)
        assert "threshold   0.75 (in the file)\n" in out
        assert "LYA, LYB, CIV(1548), BAL LYA, BAL LYB, BAL CIV(1548)" in out
    named = load_model(source, lines=["LYA"] * 7)
    assert (named.lines, named.lines_bal) == (("LYA",) * 7, ())
    assert "threshold   none in the file" in run("info", data / "keras" / name)[1]


@pytest.mark.parametrize(
    ("attribute", "value", "match"),
    [
        ("c_thresh", 1.25, r"c_thresh must be from 0 to 1, and is 1\.25"),
        ("c_thresh", -1, "c_thresh must be from 0 to 1"),
        ("c_thresh", np.nan, "c_thresh must be from 0 to 1, and is nan"),
        ("c_thresh", "0.5", "'c_thresh' is not a number"),
        ("c_thresh", [0.5, 0.6], "'c_thresh' is not a number"),
        ("c_thresh", True, "'c_thresh' is not a number"),
        ("c_thresh", 0.5 + 0j, "'c_thresh' is not a number"),
        ("lines", "LYA", "7 outputs; lines and lines_bal name 1 and 0"),
        ("lines", "LYA," * 6 + "lya", "unknown line 'lya'"),
        ("lines", 3.0, "'lines' is not text"),
    ],
)
def test_what_a_file_says_wrongly_is_refused_by_name(
    weights: Path, attribute: str, value: Any, match: str
) -> None:
    with h5py.File(weights, "r+") as f:
        f.attrs[attribute] = value
    with pytest.raises(WeightsError, match=rf"network\.h5: .*{match}"):
        load_model(weights)


@pytest.mark.parametrize(
    "content",
    [
        {"c_thresh": 2},
        {"c_thresh": "0.5"},
        {"c_thresh": True},
        {"c_thresh": [0.5]},
        {"lines": 7},
        {"lines": "LYA"},
        [],
        0.5,
    ],
    ids=str,
)
def test_what_an_archive_says_wrongly_is_refused(
    data: Path, tmp_path: Path, content: Any
) -> None:
    text = json.dumps(content).encode()
    path = copy_archive(
        *(data / "keras" / "valid.keras", tmp_path / "net.keras"),
        lambda members: members.update({"model_attributes.json": text}),
    )
    with pytest.raises(WeightsError, match=r"net\.keras"):
        load_model(path)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f8", "i1", "<u4"])
def test_a_threshold_may_be_of_any_kind_of_number(weights: Path, dtype: str) -> None:
    value = 0.5 if dtype[1] == "f" else 1
    with h5py.File(weights, "r+") as f:
        f.attrs.create("c_thresh", value, dtype=dtype)
    assert load_model(weights).c_thresh == value


def test_a_threshold_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="c_thresh"):
        Options("0.5")  # type: ignore[arg-type]
    assert Options(None).threshold(None).value == 0.5
