// Which rays and which rows a pass works on, and where their numbers lie.
#pragma once

#include <cstdint>

#include "ray_search.h"

namespace basinvol {
namespace cuda {

// Rows of a product tile, and so the most in a block of rows. Not the CPU engine's block of rows (cpu/kernels.h), whose
// size follows from its L2 cache: nothing here may be computed from that one.
constexpr int kProductRows = 128;

// Consecutive rows of one level: a block's sum belongs to one level.
struct RowBlock {
  std::int64_t first;
  int rows, level;
};

struct RowBlocks {
  const RowBlock* blocks;
  int count;
};

// The rays that take part, by slot. A grid has `capacity` layers; those beyond *count return at once.
struct ActiveRays {
  const int* slots;
  const int* count;
  int capacity;
  const Probe* probes;  // by slot; nullptr: every level, at radius 0

  BASINVOL_HD bool reaches(int slot, const RowBlock& block) const {
    return probes == nullptr || block.level <= probes[slot].level;
  }
  BASINVOL_HD float radius(int slot) const {
    return probes == nullptr ? 0.0f : static_cast<float>(probes[slot].radius);
  }
};

// [rows, width] of every slot.
struct RowValues {
  const float* values;
  std::int64_t stride;  // from one slot to the next; 0: the same for all
  std::int64_t origin;  // the row that lies first
  const int* order;     // row number i of a block is row order[i] here; nullptr: row i

  BASINVOL_HD const float* at(int slot, std::int64_t row, int width) const {
    return values + slot * stride + ((order == nullptr ? row : order[row]) - origin) * width;
  }
};

}  // namespace cuda
}  // namespace basinvol
