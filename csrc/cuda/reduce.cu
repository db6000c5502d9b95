#include "cuda/block.h"
#include "cuda/reduce.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

namespace {

constexpr int kThreads = 128;

// One block per ray. A thread adds every 128th row block of a level, then the block adds its threads.
__global__ void __launch_bounds__(kThreads) reduce_kernel(ReduceArguments a) {
  if (static_cast<int>(blockIdx.x) >= *a.rays.count) return;
  const int slot = a.rays.slots[blockIdx.x];
  const int last = a.rays.probes == nullptr ? a.num_levels - 1 : a.rays.probes[slot].level;
  double* scratch = reinterpret_cast<double*>(shared_bytes);
  double total = 0.0;
  int first = 0;
  for (int level = 0; level <= last; ++level) {
    double mine = 0.0;
    for (int b = first + static_cast<int>(threadIdx.x); b < a.blocks_until[level]; b += kThreads)
      mine += a.partials[slot * a.partials_stride + b];
    first = a.blocks_until[level];
    total += block_sum(mine, scratch);
    if (threadIdx.x == 0)
      a.losses[static_cast<std::int64_t>(slot) * a.num_levels + level] =
          total / (static_cast<double>(a.levels[level]) * a.terms);
  }
}

}  // namespace

void reduce(const ReduceArguments& a, cudaStream_t stream) {
  launch(reduce_kernel, "the kernel reduce", dim3(static_cast<unsigned>(a.rays.capacity)), kThreads,
         kThreads * sizeof(double), stream, a);
}

}  // namespace cuda
}  // namespace basinvol
