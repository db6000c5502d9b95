// One ray's search, driven from Python: by the engine for any module, whose losses torch computes, and by the tests.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "bindings/convert.h"
#include "boundary.h"
#include "ray_search.h"

namespace basinvol {
namespace bindings {

// The search with what it works on. It points into its own members, so it is not copied.
class BoundRaySearch {
 public:
  BoundRaySearch(std::vector<Target> targets, std::vector<int> order, SearchSettings settings, double unit,
                 int first_sampled)
      : targets_(std::move(targets)),
        order_(std::move(order)),
        settings_(std::move(settings)),
        plan_(plan_of(targets_, order_, settings_, first_sampled)),
        brackets_(targets_.size()),
        progress_{unit},
        search_(plan_, brackets_.data(), progress_) {
    search_.begin();
  }
  BoundRaySearch(const BoundRaySearch&) = delete;

  // A radius, a level, and whether a sample is enough; None when all is found.
  py::object ask() {
    Probe probe;
    if (!search_.ask(probe)) return py::none();
    return py::make_tuple(probe.radius, probe.level, probe.is_sampled);
  }

  void restore(int t, double lower, double upper, double value_lower, double value_upper, double slope, int status) {
    search_.restore(t, {lower, upper, value_lower, value_upper, slope, 0, static_cast<std::int8_t>(status)});
  }

  void tell(double radius, int level, const std::vector<double>& losses) {
    search_.tell({radius, level}, losses.data());
  }

  void tell_sample(double radius, int level, double loss, std::int64_t num_examples) {
    search_.tell_sample({radius, level, true}, loss, num_examples);
  }

  bool is_running(int t) const { return search_.is_running(t); }
  double test_radius(double negligible) const { return search_.test_radius(negligible); }
  void settle(int t, double radius, double value, bool is_outside, std::int64_t num_examples) {
    search_.settle(t, radius, value, is_outside, num_examples);
  }

  py::dict brackets() const {
    return to_arrays({{brackets_, progress_.num_evaluations, progress_.num_examples, {}}}, brackets_.size());
  }

 private:
  const std::vector<Target> targets_;
  const std::vector<int> order_;
  const SearchSettings settings_;
  const SearchPlan plan_;
  std::vector<Bracket> brackets_;
  Progress progress_;
  RaySearch search_;
};

}  // namespace bindings
}  // namespace basinvol
