// The arithmetic of gradients on the CPU beyond that of losses, compiled once per instruction set like kernels.h.
#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "loss_math.h"

namespace basinvol {
namespace cpu {

// A trajectory of a chain under exp(-|y|^2 / 2 - t R), where R = beta loss + precision |x|^2 / 2 - reference |y|^2 / 2
// and x = mean + lengths y: turns of y and its momentum by `angle`, which the Gaussian needs, between kicks by R.
struct Motion {
  const double *mean, *lengths;     // [dim]
  const double *angle, *cos, *sin;  // [dim]
  double t, beta, precision, reference;
  int num_steps;
};

// Gradients of weights [outputs, inputs] lie in panels as the weights do, with inputs rounded up to whole tiles.
struct GradientKernels {
  // out = center + scale x point, in float64 and then rounded.
  void (*place)(const float* center, const float* scale, const double* point, std::int64_t count, float* out);

  // x = mean + lengths y.
  void (*place_in_reference)(const Motion& motion, const double* y, std::int64_t count, double* x);

  // y and momentum, each turned by its angle.
  void (*turn)(const Motion& motion, std::int64_t count, double* y, double* momentum);

  // momentum -= share x t x angle x the gradient of R by y; what is not finite of the latter counts as zero.
  void (*kick)(const Motion& motion, double share, const double* gradient, const double* x, const double* y,
               std::int64_t count, double* momentum);

  // The squared norm of a vector.
  double (*square)(const double* x, std::int64_t count);

  // A weight [outputs, inputs] as panels of inputs: [outputs][panel width], zeros beyond the last input.
  void (*pack_inputs)(const float* weight, int outputs, int inputs, float* packed);

  // out [count] = activation(x).
  void (*activate)(Activation activation, const float* x, std::int64_t count, float* out);

  // Derivatives of the rows' summed losses by the outputs, zeros in the padding and in rows up to `padded_rows`.
  void (*loss_derivatives)(Loss loss, const Outputs& outputs, int padded_rows, float* out);

  // out [count] = gradient x derivative of the activation; x is its input if `keeps_input`, and else its value.
  void (*through_activation)(Activation activation, const float* x, const float* gradient, std::int64_t count,
                             float* out);

  // sums [width] += the rows of x [rows, width].
  void (*add_rows)(const float* x, int rows, int width, float* sums);

  // gradient += transpose of a [rows, inputs] x b [rows, width]; a is row-major with `stride`, and up to
  // kTileRows - 1 values behind its last one are read.
  void (*add_products)(const float* a, int stride, int rows, int inputs, const float* b, int width, float* gradient);

  // gradient = transpose of (background + tiles) [6 x num_tiles, inputs] x b [6 x num_tiles, width], of which
  // `row_sums` [width] are the sums of the rows of b; `background` may be nullptr.
  void (*multiply_tiles_transposed)(const Tile* tiles, int num_tiles, const float* background, int inputs,
                                    const float* b, const float* row_sums, int width, float* gradient);

  // out [outputs, inputs] += factor x scale x gradient, in float64.
  void (*add_weight)(const float* gradient, const float* scale, double factor, int outputs, int inputs, double* out);

  // out [count] += factor x scale x gradient, in float64.
  void (*add_bias)(const float* gradient, const float* scale, double factor, int count, double* out);
};

// Whether the derivative of an activation is computed from its input, not from its value.
inline bool keeps_input(Activation activation) { return activation == Activation::gelu; }

// Those of the instruction set of `kernels`.
const GradientKernels& gradient_kernels_of(const Kernels& kernels);

}  // namespace cpu
}  // namespace basinvol
