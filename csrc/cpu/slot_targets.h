// What outputs are compared with, in the order of the slots.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "boundary.h"
#include "cpu/buffer.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace basinvol {
namespace cpu {

class SlotTargets {
 public:
  // Takes labels, or targets [count, outputs], into the order that the rows have now.
  void gather(const Rows& rows, const Examples& examples, Loss loss, int outputs) {
    outputs_ = outputs;
    if (loss == Loss::cross_entropy)
      labels_.assign(rows.num_slots(), 0);
    else
      targets_.reserve(static_cast<std::size_t>(rows.num_slots()) * outputs);
    for (std::int64_t slot = 0; slot < rows.num_slots(); ++slot) {
      const std::int64_t row = rows.row(slot);
      if (row < 0) continue;
      if (loss == Loss::cross_entropy)
        labels_[slot] = examples.labels[row];
      else
        std::copy_n(examples.targets + row * outputs, outputs, targets_.data() + slot * outputs);
    }
  }

  // The outputs x [rows, padded width] of a block beside what they are compared with.
  Outputs beside(const float* x, const Block& block) const {
    return {x,
            block.rows,
            padded(outputs_),
            outputs_,
            labels_.data() + block.slot,
            targets_.data() + block.slot * outputs_};
  }

 private:
  int outputs_ = 0;
  std::vector<std::int64_t> labels_;
  Buffer targets_;
};

}  // namespace cpu
}  // namespace basinvol
