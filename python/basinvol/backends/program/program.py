"""A network as a list of instructions on blocks of examples, in the form that the extension takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .values import PADDING, ROWS_AT_ONCE, Buffer, Space, Value, factors_of_example

# A block's live values fill about as much as a core's second-level cache; products want some rows all the same.
_FLOATS_OF_A_BLOCK = 2**19
_MOST_EXAMPLES = 96
_LEAST_EXAMPLES = 4
_END = 10**9  # after the last instruction

Extents = Sequence[tuple[int, int]]
Function = tuple[str, float, float]
IDENTITY: Function = ("identity", 0.0, 0.0)


@dataclass
class Operand:
    """A value as an instruction reads or writes it: within an example, a strided array of these extents."""

    value: Value
    extents: Extents

    @staticmethod
    def of(value: Value) -> Operand:
        """All of a value, in its logical order."""
        return Operand(value, factors_of_example(value.dims))


@dataclass(eq=False)
class Instruction:
    """One operation, see `Op` in csrc/cpu/program.h."""

    op: str
    inputs: list[Operand | None]
    output: Operand
    sizes: list[int] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    function: Function = IDENTITY

    @property
    def stage(self) -> Space:
        """When it is run: where its result lives."""
        return self.output.value.space


@dataclass
class Program:
    """A network with its loss and its data.

    Attributes:
        instructions: the operations in order; the last is the loss of every example.
        fields: the data that are read, float32. [N, size] each
        parameters: the perturbed tensors, in the order of the space.
        constants: numbers that neither parameters nor data change. float32
        weights: the weight of every example in the mean loss. [N] float64
        is_nonnegative: whether no example's loss can be negative.
        block_rows: examples of a block.
    """

    instructions: list[Instruction]
    fields: list[Tensor]
    parameters: list[Tensor]
    constants: Tensor
    weights: Tensor
    is_nonnegative: bool
    block_rows: int
    sizes: dict[Space, int]

    def first(self, count: int) -> Program:
        """The same network on the first examples alone."""
        return replace(self, fields=[part[:count] for part in self.fields], weights=self.weights[:count])

    def describe(self) -> dict[str, Any]:
        """The program as the extension takes it."""
        return {
            "instructions": [_described(instruction) for instruction in self.instructions],
            "fields": [part.numpy() for part in self.fields],
            "parameters": [p.detach().contiguous().numpy() for p in self.parameters],
            "constants": self.constants.numpy(),
            "constant_size": self.sizes[Space.CONSTANT],
            "perturbed_size": self.sizes[Space.PERTURBED],
            "block_size": self.sizes[Space.BLOCK],
            "block_rows": self.block_rows,
            "weights": self.weights.numpy(),
            "is_nonnegative": self.is_nonnegative,
        }


def place(instructions: Sequence[Instruction], constants: int, parameters: int) -> tuple[int, dict[Space, int]]:
    """Puts every buffer into its space; those that are never needed at the same time share memory.

    Args:
        instructions: all of them, in order.
        constants: floats that the constant space begins with.
        parameters: floats that the perturbed space begins with.

    Returns:
        How many examples a block has, and the size of each space in floats.
    """
    lives = lifetimes(instructions)
    block = [buffer for buffer in lives if buffer.space == Space.BLOCK]
    each = max(1, most_at_once({buffer: lives[buffer] for buffer in block}))
    rows = max(_LEAST_EXAMPLES, min(_MOST_EXAMPLES, _FLOATS_OF_A_BLOCK // each))
    if rows > ROWS_AT_ONCE:
        rows -= rows % ROWS_AT_ONCE
    sizes = {}
    for space, start in ((Space.CONSTANT, constants), (Space.PERTURBED, parameters), (Space.BLOCK, 0)):
        examples = rows if space == Space.BLOCK else 1
        mine = {buffer: life for buffer, life in lives.items() if buffer.space == space and not buffer.is_fixed}
        needed = {buffer: buffer.size * examples + buffer.slack for buffer in mine}
        offsets, end = allocate(mine, needed, _aligned(start + PADDING))
        for buffer, offset in offsets.items():
            buffer.offset = offset
        most = max((buffer.slack for buffer in mine), default=0)
        sizes[space] = _aligned(end + most + 8 * PADDING)  # products read rows and columns beyond the last
    return rows, sizes


Lifetimes = dict[Buffer, tuple[int, int]]  # the first instruction that writes a buffer, and the last that reads it


def lifetimes(instructions: Sequence[Instruction]) -> Lifetimes:
    """When each buffer is first written and last read, as positions of instructions."""
    lives: Lifetimes = {}
    for at, instruction in enumerate(instructions):
        for operand in (*instruction.inputs, instruction.output):
            if operand is None:
                continue
            buffer = operand.value.buffer
            first, last = lives.get(buffer, (at, at))
            # What a later stage reads is needed for every block.
            lives[buffer] = (first, _END if instruction.stage > buffer.space else max(last, at))
    return lives


def most_at_once(lives: Lifetimes) -> int:
    """The floats of one example that are needed at the same time, at most."""
    moments = sorted({first for first, _ in lives.values()})
    return max(
        (sum(b.size for b, (first, last) in lives.items() if first <= moment <= last) for moment in moments), default=0
    )


def allocate(lives: Lifetimes, sizes: Mapping[Buffer, int], start: int) -> tuple[dict[Buffer, int], int]:
    """The lowest place for each buffer that is free while it lives.

    Args:
        lives: when they live.
        sizes: the floats of each.
        start: the first place.

    Returns:
        The offset of each, a multiple of PADDING, and the end of the last.
    """
    placed: list[tuple[int, int, int, int]] = []  # begin, end, first, last
    offsets, end = {}, start
    for buffer, (first, last) in sorted(lives.items(), key=lambda item: -item[0].size):
        size = _aligned(sizes[buffer])
        at = start
        for begin, stop, other_first, other_last in sorted(placed):
            if other_last < first or last < other_first:
                continue
            if at + size <= begin:
                break
            at = max(at, stop)
        offsets[buffer] = at
        placed.append((at, at + size, first, last))
        end = max(end, at + size)
    return offsets, end


def _aligned(size: int) -> int:
    return -(-size // PADDING) * PADDING


def _described(instruction: Instruction) -> dict[str, Any]:
    return {
        "op": instruction.op,
        "stage": int(instruction.stage),
        "inputs": [None if operand is None else _place_of(operand) for operand in instruction.inputs],
        "output": _place_of(instruction.output),
        "sizes": instruction.sizes,
        "numbers": instruction.numbers,
        "function": instruction.function,
    }


def _place_of(operand: Operand) -> tuple[int, int, int, list[tuple[int, int]]]:
    buffer = operand.value.buffer
    each = buffer.size if buffer.space == Space.BLOCK else 0
    return int(buffer.space), buffer.offset + operand.value.offset, each, list(operand.extents)


def as_floats(tensor: Tensor) -> Tensor:
    """Numbers of any type as contiguous float32.

    Raises:
        ValueError: whole numbers are too large to be exact.
    """
    if tensor.dtype == torch.int64 and tensor.numel() and int(tensor.abs().max()) >= 2**24:
        raise ValueError("whole numbers of 2^24 or more")
    return tensor.detach().to("cpu", torch.float32).contiguous()
