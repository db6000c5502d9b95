#include "cpu/program_engine.h"

#include <omp.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "cpu/along_ray.h"
#include "cpu/kernels.h"
#include "cpu/search_rays.h"

namespace basinvol {
namespace cpu {

struct ProgramEngine::Ray {
  Buffer move;       // scale x direction [dim]
  Buffer perturbed;  // center + radius x move, and what is computed from it alone
  std::vector<Workspace> workspaces;
  std::vector<double> row_losses;
  double unit = 1.0;  // norm of the Gaussian vector
  double radius = std::numeric_limits<double>::quiet_NaN();
  std::int64_t operations = 0;
};

namespace {

// Where the class of every example is, if the loss is the cross-entropy of one term that was loaded as it is.
const Field* labels_of(const Program& program, int& num_classes) {
  const auto is_loss = [](const Instruction& i) { return i.op == Op::loss; };
  const auto loss = std::find_if(program.instructions.begin(), program.instructions.end(), is_loss);
  if (loss == program.instructions.end()) return nullptr;
  const Operand &outputs = loss->inputs[0], &targets = loss->inputs[1];
  if (static_cast<TermLoss>(loss->sizes[0]) != TermLoss::cross_entropy || outputs.extents[0].size != 1) return nullptr;
  const Field* labels = nullptr;
  for (auto i = program.instructions.begin(); i != loss; ++i) {
    if (i->output.space != targets.space || i->output.offset != targets.offset) continue;
    labels = i->op == Op::load ? &program.fields[static_cast<std::size_t>(i->sizes[0])] : nullptr;
  }
  if (labels == nullptr || labels->size != 1) return nullptr;
  num_classes = static_cast<int>(outputs.extents[1].size);
  return labels;
}

}  // namespace

ProgramEngine::ProgramEngine(Program program, std::vector<std::int64_t> levels, ParameterVector parameters,
                             const CpuResources& resources)
    : instruction_set_(kernels_named(resources.instruction_set).name),
      kernels_(kernels_named(resources.instruction_set)),
      program_(std::move(program)),
      executor_(program_, instruction_set_, kernels_),
      levels_(std::move(levels)),
      parameters_(std::move(parameters)) {
  // A ray has its move, its parameters and what is made of them. Where few fit, threads share the rows of one.
  const std::int64_t bytes = 4 * (parameters_.dim + program_.perturbed_size);
  const std::int64_t fit = std::max<std::int64_t>(1, resources.memory_budget / std::max<std::int64_t>(1, bytes));
  num_teams_ = fit >= resources.num_threads ? resources.num_threads : 1;
  num_threads_ = resources.num_threads / num_teams_;

  constant_.reserve(static_cast<std::size_t>(program_.constant_size));
  Workspace workspace;
  executor_.run_constant(constant_.data(), workspace);
  double sum = 0.0;
  std::int64_t row = 0;
  for (std::int64_t level : levels_) {
    for (; row < level; ++row) sum += program_.weights[row];
    weight_until_.push_back(sum);
  }
  hardest_first_.resize(static_cast<std::size_t>(levels_.back()));
  std::iota(hardest_first_.begin(), hardest_first_.end(), 0);
  std::int64_t first = 0;
  for (std::size_t level = 0; level < levels_.size(); ++level)
    for (; first < levels_[level]; first += blocks_.back().count) {
      const auto size = std::min<std::int64_t>(program_.block_rows, levels_[level] - first);
      proof_order_.add(static_cast<int>(blocks_.size()), static_cast<int>(level));
      blocks_.push_back({first, static_cast<int>(size), static_cast<int>(level)});
    }

  Ray center;
  center_losses_.resize(levels_.size());
  evaluate(center, 0.0, static_cast<int>(levels_.size()), center_losses_.data());
  center_row_losses_ = std::move(center.row_losses);
  count(center.operations);
}

std::vector<RayResult> ProgramEngine::solve(const Rays& rays, const std::vector<Target>& targets,
                                            const std::vector<int>& order, const SearchSettings& settings,
                                            const Prior& prior) const {
  return RaySearches<ProgramEngine>(*this, num_teams_).solve(rays, targets, order, settings, prior);
}

std::vector<double> ProgramEngine::row_losses(const Rays& rays, double radius) const {
  Ray ray;
  begin(ray, rays, 0);
  set_radius(ray, radius);
  evaluate_all(ray, levels_.back());
  return std::move(ray.row_losses);
}

void ProgramEngine::learn_order(const Rays& rays, const std::vector<double>& radii) {
  const std::size_t count = static_cast<std::size_t>(levels_.back());
  std::vector<std::vector<double>> found(rays.indices.size());
  RaySearches<ProgramEngine>(*this, num_teams_).for_each(rays.indices.size(), [&](Ray& ray, std::size_t i) {
    begin(ray, rays, i);
    set_radius(ray, radii[i]);
    evaluate_all(ray, levels_.back());
    found[i] = ray.row_losses;
  });
  Hardness hardness;
  hardness.losses = expected_losses(found, count);
  if (const Field* labels = labels_of(program_, hardness.num_classes)) {
    for (std::size_t row = 0; row < count; ++row) {
      const int label = static_cast<int>(labels->values[row]);
      hardness.classes.push_back(label >= 0 && label < hardness.num_classes ? label : 0);  // one that is ignored
    }
  }
  hardest_first_.clear();
  std::int64_t first = 0;
  for (std::int64_t last : levels_) {
    for (const auto& run : hardest_first(hardness, first, last, program_.block_rows))
      hardest_first_.insert(hardest_first_.end(), run.begin(), run.end());
    first = last;
  }
  proof_order_ = ProofOrder(hardness.num_classes);
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    const auto begin = hardest_first_.begin() + blocks_[b].first;
    proof_order_.add(static_cast<int>(b), blocks_[b].level, {begin, begin + blocks_[b].count}, hardness);
  }
  proof_order_.sort();
}

void ProgramEngine::begin(Ray& ray, const Rays& rays, std::size_t i) const {
  ray.move.reserve(static_cast<std::size_t>(parameters_.dim));
  ray.unit = aim(kernels_, parameters_, rays, i, ray.move.data());
  ray.radius = std::numeric_limits<double>::quiet_NaN();
}

void ProgramEngine::set_radius(Ray& ray, double radius) const {
  if (radius == ray.radius) return;
  ray.radius = radius;
  ray.perturbed.reserve(static_cast<std::size_t>(program_.perturbed_size));
  ray.workspaces.resize(static_cast<std::size_t>(num_threads_));
  float* out = ray.perturbed.data();
  const float* move = ray.move.data();
  for (std::size_t tensor = 0; tensor < program_.parameters.size(); ++tensor) {
    const std::int64_t size = program_.parameter_sizes[tensor];
    if (radius == 0.0)
      std::copy_n(program_.parameters[tensor], size, out);
    else
      kernels_.perturb(program_.parameters[tensor], move, static_cast<float>(radius), size, out);
    out += size;
    if (radius != 0.0) move += size;
  }
  executor_.run_perturbed(constant_.data(), ray.perturbed.data(), ray.workspaces[0]);
}

// The losses of the first rows at the ray's radius.
void ProgramEngine::evaluate_all(Ray& ray, std::int64_t num_rows) const {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(num_rows));
  std::iota(rows.begin(), rows.end(), 0);
  evaluate_rows(ray, rows, ray.row_losses);
}

