"""Normalizations, and the softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..builder import Builder
from ..program import Operand
from ..values import NotAView, Space, Value, aligned, factors_of_example
from .products import scale_outputs
from .registry import Call, as_value, rule


@rule("batch_norm.default")
def _batch_norm(b: Builder, call: Call) -> Value:
    x = call.value(b, "input")
    mean, variance = call["running_mean"], call["running_var"]
    is_known = isinstance(mean, Tensor) and isinstance(variance, Tensor) and not call.given.get("training", False)
    call.expect(is_known, "has no running statistics, or is in training mode")
    inverse = torch.rsqrt(variance.double() + call["eps"])
    weight, bias = call.optional(b, "weight"), call.optional(b, "bias")
    scale = b.constant(inverse.float())
    if weight is not None:
        scale = b.binary("multiply", weight, scale)
    shift = b.unary(("negate", 0.0, 0.0), b.binary("multiply", scale, b.constant(mean)))
    if bias is not None:
        shift = b.binary("add", shift, bias)
    if call.is_last_use("input") and scale_outputs(b, x, scale, shift):
        return x
    shape = [1, -1, *[1] * (len(x.dims) - 2)]
    return b.binary("add", b.binary("multiply", x, scale.view(shape)), shift.view(shape))


@rule("layer_norm.default")
def _layer_norm(b: Builder, call: Call) -> Value:
    return _by_rows(b, call, call["eps"], is_centered=True, bias=call.optional(b, "bias"))


@rule("rms_norm.default")
def _rms_norm(b: Builder, call: Call) -> Value:
    epsilon = torch.finfo(torch.float32).eps if call["eps"] is None else call["eps"]
    return _by_rows(b, call, epsilon, is_centered=False, bias=None)


def _by_rows(b: Builder, call: Call, epsilon: float, is_centered: bool, bias: Value | None) -> Value:
    x, weight = call.value(b, "input"), call.optional(b, "weight")
    rank = len(call["normalized_shape"])
    for given in (weight, bias):
        call.expect(given is None or given.space != Space.BLOCK, "has a weight that depends on the data")
    x = _side_by_side(b, x, rank)
    out = b.new(x.space if weight is None else b.stage(x, weight), x.dims)
    dense = [None if v is None else Operand.of(_side_by_side(b, v, len(v.dims))) for v in (weight, bias)]
    read, written = _rows(x, out, rank)
    b.emit("normalize", [read, *dense], written, [int(is_centered)], [epsilon])
    return out


@rule("group_norm.default")
def _group_norm(b: Builder, call: Call) -> Value:
    x, groups = call.value(b, "input"), call["num_groups"]
    inner = math.prod(x.shape[1:]) // groups
    parts = _side_by_side(b, b.viewed(x, [x.shape[0], groups, inner]), 1)
    out = b.new(x.space, parts.dims)
    read, written = _rows(parts, out, 1)
    b.emit("normalize", [read, None, None], written, [1], [call["eps"]])
    result = b.viewed(out, x.shape)
    shape = [1, -1, *[1] * (len(x.dims) - 2)]
    for kind, name in (("multiply", "weight"), ("add", "bias")):
        given = call.optional(b, name)
        if given is not None:
            result = b.binary(kind, result, given.view(shape))
    return result


@rule("softmax.int", "log_softmax.int")
def _softmax(b: Builder, call: Call) -> Value:
    x = call.value(b, "self")
    dim = call["dim"] % len(x.dims)
    order = [d for d in range(len(x.dims)) if d != dim] + [dim]
    moved = _side_by_side(b, x.permute(order), 1)
    out = b.new(x.space, moved.dims)
    given, to = _rows(moved, out, 1)
    b.emit("softmax", [given], to, [int("log_softmax" in call.name)])
    return out.permute([order.index(d) for d in range(len(order))])


@rule("_weight_norm.default")
def _weight_norm(b: Builder, call: Call) -> Value:
    """Of a weight that is kept as a length and a direction, as torch's weight normalization does."""
    v, g, dim = call.value(b, "v"), call.value(b, "g"), call["dim"]
    call.expect(v.space != Space.BLOCK and dim == 0, "is not over the rows of a weight")
    rows = _side_by_side(b, b.viewed(v, [v.shape[0], -1]), 1)
    square = b.unary(("square", 0.0, 0.0), rows)
    sums = b.new(square.space, square.dims[:-1])
    b.emit("reduce", [_rows(square, square, 1)[0]], Operand.of(sums), [0], [1.0])
    shape = [-1, *[1] * (len(v.dims) - 1)]
    factor = b.binary("multiply", as_value(b, g).view(shape), b.unary(("rsqrt", 0.0, 0.0), sums).view(shape))
    return b.binary("multiply", v, factor)


def _side_by_side(b: Builder, x: Value, rank: int) -> Value:
    """The value with the elements of its last dimensions side by side, copied if need be."""
    last = factors_of_example(x.dims[-rank:])
    return x if not last or (len(last) == 1 and last[0][1] == 1) else b.copied(x)


def _rows(x: Value, out: Value, rank: int) -> tuple[Operand, Operand]:
    """All rows of two values of the same shape, divided alike, and the elements of each row in one extent."""
    values = (x, out)
    last = [factors_of_example(value.dims[-rank:]) for value in values]
    if any(len(factors) > 1 for factors in last):
        raise NotAView("rows that are not side by side")
    lead = [[factor for dim in dims[:-rank] for factor in dim if not factor.is_examples] for dims in aligned(values)]
    given, to = (
        Operand(value, [*((f.size, f.stride or 0) for f in factors), row[0] if row else (1, 1)])
        for value, factors, row in zip(values, lead, last, strict=True)
    )
    return given, to
