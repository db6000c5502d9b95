#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "cuda_runtime.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace basinvol {
namespace cuda {

constexpr std::size_t kSharedLimit = 99 * 1024;  // of the smallest device that is compiled for
extern unsigned char shared_bytes[];
alignas(16) unsigned char shared_bytes[kSharedLimit];

}  // namespace cuda
}  // namespace basinvol

struct FiberGraph {
  std::vector<std::pair<cudaLaunchConfig_t, std::function<void()>>> launches;
  FiberGraph* loop = nullptr;  // the body of a WHILE node
  unsigned condition = 0;
};
struct FiberStream {
  FiberGraph* capturing = nullptr;
};

namespace fibers {

namespace {

constexpr std::size_t kStackBytes = 32 * 1024;
constexpr unsigned kMostThreads = 1024;
constexpr std::size_t kSharedDefault = 48 * 1024;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::exit(1);
}

// Where a stack of execution waits. swapcontext would do, but makes two system calls and has AddressSanitizer clear a
// whole stack's shadow: hundreds of times the cost.
#if defined(__x86_64__)
struct Place {
  void* stack_pointer = nullptr;
};

// Leaves what a function must preserve on the old stack, and takes it from the new one.
extern "C" void basinvol_change_stacks(void** from, void* to);
asm(R"(
.text
.globl basinvol_change_stacks
basinvol_change_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

void change(Place& from, Place& to) { basinvol_change_stacks(&from.stack_pointer, to.stack_pointer); }

void prepare(Place& place, char* stack, std::size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes / 16 * 16) - 1;  // as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  place.stack_pointer = top;
}
#else
struct Place {
  ucontext_t context;
};

void change(Place& from, Place& to) { swapcontext(&from.context, &to.context); }

void prepare(Place& place, char* stack, std::size_t bytes, void (*entry)()) {
  getcontext(&place.context);
  place.context.uc_stack.ss_sp = stack;
  place.context.uc_stack.ss_size = bytes;
  place.context.uc_link = nullptr;
  makecontext(&place.context, entry, 0);
}
#endif

struct Fiber {
  Place place;  // where it waits
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  void* fake_stack = nullptr;  // AddressSanitizer's
  bool is_done = false;
};

Place scheduler_place;
void* scheduler_fake_stack = nullptr;
const void* scheduler_stack = nullptr;
std::size_t scheduler_stack_bytes = 0;
std::vector<Fiber> threads(kMostThreads);
unsigned current = 0;
const std::function<void()>* kernel_body = nullptr;

void enter_thread() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
  (*kernel_body)();
  threads[current].is_done = true;
  __sanitizer_start_switch_fiber(nullptr, scheduler_stack, scheduler_stack_bytes);
  change(threads[current].place, scheduler_place);
}

// Runs one thread to its next barrier or its end.
void resume(unsigned thread) {
  current = thread;
  threadIdx = dim3(thread, 0, 0);
  Fiber& fiber = threads[thread];
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack.get(), kStackBytes);
  change(scheduler_place, fiber.place);
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
}

void begin(Fiber& fiber) {
  fiber.is_done = false;
  prepare(fiber.place, fiber.stack.get(), kStackBytes, enter_thread);
}

void run_block(unsigned num_threads, bool is_backward) {
  for (unsigned t = 0; t < num_threads; ++t) begin(threads[t]);
  for (unsigned num_done = 0; num_done < num_threads;) {
    if (num_done > 0) fail("a barrier was missed by threads that had returned");
    for (unsigned i = 0; i < num_threads; ++i) {
      const unsigned t = is_backward ? num_threads - 1 - i : i;
      resume(t);
      num_done += threads[t].is_done;
    }
  }
}

