// Philox4x32-10, host and device; python/basinvol/philox.py defines the same numbers, and how they become normals.
#pragma once

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

}  // namespace basinvol
