// The examples in the order and form in which the engine reads them.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/proof_order.h"

namespace basinvol {
namespace cpu {

// Consecutive rows of one level, evaluated together.
struct Block {
  std::int64_t slot;  // of its first row
  int rows;
  int level;
};

// Rows are put into slots: level by level (sums over a prefix must stay possible), inside a level in any order, each
// level padded to whole tiles. Where most inputs of a column share one value, as in images, that value is taken out and
// a tile keeps only the columns in which one of its rows differs; similar rows are then put side by side.
class Rows {
 public:
  // inputs [count, features]; levels are increasing prefixes, the last is count.
  Rows(const float* inputs, int features, std::vector<std::int64_t> levels);

  // Puts the rows of each level in the order of `hardest_first`.
  void arrange(const Hardness& hardness);

  std::int64_t num_slots() const { return static_cast<std::int64_t>(row_of_slot_.size()); }
  std::int64_t row(std::int64_t slot) const { return row_of_slot_[slot]; }  // -1: padding
  std::int64_t slot(std::int64_t row) const { return slot_of_row_[row]; }
  const std::vector<Block>& blocks() const { return blocks_; }
  int num_blocks(int num_levels) const { return blocks_until_[num_levels]; }
  const Tile* tiles(std::int64_t slot) const { return &tiles_[slot / kTileRows]; }
  const std::vector<float>& background() const { return background_; }  // empty: nothing was taken out
  double stored_share() const { return stored_share_; }                 // of all inputs, after padding

 private:
  void find_background();
  std::vector<std::int64_t> similar_side_by_side(std::vector<std::int64_t> rows) const;
  void place(const std::vector<std::vector<std::int64_t>>& rows_by_level);
  void pack();

  const float* inputs_;
  int features_;
  std::vector<std::int64_t> levels_;
  std::vector<float> background_;
  std::vector<int> splitting_columns_;  // the 64 whose share of background values is nearest to one half
  std::vector<std::int64_t> row_of_slot_, slot_of_row_;
  std::vector<Block> blocks_;
  std::vector<int> blocks_until_;
  std::vector<Tile> tiles_;
  std::vector<float> values_;
  std::vector<std::int32_t> columns_;
  double stored_share_ = 1.0;
};

}  // namespace cpu
}  // namespace basinvol
