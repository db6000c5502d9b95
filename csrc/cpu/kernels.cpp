// Matrix products with the loss in the same pass. Compiled with contraction (FMA where there is one).
#include "cpu/kernels.h"

#include <algorithm>
#include <cmath>

#include "cpu/simd.h"
#include "cpu/transpose.h"
#include "cpu/vector_math.h"

namespace basinvol {
namespace cpu {
namespace BASINVOL_ISA {

void normals(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::int64_t count, float* out);
double normalize(const float* normals, const float* scale, std::int64_t count, float* move);

namespace {

constexpr int kPanel = kLanes * kVectors;

void activate_all(Activation activation, float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = activate(activation, x[i]);
}

inline bool is_in_registers(Activation activation) {
  return activation == Activation::relu || activation == Activation::identity;
}

// One panel of a tile: every element is one chain of multiply-adds in the order of the columns, so that a row does not
// depend on its neighbours; columns in which a row equals the background add exact zeros.
template <int vectors>
[[gnu::always_inline]] inline void tile_panel(const Tile& tile, const float* panel, const float* start, float* c,
                                              int stride) {
  constexpr int width = vectors * kLanes;
  Float sum[kTileRows][vectors];
  for (int v = 0; v < vectors; ++v) {
    const Float first = start != nullptr ? load<Float>(start + v * kLanes) : Float{};
    for (int i = 0; i < kTileRows; ++i) sum[i][v] = first;
  }
  const float* a = tile.values;
  for (int k = 0; k < tile.num_columns; ++k, a += kTileRows) {
    const float* b = panel + static_cast<std::int64_t>(tile.columns[k]) * width;
    Float row[vectors];
    for (int v = 0; v < vectors; ++v) row[v] = load<Float>(b + v * kLanes);
    for (int i = 0; i < kTileRows; ++i)
      for (int v = 0; v < vectors; ++v) sum[i][v] += a[i] * row[v];
  }
  for (int i = 0; i < kTileRows; ++i)
    for (int v = 0; v < vectors; ++v) store(c + static_cast<std::int64_t>(i) * stride + v * kLanes, sum[i][v]);
}

constexpr int kCacheLine = 16;  // floats
constexpr int kFetchEvery = 4;  // inputs, about 50 cycles of AVX-512: memory keeps up, and the products do not wait

inline void fetch_line(Ahead& ahead) {
  __builtin_prefetch(ahead.first, 0, 2);
  __builtin_prefetch(ahead.second, 0, 2);
  ahead.first += kCacheLine;
  ahead.second += kCacheLine;
  ahead.count -= kCacheLine;
}

template <int vectors>
[[gnu::always_inline]] inline void layer_panel(const float* a, int a_stride, int inputs, const float* panel,
                                               const float* bias, bool is_relu, float* c, int stride, Ahead& ahead) {
  constexpr int width = vectors * kLanes;
  Float sum[kTileRows][vectors];
  for (int v = 0; v < vectors; ++v)
    for (int i = 0; i < kTileRows; ++i) sum[i][v] = load<Float>(bias + v * kLanes);
  for (int start = 0; start < inputs; start += kFetchEvery) {
    if (ahead.count > 0) fetch_line(ahead);
    for (int k = start, end = std::min(start + kFetchEvery, inputs); k < end; ++k, panel += width) {
      Float row[vectors];
      for (int v = 0; v < vectors; ++v) row[v] = load<Float>(panel + v * kLanes);
      for (int i = 0; i < kTileRows; ++i)
        for (int v = 0; v < vectors; ++v) sum[i][v] += a[i * a_stride + k] * row[v];
    }
  }
  for (int i = 0; i < kTileRows; ++i)
    for (int v = 0; v < vectors; ++v)
      store(c + static_cast<std::int64_t>(i) * stride + v * kLanes, is_relu ? relu(sum[i][v]) : sum[i][v]);
}

// Calls body<vectors>(first column) for every panel of `width` columns.
#define BASINVOL_FOR_PANELS(width, body)                  \
  for (int first = 0; first < (width); first += kPanel) { \
    switch (std::min(kPanel, (width) - first) / kLanes) { \
      case 1:                                             \
        body(1);                                          \
        break;                                            \
      case 2:                                             \
        body(2);                                          \
        break;                                            \
      case 3:                                             \
        body(3);                                          \
        break;                                            \
      default:                                            \
        body(kVectors);                                   \
    }                                                     \
  }

void multiply_tiles(const Tile* tiles, int num_tiles, const float* packed, int inputs, int width, const float* start,
                    float* c) {
#define BASINVOL_BODY(vectors)                                                      \
  for (int t = 0; t < num_tiles; ++t)                                               \
  tile_panel<vectors>(tiles[t], packed + static_cast<std::int64_t>(first) * inputs, \
                      start != nullptr ? start + first : nullptr,                   \
                      c + static_cast<std::int64_t>(t) * kTileRows * width + first, width)
  BASINVOL_FOR_PANELS(width, BASINVOL_BODY)
#undef BASINVOL_BODY
}

void layer(const float* a, int stride, int rows, int inputs, const float* packed, int width, const float* bias,
           Activation activation, float* c, const Ahead& ahead) {
  const bool is_relu = activation == Activation::relu;
  Ahead left = ahead;
#define BASINVOL_BODY(vectors)                                                                    \
  for (int i = 0; i < rows; i += kTileRows)                                                       \
  layer_panel<vectors>(a + static_cast<std::int64_t>(i) * stride, stride, inputs,                 \
                       packed + static_cast<std::int64_t>(first) * inputs, bias + first, is_relu, \
                       c + static_cast<std::int64_t>(i) * width + first, width, left)
  BASINVOL_FOR_PANELS(width, BASINVOL_BODY)
#undef BASINVOL_BODY
  if (!is_in_registers(activation)) activate_all(activation, c, static_cast<std::int64_t>(rows) * width);
}

void first_layer(const float* base, const float* shift, float radius, const float* bias, int rows, int width,
                 Activation activation, float* c) {
  const bool is_relu = activation == Activation::relu;
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < width; j += kLanes) {
      const std::int64_t at = static_cast<std::int64_t>(i) * width + j;
      Float x = load<Float>(base + at);
      if (shift != nullptr) x += radius * load<Float>(shift + at);
      x += load<Float>(bias + j);
      store(c + at, is_relu ? relu(x) : x);
    }
  }
  if (!is_in_registers(activation)) activate_all(activation, c, static_cast<std::int64_t>(rows) * width);
}

void perturb(const float* center, const float* move, float radius, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = center[i] + radius * move[i];
}

// Blocks of lanes x lanes are turned over in registers.
void pack(const float* weight, int outputs, int inputs, float* packed) {
  const int width = padded(outputs);
  for (int first = 0; first < width; first += kPanel) {
    const int panel = std::min(kPanel, width - first);
    float* const out = packed + static_cast<std::int64_t>(first) * inputs;
    for (int j = 0; j < panel; j += kLanes) {
      const float* rows = weight + static_cast<std::int64_t>(first + j) * inputs;
      const int num_rows = std::clamp(outputs - first - j, 0, kLanes);
      for (int k = 0; k < inputs; k += kLanes) {
        const int count = std::min(kLanes, inputs - k);
        float part[kLanes][kLanes] = {};
        Float block[kLanes] = {};
        for (int i = 0; i < num_rows; ++i) {
          const float* from = rows + static_cast<std::int64_t>(i) * inputs + k;
          if (count < kLanes) from = std::copy_n(from, count, part[i]) - count;
          block[i] = load<Float>(from);
        }
        transpose(block);
        for (int i = 0; i < count; ++i) store(out + static_cast<std::int64_t>(k + i) * panel + j, block[i]);
      }
    }
  }
}

// exp(x) for x <= 0, relative error 1e-7; 0 below -87. NaN stays NaN.
inline Float exp_of(Float x) {
  const Int vanishes = x < -87.0f;
  Float n;
  const Float p = exp_parts(select(vanishes, all(-87.0f), x), n);
  return select(vanishes, Float{}, p * power_of_two(n));
}

// ln(1 + x) for x >= 0 in float64 lanes, relative error below 1e-15 or absolute below 1e-16. NaN and infinity stay.
inline double log1p_of(double x) {
  const double u = 1.0 + x;
  std::int64_t bits;
  std::memcpy(&bits, &u, sizeof bits);
  std::int64_t exponent = (bits >> 52) - 1023;
  bits = (bits & 0x000FFFFFFFFFFFFFll) | 0x3FF0000000000000ll;
  double m;
  std::memcpy(&m, &bits, sizeof m);
  const bool large = m > 1.4142135623730951;
  m = large ? 0.5 * m : m;
  const double e = static_cast<double>(exponent + large);
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  const double value = e * 0.6931471805599453 + 2.0 * (s + s * z * p);
  return u <= 1.7976931348623157e308 ? value : u;
}

// Row by row: the sum of exp(x - max) over the classes that are not the largest, and max - x[label].
void cross_entropy_terms(const Outputs& out, double* others, double* gap) {
  Int lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  for (int row = 0; row < out.rows; ++row) {
    const float* x = out.x + static_cast<std::int64_t>(row) * out.width;
    float best = x[0];
    for (int j = 1; j < out.outputs; ++j) best = x[j] > best ? x[j] : best;
    Float sum = {};
    Int ties = {};
    for (int j = 0; j < out.outputs; j += kLanes) {
      const Int counts = lane < out.outputs - j;
      const Float difference = load<Float>(x + j) - best;
      const Int is_best = difference == 0.0f;
      sum += select(counts & ~is_best, exp_of(difference), Float{});
      ties -= counts & is_best;
    }
    double total = -1.0;
    for (int i = 0; i < kLanes; ++i) total += ties[i];
    float small = 0.0f;
    for (int i = 0; i < kLanes; ++i) small += sum[i];
    others[row] = total < 0.0 ? NAN : total + small;  // no largest class: a NaN
    gap[row] = static_cast<double>(best) - x[out.labels[row]];
  }
}

double losses(Loss loss, const Outputs& out, double* per_row) {
  if (loss == Loss::cross_entropy) {
    double gap[kBlockRows];
    cross_entropy_terms(out, per_row, gap);
    for (int i = 0; i < out.rows; ++i) per_row[i] = log1p_of(per_row[i]) + gap[i];
  } else if (loss == Loss::bce_with_logits) {
    for (int i = 0; i < out.rows; ++i) {
      const float* x = out.x + static_cast<std::int64_t>(i) * out.width;
      const float* target = out.targets + static_cast<std::int64_t>(i) * out.outputs;
      double sum = 0.0;
      for (int j = 0; j < out.outputs; ++j) {
        const double logit = x[j];
        sum += (logit > 0.0 ? logit : 0.0) - logit * target[j] + log1p_of(std::exp(-std::fabs(logit)));
      }
      per_row[i] = sum;
    }
  } else {
    for (int i = 0; i < out.rows; ++i) {
      const float* x = out.x + static_cast<std::int64_t>(i) * out.width;
      const float* target = out.targets + static_cast<std::int64_t>(i) * out.outputs;
      double partial[4] = {};
      int j = 0;
      for (; j + 4 <= out.outputs; j += 4)
        for (int l = 0; l < 4; ++l) {
          const double difference = static_cast<double>(x[j + l]) - target[j + l];
          partial[l] += difference * difference;
        }
      for (int l = 0; j + l < out.outputs; ++l) {
        const double difference = static_cast<double>(x[j + l]) - target[j + l];
        partial[l] += difference * difference;
      }
      per_row[i] = (partial[0] + partial[1]) + (partial[2] + partial[3]);
    }
  }
  double sum = 0.0;
  for (int i = 0; i < out.rows; ++i) sum += per_row[i];
  return sum;
}

double spin(std::int64_t rounds, float* sink) {
  constexpr int chains = 12;  // more than latency x units of any machine, fewer than its registers
  Float sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = all(sink[0] + static_cast<float>(i));
  const Float a = all(sink[1]), b = all(sink[2]);
  for (std::int64_t r = 0; r < rounds; ++r)
    for (int i = 0; i < chains; ++i) sum[i] = sum[i] * a + b;
  for (int i = 1; i < chains; ++i) sum[0] += sum[i];
  store(sink + 3, sum[0]);
  return 2.0 * chains * kLanes * static_cast<double>(rounds);
}

}  // namespace

#define BASINVOL_TEXT_OF(name) #name
#define BASINVOL_TEXT(name) BASINVOL_TEXT_OF(name)

const Kernels& table() {
  static const Kernels kernels = {BASINVOL_TEXT(BASINVOL_ISA),
                                  kPanel,
                                  normals,
                                  normalize,
                                  perturb,
                                  pack,
                                  multiply_tiles,
                                  layer,
                                  first_layer,
                                  losses,
                                  spin};
  return kernels;
}

}  // namespace BASINVOL_ISA
}  // namespace cpu
}  // namespace basinvol
