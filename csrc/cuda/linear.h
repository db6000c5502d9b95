// One layer of every active ray.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/product_arguments.h"

namespace basinvol {
namespace cuda {

// out [rows, outputs] = activation(in weight^T + bias), by slot.
struct LinearArguments {
  ProductArguments product;
  float* out;
  std::int64_t out_stride;  // from one slot to the next
  std::int64_t out_origin;  // the row that lies first
};
void linear(const LinearArguments& arguments, cudaStream_t stream);

}  // namespace cuda
}  // namespace basinvol
