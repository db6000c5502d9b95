#include "cpu/gemm.h"

#include <cstring>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#define BASINVOL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BASINVOL_CLONES
#endif

namespace basinvol {

namespace {

typedef float Vector __attribute__((vector_size(4 * kPanel)));

// 6 rows: their accumulators and operands fill the 16 registers of AVX2.
constexpr int kRows = 6;

template <int rows>
[[gnu::always_inline]] inline void tile(const float* a, std::int64_t stride, int inputs, const float* panel, float* c,
                                        int c_stride) {
  Vector sum[rows] = {};
  for (int k = 0; k < inputs; ++k) {
    Vector b;
    std::memcpy(&b, panel + static_cast<std::int64_t>(k) * kPanel, sizeof b);
    for (int i = 0; i < rows; ++i) sum[i] += a[i * stride + k] * b;
  }
  for (int i = 0; i < rows; ++i) std::memcpy(c + static_cast<std::int64_t>(i) * c_stride, &sum[i], sizeof sum[i]);
}

}  // namespace

void pack_weight(const float* weight, const float* move, float radius, int outputs, int inputs, float* packed) {
  for (int first = 0; first < outputs; first += kPanel) {
    float* panel = packed + static_cast<std::int64_t>(first) * inputs;
    for (int j = 0; j < kPanel; ++j) {
      const std::int64_t row = static_cast<std::int64_t>(first + j) * inputs;
      for (int k = 0; k < inputs; ++k) {
        float value = 0.0f;
        if (first + j < outputs) {
          value = weight != nullptr ? weight[row + k] : 0.0f;
          if (move != nullptr) value += radius * move[row + k];
        }
        panel[static_cast<std::int64_t>(k) * kPanel + j] = value;
      }
    }
  }
}

BASINVOL_CLONES
void multiply(const float* a, std::int64_t stride, int rows, int inputs, const float* packed, int outputs, float* c) {
  const int c_stride = padded(outputs);
  for (int first = 0; first < outputs; first += kPanel) {
    const float* panel = packed + static_cast<std::int64_t>(first) * inputs;
    int i = 0;
    for (; i + kRows <= rows; i += kRows)
      tile<kRows>(a + i * stride, stride, inputs, panel, c + static_cast<std::int64_t>(i) * c_stride + first, c_stride);
    for (; i < rows; ++i)
      tile<1>(a + i * stride, stride, inputs, panel, c + static_cast<std::int64_t>(i) * c_stride + first, c_stride);
  }
}

}  // namespace basinvol
