"""What LLVM compiles: against Keras, the plain path and the oracle, and its bits."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference

import qnp_xp
from qnp_xp._binning import Rebinner
from qnp_xp._network.description import Conv
from qnp_xp._xp.backend import resolve
from qnp_xp.errors import DeviceError, MissingLibraryError
from qnp_xp.grids import linear_wave, wave
from qnp_xp.io import load_model

pytest.importorskip("llvmlite", reason="llvmlite is not installed")

from qnp_xp._network.compiled import _DirectConv, _prepare, _ToomCookConv
from qnp_xp._xp import jit, kernels

NETWORKS = sorted((Path(__file__).parent / "data" / "keras").glob("*.h5"))


def draw(
    size: int, channels: int, filters: int, stride: int, padding: str, activation: str
) -> Conv:
    rng = np.random.default_rng([size, channels, filters, stride])
    kernel = rng.normal(size=(size, channels, filters)) / np.sqrt(size * channels)
    bias = rng.normal(size=filters)
    return Conv("conv", kernel, bias, stride, padding, activation)


def spectra(n: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(n, 443)).astype(np.float32)


def outputs(model: qnp_xp.QuasarNP, x: np.ndarray) -> np.ndarray:
    return np.concatenate(model.predict(x), axis=1)


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_networks_agree_with_keras(path: Path) -> None:
    keras = np.load(path.with_suffix(".npz"))
    model = load_model(path)
    assert model.compiled
    found = np.stack(model.predict(keras["x"]))
    np.testing.assert_allclose(found, keras["y"], rtol=0, atol=3e-6)


@pytest.mark.parametrize("activation", ["relu", "linear", "sigmoid"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("size", "channels", "filters", "stride", "kind"),
    [
        (10, 1, 100, 2, _DirectConv),
        (10, 1, 3, 2, _DirectConv),  # filled up with zeros
        (10, 100, 100, 2, _ToomCookConv),
        (10, 33, 37, 2, _ToomCookConv),
        (3, 64, 50, 1, _ToomCookConv),
        (2, 40, 40, 1, _ToomCookConv),
        (12, 40, 40, 2, _DirectConv),  # six taps: tiles of three outputs
        (10, 40, 40, 1, _DirectConv),
        (3, 5, 40, 5, _DirectConv),
    ],
)
@pytest.mark.parametrize("length", [12, 23, 48, 217])
def test_convolutions_agree_with_the_oracle(
    size: int,
    channels: int,
    filters: int,
    stride: int,
    kind: type[Any],
    padding: str,
    activation: str,
    length: int,
) -> None:
    conv = draw(size, channels, filters, stride, padding, activation)
    ready = _prepare(conv)
    assert isinstance(ready, kind)
    x = np.random.default_rng(length).normal(size=(3, length, channels))
    expected = reference.conv1d(x, conv.kernel, stride, conv.bias, padding)
    apply = {
        "relu": lambda y: np.where(y > 0, y, 0),
        "linear": lambda y: y,
        "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    }
    given = x.astype(np.float32)
    found = ready(given)
    assert found.dtype == np.float32
    # Of the largest number, which the bias and 40 to 1,000 terms make.
    tolerance = 3e-6 * max(np.abs(expected).max(initial=0), 1)
    np.testing.assert_allclose(
        found, apply[activation](expected), rtol=0, atol=tolerance
    )
    np.testing.assert_array_equal(given, x.astype(np.float32))


def test_it_agrees_with_the_plain_path() -> None:
    x = spectra(100)
    model = load_model()
    plain = load_model(compiled=False)
    assert (model.compiled, plain.compiled) == (True, False)
    difference = np.abs(outputs(model, x) - outputs(plain, x)).max()
    assert 0 < difference < 3e-6  # and they are not the same path


def test_bits_depend_on_the_spectrum_alone() -> None:
    x = spectra(70)
    expected = outputs(load_model(nproc=1), x)
    for nproc in (1, 2, 3):
        model = load_model(nproc=nproc)
        for n in (1, 2, 3, 5, 16, 17, 33, 70):
            parts = [outputs(model, x[i : i + n]) for i in range(0, 70, n)]
            np.testing.assert_array_equal(np.concatenate(parts), expected)
    model.tile = 7
    np.testing.assert_array_equal(outputs(model, x), expected)
    order = np.random.default_rng(0).permutation(70)
    np.testing.assert_array_equal(outputs(model, x[order]), expected[order])


_DIGEST = """
import hashlib, numpy as np
from qnp_xp import load_model
x = np.random.default_rng(5).normal(size=(40, 443)).astype(np.float32)
found = np.concatenate(load_model().predict(x), axis=1)
print(hashlib.sha256(found.tobytes()).hexdigest())
"""


def test_bits_do_not_depend_on_the_kernels_of_blas() -> None:
    here = hashlib.sha256(outputs(load_model(), spectra(40)).tobytes()).hexdigest()
    for kernel in ("Haswell", "Sandybridge", "Zen"):
        environment = {**os.environ, "OPENBLAS_CORETYPE": kernel}
        command = [sys.executable, "-c", _DIGEST]
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == here, kernel


# Another processor's vectors, which LLVM makes of what this one has.
_OTHER = """
import sys
import llvmlite.binding as llvm
import numpy as np
known = llvm.get_host_cpu_features
llvm.get_host_cpu_features = lambda: {"avx512f": not known().get("avx512f")}
from qnp_xp._xp import jit
llvm.get_host_cpu_features = known
from qnp_xp import load_model
x = np.load(sys.argv[1])
np.save(sys.argv[2], np.concatenate(load_model().predict(x), axis=1))
print(jit.LANES)
"""


def test_vectors_of_another_width_agree(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", spectra(40))
    command = [sys.executable, "-c", _OTHER, tmp_path / "x.npy", tmp_path / "y.npy"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) == 24 - jit.LANES
    expected = outputs(load_model(compiled=False), spectra(40))
    found = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


def test_what_is_not_finite_stays_in_its_row() -> None:
    x = spectra(20)
    expected = outputs(load_model(), x)
    for value in (np.nan, np.inf, -np.inf, 1e38):
        bad = x.copy()
        bad[[3, 19], 200] = value
        found = outputs(load_model(), bad)
        assert np.isnan(found[[3, 19]]).all() or not np.isnan(value)
        others = np.delete(np.arange(20), [3, 19])
        np.testing.assert_array_equal(found[others], expected[others])


def test_spectra_of_any_kind_are_taken() -> None:
    x = spectra(6)
    expected = outputs(load_model(), x)
    x.flags.writeable = False
    wide = np.zeros((6, 886), np.float32)
    wide[:, ::2] = x
    for given in (
        x,
        wide[:, ::2],
        x.astype(">f4"),
        x.astype(np.float64),
        x[:, :, None],
    ):
        np.testing.assert_array_equal(outputs(load_model(), given), expected)
    assert outputs(load_model(), x[:0]).shape == (0, 182)


def test_float64_and_other_devices_are_plain() -> None:
    strict = pytest.importorskip("array_api_strict")
    assert not load_model(dtype="float64").compiled
    assert not load_model(xp=strict).compiled
    with pytest.raises(DeviceError, match=r"compiled=True.*float64"):
        load_model(dtype="float64", compiled=True)
    with pytest.raises(DeviceError, match=r"compiled=True.*array_api_strict"):
        load_model(xp=strict, compiled=True)
    with pytest.raises(TypeError, match="compiled must be True, False or None"):
        load_model(compiled="yes")  # type: ignore[arg-type]


def test_without_llvmlite_it_is_plain_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jit", "kernels"):
        monkeypatch.delitem(sys.modules, f"qnp_xp._xp.{name}")
    monkeypatch.delitem(sys.modules, "qnp_xp._network.compiled")
    monkeypatch.delattr("qnp_xp._network.compiled")
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    assert not load_model().compiled
    with pytest.raises(MissingLibraryError, match=r"llvmlite.*extra 'fast'"):
        load_model(compiled=True)


def test_copies_keep_it_and_other_devices_decide_anew() -> None:
    model, plain = load_model(), load_model(compiled=False)
    for one in (model, plain):
        for copied in (pickle.loads(pickle.dumps(one)), one.with_nproc(2)):
            assert copied.compiled == one.compiled
            np.testing.assert_array_equal(
                outputs(copied, spectra(2)), outputs(one, spectra(2))
            )
    strict = pytest.importorskip("array_api_strict")
    assert not model.to("cpu", xp=strict).compiled
    assert model.to("cpu", xp=strict).to("cpu").compiled
    assert not plain.to("cpu", compiled=False).compiled
    assert not model.__replace__(dtype="float64").compiled


def arms(rng: np.random.Generator, n: int) -> list[tuple[np.ndarray, ...]]:
    made = []
    for first, last in ((3600, 5800), (5760, 7620), (7520, 9824)):
        pixels = np.arange(first, last + 0.1, 0.8)
        flux = rng.normal(size=(n, pixels.size)).astype(np.float32)
        ivar = rng.uniform(0, 2, size=flux.shape).astype(np.float32)
        made.append((pixels, flux, ivar))
    return made


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
def test_sums_of_pixels_are_those_of_the_plain_path(grid: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    plain = Rebinner(grid, resolve("cpu"))
    quick = Rebinner(grid, resolve("cpu"), compiled=True)
    sound = arms(rng, 9)
    damaged = copy.deepcopy(sound)
    for row, (flux, ivar) in enumerate(
        [
            (np.nan, 1), (np.inf, 1), (1, np.nan), (1, np.inf), (1, -1),
            (3e38, 30), (np.nan, 0), (0, 0),
        ]
    ):  # fmt: skip
        damaged[row % 3][1][row, 50] = flux
        damaged[row % 3][2][row, 50] = ivar
    order = rng.permutation(sound[0][0].size)
    first, flux, ivar = sound[0]
    flux.flags.writeable = False
    for given in (
        sound,
        damaged,
        [(first[order], flux[:, order], ivar[:, order])],
        [(first + 20_000, flux, ivar)],
        [(first[::2], flux[:, ::2], ivar[:, ::2])],
        [(first, flux[:0], ivar[:0])],
        [(first, flux.astype(np.float64), ivar)],
        [(np.tile(first, (9, 1)) + np.arange(9)[:, None], flux, ivar)],
    ):
        for found, expected in zip(quick(given), plain(given), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert quick(damaged)[2].tolist() == [True] * 6 + [False] * 3


def test_compiled_functions_take_no_other_arrays() -> None:
    by = kernels.weights(np.ones((5, 40)), np.zeros(40), -np.inf)
    with pytest.raises(TypeError, match="float32 in C order"):
        kernels.multiply(np.ones((4, 5)), by)  # type: ignore[arg-type]


def test_the_header_says_so_and_resuming_compares_it(here: Path, run: Any) -> None:
    import fitsio

    def classify(*options: str) -> bool:
        status, _, _ = run("classify", "demo-coadd.fits", *options)
        assert status == 0
        return bool(fitsio.read_header("qn-demo-coadd.fits", 1)["QNCOMPIL"])

    run("demo", "--keep-coadd")
    Path("qn-demo-coadd.fits").unlink(missing_ok=True)
    assert classify()
    before = Path("qn-demo-coadd.fits").stat().st_ino
    assert classify("--resume")
    assert Path("qn-demo-coadd.fits").stat().st_ino == before
    assert not classify("--resume", "--no-compiled")
    assert classify("--overwrite", "--compiled")
