// The one tensor-core operation that is used. Only .cu files include it; the checks without a device bring their own.
#pragma once

#include <cstdint>
#include <cstring>

namespace basinvol {
namespace cuda {

// A float whose last 13 bits are zero.
using Tf32 = std::uint32_t;

__device__ inline Tf32 to_tf32(float x) {
  Tf32 rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
}

__device__ inline float from_tf32(Tf32 x) { return __uint_as_float(x); }

struct TensorA {
  Tf32 x[4];
};
struct TensorB {
  Tf32 x[2];
};

// c [16, 8] += a [16, 8] b [8, 8] by a whole warp, each thread with its part.
__device__ inline void tensor_multiply_add(float (&c)[4], const TensorA& a, const TensorB& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

}  // namespace cuda
}  // namespace basinvol
