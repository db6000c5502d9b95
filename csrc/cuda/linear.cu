#include "cuda/linear.h"
#include "cuda/product_tile.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

namespace {

template <typename Tile, bool is_first>
__global__ void __launch_bounds__(Tile::kThreads) linear_kernel(LinearArguments a) {
  const ProductArguments& p = a.product;
  if (static_cast<int>(blockIdx.z) >= *p.rays.count) return;
  const int slot = p.rays.slots[blockIdx.z];
  const RowBlock block = p.rows.blocks[blockIdx.x];
  if (!p.rays.reaches(slot, block)) return;

  Product<Tile, is_first> product(p, slot, block, *reinterpret_cast<typename Tile::Shared*>(shared_bytes));
  const int first_col = static_cast<int>(blockIdx.y) * Tile::kCols;
  typename Tile::Sums sum;
  product.multiply(first_col, sum);

  const float* bias = p.bias == nullptr ? nullptr : p.bias + slot * p.bias_stride;
  float* out = a.out + slot * a.out_stride + (block.first - a.out_origin) * p.outputs;
#pragma unroll
  for (int j = 0; j < Tile::kThreadCols; ++j) {
    const int col = first_col + product.col_of(j);
    if (col >= p.outputs) continue;
    const float offset = bias == nullptr ? 0.0f : bias[col];
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int row = product.row_of(i);
      float x = sum[i][j] + offset;
      if (p.activation == Activation::relu && x < 0.0f) x = 0.0f;
      if (row < block.rows) out[static_cast<std::int64_t>(row) * p.outputs + col] = x;
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
  const dim3 grid(static_cast<unsigned>(p.rows.count), ceil_div(p.outputs, WideTile::kCols),
                  static_cast<unsigned>(p.rays.capacity));
  launch(p.in.bias != nullptr ? linear_kernel<WideTile, true> : linear_kernel<WideTile, false>, "the kernel linear",
         grid, WideTile::kThreads, sizeof(WideTile::Shared), stream, a);
}

}  // namespace cuda
}  // namespace basinvol
