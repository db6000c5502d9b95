#include "cuda/loss_head.h"
#include "cuda/product_tile.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

namespace {

// Outputs of a tile, row by row, in the memory that held the product's operands; a thread then reads a row of its own.
template <typename Tile>
struct HeadShared {
  union {
    TileShared<Tile> operands;
    float outputs[kProductRows][Tile::kCols + 1];
  };
  double scratch[kTileThreads];
};

enum class Head { product, first_layer_product, direct };

template <typename Tile, Head head>
__device__ void compute_outputs(const ProductArguments& p, int slot, const RowBlock& block, int first_col,
                                HeadShared<Tile>& shared) {
  if constexpr (head == Head::direct) {
    const float radius = p.rays.radius(slot);
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < kProductRows * Tile::kCols; at += kTileThreads) {
      const int row = at / Tile::kCols, col = at % Tile::kCols, output = first_col + col;
      if (row >= block.rows || output >= p.outputs) continue;
      const float base = p.in.values.at(slot, block.first + row, p.outputs)[output];
      const float shift =
          p.in.shift.values == nullptr ? 0.0f : p.in.shift.at(slot, block.first + row, p.outputs)[output];
      const float x = multiply_add(radius, shift, base) + p.in.bias[slot * p.in.bias_stride + output];
      shared.outputs[row][col] = activate(p.in.activation, x);
    }
  } else {
    Product<Tile, head == Head::first_layer_product> product(p, slot, block, shared.operands);
    typename Tile::Sums sum;
    product.multiply(first_col, sum);
    const float* bias = p.bias + slot * p.bias_stride;
#pragma unroll
    for (int j = 0; j < Tile::kThreadCols; ++j) {
      const int col = Tile::col_of(j);
      const float offset = first_col + col < p.outputs ? bias[first_col + col] : 0.0f;
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i) shared.outputs[Tile::row_of(i)][col] = sum[i][j] + offset;
    }
    if (p.activation != Activation::identity) {
#pragma unroll 1
      for (int at = 0; at < Tile::kThreadRows * Tile::kThreadCols; ++at) {  // a thread's own: no barrier
        float& x = shared.outputs[Tile::row_of(at / Tile::kThreadCols)][Tile::col_of(at % Tile::kThreadCols)];
        x = activate(p.activation, x);
      }
    }
  }
}

template <typename Tile, Head head>
__global__ void __launch_bounds__(kTileThreads) loss_head_kernel(LossHeadArguments a) {
  static_assert(kTileThreads == kProductRows, "a thread has a row");
  const ProductArguments& p = a.product;
  if (static_cast<int>(blockIdx.y) >= *p.rays.count) return;
  const int slot = p.rays.slots[blockIdx.y];
  const RowBlock block = p.rows.blocks[blockIdx.x];
  if (!p.rays.reaches(slot, block)) return;

  auto& shared = *reinterpret_cast<HeadShared<Tile>*>(shared_bytes);
  const int mine = static_cast<int>(threadIdx.x);
  const bool is_there = mine < block.rows;
  const std::int64_t row = block.first + (is_there ? mine : 0);
  RowLoss loss = a.examples.row_loss(a.order == nullptr ? row : a.order[row]);
  for (int first_col = 0; first_col < p.outputs; first_col += Tile::kCols) {
    compute_outputs<Tile, head>(p, slot, block, first_col, shared);
    __syncthreads();
    const int cols = p.outputs - first_col < Tile::kCols ? p.outputs - first_col : Tile::kCols;
    if (is_there) {
#pragma unroll 1
      for (int j = 0; j < cols; ++j) loss.add(first_col + j, shared.outputs[mine][j]);
    }
    __syncthreads();
  }
  const double value = is_there ? loss.value() : 0.0;
  if (is_there && a.row_losses != nullptr) a.row_losses[slot * a.row_losses_stride + row] = value;
  const double sum = block_sum(value, shared.scratch);
  if (mine == 0) a.partials[slot * a.partials_stride + blockIdx.x] = sum;
}

template <typename Tile>
void launch_head(const LossHeadArguments& a, cudaStream_t stream) {
  const ProductArguments& p = a.product;
  void (*kernel)(LossHeadArguments) = loss_head_kernel<Tile, Head::product>;
  if (a.is_direct)
    kernel = loss_head_kernel<Tile, Head::direct>;
  else if (p.in.bias != nullptr)
    kernel = loss_head_kernel<Tile, Head::first_layer_product>;
  static_assert(sizeof(HeadShared<Tile>) <= 48 * 1024, "more shared memory must be asked for");
  launch(kernel, "the kernel loss_head",
         dim3(static_cast<unsigned>(p.rows.count), static_cast<unsigned>(p.rays.capacity)), kTileThreads,
         sizeof(HeadShared<Tile>), stream, a);
}

}  // namespace

void loss_head(const LossHeadArguments& a, cudaStream_t stream) {
  if (a.product.outputs <= NarrowTile::kCols)
    launch_head<NarrowTile>(a, stream);
  else
    launch_head<WideTile>(a, stream);
}

}  // namespace cuda
}  // namespace basinvol
