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

class PointLosses {
 public:
  // center [dim] has the perturbed parameters; those of the layers count where they are not perturbed.
  PointLosses(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
              ParameterVector parameters, const float* center, const CpuResources& resources);

  // Mean losses of a level at center + scale x point, for points [count, dim]. Their gradients by the points, of which
  // `gradients` [count, dim] is nullptr or zeros, are added to it. The result of a point is a function of it alone: not
  // of threads, nor of the other points. Calls from several threads wait for each other.
  void evaluate(const double* points, std::int64_t count, int level, double* losses, double* gradients);

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
  };
  void threads_over_points(const double* points, std::int64_t count, int level, double* losses, double* gradients);
  void threads_over_rows(const double* point, int level, double* loss, double* gradient);
  int num_passes(int level) const { return (rows_.num_blocks(level + 1) + kPassBlocks - 1) / kPassBlocks; }
  void run_pass(Thread& thread, int i, const PackedPoint& point, int level, bool with_gradient, double* row_losses);
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
