// The product of 128 rows of activations with some rows of a weight, by one thread block: fp32 sums in registers,
// operands through double-buffered shared memory. Every sum is one chain of multiply-adds in the order of the inputs,
// so that it depends neither on the tile nor on its neighbours. Only .cu files include it.
#pragma once

#include "cuda/block.h"
#include "cuda/product_arguments.h"

namespace basinvol {
namespace cuda {

template <int cols, int thread_rows, int thread_cols>
struct ProductTile {
  static constexpr int kRows = kBlockRows, kCols = cols, kDepth = 16;
  static constexpr int kThreadRows = thread_rows, kThreadCols = thread_cols;
  static constexpr int kAcross = cols / thread_cols;  // threads side by side
  static constexpr int kThreads = kRows / thread_rows * kAcross;
  static constexpr int kLines = kThreads / 4;  // rows that are loaded at once, four floats a thread

  struct Stage {
    // Four more than the rows: transposed stores then meet in a bank two at a time instead of four.
    float a[kDepth][kRows + 4];
    float b[kDepth][kCols + 4];
  };
  struct Shared {
    Stage stage[2];
  };
  using Sums = float[thread_rows][thread_cols];
};

using WideTile = ProductTile<64, 8, 8>;
using NarrowTile = ProductTile<16, 4, 4>;  // for heads: few classes

__device__ inline bool is_in_registers(Activation activation) {
  return activation == Activation::relu || activation == Activation::identity;
}

// Elements k .. k + 3 of a row, zeros beyond its end. `is_aligned`: rows begin at multiples of 16 bytes and their width
// is a multiple of four.
template <bool is_aligned>
__device__ inline float4 load_four(const float* row, int k, int width) {
  float4 found = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (is_aligned) {
    if (k < width) found = *reinterpret_cast<const float4*>(row + k);
    return found;
  }
  if (k < width) found.x = row[k];
  if (k + 1 < width) found.y = row[k + 1];
  if (k + 2 < width) found.z = row[k + 2];
  if (k + 3 < width) found.w = row[k + 3];
  return found;
}

__device__ inline std::size_t address(const float* of) { return reinterpret_cast<std::size_t>(of); }

template <typename Tile, bool is_first>
class Product {
 public:
  __device__ Product(const ProductArguments& a, int slot, const RowBlock& block, typename Tile::Shared& shared)
      : a_(a), shared_(shared), radius_(a.rays.radius(slot)) {
    weight_ = a.weight + slot * a.weight_stride;
    bias_ = is_first ? a.in.bias + slot * a.in.bias_stride : nullptr;
    part_ = static_cast<int>(threadIdx.x) % 4 * 4;
    line_ = static_cast<int>(threadIdx.x) / 4;
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      // Beyond the last row, the first again: its sums are not used.
      const int row = line_ + i * Tile::kLines < block.rows ? line_ + i * Tile::kLines : 0;
      rows_[i] = a.in.values.at(slot, block.first + row, a.inputs);
      if (is_first && a.in.shift.values != nullptr) shifts_[i] = a.in.shift.at(slot, block.first + row, a.inputs);
    }
    const float* values = a.in.values.values + slot * a.in.values.stride;
    const float* shift = a.in.shift.values + slot * a.in.shift.stride;
    const std::size_t any = address(values) | address(weight_) | (is_first ? address(bias_) | address(shift) : 0);
    is_aligned_ = a.inputs % 4 == 0 && any % 16 == 0;
  }

  // The sums of the thread's rows with outputs first_col + its columns. Ends with a barrier.
  __device__ void multiply(int first_col, typename Tile::Sums& sum) {
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
      for (int j = 0; j < Tile::kThreadCols; ++j) sum[i][j] = 0.0f;
    const int depth = (a_.inputs + Tile::kDepth - 1) / Tile::kDepth;
    load(0, first_col);
    put(0);
    __syncthreads();
    for (int step = 0; step < depth; ++step) {
      if (step + 1 < depth) load((step + 1) * Tile::kDepth, first_col);
      add(shared_.stage[step % 2], sum);
      if (step + 1 < depth) put((step + 1) % 2);
      __syncthreads();
    }
  }

