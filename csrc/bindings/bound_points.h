// Losses and gradients at many points, as Python sees them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/convert.h"
#include "bindings/mlp_arrays.h"
#include "cpu/point_losses.h"

namespace basinvol {
namespace bindings {

// A trajectory, with the arrays [dim] that it points into.
class BoundMotion {
 public:
  BoundMotion(Array<double> mean, Array<double> lengths, Array<double> angle, Array<double> cos, Array<double> sin,
              double t, double beta, double precision, double reference, int num_steps);

  cpu::Motion motion() const;
  py::ssize_t dim() const { return mean_.size(); }

 private:
  Array<double> mean_, lengths_, angle_, cos_, sin_;
  double t_, beta_, precision_, reference_;
  int num_steps_;
};

// With the arrays that the engine points into. The GIL is released while it works.
class BoundPoints {
 public:
  BoundPoints(const py::list& layers, const std::string& loss, Values<float> inputs, Values<std::int64_t> labels,
              Values<float> targets, std::vector<std::int64_t> levels, Values<float> scale,
              std::vector<std::int64_t> sizes, Array<float> center, const CpuResources& resources);

  // Writes the mean losses of a level at points [n, dim] to `losses` [n], and adds their gradients by the points to
  // `gradients` [n, dim] unless it is None.
  void evaluate(const Array<double>& points, int level, Array<double> losses, std::optional<Array<double>> gradients);

  // Writes the mean losses of a level to `losses` [n], or infinity where one exceeds its limit [n], of the points
  // first[i] points[which[i]] + second[i] partners[which[i]]; points and partners are [rows, dim].
  void evaluate_within(const Array<double>& points, const Array<double>& partners, const Array<std::int64_t>& which,
                       const Array<double>& first, const Array<double>& second, const Array<double>& limits, int level,
                       Array<double> losses);

  // Moves chains of which y, momentum, gradient and x are [n, dim], growth and loss [n]; see cpu::ChainsInMotion.
  void move(const BoundMotion& motion, int level, Array<double> y, Array<double> momentum, Array<double> gradient,
            Array<double> x, Array<double> growth, Array<double> loss);

  const cpu::PointLosses& engine() const { return *engine_; }

 private:
  void check_level(int level) const;

  MlpArrays arrays_;
  Array<float> center_;
  std::unique_ptr<cpu::PointLosses> engine_;
};

}  // namespace bindings
}  // namespace basinvol
