#include "bindings/bound_program.h"

#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace basinvol {
namespace bindings {

namespace {

// By the names that Python uses, in the order of the enumeration.
constexpr const char* kOps[] = {"load",      "copy",    "pack",      "product", "convolution", "depthwise",
                                "unary",     "binary",  "normalize", "softmax", "reduce",      "pool",
                                "attention", "batched", "embed",     "loss"};
constexpr const char* kFunctions[] = {"identity", "relu",       "leaky_relu", "elu",      "gelu",   "gelu_tanh",
                                      "silu",     "sigmoid",    "tanh",       "exp",      "log",    "sqrt",
                                      "rsqrt",    "reciprocal", "negate",     "abs",      "square", "cube",
                                      "clamp",    "affine",     "erf",        "softplus", "sin",    "cos"};
static_assert(std::size(kOps) == static_cast<std::size_t>(cpu::Op::count));
static_assert(std::size(kFunctions) == static_cast<std::size_t>(cpu::Unary::count));

template <typename Kind, std::size_t count>
Kind named(const char* what, const char* const (&names)[count], const std::string& name) {
  for (std::size_t i = 0; i < count; ++i)
    if (name == names[i]) return static_cast<Kind>(i);
  throw std::invalid_argument("unknown " + std::string(what) + " " + name);
}

// (space, offset, example stride, ((size, stride), ...)), or None.
cpu::Operand operand_from(const py::handle& given) {
  cpu::Operand operand;
  if (given.is_none()) return operand;
  const auto parts = given.cast<py::tuple>();
  operand.space = static_cast<cpu::Space>(parts[0].cast<int>());
  operand.offset = parts[1].cast<std::int64_t>();
  operand.example_stride = parts[2].cast<std::int64_t>();
  for (const auto& [size, stride] : parts[3].cast<std::vector<std::pair<std::int64_t, std::int64_t>>>())
    operand.extents.push_back({size, stride});
  return operand;
}

cpu::Instruction instruction_from(const py::dict& given) {
  cpu::Instruction instruction;
  instruction.op = named<cpu::Op>("operation", kOps, given["op"].cast<std::string>());
  instruction.stage = static_cast<cpu::Space>(given["stage"].cast<int>());
  for (const py::handle& operand : given["inputs"].cast<py::list>())
    instruction.inputs.push_back(operand_from(operand));
  instruction.output = operand_from(given["output"]);
  instruction.sizes = given["sizes"].cast<std::vector<std::int64_t>>();
  instruction.numbers = given["numbers"].cast<std::vector<float>>();
  const auto [name, first, second] = given["function"].cast<std::tuple<std::string, float, float>>();
  instruction.function = {named<cpu::Unary>("function", kFunctions, name), first, second};
  return instruction;
}

}  // namespace

BoundProgram::BoundProgram(const py::dict& given, std::vector<std::int64_t> levels, Values<float> scale,
                           std::vector<std::int64_t> sizes, const CpuResources& resources)
    : scale_(std::move(scale)) {
  cpu::Program program;
  for (const py::handle& item : given["instructions"].cast<py::list>())
    program.instructions.push_back(instruction_from(item.cast<py::dict>()));
  for (const py::handle& item : given["fields"].cast<py::list>()) {
    const Values<float> field = keep(item);
    program.fields.push_back({field.data(), field.shape(1)});
  }
  for (const py::handle& item : given["parameters"].cast<py::list>()) {
    const Values<float> parameter = keep(item);
    program.parameters.push_back(parameter.data());
    program.parameter_sizes.push_back(parameter.size());
  }
  const Values<float> constants = keep(given["constants"]);
  program.constants = constants.data();
  program.num_constants = constants.size();
  program.constant_size = given["constant_size"].cast<std::int64_t>();
  program.perturbed_size = given["perturbed_size"].cast<std::int64_t>();
  program.block_size = given["block_size"].cast<std::int64_t>();
  program.block_rows = given["block_rows"].cast<int>();
  weights_ = given["weights"].cast<Values<double>>();
  program.weights = weights_.data();
  program.is_nonnegative = given["is_nonnegative"].cast<bool>();

  const ParameterVector parameters{scale_.data(), std::move(sizes), scale_.size()};
  py::gil_scoped_release release;
  engine_ = std::make_unique<cpu::ProgramEngine>(std::move(program), std::move(levels), parameters, resources);
}

std::vector<double> BoundProgram::row_losses(std::uint64_t seed, std::uint32_t direction,
                                             const OptionalNormals& normals, double radius) const {
  const Rays rays{seed, {direction}, normals ? normals->data() : nullptr};
  py::gil_scoped_release release;
  return engine_->row_losses(rays, radius);
}

Values<float> BoundProgram::keep(const py::handle& array) {
  arrays_.push_back(array.cast<Values<float>>());
  return arrays_.back();
}

}  // namespace bindings
}  // namespace basinvol
