#include "bindings/bound_points.h"

#include <stdexcept>
#include <utility>

namespace basinvol {
namespace bindings {

BoundPoints::BoundPoints(const py::list& layers, const std::string& loss, Values<float> inputs,
                         Values<std::int64_t> labels, Values<float> targets, std::vector<std::int64_t> levels,
                         Values<float> scale, std::vector<std::int64_t> sizes, Array<float> center,
                         const CpuResources& resources)
    : arrays_(layers, std::move(inputs), std::move(labels), std::move(targets), std::move(scale)),
      center_(std::move(center)) {
  arrays_.refuse_device();
  ParameterVector parameters = arrays_.parameters(std::move(sizes));
  if (center_.ndim() != 1 || center_.shape(0) != parameters.dim)
    throw std::invalid_argument("the center must have as many elements as the scale");
  const Loss kind = loss_named(loss);
  const float* center_values = center_.data();
  py::gil_scoped_release release;
  engine_ = std::make_unique<cpu::PointLosses>(arrays_.layers(), kind, arrays_.examples(), std::move(levels),
                                               std::move(parameters), center_values, resources);
}

void BoundPoints::evaluate(const Array<double>& points, int level, Array<double> losses,
                           std::optional<Array<double>> gradients) {
  const py::ssize_t dim = engine_->dim(), count = losses.size();
  const auto is_matrix = [&](const Array<double>& array) {
    return array.ndim() == 2 && array.shape(0) == count && array.shape(1) == dim;
  };
  if (!is_matrix(points) || (gradients && !is_matrix(*gradients)))
    throw std::invalid_argument("points and gradients must be [n, dim], as many as losses");
  if (level < 0 || level >= engine_->num_levels()) throw std::invalid_argument("there is no such level");
  const double* at = points.data();
  double* means = losses.mutable_data();
  double* sums = gradients ? gradients->mutable_data() : nullptr;
  py::gil_scoped_release release;
  engine_->evaluate(at, count, level, means, sums);
}

}  // namespace bindings
}  // namespace basinvol
