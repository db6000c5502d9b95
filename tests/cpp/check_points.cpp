// Losses and gradients at points on small odd problems, held against plain float64 loops and their differences. Built
// with AddressSanitizer and UBSan, it finds reads beyond a tile, a panel or a level as well as wrong gradients.
#include <limits>
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

// Losses of points in planes are those at these points, up to the limit of each, however often rows have been read
// before.
void check_planes(cpu::PointLosses& engine, const std::vector<double>& points, int level, std::mt19937& random,
                  const std::string& name) {
  const auto dim = static_cast<std::size_t>(engine.dim());
  const std::int64_t which[kNumPoints] = {2, 0, 2};
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> angle(-3.0, 3.0);
  std::vector<double> partners(points.size()), turned(points.size());
  for (double& x : partners) x = 0.1 * normal(random);
  double cos[kNumPoints], sin[kNumPoints], expected[kNumPoints], found[kNumPoints];
  for (int i = 0; i < kNumPoints; ++i) {
    const double x = angle(random);
    cos[i] = std::cos(x);
    sin[i] = std::sin(x);
    for (std::size_t k = 0; k < dim; ++k) {
      const std::size_t at = static_cast<std::size_t>(which[i]) * dim + k;
      turned[static_cast<std::size_t>(i) * dim + k] = cos[i] * points[at] + sin[i] * partners[at];
    }
  }
  engine.evaluate(turned.data(), kNumPoints, level, expected, nullptr);
  constexpr double infinite = std::numeric_limits<double>::infinity();
  const double limits[kNumPoints] = {expected[0], 0.9 * expected[1], infinite};
  const cpu::PointsInPlanes at{points.data(), partners.data(), which, cos, sin};
  for (int repetition = 0; repetition < 2; ++repetition) {
    engine.evaluate_within(at, kNumPoints, limits, level, found);
    expect(found[0] == expected[0] && found[2] == expected[2], name + ": a loss in a plane");
    expect(expected[1] > 0.0 ? found[1] == infinite : found[1] == 0.0, name + ": a loss beyond its limit");
  }
}

// A trajectory is what single steps of it make, whichever other chains move, and it can be gone back.
void check_motion(cpu::PointLosses& engine, const std::vector<double>& points, int level, std::mt19937& random,
                  const std::string& name) {
  const auto dim = static_cast<std::size_t>(engine.dim());
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(0.5, 1.5);
  std::vector<double> mean(dim), lengths(dim), angle(dim), cos(dim), sin(dim);
  for (std::size_t k = 0; k < dim; ++k) {
    mean[k] = 0.01 * normal(random);
    lengths[k] = 0.1 * uniform(random);
    angle[k] = 0.2 * uniform(random);
    cos[k] = std::cos(angle[k]);
    sin[k] = std::sin(angle[k]);
  }
  cpu::Motion motion{mean.data(), lengths.data(), angle.data(), cos.data(), sin.data(), 0.7, 2.0, 0.3, 0.9, 3};
  struct Chains {
    std::vector<double> y, momentum, gradient, x, growth, loss;
    cpu::ChainsInMotion arrays() {
      return {y.data(), momentum.data(), gradient.data(), x.data(), growth.data(), loss.data()};
    }
  };
  const std::vector<double> ones(kNumPoints), zeros(points.size());
  Chains start{points, zeros, zeros, zeros, ones, ones};
  for (double& p : start.momentum) p = normal(random);
  for (std::size_t i = 0; i < points.size(); ++i) start.x[i] = mean[i % dim] + lengths[i % dim] * start.y[i];
  engine.evaluate(start.x.data(), kNumPoints, level, start.loss.data(), start.gradient.data());

  Chains together = start, alone = start;
  engine.move(motion, together.arrays(), kNumPoints, level);
  for (std::size_t i = 0; i < kNumPoints; ++i) {
    const cpu::ChainsInMotion all = alone.arrays();
    engine.move(motion,
                {all.y + i * dim, all.momentum + i * dim, all.gradient + i * dim, all.x + i * dim, all.growth + i,
                 all.loss + i},
                1, level);
  }
  expect(alone.y == together.y && alone.momentum == together.momentum && alone.gradient == together.gradient &&
             alone.x == together.x && alone.growth == together.growth && alone.loss == together.loss,
         name + ": a trajectory depends on the call");

  std::vector<double> expected(kNumPoints), gradient(points.size(), 0.0);
  engine.evaluate(together.x.data(), kNumPoints, level, expected.data(), gradient.data());
  expect(expected == together.loss && gradient == together.gradient, name + ": the loss where a trajectory ends");

  // Step by step, in plain arithmetic.
  Chains steps = start;
  const auto kick = [&](double share) {
    for (std::size_t i = 0; i < points.size(); ++i) {
      const std::size_t k = i % dim;
      const double force = (2.0 * steps.gradient[i] + 0.3 * steps.x[i]) * lengths[k] - 0.9 * steps.y[i];
      steps.momentum[i] -= share * 0.7 * angle[k] * force;
    }
  };
  kick(0.5);
  for (int step = 0; step < motion.num_steps; ++step) {
    for (std::size_t i = 0; i < points.size(); ++i) {
      const std::size_t k = i % dim;
      const double y = steps.y[i], p = steps.momentum[i];
      steps.y[i] = cos[k] * y + sin[k] * p;
      steps.momentum[i] = cos[k] * p - sin[k] * y;
      steps.x[i] = mean[k] + lengths[k] * steps.y[i];
    }
    steps.gradient = zeros;
    engine.evaluate(steps.x.data(), kNumPoints, level, steps.loss.data(), steps.gradient.data());
    kick(step == motion.num_steps - 1 ? 0.5 : 1.0);
  }
  Chains back = together;
  for (double& p : back.momentum) p = -p;
  engine.move(motion, back.arrays(), kNumPoints, level);
  for (std::size_t i = 0; i < kNumPoints; ++i) {
    double difference = 0.0, way_back = 0.0, squares = 0.0, before = 0.0;
    for (std::size_t k = i * dim; k < (i + 1) * dim; ++k) {
      difference += std::pow(steps.y[k] - together.y[k], 2) + std::pow(steps.momentum[k] - together.momentum[k], 2);
      way_back += std::pow(start.y[k] - back.y[k], 2) + std::pow(start.momentum[k] + back.momentum[k], 2);
      squares += 0.5 * (std::pow(together.y[k], 2) + std::pow(together.momentum[k], 2));
      before += 0.5 * (std::pow(start.y[k], 2) + std::pow(start.momentum[k], 2));
    }
    expect(difference <= 1e-8 * squares, name + ": a trajectory");
    expect(way_back <= 1e-8 * squares, name + ": a way back");
    expect(std::fabs(together.growth[i] - (squares - before)) <= 1e-12 * squares, name + ": growth of squares");
  }
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
    check_planes(engine, points, level, random, name);
    check_motion(engine, points, level, random, name);
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
