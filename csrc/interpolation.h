// Where to evaluate next along a ray, from the points around the crossing that are known; all in logarithms.
// python/basinvol/search/interpolation.py and basin_triton/interpolation.py are the same, bit for bit.
#pragma once

#include "philox.h"  // BASINVOL_HD

namespace basinvol {

BASINVOL_HD inline double smaller(double a, double b) { return b < a ? b : a; }
BASINVOL_HD inline double larger(double a, double b) { return a < b ? b : a; }

// ln of a radius, and of how far the loss there is above that of the center.
struct LogPoint {
  double radius;
  double rise;
};

// Where the line through two points reaches a rise.
BASINVOL_HD inline double chord(const LogPoint& lower, const LogPoint& upper, double log_gap) {
  return lower.radius + (log_gap - lower.rise) / (upper.rise - lower.rise) * (upper.radius - lower.radius);
}

// The estimate through a third point: inverse quadratic interpolation, as in Brent's method. Without it the far side of
// a bracket would stay, and the estimate come nearer by a constant factor each time. The chord alone counts if the
// three do not rise in order, or the parabola leaves the bracket.
BASINVOL_HD inline double bent(double estimate, double log_gap, const LogPoint& lower, const LogPoint& upper,
                               const LogPoint& third) {
  const bool is_ordered = (third.radius > upper.radius && third.rise > upper.rise) ||
                          (third.radius < lower.radius && third.rise < lower.rise);
  if (!is_ordered) return estimate;
  const double first = (upper.radius - lower.radius) / (upper.rise - lower.rise);
  const double second = (third.radius - upper.radius) / (third.rise - upper.rise);
  const double quadratic = (second - first) / (third.rise - lower.rise);
  const double result = estimate + quadratic * (log_gap - lower.rise) * (log_gap - upper.rise);
  return result > lower.radius && result < upper.radius ? result : estimate;
}

// How far to go from a known radius for a crossing estimated at `distance`: there, as that is where the loss teaches
// most; or past it by half of what rtol leaves if it is that near, so that the two radii close the bracket.
// Not quite there: the loss should be on a known side of the cutoff, and not within rounding of it.
BASINVOL_HD inline double past(double distance, double rtol) {
  return distance < rtol ? 0.5 * (distance + rtol) : distance - 0.1 * rtol;
}

// Where to evaluate inside a bracket, by the distance of the estimated crossing from its nearer side. Strictly inside,
// or an evaluation could repeat one of its ends and change nothing.
BASINVOL_HD inline double aim(double log_lower, double log_upper, double estimate, double rtol) {
  const double from_lower = estimate - log_lower;
  const double from_upper = log_upper - estimate;
  const double there =
      from_lower > from_upper ? log_upper - past(from_upper, rtol) : log_lower + past(from_lower, rtol);
  return smaller(larger(there, log_lower + 0.1 * rtol), log_upper - 0.1 * rtol);
}

}  // namespace basinvol
