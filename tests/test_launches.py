"""How many operations the package asks of a device: each of them takes time to begin.

A GPU is stood in for by array-api-strict, whose functions and operators are counted.
Reshaping, slicing and permuting make views on a GPU, and count for nothing.
"""

from __future__ import annotations

import functools
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_coadd

from qnp_xp import classify, load_model
from qnp_xp.model import QuasarNP

strict = pytest.importorskip("array_api_strict")

#: What makes a view, or no array; and what brings arrays to the device.
FREE = {"Device", "expand_dims", "finfo", "isdtype", "reshape", "result_type"}
FREE |= {"asarray"}
OPERATORS = ("add", "and", "eq", "ge", "gt", "invert", "le", "lt", "mul", "ne", "neg")
OPERATORS += ("or", "pow", "radd", "rmul", "rsub", "rtruediv", "sub", "truediv", "abs")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Operations so far by name, and transfers to the host as ``to_device``."""
    counts: Counter[str] = Counter()
    array = type(strict.asarray(0.0))

    def count(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            found = function(*args, **kwargs)
            nothing_to_do = any(found is x for x in args)
            if isinstance(found, array) and not nothing_to_do:
                counts[name] += 1
            return found

        monkeypatch.setattr(owner, name, call)

    for name in set(strict.__all__) - FREE:
        if isinstance(getattr(strict, name), types.FunctionType):
            count(strict, name)
    for name in OPERATORS:
        count(array, f"__{name}__")
    count(array, "to_device")
    return counts


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
