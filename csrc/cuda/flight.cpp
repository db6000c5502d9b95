#include "cuda/flight.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace basinvol {
namespace cuda {

namespace {

constexpr std::size_t kMostRays = 32768;  // a grid has at most 65,535 blocks along y and z

std::string megabytes(std::int64_t bytes) { return std::to_string((bytes + 999'999) / 1'000'000) + " MB"; }

}  // namespace

std::size_t MemoryPlan::rays_that_fit(std::int64_t bytes_per_ray, std::size_t wanted) const {
  std::int64_t available = budget;
  if (budget == 0) {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    available = static_cast<std::int64_t>(free / 5 * 4);
  }
  if (available < bytes_per_ray)
    throw std::runtime_error("one direction needs " + megabytes(bytes_per_ray) + " of device memory and " +
                             megabytes(available) + (budget == 0 ? " are free" : " are in `memory_budget`") +
                             "; use fewer examples, a narrower first layer or another backend");
  return std::min({wanted, static_cast<std::size_t>(available / bytes_per_ray), kMostRays});
}

Flight::Flight(const Problem& problem, int num_targets, std::size_t capacity)
    : problem_(problem),
      num_targets_(static_cast<std::size_t>(num_targets)),
      moves_(capacity * static_cast<std::size_t>(problem.move_stride())),
      brackets_(capacity * num_targets_),
      progress_(capacity) {}

std::int64_t Flight::bytes_per_ray(const Problem& problem, int num_targets) {
  return problem.move_stride() * static_cast<std::int64_t>(sizeof(float)) +
         num_targets * static_cast<std::int64_t>(sizeof(Bracket)) + static_cast<std::int64_t>(sizeof(Progress));
}

void Flight::begin(const Rays& rays, std::size_t first, int count, const SearchPlan& plan, const Prior& prior,
                   cudaStream_t stream) {
  const auto n = static_cast<std::size_t>(count);
  std::vector<Bracket> brackets(n * num_targets_);
  for (std::size_t i = 0; i < n; ++i) {
    Progress progress;
    RaySearch search(plan, brackets.data() + i * num_targets_, progress);
    search.begin();
    if (prior.brackets.empty()) continue;
    for (int t = 0; t < plan.num_targets; ++t) search.restore(t, prior.brackets[first + i][t]);
  }
  count_ = count;
  brackets_.upload(brackets.data(), brackets.size(), stream);
  progress_.upload(std::vector<Progress>(n).data(), n, stream);
  problem_.make_moves(rays, first, count, moves_.data(), progress_.data(), stream);
}

void Flight::finish(std::vector<RayResult>& results, cudaStream_t stream) const {
  const auto n = static_cast<std::size_t>(count_);
  std::vector<Bracket> brackets(n * num_targets_);
  std::vector<Progress> progress(n);
  brackets_.download(brackets.data(), brackets.size(), stream);
  progress_.download(progress.data(), n, stream);
  for (std::size_t i = 0; i < n; ++i) {
    RayResult result;
    const auto begin = brackets.begin() + static_cast<std::ptrdiff_t>(i * num_targets_);
    result.brackets.assign(begin, begin + static_cast<std::ptrdiff_t>(num_targets_));
    result.num_evaluations = progress[i].num_evaluations;
    result.num_examples = progress[i].num_examples;
    results.push_back(std::move(result));
  }
}

}  // namespace cuda
}  // namespace basinvol
