"""The activations, applied elementwise in float32 inside other kernels.

Reference: torch.relu, torch.tanh and torch.nn.functional.gelu (the exact one). A NaN stays a NaN.
"""

from __future__ import annotations

import triton
import triton.language as tl

ACTIVATIONS = ("identity", "relu", "tanh", "gelu")


@triton.jit
def activate(x, KIND: tl.constexpr):
    """Return the activation of x, where KIND is one of `ACTIVATIONS`."""
    if KIND == "relu":
        x = tl.where(x < 0.0, 0.0, x)
    elif KIND == "tanh":
        x = tanh(x)
    elif KIND == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.70710678))  # 1 / sqrt(2)
    return x


@triton.jit
def tanh(x):
    """Return the hyperbolic tangent."""
    # Near zero, one minus a quotient would cancel, so the polynomial of Cephes (tanhf) takes its place below 0.625.
    z = x * x
    p = ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z) + 1.33314422036e-1) * z
    near = (p - 3.33332819422e-1) * z * x + x
    size = tl.abs(x)
    far = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
    return tl.where(size < 0.625, near, tl.where(x < 0.0, -far, far))
