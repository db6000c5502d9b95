// Logarithm and exponential that give the same bits on every backend; python/basinvol/search/portable_math.py is the
// same, line by line, and says why. Compile without floating-point contraction.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "philox.h"  // BASINVOL_HD

namespace basinvol {

BASINVOL_HD inline double portable_log(double x) {
  int exponent;
  double mantissa = std::frexp(x, &exponent);
  double power = exponent;
  if (mantissa < 0.7071067811865476) {
    mantissa = mantissa * 2.0;
    power = power - 1.0;
  }
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  const double z = s * s;
  double series = 1.0 / 23;
  for (int k = 10; k >= 0; --k) series = series * z + 1.0 / (2 * k + 1);
  return power * 0.6931471805599453 + s * 2.0 * series;
}

BASINVOL_HD inline double portable_exp(double x) {
  x = x < -700.0 ? -700.0 : (x > 700.0 ? 700.0 : x);
  const double power = std::floor(x * 1.4426950408889634 + 0.5);
  const double r = (x - power * 0.693147180369123816490) - power * 1.90821492927058770002e-10;
  double series = 1.0;
  for (int k = 14; k >= 1; --k) series = series * r / double(k) + 1.0;
  const std::int64_t bits = (static_cast<std::int64_t>(power) + 1023) << 52;
  double two_to_power;
  std::memcpy(&two_to_power, &bits, sizeof bits);
  return series * two_to_power;
}

}  // namespace basinvol
