// How the instructions of a program reach their memory. Only the executor's own files include it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cpu/executor.h"

namespace basinvol {
namespace cpu {

// The offsets of all elements of some extents, in row-major order.
inline std::vector<std::int64_t> offsets_of(const std::vector<Extent>& extents) {
  std::vector<std::int64_t> offsets = {0};
  for (const Extent& extent : extents) {
    std::vector<std::int64_t> next;
    next.reserve(offsets.size() * static_cast<std::size_t>(extent.size));
    for (std::int64_t offset : offsets)
      for (std::int64_t i = 0; i < extent.size; ++i) next.push_back(offset + i * extent.stride);
    offsets = std::move(next);
  }
  return offsets;
}

// Calls body(element of each operand) for every index of all extents but the last.
template <std::size_t operands, typename Body>
void for_each_outer(const std::array<const Operand*, operands>& of, Body body) {
  const std::size_t depth = of[0]->extents.size();
  std::array<std::int64_t, operands> at{};
  if (depth <= 1) return body(at);
  std::vector<std::int64_t> index(depth - 1, 0);
  while (true) {
    body(at);
    std::size_t d = depth - 1;
    while (d > 0) {
      --d;
      for (std::size_t o = 0; o < operands; ++o) at[o] += of[o]->extents[d].stride;
      if (++index[d] < of[0]->extents[d].size) break;
      for (std::size_t o = 0; o < operands; ++o) at[o] -= of[o]->extents[d].stride * of[0]->extents[d].size;
      index[d] = 0;
      if (d == 0) return;
    }
  }
}

struct Executor::Run {
  const float* constant;
  float* perturbed;
  Workspace& workspace;
  const std::int64_t* rows = nullptr;
  int count = 1;  // examples
  double* losses = nullptr;
  float* written = nullptr;  // the constant space, while it is computed

  const float* read(const Operand& operand) const {
    const float* base = operand.space == Space::constant    ? constant
                        : operand.space == Space::perturbed ? perturbed
                                                            : workspace.block.data();
    return base + operand.offset;
  }
  const float* read_if(const Operand& operand) const { return operand.is_given() ? read(operand) : nullptr; }
  float* write(const Operand& operand) const {
    float* base = operand.space == Space::constant    ? written
                  : operand.space == Space::perturbed ? perturbed
                                                      : workspace.block.data();
    return base + operand.offset;
  }
  int examples(const Instruction& i) const { return i.stage == Space::block ? count : 1; }
  int examples_of(const Operand& operand) const { return operand.space == Space::block ? count : 1; }
};

}  // namespace cpu
}  // namespace basinvol
