#include "cuda/device.h"

#include <cuda_runtime_api.h>

namespace basinvol {
namespace cuda {

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return names;  // no driver is an answer, not an error
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, device) == cudaSuccess) names.emplace_back(properties.name);
  }
  return names;
}

}  // namespace cuda
}  // namespace basinvol
