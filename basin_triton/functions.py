"""The functions of one and of two numbers that programs have, applied in float32 inside other kernels.

Reference: `Unary` and `Binary` of csrc/cpu/tensor_kernels.h, and the functions of these names in torch. A NaN stays a
NaN.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activations import activate, tanh
from .loss_math import log1p

FUNCTIONS = (
    *("identity", "relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "exp", "log", "sqrt"),
    *("rsqrt", "reciprocal", "negate", "abs", "square", "cube", "clamp", "affine", "erf", "softplus", "sin", "cos"),
)
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "fill_where")


@triton.jit
def apply(x, first, second, KIND: tl.constexpr):
    """Return a function of x, one of `FUNCTIONS`.

    Args:
        x: The numbers. float32
        first, second: The parameters of the function: slope of "leaky_relu", alpha of "elu", least and most of "clamp",
            factor and offset of "affine".
        KIND: The name of the function.
    """
    if KIND == "leaky_relu":
        x = tl.where(x < 0.0, x * first, x)
    elif KIND == "elu":
        t = tanh(0.5 * tl.where(x > 0.0, 0.0, x))
        x = tl.where(x > 0.0, x, first * tl.div_rn(2.0 * t, 1.0 - t))  # exp(x) - 1 without cancellation
    elif KIND == "gelu_tanh":
        x = x * _sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif KIND == "silu":
        x = x * _sigmoid(x)
    elif KIND == "sigmoid":
        x = _sigmoid(x)
    elif KIND == "exp":
        x = tl.exp(x)
    elif KIND == "log":
        x = tl.log(x)
    elif KIND == "sqrt":
        x = tl.sqrt_rn(x)
    elif KIND == "rsqrt":
        x = tl.div_rn(1.0, tl.sqrt_rn(x))
    elif KIND == "reciprocal":
        x = tl.div_rn(1.0, x)
    elif KIND == "negate":
        x = -x
    elif KIND == "abs":
        x = tl.abs(x)
    elif KIND == "square":
        x = x * x
    elif KIND == "cube":
        x = x * x * x
    elif KIND == "clamp":
        x = tl.where(x < first, first, x)
        x = tl.where(x > second, second, x)
    elif KIND == "affine":
        x = x * first + second
    elif KIND == "erf":
        x = tl.erf(x)
    elif KIND == "softplus":
        x = tl.where(x > 20.0, x, log1p(tl.exp(tl.where(x > 20.0, 0.0, x))))
    elif KIND == "sin":
        x = _sine(x, 0)
    elif KIND == "cos":
        x = _sine(x, 1)
    else:
        x = activate(x, KIND)
    return x


@triton.jit
def combine(x, y, KIND: tl.constexpr):
    """Return a function of x and y, one of `BINARY` but "fill_where"."""
    if KIND == "add":
        x = x + y
    elif KIND == "subtract":
        x = x - y
    elif KIND == "multiply":
        x = x * y
    elif KIND == "divide":
        x = tl.div_rn(x, y)
    elif KIND == "maximum":
        x = tl.where((x > y) | (x != x), x, y)
    elif KIND == "minimum":
        x = tl.where((x < y) | (x != x), x, y)
    return x


@triton.jit
def _sigmoid(x):
    return tl.div_rn(1.0, 1.0 + tl.exp(-x))


@triton.jit
def _sine(x, QUARTER: tl.constexpr):
    # sin(x), or cos(x) as the sine of a quarter of a turn more. The device library's own has a path for huge arguments
    # that needs a stack. Quarters are taken off in float64, exactly enough up to 10^8; polynomials as in `normals`.
    wide = x.to(tl.float64)
    turns = tl.floor(wide * 0.63661977236758134 + 0.5)
    y = (wide - turns * 1.5707963267948966).to(tl.float32)
    quadrant = turns.to(tl.int64) + QUARTER
    z = y * y
    s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * y + y
    c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0
    value = tl.where((quadrant & 1) != 0, c, s)
    return tl.where((quadrant & 2) != 0, -value, value)
