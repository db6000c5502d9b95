// Rows cut into blocks at the boundaries of levels.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda/rows.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

class RowTable {
 public:
  // Rows in the order of the data; level l ends at ends[l].
  RowTable(const std::vector<std::int64_t>& ends, int first_level, cudaStream_t stream) {
    std::int64_t first = 0;
    for (std::size_t l = 0; l < ends.size(); ++l) {
      for (; first < ends[l]; first += kProductRows) {
        const auto rows = std::min<std::int64_t>(kProductRows, ends[l] - first);
        blocks_.push_back({first, static_cast<int>(rows), first_level + static_cast<int>(l)});
      }
      first = ends[l];
      until_.push_back(static_cast<int>(blocks_.size()));
    }
    device_blocks_ = DeviceArray<RowBlock>(blocks_, stream);
    device_until_ = DeviceArray<int>(until_, stream);
  }

  int size() const { return static_cast<int>(blocks_.size()); }
  int until(int level) const { return until_[level]; }  // blocks of levels 0 .. level
  std::int64_t first_row(int block) const { return blocks_[block].first; }
  RowBlocks part(int first, int count) const { return {device_blocks_.data() + first, count}; }
  const int* device_until() const { return device_until_.data(); }

 private:
  std::vector<RowBlock> blocks_;
  std::vector<int> until_;
  DeviceArray<RowBlock> device_blocks_;
  DeviceArray<int> device_until_;
};

}  // namespace cuda
}  // namespace basinvol
