"""How many operations the package asks of a device: each of them takes time to begin.

A GPU is stood in for by array-api-strict, whose functions and operators are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import write_coadd
from launches import count_operations

from qnp_xp import classify, load_model
from qnp_xp.model import QuasarNP

strict = pytest.importorskip("array_api_strict")


@pytest.fixture
def counted() -> Iterator[Counter[str]]:
    """Operations so far by name, and transfers to the host as ``to_device``."""
    array = type(strict.asarray(0.0))
    with count_operations(strict, array, "to_device") as counts:
        yield counts


@pytest.fixture
def on_device() -> QuasarNP:
    """The network that ships with the package, which is of the size of DESI's."""
    return load_model(device=strict.Device("device1"), xp=strict)


def test_a_pass_of_the_network_takes_few_operations(
    on_device: QuasarNP, counted: Counter[str]
) -> None:
    x = np.zeros((300, on_device.nbins), np.float32)
    on_device.forward(strict.asarray(x, device=on_device.backend.device))
    assert counted["matmul"] == 12  # each counts
    assert counted.total() <= 60


@pytest.mark.parametrize("coadd", [False, True])
def test_a_batch_takes_few_operations_and_two_transfers(
    on_device: QuasarNP, counted: Counter[str], tmp_path: Path, coadd: bool
) -> None:
    path = write_coadd(tmp_path / "coadd.fits", 64)
    classify(path, on_device, batch_size=64, coadd=coadd)
    one = counted.copy()
    counted.clear()
    classify(path, on_device, batch_size=32, coadd=coadd)
    counted.subtract(one)
    assert counted["to_device"] == 2
    assert counted.total() <= 150, counted
