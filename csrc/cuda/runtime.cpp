#include "cuda/runtime.h"

#include <stdexcept>
#include <string>

namespace basinvol {
namespace cuda {

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the next call shall report its own
  int device = 0;
  cudaDeviceProp properties;
  std::string where = "no device";
  if (cudaGetDevice(&device) == cudaSuccess && cudaGetDeviceProperties(&properties, device) == cudaSuccess)
    where = "device " + std::to_string(device) + " (" + properties.name + ")";
  throw std::runtime_error(std::string(call) + " failed on " + where + ": " + cudaGetErrorString(status));
}

DeviceScope::DeviceScope(int device) {
  check(cudaGetDevice(&previous_), "cudaGetDevice");
  check(cudaSetDevice(device), "cudaSetDevice");
}

DeviceScope::~DeviceScope() { cudaSetDevice(previous_); }

}  // namespace cuda
}  // namespace basinvol
