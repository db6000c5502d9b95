// Small networks: one thread block solves one ray from beginning to end, with no host and no other launch in between.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "cuda/network.h"

namespace basinvol {
namespace cuda {

struct PersistentArguments {
  NetworkView network;
  ExamplesView examples;
  const std::int64_t* levels;  // [num_levels], increasing prefixes of the examples
  int num_levels;
  SearchPlan plan;
  const float* moves;  // [num_rays, stride]
  std::int64_t stride;
  int num_rays;
  Bracket* brackets;                // [num_rays, targets]: where the search begins, and then where it ends
  Progress* progress;               // [num_rays]
  const double* negligible;         // [targets] as in Prior, or nullptr
  const int* const* hardest_first;  // by level, its rows in the order in which proofs take them
  double* center_losses;            // [num_levels]: if not nullptr, only these are computed
};

// Bytes of shared memory that a block needs.
std::size_t persistent_bytes(const std::vector<LayerView>& layers, int num_levels);

// The rule by which this path is chosen: all perturbed parameters and one tile of activations in shared memory.
bool is_persistent(std::size_t bytes, std::size_t shared_limit);

void solve_persistent(const PersistentArguments& arguments, std::size_t bytes, cudaStream_t stream);

}  // namespace cuda
}  // namespace basinvol
