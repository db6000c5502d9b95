// Moves (scale x direction) from the generator, and perturbed parameters from moves.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/network.h"
#include "cuda/rows.h"

namespace basinvol {
namespace cuda {

// The Gaussian numbers of `num_rays` directions, the bits of the CPU engine's.
struct NormalsArguments {
  std::uint64_t seed;
  const std::uint32_t* directions;  // [num_rays]
  int num_rays;
  const std::int64_t* sizes;    // [num_tensors]
  const std::int64_t* offsets;  // [num_tensors], in the flat vector
  int num_tensors;
  std::int64_t largest;  // of `sizes`
  float* out;            // [num_rays, stride]
  std::int64_t stride;
};
void make_normals(const NormalsArguments& arguments, cudaStream_t stream);

// In place: normals become scale x normals / norm; the norm is each ray's grid unit.
struct MovesArguments {
  float* moves;  // [num_rays, stride]
  std::int64_t stride;
  const float* scale;  // [dim]
  std::int64_t dim;
  int num_rays;
  Progress* progress;  // [num_rays]
};
void normals_to_moves(const MovesArguments& arguments, cudaStream_t stream);

// Packed parameters of every active ray at its probe: center + radius x move. The first layer's weight is left out.
struct PerturbArguments {
  NetworkView network;
  std::int64_t packed_size;  // without the first layer's weight
  const float* moves;        // by slot
  std::int64_t moves_stride;
  float* out;  // by slot
  std::int64_t out_stride;
  std::int64_t largest;  // of the segments
  ActiveRays rays;
};
void perturb(const PerturbArguments& arguments, cudaStream_t stream);

}  // namespace cuda
}  // namespace basinvol
