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

// With the arrays that the engine points into. The GIL is released while it works.
class BoundPoints {
 public:
  BoundPoints(const py::list& layers, const std::string& loss, Values<float> inputs, Values<std::int64_t> labels,
              Values<float> targets, std::vector<std::int64_t> levels, Values<float> scale,
              std::vector<std::int64_t> sizes, Array<float> center, const CpuResources& resources);

  // Writes the mean losses of a level at points [n, dim] to `losses` [n], and adds their gradients by the points to
  // `gradients` [n, dim] unless it is None.
  void evaluate(const Array<double>& points, int level, Array<double> losses, std::optional<Array<double>> gradients);

  const cpu::PointLosses& engine() const { return *engine_; }

 private:
  MlpArrays arrays_;
  Array<float> center_;
  std::unique_ptr<cpu::PointLosses> engine_;
};

}  // namespace bindings
}  // namespace basinvol
