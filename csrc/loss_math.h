// The activations and losses there are, and the activations as scalars, host and device.
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

}  // namespace basinvol