// The losses of some rows at the ray's radius.
void ProgramEngine::evaluate_rows(Ray& ray, const std::vector<std::int64_t>& rows, std::vector<double>& losses) const {
  const auto num_rows = static_cast<std::int64_t>(rows.size());
  const std::int64_t size = program_.block_rows, num_blocks = (num_rows + size - 1) / size;
  losses.resize(rows.size());
  for (Workspace& workspace : ray.workspaces)  // threads may not throw
    workspace.block.reserve(static_cast<std::size_t>(program_.block_size));
#pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads_) if (num_threads_ > 1)
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    const std::int64_t first = b * size;
    const int count = static_cast<int>(std::min(size, num_rows - first));
    executor_.run_block(constant_.data(), ray.perturbed.data(), rows.data() + first, count,
                        ray.workspaces[static_cast<std::size_t>(omp_get_thread_num())], losses.data() + first);
  }
  for (Workspace& workspace : ray.workspaces) {
    ray.operations += workspace.operations;
    workspace.operations = 0;
  }
}

// Mean losses of the first `num_levels` levels, in the order of the data.
void ProgramEngine::evaluate(Ray& ray, double radius, int num_levels, double* losses) const {
  set_radius(ray, radius);
  evaluate_all(ray, levels_[num_levels - 1]);
  level_means(ray.row_losses.data(), levels_, weight_until_.data(), num_levels, losses);
}

