#include "bindings/functions.h"

#include <algorithm>
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

namespace {

// Rows that are all there.
const std::int64_t* rows_of(const Array<double>& matrix, const Array<std::int64_t>& rows) {
  const std::int64_t* const which = rows.data();
  if (!std::all_of(which, which + rows.size(), [&](std::int64_t row) { return row >= 0 && row < matrix.shape(0); }))
    throw std::invalid_argument("`rows` has one that is not there");
  return which;
}

}  // namespace

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

void fill_normals(std::uint64_t seed, std::uint32_t first_direction, double deviation, const Array<std::int64_t>& rows,
                  Array<double> out, int num_threads) {
  if (out.ndim() != 2) throw std::invalid_argument("`out` must be [rows, columns]");
  const std::int64_t* const which = rows_of(out, rows);
  constexpr std::int64_t kAtOnce = 4096;  // floats, which stay in L1; whole blocks of the generator
  const std::int64_t count = rows.size(), columns = out.shape(1), parts = (columns + kAtOnce - 1) / kAtOnce;
  double* const to = out.mutable_data();
  py::gil_scoped_release release;
  const cpu::Kernels& kernels = cpu::kernels_named("");
#pragma omp parallel for collapse(2) num_threads(num_threads)
  for (std::int64_t n = 0; n < count; ++n) {
    for (std::int64_t part = 0; part < parts; ++part) {
      float drawn[kAtOnce];
      const std::int64_t first = part * kAtOnce, width = std::min(kAtOnce, columns - first);
      kernels.normals(seed, first_direction + static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(part), width,
                      drawn);
      double* const row = to + which[n] * columns + first;
      for (std::int64_t i = 0; i < width; ++i) row[i] = deviation * drawn[i];
    }
  }
}

void turn_rows(Array<double> points, const Array<double>& partners, const Array<std::int64_t>& rows,
               const Array<double>& cos, const Array<double>& sin, int num_threads) {
  if (points.ndim() != 2 || partners.ndim() != 2 || partners.shape(0) != points.shape(0) ||
      partners.shape(1) != points.shape(1))
    throw std::invalid_argument("`points` and `partners` must be [rows, columns], as many of each");
  if (cos.size() != rows.size() || sin.size() != rows.size())
    throw std::invalid_argument("`cos` and `sin` must be as many as `rows`");
  const std::int64_t* const which = rows_of(points, rows);
  const std::int64_t count = rows.size(), columns = points.shape(1);
  const double *const cosines = cos.data(), *const sines = sin.data(), *const others = partners.data();
  double* const turned = points.mutable_data();
  py::gil_scoped_release release;
#pragma omp parallel for num_threads(num_threads)
  for (std::int64_t n = 0; n < count; ++n) {
    double* const point = turned + which[n] * columns;
    const double* const partner = others + which[n] * columns;
    for (std::int64_t i = 0; i < columns; ++i) point[i] = cosines[n] * point[i] + sines[n] * partner[i];
  }
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
