// Derivatives of losses and activations, and the products of weights' gradients. Compiled with contraction as
// kernels.cpp.
#include "cpu/gradient_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/simd.h"
#include "cpu/transpose.h"
#include "cpu/vector_math.h"

namespace basinvol {
namespace cpu {
namespace BASINVOL_ISA {

namespace {

constexpr int kPanel = kLanes * kVectors;
constexpr int kCacheFloats = 4096;   // 16 KiB, half of the smallest L1
constexpr int kTilesTogether = 160;  // those of one pass

// Values of which `count` are there; zeros otherwise.
inline Float load_part(const float* from, int count) {
  if (count >= kLanes) return load<Float>(from);
  float part[kLanes] = {};
  for (int i = 0; i < count; ++i) part[i] = from[i];
  return load<Float>(part);
}

inline float sum_of(Float x) {
  float sum = 0.0f;
  for (int i = 0; i < kLanes; ++i) sum += x[i];
  return sum;
}

void place(const float* center, const float* scale, const double* point, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = static_cast<float>(static_cast<double>(center[i]) + static_cast<double>(scale[i]) * point[i]);
}

void place_in_reference(const Motion& motion, const double* y, std::int64_t count, double* __restrict x) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = motion.mean[i] + motion.lengths[i] * y[i];
}

void turn(const Motion& motion, std::int64_t count, double* __restrict y, double* __restrict momentum) {
  for (std::int64_t i = 0; i < count; ++i) {
    const double position = y[i];
    y[i] = motion.cos[i] * position + motion.sin[i] * momentum[i];
    momentum[i] = motion.cos[i] * momentum[i] - motion.sin[i] * position;
  }
}

void kick(const Motion& motion, double share, const double* gradient, const double* x, const double* y,
          std::int64_t count, double* __restrict momentum) {
  const double factor = share * motion.t;
  for (std::int64_t i = 0; i < count; ++i) {
    const double force =
        (motion.beta * gradient[i] + motion.precision * x[i]) * motion.lengths[i] - motion.reference * y[i];
    // A trajectory through a bad point goes straight on; it stays reversible, and its end decides.
    momentum[i] -= std::fabs(force) <= std::numeric_limits<double>::max() ? factor * motion.angle[i] * force : 0.0;
  }
}

double square(const double* x, std::int64_t count) {
  double partial[8] = {}, sum = 0.0;
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) partial[j] += x[i + j] * x[i + j];
  for (; i < count; ++i) sum += x[i] * x[i];
  for (double part : partial) sum += part;
  return sum;
}

void pack_inputs(const float* weight, int outputs, int inputs, float* packed) {
  const int width = padded(inputs);
  for (int first = 0; first < width; first += kPanel) {
    const int panel = std::min(kPanel, width - first);
    for (int j = 0; j < outputs; ++j, packed += panel) {
      const float* row = weight + static_cast<std::int64_t>(j) * inputs + first;
      for (int k = 0; k < panel; k += kLanes) store(packed + k, load_part(row + k, inputs - first - k));
    }
  }
}

void activate_into(Activation activation, const float* x, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = activate(activation, x[i]);
}

// softmax - one-hot. The label's entry is minus the sum of all others: near one, the difference would cancel.
inline void cross_entropy_row(const float* x, int outputs, int width, int label, float* out) {
  Int lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  float best = x[0];
  for (int j = 1; j < outputs; ++j) best = x[j] > best ? x[j] : best;
  Float sum = {};
  for (int j = 0; j < width; j += kLanes) {
    const Float e = exp_all(load<Float>(x + j) - best);
    store(out + j, select(lane < outputs - j, e, Float{}));
    sum += select((lane < outputs - j) & (lane != label - j), e, Float{});
  }
  const float others = sum_of(sum), total = others + out[label];
  for (int j = 0; j < width; j += kLanes) store(out + j, load<Float>(out + j) / total);
  out[label] = -others / total;
}

// sigmoid(x) - target, as (1 - target) sigmoid(x) - target sigmoid(-x), which does not cancel at targets of 0 and 1.
inline Float bce_derivative(Float x, Float target) {
  const Int is_positive = x > 0.0f;
  const Float e = exp_all(select(is_positive, -x, x));
  const Float large = 1.0f / (1.0f + e), small = e * large;
  return (1.0f - target) * select(is_positive, large, small) - target * select(is_positive, small, large);
}

void loss_derivatives(Loss loss, const Outputs& outputs, int padded_rows, float* out) {
  Int lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  const int count = outputs.outputs, width = outputs.width;
  for (int row = 0; row < outputs.rows; ++row, out += width) {
    const float* x = outputs.x + static_cast<std::int64_t>(row) * width;
    if (loss == Loss::cross_entropy) {
      cross_entropy_row(x, count, width, static_cast<int>(outputs.labels[row]), out);
      continue;
    }
    const float* targets = outputs.targets + static_cast<std::int64_t>(row) * count;
    for (int j = 0; j < width; j += kLanes) {
      const Float value = load<Float>(x + j), target = load_part(targets + j, count - j);
      const Float derivative = loss == Loss::mse ? 2.0f * (value - target) : bce_derivative(value, target);
      store(out + j, select(lane < count - j, derivative, Float{}));
    }
  }
  std::fill_n(out, static_cast<std::int64_t>(padded_rows - outputs.rows) * width, 0.0f);
}

void through_activation(Activation activation, const float* x, const float* gradient, std::int64_t count, float* out) {
  if (activation == Activation::gelu) {
    for (std::int64_t i = 0; i < count; ++i) {
      const float share = 0.5f * (1.0f + std::erf(x[i] * 0.70710678f));
      const float density = 0.39894228f * std::exp(-0.5f * x[i] * x[i]);
      out[i] = gradient[i] * (share + x[i] * density);
    }
    return;
  }
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const Float value = load<Float>(x + i), above = load<Float>(gradient + i);
    Float below = above;
    if (activation == Activation::relu) below = select(value <= Float{}, Float{}, above);
    if (activation == Activation::tanh) below = above * (1.0f - value * value);
    store(out + i, below);
  }
}

void add_rows(const float* x, int rows, int width, float* sums) {
  for (int j = 0; j < width; j += kLanes) {
    Float sum = {};
    for (int i = 0; i < rows; ++i) sum += load<Float>(x + static_cast<std::int64_t>(i) * width + j);
    store(sums + j, load<Float>(sums + j) + sum);
  }
}

// Six inputs by a panel of outputs: sums over the rows in registers, added to memory once.
template <int vectors>
[[gnu::always_inline]] inline void product_panel(const float* a, int stride, int rows, const float* b, int width,
                                                 float* gradient) {
  Float sum[kTileRows][vectors] = {};
  for (int r = 0; r < rows; ++r, a += stride, b += width) {
    Float row[vectors];
    for (int v = 0; v < vectors; ++v) row[v] = load<Float>(b + v * kLanes);
    for (int i = 0; i < kTileRows; ++i)
      for (int v = 0; v < vectors; ++v) sum[i][v] += a[i] * row[v];
  }
  for (int i = 0; i < kTileRows; ++i, gradient += vectors * kLanes)
    for (int v = 0; v < vectors; ++v) store(gradient + v * kLanes, load<Float>(gradient + v * kLanes) + sum[i][v]);
}

// Some columns of a tile by a panel of outputs, from the `next` one on until `end`; returns where it stopped. The six
// rows of b stay in registers, and each column adds one sum of six products to memory, so that long sums are sums of
// short ones.
template <int vectors>
[[gnu::always_inline]] inline int tile_transposed_panel(const Tile& tile, int next, int end, const float* b, int width,
                                                        float* gradient) {
  Float row[kTileRows][vectors];
  for (int i = 0; i < kTileRows; ++i)
    for (int v = 0; v < vectors; ++v) row[i][v] = load<Float>(b + static_cast<std::int64_t>(i) * width + v * kLanes);
  const float* a = tile.values + static_cast<std::int64_t>(next) * kTileRows;
  for (; next < tile.num_columns && tile.columns[next] < end; ++next, a += kTileRows) {
    float* out = gradient + static_cast<std::int64_t>(tile.columns[next]) * (vectors * kLanes);
    Float sum[vectors];
    for (int v = 0; v < vectors; ++v) sum[v] = a[0] * row[0][v];
    for (int i = 1; i < kTileRows; ++i)
      for (int v = 0; v < vectors; ++v) sum[v] += a[i] * row[i][v];
    for (int v = 0; v < vectors; ++v) store(out + v * kLanes, load<Float>(out + v * kLanes) + sum[v]);
  }
  return next;
}

template <int vectors>
void product_panels(const float* a, int stride, int rows, int inputs, const float* b, int width, float* gradient) {
  for (int k = 0; k < inputs; k += kTileRows)
    product_panel<vectors>(a + k, stride, rows, b, width, gradient + static_cast<std::int64_t>(k) * vectors * kLanes);
}

template <int vectors>
void tiles_transposed_panel(const Tile* tiles, int num_tiles, const float* background, int inputs, const float* b,
                            const float* row_sums, int width, float* gradient) {
  for (int k = 0; k < inputs; ++k)
    for (int v = 0; v < vectors; ++v) {
      const Float start = background != nullptr ? background[k] * load<Float>(row_sums + v * kLanes) : Float{};
      store(gradient + (static_cast<std::int64_t>(k) * vectors + v) * kLanes, start);
    }
  // A few columns at a time, whose gradients stay in L1 while all tiles add to them.
  constexpr int columns = kCacheFloats / (vectors * kLanes);
  for (int first = 0; first < num_tiles; first += kTilesTogether) {
    const int count = std::min(kTilesTogether, num_tiles - first);
    int next[kTilesTogether] = {};
    for (int k = 0; k < inputs; k += columns)
      for (int t = 0; t < count; ++t)
        next[t] = tile_transposed_panel<vectors>(tiles[first + t], next[t], k + columns,
                                                 b + static_cast<std::int64_t>(first + t) * kTileRows * width, width,
                                                 gradient);
  }
}

// Calls function<vectors>(first column) for every panel of `width` columns.
template <typename Function>
void for_panels(int width, Function function) {
  for (int first = 0; first < width; first += kPanel) {
    switch (std::min(kPanel, width - first) / kLanes) {
      case 1:
        function(std::integral_constant<int, 1>{}, first);
        break;
      case 2:
        function(std::integral_constant<int, 2>{}, first);
        break;
      case 3:
        function(std::integral_constant<int, 3>{}, first);
        break;
      default:
        function(std::integral_constant<int, kVectors>{}, first);
    }
  }
}

void add_products(const float* a, int stride, int rows, int inputs, const float* b, int width, float* gradient) {
  for_panels(width, [&](auto vectors, int first) {
    product_panels<vectors>(a, stride, rows, inputs, b + first, width, gradient + first * rounded_up(inputs));
  });
}

void multiply_tiles_transposed(const Tile* tiles, int num_tiles, const float* background, int inputs, const float* b,
                               const float* row_sums, int width, float* gradient) {
  for_panels(width, [&](auto vectors, int first) {
    tiles_transposed_panel<vectors>(tiles, num_tiles, background, inputs, b + first, row_sums + first, width,
                                    gradient + first * rounded_up(inputs));
  });
}

void add_bias(const float* gradient, const float* scale, double factor, int count, double* out) {
  for (int i = 0; i < count; ++i) out[i] += factor * scale[i] * gradient[i];
}

// Blocks of lanes x lanes are turned over in registers: the gradient has the outputs side by side, `out` the inputs.
void add_weight(const float* gradient, const float* scale, double factor, int outputs, int inputs, double* out) {
  const int width = padded(outputs);
  for (int first = 0; first < width; first += kPanel) {
    const int panel = std::min(kPanel, width - first);
    for (int j = first; j < std::min(first + panel, outputs); j += kLanes) {
      const float* column = gradient + first * rounded_up(inputs) + (j - first);
      for (int k = 0; k < inputs; k += kLanes) {
        const int num_inputs = std::min(kLanes, inputs - k), num_outputs = std::min(kLanes, outputs - j);
        Float block[kLanes];
        for (int i = 0; i < kLanes; ++i)
          block[i] = i < num_inputs ? load<Float>(column + static_cast<std::int64_t>(k + i) * panel) : Float{};
        transpose(block);
        float turned[kLanes][kLanes];
        for (int i = 0; i < kLanes; ++i) store(turned[i], block[i]);
        for (int i = 0; i < num_outputs; ++i) {
          const std::int64_t at = static_cast<std::int64_t>(j + i) * inputs + k;
          if (num_inputs == kLanes)
            add_bias(turned[i], scale + at, factor, kLanes, out + at);
          else
            add_bias(turned[i], scale + at, factor, num_inputs, out + at);
        }
      }
    }
  }
}

}  // namespace

const GradientKernels& gradient_table() {
  static const GradientKernels kernels = {place,
                                          place_in_reference,
                                          turn,
                                          kick,
                                          square,
                                          pack_inputs,
                                          activate_into,
                                          loss_derivatives,
                                          through_activation,
                                          add_rows,
                                          add_products,
                                          multiply_tiles_transposed,
                                          add_weight,
                                          add_bias};
  return kernels;
}

}  // namespace BASINVOL_ISA
}  // namespace cpu
}  // namespace basinvol
