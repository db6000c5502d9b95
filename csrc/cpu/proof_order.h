// In which order proofs read blocks of rows: always next the one that is expected to have the largest loss.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace basinvol {
namespace cpu {

// How hard rows are, by what some rays have shown, and which of them go together: a ray that is bad for one row of a
// class is bad for others of it.
struct Hardness {
  std::vector<double> losses;  // expected of every row
  std::vector<int> classes;    // of every row; empty: nothing is known of them
  int num_classes = 1;

  bool has_classes() const { return !classes.empty(); }
};

// What is expected of rows that have these losses on some rays, [rays][rows]. The mean root, so that a ray that is very
// hard on a row counts less than several that are hard. A loss that is not finite counts as a large one: a NaN would
// break the order, and infinite sums could not be told apart.
inline std::vector<double> expected_losses(const std::vector<std::vector<double>>& found, std::size_t num_rows) {
  std::vector<double> expected(num_rows, 0.0);
  for (const auto& of_ray : found)
    for (std::size_t row = 0; row < num_rows; ++row)
      expected[row] +=
          std::sqrt(std::isfinite(of_ray[row]) ? std::fabs(of_ray[row]) : std::numeric_limits<float>::max());
  for (double& root : expected) root = root * root / static_cast<double>(found.size() * found.size());
  return expected;
}

// Whether so many rows are read class by class: where a class has few blocks, they are better read by hardness alone.
inline bool are_by_class(const Hardness& hardness, std::int64_t num_rows, std::int64_t block_rows) {
  constexpr std::int64_t kBlocksToAClass = 8;
  return hardness.has_classes() && num_rows >= kBlocksToAClass * block_rows * hardness.num_classes;
}

// Rows first .. last - 1, hardest first. Where they are read class by class, blocks are of one class each, class by
// class, and what is left over of all classes follows; each run that is returned is one or the other.
inline std::vector<std::vector<std::int64_t>> hardest_first(const Hardness& hardness, std::int64_t first,
                                                            std::int64_t last, std::int64_t block_rows) {
  const bool is_by_class = are_by_class(hardness, last - first, block_rows);
  std::vector<std::vector<std::int64_t>> runs(is_by_class ? static_cast<std::size_t>(hardness.num_classes) : 1);
  for (std::int64_t row = first; row < last; ++row)
    runs[is_by_class ? static_cast<std::size_t>(hardness.classes[static_cast<std::size_t>(row)]) : 0].push_back(row);
  const auto is_harder = [&](std::int64_t a, std::int64_t b) {
    return hardness.losses[static_cast<std::size_t>(a)] > hardness.losses[static_cast<std::size_t>(b)];
  };
  std::vector<std::int64_t> left_over;
  for (auto& run : runs) {
    std::stable_sort(run.begin(), run.end(), is_harder);
    if (!is_by_class) continue;
    const auto whole = static_cast<std::ptrdiff_t>(run.size() - run.size() % static_cast<std::size_t>(block_rows));
    left_over.insert(left_over.end(), run.begin() + whole, run.end());
    run.resize(static_cast<std::size_t>(whole));
  }
  std::stable_sort(left_over.begin(), left_over.end(), is_harder);
  runs.push_back(std::move(left_over));
  return runs;
}

// Blocks in groups: one of each class, and one of rows of several. The hardest of each group come first.
class ProofOrder {
 public:
  // Without an order that was learned, that of the data.
  explicit ProofOrder(int num_classes = 0) : groups_(static_cast<std::size_t>(num_classes) + 1) {}

  void add(int index, int level) { groups_.back().push_back({index, level, 0.0}); }

  // The same for a block of these rows, in the group of the class that they all have.
  void add(int index, int level, const std::vector<std::int64_t>& rows, const Hardness& hardness) {
    double expected = 0.0;
    for (const std::int64_t row : rows) expected += hardness.losses[static_cast<std::size_t>(row)];
    std::size_t group = groups_.size() - 1;
    if (hardness.has_classes()) {
      const auto class_of = [&](std::int64_t row) { return hardness.classes[static_cast<std::size_t>(row)]; };
      const int first = class_of(rows.front());
      if (std::all_of(rows.begin(), rows.end(), [&](std::int64_t row) { return class_of(row) == first; }))
        group = static_cast<std::size_t>(first);
    }
    groups_[group].push_back({index, level, expected});
  }

  void sort() {
    for (auto& group : groups_)
      std::stable_sort(group.begin(), group.end(),
                       [](const Block& a, const Block& b) { return a.expected > b.expected; });
  }

 private:
  friend class Proof;
  struct Block {
    int index, level;
    double expected;  // its summed loss, on the rays that taught it
  };
  std::vector<std::vector<Block>> groups_;
};

// The way of one proof through the blocks of the levels up to its own. By how much the blocks of a group exceed on this
// ray what was expected of them, the last ones most, is expected of its next one. Several blocks may be asked for
// before the loss of the first is told; what is told is of the earliest of them.
class Proof {
 public:
  Proof(const ProofOrder& order, int level) : order_(order), level_(level), seen_(order.groups_.size()) {}

  // The block to read next; -1 if all were asked for.
  int next() {
    const double everywhere = expected_ > 0.0 ? found_ / expected_ : 1.0;
    double most = -1.0;
    const ProofOrder::Block* best = nullptr;
    std::size_t group = 0;
    for (std::size_t g = 0; g < seen_.size(); ++g) {
      const auto& blocks = order_.groups_[g];
      Seen& seen = seen_[g];
      while (seen.next < blocks.size() && blocks[seen.next].level > level_) ++seen.next;
      if (seen.next == blocks.size()) continue;
      const double before = blocks[seen.next].expected;
      const double now = before > 0.0 ? before * (seen.found + everywhere * before) / (seen.expected + before) : 0.0;
      if (!(now > most)) continue;
      most = now;
      best = &blocks[seen.next];
      group = g;
    }
    if (best == nullptr) return -1;
    ++seen_[group].next;
    asked_.push_back({group, best->expected});
    return best->index;
  }

  // The summed loss of the earliest block that `next` gave and that was not told yet.
  void tell(double loss) {
    const Asked& asked = asked_[num_told_++];
    Seen& seen = seen_[asked.group];
    seen.found = 0.5 * seen.found + loss;
    seen.expected = 0.5 * seen.expected + asked.expected;
    found_ += loss;
    expected_ += asked.expected;
  }

 private:
  struct Seen {
    std::size_t next = 0;
    double found = 0.0, expected = 0.0;  // of the blocks that were told; of earlier ones less
  };
  struct Asked {
    std::size_t group;
    double expected;
  };

  const ProofOrder& order_;
  int level_;
  std::vector<Seen> seen_;
  std::vector<Asked> asked_;
  std::size_t num_told_ = 0;
  double found_ = 0.0, expected_ = 0.0;  // of all blocks that were told
};

}  // namespace cpu
}  // namespace basinvol
