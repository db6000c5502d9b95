// The extension's functions that stand apart from the engines: the generator's numbers, and what the machine offers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bindings/convert.h"

namespace basinvol {
namespace bindings {

// Compiler, version and CUDA support of this build, and the devices that are there.
py::dict build_info();

// The instruction sets that this machine can run, best first.
std::vector<std::string> instruction_sets();

// Floating-point operations per second of multiply-adds in registers, all threads together.
double measure_peak(int num_threads, double seconds);

// [count], of one tensor along one direction; an empty instruction set is the best.
Array<float> normals(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::int64_t count,
                     const std::string& instruction_set);

// A direction as a vector of unit norm, written to `out` [sum of sizes]; returns the norm of the normals behind it. The
// GIL is released meanwhile.
double fill_direction(std::uint64_t seed, std::uint32_t direction, const std::vector<std::int64_t>& sizes,
                      Array<float> out);

// Normals of a standard deviation, written to some rows of `out` [all rows, columns]: each of `rows` has those of the
// next direction, 4,096 from each tensor. The same whatever the number of threads. The GIL is released meanwhile.
void fill_normals(std::uint64_t seed, std::uint32_t first_direction, double deviation, const Array<std::int64_t>& rows,
                  Array<double> out, int num_threads);

// Some rows of `points` [all rows, columns] become cos[n] points + sin[n] partners, the n-th of `rows` by the n-th
// angle.
void turn_rows(Array<double> points, const Array<double>& partners, const Array<std::int64_t>& rows,
               const Array<double>& cos, const Array<double>& sin, int num_threads);

// [blocks, 4]: the generator's words before they become normals.
Array<std::uint32_t> words(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::uint32_t blocks);

}  // namespace bindings
}  // namespace basinvol
