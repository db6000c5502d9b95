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
    reserve(rows.num_slots(), loss, outputs);
    for (std::int64_t slot = 0; slot < rows.num_slots(); ++slot)
      if (rows.row(slot) >= 0) take(slot, examples, rows.row(slot));
  }

  // Room for `count` rows, and those of one place.
  void reserve(std::int64_t count, Loss loss, int outputs) {
    outputs_ = outputs;
    has_labels_ = loss == Loss::cross_entropy;
    if (has_labels_)
      labels_.assign(static_cast<std::size_t>(count), 0);
    else
      targets_.reserve(static_cast<std::size_t>(count) * outputs);
  }
  void take(std::int64_t place, const Examples& examples, std::int64_t row) {
    if (has_labels_)
      labels_[place] = examples.labels[row];
    else
      std::copy_n(examples.targets + row * outputs_, outputs_, targets_.data() + place * outputs_);
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
  bool has_labels_ = false;
  std::vector<std::int64_t> labels_;
  Buffer targets_;
};

}  // namespace cpu
}  // namespace basinvol
