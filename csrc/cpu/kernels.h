// The arithmetic of the CPU engine, compiled once per instruction set and chosen at run time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "loss_math.h"

namespace basinvol {
namespace cpu {

constexpr int kTileRows = 6;    // rows of a register tile: 6 x 4 AVX-512 vectors, 6 x 2 AVX2 vectors fill the registers
constexpr int kPadding = 16;    // widths are padded to this, so that every instruction set reads whole vectors
constexpr int kBlockRows = 96;  // rows evaluated together: their activations stay in L2; a multiple of kTileRows

inline int padded(int columns) { return (columns + kPadding - 1) / kPadding * kPadding; }

// The next multiple of a tile's rows.
inline std::int64_t rounded_up(std::int64_t rows) { return (rows + kTileRows - 1) / kTileRows * kTileRows; }

// Six rows of inputs, restricted to the columns in which any of them differs from the background.
struct Tile {
  const float* values;          // [num_columns][kTileRows]
  const std::int32_t* columns;  // [num_columns]
  int num_columns;
};

// Two streams of memory that are read next, of the same length.
struct Ahead {
  const float* first = nullptr;
  const float* second = nullptr;
  std::int64_t count = 0;  // floats of each
};

// What the losses of a block are computed from. Rows of `x` have `width` values, of which `outputs` count.
struct Outputs {
  const float* x;
  int rows, width, outputs;
  const std::int64_t* labels;  // [rows], cross-entropy
  const float* targets;        // [rows, outputs], the others
};

// Weights [outputs, inputs] are packed as panels of `panel` outputs, the last one narrower: [inputs][panel width].
struct Kernels {
  const char* name;
  int panel;

  // Standard normals of one tensor along one direction; the same bits on every instruction set.
  void (*normals)(std::uint64_t seed, std::uint32_t direction, std::uint32_t tensor, std::int64_t count, float* out);

  // move = scale x normals / norm, and the norm; move may be the normals. Without a scale, nullptr, it is 1.
  double (*normalize)(const float* normals, const float* scale, std::int64_t count, float* move);

  // out = center + radius x move.
  void (*perturb)(const float* center, const float* move, float radius, std::int64_t count, float* out);

  // Packs a weight [outputs, inputs], row-major as in torch; zeros beyond the last output.
  void (*pack)(const float* weight, int outputs, int inputs, float* packed);

  // c [6 x num_tiles, width] = start + tiles x packed; `start` [width] is a row, or nullptr for zeros.
  void (*multiply_tiles)(const Tile* tiles, int num_tiles, const float* packed, int inputs, int width,
                         const float* start, float* c);

  // c [rows, width] = activation(bias + a x packed); a is row-major with `stride`, rows a multiple of 6. Memory that
  // the next block will read is fetched meanwhile.
  void (*layer)(const float* a, int stride, int rows, int inputs, const float* packed, int width, const float* bias,
                Activation activation, float* c, const Ahead& ahead);

  // c [rows, width] = activation(base + radius x shift + bias); `shift` may be nullptr.
  void (*first_layer)(const float* base, const float* shift, float radius, const float* bias, int rows, int width,
                      Activation activation, float* c);

  // Losses of the rows, each summed over its outputs; returns their float64 sum in row order.
  double (*losses)(Loss loss, const Outputs& outputs, double* per_row);

  // Multiply-adds in registers for `rounds` rounds; returns how many floating-point operations that was.
  double (*spin)(std::int64_t rounds, float* sink);
};

// Those that this machine can run, best first. The last is the baseline.
std::vector<const Kernels*> available_kernels();

// By name, or the best for an empty name; throws std::invalid_argument.
const Kernels& kernels_named(const std::string& name);

}  // namespace cpu
}  // namespace basinvol
