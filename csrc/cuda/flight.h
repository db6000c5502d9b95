// The rays that are solved together, and how many fit.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/problem.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

// Device memory for rays in flight.
struct MemoryPlan {
  std::int64_t budget;  // bytes; 0: four fifths of what is free

  // At least one and at most `wanted`; throws std::runtime_error if not even one fits.
  std::size_t rays_that_fit(std::int64_t bytes_per_ray, std::size_t wanted) const;
};

// Moves and searches of rays by slot: their position in the block.
class Flight {
 public:
  Flight(const Problem& problem, int num_targets, std::size_t capacity);

  static std::int64_t bytes_per_ray(const Problem& problem, int num_targets);

  // Makes the moves of rays first .. first + count - 1, and begins their searches. `plan` lies in host memory.
  void begin(const Rays& rays, std::size_t first, int count, const SearchPlan& plan, const Prior& prior,
             cudaStream_t stream);

  // Appends the results in the order of the slots.
  void finish(std::vector<RayResult>& results, cudaStream_t stream) const;

  const float* moves() const { return moves_.data(); }
  Bracket* brackets() { return brackets_.data(); }
  Progress* progress() { return progress_.data(); }
  int count() const { return count_; }

 private:
  const Problem& problem_;
  std::size_t num_targets_;
  DeviceArray<float> moves_;       // [capacity, move_stride]
  DeviceArray<Bracket> brackets_;  // [capacity, targets]
  DeviceArray<Progress> progress_;
  int count_ = 0;
};

}  // namespace cuda
}  // namespace basinvol
