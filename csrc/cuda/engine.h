// The radius search of a multilayer perceptron on a CUDA device.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "boundary.h"

namespace basinvol {
namespace cuda {

// The same interface as the CPU engine's, so that one binding serves both. Parameters and examples are copied to the
// device by the constructor: the caller's arrays need not outlive it.
class Engine {
 public:
  Engine(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
         ParameterVector parameters, const CudaResources& resources);
  ~Engine();

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
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda
}  // namespace basinvol
