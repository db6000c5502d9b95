// Activations and per-example losses, host and device.
#pragma once

#include <cmath>
#include <cstdint>

#include "philox.h"  // BASINVOL_HD

namespace basinvol {

enum class Activation { identity, relu, tanh, gelu };
enum class Loss { cross_entropy, bce_with_logits, mse };

BASINVOL_HD inline float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::relu:
      return x < 0.0f ? 0.0f : x;  // keeps NaN, as torch does
    case Activation::tanh:
      return std::tanh(x);
    case Activation::gelu:
      return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    default:
      return x;
  }
}

// ln sum exp(x) - x[label]. Written as ln(1 + the other terms) where the label leads, which keeps the tiny losses of
// confident networks that float32 log-softmax rounds to 0.
BASINVOL_HD inline double cross_entropy(const float* x, int num_classes, std::int64_t label) {
  int best = 0;
  for (int c = 1; c < num_classes; ++c) {
    if (x[c] > x[best]) best = c;
  }
  double others = 0.0;
  for (int c = 0; c < num_classes; ++c) {
    if (c != best) others += std::exp(static_cast<double>(x[c]) - x[best]);
  }
  return std::log1p(others) + (static_cast<double>(x[best]) - x[label]);
}

BASINVOL_HD inline double bce_with_logits(float x, float target) {
  const double logit = x;
  return (logit > 0.0 ? logit : 0.0) - logit * target + std::log1p(std::exp(-std::fabs(logit)));
}

BASINVOL_HD inline double squared_error(float x, float target) {
  const double difference = static_cast<double>(x) - target;
  return difference * difference;
}

}  // namespace basinvol
