"""Counts the operations that are asked of a device: each of them takes time to begin.

Reshaping, slicing and permuting make views on a GPU, and count for nothing. This is for
test_launches.py, which has array-api-strict stand in for a GPU, and for
benchmarks/gpu_check.py, which has a GPU.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

#: What makes a view, or no array; and what brings arrays to the device.
FREE = {"asarray", "expand_dims", "finfo", "isdtype", "reshape", "result_type"}
OPERATORS = ("add", "and", "eq", "ge", "gt", "invert", "le", "lt", "mul", "ne", "neg")
OPERATORS += ("or", "pow", "radd", "rmul", "rsub", "rtruediv", "sub", "truediv", "abs")


@contextlib.contextmanager
def count_operations(xp: Any, array: type, to_host: str) -> Iterator[Counter[str]]:
    """Count operations by name, and transfers by that of the method that makes them."""
    counts: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            found = function(*args, **kwargs)
            nothing_to_do = any(found is x for x in args)
            if isinstance(found, (array, np.ndarray)) and not nothing_to_do:
                counts[name] += 1
            return found

        return call

    functions = [name for name in dir(xp) if name[0] != "_" and name not in FREE]
    methods = [to_host, *(f"__{name}__" for name in OPERATORS)]
    with contextlib.ExitStack() as stack:
        for owner, names in ((xp, functions), (array, methods)):
            for name in names:
                function = getattr(owner, name, None)
                if callable(function) and not isinstance(function, type):
                    patch = mock.patch.object(owner, name, counting(name, function))
                    stack.enter_context(patch)
        yield counts
