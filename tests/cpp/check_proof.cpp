// The order in which proofs read rows: every block once, the hardest first, and those of a class that a ray is bad for.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "cpu/proof_order.h"
#include "problem.h"

using namespace basinvol;
using namespace basinvol::cpu;

namespace {

constexpr int kClasses = 5, kSize = 16;
const std::vector<std::int64_t> kLevels = {1000, 4003};

// What rows of a level have lost on other rays, and what they lose on this one, which is bad for one class.
struct Rows {
  Hardness hardness;
  std::vector<double> losses;
};

Rows rows_with(bool has_classes, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Rows rows;
  rows.hardness.num_classes = has_classes ? kClasses : 1;
  for (std::int64_t row = 0; row < kLevels.back(); ++row) {
    const int its = static_cast<int>(random() % kClasses);
    const double loss = std::exp(normal(random));
    rows.hardness.losses.push_back(loss);
    if (has_classes) rows.hardness.classes.push_back(its);
    rows.losses.push_back(loss * std::exp(0.5 * normal(random)) * (its == 3 ? 4.0 : 0.25));
  }
  return rows;
}

// The next blocks of a proof, at most so many.
std::vector<int> next_blocks(Proof& proof, int at_once) {
  std::vector<int> asked;
  for (int i = 0; i < at_once; ++i)
    if (const int b = proof.next(); b >= 0) asked.push_back(b);
  return asked;
}

// The share of the rows of the levels up to `level` that are read until they have lost `share` of all; every block is
// looked at, also after that. So many blocks are asked for before the loss of the first is told.
double read(const Rows& rows, int level, double share, const std::string& name, int at_once = 1) {
  std::vector<std::vector<std::int64_t>> blocks;
  ProofOrder order(rows.hardness.num_classes);
  std::int64_t first = 0;
  for (std::size_t l = 0; l < kLevels.size(); ++l) {
    std::vector<std::int64_t> arranged;
    for (const auto& run : hardest_first(rows.hardness, first, kLevels[l], kSize))
      arranged.insert(arranged.end(), run.begin(), run.end());
    expect(
        std::set<std::int64_t>(arranged.begin(), arranged.end()).size() == static_cast<std::size_t>(kLevels[l] - first),
        name + ": a row is missing or doubled");
    for (std::size_t at = 0; at < arranged.size(); at += kSize) {
      const auto begin = arranged.begin() + static_cast<std::ptrdiff_t>(at);
      blocks.emplace_back(begin,
                          begin + static_cast<std::ptrdiff_t>(std::min<std::size_t>(kSize, arranged.size() - at)));
      order.add(static_cast<int>(blocks.size()) - 1, static_cast<int>(l), blocks.back(), rows.hardness);
    }
    first = kLevels[l];
  }
  order.sort();

  double all = 0.0, total = 0.0;
  for (std::int64_t row = 0; row < kLevels[level]; ++row) all += rows.losses[row];
  std::set<std::int64_t> seen;
  std::size_t needed = 0, num_read = 0;
  Proof proof(order, level);
  for (std::vector<int> asked; !(asked = next_blocks(proof, at_once)).empty();) {
    std::vector<double> found;
    for (int b : asked) {
      found.push_back(0.0);
      for (std::int64_t row : blocks[b]) {
        expect(row < kLevels[level], name + ": a row of a later level");
        expect(seen.insert(row).second, name + ": a row is read twice");
        found.back() += rows.losses[row];
      }
      num_read += blocks[b].size();
      total += found.back();
      if (needed == 0 && total > share * all) needed = num_read;
    }
    for (double loss : found) proof.tell(loss);
  }
  expect(seen.size() == static_cast<std::size_t>(kLevels[level]), name + ": a row is not read");
  return static_cast<double>(needed) / static_cast<double>(kLevels[level]);
}

void check_order() {
  for (unsigned seed = 0; seed < 8; ++seed) {
    for (int level : {0, 1}) {
      const double alone = read(rows_with(false, seed), level, 0.7, "by hardness");
      const double by_class = read(rows_with(true, seed), level, 0.7, "by class");
      expect(alone < 0.5, "the hardest rows do not come first");
      expect(by_class < 0.6 * alone, "what a ray is bad for does not come first");
      const double in_fours = read(rows_with(true, seed), level, 0.7, "four at once", 4);
      expect(in_fours < 0.7 * alone, "what a ray is bad for does not come first if four are asked for at once");
    }
  }
}

// Where the blocks of a class are few, rows are taken by hardness alone.
void check_few_rows() {
  const Rows rows = rows_with(true, 9);
  const auto runs = hardest_first(rows.hardness, 0, 8 * kSize * kClasses - 1, kSize);
  expect(runs.size() == 2 && runs.back().empty(), "few rows are read by class");
  for (std::size_t i = 1; i < runs.front().size(); ++i)
    expect(rows.hardness.losses[runs.front()[i - 1]] >= rows.hardness.losses[runs.front()[i]], "not in order");
}

void check_odd_losses() {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> expected = expected_losses({{1.0, 0.0, infinity, 4.0}, {9.0, 0.0, 1.0, nan}}, 4);
  expect(expected[0] == 4.0 && expected[1] == 0.0, "not the squared mean of roots");
  expect(std::isfinite(expected[2]) && std::isfinite(expected[3]) && expected[2] > 1e30 && expected[3] > 1e30,
         "a loss that is not finite is not a large one");

  // Nothing is expected of any row, or nothing is found: all blocks are read all the same.
  Rows rows = rows_with(true, 3);
  std::fill(rows.hardness.losses.begin(), rows.hardness.losses.end(), 0.0);
  read(rows, 1, 0.5, "nothing expected");
  rows = rows_with(true, 4);
  std::fill(rows.losses.begin(), rows.losses.end(), 0.0);
  read(rows, 1, 0.5, "nothing found");
}

}  // namespace

int main() {
  check_order();
  check_few_rows();
  check_odd_losses();
  std::printf("%d checks passed\n", num_checks);
}
