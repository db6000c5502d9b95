// The product of 128 rows of activations with some rows of a weight, by one thread block: fp32 sums in registers,
// operands through double-buffered shared memory. Every sum is one chain of additions in the order of the inputs (on
// tensor cores, of sums of eight), so that it depends neither on the tile nor on its neighbours. Only .cu files include
// it.
#pragma once

#include "cuda/block.h"
#include "cuda/product_arguments.h"
#include "cuda/tensor_core.h"

namespace basinvol {
namespace cuda {

constexpr int kTileDepth = 16;     // inputs in shared memory at a time
constexpr int kTileThreads = 128;  // four to a row of operands, so that a warp reads whole 64-byte pieces

// Operands by input, then row; `padding` spreads what is read or written together over the banks.
template <int cols, int padding>
struct TileStage {
  float a[kTileDepth][kProductRows + padding];
  float b[kTileDepth][cols + padding];
};

// fp32 on the ordinary units. Rows and columns of a thread lie in groups of four, spread over the tile.
template <int cols, int thread_rows, int thread_cols>
struct FloatTile {
  static constexpr int kCols = cols, kThreadRows = thread_rows, kThreadCols = thread_cols;
  static constexpr int kRun = 4;                      // columns of a thread side by side
  static constexpr int kResident = 3;                 // blocks to a multiprocessor, as registers allow
  static constexpr int kAcross = cols / thread_cols;  // threads side by side
  static_assert(kProductRows / thread_rows * kAcross == kTileThreads, "every thread has its part");
  using Stage = TileStage<cols, 4>;
  using Sums = float[thread_rows][thread_cols];

  __device__ static int row_of(int i) {
    constexpr int spread = kProductRows / (thread_rows / 4);
    return static_cast<int>(threadIdx.x) / kAcross * 4 + i / 4 * spread + i % 4;
  }
  __device__ static int col_of(int j) {
    constexpr int spread = cols / (thread_cols / 4);
    return static_cast<int>(threadIdx.x) % kAcross * 4 + j / 4 * spread + j % 4;
  }

  __device__ static void add(const Stage& from, Sums& sum) {
#pragma unroll
    for (int k = 0; k < kTileDepth; ++k) {
      float a[thread_rows], b[thread_cols];
#pragma unroll
      for (int i = 0; i < thread_rows; i += 4) read_four(&from.a[k][row_of(i)], a + i);
#pragma unroll
      for (int j = 0; j < thread_cols; j += 4) read_four(&from.b[k][col_of(j)], b + j);
#pragma unroll
      for (int i = 0; i < thread_rows; ++i)
#pragma unroll
        for (int j = 0; j < thread_cols; ++j) sum[i][j] = multiply_add(a[i], b[j], sum[i][j]);
    }
  }

  __device__ static void read_four(const float* from, float* to) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
  }
};

using WideTile = FloatTile<64, 8, 8>;
using NarrowTile = FloatTile<16, 4, 4>;  // for heads: few classes

// fp32-grade products on tensor cores: each operand is the sum of two tf32 numbers, and three of the four products
// count. Tensor cores round toward zero, so that a sum over the whole depth would be too small by a share that grows
// with the depth (Ootomo and Yokota 2022): they add eight inputs, and ordinary units add these sums to nearest. A warp
// has 32 rows; the places of a thread are those of mma.m16n8k8 (PTX ISA, section on its fragments).
struct TensorTile {
  static constexpr int kCols = 64, kThreadRows = 4, kThreadCols = 16, kRun = 2;
  static constexpr int kResident = 2;
  using Stage = TileStage<kCols, 8>;
  using Sums = float[kThreadRows][kThreadCols];

  __device__ static int row_of(int i) { return warp() * 32 + i * 8 + group(); }
  __device__ static int col_of(int j) { return j / 2 * 8 + member() * 2 + j % 2; }

