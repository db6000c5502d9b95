#include <stdexcept>

#include "cpu/gradient_kernels.h"
#include "cpu/kernels.h"
#include "cpu/tensor_kernels.h"

namespace basinvol {
namespace cpu {

namespace baseline {
const Kernels& table();
const TensorKernels& tensor_table();
const GradientKernels& gradient_table();
}  // namespace baseline
#ifdef BASINVOL_X86_LEVELS
namespace v3 {
const Kernels& table();
const TensorKernels& tensor_table();
const GradientKernels& gradient_table();
}  // namespace v3
namespace v4 {
const Kernels& table();
const TensorKernels& tensor_table();
const GradientKernels& gradient_table();
}  // namespace v4
#endif

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> found;
#ifdef BASINVOL_X86_LEVELS
  const bool has_v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool has_v4 = has_v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  if (has_v4) found.push_back(&v4::table());
  if (has_v3) found.push_back(&v3::table());
#endif
  found.push_back(&baseline::table());
  return found;
}

const Kernels& kernels_named(const std::string& name) {
  const auto found = available_kernels();
  if (name.empty()) return *found.front();
  std::string names;
  for (const Kernels* kernels : found) {
    if (name == kernels->name) return *kernels;
    names += std::string(names.empty() ? "" : ", ") + kernels->name;
  }
  throw std::invalid_argument("instruction set '" + name + "' is not one of this machine's: " + names);
}

const TensorKernels& tensor_kernels_named(const char* name) {
#ifdef BASINVOL_X86_LEVELS
  if (std::string(name) == "v4") return v4::tensor_table();
  if (std::string(name) == "v3") return v3::tensor_table();
#endif
  return std::string(name) == "baseline" ? baseline::tensor_table()
                                         : throw std::invalid_argument("no tensor kernels of this name");
}

const GradientKernels& gradient_kernels_of(const Kernels& kernels) {
#ifdef BASINVOL_X86_LEVELS
  if (std::string(kernels.name) == "v4") return v4::gradient_table();
  if (std::string(kernels.name) == "v3") return v3::gradient_table();
#endif
  return std::string(kernels.name) == "baseline" ? baseline::gradient_table()
                                                 : throw std::invalid_argument("no gradient kernels of this name");
}

}  // namespace cpu
}  // namespace basinvol
