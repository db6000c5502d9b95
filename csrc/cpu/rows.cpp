#include "cpu/rows.h"

#include <algorithm>
#include <numeric>

namespace basinvol {
namespace cpu {

namespace {

constexpr double kWorthwhile = 0.8;  // of the inputs left after taking the background out; measured break-even 0.9

}  // namespace

Rows::Rows(const float* inputs, int features, std::vector<std::int64_t> levels)
    : inputs_(inputs), features_(features), levels_(std::move(levels)) {
  find_background();
  std::vector<std::vector<std::int64_t>> rows_by_level;
  std::int64_t first = 0;
  for (std::int64_t last : levels_) {
    std::vector<std::int64_t> rows(last - first);
    std::iota(rows.begin(), rows.end(), first);
    rows_by_level.push_back(similar_side_by_side(std::move(rows)));
    first = last;
  }
  place(rows_by_level);
  pack();
  if (stored_share_ > kWorthwhile && !background_.empty()) {  // dense after all
    background_.clear();
    pack();
  }
}

void Rows::arrange(const Hardness& hardness) {
  std::vector<std::vector<std::int64_t>> rows_by_level;
  std::int64_t first = 0;
  for (std::int64_t last : levels_) {
    std::vector<std::int64_t> arranged;
    for (const auto& run : hardest_first(hardness, first, last, kBlockRows)) {
      for (std::size_t i = 0; i < run.size(); i += kBlockRows) {  // inside a block the order is free
        const auto end = run.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(run.size(), i + kBlockRows));
        const auto block = similar_side_by_side({run.begin() + static_cast<std::ptrdiff_t>(i), end});
        arranged.insert(arranged.end(), block.begin(), block.end());
      }
    }
    rows_by_level.push_back(std::move(arranged));
    first = last;
  }
  place(rows_by_level);
  pack();
}

// The most common value of every column, if it is the majority (Boyer and Moore 1981); 0 takes nothing out.
void Rows::find_background() {
  const std::int64_t count = levels_.back();
  std::vector<float> candidate(features_, 0.0f);
  std::vector<std::int64_t> votes(features_, 0), matches(features_, 0);
  for (std::int64_t row = 0; row < count; ++row) {
    const float* x = inputs_ + row * features_;
    for (int k = 0; k < features_; ++k) {
      candidate[k] = votes[k] == 0 ? x[k] : candidate[k];
      votes[k] += x[k] == candidate[k] ? 1 : -1;
    }
  }
  for (std::int64_t row = 0; row < count; ++row) {
    const float* x = inputs_ + row * features_;
    for (int k = 0; k < features_; ++k) matches[k] += x[k] == candidate[k];
  }
  std::int64_t total = 0;
  for (int k = 0; k < features_; ++k) {
    if (2 * matches[k] <= count)
      candidate[k] = 0.0f;
    else
      total += matches[k];
  }
  if (static_cast<double>(total) < (1.0 - kWorthwhile) * static_cast<double>(count) * features_) return;
  background_ = std::move(candidate);

  splitting_columns_.resize(features_);
  std::iota(splitting_columns_.begin(), splitting_columns_.end(), 0);
  std::stable_sort(splitting_columns_.begin(), splitting_columns_.end(),
                   [&](int a, int b) { return std::abs(2 * matches[a] - count) < std::abs(2 * matches[b] - count); });
  splitting_columns_.resize(std::min(features_, 64));
}

// Sorted by which of the splitting columns hold the background: neighbours then differ from it in the same columns.
std::vector<std::int64_t> Rows::similar_side_by_side(std::vector<std::int64_t> rows) const {
  if (background_.empty()) return rows;
  std::vector<std::pair<std::uint64_t, std::int64_t>> keyed;
  keyed.reserve(rows.size());
  for (std::int64_t row : rows) {
    std::uint64_t key = 0;
    for (int k : splitting_columns_) key = key << 1 | (inputs_[row * features_ + k] != background_[k]);
    keyed.emplace_back(key, row);
  }
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = keyed[i].second;
  return rows;
}

void Rows::place(const std::vector<std::vector<std::int64_t>>& rows_by_level) {
  row_of_slot_.clear();
  blocks_.clear();
  blocks_until_.assign(1, 0);
  for (std::size_t level = 0; level < rows_by_level.size(); ++level) {
    const auto& rows = rows_by_level[level];
    for (std::size_t i = 0; i < rows.size(); i += kBlockRows) {
      const int size = static_cast<int>(std::min<std::size_t>(kBlockRows, rows.size() - i));
      blocks_.push_back({num_slots() + static_cast<std::int64_t>(i), size, static_cast<int>(level)});
    }
    row_of_slot_.insert(row_of_slot_.end(), rows.begin(), rows.end());
    while (row_of_slot_.size() % kTileRows != 0) row_of_slot_.push_back(-1);
    blocks_until_.push_back(static_cast<int>(blocks_.size()));
  }
  slot_of_row_.resize(levels_.back());
  for (std::int64_t slot = 0; slot < num_slots(); ++slot)
    if (row_of_slot_[slot] >= 0) slot_of_row_[row_of_slot_[slot]] = slot;
}

void Rows::pack() {
  const std::int64_t num_tiles = num_slots() / kTileRows;
  std::vector<std::int64_t> start(num_tiles + 1, 0);
  std::vector<char> differs(features_);
  columns_.clear();
  for (std::int64_t t = 0; t < num_tiles; ++t) {  // which columns each tile keeps
    std::fill(differs.begin(), differs.end(), background_.empty());
    for (int i = 0; i < kTileRows && !background_.empty(); ++i) {
      const std::int64_t row = row_of_slot_[t * kTileRows + i];
      if (row < 0) continue;
      const float* x = inputs_ + row * features_;
      for (int k = 0; k < features_; ++k) differs[k] |= x[k] != background_[k];
    }
    for (int k = 0; k < features_; ++k)
      if (differs[k]) columns_.push_back(k);
    start[t + 1] = static_cast<std::int64_t>(columns_.size());
  }
  columns_.shrink_to_fit();
  values_.assign(columns_.size() * kTileRows, 0.0f);
  tiles_.resize(num_tiles);
  for (std::int64_t t = 0; t < num_tiles; ++t) {
    float* values = values_.data() + start[t] * kTileRows;
    const std::int32_t* columns = columns_.data() + start[t];
    const int num_columns = static_cast<int>(start[t + 1] - start[t]);
    tiles_[t] = {values, columns, num_columns};
    for (int i = 0; i < kTileRows; ++i) {
      const std::int64_t row = row_of_slot_[t * kTileRows + i];
      if (row < 0) continue;
      for (int j = 0; j < num_columns; ++j) {
        const int k = columns[j];
        values[static_cast<std::int64_t>(j) * kTileRows + i] =
            inputs_[row * features_ + k] - (background_.empty() ? 0.0f : background_[k]);
      }
    }
  }
  stored_share_ = static_cast<double>(columns_.size()) / (static_cast<double>(num_tiles) * features_);
}

}  // namespace cpu
}  // namespace basinvol
