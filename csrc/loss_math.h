// The activations and losses there are, as scalars, host and device.
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

// ln sum exp of values that come one by one: the largest, and the sum of exp(value - largest) over all others. Apart,
// because a well trained network's loss is ln(1 + others) with others near zero.
struct StreamingLogSumExp {
  float largest;
  double others = 0.0;

  BASINVOL_HD explicit StreamingLogSumExp(float first) : largest(first) {}

  BASINVOL_HD void add(float x) {
    if (x > largest) {
      const double shrink = std::exp(largest - x);
      others = others * shrink + shrink;
      largest = x;
    } else {
      others += std::exp(x - largest);  // a NaN comes this way and stays
    }
  }

  // How far it lies above x, one of the values.
  BASINVOL_HD double above(float x) const { return std::log1p(others) + (static_cast<double>(largest) - x); }
};

// The loss of one row, summed over its outputs, which come one by one in order.
class RowLoss {
 public:
  BASINVOL_HD RowLoss(Loss loss, std::int64_t label, const float* targets)
      : loss_(loss), label_(label), targets_(targets) {}

  BASINVOL_HD void add(int output, float x) {
    if (loss_ == Loss::cross_entropy) {
      if (output == 0)
        classes_ = StreamingLogSumExp(x);
      else
        classes_.add(x);
      if (output == label_) at_label_ = x;
    } else if (loss_ == Loss::bce_with_logits) {
      const double logit = x;
      sum_ += (logit > 0.0 ? logit : 0.0) - logit * targets_[output] + std::log1p(std::exp(-std::fabs(logit)));
    } else {
      const double difference = static_cast<double>(x) - targets_[output];
      sum_ += difference * difference;
    }
  }

  BASINVOL_HD double value() const { return loss_ == Loss::cross_entropy ? classes_.above(at_label_) : sum_; }

 private:
  Loss loss_;
  std::int64_t label_;    // cross-entropy
  const float* targets_;  // the others
  StreamingLogSumExp classes_{0.0f};
  float at_label_ = 0.0f;
  double sum_ = 0.0;
};

}  // namespace basinvol
