// The radius search along one ray; python/basinvol/search/ray_search.py is the same algorithm for many rays and
// explains it. The two are held together bit for bit by tests/kernels/test_ray_search.py: change both or neither.
#pragma once

#include <cstdint>
#include <limits>

#include "interpolation.h"
#include "portable_math.h"

namespace basinvol {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

enum class Search { interpolate, bisect, grid };

// Positions in python's Status, and RUNNING.
enum Status : std::int8_t { RUNNING = -1, CROSSED = 0, CENSORED, CENTER_OUTSIDE, NON_FINITE, MAX_STEPS, NEGLIGIBLE };

// One (level, cutoff) of a ray: what is looked for, and where to look first.
struct Target {
  int level;
  double cutoff;
  double center;  // loss at radius 0
  double guess_radius;
  double guess_slope;
  double guess_spread;    // how far the slope of a ray is from that, relative to it
  double rtol;            // relative width at which the bracket is closed
  int relative;           // target whose solution on the same ray scales the guess, or -1
  bool is_wanted;         // false: solved only to scale the guess of others
  std::int64_t examples;  // of the level
};

// What is looked for along every ray, and how. The arrays are the caller's, in the memory of whoever searches.
struct SearchPlan {
  const Target* targets;
  int num_targets;
  const int* order;  // the targets to solve, in order
  int num_ordered;
  Search method;
  double radius_max;
  int max_steps;
  const double* grid;  // increasing
  int grid_size;
  int first_sampled;  // from this level on, whoever searches can estimate a loss from a sample of the examples
};

constexpr int kNoSamples = std::numeric_limits<int>::max();

struct Bracket {
  double lower = 0.0;
  double upper = kInfinity;
  double value_lower = 0.0;
  double value_upper = kNan;
  double slope = 2.0;
  int steps = 0;
  std::int8_t status = RUNNING;
  bool is_taught = false;   // the slope is that of this ray here, and not a guess
  bool is_sampled = false;  // by a sample, since the last evaluation
  double replaced = 0.0;    // the end that was last replaced by one nearer to the crossing; 0: there is none
  double value_replaced = kNan;
  double width = kInfinity;  // log of upper / lower when the bracket was last halved, or bisected
  int stalls = 0;            // proposals since then
};

struct Probe {
  double radius;
  int level;
  bool is_sampled = false;  // the loss is to be estimated, by a sample drawn from the losses of the last evaluation
};

// What a search remembers besides its brackets.
struct Progress {
  double unit = 1.0;  // length of this ray's grid unit
  int num_evaluations = 0;
  int grid_index = 0;
  std::int64_t num_examples = 0;  // how many losses of single examples that took, samples included
  double base_radius = 0.0;       // of the last evaluation of whole levels
  int base_level = -1;            // its highest; -1: there is none
};

// One step at a time on state that is the caller's, so that a search can stop, move and go on.
class RaySearch {
 public:
  BASINVOL_HD RaySearch(const SearchPlan& plan, Bracket* brackets, Progress& progress)
      : plan_(plan), targets_(plan.targets), brackets_(brackets), progress_(progress) {}

