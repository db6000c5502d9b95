// The extension module: a table of contents. The only file that includes pybind11.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <stdexcept>

#include "mlp_rays.h"
#include "philox.h"
#ifdef BASINVOL_WITH_CUDA
#include "device.h"
#endif

namespace py = pybind11;
using namespace py::literals;

namespace basinvol {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

Activation activation_named(const std::string& name) {
  if (name == "identity") return Activation::identity;
  if (name == "relu") return Activation::relu;
  if (name == "tanh") return Activation::tanh;
  if (name == "gelu") return Activation::gelu;
  throw std::invalid_argument("unknown activation " + name);
}

Loss loss_named(const std::string& name) {
  if (name == "cross_entropy") return Loss::cross_entropy;
  if (name == "bce_with_logits") return Loss::bce_with_logits;
  if (name == "mse") return Loss::mse;
  throw std::invalid_argument("unknown loss " + name);
}

Search search_named(const std::string& name) {
  if (name == "interpolate") return Search::interpolate;
  if (name == "bisect") return Search::bisect;
  if (name == "grid") return Search::grid;
  throw std::invalid_argument("unknown search " + name);
}

SearchSettings settings_from(const std::string& method, double rtol, double radius_max, int max_steps,
                             std::vector<double> grid) {
  return {search_named(method), rtol, radius_max, max_steps, std::move(grid)};
}

// Targets from arrays over (level, cutoff), level-major as in search.py.
std::vector<Target> make_targets(const std::vector<int>& level, const std::vector<double>& cutoff,
                                 const std::vector<double>& center, const std::vector<double>& guess_radius,
                                 const std::vector<double>& guess_slope) {
  std::vector<Target> targets;
  for (std::size_t t = 0; t < level.size(); ++t)
    targets.push_back({level[t], cutoff[t], center[t], guess_radius[t], guess_slope[t]});
  return targets;
}

// Brackets of n rays as arrays [T, n].
py::dict to_arrays(const std::vector<RayResult>& results, std::size_t num_targets) {
  const py::ssize_t t_count = num_targets, n = results.size();
  Array<double> lower({t_count, n}), upper({t_count, n}), value_lower({t_count, n}), value_upper({t_count, n}),
      slope({t_count, n});
  Array<std::int8_t> status({t_count, n});
  Array<std::int64_t> evaluations(n);
  for (py::ssize_t i = 0; i < n; ++i) {
    evaluations.mutable_at(i) = results[i].num_evaluations;
    for (py::ssize_t t = 0; t < t_count; ++t) {
      const Bracket& b = results[i].brackets[t];
      lower.mutable_at(t, i) = b.lower;
      upper.mutable_at(t, i) = b.upper;
      value_lower.mutable_at(t, i) = b.value_lower;
      value_upper.mutable_at(t, i) = b.value_upper;
      slope.mutable_at(t, i) = b.slope;
      status.mutable_at(t, i) = b.status;
    }
  }
  return py::dict("lower"_a = lower, "upper"_a = upper, "value_lower"_a = value_lower, "value_upper"_a = value_upper,
                  "slope"_a = slope, "status_code"_a = status, "num_evaluations"_a = evaluations);
}

// An engine with the arrays that it points into.
class BoundMlpRays {
 public:
  BoundMlpRays(const py::list& layers, const std::string& loss, Array<float> inputs, Array<std::int64_t> labels,
               Array<float> targets, std::vector<std::int64_t> levels, Array<float> scale,
               std::vector<std::int64_t> sizes, int num_threads)
      : inputs_(inputs), labels_(labels), targets_(targets), scale_(scale) {
    std::vector<Layer> converted;
    for (const py::handle& item : layers) {
      const py::dict layer = py::cast<py::dict>(item);
      const auto weight = layer["weight"].cast<Array<float>>();
      Layer next{static_cast<int>(weight.shape(1)),
                 static_cast<int>(weight.shape(0)),
                 {},
                 {},
                 activation_named(layer["activation"].cast<std::string>())};
      next.weight = {keep(weight), layer["weight_offset"].cast<std::int64_t>()};
      if (!layer["bias"].is_none())
        next.bias = {keep(layer["bias"].cast<Array<float>>()), layer["bias_offset"].cast<std::int64_t>()};
      converted.push_back(next);
    }
    const Examples examples{inputs_.shape(0), inputs_.data(), labels_.data(), targets_.data()};
    const ParameterVector parameters{scale_.data(), std::move(sizes), scale_.size()};
    const Loss kind = loss_named(loss);
    py::gil_scoped_release release;
    engine_ =
        std::make_unique<MlpRays>(std::move(converted), kind, examples, std::move(levels), parameters, num_threads);
  }

