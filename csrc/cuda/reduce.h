// Mean losses from the sums of row blocks.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/rows.h"

namespace basinvol {
namespace cuda {

struct ReduceArguments {
  ActiveRays rays;
  const double* partials;  // by slot [row blocks]
  std::int64_t partials_stride;
  const int* blocks_until;     // [num_levels]: row blocks of levels 0 .. l
  const std::int64_t* levels;  // [num_levels]
  int num_levels, terms;
  double* losses;  // by slot [num_levels]; those of the levels that the ray reaches are written
};
void reduce(const ReduceArguments& arguments, cudaStream_t stream);

}  // namespace cuda
}  // namespace basinvol
