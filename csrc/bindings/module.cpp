// The extension module: a table of contents. Python imports these names, so they stay when C++ is renamed.
#include <utility>

#include "bindings/bound_engine.h"
#include "bindings/bound_points.h"
#include "bindings/bound_program.h"
#include "bindings/bound_proof.h"
#include "bindings/bound_search.h"
#include "bindings/convert.h"
#include "bindings/functions.h"
#include "boundary.h"
#include "cpu/engine.h"
#ifdef BASINVOL_WITH_CUDA
#include "cuda/engine.h"
#endif

using namespace pybind11::literals;

namespace basinvol {
namespace bindings {
namespace {

// What the engines have in common.
template <typename Bound>
py::class_<Bound> bind_rays(py::module_& m, const char* name) {
  return py::class_<Bound>(m, name)
      .def("center_losses", [](const Bound& rays) { return rays.engine().center_losses(); })
      .def("solve", &Bound::solve, "seed"_a, "directions"_a, "normals"_a, "targets"_a, "order"_a, "settings"_a,
           "negligible"_a, "known"_a)
      .def("learn_order", &Bound::learn_order, "seed"_a, "directions"_a, "normals"_a, "radii"_a);
}

template <typename Bound, typename Resources>
py::class_<Bound> bind_engine(py::module_& m, const char* name) {
  return bind_rays<Bound>(m, name).def(
      py::init<const py::list&, const std::string&, Values<float>, Values<std::int64_t>, Values<float>,
               std::vector<std::int64_t>, Values<float>, std::vector<std::int64_t>, const Resources&>(),
      "layers"_a, "loss"_a, "inputs"_a, "labels"_a, "targets"_a, "levels"_a, "scale"_a, "sizes"_a, "resources"_a);
}

}  // namespace
}  // namespace bindings
}  // namespace basinvol

