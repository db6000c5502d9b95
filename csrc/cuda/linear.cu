#include "cuda/linear.h"
#include "cuda/product_tile.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

namespace {

// Blocks that run at the same time share what they read: 32 row blocks of inputs (13 MB of MNIST) stay in the L2 cache
// while all rays pass over them.
constexpr int kGroup = 32;

__device__ inline void store_four(float* out, int width, const float (&x)[4]) {
  if (width >= 4 && (reinterpret_cast<std::size_t>(out) & 15) == 0) {
    *reinterpret_cast<float4*>(out) = make_float4(x[0], x[1], x[2], x[3]);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (j < width) out[j] = x[j];
}

template <typename Tile, bool is_first>
__global__ void __launch_bounds__(Tile::kThreads) linear_kernel(LinearArguments a) {
  const ProductArguments& p = a.product;
  if (static_cast<int>(blockIdx.y) >= *p.rays.count) return;
  const int group = p.rows.count < kGroup ? p.rows.count : kGroup;
  const int block_index = static_cast<int>(blockIdx.z) * group + static_cast<int>(blockIdx.x) % group;
  if (block_index >= p.rows.count) return;
  const int slot = p.rays.slots[blockIdx.y];
  const RowBlock block = p.rows.blocks[block_index];
  if (!p.rays.reaches(slot, block)) return;

  Product<Tile, is_first> product(p, slot, block, *reinterpret_cast<typename Tile::Shared*>(shared_bytes));
  const int first_col = static_cast<int>(blockIdx.x) / group * Tile::kCols;
  typename Tile::Sums sum;
  product.multiply(first_col, sum);

  const float* bias = p.bias == nullptr ? nullptr : p.bias + slot * p.bias_stride;
  float* out = a.out + slot * a.out_stride + (block.first - a.out_origin) * p.outputs;
#pragma unroll
  for (int j = 0; j < Tile::kThreadCols; j += 4) {
    const int col = first_col + product.col_of(j), width = p.outputs - col;
    float offset[4];
#pragma unroll
    for (int l = 0; l < 4; ++l) offset[l] = bias == nullptr || l >= width ? 0.0f : bias[col + l];
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int row = product.row_of(i);
      float x[4];
#pragma unroll
      for (int l = 0; l < 4; ++l) {
        x[l] = sum[i][j + l] + offset[l];
        if (p.activation == Activation::relu && x[l] < 0.0f) x[l] = 0.0f;
      }
      if (row < block.rows) store_four(out + static_cast<std::int64_t>(row) * p.outputs + col, width, x);
    }
  }
  if (is_in_registers(p.activation)) return;
#pragma unroll 1
  for (int at = 0; at < Tile::kThreadRows * Tile::kThreadCols; ++at) {  // a thread's own: no barrier
    const int row = product.row_of(at / Tile::kThreadCols), col = first_col + product.col_of(at % Tile::kThreadCols);
    if (row >= block.rows || col >= p.outputs) continue;
    float& x = out[static_cast<std::int64_t>(row) * p.outputs + col];
    x = activate(p.activation, x);
  }
}

}  // namespace

void linear(const LinearArguments& a, cudaStream_t stream) {
  const ProductArguments& p = a.product;
  if (p.rows.count == 0) return;
  const int group = p.rows.count < kGroup ? p.rows.count : kGroup;
  const dim3 grid(static_cast<unsigned>(group) * ceil_div(p.outputs, WideTile::kCols),
                  static_cast<unsigned>(p.rays.capacity), ceil_div(p.rows.count, group));
  launch(p.in.bias != nullptr ? linear_kernel<WideTile, true> : linear_kernel<WideTile, false>, "the kernel linear",
         grid, WideTile::kThreads, sizeof(WideTile::Shared), stream, a);
}

}  // namespace cuda
}  // namespace basinvol
