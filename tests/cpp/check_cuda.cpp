// The CUDA engine's own kernels on the CPU (fibers/cuda_runtime.h), against the CPU engine and plain float64 loops.
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>

#include "cpu/engine.h"
#include "cpu/kernels.h"
#include "cuda/engine.h"
#include "cuda_runtime.h"
#include "problem.h"

using namespace basinvol;

namespace {

const Rays kRays{7, {0, 5, 4'000'000'000u}, nullptr};

struct Path {
  const char* name;
  int shared_limit;  // of the device: too little for the persistent kernel
  int driver;
  double graph_operations;
  const char* precision = "fp32";
};
const Path kPersistent{"persistent", 99 * 1024, 13000, 3e9}, kBatched{"batched", 1024, 13000, 0.0},
    kLoop{"batched in a WHILE node", 1024, 13000, 3e9}, kReplays{"batched in replays", 1024, 12030, 3e9},
    kTensor{"batched on tensor cores", 1024, 13000, 0.0, "tf32x3"};

template <typename Engine, typename Resources>
Engine make(const Problem& problem, const Resources& resources) {
  const Examples examples{problem.inputs.data(), problem.labels.data(), problem.targets.data()};
  const auto dim = static_cast<std::int64_t>(problem.parameters.size());
  return Engine(problem.layers(), problem.loss, examples, problem.levels, {problem.scale.data(), problem.sizes, dim},
                resources);
}

// Moves and normals of every ray, from the CPU's generator.
std::vector<std::vector<float>> moves_of(const Problem& problem, std::vector<float>* normals) {
  const cpu::Kernels& kernels = cpu::kernels_named("");
  std::vector<std::vector<float>> moves;
  for (std::uint32_t index : kRays.indices) {
    std::vector<float> move(problem.parameters.size());
    float* out = move.data();
    for (std::size_t tensor = 0; tensor < problem.sizes.size(); ++tensor) {
      kernels.normals(kRays.seed, index, static_cast<std::uint32_t>(tensor), problem.sizes[tensor], out);
      out += problem.sizes[tensor];
    }
    normals->insert(normals->end(), move.begin(), move.end());
    kernels.normalize(move.data(), problem.scale.data(), static_cast<std::int64_t>(move.size()), move.data());
    moves.push_back(move);
  }
  return moves;
}

bool same(const std::vector<RayResult>& a, const std::vector<RayResult>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].num_evaluations != b[i].num_evaluations) return false;
    for (std::size_t t = 0; t < a[i].brackets.size(); ++t) {
      const Bracket &x = a[i].brackets[t], &y = b[i].brackets[t];
      // By bits: a value may be NaN.
      if (std::memcmp(&x.lower, &y.lower, 5 * sizeof(double)) != 0 || x.status != y.status) return false;
    }
  }
  return true;
}

// Brackets that hold the same crossing; both are closed to rtol, and losses are rounded to float32.
bool overlap(const Bracket& a, const Bracket& b) {
  return std::max(a.lower, b.lower) <= std::min(a.upper, b.upper) * (1.0 + 1e-5);
}

class Check {
 public:
  Check(const Problem& problem, const std::string& name)
      : problem_(problem), name_(name), moves_(moves_of(problem, &normals_)) {}

  void run(const Path& path, Search method) {
    fibers::shared_limit = path.shared_limit;
    fibers::driver_version = path.driver;
    where_ = name_ + ", " + path.name + ": ";
    auto engine = make<cuda::Engine>(problem_, CudaResources{0, 0, path.graph_operations, path.precision});
    auto reference = make<cpu::Engine>(problem_, CpuResources{1, 1 << 30, ""});
    for (std::size_t level = 0; level < problem_.levels.size(); ++level) {
      const std::vector<float> still(problem_.parameters.size(), 0.0f);
      const double expected = problem_.loss_at(still, 0.0, problem_.levels[level]);
      expect(std::fabs(engine.center_losses()[level] - expected) <= 1e-5 * expected, where_ + "loss at the center");
    }
    targets_ = make_targets(problem_, engine.center_losses());
    order_.resize(targets_.size());
    std::iota(order_.begin(), order_.end(), 0);
    settings_ = SearchSettings();
    settings_.method = method;
    settings_.radius_max = 1e3;
    for (int k = 1; k <= 40; ++k) settings_.grid.push_back(1e-3 * k * k);

    const auto found = engine.solve(kRays, targets_, order_, settings_, {});
    compare(found, reference.solve(kRays, targets_, order_, settings_, {}), true);
    check_that_nothing_else_matters(engine, found);
    if (method != Search::grid) check_refinement(engine, reference, found);
    check_proofs(engine, reference, found);
    if (method != Search::grid)
      expect(same(engine.solve(kRays, targets_, order_, settings_, {}), found), where_ + "the order of rows matters");
  }

