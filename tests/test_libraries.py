"""What is peculiar to single array libraries: devices, traces, memory, refusals."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qnp_xp import DeviceError, classify, load_model
from qnp_xp._data import data_file
from qnp_xp._xp import libraries
from qnp_xp._xp.backend import real_floating, resolve, to_host
from qnp_xp._xp.compat import NumpyAlone, compat
from qnp_xp.decode import decode, is_quasar
from qnp_xp.grids import wave
from qnp_xp.model import QuasarNP
from qnp_xp.spectra import combine, normalize, rebin

if TYPE_CHECKING:
    from conftest import ArrayBackend

PIXELS = np.linspace(3600, 9800, 600)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(params=[True, False], ids=["x64", "float32"])
def jax(request: pytest.FixtureRequest) -> Iterator[Any]:
    """JAX with float64, and without."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield jax
    jax.config.update("jax_enable_x64", before)


def spectra(n: int, npix: int) -> tuple[np.ndarray, np.ndarray]:
    """Flux and inverse variance in float32."""
    rng = np.random.default_rng(n + npix)
    flux = rng.normal(size=(n, npix)).astype("float32")
    return flux, rng.uniform(0.5, 2, size=(n, npix)).astype("float32")


# --- which library


def namespace(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    return module


class OldArray:
    """An array whose library follows an older standard."""

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return namespace("old")


needs_compat = pytest.mark.skipif(
    compat is NumpyAlone, reason="array-api-compat is not installed"
)


@needs_compat
@pytest.mark.parametrize(
    ("xp", "name"),
    [
        (namespace("mlx.core"), "mlx.core"),
        (namespace("mlx.core", asarray=lambda x: object()), "mlx.core"),
        (namespace("old", asarray=lambda x: OldArray()), "old"),
        ("torch", "str"),
        (object(), "object"),
    ],
    ids=[
        "no asarray",
        "no array of the standard",
        "older standard",
        "a name",
        "object",
    ],
)
def test_what_follows_no_standard_is_refused_by_name(xp: Any, name: str) -> None:
    with pytest.raises(DeviceError, match=rf"xp={name} is no namespace .* 2023\.12"):
        resolve(xp=xp)


def test_a_model_on_dask_is_refused_with_the_way_to_do_it() -> None:
    with pytest.raises(DeviceError, match="map_blocks"):
        load_model(xp=namespace("dask.array"))


@pytest.mark.parametrize("chunks", [(7, -1), (20, 300)], ids=["rows", "both"])
def test_arrays_of_dask_are_spectra_like_any_others(chunks: tuple[int, int]) -> None:
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    flux, ivar = spectra(20, PIXELS.size)
    lazy = [da.from_array(x, chunks=chunks) for x in (flux, ivar)]
    model = load_model()
    expected = classify((PIXELS, flux, ivar), model)
    assert classify((PIXELS, *lazy), model).tobytes() == expected.tobytes()
    for found, known in zip(
        combine([(PIXELS, *lazy)]), combine([(PIXELS, flux, ivar)]), strict=True
    ):
        np.testing.assert_allclose(np.asarray(found), known, rtol=1e-12)
    x, *_ = normalize(*combine([(PIXELS, flux, ivar)])[:2])
    blocks = da.from_array(x, chunks=(7, -1))
    shape = (blocks.chunks[0], model.nlines, 2 * model.nboxes)
    predicted = blocks.map_blocks(
        lambda block: np.stack(model.predict(block), axis=1),
        dtype="float32",
        new_axis=2,
        chunks=shape,
    )
    np.testing.assert_array_equal(
        predicted.compute(), np.stack(model.predict(x), axis=1)
    )


# --- which device


def test_a_device_is_the_one_that_the_library_makes_of_its_name() -> None:
    # As PyTorch's arrays on "cuda" say that they are on "cuda:0".
    def asarray(x: Any, device: Any) -> Any:
        names = {None: "acc:1", "acc": "acc:0"}
        return types.SimpleNamespace(device=names.get(device, device))

    xp = namespace("library", asarray=asarray)
    named = ("acc", "acc:0", "acc:1", None)
    found = [libraries.find_device(xp, name) for name in named]
    assert found == ["acc:0", "acc:0", "acc:1", "acc:1"]


@pytest.mark.parametrize(
    "error", [AssertionError, RuntimeError, ValueError, TypeError, IndexError]
)
def test_devices_that_a_library_refuses_are_named(error: type[Exception]) -> None:
    def asarray(x: Any, device: Any) -> Any:
        msg = "none of mine"
        raise error(msg)

    with pytest.raises(DeviceError, match=r"library has no device 'acc'.*none of mine"):
        libraries.find_device(namespace("library", asarray=asarray), "acc")


def test_devices_that_are_not_there_are_errors(backend: ArrayBackend) -> None:
    if backend.name == "cupy":
        pytest.skip("whose devices have names of our own")
    with pytest.raises((DeviceError, ValueError), match="'nonsense:7'"):
        resolve("nonsense:7", backend.xp)


def test_torch_takes_names_and_devices(torch: Any) -> None:
    for device in ("cpu", torch.device("cpu"), None):
        assert resolve(device, torch).device == torch.device("cpu")
    with pytest.raises(DeviceError, match="torch has no device 'gpu'"):
        resolve("gpu", torch)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="torch has no device 'cuda'"):
            resolve("cuda", torch)


