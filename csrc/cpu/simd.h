// Vectors of the instruction set this file is compiled for, through GCC and Clang vector extensions.
#pragma once

#include <cstdint>
#include <cstring>

namespace basinvol {
namespace cpu {
namespace BASINVOL_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kVectors = 4;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kVectors = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kVectors = 4;
#else
constexpr int kLanes = 4, kVectors = 2;
#endif

typedef float Float __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t Int __attribute__((vector_size(4 * kLanes)));
typedef std::uint32_t Word __attribute__((vector_size(4 * kLanes)));

template <typename Vector, typename Scalar>
inline Vector load(const Scalar* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <typename Vector, typename Scalar>
inline void store(Scalar* to, const Vector& v) {
  std::memcpy(to, &v, sizeof v);
}

inline Float all(float x) { return x - Float{}; }

inline Float select(Int mask, Float yes, Float no) { return (Float)((mask & (Int)yes) | (~mask & (Int)no)); }

// Nearest integer, ties to even, of |x| < 2^22.
inline Float nearest(Float x) {
  const Float magic = all(12582912.0f);  // 1.5 x 2^23
  return (x + magic) - magic;
}

}  // namespace BASINVOL_ISA
}  // namespace cpu
}  // namespace basinvol
