// Losses and gradients at points on small odd problems, held against plain float64 loops and their differences. Built
// with AddressSanitizer and UBSan, it finds reads beyond a tile, a panel or a level as well as wrong gradients.
#include <random>
#include <string>

#include "cpu/kernels.h"
#include "cpu/point_losses.h"
#include "problem.h"

using namespace basinvol;

namespace {

constexpr int kNumPoints = 3;

// The loss at center + scale x (point + step x along), in float64.
double loss_at(const Problem& problem, const double* point, const std::vector<double>& along, double step,
               std::int64_t count) {
  std::vector<double> move(problem.parameters.size());
  for (std::size_t i = 0; i < move.size(); ++i) move[i] = problem.scale[i] * (point[i] + step * along[i]);
  return problem.loss_at(move, 1.0, count);
}

void check(const Problem& problem, const CpuResources& resources, unsigned seed, const std::string& name) {
  const Examples examples{problem.inputs.data(), problem.labels.data(), problem.targets.data()};
  const std::size_t dim = problem.parameters.size();
  cpu::PointLosses engine(problem.layers(), problem.loss, examples, problem.levels,
                          {problem.scale.data(), problem.sizes, static_cast<std::int64_t>(dim)},
                          problem.parameters.data(), resources);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> points(kNumPoints * dim);
  for (double& x : points) x = 0.1 * normal(random);
  for (int level = 0; level < engine.num_levels(); ++level) {
    double losses[kNumPoints], alone, without;
    std::vector<double> gradients(kNumPoints * dim, 0.0), of_one(dim, 0.0);
    engine.evaluate(points.data(), kNumPoints, level, losses, gradients.data());
    engine.evaluate(points.data() + dim, 1, level, &alone, of_one.data());
    engine.evaluate(points.data() + dim, 1, level, &without, nullptr);
    expect(alone == losses[1] && without == losses[1], name + ": a loss depends on the call");
    expect(std::equal(of_one.begin(), of_one.end(), gradients.begin() + static_cast<std::ptrdiff_t>(dim)),
           name + ": a gradient depends on the call");
    for (int i = 0; i < kNumPoints; ++i) {
      const double* point = points.data() + i * dim;
      const double* gradient = gradients.data() + i * dim;
      std::vector<double> along(dim, 0.0);
      const double expected = loss_at(problem, point, along, 0.0, problem.levels[level]);
      expect(std::fabs(losses[i] - expected) <= 1e-5 * expected, name + ": loss");
      double norm = 0.0, slope = 0.0;
      for (std::size_t k = 0; k < dim; ++k) norm += gradient[k] * gradient[k];
      for (std::size_t k = 0; k < dim; ++k) {
        along[k] = normal(random);
        slope += gradient[k] * along[k];
      }
      constexpr double step = 1e-7;
      const double difference = loss_at(problem, point, along, step, problem.levels[level]) -
                                loss_at(problem, point, along, -step, problem.levels[level]);
      expect(std::fabs(slope - difference / (2.0 * step)) <= 1e-3 * std::sqrt(norm) + 1e-7, name + ": gradient");
    }
  }
}

}  // namespace

int main() {
  const std::vector<std::vector<int>> shapes = {{1, 1}, {3, 1, 2}, {7, 65, 5, 3}, {33, 17, 16, 1}, {20, 129, 10}};
  const std::vector<std::vector<std::int64_t>> levels = {{1}, {5, 6}, {7, 97}, {2, 96, 1200}};
  unsigned seed = 0;
  for (const cpu::Kernels* kernels : cpu::available_kernels()) {
    for (const auto& widths : shapes) {
      for (const auto& prefixes : levels) {
        for (Activation activation : {Activation::identity, Activation::relu, Activation::tanh, Activation::gelu}) {
          const Loss loss = widths.back() == 1 ? Loss::bce_with_logits : static_cast<Loss>(seed % 3);
          Problem problem{widths, activation, loss, seed % 2 == 0, prefixes, {}, {}, {}, {}, {}, {}, {}, {}};
          problem.fill(seed++);
          const CpuResources resources{1 + static_cast<int>(seed % 3), 0, kernels->name};
          check(problem, resources, seed, std::string(kernels->name) + ", problem " + std::to_string(seed));
        }
      }
    }
  }
  std::printf("%d checks passed\n", num_checks);
}