void run_grid(const cudaLaunchConfig_t& config, const std::function<void()>& body) {
  const dim3 grid = config.gridDim;
  kernel_body = &body;
  gridDim = grid;
  blockDim = config.blockDim;
  unsigned char* shared = basinvol::cuda::shared_bytes;
  bool is_backward = false;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x, is_backward = !is_backward) {
        blockIdx = dim3(x, y, z);
        std::memset(shared, 0xFF, config.dynamicSmemBytes);
        ASAN_POISON_MEMORY_REGION(shared + config.dynamicSmemBytes,
                                  basinvol::cuda::kSharedLimit - config.dynamicSmemBytes);
        run_block(blockDim.x, is_backward);
        ASAN_UNPOISON_MEMORY_REGION(shared, basinvol::cuda::kSharedLimit);
      }
    }
  }
}

std::map<void*, std::size_t> allocations;
std::map<const void*, std::size_t> shared_allowed;
std::size_t memory_used = 0;

}  // namespace

std::size_t memory_size = std::size_t{1} << 30;
int shared_limit = basinvol::cuda::kSharedLimit;
int driver_version = 13000;

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body) {
  const dim3 grid = config.gridDim;
  const auto allowed = shared_allowed.find(kernel);
  const std::size_t limit = allowed == shared_allowed.end() ? kSharedDefault : allowed->second;
  const unsigned num_threads = config.blockDim.x;
  if (config.dynamicSmemBytes > limit || num_threads > kMostThreads || grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidValue;
  if (config.stream->capturing != nullptr)
    config.stream->capturing->launches.emplace_back(config, std::move(body));
  else
    run_grid(config, body);
  return cudaSuccess;
}

}  // namespace fibers

void __syncthreads() {
  fibers::Fiber& fiber = fibers::threads[fibers::current];
  __sanitizer_start_switch_fiber(&fiber.fake_stack, fibers::scheduler_stack, fibers::scheduler_stack_bytes);
  fibers::change(fiber.place, fibers::scheduler_place);
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &fibers::scheduler_stack, &fibers::scheduler_stack_bytes);
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "invalid argument";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "fibers");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = fibers::shared_limit;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new FiberStream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stream->capturing == nullptr ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  if (fibers::memory_used + bytes > fibers::memory_size) return cudaErrorMemoryAllocation;
  *data = std::malloc(bytes);
  std::memset(*data, 0xFF, bytes);  // NaN, for floats and doubles
  fibers::allocations[*data] = bytes;
  fibers::memory_used += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  const auto found = fibers::allocations.find(data);
  if (found == fibers::allocations.end()) return data == nullptr ? cudaSuccess : cudaErrorInvalidValue;
  fibers::memory_used -= found->second;
  fibers::allocations.erase(found);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = fibers::memory_size - fibers::memory_used;
  *total = fibers::memory_size;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (stream->capturing != nullptr) return cudaErrorInvalidValue;  // from memory that may go away
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind, cudaStream_t) {
  for (std::size_t row = 0; row < height; ++row)
    std::memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value > static_cast<int>(basinvol::cuda::kSharedLimit)) return cudaErrorInvalidValue;
  fibers::shared_allowed[kernel] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = fibers::driver_version;
  return cudaSuccess;
}
cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned) {
  *graph = new FiberGraph;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph->loop;
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* handle, cudaGraph_t graph, unsigned value,
                                             unsigned) {
  graph->condition = value;
  *handle = reinterpret_cast<cudaGraphConditionalHandle>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphAddNode(cudaGraphNode_t*, cudaGraph_t graph, const cudaGraphNode_t*, const void*, std::size_t,
                             cudaGraphNodeParams* parameters) {
  graph->loop = new FiberGraph;
  parameters->conditional.phGraph_out = &graph->loop;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->capturing = new FiberGraph;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t*, const void*,
                                          std::size_t, cudaStreamCaptureMode) {
  stream->capturing = graph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->capturing, nullptr);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& [config, body] : executable->launches) fibers::run_grid(config, body);
  if (executable->loop == nullptr) return cudaSuccess;
  for (executable->condition = 1; executable->condition != 0;)
    for (const auto& [config, body] : executable->loop->launches) fibers::run_grid(config, body);
  return cudaSuccess;
}
void cudaGraphSetConditional(cudaGraphConditionalHandle handle, unsigned value) {
  reinterpret_cast<FiberGraph*>(handle)->condition = value;
}
