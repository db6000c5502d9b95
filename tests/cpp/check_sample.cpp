// The estimate that a sample of rows gives: no bias, little spread, and nothing where there is nothing to go by.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/row_sample.h"
#include "problem.h"

using namespace basinvol;
using namespace basinvol::cpu;

namespace {

constexpr std::int64_t kRows = 4000;
constexpr int kOrders = 400;

struct Losses {
  std::vector<double> center, before, after;
};

// Most rows lose nearly nothing and a few lose much, as in a trained network; every row goes on in its own way.
Losses fill(unsigned seed, double own) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Losses losses;
  for (std::int64_t row = 0; row < kRows; ++row) {
    const double center = std::exp(-6.0 + normal(random));
    const double rise = std::exp(2.5 * normal(random) - 1.0);
    losses.center.push_back(center);
    losses.before.push_back(center * (1.0 + rise));
    losses.after.push_back(losses.before.back() * std::exp(0.05 * std::log(1.0 + rise) + own * normal(random)));
  }
  return losses;
}

double change(const Losses& losses) {
  double sum = 0.0;
  for (std::int64_t row = 0; row < kRows; ++row) sum += losses.after[row] - losses.before[row];
  return sum;
}

double estimate(const Losses& losses) {
  const RowSample sample = sample_rows(losses.before, kRows);
  std::vector<double> after;
  for (std::int64_t row : sample.rows) after.push_back(losses.after[row]);
  return summed_change(sample, losses.center, losses.before, kRows, after);
}

// Systematic sampling has no chance in it but the order of the rows.
void check_bias(unsigned seed) {
  Losses losses = fill(seed, 0.02);
  const double truth = change(losses);
  std::mt19937 random(seed + 1);
  std::vector<std::size_t> order(kRows);
  std::iota(order.begin(), order.end(), 0);
  double sum = 0.0, squares = 0.0;
  for (int k = 0; k < kOrders; ++k) {
    std::shuffle(order.begin(), order.end(), random);
    Losses shuffled;
    for (std::size_t row : order) {
      shuffled.center.push_back(losses.center[row]);
      shuffled.before.push_back(losses.before[row]);
      shuffled.after.push_back(losses.after[row]);
    }
    const double error = estimate(shuffled) / truth - 1.0;
    sum += error;
    squares += error * error;
  }
  const double mean = sum / kOrders, deviation = std::sqrt(squares / kOrders);
  expect(deviation < 0.05, "the spread of an estimate");
  expect(std::fabs(mean) < 5.0 * deviation / std::sqrt(static_cast<double>(kOrders)), "the bias of an estimate");
}

void check_sizes() {
  const Losses losses = fill(9, 0.02);
  const RowSample sample = sample_rows(losses.before, kRows);
  const auto size = static_cast<std::int64_t>(sample.rows.size());
  expect(std::llabs(size - sample_size(kRows)) <= 1, "the size of a sample");
  expect(std::is_sorted(sample.rows.begin(), sample.rows.end()), "rows in order");
  expect(std::adjacent_find(sample.rows.begin(), sample.rows.end()) == sample.rows.end(), "every row once");
  expect(*std::min_element(sample.weights.begin(), sample.weights.end()) >= 1.0, "weights are at least 1");
  const auto largest = std::max_element(losses.before.begin(), losses.before.end()) - losses.before.begin();
  expect(std::find(sample.rows.begin(), sample.rows.end(), largest) != sample.rows.end(), "the largest is certain");
}

void check_exact() {
  Losses losses = fill(11, 0.0);  // what the regression is made of: it has nothing left to correct
  for (std::int64_t row = 0; row < kRows; ++row)
    losses.after[row] =
        losses.before[row] * (1.01 + 0.03 * std::log((losses.before[row] + 1e-9) / (losses.center[row] + 1e-9)));
  expect(std::fabs(estimate(losses) / change(losses) - 1.0) < 1e-9, "a change in proportion is exact");
}

void check_nothing() {
  std::vector<double> losses(kRows, 0.0);
  expect(sample_rows(losses, kRows).rows.empty(), "no losses, no sample");
  losses[7] = std::numeric_limits<double>::infinity();
  expect(sample_rows(losses, kRows).rows.empty(), "an infinite loss, no sample");
  losses[7] = std::nan("");
  expect(sample_rows(losses, kRows).rows.empty(), "a loss that is no number, no sample");
  losses.assign(kRows, 0.0);
  losses[7] = 1.0;
  const RowSample one = sample_rows(losses, kRows);
  expect(std::find(one.rows.begin(), one.rows.end(), 7) != one.rows.end(), "the only loss is certain");
  expect(first_sampled_level({100, kSampledLevel, 5000}, true) == 1, "levels large enough");
  expect(first_sampled_level({100, 5000}, false) == kNoSamples, "losses that may be negative");
}

}  // namespace

int main() {
  for (unsigned seed = 0; seed < 4; ++seed) check_bias(seed);
  check_sizes();
  check_exact();
  check_nothing();
  std::printf("%d checks passed\n", num_checks);
}