 private:
  void compare(const std::vector<RayResult>& found, const std::vector<RayResult>& expected, bool is_certified) {
    for (std::size_t i = 0; i < found.size(); ++i) {
      for (std::size_t t = 0; t < targets_.size(); ++t) {
        const Bracket &b = found[i].brackets[t], &e = expected[i].brackets[t];
        expect(b.status == e.status, where_ + "another status than the CPU's");
        if (b.status != CROSSED) continue;
        expect(overlap(b, e), where_ + "another bracket than the CPU's");
        const std::int64_t count = problem_.levels[targets_[t].level];
        const double noise = 1e-5 * targets_[t].cutoff;
        if (!is_certified) continue;
        expect(problem_.loss_at(moves_[i], b.lower, count) <= targets_[t].cutoff + noise, where_ + "lower is outside");
        expect(problem_.loss_at(moves_[i], b.upper, count) > targets_[t].cutoff - noise, where_ + "upper is inside");
      }
    }
  }

  void check_that_nothing_else_matters(const cuda::Engine& engine, const std::vector<RayResult>& found) {
    const auto dim = static_cast<std::int64_t>(problem_.parameters.size());
    const Rays given{0, kRays.indices, normals_.data()};
    expect(same(engine.solve(given, targets_, order_, settings_, {}), found), where_ + "normals from the host differ");
    const Rays last{0, {kRays.indices.back()}, normals_.data() + 2 * dim};
    expect(same(engine.solve(last, targets_, order_, settings_, {}), {found.back()}), where_ + "alone, a ray differs");
  }

  void check_refinement(const cuda::Engine& engine, const cpu::Engine& reference, const std::vector<RayResult>& found) {
    auto tight = targets_;
    for (Target& target : tight) target.rtol = 1e-5;
    Prior prior;
    for (const RayResult& result : found) {
      prior.brackets.push_back(result.brackets);
      for (std::size_t t = 0; t < targets_.size(); t += 2)
        if (result.brackets[t].status == CROSSED) prior.brackets.back()[t].status = RUNNING;
    }
    const auto refined = engine.solve(kRays, tight, order_, settings_, prior);
    compare(refined, reference.solve(kRays, tight, order_, settings_, prior), false);
    for (std::size_t i = 0; i < found.size(); ++i)
      for (std::size_t t = 0; t < targets_.size(); ++t)
        expect(t % 2 == 0 || refined[i].brackets[t].upper == found[i].brackets[t].upper, where_ + "a bracket is lost");
  }

  void check_proofs(cuda::Engine& engine, cpu::Engine& reference, const std::vector<RayResult>& found) {
    Prior prior;
    for (std::size_t t = 0; t < targets_.size(); ++t) {  // the first ray decides what is negligible, clear of rounding
      const Bracket& b = found[0].brackets[t];
      prior.negligible.push_back(b.status == CROSSED && t % 3 != 2 ? 1.001 * b.upper : 0.0);
    }
    const auto before = engine.solve(kRays, targets_, order_, settings_, prior);
    engine.learn_order(kRays, {0.5, 0.5, 0.5});
    reference.learn_order(kRays, {0.5, 0.5, 0.5});
    const auto proved = engine.solve(kRays, targets_, order_, settings_, prior);
    const auto expected = reference.solve(kRays, targets_, order_, settings_, prior);
    compare(proved, expected, true);
    for (std::size_t i = 0; i < proved.size(); ++i) {
      expect(proved[i].num_evaluations > 0, where_ + "evaluations are not counted");
      for (std::size_t t = 0; t < targets_.size(); ++t) {
        const Bracket& b = proved[i].brackets[t];
        expect(b.status == before[i].brackets[t].status, where_ + "the order of rows changes what is negligible");
        if (b.status != NEGLIGIBLE) continue;
        ++num_negligible;
        expect(b.upper == expected[i].brackets[t].upper || settings_.method != Search::grid, where_ + "another test");
        const std::int64_t count = problem_.levels[targets_[t].level];
        expect(problem_.loss_at(moves_[i], b.upper, count) > targets_[t].cutoff * (1 - 1e-5), where_ + "a false proof");
      }
    }
  }

  const Problem& problem_;
  std::string name_, where_;
  std::vector<float> normals_;
  std::vector<std::vector<float>> moves_;
  std::vector<Target> targets_;
  std::vector<int> order_;
  SearchSettings settings_;

 public:
  static int num_negligible;
};
int Check::num_negligible = 0;

