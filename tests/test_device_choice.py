"""Which device a run computes on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from helpers import Run, names, write_coadd

from qnp_xp._xp import backend as _backend
from qnp_xp._xp.backend import device_of_rank, permitted, visible_gpus
from qnp_xp.errors import DeviceError

no_cupy = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is not None, reason="there is a CuPy"
)


@pytest.mark.parametrize("device", ["gpu", "gpu:0", "gpu:3", "auto"])
@pytest.mark.parametrize("value", ["1", "0", ""])
def test_desi_no_gpu_forbids_gpus_and_says_so(
    device: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("DESI_NO_GPU", value)  # set to anything, as in desispec
    assert permitted(device) == "cpu"
    assert caplog.messages == [
        f"$DESI_NO_GPU is set: the CPU is used, and not {device}"
    ]


def test_desi_no_gpu_changes_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DESI_NO_GPU", "1")
    assert [permitted(device) for device in ("cpu", "tpu")] == ["cpu", "tpu"]
    monkeypatch.delenv("DESI_NO_GPU")
    assert [permitted(device) for device in ("gpu", "auto")] == ["gpu", "auto"]
    assert caplog.messages == []


def test_ranks_of_a_machine_take_its_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_backend, "visible_gpus", lambda: 4)
    for device in ("gpu", "auto"):
        taken = [device_of_rank(device, local) for local in range(6)]
        assert taken == ["gpu:0", "gpu:1", "gpu:2", "gpu:3", "gpu:0", "gpu:1"]
    assert [device_of_rank(d, 3) for d in ("cpu", "gpu:1")] == ["cpu", "gpu:1"]


def test_without_gpus_a_device_is_left_to_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_backend, "visible_gpus", lambda: 0)
    assert [device_of_rank(d, 3) for d in ("gpu", "auto")] == ["gpu", "auto"]


def test_where_no_gpu_answers_none_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int | None) -> None:
        msg = "none"
        raise DeviceError(msg)

    monkeypatch.setattr(_backend, "_gpu", fail)
    assert visible_gpus() == 0


@pytest.mark.gpu
def test_visible_gpus_are_counted() -> None:
    cupy = pytest.importorskip("cupy")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        count = 0
    assert visible_gpus() == count


@no_cupy
def test_gpu_is_short_for_the_device(run: Run, inputs: Path, here: Path) -> None:
    path = write_coadd(inputs / "coadd-0.fits", 1)
    status, out, err = run("classify", path, "--gpu")
    assert (status, out) == (1, "")
    assert err.startswith("qnp-xp: error: device='gpu' needs CuPy")
    assert names(here) == []


def test_gpu_and_a_device_exclude_each_other(run: Run, inputs: Path) -> None:
    status, _, err = run("classify", inputs / "a.fits", "--gpu", "--device", "cpu")
    assert status == 2
    assert "not allowed with argument" in err


def test_without_permission_the_command_computes_on_the_cpu(
    run: Run, inputs: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESI_NO_GPU", "1")
    path = write_coadd(inputs / "coadd-0.fits", 1)
    assert run("classify", path, "--gpu")[0] == 0
    assert names(here) == ["qn-0.fits"]
    assert run("demo", "--device", "gpu")[0] == 0
