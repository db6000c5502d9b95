// Philox4x32-10 and Box-Muller, host and device; python/basinvol/philox.py defines the same numbers.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define BASINVOL_HD __host__ __device__
#else
#define BASINVOL_HD
#endif

namespace basinvol {

struct PhiloxWords {
  std::uint32_t word[4];
};

// Salmon et al. 2011, section 5.4. Key: the halves of the seed. Counter: (block of four elements, direction, tensor,
// 0).
BASINVOL_HD inline PhiloxWords philox_words(std::uint64_t seed, std::uint32_t block, std::uint32_t direction,
                                            std::uint32_t tensor) {
  std::uint32_t c0 = block, c1 = direction, c2 = tensor, c3 = 0;
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(0xD2511F53u) * c0;
    const std::uint64_t p1 = static_cast<std::uint64_t>(0xCD9E8D57u) * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Two normals from two words: u = (a + 1/2) 2^-32 and v = b 2^-32 in float32.
BASINVOL_HD inline void box_muller(std::uint32_t a, std::uint32_t b, float& first, float& second) {
  const float u = static_cast<float>(a) * 2.3283064365386963e-10f + 1.1641532182693481e-10f;
  const float angle = static_cast<float>(b) * static_cast<float>(2.3283064365386963e-10 * 6.283185307179586);
  const float radius = std::sqrt(-2.0f * std::log(u));
  first = radius * std::cos(angle);
  second = radius * std::sin(angle);
}

// The normals of one tensor along one direction, in row-major order.
inline void philox_normals(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::int64_t count,
                           float* out) {
  float four[4];
  for (std::int64_t i = 0; i < count; i += 4) {
    const PhiloxWords words = philox_words(seed, static_cast<std::uint32_t>(i / 4), direction, tensor);
    box_muller(words.word[0], words.word[1], four[0], four[1]);
    box_muller(words.word[2], words.word[3], four[2], four[3]);
    for (std::int64_t j = i; j < i + 4 && j < count; ++j) out[j] = four[j - i];
  }
}

}  // namespace basinvol
