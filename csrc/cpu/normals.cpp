// Philox4x32-10 and Box-Muller on vectors. Compiled without contraction: the same bits on every instruction set.
#include <cmath>
#include <cstddef>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "box_muller.h"
#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace basinvol {
namespace cpu {
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

struct VectorLanes {
  using Float = BASINVOL_ISA::Float;
  using Int = BASINVOL_ISA::Int;
  using Word = BASINVOL_ISA::Word;

  BASINVOL_INLINE static Int bits(Float x) { return (Int)x; }
  BASINVOL_INLINE static Float from_bits(Int x) { return (Float)x; }
  BASINVOL_INLINE static Int is_below(Float x, float limit) { return x < limit; }
  BASINVOL_INLINE static Float select(Int mask, Float yes, Float no) { return BASINVOL_ISA::select(mask, yes, no); }
  BASINVOL_INLINE static Float to_float(Int x) { return __builtin_convertvector(x, Float); }
  BASINVOL_INLINE static Float to_float(Word x) { return __builtin_convertvector(x, Float); }
  BASINVOL_INLINE static Int to_int(Float x) { return __builtin_convertvector(x, Int); }
  BASINVOL_INLINE static Float square_root(Float x) {
    for (int i = 0; i < kLanes; ++i) x[i] = std::sqrt(x[i]);
    return x;
  }
};

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
    box_muller<VectorLanes>(c0, c1, part[0], part[1]);
    box_muller<VectorLanes>(c2, c3, part[2], part[3]);
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
  if (scale == nullptr) {
    for (i = 0; i < count; ++i) move[i] = static_cast<float>(normals[i] * inverse);
  } else {
    for (i = 0; i < count; ++i) move[i] = static_cast<float>(normals[i] * inverse) * scale[i];
  }
  return norm;
}

}  // namespace BASINVOL_ISA
}  // namespace cpu
}  // namespace basinvol
