// The arithmetic of programs, compiled once per instruction set. A number does not depend on what is computed beside
// it: every element of a product is one chain of multiply-adds, and rows are reduced each on its own.
#pragma once

#include <cstdint>

namespace basinvol {
namespace cpu {

enum class Unary {
  identity,
  relu,
  leaky_relu,  // slope
  elu,         // alpha
  gelu,
  gelu_tanh,
  silu,
  sigmoid,
  tanh,
  exp,
  log,
  sqrt,
  rsqrt,
  reciprocal,
  negate,
  abs,
  square,
  cube,
  clamp,   // least, most
  affine,  // factor, offset
  erf,
  softplus,
  sin,
  cos,
  count
};

enum class Binary { add, subtract, multiply, divide, maximum, minimum, fill_where };

// A function of one number, with its parameters.
struct Function {
  Unary kind = Unary::identity;
  float first = 0.0f, second = 0.0f;
};

// Products take weights [inputs, outputs] packed as panels of `panel` outputs, the last one narrower: [inputs][panel].
struct TensorKernels {
  int panel;

  // c [rows, width] = (c or start or 0) + a [rows, inputs] x packed; `start` is a row. Six rows at a time are written,
  // so `rows` may be read and written up to the next multiple of six. Packed panels are `pitch` inputs long.
  void (*product)(const float* a, std::int64_t a_stride, std::int64_t rows, std::int64_t inputs, const float* packed,
                  std::int64_t pitch, int width, const float* start, bool adds, float* c, std::int64_t c_stride);

  // The same where input k of row i is at rows[i] + offsets[k], as in the patches of an image; `rows` is a multiple of
  // six.
  void (*patch_product)(const float* const* rows, std::int64_t num_rows, const std::int32_t* offsets,
                        std::int64_t inputs, const float* panel, int width, const float* start, bool adds, float* c,
                        std::int64_t c_stride);

  void (*unary)(const Function& function, const float* x, std::int64_t count, float* out);

  // Steps are 0, where one number serves all, or 1. fill_where: b where a is not 0, else what `out` holds.
  void (*binary)(Binary kind, const float* a, int a_step, const float* b, int b_step, std::int64_t count, float* out);

  // (x - mean) / sqrt(variance + epsilon), or without a center x / sqrt(mean square + epsilon); then x weight + bias
  // where these are given.
  void (*normalize)(const float* x, std::int64_t count, float epsilon, bool is_centered, const float* weight,
                    const float* bias, float* out);

  // exp(x - largest) / sum of it, or its logarithm.
  void (*softmax)(const float* x, std::int64_t count, bool is_log, float* out);

  // The sum or the largest of some vectors of `channels` numbers, times a factor: rows [0, rows) by columns
  // [0, columns).
  void (*pool)(bool is_max, const float* x, std::int64_t row_stride, std::int64_t column_stride, int rows, int columns,
               std::int64_t channels, float factor, float* out);

  // out [channels] += x * weight, elementwise.
  void (*multiply_add)(const float* x, const float* weight, std::int64_t channels, float* out);

  float (*sum)(const float* x, std::int64_t count);
  float (*largest)(const float* x, std::int64_t count);
};

// Those of an instruction set that `kernels_named` knows.
const TensorKernels& tensor_kernels_named(const char* name);

}  // namespace cpu
}  // namespace basinvol
