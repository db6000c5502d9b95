#include "cpu/point_losses.h"

#include <omp.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "cpu/along_ray.h"

namespace basinvol {
namespace cpu {

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
  for (int i = 0; i < resources.num_threads; ++i) {
    threads_.push_back({PackedPoint(problem_), GradientPass(problem_), std::vector<double>(levels_.back()),
                        std::vector<double>(levels_.size())});
  }
}

void PointLosses::evaluate(const double* points, std::int64_t count, int level, double* losses, double* gradients) {
  const std::lock_guard<std::mutex> lock(busy_);
  if (count >= static_cast<std::int64_t>(threads_.size()) || num_passes(level) == 1) {
    threads_over_points(points, count, level, losses, gradients);
  } else {
    for (std::int64_t i = 0; i < count; ++i)
      threads_over_rows(points + i * dim(), level, losses + i, gradients == nullptr ? nullptr : gradients + i * dim());
  }
  for (Thread& thread : threads_) operations_ += thread.pass.take_operations();
}

void PointLosses::threads_over_points(const double* points, std::int64_t count, int level, double* losses,
                                      double* gradients) {
  std::exception_ptr failure;  // an exception that left the parallel region would end the process
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast<int>(threads_.size()))
  for (std::int64_t i = 0; i < count; ++i) {
    try {
      Thread& thread = threads_[omp_get_thread_num()];
      thread.point.move_to(center_, parameters_, points + i * dim(), gradients != nullptr);
      for (int p = 0; p < num_passes(level); ++p) {
        run_pass(thread, p, thread.point, level, gradients != nullptr, thread.row_losses.data());
        if (gradients != nullptr)
          thread.pass.add_gradient(parameters_.scale, 1.0 / weights_[level], gradients + i * dim());
      }
      losses[i] = mean(thread, level);
    } catch (...) {
#pragma omp critical
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

// The gradient's parts are added in the order of the rows, whichever thread has computed them.
void PointLosses::threads_over_rows(const double* point, int level, double* loss, double* gradient) {
  Thread& first = threads_.front();
  first.point.move_to(center_, parameters_, point, gradient != nullptr);
#pragma omp parallel for ordered schedule(static, 1) num_threads(static_cast<int>(threads_.size()))
  for (int p = 0; p < num_passes(level); ++p) {
    Thread& thread = threads_[omp_get_thread_num()];
    run_pass(thread, p, first.point, level, gradient != nullptr, first.row_losses.data());
#pragma omp ordered
    if (gradient != nullptr) thread.pass.add_gradient(parameters_.scale, 1.0 / weights_[level], gradient);
  }
  *loss = mean(first, level);
}

void PointLosses::run_pass(Thread& thread, int i, const PackedPoint& point, int level, bool with_gradient,
                           double* row_losses) {
  const int first = i * kPassBlocks, last = std::min(first + kPassBlocks, rows_.num_blocks(level + 1));
  thread.pass.run(point, first, last, with_gradient, row_losses);
}

double PointLosses::mean(Thread& thread, int level) const {
  level_means(thread.row_losses.data(), levels_, weights_.data(), level + 1, thread.means.data());
  return thread.means[level];
}

}  // namespace cpu
}  // namespace basinvol
