// The loss of a perceptron and its gradient at many points on the CPU.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "boundary.h"
#include "cpu/gradient_pass.h"
#include "cpu/packed_mlp.h"
#include "cpu/rows.h"
#include "cpu/slot_targets.h"

namespace basinvol {
namespace cpu {

// Points first[i] x points[which[i]] + second[i] x partners[which[i]], of arrays [rows, dim].
struct PointsInPlanes {
  const double *points, *partners;
  const std::int64_t* which;
  const double *first, *second;
};

// Chains under way [count, dim]: positions y and momenta, which trajectories move; gradients, which they find as they
// are at the start and leave as at the end; and what they say of the end: the points x, and by how much half the
// squared norms of y and momentum have grown, and the losses. [count]
struct ChainsInMotion {
  double *y, *momentum, *gradient, *x, *growth, *loss;
};

class PointLosses {
 public:
  // center [dim] has the perturbed parameters; those of the layers count where they are not perturbed.
  PointLosses(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
              ParameterVector parameters, const float* center, const CpuResources& resources);

  // Mean losses of a level at center + scale x point, for points [count, dim]. Their gradients by the points, of which
  // `gradients` [count, dim] is nullptr or zeros, are added to it. The result of a point is a function of it alone: not
  // of threads, nor of the other points. Calls from several threads wait for each other.
  void evaluate(const double* points, std::int64_t count, int level, double* losses, double* gradients);

  // The same losses, or infinity where one is not within its limit [count]. Parts of the rows that have the largest
  // losses are read first, and no more of them once their sum exceeds the limit.
  void evaluate_within(const PointsInPlanes& at, std::int64_t count, const double* limits, int level, double* losses);

  // A trajectory of each chain. One stays on one core, and what it needs in its cache.
  void move(const Motion& motion, const ChainsInMotion& chains, std::int64_t count, int level);

  std::int64_t dim() const { return parameters_.dim; }
  int num_levels() const { return static_cast<int>(levels_.size()); }
  // Floating-point operations of all matrix products so far; a product with zeros that are stored counts.
  std::int64_t operations() const { return operations_; }
  const char* instruction_set() const { return kernels_.name; }

 private:
  struct Thread {  // kept from call to call
    PackedPoint point;
    GradientPass pass;
    std::vector<double> row_losses, means;  // by row of the data, and by level
    std::vector<double> part_losses;        // summed over points of which every row was read
  };
  // The rows of a level in parts of so many blocks.
  struct Parts {
    int num_blocks, blocks_each;
    int count() const { return (num_blocks + blocks_each - 1) / blocks_each; }
  };
  Parts parts(int level, int blocks_each) const { return {rows_.num_blocks(level + 1), blocks_each}; }

  // Calls work(thread, i) for every i, each on a thread of its own; or, where there are fewer than threads, one after
  // the other without a thread, nullptr, so that all of them work on the rows of one. What it throws is thrown again.
  template <typename Work>
  void for_each(std::int64_t count, int level, const Work& work);
  // The loss at a point, and its gradient unless that is nullptr.
  double loss(Thread* own, const double* point, int level, double* gradient);
  // The same for the point that the thread, or the first one, holds.
  double loss_of_rows(Thread& thread, int level, double* gradient);
  double loss_of_rows_by_all(int level, double* gradient);
  double loss_within(Thread& thread, const std::vector<int>& order, int level, double limit);
  double run_part(Thread& thread, const Parts& parts, int i, const PackedPoint& point, bool with_gradient,
                  double* row_losses);
  std::vector<int> hardest_first(int num_parts) const;
  double mean(Thread& thread, int level) const;

  const Kernels& kernels_;
  PackedMlp mlp_;
  std::vector<std::int64_t> levels_;
  std::vector<double> weights_;  // of the mean of each level: rows, times outputs where the loss is a mean over them
  ParameterVector parameters_;
  const float* center_;
  Rows rows_;
  SlotTargets targets_;
  PointProblem problem_;
  std::vector<Thread> threads_;
  std::int64_t operations_ = 0;
  std::mutex busy_;
};

}  // namespace cpu
}  // namespace basinvol
