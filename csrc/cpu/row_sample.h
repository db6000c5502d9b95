// A sample of the rows that estimates how their mean loss changes along a ray.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "ray_search.h"

namespace basinvol {
namespace cpu {

constexpr std::int64_t kSampleShare = 16;      // of the rows, where there are many
constexpr std::int64_t kFewestSampled = 1250;  // for a slope within a few thousandths; or a quarter of the rows
constexpr std::int64_t kSampledLevel = 1600;   // rows below which a sample is as good as all of them

inline std::int64_t sample_size(std::int64_t num_rows) {
  return std::max(num_rows / kSampleShare, std::min(num_rows / 4, kFewestSampled));
}

// The first level that is large enough for samples. Losses that may be negative have no sizes to sample by.
inline int first_sampled_level(const std::vector<std::int64_t>& levels, bool is_nonnegative) {
  for (std::size_t level = 0; is_nonnegative && level < levels.size(); ++level)
    if (levels[level] >= kSampledLevel) return static_cast<int>(level);
  return kNoSamples;
}

struct RowSample {
  std::vector<std::int64_t> rows;  // in order
  std::vector<double> weights;     // 1 / probability of each
};

// Rows 0 .. num_rows - 1 with probabilities in proportion to their losses, as the change of a loss is about in
// proportion to it, and a little for those that have none. Systematic sampling: a step through the summed sizes, so
// that the result is a function of the losses. Empty if they are not finite.
inline RowSample sample_rows(const std::vector<double>& losses, std::int64_t num_rows) {
  constexpr double kFloor = 0.1;  // of the mean
  constexpr int kMostRounds = 20;
  RowSample sample;
  double total = 0.0;
  for (std::int64_t row = 0; row < num_rows; ++row) total += losses[static_cast<std::size_t>(row)];
  if (!(total > 0.0 && total < std::numeric_limits<double>::infinity())) return sample;
  const double floor = kFloor * total / static_cast<double>(num_rows);

  // A row larger than the step is taken for certain, and the step shrinks for the others.
  double step = std::numeric_limits<double>::infinity();
  std::int64_t num_certain = 0;
  const std::int64_t size = sample_size(num_rows);
  for (int round = 0; round < kMostRounds; ++round) {
    double rest = 0.0;
    std::int64_t certain = 0;
    for (std::int64_t row = 0; row < num_rows; ++row) {
      const double measure = losses[static_cast<std::size_t>(row)] + floor;
      if (measure >= step)
        ++certain;
      else
        rest += measure;
    }
    const bool is_settled = round > 0 && certain == num_certain;
    num_certain = certain;
    if (is_settled || certain >= size) break;
    step = rest / static_cast<double>(size - certain);
  }

  double passed = 0.5 * step;
  for (std::int64_t row = 0; row < num_rows; ++row) {
    const double measure = losses[static_cast<std::size_t>(row)] + floor;
    if (measure >= step) {
      sample.rows.push_back(row);
      sample.weights.push_back(1.0);
      continue;
    }
    passed += measure;
    if (passed < step) continue;
    passed -= step;
    sample.rows.push_back(row);
    sample.weights.push_back(step / measure);
  }
  return sample;
}

// The summed change of the losses of rows 0 .. num_rows - 1 from `before` to `after`, which is known for the rows of
// the sample. The log of a loss goes on about as it came from `center`, and all losses about as one: the change is
// regressed on what these two say, with the weights that make the variance least, and the sample corrects the rest
// without bias (Saerndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, section 6.4).
inline double summed_change(const RowSample& sample, const std::vector<double>& center,
                            const std::vector<double>& before, std::int64_t num_rows,
                            const std::vector<double>& after) {
  const auto bend = [&](std::int64_t row) {
    constexpr double kTiny = 1e-9;
    const auto at = static_cast<std::size_t>(row);
    return before[at] * std::log((before[at] + kTiny) / (center[at] + kTiny));
  };
  double aa = 0.0, ab = 0.0, bb = 0.0, ay = 0.0, by = 0.0;
  for (std::size_t i = 0; i < sample.rows.size(); ++i) {
    const double a = before[static_cast<std::size_t>(sample.rows[i])], b = bend(sample.rows[i]);
    const double w = sample.weights[i] * (sample.weights[i] - 1.0), y = after[i] - a;
    aa += w * a * a;
    ab += w * a * b;
    bb += w * b * b;
    ay += w * a * y;
    by += w * b * y;
  }
  const double determinant = aa * bb - ab * ab;
  double slope_a = 0.0, slope_b = 0.0;
  if (determinant > 1e-9 * aa * bb) {
    slope_a = (bb * ay - ab * by) / determinant;
    slope_b = (aa * by - ab * ay) / determinant;
  }
  double sum = 0.0;
  if (slope_a != 0.0 || slope_b != 0.0)
    for (std::int64_t row = 0; row < num_rows; ++row)
      sum += slope_a * before[static_cast<std::size_t>(row)] + slope_b * bend(row);
  for (std::size_t i = 0; i < sample.rows.size(); ++i) {
    const double a = before[static_cast<std::size_t>(sample.rows[i])];
    sum += sample.weights[i] * (after[i] - a - slope_a * a - slope_b * bend(sample.rows[i]));
  }
  return sum;
}

}  // namespace cpu
}  // namespace basinvol
