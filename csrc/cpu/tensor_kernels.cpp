#include "cpu/tensor_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/simd.h"
#include "cpu/vector_math.h"

namespace basinvol {
namespace cpu {
namespace BASINVOL_ISA {
namespace {

constexpr int kPanelWidth = kLanes * kVectors;
constexpr int kRowsAtOnce = 6;  // 6 x 4 AVX-512 vectors, 6 x 2 AVX2 vectors fill the registers

// Six rows by `vectors` vectors; at(i, k) is input k of row i.
template <int vectors, typename At>
[[gnu::always_inline]] inline void product_tile(At at, std::int64_t inputs, const float* panel, const float* start,
                                                bool adds, float* c, std::int64_t c_stride) {
  constexpr int width = vectors * kLanes;
  Float sum[kRowsAtOnce][vectors];
  for (int i = 0; i < kRowsAtOnce; ++i)
    for (int v = 0; v < vectors; ++v) {
      sum[i][v] = adds               ? load<Float>(c + i * c_stride + v * kLanes)
                  : start != nullptr ? load<Float>(start + v * kLanes)
                                     : Float{};
    }
  for (std::int64_t k = 0; k < inputs; ++k, panel += width) {
    Float row[vectors];
    for (int v = 0; v < vectors; ++v) row[v] = load<Float>(panel + v * kLanes);
    for (int i = 0; i < kRowsAtOnce; ++i)
      for (int v = 0; v < vectors; ++v) sum[i][v] += at(i, k) * row[v];
  }
  for (int i = 0; i < kRowsAtOnce; ++i)
    for (int v = 0; v < vectors; ++v) store(c + i * c_stride + v * kLanes, sum[i][v]);
}

template <int vectors>
void product_panel(const float* a, std::int64_t a_stride, std::int64_t rows, std::int64_t inputs, const float* panel,
                   const float* start, bool adds, float* c, std::int64_t c_stride) {
  for (std::int64_t r = 0; r < rows; r += kRowsAtOnce, a += kRowsAtOnce * a_stride, c += kRowsAtOnce * c_stride)
    product_tile<vectors>([=](int i, std::int64_t k) { return a[i * a_stride + k]; }, inputs, panel, start, adds, c,
                          c_stride);
}

template <int vectors>
void patch_panel(const float* const* rows, std::int64_t num_rows, const std::int32_t* offsets, std::int64_t inputs,
                 const float* panel, const float* start, bool adds, float* c, std::int64_t c_stride) {
  for (std::int64_t r = 0; r < num_rows; r += kRowsAtOnce, rows += kRowsAtOnce, c += kRowsAtOnce * c_stride) {
    const float *a0 = rows[0], *a1 = rows[1], *a2 = rows[2], *a3 = rows[3], *a4 = rows[4], *a5 = rows[5];
    const auto at = [=](int i, std::int64_t k) {
      const float* a = i == 0 ? a0 : i == 1 ? a1 : i == 2 ? a2 : i == 3 ? a3 : i == 4 ? a4 : a5;
      return a[offsets[k]];
    };
    product_tile<vectors>(at, inputs, panel, start, adds, c, c_stride);
  }
}

void patch_product(const float* const* rows, std::int64_t num_rows, const std::int32_t* offsets, std::int64_t inputs,
                   const float* panel, int width, const float* start, bool adds, float* c, std::int64_t c_stride) {
  const int vectors = width / kLanes;
  if (vectors == 1)
    patch_panel<1>(rows, num_rows, offsets, inputs, panel, start, adds, c, c_stride);
  else if (vectors == 2)
    patch_panel<2>(rows, num_rows, offsets, inputs, panel, start, adds, c, c_stride);
  else if (vectors == 3)
    patch_panel<3>(rows, num_rows, offsets, inputs, panel, start, adds, c, c_stride);
  else
    patch_panel<kVectors>(rows, num_rows, offsets, inputs, panel, start, adds, c, c_stride);
}

void product(const float* a, std::int64_t a_stride, std::int64_t rows, std::int64_t inputs, const float* packed,
             std::int64_t pitch, int width, const float* start, bool adds, float* c, std::int64_t c_stride) {
  for (int first = 0; first < width; first += kPanelWidth) {
    const float* panel = packed + first * pitch;
    const float* begin = start == nullptr ? nullptr : start + first;
    const int vectors = std::min(kPanelWidth, width - first) / kLanes;
    if (vectors == 1)
      product_panel<1>(a, a_stride, rows, inputs, panel, begin, adds, c + first, c_stride);
    else if (vectors == 2)
      product_panel<2>(a, a_stride, rows, inputs, panel, begin, adds, c + first, c_stride);
    else if (vectors == 3)
      product_panel<3>(a, a_stride, rows, inputs, panel, begin, adds, c + first, c_stride);
    else
      product_panel<kVectors>(a, a_stride, rows, inputs, panel, begin, adds, c + first, c_stride);
  }
}

inline Float load_some(const float* x, std::int64_t count, float rest) {
  float values[kLanes];
  for (int i = 0; i < kLanes; ++i) values[i] = i < count ? x[i] : rest;
  return load<Float>(values);
}

inline void store_some(float* out, const Float& v, std::int64_t count) {
  for (int i = 0; i < count; ++i) out[i] = v[i];
}

// Vector by vector; the last ones go through the same instructions, so that a number does not depend on its place.
template <typename Of>
[[gnu::always_inline]] inline void map(const float* x, std::int64_t count, float* out, Of of) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, of(load<Float>(x + i)));
  if (i < count) store_some(out + i, of(load_some(x + i, count - i, 1.0f)), count - i);
}

template <typename Of>
void map_scalars(const float* x, std::int64_t count, float* out, Of of) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = of(x[i]);
}

void unary(const Function& function, const float* x, std::int64_t count, float* out) {
  const float first = function.first, second = function.second;
  switch (function.kind) {
    case Unary::relu:
      return map(x, count, out, [](Float v) { return relu(v); });
    case Unary::leaky_relu:
      return map(x, count, out, [=](Float v) { return select(v < Float{}, v * first, v); });
    case Unary::elu:
      return map_scalars(x, count, out, [=](float v) { return v > 0.0f ? v : first * std::expm1(v); });
    case Unary::gelu:
      return map(x, count, out, [](Float v) { return v * 0.5f * (1.0f + erf_all(v * 0.70710678118654752f)); });
    case Unary::gelu_tanh:
      return map(x, count, out, [](Float v) {
        return 0.5f * v * (1.0f + tanh_all(0.79788456080286536f * (v + 0.044715f * v * v * v)));
      });
    case Unary::silu:
      return map(x, count, out, [](Float v) { return v * sigmoid(v); });
    case Unary::sigmoid:
      return map(x, count, out, [](Float v) { return sigmoid(v); });
    case Unary::tanh:
      return map(x, count, out, [](Float v) { return tanh_all(v); });
    case Unary::exp:
      return map(x, count, out, [](Float v) { return exp_all(v); });
    case Unary::erf:
      return map(x, count, out, [](Float v) { return erf_all(v); });
    case Unary::negate:
      return map(x, count, out, [](Float v) { return -v; });
    case Unary::abs:
      return map(x, count, out, [](Float v) { return select(v < Float{}, -v, v); });
    case Unary::square:
      return map(x, count, out, [](Float v) { return v * v; });
    case Unary::cube:
      return map(x, count, out, [](Float v) { return v * v * v; });
    case Unary::reciprocal:
      return map(x, count, out, [](Float v) { return 1.0f / v; });
    case Unary::affine:
      return map(x, count, out, [=](Float v) { return v * first + second; });
    case Unary::clamp:
      return map(x, count, out, [=](Float v) { return smaller(larger(v, all(first)), all(second)); });
    case Unary::log:
      return map_scalars(x, count, out, [](float v) { return std::log(v); });
    case Unary::sqrt:
      return map_scalars(x, count, out, [](float v) { return std::sqrt(v); });
    case Unary::rsqrt:
      return map_scalars(x, count, out, [](float v) { return 1.0f / std::sqrt(v); });
    case Unary::softplus:
      return map_scalars(x, count, out, [](float v) { return v > 20.0f ? v : std::log1p(std::exp(v)); });
    case Unary::sin:
      return map_scalars(x, count, out, [](float v) { return std::sin(v); });
    case Unary::cos:
      return map_scalars(x, count, out, [](float v) { return std::cos(v); });
    default:
      if (out != x) std::copy_n(x, count, out);
  }
}

template <typename Of>
[[gnu::always_inline]] inline void combine(const float* a, int a_step, const float* b, int b_step, std::int64_t count,
                                           float* out, Of of) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Float x = a_step ? load<Float>(a + i) : all(*a), y = b_step ? load<Float>(b + i) : all(*b);
    store(out + i, of(x, y));
  }
  for (; i < count; ++i) {
    const Float x = all(a[i * a_step]), y = all(b[i * b_step]);
    out[i] = of(x, y)[0];
  }
}

