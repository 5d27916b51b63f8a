"""Functions that LLVM compiles for the processor, and the kernel of all their products.

They are written in LLVM's own language: that takes a tenth of a second to compile, and
Python's numba some seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

#: Whether the processor has vectors of 512 bits.
WIDE = bool(llvm.get_host_cpu_features().get("avx512f", False))
LANES = 16 if WIDE else 8  #: Numbers of float32 in a vector.

INT, SINGLE, DOUBLE = ir.IntType(64), ir.FloatType(), ir.DoubleType()
_C_TYPES = {SINGLE: ctypes.c_float}  # addresses are integers


class Int:
    """An integer of a function that is being written, with Python's operators."""

    zero = ir.Constant(INT, 0)

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = ir.Constant(INT, value) if isinstance(value, int) else value

    def __add__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.add(self.value, self._value(other)))

    def __mul__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.mul(self.value, self._value(other)))

    def __mod__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.srem(self.value, self._value(other)))

    def compare(self, sign: str, other: Int | int) -> Any:
        """Compare with another integer."""
        return self.builder.icmp_signed(sign, self.value, self._value(other))

    def least(self, other: Int | int) -> Int:
        """Take the lesser of two."""
        value = self._value(other)
        smaller = self.builder.select(self.compare("<", other), self.value, value)
        return Int(self.builder, smaller)

    def _value(self, other: Int | int) -> Any:
        return Int(self.builder, other).value if isinstance(other, int) else other.value


class Function:
    """A function that is being written, whose results are in memory."""

    def __init__(self, module: Any, name: str, arguments: Sequence[Any]) -> None:
        kind = ir.FunctionType(ir.VoidType(), arguments)
        self.function = ir.Function(module, kind, name)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        #: Integers as `Int`, others as LLVM has them.
        self.arguments: list[Any] = [
            Int(self.builder, x) if x.type == INT else x for x in self.function.args
        ]

    @contextlib.contextmanager
    def loop(self, end: Int, step: int = 1) -> Iterator[Int]:
        """Count from 0 to an end."""
        builder, before = self.builder, self.builder.block
        body, after = (builder.append_basic_block(name) for name in ("loop", "after"))
        builder.cbranch(Int(builder, 0).compare("<", end), body, after)
        builder.position_at_end(body)
        counter = builder.phi(INT)
        counter.add_incoming(ir.Constant(INT, 0), before)
        number = Int(builder, counter)
        yield number
        following = number + step
        counter.add_incoming(following.value, builder.block)
        builder.cbranch(following.compare("<", end), body, after)
        builder.position_at_end(after)

    def variable(self, kind: Any) -> Any:
        """Make room for a value that changes."""
        with self.builder.goto_entry_block():
            return self.builder.alloca(kind)

    def item(self, array: Any, index: Int) -> Any:
        """Give the place of a number in an array."""
        return self.builder.gep(array, [index.value])


def compile_functions(module: Any) -> dict[str, Callable[..., None]]:
    """Compile the functions of a module, for as long as the process lasts."""
    with contextlib.suppress(RuntimeError):  # newer versions do it by themselves
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True
    )
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    parsed = llvm.parse_assembly(str(module))
    _optimize(parsed, machine)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    _engines.append(engine)
    found: dict[str, Callable[..., None]] = {}
    for function in module.functions:
        kinds = [_C_TYPES.get(x.type, ctypes.c_ssize_t) for x in function.args]
        address = engine.get_function_address(function.name)
        found[function.name] = ctypes.CFUNCTYPE(None, *kinds)(address)
    return found


_engines: list[Any] = []  # which hold the code


def _optimize(module: Any, machine: Any) -> None:
    """Have LLVM improve a module as much as it can."""
    if hasattr(llvm, "create_pass_builder"):  # since llvmlite 0.44
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = True
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        return
    builder, manager = (
        llvm.create_pass_manager_builder(),
        llvm.create_module_pass_manager(),
    )
    builder.opt_level, builder.loop_vectorize = 3, True
    machine.add_analysis_passes(manager)
    builder.populate(manager)
    manager.run(module)


def write_kernel(
    builder: Any,
    shape: tuple[int, int],
    a: Int,
    a_step: Int,
    b: Int,
    b_step: Int,
    c: Int,
    c_step: Int,
    depth: Int,
    bias: Int,
    floor: Any,
) -> None:
    """Write ``c = max(bias + a @ b, floor)`` of a few rows and columns; NaN stays NaN.

    The shape is in rows and in vectors. Matrices are given by their addresses, and by
    numbers from one row to the next.
    """
    rows, vectors = shape
    vector = ir.VectorType(SINGLE, LANES)
    fast = ("contract",)  # multiply and add at once, where the processor can

    def pointer(start: Int, position: Int, kind: Any) -> Any:
        return builder.inttoptr((start + position * 4).value, kind.as_pointer())

    def load(start: Int, position: Int, kind: Any) -> Any:
        value = builder.load(pointer(start, position, kind))
        value.align = 4
        return value

    def spread(number: Any) -> Any:
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, nothing, zeros)

    columns = [Int(builder, v * LANES) for v in range(vectors)]
    begin = [load(bias, column, vector) for column in columns]
    before = builder.block
    loop, after = (builder.append_basic_block(name) for name in ("loop", "after"))
    builder.branch(loop)
    builder.position_at_end(loop)
    counter = builder.phi(INT)
    k = Int(builder, counter)
    counter.add_incoming(ir.Constant(INT, 0), before)
    sums = [[builder.phi(vector) for _ in columns] for _ in range(rows)]
    right = [load(b, k * b_step + column, vector) for column in columns]
    results = []
    for i, row in enumerate(sums):
        left = spread(load(a, a_step * i + k, SINGLE))
        terms = [builder.fmul(left, x, flags=fast) for x in right]
        results.append(
            [builder.fadd(x, t, flags=fast) for x, t in zip(row, terms, strict=True)]
        )
        for total, start, result in zip(row, begin, results[-1], strict=True):
            total.add_incoming(start, before)
            total.add_incoming(result, loop)
    following = k + 1
    counter.add_incoming(following.value, loop)
    builder.cbranch(following.compare("<", depth), loop, after)
    builder.position_at_end(after)
    least = spread(floor)
    for i, result in enumerate(results):
        for column, value in zip(columns, result, strict=True):
            below = builder.fcmp_ordered("<", value, least)
            where = pointer(c, c_step * i + column, vector)
            builder.store(builder.select(below, least, value), where).align = 4
