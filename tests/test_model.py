"""The whole network: what Keras itself computed, on every backend."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference as oracle
from helpers import KERAS
from numpy.typing import NDArray

from qnp_xp._network.description import Conv, Dense, Head, Network, fold_batch_norm
from qnp_xp._xp.backend import resolve
from qnp_xp.decode import decode, is_quasar
from qnp_xp.grids import desi_wave, linear_wave, wave
from qnp_xp.io import load_model
from qnp_xp.lines import LINES, LINES_BAL
from qnp_xp.model import QuasarNP
from qnp_xp.spectra import sum_arms

if TYPE_CHECKING:
    from conftest import ArrayBackend

FILES = [
    f"{name}{suffix}"
    for name in KERAS
    for suffix in (".h5", ".keras")
    if (name, suffix) != ("linear_grid", ".keras")
]

# What float32 is to agree with Keras to, in float32 itself.
FLOAT32 = 3e-6
LIGHT_SPEED = 299792.458  # km/s

# test_coadd.fits without its bad row: the spectra that Keras calls quasars.
QUASARS = [3, 4, 6, 8, 9, 17, 22]


def network(seed: int = 0, nbins: int = 60, nboxes: int = 4) -> Network:
    """A small network with random weights and a layer of every kind."""
    rng = np.random.default_rng(seed)

    def conv(shape: tuple[int, int, int], *options: Any) -> Conv:
        return Conv(
            "conv", rng.normal(size=shape) / 3, rng.normal(size=shape[2]), *options
        )

    def dense(n_in: int, n_out: int, activation: str = "linear") -> Dense:
        kernel = rng.normal(size=(n_in, n_out)) / np.sqrt(n_in)
        return Dense("dense", kernel, rng.normal(size=n_out), activation)

    heads = [
        Head(dense(7, nboxes, "sigmoid"), dense(7, nboxes, "sigmoid"), *scaling)
        for scaling in [(1.2, -0.1), (), (2.0, 3.0)]
    ]
    return Network(
        nbins=nbins,
        convs=(
            conv((5, 1, 3), 2, "same", "relu"),
            conv((4, 3, 5), 3, "valid"),
            conv((3, 5, 2), 1, "same", "sigmoid"),
        ),
        trunk=(dense(2 * ((nbins // 2 - 4) // 3 + 1), 9, "relu"), dense(9, 7)),
        heads=tuple(heads),
        parameters=0,
    )


def build(net: Network, backend: ArrayBackend, dtype: str = "float64") -> QuasarNP:
    """The model of a network that comes from no file."""
    return QuasarNP(
        network=net,
        wave=np.linspace(4000.0, 9000.0, net.nbins),
        lines=("LYA", "Hbeta"),
        lines_bal=("LYA",),
        dtype=dtype,
        weights_name="none",
        weights_sha256="",
        backend=resolve(**backend.resolve()),
    )


def draw(n: int, nbins: int, seed: int = 0, dtype: str = "float32") -> NDArray[Any]:
    """Normalised noise, shape ``(n, nbins)``."""
    return np.random.default_rng(seed).normal(size=(n, nbins)).astype(dtype)


def outputs(backend: ArrayBackend, preds: list[Any], dtype: str) -> NDArray[Any]:
    """All outputs on the host, after a check of each of them."""
    assert isinstance(preds, list)
    return np.array([backend.host(of_line, dtype) for of_line in preds])


@pytest.fixture
def model(backend: ArrayBackend, data: Path) -> QuasarNP:
    """A network of 7 lines and 13 boxes on the backend, in float32."""
    return load_model(data / "keras" / "valid_rescaled.h5", **backend.resolve())


# --- the numbers


@pytest.mark.parametrize("file", FILES)
def test_float32_agrees_with_keras(
    backend: ArrayBackend, data: Path, file: str
) -> None:
    path = data / "keras" / file
    case = np.load(path.with_suffix(".npz"))
    model = load_model(path, **backend.resolve())
    found = outputs(backend, model.predict(case["x"]), "float32")
    assert found.shape == case["y"].shape
    np.testing.assert_allclose(found, case["y"], rtol=0, atol=FLOAT32)


@pytest.mark.float64
@pytest.mark.parametrize("file", FILES)
def test_float64_agrees_with_keras(
    backend: ArrayBackend, data: Path, file: str
) -> None:
    path = data / "keras" / file
    case = np.load(path.with_suffix(".npz"))
    model = load_model(path, **backend.resolve(), dtype="float64")
    found = outputs(backend, model.predict(case["x"]), "float64")
    assert found.shape == case["y64"].shape
    np.testing.assert_allclose(found, case["y64"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["options", "odd_same", "stride3", "nine_boxes"])
def test_the_oracle_agrees_with_keras(data: Path, name: str) -> None:
    case = np.load(data / "keras" / f"{name}.npz")
    model = load_model(data / "keras" / f"{name}.h5")
    found = oracle.forward(model.network, case["x"])
    np.testing.assert_allclose(found, case["y64"], rtol=0, atol=1e-12)


@pytest.mark.float64
@pytest.mark.parametrize(("dtype", "atol"), [("float32", FLOAT32), ("float64", 1e-14)])
def test_a_network_of_every_kind_of_layer_agrees_with_the_oracle(
    backend: ArrayBackend, dtype: str, atol: float
) -> None:
    net = network()
    x = draw(20, 60)
    found = outputs(backend, build(net, backend, dtype).predict(x), dtype)
    expected = oracle.forward(net, x)
    assert found.shape == expected.shape == (3, 20, 8)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.float64
def test_a_network_without_layers_between_agrees_with_the_oracle(
    backend: ArrayBackend,
) -> None:
    rng = np.random.default_rng(3)
    box, offset = (
        Dense(name, rng.normal(size=(60, 4)) / 8, rng.normal(size=4), "sigmoid")
        for name in ("box", "offset")
    )
    net = Network(60, (), (), (Head(box, offset, 0.5, 0.25),), 0)
    x = draw(3, 60)
    found = outputs(backend, build(net, backend).predict(x), "float64")
    np.testing.assert_allclose(found, oracle.forward(net, x), rtol=0, atol=1e-14)


def test_batch_normalization_is_folded_into_the_layer_before_it() -> None:
    rng = np.random.default_rng(4)
    mean, beta = rng.normal(size=(2, 3))
    var, gamma = rng.uniform(0.01, 2, 3), np.array([0.5, -1.5, 2.0])
    moments = (mean, var, beta, gamma, 1e-2)

    w, b = rng.normal(size=(4, 2, 3)), rng.normal(size=3)
    x = rng.normal(size=(5, 11, 2))
    kernel, bias = fold_batch_norm(w, b, *moments)
    np.testing.assert_allclose(
        oracle.conv1d(x, kernel, 2, bias, "same"),
        oracle.batch_normalization(oracle.conv1d(x, w, 2, b, "same"), *moments),
        rtol=0,
        atol=1e-12,
    )

    w, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 7))
    kernel, bias = fold_batch_norm(w, b, *moments)
    np.testing.assert_allclose(
        oracle.dense(y, kernel, bias),
        oracle.batch_normalization(oracle.dense(y, w, b), *moments),
        rtol=0,
        atol=1e-12,
    )


@pytest.fixture
def six_layers(reference: Path) -> tuple[Path, NDArray[Any], NDArray[Any]]:
    """A real network, real spectra, and what Keras makes of them."""
    folder = reference / "quasarnp"
    return (
        folder / "test_weights_6_layer.h5",
        np.load(folder / "coadd_x.npy"),
        np.load(folder / "qnet_output_6_layer.npy"),
    )


def test_a_real_network_agrees_with_keras(
    backend: ArrayBackend, six_layers: tuple[Path, NDArray[Any], NDArray[Any]]
) -> None:
    path, x, expected = six_layers
    model = load_model(path, **backend.resolve())
    found = outputs(backend, model.predict(x), "float32")
    assert found.shape == expected.shape == (7, 24, 26)
    boxes, offsets = expected[..., :13], expected[..., 13:]
    np.testing.assert_allclose(found[..., :13], boxes, rtol=0, atol=FLOAT32)
    np.testing.assert_allclose(found[..., 13:], offsets, rtol=0, atol=FLOAT32)
    # They are rescaled, and would otherwise lie between 0 and 1.
    assert offsets.min() < 0


def test_redshifts_of_real_quasars_agree_with_keras(
    backend: ArrayBackend, six_layers: tuple[Path, NDArray[Any], NDArray[Any]]
) -> None:
    path, x, keras = six_layers
    model = load_model(path, **backend.resolve())
    found = decode(model.predict(x), model.lines, model.lines_bal, model.wave)
    expected = decode(keras, LINES, LINES_BAL)
    quasars = np.flatnonzero(is_quasar(expected.c_line))
    assert quasars.tolist() == QUASARS
    np.testing.assert_array_equal(
        np.flatnonzero(backend.host(is_quasar(found.c_line))), quasars
    )
    for ours, theirs in (
        (found.zbest, expected.zbest),
        (found.z_line, expected.z_line),
        (found.z_line_bal, expected.z_line_bal),
    ):
        z = backend.host(ours, "float64")[..., quasars]
        velocity = LIGHT_SPEED * (z - theirs[..., quasars]) / (1 + z)
        assert np.max(np.abs(velocity)) < 0.2


def test_a_real_network_agrees_with_the_oracle(
    six_layers: tuple[Path, NDArray[Any], NDArray[Any]],
) -> None:
    path, x, _ = six_layers
    model = load_model(path, dtype="float64")
    found = np.array(model.predict(x[:3]))
    expected = oracle.forward(model.network, x[:3])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


# --- what goes in


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("last", [(), (1,)])
def test_spectra_may_have_a_last_dimension_of_one(
    backend: ArrayBackend, model: QuasarNP, n: int, last: tuple[int, ...]
) -> None:
    x = draw(n, 443)
    expected = outputs(backend, model.predict(x), "float32")
    assert expected.shape == (7, n, 26)
    for given in (x.reshape(n, 443, *last), backend.array(x.reshape(n, 443, *last))):
        found = outputs(backend, model.predict(given), "float32")
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "shape",
    [(443,), (5, 442), (5, 443, 2), (443, 5), (1, 5, 443), (5, 1, 443), (5,), ()],
)
def test_other_shapes_are_refused(
    backend: ArrayBackend, model: QuasarNP, shape: tuple[int, ...]
) -> None:
    message = r"predict takes \(n, 443\) or \(n, 443, 1\), got \("
    for x in (np.zeros(shape), backend.array(np.zeros(shape))):
        with pytest.raises(ValueError, match=message):
            model.predict(x)


@pytest.mark.parametrize(
    "kind",
    [
        "float64",
        "big-endian",
        "big-endian float64",
        "fortran",
        "read-only",
        "strided",
        "reversed",
        "list",
    ],
)
def test_any_host_array_is_taken_and_left_as_it_is(
    backend: ArrayBackend, model: QuasarNP, kind: str
) -> None:
    values = draw(20, 443)
    given: Any = {
        "float64": lambda x: x.astype("float64"),
        "big-endian": lambda x: x.astype(">f4"),
        "big-endian float64": lambda x: x.astype(">f8"),
        "fortran": np.asfortranarray,
        "read-only": np.copy,
        "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
        "list": np.ndarray.tolist,
    }[kind](values)
    if kind == "read-only":
        given.setflags(write=False)
    found = outputs(backend, model.predict(given), "float32")
    expected = outputs(backend, model.predict(backend.array(values)), "float32")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(given, values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 16, 40])
def test_predict_never_changes_its_input(
    backend: ArrayBackend, data: Path, n: int, dtype: str
) -> None:
    path = data / "keras" / "odd_same.h5"
    model = load_model(path, **backend.resolve(), dtype=dtype)
    values = draw(n, 443, dtype=dtype)
    x = backend.array(values)
    preds = model.predict(x)
    first = outputs(backend, preds, dtype)
    np.testing.assert_array_equal(backend.host(x, dtype), values)
    # Nor does it keep it, or share its results between calls.
    model.predict(backend.array(draw(n, 443, seed=9, dtype=dtype)))
    np.testing.assert_array_equal(outputs(backend, preds, dtype), first)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_numbers_of_any_real_dtype_are_taken(
    backend: ArrayBackend, model: QuasarNP, dtype: str
) -> None:
    values = np.random.default_rng(2).integers(0, 2, (3, 443))
    found = outputs(backend, model.predict(backend.array(values, dtype)), "float32")
    expected = outputs(backend, model.predict(values.astype("float32")), "float32")
    np.testing.assert_array_equal(found, expected)


def test_nan_stays_nan_and_spoils_no_other_spectrum(
    backend: ArrayBackend, model: QuasarNP
) -> None:
    x = draw(5, 443)
    expected = outputs(backend, model.predict(x), "float32")
    x[2] = np.nan
    x[3, 200] = np.nan
    found = outputs(backend, model.predict(x), "float32")
    np.testing.assert_array_equal(found[:, [0, 1, 4]], expected[:, [0, 1, 4]])
    assert np.isnan(found[:, 2:4]).all()


# --- the same bits


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_spectrum_depends_on_no_other(
    backend: ArrayBackend, data: Path, n: int, dtype: str
) -> None:
    # On numpy to the last bit. On a device rows share their products, which are added
    # in an order of their own.
    atol = (
        0.0 if backend.name == "numpy" else {"float32": 3e-6, "float64": 1e-13}[dtype]
    )
    path = data / "keras" / "valid.h5"
    model = load_model(path, **backend.resolve(), dtype=dtype)
    x = draw(40, 443, dtype=dtype)
    everything = outputs(backend, model.predict(x), dtype)
    rng = np.random.default_rng(n)
    for _ in range(3):
        rows = rng.permutation(40)[:n]
        found = outputs(backend, model.predict(x[rows]), dtype)
        np.testing.assert_allclose(found, everything[:, rows], rtol=0, atol=atol)


def test_bits_of_a_real_network_depend_on_no_other_spectrum(
    six_layers: tuple[Path, NDArray[Any], NDArray[Any]],
) -> None:
    path, x, _ = six_layers
    model = load_model(path)
    everything = np.array(model.predict(x))
    for rows in ([23], [11, 3], list(range(23, 6, -1)), [*range(24), *range(24)]):
        np.testing.assert_array_equal(model.predict(x[rows]), everything[:, rows])


# Which kernels OpenBLAS takes by itself depends on the machine, and what is wrong with
# one kind (these two are those of CPUs without AVX-512) does not show with another.
# Other BLAS libraries take no notice.
@pytest.mark.parametrize("kernels", ["Haswell", "Zen"])
def test_bits_of_a_spectrum_depend_on_its_place_with_no_kernels_of_openblas(
    data: Path, kernels: str
) -> None:
    code = """
