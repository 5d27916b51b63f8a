"""Functions that numba compiles, and the one kernel that their products are made of."""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import cfunc, types
from numba.core.sigutils import normalize_signature
from numba.extending import intrinsic

#: Whether the processor has vectors of 512 bits.
WIDE = bool(get_host_cpu_features().get("avx512f", False))
LANES = 16 if WIDE else 8  #: Numbers of float32 in a vector.


def compile_now(signature: str) -> Callable[[Any], Any]:
    """Compile a function now, or take what an earlier process compiled.

    It is one of C: numba needs half of the time for one that Python can call itself. It
    takes addresses as integers, and computes without the interpreter's lock.
    """

    def decorate(function: Any) -> Any:
        settings = {"error_model": "numpy"}
        try:
            function.__qualname__ += f"_{_digest(function.__code__.co_filename)}"
            compiled = cfunc(signature, cache=True, **settings)(function)
        except (OSError, RuntimeError):  # no folder to keep it in
            compiled = cfunc(signature, **settings)(function)
        kinds = {types.float32: ctypes.c_float}
        arguments = [
            kinds.get(kind, ctypes.c_ssize_t)
            for kind in normalize_signature(signature)[0]
        ]
        called = ctypes.CFUNCTYPE(None, *arguments)(compiled.address)
        called.source = compiled  # which would take the code with it
        return called

    return decorate


@functools.cache
def _digest(path: str) -> str:
    """Hash the code that a compiled function depends on.

    numba takes a kept function for that of a file of the same size and time, and all
    files of a wheel have one time.
    """
    files = Path(path), Path(__file__)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def make_kernel(rows: int, vectors: int) -> Any:
    """Make ``c = max(bias + a @ b, floor)`` of a few rows and columns; NaN stays NaN.

    Matrices are given by their addresses, and by numbers from one row to the next.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def kernel(
        typing: Any,
        a: Any,
        a_step: Any,
        b: Any,
        b_step: Any,
        c: Any,
        c_step: Any,
        depth: Any,
        bias: Any,
        floor: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        given = (a, a_step, b, b_step, c, c_step, depth, bias, floor)
        return types.void(*given), functools.partial(_generate, rows, vectors)

    return kernel


def _generate(
    rows: int, vectors: int, context: Any, builder: Any, _: Any, arguments: Any
) -> Any:
    """Write the kernel in LLVM's language: numba has no vectors of its own."""
    a, a_step, b, b_step, c, c_step, depth, bias, floor = arguments
    single, size = ir.FloatType(), a.type
    vector = ir.VectorType(single, LANES)
    fast = ("contract",)  # multiply and add at once, where the processor can

    def count(n: int) -> Any:
        return ir.Constant(size, n)

    def pointer(start: Any, position: Any, kind: Any) -> Any:
        address = builder.add(start, builder.mul(position, count(4)))
        return builder.inttoptr(address, kind.as_pointer())

    def load(start: Any, position: Any, kind: Any) -> Any:
        value = builder.load(pointer(start, position, kind))
        value.align = 4
        return value

    def spread(number: Any) -> Any:
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, nothing, zeros)

    columns = [count(v * LANES) for v in range(vectors)]
    begin = [load(bias, column, vector) for column in columns]
    before = builder.block
    loop, after = (builder.append_basic_block(name) for name in ("loop", "after"))
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(size)
    k.add_incoming(count(0), before)
    sums = [[builder.phi(vector) for _ in columns] for _ in range(rows)]
    right = [
        load(b, builder.add(builder.mul(k, b_step), column), vector)
        for column in columns
    ]
    results = []
    for i, row in enumerate(sums):
        number = load(a, builder.add(builder.mul(a_step, count(i)), k), single)
        left = spread(number)
        terms = [builder.fmul(left, x, flags=fast) for x in right]
        results.append(
            [builder.fadd(x, t, flags=fast) for x, t in zip(row, terms, strict=True)]
        )
        for total, start, result in zip(row, begin, results[-1], strict=True):
            total.add_incoming(start, before)
            total.add_incoming(result, loop)
    following = builder.add(k, count(1))
    k.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    builder.position_at_end(after)
    least = spread(floor)
    for i, result in enumerate(results):
        for column, value in zip(columns, result, strict=True):
            below = builder.fcmp_ordered("<", value, least)
            position = builder.add(builder.mul(c_step, count(i)), column)
            where = pointer(c, position, vector)
            builder.store(builder.select(below, least, value), where).align = 4
    return context.get_dummy_value()