  // Rows and columns of a thread lie in groups of four, spread over the tile so that reads meet in no bank.
  __device__ static int row_of(int i) {
    constexpr int spread = Tile::kRows / (Tile::kThreadRows / 4);
    return static_cast<int>(threadIdx.x) / Tile::kAcross * 4 + i / 4 * spread + i % 4;
  }
  __device__ static int col_of(int j) {
    constexpr int spread = Tile::kCols / (Tile::kThreadCols / 4);
    return static_cast<int>(threadIdx.x) % Tile::kAcross * 4 + j / 4 * spread + j % 4;
  }

 private:
  static constexpr int kLoadsA = Tile::kRows / Tile::kLines;
  static constexpr int kLoadsB = (Tile::kCols + Tile::kLines - 1) / Tile::kLines;

  __device__ float first_layer(float base, float shift, float bias) const {
    const float x = multiply_add(radius_, shift, base) + bias;
    return a_.in.activation == Activation::relu && x < 0.0f ? 0.0f : x;
  }

  __device__ void load(int start, int first_col) {
    if (is_aligned_)
      load_lines<true>(start + part_, first_col);
    else
      load_lines<false>(start + part_, first_col);
  }

  template <bool is_aligned>
  __device__ void load_lines(int k, int first_col) {
    const bool has_shift = is_first && a_.in.shift.values != nullptr;
    float4 bias = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (is_first) bias = load_four<is_aligned>(bias_, k, a_.inputs);
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      float4 x = load_four<is_aligned>(rows_[i], k, a_.inputs);
      if (is_first) {
        float4 shift = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (has_shift) shift = load_four<is_aligned>(shifts_[i], k, a_.inputs);
        x = make_float4(first_layer(x.x, shift.x, bias.x), first_layer(x.y, shift.y, bias.y),
                        first_layer(x.z, shift.z, bias.z), first_layer(x.w, shift.w, bias.w));
      }
      next_a_[i] = x;
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i) {
      const int col = first_col + line_ + i * Tile::kLines;
      const int output = col < a_.outputs ? col : first_col;  // likewise
      next_b_[i] = load_four<is_aligned>(weight_ + static_cast<std::int64_t>(output) * a_.inputs, k, a_.inputs);
    }
  }

  __device__ void put(int stage) {
    typename Tile::Stage& to = shared_.stage[stage];
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) put_four(to.a, line_ + i * Tile::kLines, next_a_[i]);
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i)
      if (line_ + i * Tile::kLines < Tile::kCols) put_four(to.b, line_ + i * Tile::kLines, next_b_[i]);
    if (is_first && !is_in_registers(a_.in.activation)) {  // here, where an index may vary: one copy of the code
#pragma unroll 1
      for (int i = 0; i < kLoadsA * 4; ++i) {
        float& x = to.a[part_ + i % 4][line_ + i / 4 * Tile::kLines];
        // Zeros beyond the last input meet zeros of the weight, and activation(bias = 0) is 0.
        x = activate(a_.in.activation, x);
      }
    }
  }

  template <int width>
  __device__ void put_four(float (&to)[Tile::kDepth][width], int line, const float4& x) {
    to[part_][line] = x.x;
    to[part_ + 1][line] = x.y;
    to[part_ + 2][line] = x.z;
    to[part_ + 3][line] = x.w;
  }

  __device__ void add(const typename Tile::Stage& from, typename Tile::Sums& sum) {
#pragma unroll
    for (int k = 0; k < Tile::kDepth; ++k) {
      float a[Tile::kThreadRows], b[Tile::kThreadCols];
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; i += 4) read_four(&from.a[k][row_of(i)], a + i);
#pragma unroll
      for (int j = 0; j < Tile::kThreadCols; j += 4) read_four(&from.b[k][col_of(j)], b + j);
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
        for (int j = 0; j < Tile::kThreadCols; ++j) sum[i][j] = multiply_add(a[i], b[j], sum[i][j]);
    }
  }

  __device__ static void read_four(const float* from, float* to) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
  }

  const ProductArguments& a_;
  typename Tile::Shared& shared_;
  float radius_;
  bool is_aligned_;
  const float *weight_, *bias_;  // of the slot; the bias is the first layer's
  int part_, line_;
  const float* rows_[kLoadsA];
  const float* shifts_[is_first ? kLoadsA : 1];
  float4 next_a_[kLoadsA], next_b_[kLoadsB];
};

}  // namespace cuda
}  // namespace basinvol