  BASINVOL_HD void begin() {
    progress_ = Progress{progress_.unit};
    for (int t = 0; t < plan_.num_targets; ++t) {
      Bracket& b = brackets_[t];
      b = Bracket{};
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
  BASINVOL_HD void restore(int t, const Bracket& known) {
    brackets_[t] = known;
    brackets_[t].steps = 0;
    brackets_[t].width = kInfinity;
    brackets_[t].stalls = 0;
  }

  BASINVOL_HD bool is_running(int t) const { return brackets_[t].status == RUNNING; }

  // Where to test whether the ray ends below `negligible`: there, or at the last grid point below, as the first
  // crossing is there or earlier. 0: nowhere.
  BASINVOL_HD double test_radius(double negligible) const {
    if (plan_.method != Search::grid) return negligible;
    int below = 0, end = plan_.grid_size;
    while (below < end) {
      const int middle = (below + end) / 2;
      if (negligible / progress_.unit < plan_.grid[middle])
        end = middle;
      else
        below = middle + 1;
    }
    return below == 0 ? 0.0 : plan_.grid[below - 1] * progress_.unit;
  }

  // The answer to such a test. Outside, `value` bounds the loss at `radius` from below and the target is NEGLIGIBLE;
  // inside, it is the loss, and the search begins there. A grid begins at the center: it wants the first point outside.
  // num_examples: how many the test read; if it was all of them, the losses of the level are known.
  BASINVOL_HD void settle(int t, double radius, double value, bool is_outside, std::int64_t num_examples) {
    ++progress_.num_evaluations;
    progress_.num_examples += num_examples;
    progress_.base_radius = radius;
    progress_.base_level = !is_outside || num_examples >= targets_[t].examples ? targets_[t].level : -1;
    Bracket& b = brackets_[t];
    if (is_outside) {
      b.upper = radius;
      b.value_upper = value;
      b.status = NEGLIGIBLE;
    } else if (plan_.method != Search::grid) {
      b.lower = radius;
      b.value_lower = value;
      conclude(targets_[t], b);
    }
  }

  // Where the loss is wanted next; false when every wanted target is finished.
  BASINVOL_HD bool ask(Probe& probe) {
    int highest = -1;
    for (int i = 0; i < plan_.num_ordered; ++i) {
      const int t = plan_.order[i];
      if (is_running(t) && targets_[t].is_wanted && targets_[t].level > highest) highest = targets_[t].level;
    }
    if (highest < 0) return false;
    const int next = next_target();
    if (plan_.method == Search::grid) {  // every target sees every point
      probe = {plan_.grid[progress_.grid_index] * progress_.unit, highest};
    } else {
      const double sampled = can_sample(next) ? sample_radius(targets_[next], brackets_[next]) : 0.0;
      if (sampled > 0.0) {
        probe = {sampled, targets_[next].level, true};
        return true;
      }
      probe = {propose(targets_[next], brackets_[next]), targets_[next].level};
    }
    ++brackets_[next].steps;
    return true;
  }

  // The losses of levels 0 .. probe.level at the probe.
  BASINVOL_HD void tell(const Probe& probe, const double* losses) {
    ++progress_.num_evaluations;
    ++progress_.grid_index;
    progress_.base_radius = probe.radius;
    progress_.base_level = probe.level;
    bool is_counted = false;
    for (int t = 0; t < plan_.num_targets; ++t) {
      Bracket& b = brackets_[t];
      if (targets_[t].level == probe.level && !is_counted) {
        progress_.num_examples += targets_[t].examples;
        is_counted = true;
      }
      if (b.status == RUNNING && targets_[t].level <= probe.level) {
        b.is_sampled = false;
        const double value = losses[targets_[t].level];
        if (value <= targets_[t].cutoff) {
          if (probe.radius > b.lower && probe.radius < b.upper) {
            if (b.lower > 0.0) {
              learn_slope(targets_[t], b, b.lower, b.value_lower, probe.radius, value);
              b.replaced = b.lower;
              b.value_replaced = b.value_lower;
            }
            b.lower = probe.radius;
            b.value_lower = value;
          }
        } else if (probe.radius < b.upper) {
          if (b.upper < kInfinity) {
            learn_slope(targets_[t], b, probe.radius, value, b.upper, b.value_upper);
            b.replaced = b.upper;
            b.value_replaced = b.value_upper;
          }
          b.upper = probe.radius;
          b.value_upper = value;
          if (probe.radius <= b.lower) {  // an earlier crossing: only the center is known inside
            b.lower = 0.0;
            b.value_lower = targets_[t].center;
          }
        }
      }
      if (b.status == RUNNING) conclude(targets_[t], b);
    }
  }

  // What a sample of `num_examples` says of the loss of one target at a sampled probe. It teaches the slope from the
  // last evaluation on and nothing else: brackets move by whole evaluations alone.
  BASINVOL_HD void tell_sample(const Probe& probe, double loss, std::int64_t num_examples) {
    progress_.num_examples += num_examples;
    const int t = next_target();
    Bracket& b = brackets_[t];
    b.is_sampled = true;  // even if it says nothing: it is asked for once
    b.is_taught = false;
    const double known = progress_.base_radius == b.lower ? b.value_lower : b.value_upper;
    if (probe.radius > progress_.base_radius)
      learn_slope(targets_[t], b, progress_.base_radius, known, probe.radius, loss);
    else
      learn_slope(targets_[t], b, probe.radius, loss, progress_.base_radius, known);
  }

 private:
  // The first in order that is not finished.
  BASINVOL_HD int next_target() const {
    int i = 0;
    while (!is_running(plan_.order[i])) ++i;
    return plan_.order[i];
  }

  // Whether a sample can be compared with the last evaluation, at one side of the bracket.
  BASINVOL_HD bool can_sample(int t) const {
    const Bracket& b = brackets_[t];
    double guess;
    return plan_.method == Search::interpolate && targets_[t].level >= plan_.first_sampled && !b.is_sampled &&
           targets_[t].level <= progress_.base_level && progress_.base_radius > 0.0 &&
           (progress_.base_radius == b.lower || progress_.base_radius == b.upper) &&
           !(b.steps == 0 && scale_guess(targets_[t], guess));
  }

  // Where a sample teaches most, the estimated crossing; 0 if the next evaluation is likely to land within rtol of it
  // without, or if the slope is known about as well as a sample would tell it.
  BASINVOL_HD double sample_radius(const Target& target, const Bracket& b) const {
    const double gap = target.cutoff - target.center;
    const bool is_lower = progress_.base_radius == b.lower;
    const bool has_both = b.lower > 0.0 && b.upper < kInfinity;
    const double rise = (is_lower ? b.value_lower : b.value_upper) - target.center;
    const double other = (is_lower ? b.value_upper : b.value_lower) - target.center;
    if (!(gap > 0.0 && rise > 0.0 && rise < kInfinity) || (!has_both && b.is_taught)) return 0.0;
    double slope = b.slope, spread = target.guess_spread, guess;
    if (scale_guess(target, guess)) spread = larger(spread, kScaledSpread);
    if (has_both) {
      const double log_ratio = portable_log(other > 0.0 && other < kInfinity ? other : rise) - portable_log(rise);
      const double width = log_width(b);
      slope = (is_lower ? log_ratio : -log_ratio) / width;
      spread = 0.5 * width;  // a curve of log loss that bends by its slope over a factor of e in radius
      if (!(slope > 0.0)) return 0.0;
    }
    const double step = (portable_log(gap) - portable_log(rise)) / slope;
    const double distance = step < 0.0 ? -step : step;
    const bool is_near = distance < kLogMaxSample && (!has_both || distance < spread);
    if (!(is_near && spread > kSampleError && spread * distance > 0.5 * target.rtol)) return 0.0;
    return smaller(progress_.base_radius * portable_exp(step), plan_.radius_max);
  }

  // Whether the search goes on. A bracket that closes has the slope at the crossing itself.
  BASINVOL_HD void conclude(const Target& target, Bracket& b) const {
    b.status = judge(target, b);
    if (b.status == CROSSED) learn_slope(target, b, b.lower, b.value_lower, b.upper, b.value_upper, kMinClosedWidth);
  }

  BASINVOL_HD std::int8_t judge(const Target& target, const Bracket& b) const {
    const bool left = b.upper < kInfinity;
    const bool is_grid = plan_.method == Search::grid;
    const bool closed = left && (is_grid || b.upper - b.lower <= target.rtol * b.upper);
    if (closed) return b.value_upper < kInfinity && b.value_upper > -kInfinity ? CROSSED : NON_FINITE;
    if (is_grid) return progress_.grid_index == plan_.grid_size ? CENSORED : RUNNING;
    if (b.lower >= plan_.radius_max) return CENSORED;
    return b.steps >= plan_.max_steps ? MAX_STEPS : RUNNING;
  }

  // What two radii say of the slope between them.
  BASINVOL_HD void learn_slope(const Target& target, Bracket& b, double near, double value_near, double far,
                               double value_far, double least_width = kMinSlopeWidth) const {
    const double rise_near = value_near - target.center;
    const double rise_far = value_far - target.center;
    if (!(rise_near > 0.0 && rise_far > 0.0 && rise_far < kInfinity)) return;
    const double width = portable_log(far) - portable_log(near);
    const double rise = portable_log(rise_far) - portable_log(rise_near);
    if (!(width > least_width && rise > 0.0)) return;
    b.slope = rise / width;
    b.is_taught = true;
  }

  BASINVOL_HD double propose(const Target& target, Bracket& b) const {
    const double gap = target.cutoff - target.center;
    const double rise_lower = b.value_lower - target.center;
    const double rise_upper = b.value_upper - target.center;
    const bool has_lower = b.lower > 0.0;
    const bool has_upper = b.upper < kInfinity;
    const bool is_informed = plan_.method == Search::interpolate;
    const bool usable_lower = is_informed && rise_lower > 0.0 && gap > 0.0;
    const bool usable_upper = is_informed && rise_upper < kInfinity && gap > 0.0;
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
    } else {
      const bool is_usable = usable_lower && usable_upper && log_rise_upper > log_rise_lower;
      if (is_stalled(b) || !is_usable) {
        begin_anew(b);
        radius = middle(b);
      } else {
        const double log_lower = portable_log(b.lower), log_upper = portable_log(b.upper);
        double estimate;
        if (b.is_sampled && b.is_taught) {
          const bool is_lower = progress_.base_radius == b.lower;
          const double log_rise = is_lower ? log_rise_lower : log_rise_upper;
          estimate = (is_lower ? log_lower : log_upper) + (log_gap - log_rise) / b.slope;
        } else {
          const LogPoint lower{log_lower, log_rise_lower}, upper{log_upper, log_rise_upper};
          estimate = chord(lower, upper, log_gap);
          if (upper.radius - lower.radius > kMinSlopeWidth)
            b.slope = (upper.rise - lower.rise) / (upper.radius - lower.radius);
          const double rise = b.value_replaced - target.center;
          if (b.replaced > 0.0 && rise > 0.0 && rise < kInfinity)
            estimate = bent(estimate, log_gap, lower, upper, {portable_log(b.replaced), portable_log(rise)});
        }
        radius = portable_exp(aim(log_lower, log_upper, estimate, target.rtol));
      }
    }
    return smaller(radius, plan_.radius_max);
  }

  // Whether the last proposals did not halve the bracket, this one counted.
  BASINVOL_HD static bool is_stalled(Bracket& b) {
    const double width = log_width(b);
    if (width <= 0.5 * b.width) {
      b.width = width;
      b.stalls = 0;
    } else {
      ++b.stalls;
    }
    return b.stalls >= kMaxStalls;
  }

  BASINVOL_HD static void begin_anew(Bracket& b) {
    b.width = log_width(b);
    b.stalls = 0;
  }

  BASINVOL_HD static double log_width(const Bracket& b) { return portable_log(b.upper) - portable_log(b.lower); }

  // The geometric mean of a bracket; not through sqrt, which torch does not round correctly on every machine.
  BASINVOL_HD static double middle(const Bracket& b) {
    return portable_exp(0.5 * (portable_log(b.lower) + portable_log(b.upper)));
  }

  // Scales the typical radius by how this ray's relative compares with its own typical one; false if it is not solved.
  BASINVOL_HD bool scale_guess(const Target& target, double& guess) const {
    if (target.relative < 0 || brackets_[target.relative].status != CROSSED) return false;
    guess = target.guess_radius * (middle(brackets_[target.relative]) / targets_[target.relative].guess_radius);
    return true;
  }

  BASINVOL_HD double scaled_slope(const Target& target) const {
    return target.guess_slope * (brackets_[target.relative].slope / targets_[target.relative].guess_slope);
  }

  BASINVOL_HD double stride(double distance, bool is_usable, int steps, double rtol) const {
    if (plan_.method == Search::bisect) return 0.6931471805599453;
    if (!is_usable) return kLogBlindStep;
    const double excess = steps > kExactSteps ? steps - kExactSteps : 0;
    return smaller(larger(past(distance, rtol) * (1.0 + 0.2 * excess), rtol * excess * excess), kLogMaxStep);
  }

  static constexpr double kLogMaxStep = 2.772588722239781;     // ln 16
  static constexpr double kLogBlindStep = 1.3862943611198906;  // ln 4
  static constexpr int kMaxStalls = 3;
  static constexpr int kExactSteps = 2;
  static constexpr double kScaledSpread = 0.05;  // of slopes scaled by a relative's, which was solved loosely
  static constexpr double kSampleError = 0.02;   // of a slope: a sample tells it several times better
  static constexpr double kLogMaxSample = 0.5;   // farther away other examples matter
  static constexpr double kMinSlopeWidth = 1e-3;
  static constexpr double kMinClosedWidth = 3e-5;

  const SearchPlan& plan_;
  const Target* targets_;
  Bracket* brackets_;
  Progress& progress_;
};

}  // namespace basinvol
