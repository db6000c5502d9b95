#include "cpu/point_losses.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <numeric>
#include <utility>

#include "cpu/along_ray.h"

namespace basinvol {
namespace cpu {

namespace {

// Blocks between two questions whether a loss exceeds its limit already: as many as are multiplied together.
constexpr int kPartBlocks = 3;

// Sums of the same losses in another order differ by less.
constexpr double kRounding = 1e-9;

double or_infinity(double loss, double limit) { return loss <= limit ? loss : std::numeric_limits<double>::infinity(); }

}  // namespace

PointLosses::PointLosses(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
                         ParameterVector parameters, const float* center, const CpuResources& resources)
    : kernels_(kernels_named(resources.instruction_set)),
      mlp_(std::move(layers), kernels_),
      levels_(std::move(levels)),
      parameters_(std::move(parameters)),
      center_(center),
      rows_(examples.inputs, mlp_.inputs(), levels_),
      problem_{kernels_, gradient_kernels_of(kernels_), mlp_, rows_, targets_, loss} {
  targets_.gather(rows_, examples, loss, mlp_.outputs());
  const int terms = loss == Loss::cross_entropy ? 1 : mlp_.outputs();
  for (std::int64_t rows : levels_) weights_.push_back(static_cast<double>(rows) * terms);
  const int num_parts = parts(num_levels() - 1, kPartBlocks).count();
  for (int i = 0; i < resources.num_threads; ++i) {
    threads_.push_back({PackedPoint(problem_), GradientPass(problem_), std::vector<double>(levels_.back()),
                        std::vector<double>(levels_.size()), std::vector<double>(num_parts)});
  }
}

void PointLosses::evaluate(const double* points, std::int64_t count, int level, double* losses, double* gradients) {
  const std::lock_guard<std::mutex> lock(busy_);
  for_each(count, level, [&](Thread* own, std::int64_t i) {
    losses[i] = loss(own, points + i * dim(), level, gradients == nullptr ? nullptr : gradients + i * dim());
  });
}

void PointLosses::evaluate_within(const PointsInPlanes& at, std::int64_t count, const double* limits, int level,
                                  double* losses) {
  const std::lock_guard<std::mutex> lock(busy_);
  const std::vector<int> order = hardest_first(parts(level, kPartBlocks).count());
  for_each(count, level, [&](Thread* own, std::int64_t i) {
    const std::int64_t start = at.which[i] * dim();
    PackedPoint& point = own == nullptr ? threads_.front().point : own->point;
    point.move_in_plane(center_, parameters_, at.points + start, at.partners + start, at.first[i], at.second[i]);
    losses[i] = own == nullptr ? or_infinity(loss_of_rows_by_all(level, nullptr), limits[i])
                               : loss_within(*own, order, level, limits[i]);
  });
}

void PointLosses::move(const Motion& motion, const ChainsInMotion& chains, std::int64_t count, int level) {
  const std::lock_guard<std::mutex> lock(busy_);
  const GradientKernels& kernels = problem_.gradient_kernels;
  for_each(count, level, [&](Thread* own, std::int64_t i) {
    double *y = chains.y + i * dim(), *momentum = chains.momentum + i * dim(), *x = chains.x + i * dim(),
           *gradient = chains.gradient + i * dim();
    const auto half_squares = [&] { return 0.5 * (kernels.square(y, dim()) + kernels.square(momentum, dim())); };
    const double before = half_squares();
    kernels.place_in_reference(motion, y, dim(), x);
    kernels.kick(motion, 0.5, gradient, x, y, dim(), momentum);
    for (int step = 0; step < motion.num_steps; ++step) {
      kernels.turn(motion, dim(), y, momentum);
      kernels.place_in_reference(motion, y, dim(), x);
      std::fill_n(gradient, dim(), 0.0);
      chains.loss[i] = loss(own, x, level, gradient);
      kernels.kick(motion, step == motion.num_steps - 1 ? 0.5 : 1.0, gradient, x, y, dim(), momentum);
    }
    chains.growth[i] = half_squares() - before;
  });
}

template <typename Work>
void PointLosses::for_each(std::int64_t count, int level, const Work& work) {
  if (count >= static_cast<std::int64_t>(threads_.size()) || parts(level, kPassBlocks).count() == 1) {
    std::exception_ptr failure;  // an exception that left the parallel region would end the process
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast<int>(threads_.size()))
    for (std::int64_t i = 0; i < count; ++i) {
      try {
        work(&threads_[omp_get_thread_num()], i);
      } catch (...) {
#pragma omp critical
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
  } else {
    for (std::int64_t i = 0; i < count; ++i) work(nullptr, i);
  }
  for (Thread& thread : threads_) operations_ += thread.pass.take_operations();
}

double PointLosses::loss(Thread* own, const double* point, int level, double* gradient) {
  Thread& thread = own == nullptr ? threads_.front() : *own;
  thread.point.move_to(center_, parameters_, point, gradient != nullptr);
  return own == nullptr ? loss_of_rows_by_all(level, gradient) : loss_of_rows(thread, level, gradient);
}

double PointLosses::loss_of_rows(Thread& thread, int level, double* gradient) {
  const Parts passes = parts(level, kPassBlocks);
  for (int p = 0; p < passes.count(); ++p) {
    run_part(thread, passes, p, thread.point, gradient != nullptr, thread.row_losses.data());
    if (gradient != nullptr) thread.pass.add_gradient(parameters_.scale, 1.0 / weights_[level], gradient);
  }
  return mean(thread, level);
}

// The gradient's parts are added in the order of the rows, whichever thread has computed them.
double PointLosses::loss_of_rows_by_all(int level, double* gradient) {
  Thread& first = threads_.front();
  const Parts passes = parts(level, kPassBlocks);
#pragma omp parallel for ordered schedule(static, 1) num_threads(static_cast<int>(threads_.size()))
  for (int p = 0; p < passes.count(); ++p) {
    Thread& thread = threads_[omp_get_thread_num()];
    run_part(thread, passes, p, first.point, gradient != nullptr, first.row_losses.data());
#pragma omp ordered
    if (gradient != nullptr) thread.pass.add_gradient(parameters_.scale, 1.0 / weights_[level], gradient);
  }
  return mean(first, level);
}

// Returns the sum of the losses of the i-th part of the rows.
double PointLosses::run_part(Thread& thread, const Parts& parts, int i, const PackedPoint& point, bool with_gradient,
                             double* row_losses) {
  const int first = i * parts.blocks_each, last = std::min(first + parts.blocks_each, parts.num_blocks);
  return thread.pass.run(point, first, last, with_gradient, row_losses);
}

// The order has no influence on the result: what is within its limit is the mean in the order of the data.
double PointLosses::loss_within(Thread& thread, const std::vector<int>& order, int level, double limit) {
  const double most = limit * weights_[level] * (1.0 + kRounding);
  const Parts parts_read = parts(level, kPartBlocks);
  std::vector<double> found(order.size());
  double sum = 0.0;
  for (const int part : order) {
    found[part] = run_part(thread, parts_read, part, thread.point, false, thread.row_losses.data());
    sum += found[part];
    if (sum > most) return std::numeric_limits<double>::infinity();
  }
  if (std::isfinite(sum))
    for (std::size_t part = 0; part < found.size(); ++part) thread.part_losses[part] += found[part];
  return or_infinity(mean(thread, level), limit);
}

std::vector<int> PointLosses::hardest_first(int num_parts) const {
  std::vector<double> expected(num_parts);
  for (const Thread& thread : threads_)
    for (int part = 0; part < num_parts; ++part) expected[part] += thread.part_losses[part];
  std::vector<int> order(num_parts);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return expected[a] > expected[b]; });
  return order;
}

double PointLosses::mean(Thread& thread, int level) const {
  level_means(thread.row_losses.data(), levels_, weights_.data(), level + 1, thread.means.data());
  return thread.means[level];
}

}  // namespace cpu
}  // namespace basinvol
