// What the build and the machine offer for CUDA.
#pragma once

#include <string>
#include <vector>

namespace basinvol {
namespace cuda {

// Names of the usable CUDA devices; empty without a device or a driver.
std::vector<std::string> device_names();

}  // namespace cuda
}  // namespace basinvol
