"""The layers against the oracle, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference as oracle
from numpy.typing import NDArray

from qnp_xp import layers

if TYPE_CHECKING:
    from conftest import ArrayBackend

# Of values of order 1: a few units in the last place of sums of some 30 products.
TOLERANCE = {"float32": 6e-7, "float64": 2e-15}

DTYPES = ("float32", "float64")


def assert_close(found: NDArray[Any], expected: NDArray[Any], dtype: str) -> None:
    assert found.shape == expected.shape
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    atol = TOLERANCE[dtype] * scale
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    """Numbers of order 1 which the dtype holds exactly."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("length", "channels"), [(10, 1), (11, 3), (24, 2)])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 10])
def test_conv1d_agrees_with_the_oracle(
    backend: ArrayBackend,
    k: int,
    stride: int,
    padding: str,
    length: int,
    channels: int,
    dtype: str,
) -> None:
    x = draw((2, length, channels), dtype, seed=1)
    kernel = draw((k, channels, 4), dtype, seed=2)
    bias = draw((4,), dtype, seed=3)
    found = layers.conv1d(
        backend.array(x), backend.array(kernel), stride, backend.array(bias), padding
    )
    expected = oracle.conv1d(x, kernel, stride, bias, padding)
    assert_close(backend.host(found, dtype), expected, dtype)


@pytest.mark.parametrize(
    ("length", "k", "stride"), [(3, 10, 2), (1, 5, 1), (2, 7, 3), (4, 5, 6), (1, 1, 4)]
)
def test_conv1d_pads_inputs_shorter_than_its_kernel_or_stride(
    backend: ArrayBackend, length: int, k: int, stride: int
) -> None:
    x, kernel = draw((3, length, 2), "float64"), draw((k, 2, 3), "float64", seed=1)
    found = layers.conv1d(
        backend.array(x), backend.array(kernel), stride, padding="same"
    )
    expected = oracle.conv1d(x, kernel, stride, None, "same")
    assert_close(backend.host(found, "float64"), expected, "float64")


def test_conv1d_is_a_cross_correlation_of_stride_one_without_padding(
    backend: ArrayBackend,
) -> None:
    x = backend.array([[[1.0], [2.0], [3.0], [4.0]]])
    kernel = backend.array([[[1.0]], [[10.0]]])
    found = backend.host(layers.conv1d(x, kernel))
    np.testing.assert_array_equal(found, [[[21.0], [32.0], [43.0]]])


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_conv1d_without_bias_is_that_with_a_bias_of_zero(
    backend: ArrayBackend, padding: str
) -> None:
    x = backend.array(draw((2, 15, 3), "float32"))
    kernel = backend.array(draw((4, 3, 5), "float32", seed=1))
    zero = backend.array(np.zeros(5), "float32")
    bare = layers.conv1d(x, kernel, 2, None, padding)
    biased = layers.conv1d(x, kernel, 2, zero, padding)
    found = backend.host(bare, "float32")
    np.testing.assert_array_equal(found, backend.host(biased, "float32"))
    assert np.all(found != 0)


@pytest.mark.parametrize(("padding", "outputs"), [("valid", 4), ("same", 6)])
def test_conv1d_of_no_spectra_has_the_shape_of_some(
    backend: ArrayBackend, padding: str, outputs: int
) -> None:
    x = backend.array(np.zeros((0, 12, 3)), "float32")
    kernel = backend.array(np.ones((5, 3, 2)), "float32")
    found = layers.conv1d(x, kernel, 2, padding=padding)
    assert backend.host(found, "float32").shape == (0, outputs, 2)


