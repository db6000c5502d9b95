"""Where a program's values lie on a device, and which of them every direction has for itself.

The instructions are those of the CPU, but for two kinds. Loads are gone: data are put into memory before a chunk of
examples begins. So are packed weights, whose panels only the CPU's kernels read: products take a weight [outputs,
inputs] whose inputs lie side by side. Most weights lie so, and others are copied once for every radius.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ....model.parameters import ParameterSpace
from ...program.program import Extents, Instruction, Lifetimes, Operand, Program, allocate, lifetimes
from ...program.values import Buffer, Space, Value
from ..place import ALIGNMENT, Place

_BEFORE = -1  # when data are put into memory


@dataclass(frozen=True)
class Layout:
    """A program as kernels execute it.

    Attributes:
        instructions: all but loads and packs, in order.
        fields: the number of the field that is put into each of these buffers.
        places: the parameters that are read, with their places in a direction's row.
        varying: the buffers that every direction has for itself; all others are shared.
        offsets: the first float of each buffer in its memory: in the constants; in a direction's row; in a direction's
            block, or in the block that is shared, for one example.
        constant_size, row_size, block_size, shared_size: floats of these memories, of blocks for one example.
        largest: floats of one example of the largest value.
    """

    instructions: list[Instruction]
    fields: dict[Buffer, int]
    places: list[Place]
    varying: frozenset[Buffer]
    offsets: dict[Buffer, int]
    constant_size: int
    row_size: int
    block_size: int
    shared_size: int
    largest: int

    @classmethod
    def of(cls, program: Program, space: ParameterSpace) -> Layout:
        """The layout of a program.

        Args:
            program: the program.
            space: its parameters.
        """
        fields = {i.output.value.buffer: i.sizes[0] for i in program.instructions if i.op == "load"}
        instructions = with_plain_weights([i for i in program.instructions if i.op != "load"])
        lives = lifetimes(instructions)
        for buffer in fields:
            lives[buffer] = (_BEFORE, lives[buffer][1])
        varying = _varying(instructions, lives)
        places = _places([b for b in lives if b.space == Space.PERTURBED and b.is_fixed], space)
        offsets = {buffer: place.at for buffer, place in places.items()}
        offsets.update({b: b.offset for b in lives if b.space == Space.CONSTANT and b.is_fixed})
        starts = {Space.CONSTANT: program.constants.numel(), Space.PERTURBED: _end(places.values()), Space.BLOCK: 0}
        ends = {}
        for of_space, start in starts.items():
            for varies in (False, True):
                chosen: Lifetimes = {
                    buffer: life
                    for buffer, life in lives.items()
                    if buffer.space == of_space and (buffer in varying) == varies and not buffer.is_fixed
                }
                found, end = allocate(chosen, {buffer: buffer.size for buffer in chosen}, _aligned(start))
                offsets.update(found)
                ends[of_space, varies] = end
        return cls(
            instructions,
            fields,
            list(places.values()),
            varying,
            offsets,
            constant_size=ends[Space.CONSTANT, False],
            row_size=ends[Space.PERTURBED, True],
            block_size=ends[Space.BLOCK, True],
            shared_size=ends[Space.BLOCK, False],
            largest=max(buffer.size for buffer in lives if buffer.space == Space.BLOCK),
        )


def with_plain_weights(instructions: Sequence[Instruction]) -> list[Instruction]:
    """The same instructions, with weights [outputs, inputs] in place of packed ones."""
    packs = [i for i in instructions if i.op == "pack"]
    counts = {i.output.value.buffer: 0 for i in packs}
    for pack in packs:
        counts[pack.output.value.buffer] += 1
    plain: dict[Buffer, Operand] = {}
    kept = []
    for instruction in instructions:
        if instruction.op == "pack":
            packed = instruction.output.value.buffer
            (source,) = instruction.inputs
            assert source is not None
            *inputs, (outputs, stride) = source.extents
            depth = math.prod(size for size, _ in inputs)
            if counts[packed] == 1 and _lie_side_by_side(inputs) and (outputs == 1 or stride == depth):
                plain[packed] = source
                continue
            # Several weights, of groups, lie one after the other.
            group = instruction.output.value.offset // instruction.output.extents[0][0]
            value = Value(packed, (), group * outputs * depth)
            copied = Operand(source.value, [(outputs, stride), *inputs])
            kept.append(Instruction("copy", [copied], Operand(value, [(outputs * depth, 1)])))
            plain[packed] = Operand(Value(packed, ()), [])
        else:
            inputs_of = [
                None if operand is None else plain.get(operand.value.buffer, operand) for operand in instruction.inputs
            ]
            kept.append(dataclasses.replace(instruction, inputs=inputs_of))
    return kept


def _lie_side_by_side(extents: Extents) -> bool:
    """Whether these are one run of numbers."""
    run = 1
    for size, stride in reversed([pair for pair in extents if pair[0] != 1]):
        if stride != run:
            return False
        run *= size
    return True


def _varying(instructions: Sequence[Instruction], buffers: Collection[Buffer]) -> frozenset[Buffer]:
    """The buffers with something that depends on the parameters."""
    found = {buffer for buffer in buffers if buffer.space == Space.PERTURBED}
    while True:
        more = {
            instruction.output.value.buffer
            for instruction in instructions
            if any(operand is not None and operand.value.buffer in found for operand in instruction.inputs)
        }
        if more <= found:
            return frozenset(found)
        found |= more


def _places(buffers: Sequence[Buffer], space: ParameterSpace) -> dict[Buffer, Place]:
    """An aligned place for each of these parameters, in the order of the space."""
    tensors = {
        (offset, size): tensor for tensor, (offset, size) in enumerate(zip(space.offsets, space.sizes, strict=True))
    }
    found, at = {}, 0
    for buffer in sorted(buffers, key=lambda buffer: buffer.offset):
        found[buffer] = Place(tensors[buffer.offset, buffer.size], buffer.offset, buffer.size, at)
        at += _aligned(buffer.size)
    return found


def _end(places: Collection[Place]) -> int:
    return max((place.at + place.size for place in places), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
