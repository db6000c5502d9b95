#include "bindings/functions.h"

#include <chrono>
#include <numeric>
#include <stdexcept>

#include "cpu/kernels.h"
#include "philox.h"
#ifdef BASINVOL_WITH_CUDA
#include "cuda/device.h"
#endif

using namespace pybind11::literals;

namespace basinvol {
namespace bindings {

py::dict build_info() {
#ifdef BASINVOL_WITH_CUDA
  return py::dict("version"_a = BASINVOL_VERSION, "compiler"_a = __VERSION__, "cuda"_a = BASINVOL_WITH_CUDA,
                  "cuda_devices"_a = cuda::device_names());
#else
  return py::dict("version"_a = BASINVOL_VERSION, "compiler"_a = __VERSION__, "cuda"_a = py::none(),
                  "cuda_devices"_a = py::list());
#endif
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const cpu::Kernels* kernels : cpu::available_kernels()) names.emplace_back(kernels->name);
  return names;
}

double measure_peak(int num_threads, double seconds) {
  const cpu::Kernels& kernels = cpu::kernels_named("");
  py::gil_scoped_release release;
  double operations = 0.0;
  const auto started = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  };
#pragma omp parallel num_threads(num_threads) reduction(+ : operations)
  {
    std::vector<float> sink(3 + 64, 0.5f);
    while (elapsed() < seconds) operations += kernels.spin(100000, sink.data());
  }
  return operations / elapsed();
}

Array<float> normals(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::int64_t count,
                     const std::string& instruction_set) {
  Array<float> out(count);
  cpu::kernels_named(instruction_set).normals(seed, direction, tensor, count, out.mutable_data());
  return out;
}

double fill_direction(std::uint64_t seed, std::uint32_t direction, const std::vector<std::int64_t>& sizes,
                      Array<float> out) {
  const std::int64_t dim = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  if (out.size() != dim) throw std::invalid_argument("`out` must have as many elements as the sizes together");
  float* const vector = out.mutable_data();
  py::gil_scoped_release release;
  const cpu::Kernels& kernels = cpu::kernels_named("");
  float* next = vector;
  for (std::size_t tensor = 0; tensor < sizes.size(); ++tensor) {
    kernels.normals(seed, direction, static_cast<std::uint32_t>(tensor), sizes[tensor], next);
    next += sizes[tensor];
  }
  return kernels.normalize(vector, nullptr, dim, vector);
}

Array<std::uint32_t> words(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::uint32_t blocks) {
  Array<std::uint32_t> out({static_cast<py::ssize_t>(blocks), static_cast<py::ssize_t>(4)});
  for (std::uint32_t block = 0; block < blocks; ++block) {
    const PhiloxWords four = philox_words(seed, block, direction, tensor);
    for (int j = 0; j < 4; ++j) out.mutable_at(block, j) = four.word[j];
  }
  return out;
}

}  // namespace bindings
}  // namespace basinvol
