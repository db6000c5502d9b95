"""Pooling, means and sums."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..builder import Builder
from ..program import Operand
from ..values import Factor, Value, factors_of_example
from .products import as_image, image_extents
from .registry import Call, rule

Windows = list[tuple[int, int]]  # first and last of each output along one dimension


@rule("max_pool2d.default", "max_pool1d.default")
def _max_pool(b: Builder, call: Call) -> Value:
    x = _as_2d(call.value(b, "self"))
    count = 2 if "2d" in call.name else 1
    size, stride, padding, dilation = _options(call, count)
    call.expect(all(d == 1 for d in dilation), "is dilated")
    out = _shape_2d(call.shape, count)
    along = [
        [(max(0, i * s - p), min(n, i * s - p + k)) for i in range(o)]
        for n, k, s, p, o in zip(x.shape[2:], size, stride, padding, out, strict=True)
    ]
    return _flat(_pooled(b, x, True, along, [[1.0] * out[1]] * out[0]), count)


@rule("avg_pool2d.default", "avg_pool1d.default")
def _avg_pool(b: Builder, call: Call) -> Value:
    x = _as_2d(call.value(b, "self"))
    count = 2 if "2d" in call.name else 1
    size, stride, padding, _ = _options(call, count)
    out = _shape_2d(call.shape, count)
    along, spans = [], []
    for n, k, s, p, o in zip(x.shape[2:], size, stride, padding, out, strict=True):
        starts = [i * s - p for i in range(o)]
        along.append([(max(0, i), min(n, i + k)) for i in starts])
        counted = call["count_include_pad"]
        spans.append([min(i + k, n + p) - i if counted else min(n, i + k) - max(0, i) for i in starts])
    whole = call.given.get("divisor_override")
    factors = [[1.0 / (whole or height * width) for width in spans[1]] for height in spans[0]]
    return _flat(_pooled(b, x, False, along, factors), count)


@rule("adaptive_avg_pool2d.default", "adaptive_avg_pool1d.default")
def _adaptive_avg_pool(b: Builder, call: Call) -> Value:
    x = _as_2d(call.value(b, "self"))
    count = 2 if "2d" in call.name else 1
    return _flat(_averaged(b, x, _shape_2d(call.shape, count)), count)


@rule("mean.dim", "sum.dim_IntList", "amax.default")
def _reduced(b: Builder, call: Call) -> Value:
    x = call.value(b, "self")
    rank = len(x.dims)
    dims = [d % rank for d in (call["dim"] if call["dim"] else range(rank))]
    call.expect(not any(f.is_examples for d in dims for f in x.dims[d]), "is over the examples")
    is_mean = call.name.startswith("aten.mean")
    if is_mean and rank == 4 and sorted(dims) == [2, 3]:
        return b.viewed(_averaged(b, x, [1, 1]), call.shape)
    kept = [d for d in range(rank) if d not in dims]
    moved = x.permute([*kept, *dims])
    last = factors_of_example(moved.dims[len(kept) :])
    if len(last) > 1 or (last and last[0][1] != 1):
        moved = b.copied(moved)
        last = factors_of_example(moved.dims[len(kept) :])
    out = b.new(x.space, moved.dims[: len(kept)])
    rows = [(f.size, f.stride or 0) for dim in moved.dims[: len(kept)] for f in dim if not f.is_examples]
    to = [(f.size, f.stride or 0) for dim in out.dims for f in dim if not f.is_examples]
    count = math.prod(x.shape[d] for d in dims)
    b.emit(
        "reduce",
        [Operand(moved, [*rows, last[0] if last else (1, 1)])],
        Operand(out, [*to, (1, 0)]),
        [int(call.name.startswith("aten.amax"))],
        [1.0 / count if is_mean else 1.0],
    )
    return b.viewed(out, call.shape)


def _averaged(b: Builder, x: Value, out: Sequence[int]) -> Value:
    along = [[(i * n // o, -(-(i + 1) * n // o)) for i in range(o)] for n, o in zip(x.shape[2:], out, strict=True)]
    spans = [[end - start for start, end in windows] for windows in along]
    return _pooled(b, x, False, along, [[1.0 / (h * w) for w in spans[1]] for h in spans[0]])


def _pooled(b: Builder, x: Value, is_max: bool, along: Sequence[Windows], factors: Sequence[Sequence[float]]) -> Value:
    image = as_image(b, x)
    channels = image.shape[1]
    height, width = (len(windows) for windows in along)
    out = b.new(image.space, [image.dims[0], *_sizes(height, width, channels)])
    operand = Operand(out, [(height, width * channels), (width, channels), (channels, 1)])
    sizes = [int(is_max), channels, height, width]
    bounds = [bound for windows in along for window in windows for bound in window]
    b.emit(
        "pool", [Operand(image, image_extents(image))], operand, [*sizes, *bounds], [f for row in factors for f in row]
    )
    return out.permute([0, 3, 1, 2])


def _sizes(*sizes: int) -> list[tuple[Factor, ...]]:
    return [(Factor(size, 1),) for size in sizes]


def _as_2d(x: Value) -> Value:
    return x if len(x.dims) == 4 else x.with_dims([*x.dims[:-1], (), x.dims[-1]])


def _flat(out: Value, count: int) -> Value:
    return out if count == 2 else out.with_dims([*out.dims[:2], out.dims[3]])


def _shape_2d(shape: Sequence[int], count: int) -> list[int]:
    return [1] * (2 - count) + list(shape[-count:])


def _options(call: Call, count: int) -> list[list[int]]:
    """Kernel size, stride, padding and dilation along height and width."""
    found = []
    for name, neutral in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        given = call.given.get(name, [neutral])
        if name == "stride" and not given:
            given = call["kernel_size"]
        each = list(given) if isinstance(given, list | tuple) else [given]
        each = each if len(each) == count else each * count
        found.append([neutral] * (2 - count) + each)
    return found
