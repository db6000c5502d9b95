// Products of two values that both depend on the examples.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "cpu/executor_run.h"
#include "cpu/kernels.h"

namespace basinvol {
namespace cpu {

// A right factor [inputs, outputs] of any strides as panels.
void Executor::pack_right(const float* y, std::int64_t inputs, std::int64_t outputs, std::int64_t input_stride,
                          std::int64_t output_stride, float* packed) const {
  const std::int64_t width = padded(static_cast<int>(outputs));
  for (std::int64_t first = 0; first < width; first += tensor_.panel) {
    const std::int64_t panel = std::min<std::int64_t>(tensor_.panel, width - first);
    const std::int64_t real = std::max<std::int64_t>(0, std::min(panel, outputs - first));
    for (std::int64_t j = 0; j < panel; ++j) {
      const float* column = y + (first + j) * output_stride;
      for (std::int64_t k = 0; k < inputs; ++k) packed[k * panel + j] = j < real ? column[k * input_stride] : 0.0f;
    }
    packed += inputs * panel;
  }
}

// q, k, v [heads, rows or columns, features], mask; sizes: 1 if a row sees only the columns up to its own, 1 if the
// mask is added and 0 if columns where it is 0 are not seen. numbers: the factor of the products.
void Executor::attention(const Instruction& i, const Run& state) const {
  const Operand &q = i.inputs[0], &k = i.inputs[1], &v = i.inputs[2], &mask = i.inputs[3], &out = i.output;
  const std::int64_t heads = q.extents[0].size, rows = q.extents[1].size, features = q.extents[2].size;
  const std::int64_t columns = k.extents[1].size, outputs = v.extents[2].size;
  const std::int64_t wide = padded(static_cast<int>(columns)), narrow = padded(static_cast<int>(outputs));
  const bool is_causal = i.sizes[0] != 0, is_added = i.sizes[1] != 0;
  Workspace& workspace = state.workspace;
  const std::int64_t padded_rows = rounded_up(rows);
  workspace.columns.reserve(static_cast<std::size_t>(padded_rows * (features + wide + narrow)));
  workspace.packed.reserve(static_cast<std::size_t>(std::max(features * wide, columns * narrow)));
  float* const left = workspace.columns.data();
  float* const scores = left + padded_rows * features;
  float* const mixed = scores + padded_rows * wide;
  std::fill_n(left, padded_rows * features, 0.0f);
  std::fill_n(scores, padded_rows * wide, 0.0f);
  for (int e = 0; e < state.examples(i); ++e)
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto at = [&](const Operand& operand) {
        return state.read(operand) + e * operand.example_stride + h * operand.extents[0].stride;
      };
      const float *queries = at(q), *keys = at(k), *values = at(v);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t f = 0; f < features; ++f)
          left[r * features + f] = queries[r * q.extents[1].stride + f * q.extents[2].stride] * i.numbers[0];
      pack_right(keys, features, columns, k.extents[2].stride, k.extents[1].stride, workspace.packed.data());
      tensor_.product(left, features, rows, features, workspace.packed.data(), features, static_cast<int>(wide),
                      nullptr, false, scores, wide);
      for (std::int64_t r = 0; r < rows; ++r) {
        float* row = scores + r * wide;
        const std::int64_t seen = is_causal ? std::min(r + 1, columns) : columns;
        const std::int64_t whole = padded(static_cast<int>(seen));  // vectors
        if (mask.is_given()) {
          const float* m = at(mask) + r * mask.extents[1].stride;
          for (std::int64_t c = 0; c < seen; ++c) {
            const float value = m[c * mask.extents[2].stride];
            row[c] = is_added ? row[c] + value : value != 0.0f ? row[c] : -std::numeric_limits<float>::infinity();
          }
        }
        std::fill(row + seen, row + whole, -std::numeric_limits<float>::infinity());
        tensor_.softmax(row, whole, false, row);
        std::fill(row + whole, row + wide, 0.0f);
      }
      pack_right(values, columns, outputs, v.extents[1].stride, v.extents[2].stride, workspace.packed.data());
      for (std::int64_t r = 0; r < rows; r += kTileRows)
        tensor_.product(scores + r * wide, wide, kTileRows, is_causal ? std::min(r + kTileRows, columns) : columns,
                        workspace.packed.data(), columns, static_cast<int>(narrow), nullptr, false, mixed + r * narrow,
                        narrow);
      float* to = state.write(out) + e * out.example_stride + h * out.extents[0].stride;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t f = 0; f < outputs; ++f)
          to[r * out.extents[1].stride + f * out.extents[2].stride] = mixed[r * narrow + f];
    }
  workspace.operations += 2 * state.examples(i) * heads * padded_rows * (features * wide + columns * narrow);
}

// x [batch, rows, inputs], y [batch, inputs, outputs].
void Executor::batched(const Instruction& i, const Run& state) const {
  const Operand &x = i.inputs[0], &y = i.inputs[1], &out = i.output;
  const std::int64_t batch = x.extents[0].size, rows = x.extents[1].size, inputs = x.extents[2].size;
  const std::int64_t outputs = y.extents[2].size, width = padded(static_cast<int>(outputs));
  const std::int64_t padded_rows = rounded_up(rows);
  Workspace& workspace = state.workspace;
  workspace.columns.reserve(static_cast<std::size_t>(padded_rows * (inputs + width)));
  workspace.packed.reserve(static_cast<std::size_t>(inputs * width));
  float* const left = workspace.columns.data();
  float* const c = left + padded_rows * inputs;
  std::fill_n(left, padded_rows * inputs, 0.0f);
  for (int e = 0; e < state.examples(i); ++e)
    for (std::int64_t b = 0; b < batch; ++b) {
      const float* a = state.read(x) + e * x.example_stride + b * x.extents[0].stride;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t k = 0; k < inputs; ++k)
          left[r * inputs + k] = a[r * x.extents[1].stride + k * x.extents[2].stride];
      pack_right(state.read(y) + e * y.example_stride + b * y.extents[0].stride, inputs, outputs, y.extents[1].stride,
                 y.extents[2].stride, workspace.packed.data());
      tensor_.product(left, inputs, rows, inputs, workspace.packed.data(), inputs, static_cast<int>(width), nullptr,
                      false, c, width);
      float* to = state.write(out) + e * out.example_stride + b * out.extents[0].stride;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t j = 0; j < outputs; ++j)
          to[r * out.extents[1].stride + j * out.extents[2].stride] = c[r * width + j];
    }
  workspace.operations += 2 * state.examples(i) * batch * padded_rows * inputs * width;
}

}  // namespace cpu
}  // namespace basinvol
