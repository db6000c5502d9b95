// Small problems with answers from plain float64 loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "boundary.h"

namespace basinvol {

inline int num_checks = 0;

inline void expect(bool holds, const std::string& what) {
  ++num_checks;
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

struct Problem {
  std::vector<int> widths;
  Activation activation;
  Loss loss;
  bool has_background;
  std::vector<std::int64_t> levels;

  std::vector<float> parameters, scale, inputs, targets;
  std::vector<std::int64_t> labels, sizes, weight_at, bias_at;

  void fill(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (std::size_t l = 0; l + 1 < widths.size(); ++l) {
      weight_at.push_back(static_cast<std::int64_t>(parameters.size()));
      for (int i = 0; i < widths[l] * widths[l + 1]; ++i)
        parameters.push_back(normal(random) / std::sqrt(static_cast<float>(widths[l])));
      bias_at.push_back(static_cast<std::int64_t>(parameters.size()));
      for (int i = 0; i < widths[l + 1]; ++i) parameters.push_back(0.1f * normal(random));
      sizes.push_back(widths[l] * widths[l + 1]);
      sizes.push_back(widths[l + 1]);
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) scale.push_back(0.5f + std::fabs(normal(random)));
    const std::int64_t count = levels.back();
    for (std::int64_t i = 0; i < count * widths.front(); ++i)
      inputs.push_back(has_background && random() % 5 != 0 ? -0.42f : normal(random));
    for (std::int64_t i = 0; i < count; ++i) labels.push_back(static_cast<std::int64_t>(random() % widths.back()));
    for (std::int64_t i = 0; i < count * widths.back(); ++i) targets.push_back(static_cast<float>(random() % 2));
  }

  std::vector<Layer> layers() const {
    std::vector<Layer> found;
    for (std::size_t l = 0; l + 1 < widths.size(); ++l) {
      const bool is_last = l + 2 == widths.size();
      found.push_back({widths[l],
                       widths[l + 1],
                       {parameters.data() + weight_at[l], weight_at[l]},
                       {parameters.data() + bias_at[l], bias_at[l]},
                       is_last ? Activation::identity : activation});
    }
    return found;
  }

  // Mean loss on the first `count` rows at center + radius x move, in float64.
  template <typename Number>
  double loss_at(const std::vector<Number>& move, double radius, std::int64_t count) const {
    double sum = 0.0;
    for (std::int64_t row = 0; row < count; ++row) {
      std::vector<double> x(inputs.begin() + row * widths.front(), inputs.begin() + (row + 1) * widths.front());
      for (std::size_t l = 0; l + 1 < widths.size(); ++l) {
        std::vector<double> y(widths[l + 1]);
        const auto at = [&](std::int64_t i) { return parameters[i] + radius * move[i]; };
        for (int j = 0; j < widths[l + 1]; ++j) {
          y[j] = at(bias_at[l] + j);
          for (int k = 0; k < widths[l]; ++k) y[j] += at(weight_at[l] + j * widths[l] + k) * x[k];
          if (l + 2 == widths.size() || activation == Activation::identity) continue;
          if (activation == Activation::relu) y[j] = std::max(y[j], 0.0);
          if (activation == Activation::tanh) y[j] = std::tanh(y[j]);
          if (activation == Activation::gelu) y[j] = 0.5 * y[j] * (1.0 + std::erf(y[j] / std::sqrt(2.0)));
        }
        x = y;
      }
      sum += row_loss(x, row);
    }
    return sum / static_cast<double>(count);
  }

  double row_loss(const std::vector<double>& x, std::int64_t row) const {
    const double largest = *std::max_element(x.begin(), x.end());
    double sum = 0.0;
    for (std::size_t j = 0; j < x.size(); ++j) {
      const double target = targets[row * static_cast<std::int64_t>(x.size()) + static_cast<std::int64_t>(j)];
      if (loss == Loss::cross_entropy) sum += std::exp(x[j] - largest);
      if (loss == Loss::mse) sum += (x[j] - target) * (x[j] - target);
      if (loss == Loss::bce_with_logits)
        sum += std::log1p(std::exp(-std::fabs(x[j]))) + std::max(x[j], 0.0) - x[j] * target;
    }
    if (loss == Loss::cross_entropy) return largest + std::log(sum) - x[labels[row]];
    return sum / static_cast<double>(x.size());
  }
};

inline std::vector<Target> make_targets(const Problem& problem, const std::vector<double>& center) {
  std::vector<Target> targets;
  for (int level = 0; level < static_cast<int>(problem.levels.size()); ++level) {
    for (double factor : {1.5, 3.0}) {
      const int relative = level > 0 ? static_cast<int>(targets.size()) - 2 : -1;
      targets.push_back(
          {level, factor * center[level], center[level], 0.5, 2.0, 0.05, 1e-4, relative, true, problem.levels[level]});
    }
  }
  return targets;
}

}  // namespace basinvol
