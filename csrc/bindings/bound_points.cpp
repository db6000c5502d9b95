#include "bindings/bound_points.h"

#include <algorithm>
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
  check_level(level);
  const double* at = points.data();
  double* means = losses.mutable_data();
  double* sums = gradients ? gradients->mutable_data() : nullptr;
  py::gil_scoped_release release;
  engine_->evaluate(at, count, level, means, sums);
}

void BoundPoints::evaluate_within(const Array<double>& points, const Array<double>& partners,
                                  const Array<std::int64_t>& which, const Array<double>& first,
                                  const Array<double>& second, const Array<double>& limits, int level,
                                  Array<double> losses) {
  const py::ssize_t dim = engine_->dim(), count = losses.size();
  const auto is_matrix = [&](const Array<double>& array) { return array.ndim() == 2 && array.shape(1) == dim; };
  if (!is_matrix(points) || !is_matrix(partners) || points.shape(0) != partners.shape(0))
    throw std::invalid_argument("points and partners must be [rows, dim], as many of each");
  if (which.size() != count || first.size() != count || second.size() != count || limits.size() != count)
    throw std::invalid_argument("which, first, second and limits must be as many as losses");
  const bool is_there = std::all_of(which.data(), which.data() + count,
                                    [&](std::int64_t row) { return row >= 0 && row < points.shape(0); });
  if (!is_there) throw std::invalid_argument("which has a row that is not among the points");
  check_level(level);
  const cpu::PointsInPlanes at{points.data(), partners.data(), which.data(), first.data(), second.data()};
  const double* within = limits.data();
  double* means = losses.mutable_data();
  py::gil_scoped_release release;
  engine_->evaluate_within(at, count, within, level, means);
}

void BoundPoints::move(const BoundMotion& motion, int level, Array<double> y, Array<double> momentum,
                       Array<double> gradient, Array<double> x, Array<double> growth, Array<double> loss) {
  const py::ssize_t dim = engine_->dim(), count = loss.size();
  for (const Array<double>* array : {&y, &momentum, &gradient, &x}) {
    if (array->ndim() != 2 || array->shape(0) != count || array->shape(1) != dim)
      throw std::invalid_argument("y, momentum, gradient and x must be [n, dim], as many as losses");
  }
  if (growth.size() != count) throw std::invalid_argument("growth must have as many elements as losses");
  if (motion.dim() != dim) throw std::invalid_argument("the motion must have as many elements as the points");
  check_level(level);
  const cpu::Motion along = motion.motion();
  const cpu::ChainsInMotion chains{y.mutable_data(), momentum.mutable_data(), gradient.mutable_data(),
                                   x.mutable_data(), growth.mutable_data(),   loss.mutable_data()};
  py::gil_scoped_release release;
  engine_->move(along, chains, count, level);
}

BoundMotion::BoundMotion(Array<double> mean, Array<double> lengths, Array<double> angle, Array<double> cos,
                         Array<double> sin, double t, double beta, double precision, double reference, int num_steps)
    : mean_(std::move(mean)),
      lengths_(std::move(lengths)),
      angle_(std::move(angle)),
      cos_(std::move(cos)),
      sin_(std::move(sin)),
      t_(t),
      beta_(beta),
      precision_(precision),
      reference_(reference),
      num_steps_(num_steps) {
  for (const Array<double>* array : {&mean_, &lengths_, &angle_, &cos_, &sin_}) {
    if (array->ndim() != 1 || array->size() != mean_.size())
      throw std::invalid_argument("mean, lengths, angle, cos and sin must be [dim]");
  }
  if (num_steps < 1) throw std::invalid_argument("a trajectory has at least one step");
}

cpu::Motion BoundMotion::motion() const {
  return {mean_.data(), lengths_.data(), angle_.data(), cos_.data(), sin_.data(),
          t_,           beta_,           precision_,    reference_,  num_steps_};
}

void BoundPoints::check_level(int level) const {
  if (level < 0 || level >= engine_->num_levels()) throw std::invalid_argument("there is no such level");
}

}  // namespace bindings
}  // namespace basinvol