import sys
import numpy as np
from qnp_xp.grids import desi_wave
from qnp_xp.io import load_model
from qnp_xp.spectra import combine, normalize
pixels = desi_wave[::4].copy()
flux, ivar = np.abs(np.random.default_rng(1).normal(size=(2, 1, pixels.size)))
flux, ivar = np.repeat(flux, 70, axis=0), np.repeat(ivar, 70, axis=0)
x, _, _ = normalize(*combine([(pixels, flux, ivar)])[:2])
print(np.all(x == x[:1]), x.std() > 0.1)
for name in sys.argv[1:]:
    y = np.array(load_model(name).predict(np.repeat(x[:1], 40, axis=0)))
    print(np.all(y == y[:, :1]), y.std() > 0.1)
"""
    files = [str(data / "keras" / name) for name in ("valid.h5", "nine_boxes.h5")]
    done = subprocess.run(
        [sys.executable, "-c", code, *files],
        env={**os.environ, "OPENBLAS_CORETYPE": kernels, "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * 6


def test_calling_a_model_predicts(backend: ArrayBackend, model: QuasarNP) -> None:
    x = draw(3, 443)
    np.testing.assert_array_equal(
        outputs(backend, model(x), "float32"),
        outputs(backend, model.predict(x), "float32"),
    )


def test_models_survive_pickling_to_the_bit(
    backend: ArrayBackend, model: QuasarNP
) -> None:
    again = pickle.loads(pickle.dumps(model))
    x = draw(20, 443)
    np.testing.assert_array_equal(
        outputs(backend, again.predict(x), "float32"),
        outputs(backend, model.predict(x), "float32"),
    )
    np.testing.assert_array_equal(again.wave, model.wave)
    for name in ("lines", "lines_bal", "dtype", "device", "nlines", "nboxes"):
        assert getattr(again, name) == getattr(model, name)
    assert again.weights_sha256 == model.weights_sha256


def test_models_move_between_devices(backend: ArrayBackend, data: Path) -> None:
    here = load_model(data / "keras" / "same.h5")
    where = backend.resolve()
    there = here.to(where["device"], xp=where.get("xp"))
    x = draw(20, 443)
    found = outputs(backend, there.predict(x), "float32")
    expected = np.array(here.predict(x))
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32)
    again = there.to("cpu")
    assert again.device == "cpu"
    assert all(type(of_line) is np.ndarray for of_line in again.predict(x))
    np.testing.assert_array_equal(again.predict(x), expected)
    assert here.device == "cpu"
    assert again.weights_sha256 == there.weights_sha256 == here.weights_sha256


def test_arrays_of_another_library_come_to_the_model(
    backend: ArrayBackend, model: QuasarNP, data: Path
) -> None:
    x = draw(20, 443)
    here = load_model(data / "keras" / "valid_rescaled.h5")
    found = here.predict(backend.array(x))
    assert all(type(of_line) is np.ndarray for of_line in found)
    np.testing.assert_array_equal(found, here.predict(x))
    strict = pytest.importorskip(
        "array_api_strict", reason="array-api-strict is not installed"
    )
    foreign = strict.asarray(x, device=strict.Device("device2"))
    np.testing.assert_array_equal(
        outputs(backend, model.predict(foreign), "float32"),
        outputs(backend, model.predict(x), "float32"),
    )


def test_spectra_come_from_any_device_to_the_default_one(data: Path) -> None:
    strict = pytest.importorskip(
        "array_api_strict", reason="array-api-strict is not installed"
    )
    model = load_model(data / "keras" / "valid.h5", xp=strict)
    x = strict.asarray(draw(3, 443), device=strict.Device("device1"))
    preds = model.predict(x)
    assert all(of_line.device == strict.Device("CPU_DEVICE") for of_line in preds)


# --- the model itself


def test_a_model_unpacks_into_itself_and_its_grid(
    backend: ArrayBackend, data: Path
) -> None:
    model, grid = load_model(data / "keras" / "linear_grid.h5", **backend.resolve())
    assert isinstance(model, QuasarNP)
    assert grid is model.wave
    assert (len(model), model[0], model[-1]) == (2, model, grid)
    with pytest.raises(IndexError):
        _ = model[2]
    assert type(grid) is np.ndarray
    np.testing.assert_allclose(grid, linear_wave, rtol=1e-14)


def test_a_model_without_a_grid_has_the_logarithmic_one_and_says_so(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = data / "keras" / "valid.h5"
    with caplog.at_level(logging.WARNING, logger="qnp_xp"):
        model = load_model(path)
        assert caplog.messages == [
            f"{path} has no model_grid: assuming QuasarNET's logarithmic grid"
        ]
        load_model(data / "keras" / "linear_grid.h5")
    assert len(caplog.messages) == 1
    np.testing.assert_array_equal(model.wave, wave)


@pytest.mark.parametrize(
    ("name", "nlines", "nboxes", "nbins"),
    [
        ("valid", 7, 13, 443),
        ("nine_boxes", 5, 9, 443),
        ("options", 3, 13, 443),
        ("linear_grid", 2, 13, 458),
    ],
)
def test_a_model_has_the_sizes_of_its_file(
    data: Path, name: str, nlines: int, nboxes: int, nbins: int
) -> None:
    path = data / "keras" / f"{name}.h5"
    model = load_model(path)
    assert (model.nlines, model.nboxes, model.nbins) == (nlines, nboxes, nbins)
    assert model.wave.shape == (nbins,)
    assert model.wave.dtype == np.float64
    assert model.weights_name == f"{name}.h5"
    assert model.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_archives_have_the_checksum_of_their_bytes(data: Path) -> None:
    path = data / "keras" / "valid.keras"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_model(str(path)).weights_sha256 == expected


def test_seven_outputs_are_the_lines_of_desi(data: Path) -> None:
    model = load_model(data / "keras" / "valid.h5")
    assert (model.lines, model.lines_bal) == (LINES, LINES_BAL)


def test_other_numbers_of_outputs_have_no_names_but_those_given(data: Path) -> None:
    path = data / "keras" / "options.h5"
    model = load_model(path)
    assert (model.lines, model.lines_bal) == ((), ())
    model = load_model(path, lines=["LYA", "Hbeta"], lines_bal=["CIV(1548)"])
    assert (model.lines, model.lines_bal) == (("LYA", "Hbeta"), ("CIV(1548)",))
    with pytest.raises(
        ValueError, match="has 3 outputs; lines and lines_bal name 2 and"
    ):
        load_model(path, lines=["LYA", "Hbeta"])
    with pytest.raises(ValueError, match="unknown line 'Hgamma'"):
        load_model(path, lines=["LYA", "Hbeta", "Hgamma"])


@pytest.mark.float64
def test_a_model_says_where_it_computes_and_in_what(
    backend: ArrayBackend, data: Path
) -> None:
    path = data / "keras" / "valid.h5"
    name = {
        "numpy": "cpu",
        "strict": "array_api_strict",
        "strict-device1": "array_api_strict",
        "torch": "torch",
        "jax": "jax.numpy",
        "cupy": "gpu:0",
    }[backend.name]
    for dtype in ("float32", "float64"):
        model = load_model(path, **backend.resolve(), dtype=dtype)
        assert (model.device, model.dtype) == (name, dtype)
    assert load_model(path).dtype == "float32"
    assert load_model(path).device == "cpu"


@pytest.mark.parametrize("dtype", ["float16", "f4", "int32", "complex64", "", None])
def test_other_dtypes_are_refused(data: Path, dtype: Any) -> None:
    message = f"dtype={dtype!r} is not one of 'float32', 'float64'"
    with pytest.raises(ValueError, match=message):
        load_model(data / "keras" / "valid.h5", dtype=dtype)


@pytest.mark.parametrize("device", ["cuda", "GPU", "", None, 0])
def test_unknown_devices_are_refused(data: Path, device: Any) -> None:
    path = data / "keras" / "valid.h5"
    message = "is not one of 'cpu', 'gpu', 'gpu:N', 'auto'"
    with pytest.raises(ValueError, match=message):
        load_model(path, device)
    with pytest.raises(ValueError, match=message):
        load_model(path).to(device)


def test_a_model_says_what_it_is_in_one_line(data: Path) -> None:
    model = load_model(data / "keras" / "valid.h5")
    assert repr(model) == "<QuasarNP valid.h5, float32 on cpu>"


def test_models_are_equal_to_themselves_alone(data: Path) -> None:
    model = load_model(data / "keras" / "valid.h5")
    other = model.__replace__()
    assert model == model  # noqa: PLR0124
    assert model != other
    assert len({model, other}) == 2


def test_a_model_rebins_onto_its_own_grid(backend: ArrayBackend, data: Path) -> None:
    model = load_model(data / "keras" / "linear_grid.h5", **backend.resolve())
    rng = np.random.default_rng(0)
    flux, ivar = rng.normal(size=(3, 7781)), rng.uniform(size=(3, 7781))
    arm = desi_wave, backend.array(flux), backend.array(ivar)
    for one, other in zip(
        model.rebinner([arm]), sum_arms([arm], model.wave), strict=True
    ):
        np.testing.assert_array_equal(backend.host(one), backend.host(other))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        backend.host(again.rebinner([arm])[0]), backend.host(model.rebinner([arm])[0])
    )


def test_a_network_knows_whether_its_offsets_are_rescaled(data: Path) -> None:
    for name, rescaled in (("valid", False), ("valid_rescaled", True)):
        model = load_model(data / "keras" / f"{name}.h5")
        assert model.network.rescaled is rescaled


@pytest.mark.parametrize("wrong", ["2", 2.0])
def test_a_number_of_threads_is_a_whole_number(data: Path, wrong: Any) -> None:
    model = load_model(data / "keras" / "valid.h5")
    with pytest.raises(TypeError, match=f"nproc must be a whole number, got {wrong!r}"):
        model.with_nproc(wrong)
