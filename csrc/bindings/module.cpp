// The extension module: a table of contents. The only file that includes pybind11.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>

#include "boundary.h"
#include "cpu/engine.h"
#include "cpu/kernels.h"
#include "philox.h"
#ifdef BASINVOL_WITH_CUDA
#include "cuda/device.h"
#include "cuda/engine.h"
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

SearchSettings settings_from(const std::string& method, double radius_max, int max_steps, std::vector<double> grid) {
  return {search_named(method), radius_max, max_steps, std::move(grid)};
}

// Targets from arrays over (level, cutoff), level-major as in targets.py.
std::vector<Target> make_targets(const std::vector<int>& level, const std::vector<double>& cutoff,
                                 const std::vector<double>& center, const std::vector<double>& guess_radius,
                                 const std::vector<double>& guess_slope, const std::vector<double>& rtol,
                                 const std::vector<int>& relative, const std::vector<bool>& is_wanted) {
  std::vector<Target> targets;
  for (std::size_t t = 0; t < level.size(); ++t) {
    targets.push_back(
        {level[t], cutoff[t], center[t], guess_radius[t], guess_slope[t], rtol[t], relative[t], is_wanted[t]});
  }
  return targets;
}

// The inverse of to_arrays.
std::vector<std::vector<Bracket>> to_brackets(const py::dict& arrays) {
  const auto read = [&](const char* name) { return arrays[name].cast<Array<double>>(); };
  const auto lower = read("lower"), upper = read("upper"), value_lower = read("value_lower"),
             value_upper = read("value_upper"), slope = read("slope");
  const auto status = arrays["status_code"].cast<Array<std::int8_t>>();
  std::vector<std::vector<Bracket>> brackets(lower.shape(1), std::vector<Bracket>(lower.shape(0)));
  for (py::ssize_t i = 0; i < lower.shape(1); ++i) {
    for (py::ssize_t t = 0; t < lower.shape(0); ++t) {
      brackets[i][t] = {lower.at(t, i), upper.at(t, i), value_lower.at(t, i), value_upper.at(t, i), slope.at(t, i), 0,
                        status.at(t, i)};
    }
  }
  return brackets;
}

// Traces of n rays as one table [E, 1 + L], and the ray of each of its rows [E].
py::tuple to_table(const std::vector<RayResult>& results, std::size_t num_levels) {
  std::size_t count = 0;
  for (const RayResult& result : results) count += result.trace.values().size() / (1 + num_levels);
  Array<double> table({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(1 + num_levels)});
  Array<std::int64_t> ray(static_cast<py::ssize_t>(count));
  double* next = table.mutable_data();
  std::int64_t* next_ray = ray.mutable_data();
  for (std::size_t i = 0; i < results.size(); ++i) {
    const std::vector<double>& values = results[i].trace.values();
    next = std::copy(values.begin(), values.end(), next);
    next_ray = std::fill_n(next_ray, values.size() / (1 + num_levels), static_cast<std::int64_t>(i));
  }
  return py::make_tuple(ray, table);
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

// One ray's search with what it works on, driven from Python by the tests.
class BoundRaySearch {
 public:
  BoundRaySearch(std::vector<Target> targets, std::vector<int> order, SearchSettings settings, double unit)
      : targets_(std::move(targets)),
        order_(std::move(order)),
        settings_(std::move(settings)),
        plan_(plan_of(targets_, order_, settings_)),
        brackets_(targets_.size()),
        progress_{unit},
        search_(plan_, brackets_.data(), progress_) {
    search_.begin();
  }
  BoundRaySearch(const BoundRaySearch&) = delete;

  py::object ask() {
    Probe probe;
    if (!search_.ask(probe)) return py::none();
    return py::make_tuple(probe.radius, probe.level);
  }

  void restore(int t, double lower, double upper, double value_lower, double value_upper, double slope, int status) {
    search_.restore(t, {lower, upper, value_lower, value_upper, slope, 0, static_cast<std::int8_t>(status)});
  }

  void tell(double radius, int level, const std::vector<double>& losses) {
    search_.tell({radius, level}, losses.data());
  }

  py::dict brackets() const { return to_arrays({{brackets_, progress_.num_evaluations, {}}}, brackets_.size()); }

 private:
  const std::vector<Target> targets_;
  const std::vector<int> order_;
  const SearchSettings settings_;
  const SearchPlan plan_;
  std::vector<Bracket> brackets_;
  Progress progress_;
  RaySearch search_;
};

using OptionalNormals = std::optional<Array<float>>;

// An engine, of whichever device, with the arrays that it points into.
template <typename Engine, typename EngineResources>
class BoundMlpRays {
 public:
  BoundMlpRays(const py::list& layers, const std::string& loss, Array<float> inputs, Array<std::int64_t> labels,
               Array<float> targets, std::vector<std::int64_t> levels, Array<float> scale,
               std::vector<std::int64_t> sizes, const EngineResources& resources)
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
    const Examples examples{inputs_.data(), labels_.data(), targets_.data()};
    const ParameterVector parameters{scale_.data(), std::move(sizes), scale_.size()};
    const Loss kind = loss_named(loss);
    py::gil_scoped_release release;
    engine_ = std::make_unique<Engine>(std::move(converted), kind, examples, std::move(levels), parameters, resources);
  }

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

 private:
  const float* keep(const Array<float>& array) {
    kept_.push_back(array);
    return array.data();
  }

  Array<float> inputs_;
  Array<std::int64_t> labels_;
  Array<float> targets_, scale_;
  std::vector<Array<float>> kept_;
  std::unique_ptr<Engine> engine_;
};

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const cpu::Kernels* kernels : cpu::available_kernels()) names.emplace_back(kernels->name);
  return names;
}

