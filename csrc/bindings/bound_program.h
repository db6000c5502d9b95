// The engine of programs, as Python sees it.
#pragma once

#include <cstdint>
#include <vector>

#include "bindings/bound_engine.h"
#include "cpu/program_engine.h"

namespace basinvol {
namespace bindings {

// With the arrays that the program points into.
class BoundProgram : public BoundRays<cpu::ProgramEngine> {
 public:
  // `program` is what python/basinvol/backends/program/program.py describes.
  BoundProgram(const py::dict& program, std::vector<std::int64_t> levels, Values<float> scale,
               std::vector<std::int64_t> sizes, const CpuResources& resources);

  // The losses of all rows along one direction. [count]
  std::vector<double> row_losses(std::uint64_t seed, std::uint32_t direction, const OptionalNormals& normals,
                                 double radius) const;

 private:
  Values<float> keep(const py::handle& array);

  std::vector<Values<float>> arrays_;
  Values<double> weights_;
  Values<float> scale_;
};

}  // namespace bindings
}  // namespace basinvol
