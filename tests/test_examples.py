"""Examples in the docstrings of public modules: what they show is what is printed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import qnp_xp

# As numpydoc has it, examples take `np` for granted.
KNOWN = {"np": np}


def public_modules() -> list[str]:
    """Modules without an underscore in their path."""
    found = pkgutil.walk_packages(qnp_xp.__path__, "qnp_xp.")
    names = ["qnp_xp", *(module.name for module in found)]
    return [name for name in names if "._" not in name]


@pytest.mark.parametrize("name", public_modules())
def test_examples_print_what_they_say(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder().find(module, extraglobs=KNOWN):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def test_the_search_sees_the_modules() -> None:
    assert {"qnp_xp", "qnp_xp.spectra", "qnp_xp.io.desi"} <= set(public_modules())
    assert "qnp_xp._binning" not in public_modules()
