"""Products with weights: linear maps and convolutions, and what is done to their results at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..builder import Builder, padded
from ..program import IDENTITY, Function, Instruction, Operand
from ..values import ROWS_AT_ONCE, Dim, Factor, NotAView, Space, Value, factors_of_example
from .registry import Call, rule


@dataclass
class Product:
    """A product that was emitted, and the weight and bias that it was made from.

    Attributes:
        instruction: the instruction.
        weight, bias: they.
        inputs: the dimensions of the weight over which it sums, one after the other.
        outputs: its dimension of outputs.
    """

    instruction: Instruction
    weight: Value
    bias: Value | None
    inputs: tuple[int, ...]
    outputs: int


@rule("linear.default")
def _linear(b: Builder, call: Call) -> Value:
    return _multiplied(b, call, call.value(b, "input"), call.value(b, "weight"), 1, 0, call.optional(b, "bias"))


@rule("addmm.default")
def _addmm(b: Builder, call: Call) -> Value:
    call.expect(call["alpha"] == 1 and call["beta"] == 1, "is scaled")
    bias = call.value(b, "self")
    call.expect(bias.space != Space.BLOCK and len(bias.dims) == 1, "adds something other than a bias")
    return _multiplied(b, call, call.value(b, "mat1"), call.value(b, "mat2"), 0, 1, bias)


@rule("matmul.default", "mm.default", "bmm.default")
def _matmul(b: Builder, call: Call) -> Value:
    x, y = call.value(b, "self"), call.given.get("other", call.given.get("mat2"))
    y = call.value(b, "other" if "other" in call.given else "mat2")
    if y.space != Space.BLOCK and len(y.dims) == 2:
        return _multiplied(b, call, x, y, 0, 1, None)
    call.expect(len(x.dims) >= 2 and len(y.dims) >= 2, "multiplies vectors")
    return _batched(b, call, x, y)


def _multiplied(
    b: Builder, call: Call, x: Value, weight: Value, inputs: int, outputs: int, bias: Value | None
) -> Value:
    """x [..., k] times a weight, whose dimensions `inputs` and `outputs` say how it lies."""
    call.expect(weight.space != Space.BLOCK, "has a weight that depends on the data")
    packed = b.packed(weight, [weight.dims[inputs]], weight.dims[outputs])
    rows, count, stride = b.rows(x)
    width = weight.shape[outputs]
    out = b.product_output(b.stage(x, weight, bias), rows.dims[:-1], width)
    call.expect(out.space != Space.PERTURBED or not out.has_examples, "is the same for all examples")
    instruction = b.emit(
        "product",
        [Operand(rows, []), Operand(packed, []), _bias(bias), None],
        Operand(out, [(count, padded(width)), (width, 1)]),
        [count, weight.shape[inputs], width, stride],
    )
    b.products[out.buffer] = Product(instruction, weight, bias, (inputs,), outputs)
    return out


def _batched(b: Builder, call: Call, x: Value, y: Value) -> Value:
    """x [..., m, k] times y [..., k, n], both of which may depend on the data."""
    led = x if math.prod(x.shape[:-2]) >= math.prod(y.shape[:-2]) else y
    lead = led.dims[:-2]
    outer = led.shape[:-2]
    left, right = (matrices(b, v.expand([*outer, *v.shape[-2:]])) for v in (x, y))
    stage = b.stage(x, y)
    out = b.new(stage, [*lead, x.dims[-2], y.dims[-1]])
    b.emit("batched", [left, right], matrices(b, out))
    return out


def matrices(b: Builder, value: Value, is_copy: bool = False) -> Operand:
    """A value [..., rows, columns] as matrices: extents of the batch, of rows and of columns.

    Args:
        b: the program so far.
        value: the value.
        is_copy: whether it was copied already, because its strides allowed no such extents.
    """
    parts = [factors_of_example(dims) for dims in (value.dims[:-2], value.dims[-2:-1], value.dims[-1:])]
    if any(len(part) > 1 for part in parts):
        if is_copy:
            raise NotAView("matrices that are not evenly spaced")
        return matrices(b, b.copied(value), is_copy=True)
    return Operand(value, [part[0] if part else (1, 0) for part in parts])


@rule("conv2d.default", "conv2d.padding", "conv1d.default", "conv1d.padding")
def _convolution(b: Builder, call: Call) -> Value:
    x, weight, bias = call.value(b, "input"), call.value(b, "weight"), call.optional(b, "bias")
    call.expect(weight.space != Space.BLOCK, "has a weight that depends on the data")
    is_flat = len(weight.dims) == 3
    if is_flat:  # an image one pixel high
        x = x.with_dims([*x.dims[:-1], (), x.dims[-1]])
        weight = weight.with_dims([*weight.dims[:-1], (), weight.dims[-1]])
    call.expect(len(x.dims) == 4, "has no dimension of examples")
    kernel = weight.shape[2:]
    stride, dilation = ([1] * is_flat + list(_pair(call[name], 2 - is_flat)) for name in ("stride", "dilation"))
    padding = [0] * is_flat + _padding(call, kernel[is_flat:], dilation[is_flat:])
    groups, channels = call["groups"], weight.shape[1]
    outputs = weight.shape[0] // groups
    image = as_image(b, x)
    _, _, height, width = x.shape
    out_size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip((height, width), padding, dilation, kernel, stride, strict=True)
    ]
    window = [height, width, *kernel, *stride, *padding, *dilation, *out_size]
    if channels == 1 and outputs == 1 and groups > 1:
        out = _depthwise(b, image, weight, bias, window)
    else:
        out = _dense(b, call, image, weight, bias, window, groups)
    return out.with_dims([out.dims[0], out.dims[1], out.dims[3]]) if is_flat else out


def _dense(
    b: Builder, call: Call, image: Value, weight: Value, bias: Value | None, window: list[int], groups: int
) -> Value:
    height, width = window[-2:]
    channels, outputs = weight.shape[1], weight.shape[0] // groups
    total = outputs * groups
    stride = padded(total - outputs + padded(outputs))
    stage = b.stage(image, weight, bias)
    out = _image_output(b, stage, image.dims[0], total, stride, height, width)
    extents = [(height, width * stride), (width, stride), (total, 1)]
    is_product = window[2:10] == [1, 1, 1, 1, 0, 0, 1, 1] and groups == 1
    if is_product:  # one pixel at a time
        rows, count, x_stride = b.rows(image.permute([0, 2, 3, 1]))
        packed = b.packed(weight, [weight.dims[1]], weight.dims[0])
        instruction = b.emit(
            "product",
            [Operand(rows, []), Operand(packed, []), _bias(bias), None],
            Operand(out, [(height * width, stride), (total, 1)]),
            [count, channels, total, x_stride],
        )
        b.products[out.buffer] = Product(instruction, weight, bias, (1,), 0)
        return out
    instruction = b.emit(
        "convolution",
        [_image(image), Operand(_packed_groups(b, weight, groups), []), _bias(bias), None],
        Operand(out, extents),
        [*window, channels, outputs, groups],
    )
    if groups == 1:
        b.products[out.buffer] = Product(instruction, weight, bias, (2, 3, 1), 0)
    return out


def _packed_groups(b: Builder, weight: Value, groups: int) -> Value:
    """The weights of all groups as panels, group after group."""
    if groups == 1:
        return b.packed(weight, [weight.dims[2], weight.dims[3], weight.dims[1]], weight.dims[0])
    outputs = weight.shape[0] // groups
    inputs = math.prod(weight.shape[1:])
    each = inputs * padded(outputs)
    out = b.new(weight.space, [(Factor(groups * each, 1),)])
    for g in range(groups):
        part = weight.narrow(0, g * outputs, outputs)
        dims = [part.dims[2], part.dims[3], part.dims[1], part.dims[0] or (Factor(1, 0),)]
        extents = [(f.size, f.stride or 0) for dim in dims for f in dim]
        b.emit("pack", [Operand(part, extents)], Operand(out.narrow(0, g * each, each), [(each, 1)]))
    return out


def _depthwise(b: Builder, image: Value, weight: Value, bias: Value | None, window: list[int]) -> Value:
    channels = weight.shape[0]
    taps = b.copied(weight.permute([2, 3, 1, 0]))
    stage = b.stage(image, weight, bias)
    stride = padded(channels)
    out = _image_output(b, stage, image.dims[0], channels, stride, *window[-2:])
    extents = [(window[-2], window[-1] * stride), (window[-1], stride), (channels, 1)]
    b.emit("depthwise", [_image(image), Operand(taps, []), _bias(bias)], Operand(out, extents), [*window, channels])
    return out


def as_image(b: Builder, x: Value) -> Value:
    """A value [n, channels, height, width] whose channels lie side by side, copied if need be."""
    channels, height, width = x.dims[1:]
    is_even = all(len(dim) <= 1 for dim in (channels, height, width))
    if is_even and (not channels or channels[0].stride == 1):
        return x
    return b.copied(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2])


def _image_output(
    b: Builder, space: Space, examples: Dim, channels: int, stride: int, height: int, width: int
) -> Value:
    """Room for an image [n, channels, height, width] whose channels lie side by side, `stride` floats to a pixel."""
    value = b.new(space, [examples, (Factor(height, 1),), (Factor(width, 1),), (Factor(stride, 1),)])
    value.buffer.slack = ROWS_AT_ONCE * stride
    dims = [value.dims[0], (Factor(height, width * stride),), (Factor(width, stride),), (Factor(channels, 1),)]
    return value.with_dims(dims).permute([0, 3, 1, 2])


def _image(x: Value) -> Operand:
    """The extents of height and width; channels lie side by side."""
    return Operand(x, image_extents(x))


def image_extents(x: Value) -> list[tuple[int, int]]:
    """(size, stride) of height and width."""
    return [(dim[0].size, dim[0].stride or 0) if dim else (1, 0) for dim in x.dims[2:]]


def _pair(given: Sequence[int], count: int) -> Sequence[int]:
    return given if len(given) == count else list(given) * count


def _padding(call: Call, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    given = call["padding"]
    if given == "valid":
        return [0] * len(kernel)
    if given == "same":
        both = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        call.expect(all(n % 2 == 0 for n in both), "pads one side more than the other")
        return [n // 2 for n in both]
    return list(_pair(given, len(kernel)))


def _bias(bias: Value | None) -> Operand | None:
    if bias is None:
        return None
    return Operand(bias, factors_of_example(bias.dims))


def apply_to_product(b: Builder, call: Call, x: Value, function: Function) -> Value | None:
    """Lets a product that only this call reads apply a function to its results; None if it cannot.

    Args:
        b: the program so far.
        call: the operation, which reads `x` as its argument "self".
        x: the result of the product.
        function: what to apply.
    """
    product = b.products.get(x.buffer)
    if product is None or product.instruction.function != IDENTITY or not call.is_last_use("self"):
        return None
    product.instruction.function = function
    return x


def add_to_product(b: Builder, call: Call, argument: str, x: Value, other: Value) -> Value | None:
    """Lets a product that only this call reads add another value to its results; None if it cannot.

    Args:
        b: the program so far.
        call: the operation.
        argument: the name of the argument that `x` is.
        x: the result of the product.
        other: what to add.
    """
    product = b.products.get(x.buffer)
    if product is None or not call.is_last_use(argument) or x.shape != other.shape:
        return None
    instruction = product.instruction
    if instruction.function != IDENTITY or instruction.inputs[3] is not None:
        return None
    at = b.instructions.index(instruction)
    if any(i.output.value.buffer is other.buffer for i in b.instructions[at:]):
        return None  # it is computed later
    stride = b.row_stride_like(x, other, instruction.output.extents[-1][0])
    if stride is None:
        return None
    instruction.inputs[3] = Operand(other, [(1, stride)])
    return x


def scale_outputs(b: Builder, x: Value, scale: Value, shift: Value) -> bool:
    """Puts x * scale + shift, by output, into the weight and bias of the product that gives x; false if it cannot.

    Args:
        b: the program so far.
        x: the result of the product.
        scale, shift: a number for every output.
    """
    product = b.products.get(x.buffer)
    if product is None or product.instruction.function != IDENTITY or product.instruction.inputs[3] is not None:
        return False
    weight, outputs = product.weight, product.outputs
    shape = [1] * len(weight.dims)
    shape[outputs] = weight.shape[outputs]
    scaled = b.binary("multiply", weight, scale.view(shape))
    bias = shift if product.bias is None else b.binary("add", b.binary("multiply", product.bias, scale), shift)
    packed = b.packed(scaled, [scaled.dims[d] for d in product.inputs], scaled.dims[outputs])
    product.instruction.inputs[1] = Operand(packed, [])
    product.instruction.inputs[2] = _bias(bias)
    b.products[x.buffer] = Product(product.instruction, scaled, bias, product.inputs, outputs)
    return True
