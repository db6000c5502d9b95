"""Logarithm and exponential that give the same bits on every backend.

The radius search proposes points through log and exp. Libraries round these differently in the last bit, and then two
backends take different steps to the same crossing. Both functions here use only operations that IEEE 754 rounds in one
way (+ - x / and exact scaling by powers of two), in a fixed order; csrc/portable_math.h is the same, line by line.
Relative error: below 1e-15 where the result is not near zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SQRT_HALF = 0.7071067811865476
_LN_2 = 0.6931471805599453
_LN_2_HIGH = 0.693147180369123816490  # exact in products with small integers
_LN_2_LOW = 1.90821492927058770002e-10
_LOG2_E = 1.4426950408889634
_EXP_LIMIT = 700.0  # exp beyond it leaves the range of float64
_LOG_TERMS = 12  # s^2 < 0.0295, so the first dropped term is below 1e-19
_EXP_TERMS = 14  # |r| < 0.35, so the first dropped term is below 1e-18


def portable_log(x: Tensor) -> Tensor:
    """Natural logarithm of positive, finite, normal float64 values."""
    # A mantissa between sqrt(1/2) and sqrt(2) keeps s small on both sides of 1, where the logarithm is near zero.
    mantissa, exponent = torch.frexp(x)
    small = mantissa < _SQRT_HALF
    mantissa = torch.where(small, mantissa * 2.0, mantissa)
    power = exponent.double() - small.double()
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = torch.full_like(z, 1.0 / (2 * _LOG_TERMS - 1))
    for k in range(_LOG_TERMS - 2, -1, -1):
        series = series * z + 1.0 / (2 * k + 1)
    return power * _LN_2 + s * 2.0 * series


def portable_exp(x: Tensor) -> Tensor:
    """Exponential of float64 values, which are clamped to [-700, 700]."""
    x = x.clamp(-_EXP_LIMIT, _EXP_LIMIT)
    power = torch.floor(x * _LOG2_E + 0.5)
    r = (x - power * _LN_2_HIGH) - power * _LN_2_LOW  # in two parts: the rounding of one ln 2 grows with `power`
    series = torch.ones_like(r)
    for k in range(_EXP_TERMS, 0, -1):
        series = series * r / float(k) + 1.0
    # The power of two is written into the exponent bits, because a library may round exp2.
    two_to_power = (power.to(torch.int64) + 1023 << 52).view(torch.float64)
    return series * two_to_power
