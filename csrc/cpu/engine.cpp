#include "cpu/engine.h"

#include <utility>

#include "cpu/along_ray.h"
#include "cpu/ray.h"
#include "cpu/search_rays.h"

namespace basinvol {
namespace cpu {

Engine::Engine(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
               ParameterVector parameters, const CpuResources& resources)
    : kernels_(kernels_named(resources.instruction_set)),
      mlp_(std::move(layers), kernels_),
      loss_(loss),
      examples_(examples),
      levels_(std::move(levels)),
      parameters_(std::move(parameters)),
      num_threads_(resources.num_threads),
      rows_(examples.inputs, mlp_.inputs(), levels_) {
  // A kept row has one product with the center's first weight, and one with the ray's first move in every thread.
  const std::int64_t bytes_per_slot = std::int64_t{4} * mlp_.first_width() * (1 + num_threads_);
  // Blocks are kept whole; arranging the rows anew does not move them.
  for (const Block& block : rows_.blocks()) {
    const std::int64_t end = block.slot + rounded_up(block.rows);
    if (end > resources.memory_budget / bytes_per_slot) break;
    kept_slots_ = end;
  }
  for (std::size_t b = 0; b < rows_.blocks().size(); ++b)
    proof_order_.add(static_cast<int>(b), rows_.blocks()[b].level);
  targets_.gather(rows_, examples_, loss_, mlp_.outputs());
  compute_base();

  Ray center;
  center_losses_.resize(levels_.size());
  evaluate(center, 0.0, static_cast<int>(levels_.size()), center_losses_.data());
  center_row_losses_ = std::move(center.row_losses);
}

std::vector<RayResult> Engine::solve(const Rays& rays, const std::vector<Target>& targets,
                                     const std::vector<int>& order, const SearchSettings& settings,
                                     const Prior& prior) const {
  return RaySearches<Engine>(*this, num_threads_).solve(rays, targets, order, settings, prior);
}

void Engine::learn_order(const Rays& rays, const std::vector<double>& radii) {
  const std::int64_t count = levels_.back();
  std::vector<std::vector<double>> found(rays.indices.size(), std::vector<double>(count));
  RaySearches<Engine>(*this, num_threads_).for_each(rays.indices.size(), [&](Ray& ray, std::size_t i) {
    begin(ray, rays, i);
    set_radius(ray, radii[i]);
    shift(ray, 0, static_cast<int>(rows_.blocks().size()));
    double per_row[kBlockRows];
    for (std::size_t b = 0; b < rows_.blocks().size(); ++b) {
      const Block& block = rows_.blocks()[b];
      block_loss(ray, static_cast<int>(b), per_row);
      for (int j = 0; j < block.rows; ++j) found[i][rows_.row(block.slot + j)] = per_row[j];
    }
  });
  Hardness hardness;
  hardness.losses = expected_losses(found, static_cast<std::size_t>(count));
  if (loss_ == Loss::cross_entropy) {
    hardness.classes.assign(examples_.labels, examples_.labels + count);
    hardness.num_classes = mlp_.outputs();
  }
  rows_.arrange(hardness);
  targets_.gather(rows_, examples_, loss_, mlp_.outputs());
  compute_base();
  proof_order_ = ProofOrder(hardness.num_classes);
  for (std::size_t b = 0; b < rows_.blocks().size(); ++b) {
    const Block& block = rows_.blocks()[b];
    std::vector<std::int64_t> rows;
    for (int j = 0; j < block.rows; ++j) rows.push_back(rows_.row(block.slot + j));
    proof_order_.add(static_cast<int>(b), block.level, rows, hardness);
  }
  proof_order_.sort();
}

}  // namespace cpu
}  // namespace basinvol
