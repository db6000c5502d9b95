// Between NumPy and the structs of boundary.h. Everything here touches Python objects, so the caller holds the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
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

// An array that an engine reads: NumPy's, or one on a device, which torch shows by `__cuda_array_interface__`. It keeps
// what it points into.
template <typename T>
class Values {
 public:
  Values() = default;
  explicit Values(Array<T> array)
      : object_(array), data_(array.data()), shape_(array.shape(), array.shape() + array.ndim()) {}

  // From contiguous values of this type on a device; false if they are others.
  static bool from_device(const py::object& object, Values& out) {
    const py::dict seen = object.attr("__cuda_array_interface__");
    const bool is_contiguous = !seen.contains("strides") || seen["strides"].is_none();
    const py::object kind = seen["typestr"], wanted = py::dtype::of<T>().attr("str");
    if (!is_contiguous || !kind.equal(wanted)) return false;
    out.object_ = object;
    out.data_ = reinterpret_cast<const T*>(seen["data"].cast<py::tuple>()[0].cast<std::uintptr_t>());
    out.shape_ = seen["shape"].cast<std::vector<py::ssize_t>>();
    out.is_on_device_ = true;
    return true;
  }

  const T* data() const { return data_; }
  py::ssize_t shape(std::size_t axis) const { return shape_[axis]; }
  py::ssize_t size() const {
    return std::accumulate(shape_.begin(), shape_.end(), py::ssize_t{1}, std::multiplies<>());
  }
  bool is_on_device() const { return is_on_device_; }

 private:
  py::object object_;
  const T* data_ = nullptr;
  std::vector<py::ssize_t> shape_;
  bool is_on_device_ = false;
};

// By the names that Python uses; each throws std::invalid_argument, which becomes a ValueError.
Activation activation_named(const std::string& name);
Loss loss_named(const std::string& name);
Search search_named(const std::string& name);

SearchSettings settings_from(const std::string& method, double radius_max, int max_steps, std::vector<double> grid);

// Targets from arrays over (level, cutoff), level-major as in targets.py.
std::vector<Target> make_targets(const std::vector<int>& level, const std::vector<double>& cutoff,
                                 const std::vector<double>& center, const std::vector<double>& guess_radius,
                                 const std::vector<double>& guess_slope, const std::vector<double>& guess_spread,
                                 const std::vector<double>& rtol, const std::vector<int>& relative,
                                 const std::vector<bool>& is_wanted, const std::vector<std::int64_t>& examples);

// Layers, and the arrays that they point into: whoever uses the layers keeps the arrays.
struct ReadLayers {
  std::vector<Layer> layers;
  std::vector<Values<float>> arrays;
};
ReadLayers read_layers(const py::list& layers);

// Brackets of n rays as arrays [T, n], and the inverse.
py::dict to_arrays(const std::vector<RayResult>& results, std::size_t num_targets);
std::vector<std::vector<Bracket>> to_brackets(const py::dict& arrays);

// Traces of n rays as one table [E, 1 + L], and the ray of each of its rows [E].
py::tuple to_table(const std::vector<RayResult>& results, std::size_t num_levels);

}  // namespace bindings
}  // namespace basinvol

namespace pybind11 {
namespace detail {

// Arguments of this kind, with the rules of `Array` for those on the host.
template <typename T>
struct type_caster<basinvol::bindings::Values<T>> {
  PYBIND11_TYPE_CASTER(basinvol::bindings::Values<T>, make_caster<basinvol::bindings::Array<T>>::name);
  bool load(handle from, bool converts) {
    if (hasattr(from, "__cuda_array_interface__"))
      return basinvol::bindings::Values<T>::from_device(reinterpret_borrow<object>(from), value);
    make_caster<basinvol::bindings::Array<T>> array;
    if (!array.load(from, converts)) return false;
    value = basinvol::bindings::Values<T>(cast_op<basinvol::bindings::Array<T>>(array));
    return true;
  }
};

}  // namespace detail
}  // namespace pybind11