// Floating-point operations per second of multiply-adds in registers, all threads together.
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

Array<std::uint32_t> words(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::uint32_t blocks) {
  Array<std::uint32_t> out({static_cast<py::ssize_t>(blocks), static_cast<py::ssize_t>(4)});
  for (std::uint32_t block = 0; block < blocks; ++block) {
    const PhiloxWords four = philox_words(seed, block, direction, tensor);
    for (int j = 0; j < 4; ++j) out.mutable_at(block, j) = four.word[j];
  }
  return out;
}

// What the engines have in common.
template <typename Bound, typename EngineResources>
py::class_<Bound> bind_engine(py::module_& m, const char* name) {
  return py::class_<Bound>(m, name)
      .def(py::init<const py::list&, const std::string&, Array<float>, Array<std::int64_t>, Array<float>,
                    std::vector<std::int64_t>, Array<float>, std::vector<std::int64_t>, const EngineResources&>(),
           "layers"_a, "loss"_a, "inputs"_a, "labels"_a, "targets"_a, "levels"_a, "scale"_a, "sizes"_a, "resources"_a)
      .def("center_losses", [](const Bound& rays) { return rays.engine().center_losses(); })
      .def("solve", &Bound::solve, "seed"_a, "directions"_a, "normals"_a, "targets"_a, "order"_a, "settings"_a,
           "negligible"_a, "known"_a)
      .def("learn_order", &Bound::learn_order, "seed"_a, "directions"_a, "normals"_a, "radii"_a);
}

py::dict build_info() {
#ifdef BASINVOL_WITH_CUDA
  return py::dict("version"_a = BASINVOL_VERSION, "compiler"_a = __VERSION__, "cuda"_a = BASINVOL_WITH_CUDA,
                  "cuda_devices"_a = cuda::device_names());
#else
  return py::dict("version"_a = BASINVOL_VERSION, "compiler"_a = __VERSION__, "cuda"_a = py::none(),
                  "cuda_devices"_a = py::list());
#endif
}

}  // namespace
}  // namespace basinvol

PYBIND11_MODULE(_native, m) {
  using namespace basinvol;
  m.doc() = "basinvol's engines; use them through basinvol.backends.";
  m.def("build_info", &build_info, "Compiler, version and CUDA support of this build.");
  m.def("philox_words", &words, "seed"_a, "direction"_a, "tensor"_a, "num_blocks"_a);
  m.def("philox_normals", &normals, "seed"_a, "direction"_a, "tensor"_a, "count"_a, "instruction_set"_a = "");
  m.def("instruction_sets", &instruction_sets, "Those this machine can run, best first.");
  m.def("measure_peak", &measure_peak, "num_threads"_a, "seconds"_a,
        "Floating-point operations per second of multiply-adds in registers.");

  py::class_<SearchSettings>(m, "SearchSettings")
      .def(py::init(&settings_from), "method"_a, "radius_max"_a, "max_steps"_a, "grid"_a);
  py::class_<Target>(m, "Target");
  m.def("make_targets", &make_targets, "level"_a, "cutoff"_a, "center"_a, "guess_radius"_a, "guess_slope"_a, "rtol"_a,
        "relative"_a, "is_wanted"_a);

  py::class_<BoundRaySearch>(m, "RaySearch", "One ray's search, driven from Python by the tests.")
      .def(py::init<std::vector<Target>, std::vector<int>, SearchSettings, double>(), "targets"_a, "order"_a,
           "settings"_a, "unit"_a)
      .def("ask", &BoundRaySearch::ask)
      .def("restore", &BoundRaySearch::restore)
      .def("tell", &BoundRaySearch::tell)
      .def("brackets", &BoundRaySearch::brackets);

  py::class_<CpuResources>(m, "Resources")
      .def(py::init<int, std::int64_t, std::string>(), "num_threads"_a, "memory_budget"_a, "instruction_set"_a = "");
  using BoundCpu = BoundMlpRays<cpu::Engine, CpuResources>;
  bind_engine<BoundCpu, CpuResources>(m, "MlpRays")
      .def("instruction_set", [](const BoundCpu& rays) { return rays.engine().instruction_set(); })
      .def("stored_share", [](const BoundCpu& rays) { return rays.engine().stored_share(); })
      .def("operations", [](const BoundCpu& rays) { return rays.engine().operations(); });

#ifdef BASINVOL_WITH_CUDA
  py::class_<CudaResources>(m, "CudaResources")
      .def(py::init([](int device, std::int64_t memory_budget, std::string precision) {
             CudaResources resources{device, memory_budget};
             resources.precision = std::move(precision);
             return resources;
           }),
           "device"_a, "memory_budget"_a, "precision"_a);
  using BoundCuda = BoundMlpRays<cuda::Engine, CudaResources>;
  bind_engine<BoundCuda, CudaResources>(m, "CudaMlpRays").def("description", [](const BoundCuda& rays) {
    return rays.engine().description();
  });
#endif
}