def test_jax_takes_names_and_devices(jax: Any) -> None:
    cpu = jax.devices("cpu")[0]
    for device in ("cpu", "cpu:0", cpu):
        assert resolve(device, jax.numpy).device == cpu
    for device in ("cpu:99", "nonsense"):
        with pytest.raises(DeviceError, match=rf"jax.numpy has no device '{device}'"):
            resolve(device, jax.numpy)


def test_arrays_on_the_device_never_pass_through_the_host(
    backend: ArrayBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(**backend.resolve())
    flux, _ = spectra(300, model.nbins)
    x = backend.array(flux)
    expected = model.predict(flux)

    def refuse(x: Any) -> Any:
        pytest.fail("an array came to the host")

    with monkeypatch.context() as patch:
        patch.setattr(libraries, "copy_to_host", refuse)
        found = model.predict(x)
    np.testing.assert_array_equal(backend.host(found[0]), backend.host(expected[0]))


@needs_compat
def test_arrays_come_to_the_host_by_dlpack_where_there_is_no_other_way() -> None:
    values = np.arange(3.0)

    class Array:  # as those of dpnp
        asked: Any = None

        def __array_namespace__(self, api_version: str | None = None) -> Any:
            return namespace("dpnp")

        def __array__(self, *_: Any, **__: Any) -> Any:
            msg = "Implicit conversion to a NumPy array is not allowed"
            raise TypeError(msg)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 14, 0  # oneAPI

        def __dlpack__(self, *, dl_device: Any = None, **options: Any) -> Any:
            self.asked = dl_device
            return values.__dlpack__(**options)

    x = Array()
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        with pytest.raises(DeviceError, match=r"arrays of dpnp .*2\.1"):
            to_host(x)
        return
    np.testing.assert_array_equal(to_host(x), values)
    assert tuple(x.asked) == (1, 0)  # the host


# --- float64, or none


def test_a_model_of_float64_needs_a_device_that_has_it(backend: ArrayBackend) -> None:
    if backend.has_float64:
        load_model(dtype="float64", **backend.resolve())
        return
    with pytest.raises(DeviceError, match=r"dtype='float64'.*jax_enable_x64"):
        load_model(dtype="float64", **backend.resolve())
    with pytest.raises(DeviceError, match="dtype='float64'"):
        load_model().__replace__(dtype="float64").to(**backend.resolve())


def test_sums_and_redshifts_are_those_of_numpy_where_there_is_no_float64(
    backend: ArrayBackend,
) -> None:
    flux, ivar = spectra(20, PIXELS.size)
    arrays = [backend.array(x) for x in (flux, ivar)]
    for found, expected in zip(
        rebin(*arrays, PIXELS), rebin(flux, ivar, PIXELS), strict=True
    ):
        np.testing.assert_allclose(backend.host(found, "float64"), expected, rtol=1e-12)
    flux, ivar = spectra(20, wave.size)
    x, *_ = normalize(backend.array(flux), backend.array(ivar))
    np.testing.assert_allclose(
        backend.host(x, "float32"), normalize(flux, ivar)[0], rtol=1e-6, atol=1e-7
    )
    model = load_model()
    preds = model.predict(flux)
    expected = decode(preds, model.lines, model.lines_bal)
    found = decode([backend.array(p) for p in preds], model.lines, model.lines_bal)
    for name in ("c_line", "z_line", "zbest", "z_line_bal"):
        host = backend.host(getattr(found, name), "float64")
        np.testing.assert_allclose(host, getattr(expected, name), rtol=1e-12)
    counted = is_quasar(backend.array(expected.c_line.astype("float32")))
    np.testing.assert_array_equal(
        backend.host(counted, "bool"), is_quasar(expected.c_line.astype("float32"))
    )


def test_integers_become_the_widest_floats(backend: ArrayBackend) -> None:
    (x,) = real_floating(x=backend.array([1, 2], "int32"))
    assert backend.host(x, backend.widest).tolist() == [1.0, 2.0]


def test_a_file_is_classified_as_on_numpy(backend: ArrayBackend) -> None:
    path = data_file("demo-coadd.fits")
    expected = classify(path, load_model())
    found = classify(path, load_model(**backend.resolve()))
    assert found.dtype == expected.dtype
    for name in found.dtype.names:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=3e-6, atol=3e-6, err_msg=name
        )
    assert found["IS_QSO_QN"].sum() == 13


