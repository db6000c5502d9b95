// What the build and the machine offer for CUDA.
#pragma once

#include <string>
#include <vector>

namespace basinvol {

// Names of the usable CUDA devices; empty without a device or a driver.
std::vector<std::string> cuda_devices();

}  // namespace basinvol
