#include "cpu/engine.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <numeric>
#include <utility>

#include "cpu/ray.h"

namespace basinvol {
namespace cpu {

Engine::Engine(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
               ParameterVector parameters, const CpuResources& resources)
    : kernels_(kernels_named(resources.instruction_set)),
      mlp_(std::move(layers), kernels_.panel),
      loss_(loss),
      examples_(examples),
      levels_(std::move(levels)),
      parameters_(std::move(parameters)),
      num_threads_(resources.num_threads),
      rows_(examples.inputs, mlp_.inputs(), levels_) {
  // A kept row has one product with the center's first weight, and one with the ray's first move in every thread.
  const std::int64_t bytes_per_slot = std::int64_t{4} * mlp_.first_width() * (1 + num_threads_);
  kept_slots_ = std::min(rows_.num_slots(), resources.memory_budget / bytes_per_slot);
  hardest_first_.resize(rows_.blocks().size());
  std::iota(hardest_first_.begin(), hardest_first_.end(), 0);
  gather_examples();
  compute_base();

  Ray center;
  center_losses_.resize(levels_.size());
  evaluate(center, 0.0, static_cast<int>(levels_.size()), center_losses_.data());
}

std::vector<RayResult> Engine::solve(const Rays& rays, const std::vector<Target>& targets,
                                     const std::vector<int>& order, const SearchSettings& settings,
                                     const Prior& prior) const {
  const SearchPlan plan = plan_of(targets, order, settings);
  std::vector<RayResult> results(rays.indices.size());
  for_each_ray(rays.indices.size(), [&](Ray& ray, std::size_t i) {
    begin(ray, rays, i);
    std::vector<Bracket> brackets(targets.size());
    Progress progress{ray.unit};
    RaySearch search(plan, brackets.data(), progress);
    search.begin();
    if (!prior.brackets.empty()) {
      for (int t = 0; t < plan.num_targets; ++t) search.restore(t, prior.brackets[i][t]);
    }
    Trace trace;
    if (prior.negligible.empty() || prove(ray, search, plan, prior, trace)) {
      std::vector<double> losses(levels_.size());
      Probe probe;
      while (search.ask(probe)) {
        evaluate(ray, probe.radius, probe.level + 1, losses.data());
        search.tell(probe, losses.data());
        trace.add(probe.radius, losses.data(), 0, probe.level, levels_.size());
      }
    }
    results[i] = {std::move(brackets), progress.num_evaluations, std::move(trace)};
  });
  return results;
}

void Engine::learn_order(const Rays& rays, const std::vector<double>& radii) {
  const std::int64_t count = levels_.back();
  std::vector<std::vector<double>> found(rays.indices.size(), std::vector<double>(count));
  for_each_ray(rays.indices.size(), [&](Ray& ray, std::size_t i) {
    begin(ray, rays, i);
    set_radius(ray, radii[i]);
    shift(ray, 0, static_cast<int>(rows_.blocks().size()));
    double per_row[kBlockRows];
    for (std::size_t b = 0; b < rows_.blocks().size(); ++b) {
      const Block& block = rows_.blocks()[b];
      block_loss(ray, static_cast<int>(b), per_row);
      for (int j = 0; j < block.rows; ++j) found[i][rows_.row(block.slot + j)] = per_row[j];
    }
  });
  // A loss that is not finite counts as a large one: a NaN would break the order, and infinite sums could not be told
  // apart.
  std::vector<double> hardness(count, 0.0);
  for (const auto& losses : found)
    for (std::int64_t row = 0; row < count; ++row)
      hardness[row] += std::isfinite(losses[row]) ? losses[row] : std::numeric_limits<float>::max();

  rows_.arrange(hardness);
  gather_examples();
  compute_base();
  std::vector<double> mean(rows_.blocks().size());
  for (std::size_t b = 0; b < mean.size(); ++b) {
    const Block& block = rows_.blocks()[b];
    for (int j = 0; j < block.rows; ++j) mean[b] += hardness[rows_.row(block.slot + j)] / block.rows;
  }
  hardest_first_.resize(mean.size());
  std::iota(hardest_first_.begin(), hardest_first_.end(), 0);
  std::stable_sort(hardest_first_.begin(), hardest_first_.end(), [&](int a, int b) { return mean[a] > mean[b]; });
}

template <typename Body>
void Engine::for_each_ray(std::size_t count, Body body) const {
  std::exception_ptr failure;  // an exception that left the parallel region would end the process
#pragma omp parallel num_threads(num_threads_)
  {
    Ray ray;  // its buffers serve all rays of this thread
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(count); ++i) {
      try {
        body(ray, static_cast<std::size_t>(i));
      } catch (...) {
#pragma omp critical
        failure = std::current_exception();
      }
    }
    operations_ += ray.operations;
  }
  if (failure) std::rethrow_exception(failure);
}

// Decides which targets of a ray matter; false when none does. What is learned goes into the search.
bool Engine::prove(Ray& ray, RaySearch& search, const SearchPlan& plan, const Prior& prior, Trace& trace) const {
  bool any_matters = false;
  for (int i = 0; i < plan.num_ordered; ++i) {
    const int t = plan.order[i];
    if (!search.is_running(t)) continue;
    const double radius = search.test_radius(prior.negligible[t]);
    if (!(radius > 0.0)) {
      any_matters |= plan.targets[t].is_wanted;
      continue;
    }
    double mean;
    const Target& target = plan.targets[t];
    const bool outside = is_outside(ray, radius, target, mean);
    search.settle(t, radius, mean, outside);
    if (!outside) trace.add(radius, &mean, target.level, target.level, levels_.size());
    any_matters |= !outside;
  }
  return any_matters;
}

}  // namespace cpu
}  // namespace basinvol
