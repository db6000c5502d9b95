// What all engines of the CPU do along a ray, whatever computes the losses of rows.
#pragma once

#include <cstdint>
#include <vector>

#include "boundary.h"
#include "cpu/kernels.h"

namespace basinvol {
namespace cpu {

// move [dim] = scale x unit vector of the i-th ray; returns the norm of its Gaussian vector.
inline double aim(const Kernels& kernels, const ParameterVector& parameters, const Rays& rays, std::size_t i,
                  float* move) {
  const float* normals = move;
  if (rays.normals != nullptr) {
    normals = rays.normals + static_cast<std::int64_t>(i) * parameters.dim;
  } else {
    float* out = move;
    for (std::size_t tensor = 0; tensor < parameters.sizes.size(); ++tensor) {
      kernels.normals(rays.seed, rays.indices[i], static_cast<std::uint32_t>(tensor), parameters.sizes[tensor], out);
      out += parameters.sizes[tensor];
    }
  }
  return kernels.normalize(normals, parameters.scale, parameters.dim, move);
}

// Means over prefixes of the rows, added in the order of the data, however the rows were arranged; `weight` [levels].
inline void level_means(const double* row_losses, const std::vector<std::int64_t>& levels, const double* weight,
                        int num_levels, double* means) {
  double total = 0.0;
  std::int64_t row = 0;
  for (int level = 0; level < num_levels; ++level) {
    double partial[8] = {};
    for (; row < levels[level]; ++row) partial[row % 8] += row_losses[row];
    for (double sum : partial) total += sum;
    means[level] = total / weight[level];
  }
}

}  // namespace cpu
}  // namespace basinvol