// Whether the target's loss at `radius` is above its cutoff. Losses are not negative, so a partial sum above it is a
// proof; `mean` is the mean loss if the answer is no, and a lower bound of it otherwise. `num_read` counts rows: all of
// them if the losses of the level are known, as after an evaluation.
bool ProgramEngine::is_outside(Ray& ray, double radius, const Target& target, double& mean,
                               std::int64_t& num_read) const {
  std::vector<double> losses(static_cast<std::size_t>(target.level) + 1);
  if (!program_.is_nonnegative) {
    evaluate(ray, radius, target.level + 1, losses.data());
  } else {
    set_radius(ray, radius);
    if (proves_outside(ray, target, mean, num_read)) return true;
    level_means(ray.row_losses.data(), levels_, weight_until_.data(), target.level + 1, losses.data());
  }
  num_read = levels_[target.level];
  mean = losses[target.level];
  return !(mean <= target.cutoff);
}

// Reads block after block until their sum is above the cutoff; false if all were read.
bool ProgramEngine::proves_outside(Ray& ray, const Target& target, double& mean, std::int64_t& num_read) const {
  const double weight = weight_until_[target.level];
  Workspace& workspace = ray.workspaces[0];
  ray.row_losses.resize(static_cast<std::size_t>(levels_[target.level]));
  std::vector<double> found(static_cast<std::size_t>(program_.block_rows));
  double total = 0.0;
  bool is_proved = false;
  Proof proof(proof_order_, target.level);
  for (int b; !is_proved && (b = proof.next()) >= 0;) {
    const std::int64_t* rows = hardest_first_.data() + blocks_[b].first;
    const int count = blocks_[b].count;
    executor_.run_block(constant_.data(), ray.perturbed.data(), rows, count, workspace, found.data());
    for (int j = 0; j < count; ++j) ray.row_losses[static_cast<std::size_t>(rows[j])] = found[j];
    const double loss = std::accumulate(found.begin(), found.begin() + count, 0.0);
    proof.tell(loss);
    total += loss;
    num_read += count;
    // Not `total / weight > cutoff` alone: the sum in another order may differ in its last bits.
    is_proved = !(total <= target.cutoff * weight * (1.0 + 1e-12));
  }
  ray.operations += workspace.operations;
  workspace.operations = 0;
  mean = total / weight;
  return is_proved;
}

// The mean loss of a level at a radius near that of the ray's last evaluation, estimated from a sample of its rows.
double ProgramEngine::sample(Ray& ray, double radius, int level, std::int64_t& num_read) const {
  const RowSample sample = sample_rows(ray.row_losses, levels_[level]);
  if (sample.rows.empty()) return kNan;
  set_radius(ray, radius);
  std::vector<double> found;
  evaluate_rows(ray, sample.rows, found);
  num_read = static_cast<std::int64_t>(sample.rows.size());
  const double before = std::accumulate(ray.row_losses.begin(), ray.row_losses.begin() + levels_[level], 0.0);
  return (before + summed_change(sample, center_row_losses_, ray.row_losses, levels_[level], found)) /
         weight_until_[level];
}

}  // namespace cpu
}  // namespace basinvol
