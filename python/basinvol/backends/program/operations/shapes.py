"""Views, and operations that put values together."""

from __future__ import annotations

import math

from ..builder import Builder
from ..values import Factor, NotAView, Value
from .registry import Call, as_value, rule


@rule(
    "alias.default",
    "clone.default",
    "contiguous.default",
    "detach.default",
    "dropout.default",
    "feature_dropout.default",
    "alpha_dropout.default",
    "to.dtype",
    "to.device",
    "to.dtype_layout",
    "_to_copy.default",
    is_view=True,
)
def _same(b: Builder, call: Call) -> Value:
    name = "input" if "input" in call.given else "self"
    call.expect(not call.given.get("train", False), "is in training mode")
    call.expect(call.node.meta["val"].dtype == call.tensor(name).dtype, "changes the type")
    x: Value = call[name]
    return x


@rule(
    "view.default",
    "reshape.default",
    "_unsafe_view.default",
    "flatten.using_ints",
    "unflatten.int",
    "unsqueeze.default",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    is_view=True,
)
def _reshaped(b: Builder, call: Call) -> Value:
    return b.viewed(call["self"], call.shape)


@rule("permute.default", is_view=True)
def _permuted(b: Builder, call: Call) -> Value:
    x: Value = call["self"]
    return x.permute([d % len(x.dims) for d in call["dims"]])


@rule("transpose.int", "t.default", is_view=True)
def _transposed(b: Builder, call: Call) -> Value:
    x: Value = call["self"]
    order = list(range(len(x.dims)))
    first = call.given.get("dim0", -2) % len(order)
    second = call.given.get("dim1", -1) % len(order)
    order[first], order[second] = order[second], order[first]
    return x.permute(order)


@rule("select.int", is_view=True)
def _selected(b: Builder, call: Call) -> Value:
    x: Value = call["self"]
    dim = call["dim"] % len(x.dims)
    try:
        return x.select(dim, call["index"] % x.shape[dim])
    except NotAView:
        return b.copied(x).select(dim, call["index"] % x.shape[dim])


@rule("slice.Tensor", is_view=True)
def _sliced(b: Builder, call: Call) -> Value:
    x: Value = call["self"]
    dim = call["dim"] % len(x.dims)
    size = x.shape[dim]
    start, _, step = slice(call["start"], call["end"], call["step"]).indices(size)
    return _part_of(b, x, dim, start, call.shape[dim], step)


@rule("narrow.default", is_view=True)
def _narrowed(b: Builder, call: Call) -> Value:
    x: Value = call["self"]
    dim = call["dim"] % len(x.dims)
    return _part_of(b, x, dim, call["start"] % x.shape[dim], call["length"], 1)


@rule("split.Tensor", "split_with_sizes.default", "split.sizes", "chunk.default", "unsafe_chunk.default", is_view=True)
def _divided(b: Builder, call: Call) -> tuple[Value, ...]:
    x: Value = call["self"]
    dim = call["dim"] % len(x.dims)
    start, parts = 0, []
    for part in call.node.meta["val"]:
        size = part.shape[dim]
        parts.append(_part_of(b, x, dim, start, size, 1))
        start += size
    return tuple(parts)


@rule("unbind.int", is_view=True)
def _unbound(b: Builder, call: Call) -> tuple[Value, ...]:
    x: Value = call["self"]
    dim = call["dim"] % len(x.dims)
    try:
        return tuple(x.select(dim, i) for i in range(x.shape[dim]))
    except NotAView:
        copied = b.copied(x)
        return tuple(copied.select(dim, i) for i in range(x.shape[dim]))


@rule("expand.default", "expand_as.default", "broadcast_to.default", is_view=True)
def _expanded(b: Builder, call: Call) -> Value:
    x: Value = call["self"]
    return x.expand(call.shape)


@rule("broadcast_tensors.default", is_view=True)
def _broadcast(b: Builder, call: Call) -> tuple[Value, ...]:
    return tuple(as_value(b, part).expand(call.shape) for part in call["tensors"])


def _part_of(b: Builder, x: Value, dim: int, start: int, size: int, step: int) -> Value:
    try:
        return x.narrow(dim, start, size, step)
    except NotAView:
        return b.copied(x).narrow(dim, start, size, step)


@rule("cat.default")
def _joined(b: Builder, call: Call) -> Value:
    parts = [as_value(b, part) for part in call["tensors"]]
    parts = [part for part in parts if math.prod(part.shape)]
    return _put_together(b, call, parts, call["dim"] % len(call.shape))


@rule("stack.default")
def _stacked(b: Builder, call: Call) -> Value:
    dim = call["dim"] % len(call.shape)
    shape = [*call.shape[:dim], 1, *call.shape[dim + 1 :]]
    return _put_together(b, call, [b.viewed(as_value(b, part), shape) for part in call["tensors"]], dim)


def _put_together(b: Builder, call: Call, parts: list[Value], dim: int) -> Value:
    """Values one after the other along a dimension that is not that of the examples."""
    led = next((part for part in parts if part.has_examples), parts[0])
    call.expect(not any(f.is_examples for f in led.dims[dim]), "joins examples")
    dims = [d if i != dim else (Factor(call.shape[dim], 1),) for i, d in enumerate(led.dims)]
    out = b.new(b.stage(*parts), dims)
    start = 0
    for part in parts:
        size = part.shape[dim]
        b.assign(out.narrow(dim, start, size), part)
        start += size
    return out


@rule("masked_fill.Scalar", "masked_fill.Tensor")
def _filled(b: Builder, call: Call) -> Value:
    x, mask = call.value(b, "self"), call.value(b, "mask")
    return _where(b, call, mask, call["value"], x)


@rule("where.self", "where.ScalarOther", "where.ScalarSelf")
def _chosen(b: Builder, call: Call) -> Value:
    return _where(b, call, call.value(b, "condition"), call["self"], call.value(b, "other"))


def _where(b: Builder, call: Call, mask: Value, yes: object, no: Value) -> Value:
    full = no.expand(call.shape)
    # Laid out as the sum would be, which has all dimensions of both; then written over where the mask is set.
    out = b.binary("add", full, b.binary("multiply", mask, b.constant(0.0)))
    b.instructions.pop()
    b.assign(out, full)
    b.combine("fill_where", mask, as_value(b, yes), out)
    return out


@rule("pad.default", "constant_pad_nd.default")
def _padded(b: Builder, call: Call) -> Value:
    x = call.value(b, "self")
    call.expect(call.given.get("mode", "constant") == "constant", "pads with something other than a constant")
    pads: list[int] = list(call["pad"])
    fill = float(call["value"] or 0.0)
    dims, inner = list(x.dims), []
    for i in range(0, len(pads), 2):
        d = len(dims) - 1 - i // 2
        call.expect(min(pads[i], pads[i + 1]) >= 0 and len(dims[d]) <= 1, "pads a merged dimension or cuts")
        if pads[i] or pads[i + 1]:
            inner.append((d, pads[i], x.shape[d]))
            dims[d] = (Factor(call.shape[d], 1),)
    out = b.new(x.space, dims)
    b.assign(out, b.constant(fill))
    part = out
    for d, before, size in inner:
        part = part.narrow(d, before, size)
    b.assign(part, x)
    return out
