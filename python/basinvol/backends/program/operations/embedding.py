"""Rows of a table."""

from __future__ import annotations

from ..builder import Builder
from ..program import Operand
from ..values import Factor, Space, Value, factors_of_example
from .registry import Call, rule


@rule("embedding.default")
def _embedding(b: Builder, call: Call) -> Value:
    table, indices = call.value(b, "weight"), call.value(b, "indices")
    call.expect(table.space != Space.BLOCK, "has a table that depends on the data")
    call.expect(indices.is_data or indices.space == Space.CONSTANT, "has indices that depend on the parameters")
    count, width = table.shape
    rows, columns = (factors_of_example([dim]) or [(1, 0)] for dim in table.dims)
    call.expect(len(rows) == len(columns) == 1, f"has a table of {count} x {width} in several pieces")
    # Indices that are repeated, such as one token type for every example, are looked up once.
    once = indices.with_dims(() if all(f.stride == 0 for f in dim) else dim for dim in indices.dims)
    out = b.new(b.stage(table, indices), [*once.dims, (Factor(width, 1),)])
    b.emit("embed", [Operand(table, [rows[0], columns[0]]), Operand.of(once)], Operand.of(out))
    return out.expand(call.shape)
