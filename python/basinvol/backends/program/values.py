"""Values of a program: strided views of buffers, in which the dimension of the examples may be anywhere.

torch's views are kept as views here: every dimension of a tensor is a product of factors, each with a stride of its
own, so that merging and splitting dimensions moves no number. One factor is that of the examples.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

PADDING = 16  # columns of products are padded to whole vectors of every instruction set, as in csrc/cpu/kernels.h
ROWS_AT_ONCE = 6  # rows that products read and write at a time


class Space(enum.IntEnum):
    """Where a value lives, and with it when it is computed. The numbers are those of csrc/cpu/program.h."""

    CONSTANT = 0  # once
    PERTURBED = 1  # once for every radius
    BLOCK = 2  # for every block of examples


class Refused(ValueError):
    """The error for an operation that programs do not have; the message names it."""


class NotAView(ValueError):
    """The error for a view that the strides do not allow: the value has to be copied first."""


@dataclass(frozen=True)
class Factor:
    """A part of a dimension.

    Attributes:
        size: how many.
        stride: floats from one to the next; None for the factor of the examples.
    """

    size: int
    stride: int | None

    @property
    def is_examples(self) -> bool:
        """Whether it counts the examples."""
        return self.stride is None


@dataclass(eq=False)
class Buffer:
    """Memory of one value.

    Attributes:
        space: where.
        size: floats, in the block space of one example.
        slack: floats after the last example that may be written.
        offset: where it was put in its space; see `program.place`.
        is_fixed: whether it was put there before all others.
    """

    space: Space
    size: int
    slack: int = 0
    offset: int = -1
    is_fixed: bool = False


Dim = tuple[Factor, ...]


@dataclass(frozen=True)
class Value:
    """A tensor of the traced network, as a view of a buffer.

    Attributes:
        buffer: the memory.
        dims: the dimensions of the tensor, each a product of factors, outermost first.
        offset: the first element, in floats from the start of an example.
    """

    buffer: Buffer
    dims: tuple[Dim, ...]
    offset: int = 0
    is_data: bool = field(default=False, compare=False)  # known before any parameter is

    @property
    def space(self) -> Space:
        """Where the value lives."""
        return self.buffer.space

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor, the examples included."""
        return tuple(_size(dim) for dim in self.dims)

    @property
    def has_examples(self) -> bool:
        """Whether one of its dimensions counts the examples."""
        return any(factor.is_examples for dim in self.dims for factor in dim)

    def with_dims(self, dims: Iterable[Dim], offset: int | None = None) -> Value:
        """The same memory with other dimensions."""
        return replace(self, dims=tuple(_merged(dim) for dim in dims), offset=self.offset if offset is None else offset)

    def permute(self, order: Sequence[int]) -> Value:
        """The dimensions in another order."""
        return self.with_dims(self.dims[d] for d in order)

    def view(self, shape: Sequence[int]) -> Value:
        """The same elements in another shape, of which one size may be -1.

        Raises:
            NotAView: a factor would have to be divided where it cannot.
        """
        wanted = list(shape)
        if -1 in wanted:
            known = math.prod(size for size in wanted if size != -1)
            wanted[wanted.index(-1)] = math.prod(self.shape) // max(1, known)
        waiting = [factor for dim in self.dims for factor in dim if factor.size != 1][::-1]
        dims = []
        for size in wanted:
            taken, need = [], size
            while need > 1:
                factor = waiting.pop()
                if need % factor.size == 0:
                    taken.append(factor)
                    need //= factor.size
                elif factor.size % need == 0 and factor.stride is not None:
                    inner = factor.size // need
                    taken.append(Factor(need, factor.stride * inner))
                    waiting.append(Factor(inner, factor.stride))
                    need = 1
                else:
                    raise NotAView(f"a dimension of {factor.size} does not divide into {size}")
            dims.append(tuple(taken))
        return self.with_dims(dims)

    def narrow(self, dim: int, start: int, size: int, step: int = 1) -> Value:
        """Some elements along a dimension.

        Args:
            dim: which dimension.
            start: the first element.
            size: how many.
            step: from one to the next.

        Raises:
            NotAView: the dimension is a product of several factors.
        """
        if size == _size(self.dims[dim]) and step == 1:
            return self
        if len(self.dims[dim]) > 1:
            raise NotAView("only a part of a merged dimension is taken")
        (factor,) = self.dims[dim] or (Factor(1, 0),)
        if factor.stride is None:
            raise Refused("examples are not treated alike")
        parts = list(self.dims)
        parts[dim] = (Factor(size, factor.stride * step),)
        return self.with_dims(parts, self.offset + start * factor.stride)

    def select(self, dim: int, index: int) -> Value:
        """One element along a dimension, which is gone then."""
        narrowed = self.narrow(dim, index, 1)
        return narrowed.with_dims(part for d, part in enumerate(narrowed.dims) if d != dim)

    def expand(self, shape: Sequence[int]) -> Value:
        """The value repeated along dimensions of size one, and along new ones in front."""
        own: list[Dim] = [()] * (len(shape) - len(self.dims)) + list(self.dims)
        dims = [dim if size in (-1, _size(dim)) else (Factor(size, 0),) for dim, size in zip(own, shape, strict=True)]
        return self.with_dims(dims)


