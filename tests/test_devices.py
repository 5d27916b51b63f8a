"""Devices with a memory of their own: streams, memory that runs out, and its return.

A GPU is stood in for: by array-api-strict, whose second device refuses what a GPU would
refuse, and by numpy under the name of a GPU, which shows what is asked of CuPy.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import write_coadd

from qnp_xp import classify, load_model
from qnp_xp._xp import backend as _backend
from qnp_xp._xp.backend import Backend, array_namespace, to_host
from qnp_xp.model import QuasarNP

if TYPE_CHECKING:
    from conftest import ArrayBackend


class Cupy:
    """What the package asks of CuPy itself, on the host, with a diary of it."""

    def __init__(self) -> None:
        self.by_thread: list[tuple[int, str]] = []
        self.streams: list[str] = []
        self.free = 10**9
        self.kept = 0
        self.cuda = self
        self.runtime = self
        self.is_open = 0

    @property
    def diary(self) -> list[str]:
        return [entry for _, entry in self.by_thread]

    def note(self, entry: str) -> None:
        self.by_thread.append((threading.get_ident(), entry))

    # The device.

    def __enter__(self) -> Cupy:
        self.is_open += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open -= 1

    def synchronize(self) -> None:
        self.note("settle")

    # Streams.

    def Stream(self, *, non_blocking: bool) -> Any:
        assert non_blocking
        name = f"stream {len(self.streams)}"
        self.streams.append(name)
        cupy = self

        class Stream(contextlib.ContextDecorator):
            def __enter__(self) -> None:
                assert cupy.is_open
                cupy.note(f"enter {name}")

            def __exit__(self, *_: object) -> None:
                cupy.note(f"leave {name}")

        return Stream()

    def get_current_stream(self) -> Any:
        cupy = self

        class Current:
            def synchronize(self) -> None:
                cupy.note("finish")

        return Current()

    # Memory.

    def memGetInfo(self) -> tuple[int, int]:
        return self.free, 10**10

    def get_default_memory_pool(self) -> Cupy:
        return self

    def get_default_pinned_memory_pool(self) -> Cupy:
        return self

    def free_bytes(self) -> int:
        return self.kept

    def free_all_blocks(self) -> None:
        self.note("release")


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cupy]:
    cupy = Cupy()
    monkeypatch.setattr(_backend, "_cupy", lambda: cupy)
    _backend._stream.cache_clear()
    yield cupy
    _backend._stream.cache_clear()


def on_gpu(model: QuasarNP, cupy: Cupy) -> QuasarNP:
    """The same model, on numpy by the name of a GPU."""
    backend = Backend(array_namespace(np.empty(0)), cupy, "gpu:0")
    return model.__replace__(backend=backend)


def test_work_on_a_gpu_is_handed_over_when_it_is_done(
    tmp_path: Path, weights: Path, cupy: Cupy
) -> None:
    path = write_coadd(tmp_path / "coadd.fits", 5)
    model = load_model(weights)
    expected = classify(path, model)
    found = classify(path, on_gpu(model, cupy), batch_size=2)
    np.testing.assert_allclose(found["Z_QN"], expected["Z_QN"], rtol=1e-5)
    # Two streams, whatever the number of batches: CuPy keeps memory for each.
    assert len(cupy.streams) == 2
    here = threading.get_ident()
    worked = [entry for thread, entry in cupy.by_thread if thread != here]
    assert worked == ["enter stream 1", "finish", "leave stream 1"] * 3  # batches
    prepared = [entry for thread, entry in cupy.by_thread if thread == here]
    # The weights are waited for, and the arrays of the user.
    assert prepared[:3] == ["settle", "settle", "enter stream 0"]
    assert prepared[3:5] == ["finish", "leave stream 0"]
    assert prepared.count("finish") == 3
    classify(path, on_gpu(model, cupy))
    assert len(cupy.streams) == 2
    assert cupy.is_open == 0


@pytest.mark.parametrize("free", [10**9, 5 * 10**6, 10**6, 10**5, 0])
def test_tiles_take_a_quarter_of_the_free_memory(
    data: Path, cupy: Cupy, free: int
) -> None:
    model = load_model(data / "keras" / "valid.h5")
    # Outputs of the first convolution in float32, and eight arrays of their size.
    need = 8 * 4 * 217 * model.network.convs[0].bias.size
    cupy.free = free
    found = on_gpu(model, cupy).tile
    fits = [2**k for k in range(11) if 2**k * need <= free / 4]
    assert found == max(fits, default=1)


def test_memory_that_cupy_keeps_counts_as_free(data: Path, cupy: Cupy) -> None:
    model = load_model(data / "keras" / "valid.h5")
    cupy.free, cupy.kept = 0, 10**10
    assert on_gpu(model, cupy).tile == 1024


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Have tiles of more than some spectra run out of memory; the sizes tried."""
    original = QuasarNP._forward_tile
    tried: list[int] = []

    def forward(self: QuasarNP, x: Any) -> Any:
        tried.append(x.shape[0])
        if x.shape[0] > most:
            raise MemoryError
        return original(self, x)

    monkeypatch.setattr(QuasarNP, "_forward_tile", forward)
    return tried


def test_tiles_are_halved_where_memory_runs_out(
    weights: Path,
    backend: ArrayBackend,
    cupy: Cupy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = load_model(weights, **backend.resolve())
    if backend.name == "numpy":  # the host's memory is not a device's
        model = on_gpu(model, cupy)
    x = np.random.default_rng(0).normal(size=(70, model.nbins))
    expected = model.predict(x)
    tried = limited(monkeypatch, 32)
    with caplog.at_level(logging.WARNING):
        found = model.predict(x)
    assert model.tile == 17
    assert len(caplog.records) == 2
    assert "out of memory with 35 spectra at a time, going on with 17" in caplog.text
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(to_host(one), to_host(other), rtol=0, atol=3e-6)
    tried.clear()
    model.predict(x)  # the lesson is remembered
    assert max(tried) == 17


def test_a_gpu_without_room_for_one_spectrum_is_an_error(
    weights: Path, cupy: Cupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = on_gpu(load_model(weights), cupy)
    tried = limited(monkeypatch, 0)
    with pytest.raises(MemoryError):
        model.predict(np.zeros((3, model.nbins)))
    assert tried == [3, 1]
    assert cupy.diary.count("release") == 2  # of the device, and pinned


def test_the_host_s_memory_is_not_tried_again(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = limited(monkeypatch, 0)
    with pytest.raises(MemoryError):
        load_model(weights).predict(np.zeros((3, 443)))
    assert len(tried) == 1