def test_conv1d_spreads_nan_no_further_than_its_windows(backend: ArrayBackend) -> None:
    x = np.ones((2, 12, 1))
    x[0, 5] = np.nan
    found = layers.conv1d(backend.array(x), backend.array(np.ones((3, 1, 1))))
    expected = np.zeros((2, 10, 1), dtype=bool)
    expected[0, 3:6] = True
    np.testing.assert_array_equal(np.isnan(backend.host(found)), expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_conv1d_changes_none_of_its_inputs(backend: ArrayBackend, padding: str) -> None:
    host = [
        draw(shape, "float32", seed)
        for seed, shape in enumerate([(2, 13, 3), (4, 3, 5), (5,)])
    ]
    x, kernel, bias = (backend.array(values) for values in host)
    layers.conv1d(x, kernel, 2, bias, padding)
    for array, values in zip((x, kernel, bias), host, strict=True):
        np.testing.assert_array_equal(backend.host(array, "float32"), values)


@pytest.mark.parametrize(("length", "k"), [(9, 10), (1, 2), (0, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv1d_refuses_an_input_shorter_than_its_kernel(
    backend: ArrayBackend, length: int, k: int, stride: int
) -> None:
    x = backend.array(np.ones((2, length, 1)))
    kernel = backend.array(np.ones((k, 1, 1)))
    message = f"a kernel of {k} does not fit into an input of length {length}"
    with pytest.raises(ValueError, match=message):
        layers.conv1d(x, kernel, stride, padding="valid")


@pytest.mark.parametrize(
    ("stride", "padding", "message"),
    [
        (0, "valid", "strides from 1 up .* not 0 and 'valid'"),
        (-1, "same", "strides from 1 up .* not -1 and 'same'"),
        (2, "SAME", "padding 'valid' or 'same', not 2 and 'SAME'"),
        (1, "causal", "padding 'valid' or 'same', not 1 and 'causal'"),
        (1, None, "padding 'valid' or 'same', not 1 and None"),
    ],
)
def test_conv1d_refuses_other_strides_and_paddings(
    backend: ArrayBackend, stride: int, padding: Any, message: str
) -> None:
    x, kernel = backend.array(np.ones((2, 12, 1))), backend.array(np.ones((3, 1, 1)))
    with pytest.raises(ValueError, match=message):
        layers.conv1d(x, kernel, stride, padding=padding)


def test_conv1d_refuses_a_stride_that_is_no_integer(backend: ArrayBackend) -> None:
    x, kernel = backend.array(np.ones((2, 12, 1))), backend.array(np.ones((3, 1, 1)))
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        layers.conv1d(x, kernel, 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "kernel"),
    [
        ((12, 1), (3, 1, 1)),
        ((1, 2, 12, 1), (3, 1, 1)),
        ((2, 12, 1), (3, 1)),
        ((2, 12, 2), (3, 1, 4)),
        ((2, 12, 1), (3, 2, 4)),
    ],
)
def test_conv1d_refuses_shapes_that_do_not_fit(
    backend: ArrayBackend, x: tuple[int, ...], kernel: tuple[int, ...]
) -> None:
    arrays = backend.array(np.ones(x)), backend.array(np.ones(kernel))
    with pytest.raises(ValueError, match=r"conv1d takes x \(n, length, channels\)"):
        layers.conv1d(*arrays)


def test_conv1d_refuses_a_kernel_without_taps(backend: ArrayBackend) -> None:
    x, kernel = backend.array(np.ones((2, 12, 1))), backend.array(np.ones((0, 1, 4)))
    with pytest.raises(ValueError, match=r"kernel w .* with k from 1 up"):
        layers.conv1d(x, kernel)


@pytest.mark.parametrize("bias", [(1,), (3,)])
def test_conv1d_refuses_a_bias_of_another_shape(
    backend: ArrayBackend, bias: tuple[int, ...]
) -> None:
    x, kernel = backend.array(np.ones((2, 12, 1))), backend.array(np.ones((3, 1, 4)))
    with pytest.raises(ValueError, match="bias"):
        layers.conv1d(x, kernel, 1, backend.array(np.ones(bias)))


@pytest.mark.parametrize(
    ("length", "k", "stride", "padding", "outputs", "widths"),
    [
        (443, 10, 2, "valid", 217, (0, 0)),
        (443, 10, 2, "same", 222, (4, 5)),
        (222, 10, 2, "same", 111, (4, 4)),
        (12, 5, 2, "same", 6, (1, 2)),
        (11, 5, 2, "same", 6, (2, 2)),
        (7, 3, 3, "same", 3, (1, 1)),
        (9, 3, 3, "same", 3, (0, 0)),
        (6, 1, 2, "same", 3, (0, 0)),
        (5, 7, 2, "same", 3, (3, 3)),
        (5, 7, 1, "same", 5, (3, 3)),
        (5, 4, 1, "same", 5, (1, 2)),
        (1, 10, 3, "same", 1, (4, 5)),
        (10, 10, 3, "valid", 1, (0, 0)),
        (12, 10, 3, "valid", 1, (0, 0)),
        (13, 10, 3, "valid", 2, (0, 0)),
        (9, 10, 2, "valid", 0, (0, 0)),
        (5, 10, 1, "valid", -4, (0, 0)),
    ],
)
def test_outputs_and_padding_are_those_of_tensorflow(
    length: int,
    k: int,
    stride: int,
    padding: str,
    outputs: int,
    widths: tuple[int, int],
) -> None:
    assert layers.conv_output(length, k, stride, padding) == outputs
    assert layers.pad_width(length, k, stride, padding) == widths


@pytest.mark.parametrize("name", ["linear", "relu", "sigmoid"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_agrees_with_the_oracle(
    backend: ArrayBackend, name: str, dtype: str
) -> None:
    x, kernel, bias = draw((6, 9), dtype), draw((9, 5), dtype, 1), draw((5,), dtype, 2)
    found = layers.dense(
        backend.array(x),
        backend.array(kernel),
        backend.array(bias),
        layers.ACTIVATIONS[name],
    )
    expected = oracle.ACTIVATIONS[name](oracle.dense(x, kernel, bias))
    assert_close(backend.host(found, dtype), expected, dtype)


@pytest.mark.parametrize("shape", [(4,), (6, 1, 4), (2, 3, 4), (0, 1, 4)])
def test_dense_takes_any_dimensions_before_the_last(
    backend: ArrayBackend, shape: tuple[int, ...]
) -> None:
    x, kernel, bias = (draw(size, "float64") for size in (shape, (4, 5), (5,)))
    found = layers.dense(
        backend.array(x), backend.array(kernel), backend.array(bias), layers.relu
    )
    expected = oracle.relu(oracle.dense(x.reshape(-1, 4), kernel, bias))
    expected = expected.reshape(*shape[:-1], 5)
    assert_close(backend.host(found, "float64"), expected, "float64")


@pytest.mark.float64
def test_dense_takes_any_function_of_an_array(backend: ArrayBackend) -> None:
    x, kernel = backend.array([[1.0, 2.0]]), backend.array([[1.0], [10.0]])
    found = layers.dense(x, kernel, backend.array([0.5]), lambda y: y * 2)
    assert backend.host(found, "float64").tolist() == [[43.0]]


def test_dense_of_no_spectra_has_no_rows(backend: ArrayBackend) -> None:
    x, kernel = backend.array(np.ones((0, 4))), backend.array(np.ones((4, 3)))
    found = layers.dense(x, kernel, backend.array(np.ones(3)), layers.sigmoid)
    assert backend.host(found, "float64").shape == (0, 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 3), (0, 7, 3)])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_batch_normalization_agrees_with_the_oracle(
    backend: ArrayBackend, shape: tuple[int, ...], dtype: str, epsilon: float
) -> None:
    x = draw(shape, dtype)
    mean, beta, gamma = (draw((3,), dtype, seed) for seed in (1, 2, 3))
    var = np.array([0.5, 1.0, 2.0], dtype=dtype)
    found = layers.batch_normalization(
        *(backend.array(values) for values in (x, mean, var, beta, gamma)), epsilon
    )
    expected = oracle.batch_normalization(x, mean, var, beta, gamma, epsilon)
    assert_close(backend.host(found, dtype), expected, dtype)


@pytest.mark.float64
def test_epsilon_of_batch_normalization_counts(backend: ArrayBackend) -> None:
    one, zero = backend.array([1.0]), backend.array([0.0])
    found = layers.batch_normalization(
        backend.array([[3.0]]), one, zero, zero, one, 0.25
    )
    assert backend.host(found, "float64").tolist() == [[4.0]]


@pytest.mark.parametrize("shape", [(3, 4, 5), (0, 4, 5), (3, 1, 5), (3, 4, 0)])
def test_flatten_puts_the_channels_of_a_position_side_by_side(
    backend: ArrayBackend, shape: tuple[int, ...]
) -> None:
    x = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    found = backend.host(layers.flatten(backend.array(x)), "float32")
    assert found.shape == (shape[0], shape[1] * shape[2])
    np.testing.assert_array_equal(found, oracle.flatten(x))


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 2, 2, 2), (0, 2, 2, 2), (3,)])
def test_flatten_takes_any_number_of_dimensions(
    backend: ArrayBackend, shape: tuple[int, ...]
) -> None:
    x = np.arange(np.prod(shape), dtype="float64").reshape(shape)
    found = backend.host(layers.flatten(backend.array(x)), "float64")
    width = int(np.prod(shape[1:]))
    np.testing.assert_array_equal(found, x.reshape(shape[0], width))


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_cuts_negative_values_and_keeps_nan(
    backend: ArrayBackend, dtype: str
) -> None:
    x = np.array([[-1.5, -0.0, 0.0, 2.5], [np.nan, np.inf, -np.inf, 1e-30]], dtype)
    found = backend.host(layers.relu(backend.array(x)), dtype)
    expected = np.array([[0, 0, 0, 2.5], [np.nan, np.inf, 0, 1e-30]], dtype)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_agrees_with_the_oracle(backend: ArrayBackend, dtype: str) -> None:
    x = np.linspace(-30, 30, 241).astype(dtype)
    found = backend.host(layers.sigmoid(backend.array(x)), dtype)
    assert_close(found, oracle.sigmoid(x), dtype)
    # Small values keep their digits, too: there, the oracle does not.
    rtol = {"float32": 5e-7, "float64": 1e-15}[dtype]
    small = x[x < -4].astype("float64")
    exact = np.exp(small) / (1 + np.exp(small))
    np.testing.assert_allclose(found[x < -4], exact, rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_neither_overflows_nor_warns(backend: ArrayBackend, dtype: str) -> None:
    x = np.array([-np.inf, -1e4, -1e3, 0, 1e3, 1e4, np.inf, np.nan], dtype)
    found = backend.host(layers.sigmoid(backend.array(x)), dtype)
    np.testing.assert_array_equal(found, [0, 0, 0, 0.5, 1, 1, 1, np.nan])


def test_linear_returns_the_array_itself(backend: ArrayBackend) -> None:
    x = backend.array([1.0])
    assert layers.linear(x) is x


def test_activations_go_by_the_names_that_keras_stores() -> None:
    assert {
        "linear": layers.linear,
        "relu": layers.relu,
        "sigmoid": layers.sigmoid,
    } == layers.ACTIVATIONS


@pytest.mark.parametrize("phi", [layers.relu, layers.sigmoid])
@pytest.mark.parametrize("shape", [(0,), (5,), (2, 0, 3), (2, 3, 4)])
def test_activations_keep_the_shape(
    backend: ArrayBackend, phi: Callable[[Any], Any], shape: tuple[int, ...]
) -> None:
    x = draw(shape, "float32")
    array = backend.array(x)
    assert backend.host(phi(array), "float32").shape == shape
    np.testing.assert_array_equal(backend.host(array), x)


@pytest.mark.float64
@pytest.mark.parametrize("phi", [layers.relu, layers.sigmoid])
@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_integers_and_bools_become_float64(
    backend: ArrayBackend, phi: Callable[[Any], Any], dtype: str
) -> None:
    x = np.array([[0, 1], [1, 1]])
    found = backend.host(phi(backend.array(x, dtype)), "float64")
    np.testing.assert_array_equal(found, phi(x.astype("float64")))


@pytest.mark.parametrize(
    ("phi", "x", "expected"),
    [
        (layers.linear, 3, 3),
        (layers.relu, 1, 1),
        (layers.relu, -2.5, 0),
        (layers.relu, np.float32(-2.5), 0),
        (layers.sigmoid, 0, 0.5),
        (layers.sigmoid, -1e4, 0),
        (layers.sigmoid, np.float64(0), 0.5),
    ],
)
def test_activations_take_numbers(
    phi: Callable[[Any], Any], x: Any, expected: float
) -> None:
    found = phi(x)
    assert np.ndim(found) == 0
    assert found == expected


def test_batch_normalization_takes_numbers(backend: ArrayBackend) -> None:
    assert layers.batch_normalization(5, 1, 4, 0.5, 3, 0) == 6.5
    x = backend.array([[5.0, 9.0]], "float32")
    found = layers.batch_normalization(x, 1, 4.0, 0.5, 3, 0.0)
    assert backend.host(found, "float32").tolist() == [[6.5, 12.5]]


@pytest.mark.float64
def test_layers_take_integers(backend: ArrayBackend) -> None:
    x, w = np.arange(12).reshape(2, 6, 1), np.array([1, 10]).reshape(2, 1, 1)
    ints = [backend.array(values, "int64") for values in (x, w, [3])]
    found = layers.conv1d(*ints[:2], 2, ints[2])
    expected = oracle.conv1d(x, w, 2, np.array([3]), "valid")
    assert_close(backend.host(found, "float64"), expected, "float64")
    flat = layers.flatten(ints[0])
    kernel = backend.array(np.eye(6), "float64")
    found = layers.dense(flat, kernel, ints[2], layers.relu)
    expected = x.reshape(2, 6) + 3.0
    assert_close(backend.host(found, "float64"), expected, "float64")


@pytest.mark.parametrize(
    ("name", "call"),
    {
        "x": lambda bad, x, w: layers.conv1d(bad(x), w),
        "w": lambda bad, x, w: layers.conv1d(x, bad(w)),
        "b": lambda bad, x, w: layers.conv1d(x, w, 1, bad(w[0, 0, ...])),
        "x of relu": lambda bad, x, _: layers.relu(bad(x)),
        "x of sigmoid": lambda bad, x, _: layers.sigmoid(bad(x)),
        "w of dense": lambda bad, x, w: layers.dense(x, bad(w), x, layers.relu),
        "gamma": lambda bad, x, _: layers.batch_normalization(x, x, x, x, bad(x), 0),
    }.items(),
)
def test_complex_numbers_are_refused_by_name(
    backend: ArrayBackend, name: str, call: Callable[..., Any]
) -> None:
    x, w = backend.array(np.ones((2, 4, 1))), backend.array(np.ones((2, 1, 1)))

    def bad(values: Any) -> Any:
        return backend.xp.astype(values, backend.xp.complex64)

    match = rf"{name.split(maxsplit=1)[0]} must hold real numbers, got .*complex64"
    with pytest.raises(TypeError, match=match):
        call(bad, x, w)
