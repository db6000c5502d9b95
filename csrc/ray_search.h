// The radius search along one ray; python/basinvol/search.py is the same algorithm for many rays and explains it.
// The two are held together bit for bit by tests/kernels/test_ray_search.py: change both or neither.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "portable_math.h"

namespace basinvol {

enum class Search { interpolate, bisect, grid };

// Positions in python's Status, and RUNNING.
enum Status : std::int8_t { RUNNING = -1, CROSSED = 0, CENSORED, CENTER_OUTSIDE, NON_FINITE, MAX_STEPS, NEGLIGIBLE };

struct SearchSettings {
  Search method = Search::interpolate;
  double radius_max = std::numeric_limits<double>::infinity();
  int max_steps = 100;
  std::vector<double> grid;
};

// One (level, cutoff) of a ray: what is looked for, and where to look first.
struct Target {
  int level;
  double cutoff;
  double center;  // loss at radius 0
  double guess_radius;
  double guess_slope;
  double rtol;     // relative width at which the bracket is closed
  int relative;    // target whose solution on the same ray scales the guess, or -1
  bool is_wanted;  // false: solved only to scale the guess of others
};

struct Bracket {
  double lower = 0.0;
  double upper = std::numeric_limits<double>::infinity();
  double value_lower = 0.0;
  double value_upper = std::numeric_limits<double>::quiet_NaN();
  double slope = 2.0;
  int steps = 0;
  std::int8_t status = RUNNING;
};

struct Probe {
  double radius;
  int level;
};

class RaySearch {
 public:
  // `unit`: length of this ray's grid unit.
  RaySearch(const std::vector<Target>& targets, const std::vector<int>& order, const SearchSettings& settings,
            double unit)
      : targets_(targets), order_(order), settings_(settings), unit_(unit), brackets_(targets.size()) {
    for (std::size_t t = 0; t < targets_.size(); ++t) {
      Bracket& b = brackets_[t];
      b.value_lower = targets_[t].center;
      b.slope = targets_[t].guess_slope;
      if (!(targets_[t].center <= targets_[t].cutoff)) {
        b.status = CENTER_OUTSIDE;
        b.upper = 0.0;
        b.value_upper = targets_[t].center;
      }
    }
  }

  // Continues from a bracket found before.
  void restore(std::size_t t, const Bracket& known) {
    brackets_[t] = known;
    brackets_[t].steps = 0;
  }

  // The ray is known to be inside at `lower`.
  void start(std::size_t t, double lower, double value) {
    brackets_[t].lower = lower;
    brackets_[t].value_lower = value;
    brackets_[t].status = judge(targets_[t], brackets_[t]);
  }

  // The ray is proved to be outside at `upper`, too short to matter; `value` bounds the loss there from below.
  void neglect(std::size_t t, double upper, double value) {
    brackets_[t].upper = upper;
    brackets_[t].value_upper = value;
    brackets_[t].status = NEGLIGIBLE;
  }

  void count_evaluation() { ++num_evaluations_; }

  // Where the loss is wanted next; false when every wanted target is finished.
  bool ask(Probe& probe) {
    int next = -1, highest = -1;
    bool is_needed = false;
    for (int t : order_) {
      if (brackets_[t].status != RUNNING) continue;
      if (next < 0) next = t;
      is_needed |= targets_[t].is_wanted;
      if (targets_[t].is_wanted) highest = std::max(highest, targets_[t].level);
    }
    if (!is_needed) return false;
    if (settings_.method == Search::grid) {  // every target sees every point
      probe = {settings_.grid[grid_index_] * unit_, highest};
    } else {
      probe = {propose(targets_[next], brackets_[next]), targets_[next].level};
    }
    ++brackets_[next].steps;
    return true;
  }

  // The losses of levels 0 .. probe.level at the probe.
  void tell(const Probe& probe, const double* losses) {
    ++num_evaluations_;
    ++grid_index_;
    for (std::size_t t = 0; t < targets_.size(); ++t) {
      Bracket& b = brackets_[t];
      if (b.status == RUNNING && targets_[t].level <= probe.level) {
        const double value = losses[targets_[t].level];
        if (value <= targets_[t].cutoff) {
          if (probe.radius > b.lower && probe.radius < b.upper) {
            b.lower = probe.radius;
            b.value_lower = value;
          }
        } else if (probe.radius < b.upper) {
          b.upper = probe.radius;
          b.value_upper = value;
          if (probe.radius <= b.lower) {  // an earlier crossing: only the center is known inside
            b.lower = 0.0;
            b.value_lower = targets_[t].center;
          }
        }
      }
      if (b.status == RUNNING) b.status = judge(targets_[t], b);
    }
  }

  const std::vector<Bracket>& brackets() const { return brackets_; }
  int num_evaluations() const { return num_evaluations_; }

