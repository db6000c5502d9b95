// The operations of programs on small odd sizes, every answer recomputed with plain float64 loops. Built with
// AddressSanitizer and UBSan, it finds reads and writes beyond a row, a panel, a frame or a block.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/program_engine.h"
#include "problem.h"

using namespace basinvol;
using namespace basinvol::cpu;

namespace {

using Numbers = std::vector<float>;
using Read = std::function<double(std::int64_t example, std::int64_t element)>;

// Puts values one after the other, each with the room that python/basinvol/backends/program/program.py gives it.
struct Layout {
  std::int64_t constants = 0, perturbed = 0, block = 0;
  int rows;
  std::mt19937 random{3};
  std::vector<Numbers> parameters, fields;
  std::vector<Instruction> instructions;

  explicit Layout(int block_rows) : rows(block_rows) {}

  static std::int64_t whole(std::int64_t size) { return (size + kPadding - 1) / kPadding * kPadding; }

  Operand in_block(std::int64_t size, std::vector<Extent> extents, std::int64_t slack = 0) {
    const Operand operand{Space::block, block, size, std::move(extents)};
    block += whole(size * rows + slack);
    return operand;
  }
  Operand parameter(std::int64_t size, std::vector<Extent> extents) {
    std::normal_distribution<float> normal;
    Numbers values;
    for (std::int64_t i = 0; i < size; ++i) values.push_back(normal(random));
    parameters.push_back(values);
    const Operand operand{Space::perturbed, perturbed, 0, std::move(extents)};
    perturbed += size;
    return operand;
  }
  Operand data(int count, std::int64_t size, std::vector<Extent> extents, int kinds = 0) {
    std::normal_distribution<float> normal;
    Numbers values;
    for (std::int64_t i = 0; i < count * size; ++i)
      values.push_back(kinds > 0 ? static_cast<float>(random() % static_cast<unsigned>(kinds)) : normal(random));
    fields.push_back(values);
    const Operand operand = in_block(size, std::move(extents), kTileRows * size);
    instructions.push_back(
        {Op::load, Space::block, {}, operand, {static_cast<std::int64_t>(fields.size()) - 1}, {}, {}});
    return operand;
  }
  Operand packed(const Operand& weight, std::int64_t size) {  // after all parameters
    const Operand operand{Space::perturbed, whole(perturbed), 0, {{size, 1}}};
    perturbed = operand.offset + size;
    instructions.push_back({Op::pack, Space::perturbed, {weight}, operand, {}, {}, {}});
    return operand;
  }
};

std::int64_t whole_rows(std::int64_t stride) { return kTileRows * stride; }

// Runs a program whose last value has `size` numbers per example, and compares their squares' sums with `expected`.
void check(Layout& layout, const Operand& out, int count, std::int64_t size, const Read& expected,
           const std::string& name, const std::string& instruction_set) {
  const Operand zeros = layout.data(count, size, {{size, 1}}, 1);
  Operand terms = out;
  if (out.extents.size() != 1) {  // as the loss reads them
    terms = layout.in_block(size, {{size, 1}});
    std::vector<Extent> extents;
    std::int64_t stride = size;
    for (const Extent& extent : out.extents) extents.push_back({extent.size, stride /= extent.size});
    Operand to = terms;
    to.extents = extents;
    layout.instructions.push_back({Op::copy, Space::block, {out}, to, {}, {}, {}});
  }
  layout.instructions.push_back({Op::loss, Space::block, {terms, zeros, {}}, terms, {2}, {}, {}});
  Program program;
  program.instructions = layout.instructions;
  for (const Numbers& field : layout.fields)
    program.fields.push_back({field.data(), static_cast<std::int64_t>(field.size()) / count});
  ParameterVector parameters{nullptr, {}, 0};
  Numbers scale;
  for (const Numbers& values : layout.parameters) {
    program.parameters.push_back(values.data());
    program.parameter_sizes.push_back(static_cast<std::int64_t>(values.size()));
    parameters.sizes.push_back(static_cast<std::int64_t>(values.size()));
    scale.resize(scale.size() + values.size(), 1.0f);
  }
  parameters.scale = scale.data();
  parameters.dim = static_cast<std::int64_t>(scale.size());
  program.constants = nullptr;
  program.num_constants = 0;
  program.constant_size = 0;
  program.perturbed_size = layout.perturbed + 8 * kPadding;
  program.block_size = layout.block + whole_rows(64) + 8 * kPadding;
  program.block_rows = layout.rows;
  const std::vector<double> weights(static_cast<std::size_t>(count), 1.0);
  program.weights = weights.data();
  program.is_nonnegative = true;
  for (int threads : {1, 2}) {
    ProgramEngine engine(program, {count}, parameters, {threads, threads == 1 ? 1 << 30 : 1, instruction_set});
    const auto losses = engine.row_losses({7, {0}, nullptr}, 0.0);
    for (int e = 0; e < count; ++e) {
      double sum = 0.0;
      for (std::int64_t i = 0; i < size; ++i) sum += expected(e, i) * expected(e, i);
      expect(std::fabs(losses[static_cast<std::size_t>(e)] - sum) <= 2e-5 * (sum + 1e-3), name);
    }
  }
}

double at(const Numbers& values, std::int64_t i) { return values[static_cast<std::size_t>(i)]; }

void check_product(const std::string& isa, int count, int rows, int inputs, int outputs) {
  Layout l(5);
  const Operand weight = l.parameter(inputs * outputs, {{inputs, 1}, {outputs, inputs}});
  const Operand bias = l.parameter(outputs, {{outputs, 1}});
  const std::int64_t width = padded(outputs);
  const Operand packed = l.packed(weight, width * inputs);
  const Operand x = l.data(count, rows * inputs, {});
  const Operand out = l.in_block(rows * width, {{rows, width}, {outputs, 1}}, whole_rows(width));
  const Operand added = l.data(count, rows * outputs, {{1, outputs}});
  l.instructions.push_back(
      {Op::product, Space::block, {x, packed, bias, added}, out, {rows, inputs, outputs, inputs}, {}, {Unary::relu}});
  const Read expected = [&](std::int64_t e, std::int64_t i) {
    const std::int64_t row = i / outputs, j = i % outputs;
    double sum = at(l.parameters[1], j) + at(l.fields[1], e * rows * outputs + i);
    for (int k = 0; k < inputs; ++k)
      sum += at(l.fields[0], (e * rows + row) * inputs + k) * at(l.parameters[0], j * inputs + k);
    return std::max(sum, 0.0);
  };
  check(l, out, count, rows * outputs, expected, isa + ": a product", isa);
}

void check_convolution(const std::string& isa, int count, int groups, int channels, int outputs, int kernel, int stride,
                       int pad, int step) {
  constexpr int height = 7, width = 5;
  const int out_height = (height + 2 * pad - step * (kernel - 1) - 1) / stride + 1;
  const int out_width = (width + 2 * pad - step * (kernel - 1) - 1) / stride + 1;
  const int taps = kernel * kernel, inputs = taps * channels, all = channels * groups, total = outputs * groups;
  Layout l(3);
  const Operand weight = l.parameter(total * inputs, {});  // [outputs, channels, kernel, kernel]
  const Operand bias = l.parameter(total, {{total, 1}});
  const std::int64_t each = std::int64_t{padded(outputs)} * inputs;
  Operand packed{Space::perturbed, -1, 0, {}};
  for (int g = 0; g < groups; ++g) {
    Operand part = weight;
    part.offset += g * outputs * inputs;
    part.extents = {{kernel, kernel}, {kernel, 1}, {channels, taps}, {outputs, inputs}};
    const Operand panel = l.packed(part, each);
    if (g == 0) packed = panel;
    expect(panel.offset == packed.offset + g * each, "panels of groups follow each other");
  }
  const Operand x = l.data(count, height * width * all, {{height, width * all}, {width, all}});
  const std::int64_t stride_out = padded(total - outputs + padded(outputs));
  const Operand out =
      l.in_block(out_height * out_width * stride_out,
                 {{out_height, out_width * stride_out}, {out_width, stride_out}, {total, 1}}, whole_rows(stride_out));
  l.instructions.push_back({Op::convolution,
                            Space::block,
                            {x, packed, bias, {}},
                            out,
                            {height, width, kernel, kernel, stride, stride, pad, pad, step, step, out_height, out_width,
                             channels, outputs, groups},
                            {},
                            {}});
  const Read expected = [&](std::int64_t e, std::int64_t i) {
    const std::int64_t pixel = i / total, j = i % total, g = j / outputs;
    double sum = at(l.parameters[1], j);
    for (int t = 0; t < taps; ++t) {
      const std::int64_t y = pixel / out_width * stride - pad + t / kernel * step;
      const std::int64_t z = pixel % out_width * stride - pad + t % kernel * step;
      if (y < 0 || y >= height || z < 0 || z >= width) continue;
      for (int c = 0; c < channels; ++c)
        sum += at(l.fields[0], ((e * height + y) * width + z) * all + g * channels + c) *
               at(l.parameters[0], (j * channels + c) * taps + t);
    }
    return sum;
  };
  check(l, out, count, out_height * out_width * total, expected, isa + ": a convolution", isa);
}

void check_attention(const std::string& isa, int count, int heads, int rows, int features, bool is_causal) {
  Layout l(4);
  const int size = heads * rows * features;
  std::vector<Operand> parts;
  for (int i = 0; i < 3; ++i)  // the heads of a row lie side by side
    parts.push_back(l.data(count, size, {{heads, features}, {rows, heads * features}, {features, 1}}));
  const Operand out = l.in_block(size, {{heads, features}, {rows, heads * features}, {features, 1}});
  l.instructions.push_back(
      {Op::attention, Space::block, {parts[0], parts[1], parts[2], {}}, out, {is_causal ? 1 : 0, 0}, {0.5f}, {}});
  const auto value = [&](int field, std::int64_t e, std::int64_t h, std::int64_t r, std::int64_t f) {
    return at(l.fields[static_cast<std::size_t>(field)], e * size + (r * heads + h) * features + f);
  };
  const Read expected = [&](std::int64_t e, std::int64_t i) {
    const std::int64_t h = i / (rows * features), r = i / features % rows, f = i % features;
    double sum = 0.0, total = 0.0;
    for (std::int64_t c = 0; c < (is_causal ? r + 1 : rows); ++c) {
      double score = 0.0;
      for (int k = 0; k < features; ++k) score += 0.5 * value(0, e, h, r, k) * value(1, e, h, c, k);
      sum += std::exp(score);
      total += std::exp(score) * value(2, e, h, c, f);
    }
    return total / sum;
  };
  check(l, out, count, size, expected, isa + ": attention", isa);
}

void check_rows(const std::string& isa, int count, int rows, int width) {
  Layout l(4);
  const Operand weight = l.parameter(width, {{width, 1}});
  const Operand x = l.data(count, rows * width, {{rows, width}, {width, 1}});
  const Operand normal = l.in_block(rows * width, {{rows, width}, {width, 1}});
  const Operand soft = l.in_block(rows * width, {{rows, width}, {width, 1}});
  const Operand out = l.in_block(rows * width, {{rows, width}, {width, 1}});
  const Extent all{rows * width, 1};
  l.instructions.push_back({Op::normalize, Space::block, {x, weight, {}}, normal, {1}, {1e-5f}, {}});
  l.instructions.push_back({Op::softmax, Space::block, {normal}, soft, {0}, {}, {}});
  Operand to = out, from = soft;
  to.extents = from.extents = {all};
  l.instructions.push_back({Op::unary, Space::block, {from}, to, {}, {}, {Unary::gelu}});
  const Read expected = [&](std::int64_t e, std::int64_t i) {
    const float* row = l.fields[0].data() + (e * rows + i / width) * width;
    double mean = 0.0, square = 0.0, sum = 0.0;
    for (int k = 0; k < width; ++k) mean += row[k] / static_cast<double>(width);
    for (int k = 0; k < width; ++k) square += (row[k] - mean) * (row[k] - mean) / width;
    const auto normalized = [&](std::int64_t k) {
      return (row[k] - mean) / std::sqrt(square + 1e-5) * at(l.parameters[0], k);
    };
    for (int k = 0; k < width; ++k) sum += std::exp(normalized(k));
    const double value = std::exp(normalized(i % width)) / sum;
    return 0.5 * value * (1.0 + std::erf(value / std::sqrt(2.0)));
  };
  check(l, out, count, rows * width, expected, isa + ": rows", isa);
}

}  // namespace

int main() {
  for (const Kernels* kernels : available_kernels()) {
    const std::string isa = kernels->name;
    for (int count : {1, 5, 7}) {
      check_product(isa, count, 1, 1, 1);
      check_product(isa, count, 3, 7, 17);
      check_product(isa, count, 50, 5, 70);
      check_product(isa, count, 2, 1300, 3);
      check_convolution(isa, count, 1, 1, 3, 3, 1, 1, 1);
      check_convolution(isa, count, 1, 3, 20, 3, 2, 0, 1);
      check_convolution(isa, count, 2, 3, 5, 2, 1, 2, 2);
      check_convolution(isa, count, 1, 90, 70, 3, 1, 1, 1);
      check_attention(isa, count, 2, 5, 3, false);
      check_attention(isa, count, 3, 17, 16, true);
      check_rows(isa, count, 3, 5);
      check_rows(isa, count, 2, 33);
    }
  }
  std::printf("%d checks passed\n", num_checks);
}