  std::vector<double> center_losses() const { return engine_->center_losses(); }

  py::dict solve(std::uint64_t seed, const std::vector<std::uint32_t>& directions, std::optional<Array<float>> normals,
                 const std::vector<Target>& targets, const std::vector<int>& order, const SearchSettings& settings,
                 int num_threads) const {
    std::vector<RayResult> results;
    {
      const float* given = normals ? normals->data() : nullptr;
      py::gil_scoped_release release;
      results = engine_->solve(seed, directions, given, targets, order, settings, num_threads);
    }
    return to_arrays(results, targets.size());
  }

 private:
  const float* keep(const Array<float>& array) {
    kept_.push_back(array);
    return array.data();
  }

  Array<float> inputs_;
  Array<std::int64_t> labels_;
  Array<float> targets_, scale_;
  std::vector<Array<float>> kept_;
  std::unique_ptr<MlpRays> engine_;
};

Array<float> normals(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::int64_t count) {
  Array<float> out(count);
  philox_normals(seed, direction, tensor, count, out.mutable_data());
  return out;
}

Array<std::uint32_t> words(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::uint32_t blocks) {
  Array<std::uint32_t> out({static_cast<py::ssize_t>(blocks), static_cast<py::ssize_t>(4)});
  for (std::uint32_t block = 0; block < blocks; ++block) {
    const PhiloxWords four = philox_words(seed, block, direction, tensor);
    for (int j = 0; j < 4; ++j) out.mutable_at(block, j) = four.word[j];
  }
  return out;
}

py::dict build_info() {
#ifdef BASINVOL_WITH_CUDA
  return py::dict("version"_a = BASINVOL_VERSION, "compiler"_a = __VERSION__, "cuda"_a = BASINVOL_WITH_CUDA,
                  "cuda_devices"_a = cuda_devices());
#else
  return py::dict("version"_a = BASINVOL_VERSION, "compiler"_a = __VERSION__, "cuda"_a = py::none(),
                  "cuda_devices"_a = py::list());
#endif
}

}  // namespace
}  // namespace basinvol

PYBIND11_MODULE(_native, m) {
  using namespace basinvol;
  m.doc() = "basinvol's CPU engine; use it through basinvol.backends.native.";
  m.def("build_info", &build_info, "Compiler, version and CUDA support of this build.");
  m.def("philox_words", &words, "seed"_a, "direction"_a, "tensor"_a, "num_blocks"_a);
  m.def("philox_normals", &normals, "seed"_a, "direction"_a, "tensor"_a, "count"_a);

  py::class_<SearchSettings>(m, "SearchSettings")
      .def(py::init(&settings_from), "method"_a, "rtol"_a, "radius_max"_a, "max_steps"_a, "grid"_a);
  py::class_<Target>(m, "Target");
  m.def("make_targets", &make_targets, "level"_a, "cutoff"_a, "center"_a, "guess_radius"_a, "guess_slope"_a);

  py::class_<RaySearch>(m, "RaySearch", "One ray's search, driven from Python by the tests.")
      .def(py::init<const std::vector<Target>&, const std::vector<int>&, const SearchSettings&, double>(), "targets"_a,
           "order"_a, "settings"_a, "unit"_a)
      .def("ask",
           [](RaySearch& search) -> py::object {
             Probe probe;
             if (!search.ask(probe)) return py::none();
             return py::make_tuple(probe.radius, probe.level);
           })
      .def("tell", [](RaySearch& search, double radius, int level,
                      const std::vector<double>& losses) { search.tell({radius, level}, losses.data()); })
      .def("brackets", [](const RaySearch& search) {
        return to_arrays({{search.brackets(), search.num_evaluations()}}, search.brackets().size());
      });

  py::class_<BoundMlpRays>(m, "MlpRays")
      .def(py::init<const py::list&, const std::string&, Array<float>, Array<std::int64_t>, Array<float>,
                    std::vector<std::int64_t>, Array<float>, std::vector<std::int64_t>, int>(),
           "layers"_a, "loss"_a, "inputs"_a, "labels"_a, "targets"_a, "levels"_a, "scale"_a, "sizes"_a, "num_threads"_a)
      .def("center_losses", &BoundMlpRays::center_losses)
      .def("solve", &BoundMlpRays::solve, "seed"_a, "directions"_a, "normals"_a, "targets"_a, "order"_a, "settings"_a,
           "num_threads"_a);
}
