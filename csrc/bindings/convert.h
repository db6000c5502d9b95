// Between NumPy and the structs of boundary.h. Everything here touches Python objects, so the caller holds the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <string>
#include <vector>

#include "boundary.h"

namespace basinvol {
namespace bindings {

namespace py = pybind11;

// Contiguous, and without `forcecast`: an array of another type is converted only where nothing is lost, so that
// float64 inputs are refused instead of being rounded in silence.
template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// By the names that Python uses; each throws std::invalid_argument, which becomes a ValueError.
Activation activation_named(const std::string& name);
Loss loss_named(const std::string& name);
Search search_named(const std::string& name);

SearchSettings settings_from(const std::string& method, double radius_max, int max_steps, std::vector<double> grid);

// Targets from arrays over (level, cutoff), level-major as in targets.py.
std::vector<Target> make_targets(const std::vector<int>& level, const std::vector<double>& cutoff,
                                 const std::vector<double>& center, const std::vector<double>& guess_radius,
                                 const std::vector<double>& guess_slope, const std::vector<double>& rtol,
                                 const std::vector<int>& relative, const std::vector<bool>& is_wanted);

// Layers, and the arrays that they point into: whoever uses the layers keeps the arrays.
struct ReadLayers {
  std::vector<Layer> layers;
  std::vector<Array<float>> arrays;
};
ReadLayers read_layers(const py::list& layers);

// Brackets of n rays as arrays [T, n], and the inverse.
py::dict to_arrays(const std::vector<RayResult>& results, std::size_t num_targets);
std::vector<std::vector<Bracket>> to_brackets(const py::dict& arrays);

// Traces of n rays as one table [E, 1 + L], and the ray of each of its rows [E].
py::tuple to_table(const std::vector<RayResult>& results, std::size_t num_levels);

}  // namespace bindings
}  // namespace basinvol
