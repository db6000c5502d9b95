"""Collects the instructions of a program while a traced network is lowered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .program import IDENTITY, Extents, Function, Instruction, Operand, as_floats
from .values import (
    PADDING,
    ROWS_AT_ONCE,
    Buffer,
    Dim,
    Factor,
    NotAView,
    Refused,
    Space,
    Value,
    aligned,
    dense,
    factors_of_example,
    row_major,
)


class Builder:
    """Instructions and constants so far.

    Attributes:
        instructions: the instructions, in order.
        products: those that are products with a weight, by the buffers of their results.
    """

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.products: dict[Buffer, Any] = {}
        self._constants: list[Tensor] = []
        self._num_constants = 0
        self._packed: dict[tuple[int, Extents], Value] = {}

    @property
    def constants(self) -> Tensor:
        """All constants, one after the other. float32"""
        return torch.cat([torch.zeros(0), *self._constants])

    def constant(self, tensor: Tensor | float) -> Value:
        """Numbers that neither parameters nor data change, as a value."""
        given = torch.as_tensor(tensor)
        # What torch repeats, such as a token for every example, is repeated here too.
        repeated = [d for d in range(given.ndim) if given.stride(d) == 0 and given.shape[d] > 1]
        if repeated:
            once = given[tuple(slice(0, 1) if d in repeated else slice(None) for d in range(given.ndim))]
            return self.constant(once).expand(given.shape)
        numbers = as_floats(given)
        buffer = Buffer(Space.CONSTANT, numbers.numel(), offset=self._num_constants, is_fixed=True)
        padding = -numbers.numel() % PADDING + PADDING  # whole vectors are read
        self._constants += [numbers.reshape(-1), torch.zeros(padding)]
        self._num_constants += numbers.numel() + padding
        return Value(buffer, row_major(numbers.shape))

    def emit(
        self,
        op: str,
        inputs: Sequence[Operand | None],
        output: Operand,
        sizes: Sequence[int] = (),
        numbers: Sequence[float] = (),
        function: Function = IDENTITY,
    ) -> Instruction:
        """Appends an instruction, and returns it.

        Args:
            op: which operation, a name of csrc/bindings/bound_program.cpp.
            inputs: what it reads; None where an input is left out.
            output: what it writes.
            sizes, numbers: what else it wants to know, see csrc/cpu.
            function: of "unary", and what a product applies to its results.
        """
        instruction = Instruction(op, list(inputs), output, list(sizes), list(numbers), function)
        self.instructions.append(instruction)
        return instruction

    def stage(self, *values: Value | None) -> Space:
        """When something that reads these values is computed."""
        return max(value.space for value in values if value is not None)

    def new(self, space: Space, dims: Sequence[Dim], order: Sequence[tuple[int, int]] | None = None) -> Value:
        """A value with memory of its own, see `dense`.

        Args:
            space: where.
            dims: its dimensions, of which the strides do not matter.
            order: the order of its factors in memory; default row-major.
        """
        return dense(Buffer(space, 0), dims, order)

    def copied(self, value: Value) -> Value:
        """The same numbers in row-major order."""
        out = self.new(value.space, value.dims)
        self.assign(out, value)
        return out

    def assign(self, out: Value, value: Value) -> None:
        """Writes a value, repeated where it is smaller, into a part of another."""
        to, given = _loop(out, value)
        self.emit("copy", [given], to)

    def viewed(self, value: Value, shape: Sequence[int]) -> Value:
        """The same elements in another shape, copied only where strides ask for it."""
        try:
            return value.view(shape)
        except NotAView:
            return self.copied(value).view(shape)

    def unary(self, function: Function, x: Value) -> Value:
        """A function of every element."""
        out = self.new(x.space, x.dims, _memory_order(x.dims))
        to, given = _loop(out, x)
        self.emit("unary", [given], to, function=function)
        return out

    def binary(self, kind: str, x: Value, y: Value) -> Value:
        """A function of two values, broadcast to one shape.

        Args:
            kind: a name of BINARY.
            x, y: the values.
        """
        first, second = aligned([x, y])
        dims = [
            tuple(a if a.is_examples or a.stride != 0 else b for a, b in zip(*pair, strict=True))
            for pair in zip(first, second, strict=True)
        ]
        # Laid out like the larger of the two, so that its numbers are read as they lie.
        led = first if math.prod(x.shape) >= math.prod(y.shape) else second
        out = self.new(self.stage(x, y), dims, _memory_order(led))
        self.combine(kind, x, y, out)
        return out

    def combine(self, kind: str, x: Value, y: Value, out: Value) -> None:
        """Does as `binary`, into memory that there is.

        Args:
            kind: a name of BINARY.
            x, y: the values.
            out: where to write.
        """
        to, *given = _loop(out, x, y)
        self.emit("binary", given, to, [BINARY.index(kind)])

    def packed(self, weight: Value, inputs: Sequence[Dim], outputs: Dim) -> Value:
        """A weight as the panels that products take, once for every way in which it is used.

        Args:
            weight: the value.
            inputs: the factors over which products sum, outermost first.
            outputs: the factor of the outputs.
        """
        extents = tuple(_plain(dim) for dim in inputs)
        flat = tuple(pair for part in extents for pair in part)
        ((size, stride),) = _plain(outputs) or ((1, 0),)
        key = (id(weight.buffer), (*flat, (size, stride), (weight.offset, 0)))
        if key not in self._packed:
            count = math.prod(n for n, _ in flat)
            out = self.new(weight.space, [(Factor(count * padded(size), 1),)])
            self.emit("pack", [Operand(weight, (*flat, (size, stride)))], Operand.of(out))
            self._packed[key] = out
        return self._packed[key]

    def rows(self, x: Value) -> tuple[Value, int, int]:
        """A value [..., n] as rows that follow each other with one stride through all examples, copied if need be.

        Returns:
            The value, how many rows an example has, and the stride.
        """
        last = factors_of_example(x.dims[-1:])
        outer = factors_of_example(x.dims[:-1])
        is_unit = not last or (len(last) == 1 and last[0][1] == 1)
        width = x.shape[-1]
        if is_unit and len(outer) <= 1:
            count, stride = outer[0] if outer else (1, max(width, x.buffer.size))
            if x.space != Space.BLOCK or count * stride == x.buffer.size:
                x.buffer.slack = max(x.buffer.slack, ROWS_AT_ONCE * stride)
                return x, count, stride
        if not x.has_examples and x.space == Space.BLOCK:
            raise Refused("an operation on data without a dimension of examples")
        return self.rows(self.copied(x))

    def row_stride_like(self, rows: Value, other: Value, width: int) -> int | None:
        """The stride with which another value of the same shape lies in rows as a product does; None for no such.

        Args:
            rows: the result of a product.
            other: the other value.
            width: how many numbers a row has.
        """
        ours, theirs = aligned([rows, other])
        order = [(d, f) for d, f in _memory_order(ours) if not ours[d][f].is_examples]
        outer: list[tuple[int, int, int]] = []
        inner: list[tuple[int, int, int]] = []
        size = 1
        for d, f in reversed(order):
            part = inner if size < width else outer
            size *= ours[d][f].size
            part.insert(0, (ours[d][f].size, ours[d][f].stride or 0, theirs[d][f].stride or 0))
        columns = _coalesced([[(n, s) for n, s, _ in inner], [(n, s) for n, _, s in inner]])
        lines = _coalesced([[(n, s) for n, s, _ in outer], [(n, s) for n, _, s in outer]])
        if columns[1] not in ([], [(width, 1)]) or len(lines[1]) > 1:
            return None
        count, stride = lines[1][0] if lines[1] else (1, other.buffer.size)
        is_even = other.space != Space.BLOCK or count * stride == other.buffer.size
        return stride if is_even and rows.has_examples == other.has_examples else None

    def product_output(self, space: Space, outer: Sequence[Dim], width: int) -> Value:
        """Room for a product [..., width], whose rows are padded.

        Args:
            space: where.
            outer: all dimensions but the last.
            width: the size of the last.
        """
        stride = padded(width)
        value = self.new(space, [*outer, (Factor(stride, 1),)])
        value.buffer.slack = ROWS_AT_ONCE * stride
        return value.with_dims([*value.dims[:-1], (Factor(width, 1),)])


BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "fill_where")


def padded(width: int) -> int:
    """A width with whole vectors."""
    return -(-width // PADDING) * PADDING


def _plain(dim: Dim) -> tuple[tuple[int, int], ...]:
    """The factors of a dimension without examples as (size, stride)."""
    found = []
    for factor in dim:
        if factor.stride is None:
            raise Refused("a weight that depends on the data")
        found.append((factor.size, factor.stride))
    return tuple(found)


def _memory_order(dims: Sequence[Dim]) -> list[tuple[int, int]]:
    """The positions of factors as they lie in memory, outermost first."""
    places = [(d, f) for d, dim in enumerate(dims) for f in range(len(dim))]
    return sorted(places, key=lambda at: -(dims[at[0]][at[1]].stride or 0))


def _loop(out: Value, *given: Value) -> list[Operand]:
    """A loop over the elements of `out` in the order of its memory, and where the other values are in it."""
    values = [out, *given]
    parts = aligned(values)
    order = [(d, f) for d, f in _memory_order(parts[0]) if not parts[0][d][f].is_examples]
    extents = _coalesced([[(parts[0][d][f].size, part[d][f].stride or 0) for d, f in order] for part in parts])
    return [Operand(value, found) for value, found in zip(values, extents, strict=True)]


def _coalesced(operands: Sequence[Sequence[tuple[int, int]]]) -> list[list[tuple[int, int]]]:
    """The same loop with neighbors merged where every operand allows it."""
    found: list[list[tuple[int, int]]] = [[] for _ in operands]
    for level in zip(*operands, strict=True):
        if level[0][0] == 1:
            continue
        if found[0] and all(out[-1][1] == size * stride for out, (size, stride) in zip(found, level, strict=True)):
            for out, (size, stride) in zip(found, level, strict=True):
                out[-1] = (out[-1][0] * size, stride)
        else:
            for out, pair in zip(found, level, strict=True):
                out.append(pair)
    return found