Problem make_problem(const std::vector<int>& widths, const std::vector<std::int64_t>& levels, unsigned seed) {
  const Loss loss = widths.back() == 1 ? Loss::bce_with_logits : static_cast<Loss>(seed % 3);
  Problem problem{widths, static_cast<Activation>(seed % 4), loss, false, levels, {}, {}, {}, {}, {}, {}, {}, {}};
  problem.fill(seed);
  return problem;
}

void check_memory() {
  const Problem problem = make_problem({9, 20, 3}, {40, 150}, 5);
  fibers::shared_limit = kBatched.shared_limit;
  auto engine = make<cuda::Engine>(problem, CudaResources{0, 0});
  const auto targets = make_targets(problem, engine.center_losses());
  std::vector<int> order(targets.size());
  std::iota(order.begin(), order.end(), 0);
  Prior prior{std::vector<double>(targets.size(), 1e-3), {}};
  const auto found = engine.solve(kRays, targets, order, {}, {}),
             proved = engine.solve(kRays, targets, order, {}, prior);
  auto small = make<cuda::Engine>(problem, CudaResources{0, 25'000});  // one ray at a time
  expect(same(small.solve(kRays, targets, order, {}, {}), found), "memory changes a bracket");
  expect(same(small.solve(kRays, targets, order, {}, prior), proved), "memory changes a proof");
  std::string refusal, name_refusal;
  try {
    make<cuda::Engine>(problem, CudaResources{0, 1000}).solve(kRays, targets, order, {}, {});
  } catch (const std::runtime_error& error) {
    refusal = error.what();
  }
  expect(refusal.find("one direction needs 1 MB of device memory and 1 MB are in `memory_budget`") == 0, refusal);
  try {
    fibers::memory_size = 0;
    make<cuda::Engine>(problem, CudaResources{0, 0});
  } catch (const std::runtime_error& error) {
    refusal = error.what();
  }
  fibers::memory_size = std::size_t{1} << 30;
  try {
    make<cuda::Engine>(problem, CudaResources{0, 0, 0.0, "tf32"});
  } catch (const std::invalid_argument& error) {
    name_refusal = error.what();
  }
  expect(name_refusal.find("`precision` must be 'fp32' or 'tf32x3', got 'tf32'") == 0, name_refusal);
  expect(refusal == "cudaMalloc failed on device 0 (fibers): out of memory", refusal);
}

std::vector<Bracket> brackets_of(const std::vector<RayResult>& results) {
  std::vector<Bracket> brackets;
  for (const RayResult& result : results)
    brackets.insert(brackets.end(), result.brackets.begin(), result.brackets.end());
  return brackets;
}

void expect_alike(const std::vector<RayResult>& found, const std::vector<RayResult>& expected,
                  const std::string& name) {
  const auto a = brackets_of(found), b = brackets_of(expected);
  for (std::size_t i = 0; i < a.size(); ++i) {
    expect(a[i].status == b[i].status, name + ": another status than the CPU's");
    expect(overlap(a[i], b[i]) && overlap(b[i], a[i]), name + ": another bracket than the CPU's");
  }
}

// Tensors that do not move, a layer without biases, an activation after the last layer.
void check_odd_layers() {
  unsigned seed = 0;
  for (const std::vector<int>& widths : {std::vector<int>{4, 3}, {4, 6, 3}, {4, 6, 5, 3}, {4, 6, 20, 5, 3}}) {
    for (const Path& path : {kPersistent, kBatched}) {
      for (int still = 0; still < 2; ++still) {
        const Problem problem = make_problem(widths, {20, 130}, ++seed);
        std::vector<Layer> layers = problem.layers();
        layers.front().weight.offset = still == 0 ? -1 : layers.front().weight.offset;
        if (still == 1) layers.front().bias = {};
        if (still == 1 && layers.size() > 2) layers[1].weight.offset = -1;
        layers.back().activation = still == 0 ? Activation::tanh : Activation::relu;
        if (still == 0) layers.back().bias.offset = -1;
        const Examples examples{problem.inputs.data(), problem.labels.data(), problem.targets.data()};
        const ParameterVector vector{problem.scale.data(), problem.sizes,
                                     static_cast<std::int64_t>(problem.parameters.size())};
        fibers::shared_limit = path.shared_limit;
        cuda::Engine engine(layers, problem.loss, examples, problem.levels, vector, CudaResources{0, 0});
        cpu::Engine reference(layers, problem.loss, examples, problem.levels, vector, CpuResources{1, 1 << 30, ""});
        std::vector<Target> targets;
        for (int level = 0; level < 2; ++level) {
          const double center = engine.center_losses()[level];
          expect(std::fabs(center - reference.center_losses()[level]) <= 1e-5 * center, "odd layers: center");
          targets.push_back({level, center + 0.05, center, 0.5, 2.0, 0.05, 1e-3, -1, true, problem.levels[level]});
        }
        SearchSettings settings;
        settings.radius_max = 1e3;
        expect_alike(engine.solve(kRays, targets, {0, 1}, settings, {}),
                     reference.solve(kRays, targets, {0, 1}, settings, {}), "odd layers " + std::to_string(seed));
      }
    }
  }
}

// Losses that become infinite or NaN before they pass the cutoff.
void check_overflow() {
  for (const Loss loss : {Loss::cross_entropy, Loss::bce_with_logits, Loss::mse}) {
    Problem problem{{3, 4, 2}, Activation::relu, loss, false, {30}, {}, {}, {}, {}, {}, {}, {}, {}};
    problem.fill(3);
    for (const Path& path : {kPersistent, kBatched}) {
      fibers::shared_limit = path.shared_limit;
      auto engine = make<cuda::Engine>(problem, CudaResources{0, 0});
      auto reference = make<cpu::Engine>(problem, CpuResources{1, 1 << 30, ""});
      const std::vector<Target> targets{{0, 1e100, engine.center_losses()[0], 0.5, 2.0, 0.05, 1e-2, -1, true, 30}};
      SearchSettings settings;
      settings.method = Search::bisect;
      settings.max_steps = 400;
      const auto found = engine.solve(kRays, targets, {0}, settings, {});
      for (const Bracket& b : brackets_of(found)) expect(b.status == NON_FINITE, "overflow: no such status");
      expect_alike(found, reference.solve(kRays, targets, {0}, settings, {}), "overflow");
    }
  }
}

// More rows than a launch takes, in the search and in a proof that fails.
void check_many_rows() {
  const Problem problem = make_problem({2, 3, 3, 2}, {8400}, 4);
  fibers::shared_limit = kBatched.shared_limit;
  const Rays rays{7, {3}, nullptr};
  auto engine = make<cuda::Engine>(problem, CudaResources{0, 0});
  auto reference = make<cpu::Engine>(problem, CpuResources{1, 1 << 30, ""});
  const double center = engine.center_losses()[0];
  expect(std::fabs(center - reference.center_losses()[0]) <= 1e-6 * center, "many rows: loss at the center");
  const std::vector<Target> targets{{0, 1.5 * center, center, 0.5, 2.0, 0.05, 1e-3, -1, true, 8400}};
  const auto expected = reference.solve(rays, targets, {0}, {}, {})[0].brackets[0];
  const Prior prior{{0.5 * expected.lower}, {}};
  const auto found = engine.solve(rays, targets, {0}, {}, prior)[0].brackets[0];
  expect(found.status == CROSSED && expected.status == CROSSED, "many rows: no crossing");
  expect(overlap(found, expected) && overlap(expected, found), "many rows: another bracket than the CPU's");
}

}  // namespace

int main() {
  // Sides of 16- and 64-wide tiles, 128-row blocks and groups of 4 and 16; every activation and loss on each path.
  const std::vector<std::pair<std::vector<int>, std::vector<std::int64_t>>> cases = {
      {{1, 1}, {1}},
      {{3, 1, 2}, {5, 6}},
      {{2, 4, 4, 4, 4, 3}, {2, 129, 200}},
      {{7, 65, 5, 3}, {127, 128}},
      {{33, 17, 16, 1}, {6}},
      {{20, 129, 17}, {5, 6}},
      {{11, 3}, {127, 128}},
      {{5, 16, 3}, {2, 129, 200}},
      {{7, 65, 5, 3}, {1}},
      {{5, 63, 4}, {129}},
      {{2, 4, 4, 4, 3}, {60, 127}},
      {{3, 1, 2}, {2, 129, 200}},
      {{33, 17, 16, 1}, {130}}};
  unsigned seed = 0;
  for (const auto& [widths, levels] : cases) {
    const Problem problem = make_problem(widths, levels, seed);
    Check check(problem, "problem " + std::to_string(seed));
    const Search method = static_cast<Search>(seed / 2 % 3);
    check.run(kPersistent, method);
    check.run(seed % 3 == 0 ? kBatched : seed % 3 == 1 ? kLoop : kReplays, method);
    if (seed == 1 || seed == 9) check.run(kTensor, method);
    ++seed;
  }
  check_memory();
  check_many_rows();
  check_odd_layers();
  check_overflow();
  expect(Check::num_negligible > 50, "too few proofs to learn from");
  std::printf("%d checks passed, %d proofs\n", num_checks, Check::num_negligible);
}
