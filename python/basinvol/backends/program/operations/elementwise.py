"""Functions of every element, and of two values element by element."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..builder import Builder
from ..program import Function
from ..values import Value
from .products import add_to_product, apply_to_product
from .registry import Call, as_value, rule

PLAIN = {
    "relu": "relu",
    "silu": "silu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "reciprocal": "reciprocal",
    "neg": "negate",
    "abs": "abs",
    "erf": "erf",
    "sin": "sin",
    "cos": "cos",
    "square": "square",
}
_POWERS: dict[float, Function] = {
    2.0: ("square", 0.0, 0.0),
    3.0: ("cube", 0.0, 0.0),
    0.5: ("sqrt", 0.0, 0.0),
    -0.5: ("rsqrt", 0.0, 0.0),
    -1.0: ("reciprocal", 0.0, 0.0),
    1.0: ("identity", 0.0, 0.0),
}


@rule(*(f"{name}.default" for name in PLAIN))
def _plain(b: Builder, call: Call) -> Value:
    return _mapped(b, call, (PLAIN[call.name.split(".")[1]], 0.0, 0.0))


@rule("gelu.default")
def _gelu(b: Builder, call: Call) -> Value:
    return _mapped(b, call, ("gelu_tanh" if call["approximate"] == "tanh" else "gelu", 0.0, 0.0))


@rule("leaky_relu.default")
def _leaky_relu(b: Builder, call: Call) -> Value:
    return _mapped(b, call, ("leaky_relu", float(call["negative_slope"]), 0.0))


@rule("elu.default")
def _elu(b: Builder, call: Call) -> Value:
    call.expect(call["scale"] == 1 and call["input_scale"] == 1, "is scaled")
    return _mapped(b, call, ("elu", float(call["alpha"]), 0.0))


@rule("softplus.default")
def _softplus(b: Builder, call: Call) -> Value:
    call.expect(call["beta"] == 1 and call["threshold"] == 20, "has other options than torch's defaults")
    return _mapped(b, call, ("softplus", 0.0, 0.0))


@rule("relu6.default")
def _relu6(b: Builder, call: Call) -> Value:
    return _mapped(b, call, ("clamp", 0.0, 6.0))


@rule("hardtanh.default")
def _hardtanh(b: Builder, call: Call) -> Value:
    return _mapped(b, call, ("clamp", float(call["min_val"]), float(call["max_val"])))


@rule("clamp.default", "clamp_min.default", "clamp_max.default")
def _clamp(b: Builder, call: Call) -> Value:
    least, most = call.given.get("min"), call.given.get("max")
    from_below = -math.inf if least is None else float(least)
    return _mapped(b, call, ("clamp", from_below, math.inf if most is None else float(most)))


@rule("hardsigmoid.default", "hardswish.default")
def _hardsigmoid(b: Builder, call: Call) -> Value:
    x = call.value(b, "self")
    gate = b.unary(("clamp", 0.0, 1.0), b.unary(("affine", 1.0 / 6.0, 0.5), x))
    return b.binary("multiply", x, gate) if call.name.startswith("aten.hardswish") else gate


@rule("mish.default")
def _mish(b: Builder, call: Call) -> Value:
    x = call.value(b, "self")
    return b.binary("multiply", x, b.unary(("tanh", 0.0, 0.0), b.unary(("softplus", 0.0, 0.0), x)))


@rule("log_sigmoid.default")
def _log_sigmoid(b: Builder, call: Call) -> Value:
    x = call.value(b, "self")
    return b.unary(("negate", 0.0, 0.0), b.unary(("softplus", 0.0, 0.0), b.unary(("negate", 0.0, 0.0), x)))


@rule("pow.Tensor_Scalar")
def _power(b: Builder, call: Call) -> Value:
    exponent = float(call["exponent"])
    call.expect(exponent in _POWERS, f"has the exponent {exponent:g}")
    return _mapped(b, call, _POWERS[exponent])


@rule("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar", "rsub.Scalar", "rsub.Tensor")
def _add(b: Builder, call: Call) -> Value:
    x, y = call.value(b, "self"), call["other"]
    factor = float(call.given.get("alpha", 1))
    name = call.name.split(".")[1]
    if _is_number(y):
        number = float(y) * factor
        if name == "rsub":
            return _mapped(b, call, ("affine", -factor, float(y)))
        return _mapped(b, call, ("affine", 1.0, number if name == "add" else -number))
    other = as_value(b, y)
    if name == "add" and factor == 1.0:
        fused = add_to_product(b, call, "other", other, x) or add_to_product(b, call, "self", x, other)
        if fused is not None:
            return fused
    if name == "rsub":
        return b.binary("subtract", other, _times(b, x, factor))
    return b.binary("add" if name == "add" else "subtract", x, _times(b, other, factor))


@rule("mul.Tensor", "mul.Scalar", "div.Tensor", "div.Scalar")
def _multiply(b: Builder, call: Call) -> Value:
    x, y, is_product = call.value(b, "self"), call["other"], call.name.startswith("aten.mul")
    if _is_number(y):
        return _mapped(b, call, ("affine", float(y) if is_product else 1.0 / float(y), 0.0))
    return b.binary("multiply" if is_product else "divide", x, as_value(b, y))


@rule("maximum.default", "minimum.default")
def _extreme(b: Builder, call: Call) -> Value:
    kind = "maximum" if call.name.startswith("aten.maximum") else "minimum"
    return b.binary(kind, call.value(b, "self"), call.value(b, "other"))


def _mapped(b: Builder, call: Call, function: Function) -> Value:
    x = call.value(b, "self")
    fused = apply_to_product(b, call, x, function)
    return fused if fused is not None else b.unary(function, x)


def _times(b: Builder, x: Value, factor: float) -> Value:
    return x if factor == 1.0 else b.unary(("affine", factor, 0.0), x)


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) or (isinstance(given, Tensor) and given.ndim == 0)