def test_arrays_of_integers_are_classified_as_on_numpy(backend: ArrayBackend) -> None:
    flux = (spectra(5, PIXELS.size)[0] * 100).astype("int32")
    ones = np.ones_like(flux)
    expected = classify((PIXELS, flux, ones), load_model())
    model = load_model(**backend.resolve())
    found = classify((PIXELS, backend.array(flux), backend.array(ones)), model)
    np.testing.assert_allclose(found["Z_QN"], expected["Z_QN"], rtol=3e-6)


# --- NaN


def test_one_nan_spoils_its_own_spectrum_and_loses_no_row(
    backend: ArrayBackend,
) -> None:
    # As many spectra as make libraries use vectors, whose maximum may drop NaN.
    model = load_model(**backend.resolve())
    x, _ = spectra(300, model.nbins)
    preds = [to_host(p).copy() for p in load_model().predict(x)]
    spoilt = np.arange(300) % 7 == 0
    for line in preds:
        line[spoilt, np.arange(300)[spoilt] % model.nboxes] = np.nan
    found = decode(
        [backend.array(p) for p in preds], model.lines, model.lines_bal, model.wave
    )
    for values in (found.cbest, *(found.c_line[i, :] for i in range(6))):
        assert np.isnan(backend.host(values)).tolist() == spoilt.tolist()
    x[spoilt, 5] = np.nan
    outputs = backend.host(model.predict(backend.array(x))[0])
    assert np.isnan(outputs).any(axis=1).tolist() == spoilt.tolist()


def test_one_nan_pixel_is_cleaned_and_loses_no_row(backend: ArrayBackend) -> None:
    flux, ivar = spectra(300, PIXELS.size)
    flux[::7, 11], ivar[::5, 13] = np.nan, np.nan
    flux[3, :], ivar[4, :] = np.nan, 0
    model = load_model()
    expected = classify((PIXELS, flux, ivar), model)
    moved = model.to(**backend.resolve())
    table = classify((PIXELS, backend.array(flux), backend.array(ivar)), moved)
    assert table["QN_STATUS"].tolist() == expected["QN_STATUS"].tolist()
    assert np.isnan(table["Z_QN"]).nonzero()[0].tolist() == [3, 4]
    np.testing.assert_allclose(table["Z_QN"], expected["Z_QN"], rtol=3e-6)


# --- memory


OUT_OF_MEMORY = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 800 bytes."),
    RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    RuntimeError("cudaErrorMemoryAllocation: out of memory"),
    RuntimeError("UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_every_library_has_a_word_for_no_memory(error: Exception) -> None:
    assert libraries.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"),
        ValueError("out of memory"),
    ],
    ids=str,
)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not libraries.is_out_of_memory(error)


@pytest.mark.parametrize("error", OUT_OF_MEMORY[:5], ids=str)
def test_tiles_are_halved_where_any_library_runs_out_of_memory(
    error: Exception, monkeypatch: pytest.MonkeyPatch, backend: ArrayBackend
) -> None:
    if backend.name == "numpy":
        pytest.skip("the host's memory is not tried again")
    model = load_model(**backend.resolve())
    expected = backend.host(model.predict(np.zeros((3, model.nbins)))[0])
    original = QuasarNP._forward_tile

    def forward(self: QuasarNP, x: Any) -> Any:
        if x.shape[0] > 1:
            raise error
        return original(self, x)

    monkeypatch.setattr(QuasarNP, "_forward_tile", forward)
    found = backend.host(model.predict(np.zeros((3, model.nbins)))[0])
    assert model.tile == 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


