// An engine, of whichever device, as Python sees it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bindings/convert.h"
#include "boundary.h"

namespace basinvol {
namespace bindings {

using OptionalNormals = std::optional<Array<float>>;

// What engines of all networks have in common. The GIL is released while the engine works: other threads of Python go
// on, and nothing in between may touch a Python object.
template <typename Engine>
class BoundRays {
 public:
  const Engine& engine() const { return *engine_; }

  py::dict solve(std::uint64_t seed, std::vector<std::uint32_t> directions, const OptionalNormals& normals,
                 const std::vector<Target>& targets, const std::vector<int>& order, const SearchSettings& settings,
                 std::vector<double> negligible, const std::optional<py::dict>& known) const {
    const Rays rays{seed, std::move(directions), normals ? normals->data() : nullptr};
    const Prior prior{std::move(negligible), known ? to_brackets(*known) : std::vector<std::vector<Bracket>>{}};
    std::vector<RayResult> results;
    {
      py::gil_scoped_release release;
      results = engine_->solve(rays, targets, order, settings, prior);
    }
    py::dict arrays = to_arrays(results, targets.size());
    arrays["trace"] = to_table(results, engine_->center_losses().size());
    return arrays;
  }

  void learn_order(std::uint64_t seed, std::vector<std::uint32_t> directions, const OptionalNormals& normals,
                   const std::vector<double>& radii) {
    const Rays rays{seed, std::move(directions), normals ? normals->data() : nullptr};
    py::gil_scoped_release release;
    engine_->learn_order(rays, radii);
  }

 protected:
  std::unique_ptr<Engine> engine_;
};

// The engine of a perceptron with the arrays that it points into.
template <typename Engine, typename Resources>
class BoundEngine : public BoundRays<Engine> {
 public:
  BoundEngine(const py::list& layers, const std::string& loss, Values<float> inputs, Values<std::int64_t> labels,
              Values<float> targets, std::vector<std::int64_t> levels, Values<float> scale,
              std::vector<std::int64_t> sizes, const Resources& resources)
      : inputs_(std::move(inputs)), labels_(std::move(labels)), targets_(std::move(targets)), scale_(std::move(scale)) {
    ReadLayers read = read_layers(layers);
    parameters_ = std::move(read.arrays);
    if (!std::is_same<Resources, CudaResources>::value) refuse_device_arrays();
    const Examples examples{inputs_.data(), labels_.data(), targets_.data()};
    const ParameterVector parameters{scale_.data(), std::move(sizes), scale_.size()};
    const Loss kind = loss_named(loss);
    py::gil_scoped_release release;
    this->engine_ =
        std::make_unique<Engine>(std::move(read.layers), kind, examples, std::move(levels), parameters, resources);
  }

 private:
  void refuse_device_arrays() const {
    bool is_on_device =
        inputs_.is_on_device() || labels_.is_on_device() || targets_.is_on_device() || scale_.is_on_device();
    for (const Values<float>& values : parameters_) is_on_device |= values.is_on_device();
    if (is_on_device) throw std::invalid_argument("this engine reads arrays in host memory, got one on a device");
  }

  Values<float> inputs_;
  Values<std::int64_t> labels_;
  Values<float> targets_, scale_;
  std::vector<Values<float>> parameters_;  // of the layers
};

}  // namespace bindings
}  // namespace basinvol
