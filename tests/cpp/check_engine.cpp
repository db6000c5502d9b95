// The engine on small odd problems, every answer recomputed with plain float64 loops. Built with AddressSanitizer and
// UBSan, it finds reads beyond a tile, a panel or a level as well as wrong brackets.
#include <numeric>
#include <string>

#include "cpu/engine.h"
#include "cpu/kernels.h"
#include "problem.h"

using namespace basinvol;

namespace {

void check(const Problem& problem, const CpuResources& resources, const std::string& name) {
  const Examples examples{problem.inputs.data(), problem.labels.data(), problem.targets.data()};
  const std::int64_t dim = static_cast<std::int64_t>(problem.parameters.size());
  cpu::Engine engine(problem.layers(), problem.loss, examples, problem.levels,
                     {problem.scale.data(), problem.sizes, dim}, resources);
  const std::vector<float> still(problem.parameters.size(), 0.0f);
  for (std::size_t level = 0; level < problem.levels.size(); ++level) {
    const double expected = problem.loss_at(still, 0.0, problem.levels[level]);
    expect(std::fabs(engine.center_losses()[level] - expected) <= 1e-5 * expected, name + ": loss at the center");
  }

  const auto targets = make_targets(problem, engine.center_losses());
  std::vector<int> order(targets.size());
  std::iota(order.begin(), order.end(), 0);
  SearchSettings settings;
  settings.radius_max = 1e3;
  Rays rays{7, {0, 1, 2}, nullptr};
  const auto first = engine.solve(rays, targets, order, settings, {});
  engine.learn_order(rays, std::vector<double>(rays.indices.size(), 0.5));
  const auto again = engine.solve(rays, targets, order, settings, {});

  Prior prior;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const Bracket& b = first[0].brackets[t];
    prior.negligible.push_back(b.status == CROSSED ? b.upper : 0.0);
  }
  const auto decisive = engine.solve(rays, targets, order, settings, prior);

  const cpu::Kernels& kernels = cpu::kernels_named(resources.instruction_set);
  for (std::size_t i = 0; i < rays.indices.size(); ++i) {
    std::vector<float> move(problem.parameters.size());
    float* out = move.data();
    for (std::size_t tensor = 0; tensor < problem.sizes.size(); ++tensor) {
      kernels.normals(rays.seed, rays.indices[i], static_cast<std::uint32_t>(tensor), problem.sizes[tensor], out);
      out += problem.sizes[tensor];
    }
    kernels.normalize(move.data(), problem.scale.data(), dim, move.data());
    for (std::size_t t = 0; t < targets.size(); ++t) {
      const Bracket& b = first[i].brackets[t];
      expect(b.lower == again[i].brackets[t].lower && b.upper == again[i].brackets[t].upper,
             name + ": the arrangement of rows changes a bracket");
      const std::int64_t count = problem.levels[targets[t].level];
      const double noise = 1e-5 * targets[t].cutoff;
      if (b.status == CROSSED) {
        expect(problem.loss_at(move, b.lower, count) <= targets[t].cutoff + noise, name + ": lower is not inside");
        expect(problem.loss_at(move, b.upper, count) > targets[t].cutoff - noise, name + ": upper is not outside");
      }
      const Bracket& d = decisive[i].brackets[t];
      if (d.status == NEGLIGIBLE)
        expect(problem.loss_at(move, d.upper, count) > targets[t].cutoff - noise, name + ": a false proof");
    }
  }
}

}  // namespace

int main() {
  const std::vector<std::vector<int>> shapes = {{1, 1}, {3, 1, 2}, {7, 65, 5, 3}, {33, 17, 16, 1}, {20, 129, 10}};
  const std::vector<std::vector<std::int64_t>> levels = {{1}, {5, 6}, {7, 97}, {2, 96, 200}};
  unsigned seed = 0;
  for (const cpu::Kernels* kernels : cpu::available_kernels()) {
    for (const auto& widths : shapes) {
      for (const auto& prefixes : levels) {
        const Activation activation = static_cast<Activation>(seed % 4);
        const Loss loss = widths.back() == 1 ? Loss::bce_with_logits : static_cast<Loss>(seed % 3);
        Problem problem{widths, activation, loss, seed % 2 == 0, prefixes, {}, {}, {}, {}, {}, {}, {}, {}};
        problem.fill(seed++);
        for (std::int64_t budget : {0L, 3000L, 1L << 30}) {
          const CpuResources resources{1 + static_cast<int>(seed % 2), budget, kernels->name};
          check(problem, resources, std::string(kernels->name) + ", problem " + std::to_string(seed));
        }
      }
    }
  }
  std::printf("%d checks passed\n", num_checks);
}