  __device__ static void add(const Stage& from, Sums& sum) {
#pragma unroll
    for (int k = 0; k < kTileDepth; k += 8) {
      SplitFloat a[kThreadRows][2];
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) a[i][half] = SplitFloat(from.a[k + half * 4 + member()][row_of(i)]);
#pragma unroll
      for (int j = 0; j < kThreadCols; j += 2) {
        const SplitFloat b[2] = {SplitFloat(from.b[k + member()][j * 4 + group()]),
                                 SplitFloat(from.b[k + 4 + member()][j * 4 + group()])};
#pragma unroll
        for (int i = 0; i < kThreadRows; i += 2) {
          float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
          const SplitFloat &a0 = a[i][0], &a1 = a[i + 1][0], &a2 = a[i][1], &a3 = a[i + 1][1];
          tensor_multiply_add(c, {a0.small, a1.small, a2.small, a3.small}, {b[0].big, b[1].big});
          tensor_multiply_add(c, {a0.big, a1.big, a2.big, a3.big}, {b[0].small, b[1].small});
          tensor_multiply_add(c, {a0.big, a1.big, a2.big, a3.big}, {b[0].big, b[1].big});
          sum[i][j] += c[0];
          sum[i][j + 1] += c[1];
          sum[i + 1][j] += c[2];
          sum[i + 1][j + 1] += c[3];
        }
      }
    }
  }

 private:
  // x is nearly big + small: what is left is 2^-22 of it.
  struct SplitFloat {
    Tf32 big, small;
    __device__ SplitFloat() {}
    __device__ explicit SplitFloat(float x) : big(to_tf32(x)), small(to_tf32(x - from_tf32(big))) {}
  };

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int group() { return static_cast<int>(threadIdx.x) % 32 / 4; }
  __device__ static int member() { return static_cast<int>(threadIdx.x) % 4; }
};

// Two stages: one is computed with while the other is filled.
template <typename Tile>
struct TileShared {
  typename Tile::Stage stage[2];
};

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
  __device__ Product(const ProductArguments& a, int slot, const RowBlock& block, TileShared<Tile>& shared)
      : a_(a), shared_(shared), radius_(a.rays.radius(slot)) {
    weight_ = a.weight + slot * a.weight_stride;
    bias_ = is_first ? a.in.bias + slot * a.in.bias_stride : nullptr;
    part_ = static_cast<int>(threadIdx.x) % 4 * 4;
    line_ = static_cast<int>(threadIdx.x) / 4;
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      // Beyond the last row, the first again: its sums are not used.
      const int row = line_ + i * kLines < block.rows ? line_ + i * kLines : 0;
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
    const int depth = (a_.inputs + kTileDepth - 1) / kTileDepth;
    load(0, first_col);
    put(0);
    __syncthreads();
    for (int step = 0; step < depth; ++step) {
      if (step + 1 < depth) load((step + 1) * kTileDepth, first_col);
      Tile::add(shared_.stage[step % 2], sum);
      if (step + 1 < depth) put((step + 1) % 2);
      __syncthreads();
    }
  }

 private:
  static constexpr int kLines = kTileThreads / 4;  // rows that are loaded at once, four floats a thread
  static constexpr int kLoadsA = kProductRows / kLines;
  static constexpr int kLoadsB = (Tile::kCols + kLines - 1) / kLines;

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
      const int col = first_col + line_ + i * kLines;
      const int output = col < a_.outputs ? col : first_col;  // likewise
      next_b_[i] = load_four<is_aligned>(weight_ + static_cast<std::int64_t>(output) * a_.inputs, k, a_.inputs);
    }
  }

  __device__ void put(int stage) {
    typename Tile::Stage& to = shared_.stage[stage];
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) put_four(to.a, line_ + i * kLines, next_a_[i]);
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i)
      if (line_ + i * kLines < Tile::kCols) put_four(to.b, line_ + i * kLines, next_b_[i]);
    if (is_first && !is_in_registers(a_.in.activation)) {  // here, where an index may vary: one copy of the code
#pragma unroll 1
      for (int i = 0; i < kLoadsA * 4; ++i) {
        float& x = to.a[part_ + i % 4][line_ + i / 4 * kLines];
        // Zeros beyond the last input meet zeros of the weight, and activation(bias = 0) is 0.
        x = activate(a_.in.activation, x);
      }
    }
  }

  template <int width>
  __device__ void put_four(float (&to)[kTileDepth][width], int line, const float4& x) {
    to[part_][line] = x.x;
    to[part_ + 1][line] = x.y;
    to[part_ + 2][line] = x.z;
    to[part_ + 3][line] = x.w;
  }

  const ProductArguments& a_;
  TileShared<Tile>& shared_;
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