PYBIND11_MODULE(_native, m) {
  using namespace basinvol;
  using namespace basinvol::bindings;
  m.doc() = "basinvol's engines; use them through basinvol.backends.";
  m.def("build_info", &build_info, "Compiler, version and CUDA support of this build.");
  m.def("philox_words", &words, "seed"_a, "direction"_a, "tensor"_a, "num_blocks"_a);
  m.def("philox_normals", &normals, "seed"_a, "direction"_a, "tensor"_a, "count"_a, "instruction_set"_a = "");
  m.def("fill_direction", &fill_direction, "seed"_a, "direction"_a, "sizes"_a, "out"_a,
        "Writes a unit vector, and returns the norm of the normals behind it.");
  m.def("fill_normals", &fill_normals, "seed"_a, "first_direction"_a, "deviation"_a, "rows"_a, "out"_a.noconvert(),
        "num_threads"_a,
        "Writes normals of one standard deviation to rows of a matrix, each from the stream of one direction.");
  m.def("turn_rows", &turn_rows, "points"_a.noconvert(), "partners"_a, "rows"_a, "cos"_a, "sin"_a, "num_threads"_a,
        "Turns rows of a matrix along the ellipses that they span with those of another, in place.");
  m.def("instruction_sets", &instruction_sets, "Those this machine can run, best first.");
  m.def("measure_peak", &measure_peak, "num_threads"_a, "seconds"_a,
        "Floating-point operations per second of multiply-adds in registers.");

  py::class_<SearchSettings>(m, "SearchSettings")
      .def(py::init(&settings_from), "method"_a, "radius_max"_a, "max_steps"_a, "grid"_a);
  py::class_<Target>(m, "Target");
  m.def("make_targets", &make_targets, "level"_a, "cutoff"_a, "center"_a, "guess_radius"_a, "guess_slope"_a,
        "guess_spread"_a, "rtol"_a, "relative"_a, "is_wanted"_a, "examples"_a);

  py::class_<BoundRaySearch>(m, "RaySearch", "One ray's search, driven from Python.")
      .def(py::init<std::vector<Target>, std::vector<int>, SearchSettings, double, int>(), "targets"_a, "order"_a,
           "settings"_a, "unit"_a, "first_sampled"_a = kNoSamples)
      .def("ask", &BoundRaySearch::ask)
      .def("restore", &BoundRaySearch::restore)
      .def("is_running", &BoundRaySearch::is_running)
      .def("test_radius", &BoundRaySearch::test_radius)
      .def("settle", &BoundRaySearch::settle)
      .def("tell", &BoundRaySearch::tell)
      .def("tell_sample", &BoundRaySearch::tell_sample)
      .def("brackets", &BoundRaySearch::brackets);

  py::class_<cpu::Proof>(m, "Proof", "The way of one proof through batches.")
      .def("next", &cpu::Proof::next)
      .def("tell", &cpu::Proof::tell, "loss"_a);
  py::class_<BoundProofOrder>(m, "ProofOrder", "In which order proofs read batches of units.")
      .def(py::init<const Array<double>&, std::vector<int>, int, std::int64_t, std::int64_t>(), "found"_a, "classes"_a,
           "num_classes"_a, "num_units"_a, "batch_size"_a)
      .def("batches", &BoundProofOrder::batches)
      .def("proof", &BoundProofOrder::proof, py::keep_alive<0, 1>());

  py::class_<CpuResources>(m, "Resources")
      .def(py::init<int, std::int64_t, std::string>(), "num_threads"_a, "memory_budget"_a, "instruction_set"_a = "");
  using BoundCpu = BoundEngine<cpu::Engine, CpuResources>;
  bind_engine<BoundCpu, CpuResources>(m, "MlpRays")
      .def("instruction_set", [](const BoundCpu& rays) { return rays.engine().instruction_set(); })
      .def("stored_share", [](const BoundCpu& rays) { return rays.engine().stored_share(); })
      .def("operations", [](const BoundCpu& rays) { return rays.engine().operations(); });

  py::class_<BoundMotion>(m, "Motion", "A trajectory of chains, see csrc/cpu/gradient_kernels.h.")
      .def(py::init<Array<double>, Array<double>, Array<double>, Array<double>, Array<double>, double, double, double,
                    double, int>(),
           "mean"_a, "lengths"_a, "angle"_a, "cos"_a, "sin"_a, "t"_a, "beta"_a, "precision"_a, "reference"_a,
           "num_steps"_a);
  py::class_<BoundPoints>(m, "MlpPoints", "The loss of a perceptron and its gradient at many points.")
      .def(py::init<const py::list&, const std::string&, Values<float>, Values<std::int64_t>, Values<float>,
                    std::vector<std::int64_t>, Values<float>, std::vector<std::int64_t>, Array<float>,
                    const CpuResources&>(),
           "layers"_a, "loss"_a, "inputs"_a, "labels"_a, "targets"_a, "levels"_a, "scale"_a, "sizes"_a, "center"_a,
           "resources"_a)
      .def("evaluate", &BoundPoints::evaluate, "points"_a, "level"_a, "losses"_a.noconvert(), "gradients"_a.noconvert())
      .def("evaluate_within", &BoundPoints::evaluate_within, "points"_a, "partners"_a, "which"_a, "first"_a, "second"_a,
           "limits"_a, "level"_a, "losses"_a.noconvert())
      .def("move", &BoundPoints::move, "motion"_a, "level"_a, "y"_a.noconvert(), "momentum"_a.noconvert(),
           "gradient"_a.noconvert(), "x"_a.noconvert(), "growth"_a.noconvert(), "loss"_a.noconvert())
      .def("instruction_set", [](const BoundPoints& points) { return points.engine().instruction_set(); })
      .def("operations", [](const BoundPoints& points) { return points.engine().operations(); });

  bind_rays<BoundProgram>(m, "ProgramRays")
      .def(py::init<const py::dict&, std::vector<std::int64_t>, Values<float>, std::vector<std::int64_t>,
                    const CpuResources&>(),
           "program"_a, "levels"_a, "scale"_a, "sizes"_a, "resources"_a)
      .def("row_losses", &BoundProgram::row_losses, "seed"_a, "direction"_a, "normals"_a, "radius"_a)
      .def("instruction_set", [](const BoundProgram& rays) { return rays.engine().instruction_set(); })
      .def("num_rays_at_once", [](const BoundProgram& rays) { return rays.engine().num_rays_at_once(); })
      .def("operations", [](const BoundProgram& rays) { return rays.engine().operations(); });

#ifdef BASINVOL_WITH_CUDA
  py::class_<CudaResources>(m, "CudaResources")
      .def(py::init([](int device, std::int64_t memory_budget, std::string precision, bool uses_graphs) {
             CudaResources resources{device, memory_budget};
             resources.precision = std::move(precision);
             if (!uses_graphs) resources.graph_operations = 0.0;
             return resources;
           }),
           "device"_a, "memory_budget"_a, "precision"_a, "uses_graphs"_a = true);
  using BoundCuda = BoundEngine<cuda::Engine, CudaResources>;
  bind_engine<BoundCuda, CudaResources>(m, "CudaMlpRays").def("description", [](const BoundCuda& rays) {
    return rays.engine().description();
  });
#endif
}