def test_other_errors_of_libraries_are_raised(
    monkeypatch: pytest.MonkeyPatch, backend: ArrayBackend
) -> None:
    model = load_model(**backend.resolve())
    tile = model.tile

    def forward(self: QuasarNP, x: Any) -> Any:
        msg = "an illegal memory access was encountered"
        raise RuntimeError(msg)

    monkeypatch.setattr(QuasarNP, "_forward_tile", forward)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        model.predict(np.zeros((3, model.nbins)))
    assert model.tile == tile


def test_memory_that_really_runs_out_is_known(jax: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        jax.numpy.ones(10**13, dtype="float32").block_until_ready()
    assert libraries.is_out_of_memory(caught.value)


def test_memory_of_torch_that_really_runs_out_is_known(torch: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.ones(10**15)
    assert libraries.is_out_of_memory(caught.value)
    assert libraries.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))


# --- traces, gradients, graphs


def test_jax_compiles_predict_and_its_gradient(jax: Any) -> None:
    model = load_model(xp=jax.numpy)
    x = jax.numpy.asarray(spectra(3, model.nbins)[0])
    expected = np.asarray(model.predict(x)[0])
    with jax.checking_leaks():
        found = jax.jit(model.predict)(x)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=3e-6)

    def confidence(x: Any) -> Any:
        return model.predict(x)[0][:, : model.nboxes].sum()

    slope = np.asarray(jax.jit(jax.grad(confidence))(x))
    assert slope.shape == x.shape
    # Against what a small step along the gradient changes.
    step = 1e-2 * slope / np.linalg.norm(slope)
    wide = load_model(dtype="float64")
    ends = [
        sum(line[:, : model.nboxes].sum() for line in wide.predict(x + s)[:1])
        for s in (np.asarray(step, "float64"), -np.asarray(step, "float64"))
    ]
    assert ends[0] - ends[1] == pytest.approx(2e-2 * np.linalg.norm(slope), rel=0.05)


def test_no_trace_of_jax_is_kept(jax: Any) -> None:
    model = load_model(xp=jax.numpy)
    flux, ivar = map(jax.numpy.asarray, spectra(3, PIXELS.size))

    def sums(flux: Any, ivar: Any) -> Any:
        return model.rebinner([(PIXELS, flux, ivar)])[0]

    if jax.config.jax_enable_x64:
        traced = np.asarray(jax.jit(sums)(flux, ivar))
        np.testing.assert_allclose(sums(flux, ivar), traced, rtol=1e-12)
        return
    with pytest.raises(DeviceError, match="jax_enable_x64"):
        jax.jit(sums)(flux, ivar)
    assert isinstance(sums(flux, ivar), np.ndarray)  # the host has float64


def test_a_model_of_numpy_says_that_it_cannot_be_traced(jax: Any) -> None:
    model = load_model()
    with pytest.raises(DeviceError, match=r"load the model with xp=jax\.numpy"):
        jax.jit(model.predict)(jax.numpy.zeros((2, model.nbins)))


def test_torch_has_gradients_after_inference_mode(torch: Any) -> None:
    flux, ivar = (torch.asarray(x) for x in spectra(3, PIXELS.size))
    with torch.inference_mode():
        model = load_model(xp=torch)
        model.rebinner([(PIXELS, flux, ivar)])
    flux.requires_grad_(True)
    flux_sum, ivar_sum, _ = model.rebinner([(PIXELS, flux, ivar)])
    x, *_ = normalize(flux_sum / (ivar_sum + 1), ivar_sum)
    model.predict(x)[0].sum().backward()
    assert float(abs(flux.grad).max()) > 0
    assert isinstance(to_host(x), np.ndarray)  # which has a gradient to leave behind


@pytest.mark.filterwarnings("ignore")  # torch's own, of what it traces
def test_torch_compiles_predict_to_one_graph(torch: Any) -> None:
    model = load_model(xp=torch)
    x = torch.asarray(spectra(3, model.nbins)[0])
    compiled = torch.compile(model.predict, fullgraph=True, backend="eager")
    np.testing.assert_allclose(compiled(x)[0], model.predict(x)[0], rtol=0, atol=3e-6)
