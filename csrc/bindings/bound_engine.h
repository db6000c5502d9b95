// An engine, of whichever device, as Python sees it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bindings/convert.h"
#include "bindings/mlp_arrays.h"
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
      : arrays_(layers, std::move(inputs), std::move(labels), std::move(targets), std::move(scale)) {
    if (!std::is_same<Resources, CudaResources>::value) arrays_.refuse_device();
    const Loss kind = loss_named(loss);
    py::gil_scoped_release release;
    this->engine_ = std::make_unique<Engine>(arrays_.layers(), kind, arrays_.examples(), std::move(levels),
                                             arrays_.parameters(std::move(sizes)), resources);
  }

 private:
  MlpArrays arrays_;
};

}  // namespace bindings
}  // namespace basinvol
