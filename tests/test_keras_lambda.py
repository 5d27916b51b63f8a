"""The Lambda layer: QuasarNET's function as every Python compiles it, and no other."""

from __future__ import annotations

import base64
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from qnp_xp import WeightsError
from qnp_xp.io.weights._graph import Layer
from qnp_xp.io.weights._lambdas import lambda_scaling

CODES: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("data").joinpath("lambdas.json").read_text("utf-8")
)
QUASARNETS = (
    "lambda x: -0.1 + 1.2 * x",
    "lambda x: -0.1 + x * 1.2",
    "lambda x: 1.2 * x + -0.1",
    "lambda x: 1.2 * x - 0.1",
)
OTHERS = sorted(set(CODES["3.11"]) - set(QUASARNETS))

each_version = pytest.mark.parametrize("version", CODES)


def scaling(code: str) -> tuple[float, float]:
    function = {"class_name": "__lambda__", "config": {"code": code}}
    return lambda_scaling(Layer("lambda_1", "Lambda", {"function": function}, ()))


def test_the_codes_are_of_every_python_that_is_supported() -> None:
    assert {"3.6", "3.9", "3.10", "3.11", "3.12", "3.13"} <= set(CODES)


@each_version
@pytest.mark.parametrize("source", QUASARNETS)
def test_quasarnets_function_is_read(version: str, source: str) -> None:
    assert scaling(CODES[version][source]) == (1.2, -0.1)


@each_version
@pytest.mark.parametrize("source", OTHERS)
def test_functions_with_the_same_constants_are_refused(
    version: str, source: str
) -> None:
    match = r"'lambda_1' \(Lambda\): only QuasarNET's own.*Rescaling layer is the port"
    with pytest.raises(WeightsError, match=match):
        scaling(CODES[version][source])


def places(content: bytes) -> tuple[slice, list[slice]]:
    """Where the instructions are, and the two constants."""
    found = re.search(rb"[s\xf3](.)\0{3}", content)
    assert found is not None
    constants = [content.index(struct.pack("<d", value)) for value in (-0.1, 1.2)]
    slices = [slice(place, place + 8) for place in constants]
    return slice(found.end(), found.end() + found[1][0]), slices


@each_version
def test_no_bit_of_the_instructions_or_the_constants_may_differ(version: str) -> None:
    content = base64.b64decode(CODES[version][QUASARNETS[0]])
    code, constants = places(content)
    for part in (code, *constants):
        for place in range(part.start, part.stop):
            for bit in range(8):
                changed = bytearray(content)
                changed[place] ^= 1 << bit
                with pytest.raises(WeightsError, match="only QuasarNET's own"):
                    scaling(base64.b64encode(changed).decode())


@pytest.mark.parametrize("function", ["relu", None, 3, [], {}, {"config": None}, ["!"]])
def test_other_things_than_code_are_refused(function: Any) -> None:
    layer = Layer("lambda_1", "Lambda", {"function": function}, ())
    with pytest.raises(WeightsError, match=r"'lambda_1' \(Lambda\): only QuasarNET's"):
        lambda_scaling(layer)


@each_version
def test_code_cut_short_is_refused(version: str) -> None:
    content = base64.b64decode(CODES[version][QUASARNETS[0]])
    _, constants = places(content)
    for length in range(max(place.stop for place in constants)):
        with pytest.raises(WeightsError, match="only QuasarNET's own"):
            scaling(base64.b64encode(content[:length]).decode())
