#include "cuda/loop_graph.h"

namespace basinvol {
namespace cuda {

namespace {

bool has_conditional_nodes() {
#if CUDART_VERSION >= 12040
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  return driver >= 12040;
#else
  return false;
#endif
}

#if CUDART_VERSION >= 12040
// An empty graph in a WHILE node of `graph`.
cudaGraph_t add_loop(cudaGraph_t graph, LoopCondition& condition) {
  cudaGraphConditionalHandle handle;
  check(cudaGraphConditionalHandleCreate(&handle, graph, 1, cudaGraphCondAssignDefault),
        "cudaGraphConditionalHandleCreate");
  condition = {true, handle};
  cudaGraphNodeParams parameters{};
  parameters.type = cudaGraphNodeTypeConditional;
  parameters.conditional.handle = handle;
  parameters.conditional.type = cudaGraphCondTypeWhile;
  parameters.conditional.size = 1;
  cudaGraphNode_t node;
#if CUDART_VERSION >= 13000
  check(cudaGraphAddNode(&node, graph, nullptr, nullptr, 0, &parameters), "cudaGraphAddNode");
#else
  check(cudaGraphAddNode(&node, graph, nullptr, 0, &parameters), "cudaGraphAddNode");
#endif
  return parameters.conditional.phGraph_out[0];
}
#endif

}  // namespace

LoopGraph::LoopGraph(cudaStream_t stream, const std::function<void(const LoopCondition&)>& pass)
    : loops_(has_conditional_nodes()) {
  try {
    LoopCondition condition{};
#if CUDART_VERSION >= 12040
    if (loops_) {
      check(cudaGraphCreate(&graph_, 0), "cudaGraphCreate");
      check(cudaStreamBeginCaptureToGraph(stream, add_loop(graph_, condition), nullptr, nullptr, 0,
                                          cudaStreamCaptureModeThreadLocal),
            "cudaStreamBeginCaptureToGraph");
    }
#endif
    if (!loops_) check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t captured = nullptr;
    try {
      pass(condition);
    } catch (...) {
      cudaStreamEndCapture(stream, &captured);  // the stream must not stay in capture
      if (!loops_) graph_ = captured;
      throw;
    }
    check(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
    if (!loops_) graph_ = captured;
    check(cudaGraphInstantiate(&executable_, graph_, 0), "cudaGraphInstantiate");
  } catch (...) {
    destroy();
    throw;
  }
}

LoopGraph::~LoopGraph() { destroy(); }

void LoopGraph::destroy() {
  if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
  if (graph_ != nullptr) cudaGraphDestroy(graph_);
}

void LoopGraph::run(cudaStream_t stream, const std::function<int()>& read_active) const {
  do {
    check(cudaGraphLaunch(executable_, stream), "cudaGraphLaunch");
  } while (!loops_ && read_active() > 0);
  check(cudaStreamSynchronize(stream), "cudaGraphLaunch");
}

}  // namespace cuda
}  // namespace basinvol
