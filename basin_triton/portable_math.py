"""Computes logarithm and exponential in float64, with the same bits as every other backend.

Reference: basinvol's search/portable_math.py, which is the same line by line and explains the constants. Kernels
that use these functions must be compiled without fused multiply-adds.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def portable_log(x):
    """Return the natural logarithm of positive normal float64 numbers."""
    bits = x.to(tl.int64, bitcast=True)
    exponent = ((bits >> 52) & 0x7FF) - 1022
    mantissa = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FE0000000000000).to(tl.float64, bitcast=True)
    power = exponent.to(tl.float64)
    small = mantissa < 0.7071067811865476
    mantissa = tl.where(small, mantissa * 2.0, mantissa)
    power = tl.where(small, power - 1.0, power)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = z * 0.0 + 1.0 / 23
    for step in tl.static_range(11):
        series = series * z + 1.0 / (2 * (10 - step) + 1)
    return power * 0.6931471805599453 + s * 2.0 * series


@triton.jit
def portable_exp(x):
    """Return the exponential of float64 numbers, which are clamped to [-700, 700]."""
    x = tl.where(x < -700.0, -700.0, tl.where(x > 700.0, 700.0, x))
    power = tl.floor(x * 1.4426950408889634 + 0.5)
    r = (x - power * 0.693147180369123816490) - power * 1.90821492927058770002e-10
    series = r * 0.0 + 1.0
    for step in tl.static_range(14):
        series = series * r / (14 - step) + 1.0
    bits = (power.to(tl.int64) + 1023) << 52
    return series * bits.to(tl.float64, bitcast=True)
