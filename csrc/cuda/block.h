// What the threads of a block do together. Only .cu files include it.
#pragma once

#include <cuda_runtime.h>

namespace basinvol {
namespace cuda {

extern __shared__ __align__(16) unsigned char shared_bytes[];

// The sum over the block's threads in a fixed order, for all of them; their number is a power of two. scratch [threads]
__device__ inline double block_sum(double mine, double* scratch) {
  scratch[threadIdx.x] = mine;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
    __syncthreads();
  }
  const double sum = scratch[0];
  __syncthreads();
  return sum;
}

// a b + c, rounded once on the device. Contraction is off in all kernels (the search and the generator must round as
// the CPU's do), so products say where they want it.
__device__ inline float multiply_add(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return a * b + c;
#endif
}

}  // namespace cuda
}  // namespace basinvol