void binary(Binary kind, const float* a, int a_step, const float* b, int b_step, std::int64_t count, float* out) {
  switch (kind) {
    case Binary::add:
      return combine(a, a_step, b, b_step, count, out, [](Float x, Float y) { return x + y; });
    case Binary::subtract:
      return combine(a, a_step, b, b_step, count, out, [](Float x, Float y) { return x - y; });
    case Binary::multiply:
      return combine(a, a_step, b, b_step, count, out, [](Float x, Float y) { return x * y; });
    case Binary::divide:
      return combine(a, a_step, b, b_step, count, out, [](Float x, Float y) { return x / y; });
    case Binary::maximum:
      return combine(a, a_step, b, b_step, count, out, [](Float x, Float y) { return larger(x, y); });
    case Binary::minimum:
      return combine(a, a_step, b, b_step, count, out, [](Float x, Float y) { return smaller(x, y); });
    default:
      for (std::int64_t i = 0; i < count; ++i)
        if (a[i * a_step] != 0.0f) out[i] = b[i * b_step];
  }
}

inline float total(Float lanes) {
  float sum = 0.0f;
  for (int i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

// The sum of of(x) over a row.
template <typename Of>
[[gnu::always_inline]] inline float sum_of(const float* x, std::int64_t count, Of of) {
  Float sum = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += of(load<Float>(x + i));
  if (i < count) {
    const Float last = of(load_some(x + i, count - i, 0.0f));
    for (int j = 0; j < count - i; ++j) sum[j] += last[j];
  }
  return total(sum);
}

float sum(const float* x, std::int64_t count) {
  return sum_of(x, count, [](Float v) { return v; });
}

inline Float larger_or_nan(Float a, Float b) { return select((a > b) | (a != a), a, b); }

float largest(const float* x, std::int64_t count) {
  Float best = all(-std::numeric_limits<float>::infinity());
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) best = larger_or_nan(load<Float>(x + i), best);
  if (i < count) best = larger_or_nan(load_some(x + i, count - i, -std::numeric_limits<float>::infinity()), best);
  float found = best[0];
  for (int j = 1; j < kLanes; ++j) found = best[j] > found || best[j] != best[j] ? best[j] : found;
  return found;
}

void normalize(const float* x, std::int64_t count, float epsilon, bool is_centered, const float* weight,
               const float* bias, float* out) {
  const float n = static_cast<float>(count);
  const float mean = is_centered ? sum(x, count) / n : 0.0f;
  const float square = sum_of(x, count, [=](Float v) { return (v - mean) * (v - mean); }) / n;
  const float factor = 1.0f / std::sqrt(square + epsilon);
  map(x, count, out, [=](Float v) { return (v - mean) * factor; });
  if (weight != nullptr) binary(Binary::multiply, out, 1, weight, 1, count, out);
  if (bias != nullptr) binary(Binary::add, out, 1, bias, 1, count, out);
}

void softmax(const float* x, std::int64_t count, bool is_log, float* out) {
  const float best = largest(x, count);
  if (is_log) {
    const float shift = best + std::log(sum_of(x, count, [=](Float v) { return exp_all(v - best); }));
    return map(x, count, out, [=](Float v) { return v - shift; });
  }
  map(x, count, out, [=](Float v) { return exp_all(v - best); });
  const float factor = 1.0f / sum(out, count);
  map(out, count, out, [=](Float v) { return v * factor; });
}

void pool(bool is_max, const float* x, std::int64_t row_stride, std::int64_t column_stride, int rows, int columns,
          std::int64_t channels, float factor, float* out) {
  for (std::int64_t c = 0; c < channels; c += kLanes) {
    const std::int64_t left = std::min<std::int64_t>(kLanes, channels - c);
    Float found = is_max ? all(-std::numeric_limits<float>::infinity()) : Float{};
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j) {
        const float* at = x + i * row_stride + j * column_stride + c;
        const Float v = left == kLanes ? load<Float>(at) : load_some(at, left, 0.0f);
        found = is_max ? larger_or_nan(v, found) : found + v;
      }
    if (!is_max) found *= factor;
    if (left == kLanes)
      store(out + c, found);
    else
      store_some(out + c, found, left);
  }
}

void multiply_add(const float* x, const float* weight, std::int64_t channels, float* out) {
  std::int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes)
    store(out + c, load<Float>(out + c) + load<Float>(x + c) * load<Float>(weight + c));
  for (; c < channels; ++c) out[c] += x[c] * weight[c];
}

}  // namespace

const TensorKernels& tensor_table() {
  static const TensorKernels kernels = {kPanelWidth, product, patch_product, unary, binary, normalize,
                                        softmax,     pool,    multiply_add,  sum,   largest};
  return kernels;
}

}  // namespace BASINVOL_ISA
}  // namespace cpu
}  // namespace basinvol