def dense(buffer: Buffer, dims: Sequence[Dim], order: Sequence[tuple[int, int]] | None = None) -> Value:
    """A value that fills a buffer, with the factors of `dims` in row-major order or in another one.

    Args:
        buffer: the memory; its size is set.
        dims: the factors, of which the strides do not matter but for None.
        order: positions (dimension, factor), outermost first.
    """
    places = order or [(d, f) for d, dim in enumerate(dims) for f in range(len(dim))]
    strides, size = {}, 1
    for d, f in reversed(places):
        if not dims[d][f].is_examples:
            strides[d, f] = size
            size *= dims[d][f].size
    buffer.size = size
    return Value(
        buffer,
        tuple(
            tuple(factor if factor.is_examples else Factor(factor.size, strides[d, f]) for f, factor in enumerate(dim))
            for d, dim in enumerate(dims)
        ),
    )


def row_major(shape: Sequence[int]) -> tuple[Dim, ...]:
    """The dimensions of a tensor that is contiguous."""
    dims: list[Dim] = []
    stride = 1
    for size in reversed(shape):
        dims.append((Factor(size, stride),) if size != 1 else ())
        stride *= size
    return tuple(reversed(dims))


def factors_of_example(dims: Iterable[Dim]) -> list[tuple[int, int]]:
    """The factors within one example as (size, stride), neighbors merged where the strides allow it."""
    found: list[tuple[int, int]] = []
    for dim in dims:
        for factor in dim:
            if factor.stride is None or factor.size == 1:
                continue
            if found and found[-1][1] == factor.size * factor.stride:
                found[-1] = (found[-1][0] * factor.size, factor.stride)
            else:
                found.append((factor.size, factor.stride))
    return found


def aligned(values: Sequence[Value]) -> list[list[Dim]]:
    """The dimensions of several values broadcast to one shape, all divided into the same factors.

    A factor that a value does not have has stride 0 in it. The factor of the examples is one of the examples in all
    values; those that are the same for every example have stride 0 there.

    Raises:
        NotAView: the factors cannot be matched.
    """
    rank = max(len(value.dims) for value in values)
    results: list[list[Dim]] = [[] for _ in values]
    for d in range(rank):
        parts = []
        for value in values:
            at = d - (rank - len(value.dims))
            parts.append(list(value.dims[at]) if at >= 0 else [])
        size = max(math.prod(f.size for f in part) for part in parts)
        full = [part or [Factor(size, 0)] if size > 1 else [] for part in parts]
        for result, dim in zip(results, _common(full), strict=True):
            result.append(dim)
    return results


def _common(parts: list[list[Factor]]) -> list[Dim]:
    """The same product, divided alike in all."""
    waiting = [part[::-1] for part in parts]
    found: list[list[Factor]] = [[] for _ in parts]
    while any(waiting):
        least = math.gcd(*(part[-1].size for part in waiting))
        examples = [part[-1] for part in waiting if part[-1].is_examples]
        if examples:
            least = examples[0].size
        if least == 1:
            raise NotAView("dimensions that are divided differently")
        for part, out in zip(waiting, found, strict=True):
            factor = part.pop()
            if factor.size % least:
                raise NotAView("dimensions that are divided differently")
            if factor.stride is None:
                out.append(factor)
                continue
            if examples and factor.stride != 0:
                raise NotAView("an array with a row for every example that is not data")
            inner = factor.size // least
            out.append(Factor(least, factor.stride * inner))
            if inner > 1:
                part.append(Factor(inner, factor.stride))
    return [tuple(out) for out in found]


def _size(dim: Dim) -> int:
    return math.prod(factor.size for factor in dim)


def _merged(dim: Dim) -> Dim:
    """Factors of a dimension that are one: of size one, or next to each other in memory."""
    found: list[Factor] = []
    for factor in dim:
        if factor.size == 1 and not factor.is_examples:
            continue
        last = found[-1] if found else None
        if (
            last
            and last.stride is not None
            and factor.stride is not None
            and last.stride == factor.size * factor.stride
        ):
            found[-1] = Factor(last.size * factor.size, factor.stride)
        else:
            found.append(factor)
    return tuple(found)
