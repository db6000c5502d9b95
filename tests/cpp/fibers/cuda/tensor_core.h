// The tensor-core operation by fibers: the threads of a block exchange their parts, and each adds its own sums. It
// rounds as tensor cores do: products are exact, all terms are cut off below the last place of the largest one, and so
// is the sum. Newer devices keep a few more places (Fasi, Higham, Mikaitis and Pranesh 2021); none rounds to nearest.
#pragma once

#include <cmath>
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

// A sum of nine terms, cut off toward zero.
inline float sum_toward_zero(const double (&terms)[9]) {
  double largest = 0.0, plain = 0.0;
  for (const double term : terms) {
    largest = std::fmax(largest, std::fabs(term));
    plain += term;
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  if (largest == 0.0) return 0.0f;
  const double unit = std::ldexp(1.0, std::ilogb(largest) - 23);
  double sum = 0.0;
  for (const double term : terms) sum += std::trunc(term / unit) * unit;  // exact: few bits above the unit
  const float nearest = static_cast<float>(sum);
  return std::fabs(nearest) > std::fabs(sum) ? std::nextafter(nearest, 0.0f) : nearest;
}

inline void tensor_multiply_add(float (&c)[4], const TensorA& a, const TensorB& b) {
  static TensorA all_a[1024];
  static TensorB all_b[1024];
  const unsigned me = threadIdx.x, warp = me / 32 * 32, group = me % 32 / 4, member = me % 4;
  all_a[me] = a;
  all_b[me] = b;
  __syncthreads();
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = group + i / 2 * 8, col = member * 2 + i % 2;
    double terms[9] = {c[i]};
    for (unsigned k = 0; k < 8; ++k) {
      const Tf32 x = all_a[warp + row % 8 * 4 + k % 4].x[row / 8 + k / 4 * 2];
      const Tf32 y = all_b[warp + col * 4 + k % 4].x[k / 4];
      terms[k + 1] = static_cast<double>(from_tf32(x)) * from_tf32(y);
    }
    c[i] = sum_toward_zero(terms);
  }
  __syncthreads();
}

}  // namespace cuda
}  // namespace basinvol
