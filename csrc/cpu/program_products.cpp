// Products with weights, and convolutions.
#include <algorithm>
#include <cstdint>

#include "cpu/executor_run.h"
#include "cpu/kernels.h"

namespace basinvol {
namespace cpu {

namespace {

constexpr int kRowsTogether = 96;     // they and a panel of weights stay in L2; a multiple of kTileRows
constexpr int kInputsTogether = 640;  // longer sums go through memory once for so many inputs

}  // namespace

// Weights [inputs..., outputs] as panels: [inputs][panel], zeros beyond the last output.
void Executor::pack(const Instruction& i, const Run& state) const {
  const Operand& x = i.inputs[0];
  const float* from = state.read(x);
  float* to = state.write(i.output);
  const Extent outputs = x.extents.back();
  const auto at = offsets_of({x.extents.begin(), x.extents.end() - 1});
  const std::int64_t inputs = static_cast<std::int64_t>(at.size()), width = padded(static_cast<int>(outputs.size));
  for (std::int64_t first = 0; first < width; first += tensor_.panel) {
    const std::int64_t panel = std::min<std::int64_t>(tensor_.panel, width - first);
    float* out = to + first * inputs;
    for (std::int64_t k0 = 0; k0 < inputs; k0 += 16) {  // 16 inputs x a panel of outputs stay in L1 meanwhile
      const std::int64_t k1 = std::min<std::int64_t>(k0 + 16, inputs);
      for (std::int64_t j = 0; j < panel; ++j) {
        const bool is_real = first + j < outputs.size;
        const float* column = from + (is_real ? (first + j) * outputs.stride : 0);
        for (std::int64_t k = k0; k < k1; ++k) out[k * panel + j] = is_real ? column[at[k]] : 0.0f;
      }
    }
  }
}

// After a product: c [rows, width] += added, then the function. Rows are those from `first` on of the whole block.
void Executor::finish(const Instruction& i, const Run& state, std::int64_t first, std::int64_t rows, std::int64_t width,
                      float* c, std::int64_t c_stride) const {
  const Operand& added = i.inputs[3];
  const bool acts = i.function.kind != Unary::identity;
  if (!acts && !added.is_given()) return;
  const float* more = added.is_given() ? state.read(added) + first * added.extents[0].stride : nullptr;
  for (std::int64_t r = 0; r < rows; ++r, c += c_stride) {
    if (more != nullptr) tensor_.binary(Binary::add, c, 1, more + r * added.extents[0].stride, 1, width, c);
    if (acts) tensor_.unary(i.function, c, width, c);
  }
}

// x, packed, bias, added; sizes: rows of an example, inputs, outputs, stride of x. Rows follow each other through the
// block with one stride.
void Executor::product(const Instruction& i, const Run& state) const {
  const std::int64_t rows = i.sizes[0] * state.examples(i), inputs = i.sizes[1], outputs = i.sizes[2];
  const std::int64_t x_stride = i.sizes[3], stride = i.output.extents[0].stride;
  const int width = padded(static_cast<int>(outputs));
  const float *x = state.read(i.inputs[0]), *packed = state.read(i.inputs[1]), *bias = state.read_if(i.inputs[2]);
  float* out = state.write(i.output);
  for (std::int64_t r = 0; r < rows; r += kRowsTogether) {
    const std::int64_t count = std::min<std::int64_t>(kRowsTogether, rows - r);
    for (std::int64_t k = 0; k < inputs; k += kInputsTogether) {
      const std::int64_t part = std::min<std::int64_t>(kInputsTogether, inputs - k);
      for (int first = 0; first < width; first += tensor_.panel) {
        const int panel = std::min(tensor_.panel, width - first);
        tensor_.product(x + r * x_stride + k, x_stride, count, part, packed + first * inputs + k * panel, part, panel,
                        bias == nullptr ? nullptr : bias + first, k > 0, out + r * stride + first, stride);
      }
    }
    finish(i, state, r, count, outputs, out + r * stride, stride);
  }
  state.workspace.operations += 2 * rounded_up(rows) * inputs * width;
}

// One window of a kernel: its size and how it moves.
struct Executor::Window {
  std::int64_t height, width, kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, step_y, step_x, out_height,
      out_width;

