// The radius search of a multilayer perceptron on the CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "boundary.h"
#include "cpu/buffer.h"
#include "cpu/packed_mlp.h"
#include "cpu/proof_order.h"
#include "cpu/row_sample.h"
#include "cpu/rows.h"
#include "cpu/slot_targets.h"

namespace basinvol {
namespace cpu {

template <typename Network>
class RaySearches;

class Engine {
 public:
  Engine(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
         ParameterVector parameters, const CpuResources& resources);

  // Mean loss of every level at the center.
  const std::vector<double>& center_losses() const { return center_losses_; }

  // Searches every ray. The result is a function of its arguments: not of threads, memory or the order of rows.
  std::vector<RayResult> solve(const Rays& rays, const std::vector<Target>& targets, const std::vector<int>& order,
                               const SearchSettings& settings, const Prior& prior) const;

  // Rearranges the rows, hardest first, by their losses on these rays at these radii: proofs then stop earlier.
  void learn_order(const Rays& rays, const std::vector<double>& radii);

  // Floating-point operations of all matrix products so far; a product with zeros that are stored counts.
  std::int64_t operations() const { return operations_; }

  const char* instruction_set() const { return kernels_.name; }
  int first_sampled() const { return first_sampled_level(levels_, true); }
  double stored_share() const { return rows_.stored_share(); }

 private:
  template <typename Network>
  friend class RaySearches;
  struct Ray;  // everything one thread needs for one direction
  std::size_t num_levels() const { return levels_.size(); }
  void count(std::int64_t operations) const { operations_ += operations; }

  void compute_base();
  void begin(Ray& ray, const Rays& rays, std::size_t i) const;
  void set_radius(Ray& ray, double radius) const;
  void multiply_inputs(Ray& ray, std::int64_t slot, int num_tiles, const float* packed, const float* start,
                       float* out) const;
  bool is_kept(const Block& block) const;
  const float* base(Ray& ray, const Block& block) const;
  const float* shift(Ray& ray, int first_block, int last_block) const;
  Ahead after(const Ray& ray, int block) const;
  double block_loss(Ray& ray, int block, double* per_row) const;
  const float* outputs(Ray& ray, const float* base, const float* shift, int rows, const Ahead& ahead) const;
  double sample(Ray& ray, double radius, int level, std::int64_t& num_read) const;
  void gather(Ray& ray, std::int64_t slot, float* base, float* shift) const;
  void evaluate(Ray& ray, double radius, int num_levels, double* losses) const;
  void keep(Ray& ray, const Block& block, const double* per_row) const;
  void average(const Ray& ray, int num_levels, double* losses) const;
  bool is_outside(Ray& ray, double radius, const Target& target, double& mean, std::int64_t& num_read) const;

  const Kernels& kernels_;
  PackedMlp mlp_;
  Loss loss_;
  Examples examples_;
  std::vector<std::int64_t> levels_;
  ParameterVector parameters_;
  int num_threads_;
  Rows rows_;
  ProofOrder proof_order_;

  Buffer start_;                 // background x first weight [first width]
  std::int64_t kept_slots_ = 0;  // rows whose first-layer products are kept
  Buffer base_;                  // inputs x first weight [kept_slots_, first width]
  SlotTargets targets_;
  std::vector<double> center_losses_;
  std::vector<double> center_row_losses_;
  mutable std::atomic<std::int64_t> operations_{0};
};

}  // namespace cpu
}  // namespace basinvol
