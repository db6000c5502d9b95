// Philox4x32-10 and Box-Muller on vectors. Compiled without contraction: the same bits on every instruction set.
// python/basinvol/philox.py defines the numbers; polynomials are those of Cephes (Moshier 1989), float32, within 1e-7.
#include <cmath>
#include <cstddef>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace basinvol {
namespace BASINVOL_ISA {

namespace {

typedef std::uint64_t Wide __attribute__((vector_size(4 * kLanes)));  // half as many 64-bit lanes

// Products of the low words of 64-bit lanes. Compilers do not find the one instruction that there is for it on x86.
inline Wide multiply_low_words(Wide x, std::uint32_t multiplier) {
#if defined(__AVX512F__)
  return (Wide)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(multiplier));
#elif defined(__AVX2__)
  return (Wide)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(multiplier));
#elif defined(__SSE2__)
  return (Wide)_mm_mul_epu32((__m128i)x, _mm_set1_epi64x(multiplier));
#else
  return (x & 0xFFFFFFFFull) * multiplier;
#endif
}

// The products of 32-bit lanes with a constant, as high and low words.
inline void multiply_words(Word x, std::uint32_t multiplier, Word& high, Word& low) {
  const Wide p = multiply_low_words((Wide)x, multiplier), q = multiply_low_words((Wide)x >> 32, multiplier);
  low = (Word)((p & 0xFFFFFFFFull) | (q << 32));
  high = (Word)((p >> 32) | (q & 0xFFFFFFFF00000000ull));
}

inline Float log_of(Float x) {
  Int bits = (Int)x;
  Int exponent = (bits >> 23) - 126;
  Float m = (Float)((bits & 0x007FFFFF) | 0x3F000000);  // in [1/2, 1)
  const Int small = m < 0.70710678f;
  exponent += small;  // true is -1
  m = m + select(small, m, Float{}) - 1.0f;
  const Float z = m * m;
  Float p = all(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const Float e = __builtin_convertvector(exponent, Float);
  Float y = m * z * p + e * -2.12194440e-4f;
  y = y - 0.5f * z;
  return (m + y) + e * 0.693359375f;
}

// Sine and cosine of 0 <= x < 2 pi.
inline void sincos_of(Float x, Float& sine, Float& cosine) {
  const Float turns = nearest(x * 0.63661977f);
  const Int quadrant = __builtin_convertvector(turns, Int);
  // pi/2 in three parts, the first two exact in products with 0..4
  const Float y = ((x - turns * 1.5703125f) - turns * 4.837512969970703125e-4f) - turns * 7.549789948768648e-8f;
  const Float z = y * y;
  const Float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * y + y;
  const Float c =
      ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  const Int swap = -(quadrant & 1);
  const Int sine_sign = (quadrant & 2) << 30, cosine_sign = ((quadrant + 1) & 2) << 30;
  sine = (Float)((Int)select(swap, c, s) ^ sine_sign);
  cosine = (Float)((Int)select(swap, s, c) ^ cosine_sign);
}

inline Float sqrt_of(Float x) {
  for (int i = 0; i < kLanes; ++i) x[i] = std::sqrt(x[i]);
  return x;
}

inline Float to_float(Word w) { return __builtin_convertvector(w, Float); }

inline void box_muller_of(Word a, Word b, Float& first, Float& second) {
  const Float u = to_float(a) * 2.3283064365386963e-10f + 1.1641532182693481e-10f;
  const Float angle = to_float(b) * static_cast<float>(2.3283064365386963e-10 * 6.283185307179586);
  const Float radius = sqrt_of(-2.0f * log_of(u));
  Float sine, cosine;
  sincos_of(angle, sine, cosine);
  first = radius * cosine;
  second = radius * sine;
}

}  // namespace

void normals(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::int64_t count, float* out) {
  Word lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  const Word zero = {};
  for (std::int64_t first = 0; first < count; first += 4 * kLanes) {
    Word c0 = lane + static_cast<std::uint32_t>(first / 4), c1 = zero + direction, c2 = zero + tensor, c3 = zero;
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      Word h0, l0, h1, l1;
      multiply_words(c0, 0xD2511F53u, h0, l0);
      multiply_words(c2, 0xCD9E8D57u, h1, l1);
      c0 = h1 ^ c1 ^ k0;
      c1 = l1;
      c2 = h0 ^ c3 ^ k1;
      c3 = l0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    Float part[4];
    box_muller_of(c0, c1, part[0], part[1]);
    box_muller_of(c2, c3, part[2], part[3]);
    float block[4 * kLanes];
    for (int i = 0; i < kLanes; ++i)
      for (int j = 0; j < 4; ++j) block[4 * i + j] = part[j][i];
    const std::int64_t left = count - first;
    std::memcpy(out + first, block, sizeof(float) * static_cast<std::size_t>(left < 4 * kLanes ? left : 4 * kLanes));
  }
}

double normalize(const float* normals, const float* scale, std::int64_t count, float* move) {
  // Eight partial sums whatever the vector length, so that the norm has the same bits everywhere.
  double partial[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) partial[j] += static_cast<double>(normals[i + j]) * normals[i + j];
  for (int j = 0; i + j < count; ++j) partial[j] += static_cast<double>(normals[i + j]) * normals[i + j];
  double square = 0.0;
  for (double sum : partial) square += sum;
  const double norm = std::sqrt(square), inverse = 1.0 / norm;
  for (i = 0; i < count; ++i) move[i] = static_cast<float>(normals[i] * inverse) * scale[i];
  return norm;
}

}  // namespace BASINVOL_ISA
}  // namespace basinvol
