// The tensor-core operation by fibers: the threads of a block exchange their parts, and each adds its own sums.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda_runtime.h"

namespace basinvol {
namespace cuda {

using Tf32 = std::uint32_t;

inline Tf32 to_tf32(float x) {  // to the nearest, ties away from zero
  Tf32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  return (bits + 0x1000u) & ~0x1FFFu;
}

inline float from_tf32(Tf32 x) {
  float value;
  std::memcpy(&value, &x, sizeof value);
  return value;
}

struct TensorA {
  Tf32 x[4];
};
struct TensorB {
  Tf32 x[2];
};

inline void tensor_multiply_add(float (&c)[4], const TensorA& a, const TensorB& b) {
  static TensorA all_a[1024];
  static TensorB all_b[1024];
  const unsigned me = threadIdx.x, warp = me / 32 * 32, group = me % 32 / 4, member = me % 4;
  all_a[me] = a;
  all_b[me] = b;
  __syncthreads();
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = group + i / 2 * 8, col = member * 2 + i % 2;
    for (unsigned k = 0; k < 8; ++k) {
      const Tf32 x = all_a[warp + row % 8 * 4 + k % 4].x[row / 8 + k / 4 * 2];
      const Tf32 y = all_b[warp + col * 4 + k % 4].x[k / 4];
      c[i] += from_tf32(x) * from_tf32(y);
    }
  }
  __syncthreads();
}

}  // namespace cuda
}  // namespace basinvol
