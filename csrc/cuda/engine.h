// The radius search of a multilayer perceptron on a CUDA device: the interface of the CPU engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlp_rays.h"

namespace basinvol {
namespace cuda {

struct Resources {
  int device;
  std::int64_t memory_budget;  // bytes of device memory for directions in flight; 0: what is free
  // Passes over all directions in flight with at most this many operations run as a CUDA graph: launches and copies,
  // ten microseconds each, would weigh against them. A tenth of a millisecond at 30 TFLOP/s; reasoned, not measured.
  double graph_operations = 3e9;
  std::string precision = "fp32";  // of products on the batched path: "fp32" or "tf32x3"
};

// Everything but the parameters and the examples is as in the CPU engine; those are copied to the device once.
class MlpRays {
 public:
  MlpRays(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
          ParameterVector parameters, const Resources& resources);
  ~MlpRays();

  // Mean loss of every level at the center.
  const std::vector<double>& center_losses() const;

  // Searches every ray. The result is a function of its arguments: not of memory or the number of rays in flight.
  std::vector<RayResult> solve(const Rays& rays, const std::vector<Target>& targets, const std::vector<int>& order,
                               const SearchSettings& settings, const Prior& prior) const;

  // Lets proofs take the hardest rows first, by their mean loss on these rays at these radii.
  void learn_order(const Rays& rays, const std::vector<double>& radii);

  // The device and the path that is taken.
  std::string description() const;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace cuda
}  // namespace basinvol
