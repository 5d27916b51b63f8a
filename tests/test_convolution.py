"""Convolutions made ready for a device, against the plain layer and the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from conftest import ArrayBackend

from qnp_xp import layers
from qnp_xp._network import convolution
from qnp_xp._network.convolution import DirectConv, ToomCookConv, prepare
from qnp_xp._network.description import Conv
from qnp_xp._xp.backend import resolve
from qnp_xp.io import load_model


def draw(size: int, channels: int, filters: int, stride: int, padding: str) -> Conv:
    rng = np.random.default_rng([size, channels, filters, stride])
    kernel = rng.normal(size=(size, channels, filters)) / np.sqrt(size * channels)
    return Conv("conv", kernel, rng.normal(size=filters), stride, padding)


SHAPES = [
    (size, stride, padding, length)
    for size, stride in (
        (10, 2),
        (10, 3),
        (7, 1),
        (5, 2),
        (4, 3),
        (3, 1),
        (2, 1),
        (9, 2),
    )
    for padding in ("valid", "same")
    for length in (10, 23, 48, 104)
]


@pytest.mark.parametrize(("size", "stride", "padding", "length"), SHAPES)
def test_toom_cook_agrees_with_the_plain_layer_and_the_oracle(
    backend: ArrayBackend, size: int, stride: int, padding: str, length: int
) -> None:
    conv = draw(size, 3, 5, stride, padding)
    x = np.random.default_rng(length).normal(size=(4, length, 3))
    expected = reference.conv1d(x, conv.kernel, stride, conv.bias, padding)
    plain = layers.conv1d(
        backend.array(x), backend.array(conv.kernel), stride, None, padding
    )
    for dtype, tolerance in (("float64", 1e-13), ("float32", 6e-6)):
        ready = prepare(conv, resolve(**backend.resolve()), dtype, fewest_channels=1)
        assert isinstance(ready, ToomCookConv)
        given = backend.array(x, dtype)
        found = backend.host(ready(given), dtype)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(backend.host(given), x.astype(dtype))
    np.testing.assert_allclose(
        backend.host(plain) + conv.bias, expected, rtol=0, atol=1e-13
    )


@pytest.mark.float64
@pytest.mark.parametrize(
    ("size", "stride"), [(10, 2), (10, 1), (1, 1), (1, 2), (3, 5), (11, 1), (10, 3)]
)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("channels", [1, 4])
def test_direct_convolution_agrees_with_the_oracle(
    backend: ArrayBackend, size: int, stride: int, padding: str, channels: int
) -> None:
    conv = draw(size, channels, 6, stride, padding)
    x = np.random.default_rng(size).normal(size=(3, 37, channels))
    expected = reference.conv1d(x, conv.kernel, stride, conv.bias, padding)
    for dtype, tolerance in (("float64", 1e-13), ("float32", 2e-6)):
        ready = prepare(conv, resolve(**backend.resolve()), dtype)
        assert isinstance(ready, DirectConv)
        found = backend.host(ready(backend.array(x, dtype)), dtype)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("size", "channels", "filters", "stride", "kind"),
    [
        (10, 1, 100, 2, DirectConv),  # the first layer
        (10, 100, 100, 2, ToomCookConv),
        (10, 100, 4, 2, DirectConv),  # transforms would cost more than they save
        (10, 4, 100, 2, DirectConv),
        (10, 100, 100, 1, DirectConv),  # more taps than there are points
        (1, 100, 100, 1, DirectConv),
        (10, 64, 64, 10, DirectConv),  # one tap
    ],
)
def test_toom_cook_is_taken_where_it_pays(
    size: int, channels: int, filters: int, stride: int, kind: type[Any]
) -> None:
    conv = draw(size, channels, filters, stride, "valid")
    assert isinstance(prepare(conv, resolve("cpu"), "float32"), kind)


def test_joined_rows_give_the_same_numbers() -> None:
    conv = draw(10, 40, 40, 2, "valid")
    ready = prepare(conv, resolve("cpu"), "float64")
    assert isinstance(ready, ToomCookConv)
    assert not ready.joined
    other = ToomCookConv(**{**vars(ready), "joined": True})
    x = np.random.default_rng(1).normal(size=(3, 50, 40))
    np.testing.assert_allclose(other(x), ready(x), rtol=0, atol=1e-12)


NETWORKS = sorted((Path(__file__).parent / "data" / "keras").glob("*.h5"))


@pytest.mark.float64
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_networks_all_of_toom_cook_agree_with_keras(
    backend: ArrayBackend, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setattr(convolution, "_FEWEST_CHANNELS", 1)
    keras = np.load(path.with_suffix(".npz"))
    for dtype, name, tolerance in (("float32", "y", 3e-6), ("float64", "y64", 1e-12)):
        model = load_model(path, **backend.resolve(), dtype=dtype, compiled=False)
        kinds = {type(convolve) for convolve, _ in model._layers.convs}
        assert ToomCookConv in kinds
        found = np.stack([backend.host(y) for y in model.predict(keras["x"])])
        np.testing.assert_allclose(found, keras[name], rtol=0, atol=tolerance)
