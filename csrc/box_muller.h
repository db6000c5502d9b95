// Words to standard normals (Box and Muller 1958), for scalars and for vectors, host and device. Compiled without
// contraction: the same bits everywhere. python/basinvol/philox.py defines the numbers; the polynomials are those of
// Cephes (Moshier 1989), float32, within 1e-7.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "philox.h"

// Each function once per instruction set, inside its caller.
#if defined(__CUDACC__)
#define BASINVOL_INLINE __host__ __device__ __forceinline__
#else
#define BASINVOL_INLINE [[gnu::always_inline]] inline
#endif

namespace basinvol {

// One number at a time. A comparison gives all bits or none, as it does for vectors.
struct ScalarLanes {
  using Float = float;
  using Int = std::int32_t;
  using Word = std::uint32_t;

  BASINVOL_INLINE static Int bits(Float x) {
    Int found;
    std::memcpy(&found, &x, sizeof found);
    return found;
  }
  BASINVOL_INLINE static Float from_bits(Int x) {
    Float found;
    std::memcpy(&found, &x, sizeof found);
    return found;
  }
  BASINVOL_INLINE static Int is_below(Float x, float limit) { return x < limit ? -1 : 0; }
  BASINVOL_INLINE static Float select(Int mask, Float yes, Float no) { return mask != 0 ? yes : no; }
  BASINVOL_INLINE static Float to_float(Int x) { return static_cast<Float>(x); }
  BASINVOL_INLINE static Float to_float(Word x) { return static_cast<Float>(x); }
  BASINVOL_INLINE static Int to_int(Float x) { return static_cast<Int>(x); }
  BASINVOL_INLINE static Float square_root(Float x) { return std::sqrt(x); }
};

template <typename Lanes>
BASINVOL_INLINE typename Lanes::Float log_of(typename Lanes::Float x) {
  using Float = typename Lanes::Float;
  using Int = typename Lanes::Int;
  const Int bits = Lanes::bits(x);
  Int exponent = (bits >> 23) - 126;
  Float m = Lanes::from_bits((bits & 0x007FFFFF) | 0x3F000000);  // in [1/2, 1)
  const Int small = Lanes::is_below(m, 0.70710678f);
  exponent += small;  // true is -1
  m = m + Lanes::select(small, m, Float{}) - 1.0f;
  const Float z = m * m;
  Float p = m * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const Float e = Lanes::to_float(exponent);
  Float y = m * z * p + e * -2.12194440e-4f;
  y = y - 0.5f * z;
  return (m + y) + e * 0.693359375f;
}

// Sine and cosine of 0 <= x < 2 pi.
template <typename Lanes>
BASINVOL_INLINE void sincos_of(typename Lanes::Float x, typename Lanes::Float& sine, typename Lanes::Float& cosine) {
  using Float = typename Lanes::Float;
  using Int = typename Lanes::Int;
  const Float turns = (x * 0.63661977f + 12582912.0f) - 12582912.0f;  // to the nearest integer, 0 to 4
  const Int quadrant = Lanes::to_int(turns);
  // pi/2 in three parts, the first two exact in products with 0..4
  const Float y = ((x - turns * 1.5703125f) - turns * 4.837512969970703125e-4f) - turns * 7.549789948768648e-8f;
  const Float z = y * y;
  const Float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * y + y;
  const Float c =
      ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  const Int swap = -(quadrant & 1);
  const Int sine_sign = (quadrant & 2) << 30, cosine_sign = ((quadrant + 1) & 2) << 30;
  sine = Lanes::from_bits(Lanes::bits(Lanes::select(swap, c, s)) ^ sine_sign);
  cosine = Lanes::from_bits(Lanes::bits(Lanes::select(swap, s, c)) ^ cosine_sign);
}

template <typename Lanes>
BASINVOL_INLINE void box_muller(typename Lanes::Word a, typename Lanes::Word b, typename Lanes::Float& first,
                                typename Lanes::Float& second) {
  using Float = typename Lanes::Float;
  const Float u = Lanes::to_float(a) * 2.3283064365386963e-10f + 1.1641532182693481e-10f;
  const Float angle = Lanes::to_float(b) * static_cast<float>(2.3283064365386963e-10 * 6.283185307179586);
  const Float radius = Lanes::square_root(-2.0f * log_of<Lanes>(u));
  Float sine, cosine;
  sincos_of<Lanes>(angle, sine, cosine);
  first = radius * cosine;
  second = radius * sine;
}

// Four normals of one tensor along one direction: elements 4 block .. 4 block + 3.
BASINVOL_INLINE void four_normals(std::uint64_t seed, std::uint32_t block, std::uint32_t direction,
                                  std::uint32_t tensor, float out[4]) {
  const PhiloxWords words = philox_words(seed, block, direction, tensor);
  box_muller<ScalarLanes>(words.word[0], words.word[1], out[0], out[1]);
  box_muller<ScalarLanes>(words.word[2], words.word[3], out[2], out[3]);
}

}  // namespace basinvol
