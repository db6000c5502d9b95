"""Computes functions of one or two values, element by element, into another: copies, activations, sums and products.

Reference: the functions in torch, on strided views.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .functions import BINARY, FUNCTIONS, apply, combine
from .strided import Loop, Strided, places

_BLOCK = 1024  # elements to a program


@triton.jit(do_not_specialize=["elements", "first", "second"])
def _elementwise_kernel(
    out,
    out_direction,
    out_example,
    x,
    x_direction,
    x_example,
    y,
    y_direction,
    y_example,
    loop,
    count,
    elements,
    first,
    second,
    KIND: tl.constexpr,
    IS_BINARY: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    element = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = element < elements
    example = element // count
    to, from_x, from_y = places(loop, element % count, RANK)
    out += direction * out_direction + (example * out_example + to)
    value = tl.load(x + direction * x_direction + (example * x_example + from_x), mask=inside, other=1.0)
    if IS_BINARY:
        other = tl.load(y + direction * y_direction + (example * y_example + from_y), mask=inside, other=1.0)
        if KIND == "fill_where":
            inside = inside & (value != 0.0)
            value = other
        else:
            value = combine(value, other, KIND)
    else:
        value = apply(value, first, second, KIND)
    tl.store(out, value, mask=inside)


def elementwise(
    kind: str,
    out: Strided,
    x: Strided,
    y: Strided | None,
    loop: Loop,
    directions: int,
    examples: int,
    *,
    first: float = 0.0,
    second: float = 0.0,
) -> None:
    """Write a function of x, or of x and y, to `out`. "fill_where" writes y where x is not 0, and nothing elsewhere.

    Args:
        kind: One of `functions.FUNCTIONS`, or with y one of `functions.BINARY`.
        out, x, y: The result and the values; y is None for a function of x alone.
        loop: Their elements, in this order.
        directions, examples: How many.
        first, second: The parameters of a function of x; see `functions.apply`.

    Raises:
        ValueError: An unknown function.
    """
    known = FUNCTIONS if y is None else BINARY
    if kind not in known:
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, known))}, got {kind!r}.")
    elements = loop.count * examples
    if elements == 0 or directions == 0:
        return
    other = x if y is None else y
    _elementwise_kernel[(triton.cdiv(elements, _BLOCK), directions)](
        out.memory,
        out.direction,
        out.example,
        x.memory,
        x.direction,
        x.example,
        other.memory,
        other.direction,
        other.example,
        loop.table,
        loop.count,
        elements,
        first,
        second,
        KIND=kind,
        IS_BINARY=y is not None,
        RANK=loop.rank,
        BLOCK=_BLOCK,
        enable_fp_fusion=True,
    )
