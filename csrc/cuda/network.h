// A perceptron and its examples as kernels see them: plain structs of device pointers.
#pragma once

#include <cstdint>

#include "loss_math.h"
#include "ray_search.h"

namespace basinvol {
namespace cuda {

// Where a layer lies in the packed parameters: biases and weights as in torch, each starting at a multiple of four; the
// first layer's weight comes last, because its products are computed once per direction.
struct LayerView {
  int inputs, outputs;
  std::int64_t weight, bias;
  Activation activation;
};

// One parameter tensor, in the packed and in the flat vector; `flat` is -1 if it is not perturbed.
struct Segment {
  std::int64_t packed, flat, size;
};

struct NetworkView {
  const LayerView* layers;
  int num_layers;
  int width;            // of the widest layer or the inputs
  const float* center;  // packed
  const Segment* segments;
  int num_segments;
};

struct ExamplesView {
  const float* inputs;         // [count, features]
  const std::int64_t* labels;  // [count], cross-entropy
  const float* targets;        // [count, outputs], the others
  int features, outputs;
  Loss loss;

  BASINVOL_HD RowLoss row_loss(std::int64_t row) const {
    if (loss == Loss::cross_entropy) return RowLoss(loss, labels[row], nullptr);
    return RowLoss(loss, 0, targets + row * outputs);
  }
  BASINVOL_HD int terms() const { return loss == Loss::cross_entropy ? 1 : outputs; }
};

}  // namespace cuda
}  // namespace basinvol
