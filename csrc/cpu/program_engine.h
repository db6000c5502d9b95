// The radius search of a network that is given as a program.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "boundary.h"
#include "cpu/executor.h"
#include "cpu/program.h"
#include "cpu/proof_order.h"
#include "cpu/row_sample.h"

namespace basinvol {
namespace cpu {

struct Kernels;

template <typename Network>
class RaySearches;

class ProgramEngine {
 public:
  ProgramEngine(Program program, std::vector<std::int64_t> levels, ParameterVector parameters,
                const CpuResources& resources);

  // Mean loss of every level at the center.
  const std::vector<double>& center_losses() const { return center_losses_; }

  // Searches every ray. The result is a function of its arguments: not of threads, memory or the order of rows.
  std::vector<RayResult> solve(const Rays& rays, const std::vector<Target>& targets, const std::vector<int>& order,
                               const SearchSettings& settings, const Prior& prior) const;

  // Takes the rows hardest first in proofs, by their mean loss on these rays at these radii.
  void learn_order(const Rays& rays, const std::vector<double>& radii);

  // The losses of all rows along one ray, each summed over its terms. [count]
  std::vector<double> row_losses(const Rays& rays, double radius) const;

  std::int64_t operations() const { return operations_; }
  int first_sampled() const { return first_sampled_level(levels_, program_.is_nonnegative); }
  const char* instruction_set() const { return instruction_set_; }
  int num_rays_at_once() const { return num_teams_; }

 private:
  template <typename Network>
  friend class RaySearches;
  struct Ray;  // what one thread needs for one direction
  struct RowBlock {
    std::int64_t first;  // in hardest_first_
    int count, level;
  };

  std::size_t num_levels() const { return levels_.size(); }
  void count(std::int64_t operations) const { operations_ += operations; }
  void begin(Ray& ray, const Rays& rays, std::size_t i) const;
  void set_radius(Ray& ray, double radius) const;
  void evaluate(Ray& ray, double radius, int num_levels, double* losses) const;
  bool is_outside(Ray& ray, double radius, const Target& target, double& mean, std::int64_t& num_read) const;
  bool proves_outside(Ray& ray, const Target& target, double& mean, std::int64_t& num_read) const;
  double sample(Ray& ray, double radius, int level, std::int64_t& num_read) const;
  void evaluate_rows(Ray& ray, const std::vector<std::int64_t>& rows, std::vector<double>& losses) const;
  void evaluate_all(Ray& ray, std::int64_t num_rows) const;

  const char* instruction_set_;
  const Kernels& kernels_;
  Program program_;
  Executor executor_;
  std::vector<std::int64_t> levels_;
  ParameterVector parameters_;
  int num_teams_, num_threads_;  // rays at the same time, and threads for each
  Buffer constant_;
  std::vector<double> weight_until_;         // the sum of all examples' weights, by level
  std::vector<std::int64_t> hardest_first_;  // rows, level by level
  std::vector<RowBlock> blocks_;             // of hardest_first_
  ProofOrder proof_order_;
  std::vector<double> center_losses_;
  std::vector<double> center_row_losses_;
  mutable std::atomic<std::int64_t> operations_{0};
};

}  // namespace cpu
}  // namespace basinvol
