// The losses of some blocks of rows at one point, and the gradient of their sum: forward and backward, block by block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "boundary.h"
#include "cpu/buffer.h"
#include "cpu/gradient_kernels.h"
#include "cpu/kernels.h"
#include "cpu/packed_mlp.h"
#include "cpu/rows.h"
#include "cpu/slot_targets.h"

namespace basinvol {
namespace cpu {

// Blocks of one pass. The more, the seldomer the gradient is added to float64, and the longer the sums in float32: each
// first weight adds 160 sums of six products, every other one ten sums of 96.
constexpr int kPassBlocks = 10;

// What all points have in common.
struct PointProblem {
  const Kernels& kernels;
  const GradientKernels& gradient_kernels;
  const PackedMlp& mlp;
  const Rows& rows;
  const SlotTargets& targets;
  Loss loss;
};

// The first layer that has a parameter in the flat vector, or one that has none: gradients stop there.
std::size_t lowest_perturbed(const std::vector<Layer>& layers);

// The parameters at one point, as the kernels read them forward and backward.
class PackedPoint {
 public:
  explicit PackedPoint(const PointProblem& problem);

  // parameters = center + scale x point [dim].
  void move_to(const float* center, const ParameterVector& parameters, const double* point, bool with_gradient);

  // The same for first x point + second x partner; no gradient may be asked for.
  void move_in_plane(const float* center, const ParameterVector& parameters, const double* point, const double* partner,
                     double first, double second);

  const float* first() const { return first_.data(); }
  const float* rest() const { return rest_.data(); }
  const float* start() const { return start_.data(); }  // background x first weight
  const float* transposed(std::size_t layer) const { return transposed_.data() + transposed_at_[layer]; }

 private:
  const PointProblem& problem_;
  std::vector<std::size_t> transposed_at_;  // by layer, of those that the gradient passes through
  Buffer flat_, first_, rest_, transposed_, start_;
  std::vector<double> combined_;
};

// What one thread needs for one pass.
class GradientPass {
 public:
  explicit GradientPass(const PointProblem& problem);

  // The losses of blocks first_block .. last_block - 1 [by row of the data], and the gradient of their sum if wanted.
  // Returns the sum of these losses.
  double run(const PackedPoint& point, int first_block, int last_block, bool with_gradient, double* row_losses);

  // out [dim] += factor x scale x gradient, in float64.
  void add_gradient(const float* scale, double factor, double* out) const;

  std::int64_t take_operations();  // of matrix products since the last call

 private:
  void multiply_inputs(const PackedPoint& point, std::int64_t slot, int num_tiles, float* out);
  void forward(const PackedPoint& point, int rows, float* front);
  void backward(const PackedPoint& point, const Block& block, int rows, float* front);
  const float* values(std::size_t layer, const float* front) const;
  const float* derivative_of(std::size_t layer, const float* front) const;
  float* bias_gradient(std::size_t layer) { return gradient_.data() + bias_at_[layer]; }
  float* weight_gradient(std::size_t layer) { return gradient_.data() + weight_at_[layer]; }

  const PointProblem& problem_;
  std::size_t lowest_;
  std::vector<std::size_t> bias_at_, weight_at_;
  std::size_t first_weight_at_ = 0;  // behind all that is summed up, as a pass writes it once
  Buffer front_;                // first layer of all rows of the pass: values, later the loss's derivatives by them
  std::vector<Buffer> values_;  // of a block, by layer; of the first layer only where `front` has its inputs
  std::vector<Buffer> inputs_;  // of activations, where derivatives need them
  Buffer above_, below_;        // derivatives by what a layer computes, before and after its activation
  Buffer zeros_, gradient_;
  std::int64_t operations_ = 0;
};

}  // namespace cpu
}  // namespace basinvol