 private:
  std::int8_t judge(const Target& target, const Bracket& b) const {
    const bool left = b.upper < std::numeric_limits<double>::infinity();
    const bool is_grid = settings_.method == Search::grid;
    const bool closed = left && (is_grid || b.upper - b.lower <= target.rtol * b.upper);
    if (closed) return std::isfinite(b.value_upper) ? CROSSED : NON_FINITE;
    if (is_grid) return grid_index_ == static_cast<int>(settings_.grid.size()) ? CENSORED : RUNNING;
    if (b.lower >= settings_.radius_max) return CENSORED;
    return b.steps >= settings_.max_steps ? MAX_STEPS : RUNNING;
  }

  double propose(const Target& target, Bracket& b) const {
    const double gap = target.cutoff - target.center;
    const double rise_lower = b.value_lower - target.center;
    const double rise_upper = b.value_upper - target.center;
    const bool has_lower = b.lower > 0.0;
    const bool has_upper = b.upper < std::numeric_limits<double>::infinity();
    const bool is_informed = settings_.method == Search::interpolate;
    const bool usable_lower = is_informed && rise_lower > 0.0 && gap > 0.0;
    const bool usable_upper = is_informed && rise_upper < std::numeric_limits<double>::infinity() && gap > 0.0;
    const double log_gap = portable_log(gap > 0.0 ? gap : 1.0);
    const double log_rise_lower = portable_log(usable_lower ? rise_lower : 1.0);
    const double log_rise_upper = portable_log(usable_upper ? rise_upper : 1.0);

    double radius;
    double guess = target.guess_radius;
    const bool is_scaled = scale_guess(target, guess);
    if ((!has_lower && !has_upper) || (is_scaled && b.steps == 0 && guess > b.lower && guess < b.upper)) {
      if (is_scaled) b.slope = scaled_slope(target);
      radius = guess;
    } else if (!has_upper) {
      radius = b.lower * portable_exp(stride((log_gap - log_rise_lower) / b.slope, usable_lower, b.steps, target.rtol));
    } else if (!has_lower) {
      radius =
          b.upper * portable_exp(-stride((log_rise_upper - log_gap) / b.slope, usable_upper, b.steps, target.rtol));
    } else if (usable_lower && usable_upper && log_rise_upper > log_rise_lower && b.steps < kMaxInterpolations) {
      radius = portable_exp(interpolate(b, target.rtol, log_gap, log_rise_lower, log_rise_upper));
    } else {
      radius = middle(b);
    }
    return std::min(radius, settings_.radius_max);
  }

  // The geometric mean of a bracket; not through sqrt, which torch does not round correctly on every machine.
  static double middle(const Bracket& b) { return portable_exp(0.5 * (portable_log(b.lower) + portable_log(b.upper))); }

  // Scales the typical radius by how this ray's relative compares with its own typical one; false if it is not solved.
  bool scale_guess(const Target& target, double& guess) const {
    if (target.relative < 0 || brackets_[target.relative].status != CROSSED) return false;
    guess = target.guess_radius * (middle(brackets_[target.relative]) / targets_[target.relative].guess_radius);
    return true;
  }

  double scaled_slope(const Target& target) const {
    return target.guess_slope * (brackets_[target.relative].slope / targets_[target.relative].guess_slope);
  }

  double interpolate(Bracket& b, double rtol, double log_gap, double log_rise_lower, double log_rise_upper) const {
    const double log_lower = portable_log(b.lower);
    const double log_upper = portable_log(b.upper);
    const double width = log_upper - log_lower;
    const double rise = log_rise_upper - log_rise_lower;
    if (width > kMinSlopeWidth) b.slope = rise / width;
    const double estimate = log_lower + (log_gap - log_rise_lower) / rise * width;
    const double past = kAim * rtol;
    const double aim = estimate - log_lower > log_upper - estimate ? estimate - past : estimate + past;
    return std::min(std::max(aim, log_lower + 0.1 * rtol), log_upper - 0.1 * rtol);
  }

  double stride(double distance, bool is_usable, int steps, double rtol) const {
    if (settings_.method == Search::bisect) return 0.6931471805599453;
    if (!is_usable) return kLogBlindStep;
    const double tries = std::max(steps, 1);
    const double least = 2.0 * kAim * rtol * tries * tries;
    return std::min(std::max(distance * (1.0 + 0.2 * tries), least), kLogMaxStep);
  }

  static constexpr double kLogMaxStep = 2.772588722239781;     // ln 16
  static constexpr double kLogBlindStep = 1.3862943611198906;  // ln 4
  static constexpr int kMaxInterpolations = 12;
  static constexpr double kAim = 0.45;
  static constexpr double kMinSlopeWidth = 1e-3;

  std::vector<Target> targets_;
  std::vector<int> order_;
  SearchSettings settings_;
  double unit_;
  std::vector<Bracket> brackets_;
  int num_evaluations_ = 0;
  int grid_index_ = 0;
};

}  // namespace basinvol
