// Plain structs that cross the boundary: the bindings fill them from NumPy, and both engines read them. Pointers are to
// memory of the caller, who keeps it alive as long as the engine; for the CUDA engine it may be that of a device.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "loss_math.h"
#include "ray_search.h"

namespace basinvol {

// A weight or bias: its values, and where it lies in the flat vector of perturbed parameters.
struct Parameter {
  const float* values = nullptr;  // nullptr: the layer has no bias
  std::int64_t offset = -1;       // -1: not perturbed
};

struct Layer {
  int inputs, outputs;
  Parameter weight;  // [outputs, inputs], row-major as in torch
  Parameter bias;    // [outputs]
  Activation activation;
};

struct Examples {
  const float* inputs;         // [count, features]
  const std::int64_t* labels;  // [count], cross-entropy
  const float* targets;        // [count, outputs], the others
};

struct ParameterVector {
  const float* scale;               // [dim]
  std::vector<std::int64_t> sizes;  // of the tensors, in order
  std::int64_t dim;
};

struct CpuResources {
  int num_threads;
  std::int64_t memory_budget;   // bytes for first-layer products kept between evaluations; more is recomputed
  std::string instruction_set;  // empty: the best
};

struct CudaResources {
  int device;
  std::int64_t memory_budget;  // bytes of device memory for directions in flight; 0: what is free
  // Passes over all directions in flight with at most this many operations run as a CUDA graph: launches and copies,
  // ten microseconds each, would weigh against them. A tenth of a millisecond at 30 TFLOP/s; reasoned, not measured.
  double graph_operations = 3e9;
  std::string precision = "fp32";  // of products on the batched path: "fp32" or "tf32x3"
};

struct SearchSettings {
  Search method = Search::interpolate;
  double radius_max = kInfinity;
  int max_steps = 100;
  std::vector<double> grid;
};

// The plan points into its arguments.
inline SearchPlan plan_of(const std::vector<Target>& targets, const std::vector<int>& order,
                          const SearchSettings& settings, int first_sampled = kNoSamples) {
  return {targets.data(),
          static_cast<int>(targets.size()),
          order.data(),
          static_cast<int>(order.size()),
          settings.method,
          settings.radius_max,
          settings.max_steps,
          settings.grid.data(),
          static_cast<int>(settings.grid.size()),
          first_sampled};
}

// Directions by index; `normals` [n, dim] replaces the generator if it is not nullptr.
struct Rays {
  std::uint64_t seed;
  std::vector<std::uint32_t> indices;
  const float* normals;
};

// What is known of a ray before it is solved.
struct Prior {
  std::vector<double> negligible;  // per target: a ray outside at this radius is not solved; 0: no such radius
  std::vector<std::vector<Bracket>> brackets;  // per ray and target, to be closed further; or empty
};

// Every evaluation of whole levels on a ray: its radius, then the loss of each level. NaN where it was not evaluated,
// and infinite where it was not a number: the two must stay apart in the table.
class Trace {
 public:
  void add(double radius, const double* losses, int first_level, int last_level, std::size_t num_levels) {
    const std::size_t at = values_.size();
    values_.resize(at + 1 + num_levels, kNan);
    values_[at] = radius;
    for (int level = first_level; level <= last_level; ++level) {
      const double loss = losses[level - first_level];
      values_[at + 1 + level] = std::isnan(loss) ? kInfinity : loss;
    }
  }
  const std::vector<double>& values() const { return values_; }

 private:
  std::vector<double> values_;  // [evaluations, 1 + levels]
};

struct RayResult {
  std::vector<Bracket> brackets;  // one per target
  int num_evaluations = 0;
  std::int64_t num_examples = 0;  // see Progress
  Trace trace;                    // only the CPU engine records it
};

}  // namespace basinvol
