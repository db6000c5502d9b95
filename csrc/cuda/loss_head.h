// The last layer with its loss, for every active ray.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/network.h"
#include "cuda/product_arguments.h"

namespace basinvol {
namespace cuda {

// One float64 sum per ray and block of rows. A network of one layer has no product here: `is_direct`, and its outputs
// are the first layer's activations themselves.
struct LossHeadArguments {
  ProductArguments product;
  bool is_direct;
  ExamplesView examples;
  const int* order;  // as in RowValues, for labels and targets
  double* partials;  // by slot [row blocks]
  std::int64_t partials_stride;
  double* row_losses;  // by slot [rows]; or nullptr
  std::int64_t row_losses_stride;
};
void loss_head(const LossHeadArguments& arguments, cudaStream_t stream);

}  // namespace cuda
}  // namespace basinvol
