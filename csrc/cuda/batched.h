// Networks that do not fit into one thread block: layer by layer, all active rays of a block of directions together.
#pragma once

#include <memory>
#include <vector>

#include "cuda/workspace.h"

namespace basinvol {
namespace cuda {

class BatchedRays {
 public:
  // `graph_operations` as in CudaResources.
  BatchedRays(Problem& problem, const MemoryPlan& memory, double graph_operations, cudaStream_t stream);

  std::vector<double> center_losses();

  // `host_plan` and `plan` are the same, in host and in device memory.
  std::vector<RayResult> solve(const Rays& rays, const SearchPlan& host_plan, const SearchPlan& plan,
                               const Prior& prior);

  // The loss of every row along each ray, at its radius.
  std::vector<std::vector<double>> row_losses(const Rays& rays, const std::vector<double>& radii);

 private:
  struct Survivors;  // rays that are to be solved in full, and what is known of them

  void prepare();
  std::unique_ptr<Workspace>& reserve(std::unique_ptr<Workspace>& kept, std::unique_ptr<Workspace>& other,
                                      std::size_t wanted, int num_targets, std::int64_t shift_rows, int num_blocks);
  Survivors prove(const Rays& rays, const SearchPlan& host_plan, const SearchPlan& plan, const Prior& prior);
  void prove_target(Workspace& work, const SearchPlan& plan, int target, const Target& host_target, double negligible);
  void solve_in_full(const Rays& rays, const SearchPlan& host_plan, const SearchPlan& plan, const Prior& prior,
                     const std::vector<std::int8_t>& unsettled, std::vector<RayResult>& results);
  void settle_block(Workspace& work, const SearchPlan& host_plan, const SearchPlan& plan,
                    const std::vector<double>& negligible);
  void search_block(Workspace& work, const SearchPlan& plan);
  bool is_small(int num_rays) const;
  void evaluate(Workspace& work, const ActiveCount& active);

  Problem& problem_;
  const MemoryPlan& memory_;
  double graph_operations_;
  cudaStream_t stream_;
  std::unique_ptr<RowTable> rows_;    // in the order of the data
  std::vector<RowTable> proof_rows_;  // by level, hardest first
  std::unique_ptr<Workspace> full_, proof_;
};

}  // namespace cuda
}  // namespace basinvol
