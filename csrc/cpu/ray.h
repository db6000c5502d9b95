// What one thread of the CPU engine needs for one direction. Only the engine's own files include it.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/engine.h"
#include "cpu/slot_targets.h"

namespace basinvol {
namespace cpu {

struct Engine::Ray {
  Buffer move;           // scale x direction [dim]
  Buffer first_move;     // its part in the first weight, packed
  Buffer packed_move;    // the rest, packed
  Buffer packed;         // center + radius x move of the rest
  Buffer start;          // background x first_move [mlp_.first_width()]
  Buffer shift;          // inputs x first_move [kept_slots_, mlp_.first_width()]
  Buffer shift_scratch;  // the same for a block that is not kept
  Buffer base_scratch;
  std::vector<char> has_shift;         // by block
  Buffer current, next;                // activations of a block
  std::vector<double> row_losses;      // by row, at the last evaluation of whole levels
  Buffer sampled_base, sampled_shift;  // products of the rows of a sample, and what their outputs are compared with
  SlotTargets sampled_targets;
  double unit = 1.0;  // norm of the Gaussian vector
  double radius = 0.0;
  std::int64_t operations = 0;
};

}  // namespace cpu
}  // namespace basinvol
