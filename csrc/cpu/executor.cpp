#include "cpu/executor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "cpu/executor_run.h"
#include "cpu/kernels.h"

namespace basinvol {
namespace cpu {

Executor::Executor(const Program& program, const char* instruction_set, const Kernels& kernels)
    : program_(program), tensor_(tensor_kernels_named(instruction_set)), kernels_(kernels) {}

void Executor::run_constant(float* constant, Workspace& workspace) const {
  std::copy_n(program_.constants, program_.num_constants, constant);
  const Run state{constant, nullptr, workspace, nullptr, 1, nullptr, constant};
  for (const Instruction& i : program_.instructions)
    if (i.stage == Space::constant) run(i, state);
}

void Executor::run_perturbed(const float* constant, float* perturbed, Workspace& workspace) const {
  const Run state{constant, perturbed, workspace};
  for (const Instruction& i : program_.instructions)
    if (i.stage == Space::perturbed) run(i, state);
}

void Executor::run_block(const float* constant, const float* perturbed, const std::int64_t* rows, int count,
                         Workspace& workspace, double* losses) const {
  workspace.block.reserve(static_cast<std::size_t>(program_.block_size));
  const Run state{constant, const_cast<float*>(perturbed), workspace, rows, count, losses};
  for (const Instruction& i : program_.instructions)
    if (i.stage == Space::block) run(i, state);
}

void Executor::run(const Instruction& i, const Run& state) const {
  switch (i.op) {
    case Op::load:
      return load(i, state);
    case Op::copy:
      return copy(i, state);
    case Op::pack:
      return pack(i, state);
    case Op::product:
      return product(i, state);
    case Op::convolution:
      return convolution(i, state);
    case Op::depthwise:
      return depthwise(i, state);
    case Op::unary:
      return unary(i, state);
    case Op::binary:
      return binary(i, state);
    case Op::pool:
      return pool(i, state);
    case Op::attention:
      return attention(i, state);
    case Op::batched:
      return batched(i, state);
    case Op::embed:
      return embed(i, state);
    case Op::loss:
      return loss(i, state);
    default:
      return by_rows(i, state);
  }
}

// sizes: field.
void Executor::load(const Instruction& i, const Run& state) const {
  const Field& field = program_.fields[static_cast<std::size_t>(i.sizes[0])];
  float* out = state.write(i.output);
  for (int e = 0; e < state.count; ++e)
    std::copy_n(field.values + state.rows[e] * field.size, field.size, out + e * i.output.example_stride);
}

void Executor::copy(const Instruction& i, const Run& state) const {
  const Operand &x = i.inputs[0], &out = i.output;
  const Extent last = out.extents.empty() ? Extent{1, 1} : out.extents.back();
  const std::int64_t step = x.extents.empty() ? 1 : x.extents.back().stride;
  for (int e = 0; e < state.examples(i); ++e) {
    const float* from = state.read(x) + e * x.example_stride;
    float* to = state.write(out) + e * out.example_stride;
    for_each_outer<2>({&out, &x}, [&](const std::array<std::int64_t, 2>& at) {
      if (last.stride == 1 && step == 1) {
        std::copy_n(from + at[1], last.size, to + at[0]);
      } else {
        for (std::int64_t k = 0; k < last.size; ++k) to[at[0] + k * last.stride] = from[at[1] + k * step];
      }
    });
  }
}

void Executor::unary(const Instruction& i, const Run& state) const {
  const Operand &x = i.inputs[0], &out = i.output;
  const Extent last = out.extents.empty() ? Extent{1, 1} : out.extents.back();
  const std::int64_t step = x.extents.empty() ? 1 : x.extents.back().stride;
  for (int e = 0; e < state.examples(i); ++e) {
    const float* from = state.read(x) + e * x.example_stride;
    float* to = state.write(out) + e * out.example_stride;
    for_each_outer<2>({&out, &x}, [&](const std::array<std::int64_t, 2>& at) {
      if (last.stride == 1 && step == 1) {
        tensor_.unary(i.function, from + at[1], last.size, to + at[0]);
      } else {
        for (std::int64_t k = 0; k < last.size; ++k)
          tensor_.unary(i.function, from + at[1] + k * step, 1, to + at[0] + k * last.stride);
      }
    });
  }
}

// x, y; sizes: which function.
void Executor::binary(const Instruction& i, const Run& state) const {
  const Operand &x = i.inputs[0], &y = i.inputs[1], &out = i.output;
  const auto kind = static_cast<Binary>(i.sizes[0]);
  const Extent last = out.extents.empty() ? Extent{1, 1} : out.extents.back();
  const std::int64_t x_step = x.extents.empty() ? 0 : x.extents.back().stride;
  const std::int64_t y_step = y.extents.empty() ? 0 : y.extents.back().stride;
  const bool is_dense = last.stride == 1 && x_step <= 1 && y_step <= 1;
  for (int e = 0; e < state.examples(i); ++e) {
    const float* a = state.read(x) + e * x.example_stride;
    const float* b = state.read(y) + e * y.example_stride;
    float* to = state.write(out) + e * out.example_stride;
    for_each_outer<3>({&out, &x, &y}, [&](const std::array<std::int64_t, 3>& at) {
      if (is_dense) {
        tensor_.binary(kind, a + at[1], static_cast<int>(x_step), b + at[2], static_cast<int>(y_step), last.size,
                       to + at[0]);
      } else {
        for (std::int64_t k = 0; k < last.size; ++k)
          tensor_.binary(kind, a + at[1] + k * x_step, 0, b + at[2] + k * y_step, 0, 1, to + at[0] + k * last.stride);
      }
    });
  }
}

// Operations on rows whose numbers lie side by side. x, and for `normalize` weight and bias; sizes: whether it is
// centered; for `softmax` whether it is the logarithm; for `reduce` 0 for the sum, 1 for the largest. numbers: epsilon;
// the factor of the sum.
void Executor::by_rows(const Instruction& i, const Run& state) const {
  const Operand &x = i.inputs[0], &out = i.output;
  const std::int64_t count = x.extents.back().size;
  for (int e = 0; e < state.examples(i); ++e) {
    const float* from = state.read(x) + e * x.example_stride;
    float* to = state.write(out) + e * out.example_stride;
    for_each_outer<2>({&x, &out}, [&](const std::array<std::int64_t, 2>& at) {
      const float* row = from + at[0];
      if (i.op == Op::normalize)
        tensor_.normalize(row, count, i.numbers[0], i.sizes[0] != 0, state.read_if(i.inputs[1]),
                          state.read_if(i.inputs[2]), to + at[1]);
      else if (i.op == Op::softmax)
        tensor_.softmax(row, count, i.sizes[0] != 0, to + at[1]);
      else
        to[at[1]] = i.sizes[0] != 0 ? tensor_.largest(row, count) : tensor_.sum(row, count) * i.numbers[0];
    });
  }
}

// x [height, width, channels]; sizes: whether it is the largest, channels, and how many rows and columns the output
// has; then first and last of every window along y, and along x. numbers: the factor of every output, by y and x.
void Executor::pool(const Instruction& i, const Run& state) const {
  const Operand& image = i.inputs[0];
  const std::int64_t channels = i.sizes[1], height = i.sizes[2], width = i.sizes[3];
  const std::int64_t *along_y = i.sizes.data() + 4, *along_x = along_y + 2 * height;
  const std::int64_t row_stride = image.extents[0].stride, column_stride = image.extents[1].stride;
  for (int e = 0; e < state.examples(i); ++e) {
    const float* x = state.read(image) + e * image.example_stride;
    float* out = state.write(i.output) + e * i.output.example_stride;
    for (std::int64_t y = 0; y < height; ++y)
      for (std::int64_t c = 0; c < width; ++c, out += i.output.extents[1].stride) {
        const std::int64_t y0 = along_y[2 * y], x0 = along_x[2 * c];
        tensor_.pool(i.sizes[0] != 0, x + y0 * row_stride + x0 * column_stride, row_stride, column_stride,
                     static_cast<int>(along_y[2 * y + 1] - y0), static_cast<int>(along_x[2 * c + 1] - x0), channels,
                     i.numbers[static_cast<std::size_t>(y * width + c)], out);
      }
  }
}

// table [entries, n], indices [rows].
void Executor::embed(const Instruction& i, const Run& state) const {
  const Operand &table = i.inputs[0], &indices = i.inputs[1], &out = i.output;
  const float* entries = state.read(table);
  const std::int64_t count = table.extents[1].size, step = table.extents[1].stride;
  const auto at = offsets_of(indices.extents);
  for (int e = 0; e < state.examples(i); ++e) {
    const float* index = state.read(indices) + e * indices.example_stride;
    float* to = state.write(out) + e * out.example_stride;
    for (std::int64_t offset : at) {
      const float* from = entries + static_cast<std::int64_t>(index[offset]) * table.extents[0].stride;
      for (std::int64_t k = 0; k < count; ++k) to[k] = from[k * step];
      to += count;
    }
  }
}

}  // namespace cpu
}  // namespace basinvol
