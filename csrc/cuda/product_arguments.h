// What a product of activations and weights works on, for every active ray.
#pragma once

#include <cstdint>

#include "cuda/rows.h"
#include "loss_math.h"

namespace basinvol {
namespace cuda {

// Activations [rows, inputs] that enter a product. With a `shift` they are those of the first layer, computed on the
// way in: activation(values + radius x shift + bias), where values and shift are the inputs times the center's and the
// ray's first weight.
struct ProductInputs {
  RowValues values;
  RowValues shift;    // values nullptr: the first weight does not move
  const float* bias;  // by slot; nullptr: plain activations
  std::int64_t bias_stride;
  Activation activation;
};

// How products are computed; sums are fp32 in both.
enum class Precision {
  fp32,
  tf32x3,  // three tensor-core products of split operands: as exact, and faster where there are tensor cores
};

struct ProductArguments {
  ActiveRays rays;
  RowBlocks rows;
  ProductInputs in;
  int inputs, outputs;
  const float* weight;  // [outputs, inputs] by slot
  std::int64_t weight_stride;
  const float* bias;  // [outputs] by slot, or nullptr
  std::int64_t bias_stride;
  Activation activation;
  Precision precision;
};

}  // namespace cuda
}  // namespace basinvol
