// Square blocks of vectors turned over in registers.
#pragma once

#include "cpu/simd.h"

namespace basinvol {
namespace cpu {
namespace BASINVOL_ISA {

// a0 b0 a1 b1 ... from the first halves of two vectors, and the same from their second halves.
#if defined(__AVX512F__)
inline Float interleave_first(Float a, Float b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Float interleave_second(Float a, Float b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
inline Float interleave_first(Float a, Float b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Float interleave_second(Float a, Float b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
inline Float interleave_first(Float a, Float b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline Float interleave_second(Float a, Float b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// Row i, lane j becomes row j, lane i: log2(kLanes) perfect shuffles of the rows.
[[gnu::always_inline]] inline void transpose(Float (&rows)[kLanes]) {
  for (int stage = 1; stage < kLanes; stage *= 2) {
    Float turned[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      turned[2 * i] = interleave_first(rows[i], rows[i + kLanes / 2]);
      turned[2 * i + 1] = interleave_second(rows[i], rows[i + kLanes / 2]);
    }
    for (int i = 0; i < kLanes; ++i) rows[i] = turned[i];
  }
}

}  // namespace BASINVOL_ISA
}  // namespace cpu
}  // namespace basinvol
