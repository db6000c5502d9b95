#include "box_muller.h"
#include "cuda/block.h"
#include "cuda/materialize.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kPartialSums = 8;  // of a norm, as on the CPU: the same bits
constexpr int kStaged = 2048;    // elements in shared memory at a time

__global__ void __launch_bounds__(kThreads) normals_kernel(NormalsArguments a) {
  const int tensor = static_cast<int>(blockIdx.y);
  const std::int64_t size = a.sizes[tensor];
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (4 * block >= size) return;
  float four[4];
  four_normals(a.seed, static_cast<std::uint32_t>(block), a.directions[blockIdx.z], static_cast<std::uint32_t>(tensor),
               four);
  float* out = a.out + blockIdx.z * a.stride + a.offsets[tensor] + 4 * block;
  for (int i = 0; i < 4; ++i)
    if (4 * block + i < size) out[i] = four[i];
}

// One block per ray. Squares of floats are exact in float64, so only the order of the sums decides the bits.
__global__ void __launch_bounds__(kThreads) square_norms_kernel(MovesArguments a) {
  float* staged = reinterpret_cast<float*>(shared_bytes);
  double* partial = reinterpret_cast<double*>(staged + kStaged);
  const float* normals = a.moves + blockIdx.x * a.stride;
  double sum = 0.0;
  for (std::int64_t first = 0; first < a.dim; first += kStaged) {
    const int count = static_cast<int>(a.dim - first < kStaged ? a.dim - first : kStaged);
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) staged[i] = normals[first + i];
    __syncthreads();
    if (threadIdx.x < kPartialSums) {
#pragma unroll 8
      for (int i = static_cast<int>(threadIdx.x); i < count; i += kPartialSums)
        sum += static_cast<double>(staged[i]) * staged[i];
    }
    __syncthreads();
  }
  if (threadIdx.x < kPartialSums) partial[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double square = 0.0;
  for (int lane = 0; lane < kPartialSums; ++lane) square += partial[lane];
  a.progress[blockIdx.x].unit = std::sqrt(square);
}

__global__ void __launch_bounds__(kThreads) moves_kernel(MovesArguments a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= a.dim) return;
  const double inverse = 1.0 / a.progress[blockIdx.y].unit;
  float& move = a.moves[blockIdx.y * a.stride + i];
  move = static_cast<float>(move * inverse) * a.scale[i];
}

__global__ void __launch_bounds__(kThreads) perturb_kernel(PerturbArguments a) {
  if (static_cast<int>(blockIdx.z) >= *a.rays.count) return;
  const Segment segment = a.network.segments[blockIdx.y];
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= segment.size || segment.packed >= a.packed_size) return;
  const int slot = a.rays.slots[blockIdx.z];
  const float center = a.network.center[segment.packed + i];
  float& out = a.out[slot * a.out_stride + segment.packed + i];
  if (segment.flat < 0)
    out = center;
  else
    out = multiply_add(a.rays.radius(slot), a.moves[slot * a.moves_stride + segment.flat + i], center);
}

}  // namespace

void make_normals(const NormalsArguments& a, cudaStream_t stream) {
  launch(normals_kernel, "the kernel normals", dim3(ceil_div(a.largest, 4 * kThreads), a.num_tensors, a.num_rays),
         kThreads, 0, stream, a);
}

void normals_to_moves(const MovesArguments& a, cudaStream_t stream) {
  launch(square_norms_kernel, "the kernel square_norms", dim3(a.num_rays), kThreads,
         kStaged * sizeof(float) + kPartialSums * sizeof(double), stream, a);
  launch(moves_kernel, "the kernel moves", dim3(ceil_div(a.dim, kThreads), a.num_rays), kThreads, 0, stream, a);
}

void perturb(const PerturbArguments& a, cudaStream_t stream) {
  launch(perturb_kernel, "the kernel perturb",
         dim3(ceil_div(a.largest, kThreads), static_cast<unsigned>(a.network.num_segments),
              static_cast<unsigned>(a.rays.capacity)),
         kThreads, 0, stream, a);
}

}  // namespace cuda
}  // namespace basinvol
