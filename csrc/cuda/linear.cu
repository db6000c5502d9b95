#include "cuda/linear.h"
#include "cuda/product_tile.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

namespace {

// Blocks that run at the same time share what they read: 32 row blocks of inputs (13 MB of MNIST) stay in the L2 cache
// while all rays pass over them.
constexpr int kGroup = 32;

// Some neighbours of a row, of which `width` exist.
template <int run>
__device__ void store(float* out, int width, const float (&x)[run]) {
  if (run == 4 && width >= 4 && (reinterpret_cast<std::size_t>(out) & 15) == 0) {
    *reinterpret_cast<float4*>(out) = make_float4(x[0], x[1], x[run - 2], x[run - 1]);
    return;
  }
#pragma unroll
  for (int j = 0; j < run; ++j)
    if (j < width) out[j] = x[j];
}

template <typename Tile, bool is_first>
__global__ void __launch_bounds__(kTileThreads, Tile::kResident) linear_kernel(LinearArguments a) {
  const ProductArguments& p = a.product;
  if (static_cast<int>(blockIdx.y) >= *p.rays.count) return;
  const int group = p.rows.count < kGroup ? p.rows.count : kGroup;
  const int block_index = static_cast<int>(blockIdx.z) * group + static_cast<int>(blockIdx.x) % group;
  if (block_index >= p.rows.count) return;
  const int slot = p.rays.slots[blockIdx.y];
  const RowBlock block = p.rows.blocks[block_index];
  if (!p.rays.reaches(slot, block)) return;

  Product<Tile, is_first> product(p, slot, block, *reinterpret_cast<TileShared<Tile>*>(shared_bytes));
  const int first_col = static_cast<int>(blockIdx.x) / group * Tile::kCols;
  typename Tile::Sums sum;
  product.multiply(first_col, sum);

  const float* bias = p.bias == nullptr ? nullptr : p.bias + slot * p.bias_stride;
  float* out = a.out + slot * a.out_stride + (block.first - a.out_origin) * p.outputs;
#pragma unroll
  for (int j = 0; j < Tile::kThreadCols; j += Tile::kRun) {
    const int col = first_col + Tile::col_of(j), width = p.outputs - col;
    float offset[Tile::kRun];
#pragma unroll
    for (int l = 0; l < Tile::kRun; ++l) offset[l] = bias == nullptr || l >= width ? 0.0f : bias[col + l];
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int row = Tile::row_of(i);
      float x[Tile::kRun];
#pragma unroll
      for (int l = 0; l < Tile::kRun; ++l) {
        x[l] = sum[i][j + l] + offset[l];
        if (p.activation == Activation::relu && x[l] < 0.0f) x[l] = 0.0f;
      }
      if (row < block.rows) store(out + static_cast<std::int64_t>(row) * p.outputs + col, width, x);
    }
  }
  if (is_in_registers(p.activation)) return;
#pragma unroll 1
  for (int at = 0; at < Tile::kThreadRows * Tile::kThreadCols; ++at) {  // a thread's own: no barrier
    const int row = Tile::row_of(at / Tile::kThreadCols), col = first_col + Tile::col_of(at % Tile::kThreadCols);
    if (row >= block.rows || col >= p.outputs) continue;
    float& x = out[static_cast<std::int64_t>(row) * p.outputs + col];
    x = activate(p.activation, x);
  }
}

template <typename Tile>
void launch_linear(const LinearArguments& a, cudaStream_t stream) {
  const ProductArguments& p = a.product;
  if (p.rows.count == 0) return;
  const int group = p.rows.count < kGroup ? p.rows.count : kGroup;
  const dim3 grid(static_cast<unsigned>(group) * ceil_div(p.outputs, Tile::kCols),
                  static_cast<unsigned>(p.rays.capacity), ceil_div(p.rows.count, group));
  launch(p.in.bias != nullptr ? linear_kernel<Tile, true> : linear_kernel<Tile, false>, "the kernel linear", grid,
         kTileThreads, sizeof(TileShared<Tile>), stream, a);
}

}  // namespace

void linear(const LinearArguments& a, cudaStream_t stream) {
  if (a.product.precision == Precision::tf32x3)
    launch_linear<TensorTile>(a, stream);
  else
    launch_linear<WideTile>(a, stream);
}

}  // namespace cuda
}  // namespace basinvol
