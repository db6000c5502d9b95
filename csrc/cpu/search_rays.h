// The search along every ray on the CPU, whatever computes the losses: threads over rays, and short proofs first.
#pragma once

#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

#include "boundary.h"

namespace basinvol {
namespace cpu {

// What a `Network` offers:
// - Ray, what one thread needs for one direction; it has `unit` and `operations`.
// - begin(ray, rays, i) turns to the i-th direction.
// - evaluate(ray, radius, num_levels, losses) gives the mean losses of the first levels.
// - is_outside(ray, radius, target, mean, read) says whether the loss is above the target's cutoff; see there for the
//   others.
// - first_sampled() is the first level that samples estimate.
// - sample(ray, radius, level, read) estimates its mean loss, from the ray's last evaluation on.
// - num_levels() and count(operations).
template <typename Network>
class RaySearches {
 public:
  using Ray = typename Network::Ray;

  RaySearches(const Network& network, int num_threads) : network_(network), num_threads_(num_threads) {}

  // The result is a function of its arguments: not of threads, memory or the order of rows.
  std::vector<RayResult> solve(const Rays& rays, const std::vector<Target>& targets, const std::vector<int>& order,
                               const SearchSettings& settings, const Prior& prior) const {
    const SearchPlan plan = plan_of(targets, order, settings, network_.first_sampled());
    std::vector<RayResult> results(rays.indices.size());
    for_each(rays.indices.size(), [&](Ray& ray, std::size_t i) {
      network_.begin(ray, rays, i);
      std::vector<Bracket> brackets(targets.size());
      Progress progress{ray.unit};
      RaySearch search(plan, brackets.data(), progress);
      search.begin();
      if (!prior.brackets.empty()) {
        for (int t = 0; t < plan.num_targets; ++t) search.restore(t, prior.brackets[i][t]);
      }
      Trace trace;
      if (prior.negligible.empty() || prove(ray, search, plan, prior, trace)) {
        std::vector<double> losses(network_.num_levels());
        Probe probe;
        while (search.ask(probe)) {
          if (probe.is_sampled) {
            std::int64_t read = 0;
            const double loss = network_.sample(ray, probe.radius, probe.level, read);
            search.tell_sample(probe, loss, read);
            continue;
          }
          network_.evaluate(ray, probe.radius, probe.level + 1, losses.data());
          search.tell(probe, losses.data());
          trace.add(probe.radius, losses.data(), 0, probe.level, network_.num_levels());
        }
      }
      results[i] = {std::move(brackets), progress.num_evaluations, progress.num_examples, std::move(trace)};
    });
    return results;
  }

  // Calls body(ray, i) for every i below `count`; rays are those of the threads.
  template <typename Body>
  void for_each(std::size_t count, Body body) const {
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
      network_.count(ray.operations);
    }
    if (failure) std::rethrow_exception(failure);
  }

 private:
  // Decides which targets of a ray matter; false when none does. What is learned goes into the search.
  bool prove(Ray& ray, RaySearch& search, const SearchPlan& plan, const Prior& prior, Trace& trace) const {
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
      std::int64_t read = 0;
      const Target& target = plan.targets[t];
      const bool outside = network_.is_outside(ray, radius, target, mean, read);
      search.settle(t, radius, mean, outside, read);
      if (!outside) trace.add(radius, &mean, target.level, target.level, network_.num_levels());
      any_matters |= !outside;
    }
    return any_matters;
  }

  const Network& network_;
  int num_threads_;
};

}  // namespace cpu
}  // namespace basinvol
