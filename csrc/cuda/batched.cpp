#include "cuda/batched.h"

#include <algorithm>
#include <utility>

#include "cuda/loop_graph.h"

namespace basinvol {
namespace cuda {

namespace {

constexpr int kFirstProof = 4;  // row blocks of a proof's first attempt; each further one takes twice as many

// The rays of these positions; their normals are gathered if they came from the host.
struct SomeRays {
  Rays rays;
  std::vector<float> normals;

  SomeRays(const Rays& all, const std::vector<std::size_t>& positions, std::int64_t dim) : rays{all.seed, {}, nullptr} {
    for (std::size_t i : positions) {
      rays.indices.push_back(all.indices[i]);
      if (all.normals == nullptr) continue;
      const float* from = all.normals + static_cast<std::int64_t>(i) * dim;
      normals.insert(normals.end(), from, from + dim);
    }
    if (all.normals != nullptr) rays.normals = normals.data();
  }
};

bool still_searches(const SearchPlan& plan, const std::vector<Bracket>& brackets) {
  for (int i = 0; i < plan.num_ordered; ++i)
    if (brackets[plan.order[i]].status == RUNNING && plan.targets[plan.order[i]].is_wanted) return true;
  return false;
}

}  // namespace

struct BatchedRays::Survivors {
  std::vector<RayResult> results;  // of all rays, so far
  std::vector<std::size_t> positions;
  Prior prior;                         // of those at `positions`
  std::vector<std::int8_t> unsettled;  // [positions, targets]: tested, and not proved by a part of the rows
};

BatchedRays::BatchedRays(Problem& problem, const MemoryPlan& memory, double graph_operations, cudaStream_t stream)
    : problem_(problem), memory_(memory), graph_operations_(graph_operations), stream_(stream) {}

void BatchedRays::prepare() {
  if (rows_ != nullptr) return;
  problem_.compute_base(stream_);
  rows_ = std::make_unique<RowTable>(problem_.levels(), 0, stream_);
  for (std::size_t l = 0; l < problem_.levels().size(); ++l)
    proof_rows_.emplace_back(std::vector<std::int64_t>{problem_.levels()[l]}, static_cast<int>(l), stream_);
}

// A workspace for at most `wanted` rays; the last one is kept, as allocating gigabytes takes long.
std::unique_ptr<Workspace>& BatchedRays::reserve(std::unique_ptr<Workspace>& kept, std::unique_ptr<Workspace>& other,
                                                 std::size_t wanted, int num_targets, std::int64_t shift_rows,
                                                 int num_blocks) {
  if (memory_.budget > 0) other.reset();  // a budget is for one of them; what is free, for both
  if (kept != nullptr && kept->num_targets() == num_targets && kept->capacity() >= wanted) return kept;
  kept.reset();
  const std::int64_t bytes = Workspace::bytes_per_ray(problem_, num_targets, shift_rows, num_blocks);
  const std::size_t capacity = memory_.rays_that_fit(bytes, wanted);
  kept = std::make_unique<Workspace>(problem_, num_targets, capacity, shift_rows, num_blocks);
  return kept;
}

std::vector<double> BatchedRays::center_losses() {
  prepare();
  const RowSource source{rows_.get(), nullptr, 0};
  Workspace work(problem_, 1, 1, 0, rows_->size());
  activate_all(work.state({}), 1, stream_);
  work.compute_partials(source, 0, rows_->size(), work.everyone(1), nullptr, stream_);
  work.reduce(source, work.everyone(1), stream_);
  std::vector<double> losses(problem_.levels().size());
  work.losses_array().download(losses.data(), losses.size(), stream_);
  return losses;
}

std::vector<std::vector<double>> BatchedRays::row_losses(const Rays& rays, const std::vector<double>& radii) {
  prepare();
  const RowSource source{rows_.get(), nullptr, 0};
  const SearchPlan nothing{};
  const auto count = static_cast<std::size_t>(problem_.count());
  const std::int64_t bytes = Workspace::bytes_per_ray(problem_, 0, problem_.count(), rows_->size()) +
                             problem_.count() * static_cast<std::int64_t>(sizeof(double));
  full_.reset();
  const std::size_t block = memory_.rays_that_fit(bytes, rays.indices.size());
  Workspace work(problem_, 0, block, problem_.count(), rows_->size());
  DeviceArray<double> on_device(block * count);
  std::vector<std::vector<double>> found(rays.indices.size(), std::vector<double>(count));
  for (std::size_t first = 0; first < rays.indices.size(); first += block) {
    const auto n = std::min(block, rays.indices.size() - first);
    const int num_rays = static_cast<int>(n);
    work.flight().begin(rays, first, num_rays, nothing, {}, stream_);
    activate_all(work.state(nothing), num_rays, stream_);
    std::vector<Probe> probes(n);
    for (std::size_t i = 0; i < n; ++i) probes[i] = {radii[first + i], static_cast<int>(problem_.levels().size()) - 1};
    work.probes().upload(probes.data(), n, stream_);
    work.compute_shift(source, 0, rows_->size(), num_rays, stream_);
    work.perturb(num_rays, stream_);
    work.compute_partials(source, 0, rows_->size(), work.active(num_rays), on_device.data(), stream_);
    std::vector<double> losses(n * count);
    on_device.download(losses.data(), losses.size(), stream_);
    for (std::size_t i = 0; i < n; ++i)
      found[first + i].assign(losses.begin() + static_cast<std::ptrdiff_t>(i * count),
                              losses.begin() + static_cast<std::ptrdiff_t>((i + 1) * count));
  }
  return found;
}

std::vector<RayResult> BatchedRays::solve(const Rays& rays, const SearchPlan& host_plan, const SearchPlan& plan,
                                          const Prior& prior) {
  prepare();
  std::vector<RayResult> results;
  if (prior.negligible.empty()) {
    solve_in_full(rays, host_plan, plan, prior, {}, results);
    return results;
  }
  Survivors survivors = prove(rays, host_plan, plan, prior);
  if (survivors.positions.empty()) return std::move(survivors.results);
  const SomeRays some(rays, survivors.positions, problem_.dim());
  solve_in_full(some.rays, host_plan, plan, survivors.prior, survivors.unsettled, results);
  for (std::size_t i = 0; i < results.size(); ++i) {
    RayResult& result = survivors.results[survivors.positions[i]];
    results[i].num_evaluations += result.num_evaluations;
    results[i].num_examples += result.num_examples;
    result = std::move(results[i]);
  }
  return std::move(survivors.results);
}

// First-layer products are computed for the rows that a proof reaches only, so that many more rays are in flight.
BatchedRays::Survivors BatchedRays::prove(const Rays& rays, const SearchPlan& host_plan, const SearchPlan& plan,
                                          const Prior& prior) {
  const std::int64_t chunk_rows = std::min<std::int64_t>(problem_.count(), std::int64_t{kChunkBlocks} * kProductRows);
  const int chunk_blocks = std::min(kChunkBlocks, rows_->size());
  const std::size_t num_targets = static_cast<std::size_t>(plan.num_targets), total = rays.indices.size();
  Workspace& work = *reserve(proof_, full_, total, plan.num_targets, chunk_rows, chunk_blocks);
  Survivors survivors;
  survivors.prior.negligible = prior.negligible;
  for (std::size_t first = 0; first < total; first += work.capacity()) {
    const auto n = std::min(work.capacity(), total - first);
    work.flight().begin(rays, first, static_cast<int>(n), host_plan, prior, stream_);
    work.forget_survivors(stream_);
    for (int i = 0; i < host_plan.num_ordered; ++i) {
      const int t = host_plan.order[i];
      if (prior.negligible[t] > 0.0) prove_target(work, plan, t, host_plan.targets[t], prior.negligible[t]);
    }
    work.flight().finish(survivors.results, stream_);
    std::vector<std::int8_t> survived(n * num_targets);
    work.survived_array().download(survived.data(), survived.size(), stream_);
    for (std::size_t i = 0; i < n; ++i) {
      const auto begin = survived.begin() + static_cast<std::ptrdiff_t>(i * num_targets);
      const auto end = begin + static_cast<std::ptrdiff_t>(num_targets);
      const std::vector<Bracket>& brackets = survivors.results[first + i].brackets;
      if (std::find(begin, end, 1) == end && !still_searches(host_plan, brackets)) continue;
      survivors.positions.push_back(first + i);
      survivors.prior.brackets.push_back(brackets);
      survivors.unsettled.insert(survivors.unsettled.end(), begin, end);
    }
  }
  return survivors;
}

void BatchedRays::prove_target(Workspace& work, const SearchPlan& plan, int target, const Target& host_target,
                               double negligible) {
  const RowTable& table = proof_rows_[host_target.level];
  const double count = static_cast<double>(problem_.levels()[host_target.level]) * problem_.examples().terms();
  ProofArguments proof{work.state(plan),
                       target,
                       negligible,
                       work.survived(),
                       work.totals(),
                       work.partials(),
                       work.partials_stride(),
                       0,
                       count,
                       0};
  begin_proof(proof, work.flight().count(), stream_);
  ActiveCount active = work.read_active(stream_);
  if (active.rays > 0) work.perturb(active.rays, stream_);
  int size = kFirstProof;
  for (int done = 0; done < table.size() && active.rays > 0; done += proof.num_blocks) {
    proof.num_blocks = std::min({size, kChunkBlocks, table.size() - done});
    const RowSource source{&table, problem_.hardest_first(host_target.level), table.first_row(done)};
    proof.first_row = table.first_row(done);
    work.compute_shift(source, done, proof.num_blocks, active.rays, stream_);
    work.compute_partials(source, done, proof.num_blocks, work.active(active.rays), nullptr, stream_);
    continue_proof(proof, stream_);
    active = work.read_active(stream_);
    size *= 2;
  }
  if (active.rays > 0) end_proof(proof, stream_);
}

void BatchedRays::solve_in_full(const Rays& rays, const SearchPlan& host_plan, const SearchPlan& plan,
                                const Prior& prior, const std::vector<std::int8_t>& unsettled,
                                std::vector<RayResult>& results) {
  const RowSource source{rows_.get(), nullptr, 0};
  const std::size_t total = rays.indices.size();
  Workspace& work = *reserve(full_, proof_, total, plan.num_targets, problem_.count(), rows_->size());
  for (std::size_t first = 0; first < total; first += work.capacity()) {
    const int count = static_cast<int>(std::min(work.capacity(), total - first));
    work.flight().begin(rays, first, count, host_plan, prior, stream_);
    activate_all(work.state(plan), count, stream_);
    work.compute_shift(source, 0, rows_->size(), count, stream_);
    if (!unsettled.empty()) {
      work.recall_survivors(unsettled.data() + first * static_cast<std::size_t>(plan.num_targets), count, stream_);
      settle_block(work, host_plan, plan, prior.negligible);
      activate_all(work.state(plan), count, stream_);
    }
    search_block(work, plan);
    work.flight().finish(results, stream_);
  }
}

// Rays that a part of the rows did not prove negligible: the whole loss decides, in the order of every other
// evaluation.
void BatchedRays::settle_block(Workspace& work, const SearchPlan& host_plan, const SearchPlan& plan,
                               const std::vector<double>& negligible) {
  for (int i = 0; i < host_plan.num_ordered; ++i) {
    const int t = host_plan.order[i];
    if (!(negligible[t] > 0.0)) continue;
    ProofArguments proof{};
    proof.state = work.state(plan);
    proof.target = t;
    proof.negligible = negligible[t];
    proof.survived = work.survived();
    begin_settlement(proof, work.flight().count(), stream_);
    const ActiveCount active = work.read_active(stream_);
    if (active.rays == 0) continue;
    evaluate(work, active);
    settle({proof.state, t, work.losses(), static_cast<int>(problem_.levels().size())}, stream_);
  }
}

void BatchedRays::search_block(Workspace& work, const SearchPlan& plan) {
  const int num_levels = static_cast<int>(problem_.levels().size()), count = work.flight().count();
  search_step({work.state(plan), nullptr, num_levels, {}}, stream_);
  if (is_small(count)) {
    // Grids for all rays and levels: what is not active returns at once.
    const LoopGraph graph(stream_, [&](const LoopCondition& condition) {
      evaluate(work, {count, num_levels - 1});
      search_step({work.state(plan), work.losses(), num_levels, condition}, stream_);
    });
    graph.run(stream_, [&] { return work.read_active(stream_).rays; });
    return;
  }
  for (ActiveCount active = work.read_active(stream_); active.rays > 0; active = work.read_active(stream_)) {
    evaluate(work, active);
    search_step({work.state(plan), work.losses(), num_levels, {}}, stream_);
  }
}

bool BatchedRays::is_small(int num_rays) const {
  const double operations =
      2.0 * static_cast<double>(problem_.rest_size()) * static_cast<double>(problem_.count()) * num_rays;
  return operations <= graph_operations_;
}

// The losses of the active rays at their probes.
void BatchedRays::evaluate(Workspace& work, const ActiveCount& active) {
  const RowSource source{rows_.get(), nullptr, 0};
  const ActiveRays rays = work.active(active.rays);
  work.perturb(active.rays, stream_);
  work.compute_partials(source, 0, rows_->until(active.last_level), rays, nullptr, stream_);
  work.reduce(source, rays, stream_);
}

}  // namespace cuda
}  // namespace basinvol
