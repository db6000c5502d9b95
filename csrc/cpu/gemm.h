// A matrix product for tall, skinny blocks of rows; compiled with contraction (FMA), unlike the rest.
#pragma once

#include <cstdint>

namespace basinvol {

constexpr int kPanel = 16;  // columns of a packed panel

inline int padded(int columns) { return (columns + kPanel - 1) / kPanel * kPanel; }

// A torch weight [outputs, inputs], plus radius x move if given, as panels of 16 outputs: [padded(outputs) /
// 16][inputs][16], zero beyond the last output.
void pack_weight(const float* weight, const float* move, float radius, int outputs, int inputs, float* packed);

// c [rows, padded(outputs)] = a [rows, inputs] x packed. Row stride of a is `stride`. Every element is one chain of
// operations in the order of the inputs, so a row does not depend on its neighbours.
void multiply(const float* a, std::int64_t stride, int rows, int inputs, const float* packed, int outputs, float* c);

}  // namespace basinvol