  explicit Window(const std::int64_t* sizes)
      : height(sizes[0]),
        width(sizes[1]),
        kernel_height(sizes[2]),
        kernel_width(sizes[3]),
        stride_y(sizes[4]),
        stride_x(sizes[5]),
        pad_y(sizes[6]),
        pad_x(sizes[7]),
        step_y(sizes[8]),
        step_x(sizes[9]),
        out_height(sizes[10]),
        out_width(sizes[11]) {}
};

// The images of a block with zeros around them, all channels side by side.
const float* Executor::framed(const Window& w, const Operand& image, const Run& state, std::int64_t channels,
                              std::int64_t& example_stride, std::int64_t& row_stride) const {
  const std::int64_t height = w.height + 2 * w.pad_y, width = w.width + 2 * w.pad_x;
  row_stride = width * channels;
  example_stride = height * row_stride;
  const int examples = state.examples_of(image);
  state.workspace.columns.reserve(static_cast<std::size_t>(examples * example_stride));
  float* out = state.workspace.columns.data();
  for (int e = 0; e < examples; ++e) {
    const float* x = state.read(image) + e * image.example_stride;
    out = std::fill_n(out, w.pad_y * row_stride, 0.0f);
    for (std::int64_t y = 0; y < w.height; ++y) {
      const float* from = x + y * image.extents[0].stride;
      out = std::fill_n(out, w.pad_x * channels, 0.0f);
      if (image.extents[1].stride == channels) {
        out = std::copy_n(from, w.width * channels, out);
      } else {
        for (std::int64_t c = 0; c < w.width; ++c) out = std::copy_n(from + c * image.extents[1].stride, channels, out);
      }
      out = std::fill_n(out, w.pad_x * channels, 0.0f);
    }
    out = std::fill_n(out, w.pad_y * row_stride, 0.0f);
  }
  return state.workspace.columns.data();
}

// x, packed by group, bias, added; sizes: those of the window, channels and outputs of a group, groups. The patch of an
// output begins at a place of its own, and its inputs are at the same distances from there for all outputs.
void Executor::convolution(const Instruction& i, const Run& state) const {
  const Window w(i.sizes.data());
  const std::int64_t channels = i.sizes[12], outputs = i.sizes[13], groups = i.sizes[14];
  const std::int64_t taps = w.kernel_height * w.kernel_width, inputs = taps * channels;
  const std::int64_t pixels = w.out_height * w.out_width, rows = pixels * state.examples(i);
  const std::int64_t stride = i.output.extents[1].stride;
  const int width = padded(static_cast<int>(outputs));
  const Operand& image = i.inputs[0];
  std::int64_t example_stride = image.example_stride, row_stride = image.extents[0].stride;
  std::int64_t column_stride = image.extents[1].stride;
  const float* x = state.read(image);
  if (w.pad_y > 0 || w.pad_x > 0) {
    x = framed(w, image, state, channels * groups, example_stride, row_stride);
    column_stride = channels * groups;
  }
  Workspace& workspace = state.workspace;
  workspace.offsets.resize(static_cast<std::size_t>(inputs));
  for (std::int64_t t = 0; t < taps; ++t)
    for (std::int64_t c = 0; c < channels; ++c)
      workspace.offsets[t * channels + c] = static_cast<std::int32_t>(
          t / w.kernel_width * w.step_y * row_stride + t % w.kernel_width * w.step_x * column_stride + c);
  const float* bias = state.read_if(i.inputs[2]);
  float* const out = state.write(i.output);
  const float* starts[kRowsTogether];
  for (std::int64_t r = 0; r < rows; r += kRowsTogether) {
    const std::int64_t count = std::min<std::int64_t>(kRowsTogether, rows - r), together = rounded_up(count);
    for (std::int64_t n = 0; n < together; ++n) {
      const std::int64_t at = std::min(r + n, rows - 1), pixel = at % pixels;
      starts[n] = x + at / pixels * example_stride + pixel / w.out_width * w.stride_y * row_stride +
                  pixel % w.out_width * w.stride_x * column_stride;
    }
    for (std::int64_t g = 0; g < groups; ++g) {
      const float* packed = state.read(i.inputs[1]) + g * width * inputs;
      float* c = out + r * stride + g * outputs;
      for (std::int64_t k = 0; k < inputs; k += kInputsTogether) {
        const std::int64_t part = std::min<std::int64_t>(kInputsTogether, inputs - k);
        for (int first = 0; first < width; first += tensor_.panel) {
          const int panel = std::min(tensor_.panel, width - first);
          tensor_.patch_product(starts, together, workspace.offsets.data() + k, part,
                                packed + first * inputs + k * panel, panel,
                                bias == nullptr ? nullptr : bias + g * outputs + first, k > 0, c + first, stride);
        }
      }
      for (std::int64_t n = 0; n < together; ++n) starts[n] += channels;
    }
    finish(i, state, r, count, outputs * groups, out + r * stride, stride);
  }
  workspace.operations += 2 * groups * rounded_up(rows) * inputs * width;
}

// x, weight [taps, channels], bias; sizes: those of the window, channels.
void Executor::depthwise(const Instruction& i, const Run& state) const {
  const Window w(i.sizes.data());
  const std::int64_t channels = i.sizes[12], stride = i.output.extents[1].stride;
  const Operand& image = i.inputs[0];
  const float *weight = state.read(i.inputs[1]), *bias = state.read_if(i.inputs[2]);
  for (int e = 0; e < state.examples(i); ++e) {
    const float* x = state.read(image) + e * image.example_stride;
    float* out = state.write(i.output) + e * i.output.example_stride;
    for (std::int64_t pixel = 0; pixel < w.out_height * w.out_width; ++pixel, out += stride) {
      if (bias != nullptr)
        std::copy_n(bias, channels, out);
      else
        std::fill_n(out, channels, 0.0f);
      for (std::int64_t t = 0; t < w.kernel_height * w.kernel_width; ++t) {
        const std::int64_t iy = pixel / w.out_width * w.stride_y - w.pad_y + t / w.kernel_width * w.step_y;
        const std::int64_t ix = pixel % w.out_width * w.stride_x - w.pad_x + t % w.kernel_width * w.step_x;
        if (iy < 0 || iy >= w.height || ix < 0 || ix >= w.width) continue;
        const float* from = x + iy * image.extents[0].stride + ix * image.extents[1].stride;
        tensor_.multiply_add(from, weight + t * channels, channels, out);
      }
    }
    state.workspace.operations += 2 * w.out_height * w.out_width * w.kernel_height * w.kernel_width * channels;
  }
}

}  // namespace cpu
}  // namespace basinvol
