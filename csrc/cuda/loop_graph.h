// Launches that repeat on the device until they say that nothing is left, with no host in between.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "cuda/runtime.h"
#include "cuda/search_step.h"

namespace basinvol {
namespace cuda {

// A CUDA graph of one pass. Where the runtime and the driver have conditional nodes (CUDA 12.4), the pass lies in a
// WHILE node and `run` is one launch; otherwise the host launches the graph until the list of active rays is empty.
class LoopGraph {
 public:
  // `pass` launches one pass on the stream, with whatever ends it reporting to the condition.
  LoopGraph(cudaStream_t stream, const std::function<void(const LoopCondition&)>& pass);
  ~LoopGraph();
  LoopGraph(const LoopGraph&) = delete;
  LoopGraph& operator=(const LoopGraph&) = delete;

  // Passes until none is active; `read_active` copies the list's length from the device.
  void run(cudaStream_t stream, const std::function<int()>& read_active) const;

 private:
  void destroy();

  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
  bool loops_ = false;
};

}  // namespace cuda
}  // namespace basinvol
