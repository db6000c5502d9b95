#include <algorithm>

#include "cuda/block.h"
#include "cuda/persistent.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

namespace {

constexpr int kThreads = 128;  // one row each
constexpr int kGroup = 16;     // outputs that a thread computes together: 16 products for 5 reads of shared memory
constexpr int kPad = 4;        // of a row of weights, so that four are read together

BASINVOL_HD int padded(int outputs) { return (outputs + kPad - 1) / kPad * kPad; }

// Floats of a layer in shared memory: biases, then weights [inputs][padded outputs].
BASINVOL_HD int layer_floats(const LayerView& layer) { return padded(layer.outputs) * (layer.inputs + 1); }

// What the block does next, decided by thread 0.
struct Work {
  Probe probe;
  int target;  // tested for being negligible; or one of these
};
constexpr int kSearch = -1, kCenter = -2, kDone = -3;

// Of shared memory before the parameters, which are read four at a time.
BASINVOL_HD std::size_t header_bytes(int num_levels) {
  return ((kThreads + num_levels) * sizeof(double) + sizeof(Work) + 15) / 16 * 16;
}

// Positions in shared memory, in this order.
struct Shared {
  double* scratch;  // [kThreads]
  double* losses;   // [num_levels]
  Work* work;
  float* parameters;      // layer by layer
  float* activations[2];  // [width][kThreads]: a column is a thread's own
};

__device__ Shared carve(const PersistentArguments& a) {
  Shared s;
  s.scratch = reinterpret_cast<double*>(shared_bytes);
  s.losses = s.scratch + kThreads;
  s.work = reinterpret_cast<Work*>(s.losses + a.num_levels);
  s.parameters = reinterpret_cast<float*>(shared_bytes + header_bytes(a.num_levels));
  int size = 0;
  for (int l = 0; l < a.network.num_layers; ++l) size += layer_floats(a.network.layers[l]);
  s.activations[0] = s.parameters + size;
  s.activations[1] = s.activations[0] + a.network.width * kThreads;
  return s;
}

// center + radius x move of one tensor, as columns [inputs][padded outputs]; zeros in the padding.
__device__ void perturb_tensor(const PersistentArguments& a, const float* moves, float radius, std::int64_t packed,
                               const Segment& segment, int inputs, int outputs, float* out) {
  const float* center = a.network.center + packed;
  const float* move = moves == nullptr || segment.flat < 0 ? nullptr : moves + segment.flat;
  const int width = padded(outputs);
  for (int i = static_cast<int>(threadIdx.x); i < width * inputs; i += kThreads) {
    const int k = i % inputs, j = i / inputs;
    const int at = j * inputs + k;
    float value = 0.0f;
    if (j < outputs) value = move == nullptr ? center[at] : multiply_add(radius, move[at], center[at]);
    out[k * width + j] = value;
  }
}

// The network at `radius` along the ray; moves nullptr is the center.
__device__ void set_radius(const PersistentArguments& a, const Shared& s, const float* moves, double radius) {
  const float step = static_cast<float>(radius);
  float* out = s.parameters;
  for (int l = 0; l < a.network.num_layers; ++l) {
    const LayerView layer = a.network.layers[l];
    const Segment bias = a.network.segments[2 * l], weight = a.network.segments[2 * l + 1];
    perturb_tensor(a, moves, step, layer.bias, bias, 1, layer.outputs, out);
    perturb_tensor(a, moves, step, layer.weight, weight, layer.inputs, layer.outputs, out + padded(layer.outputs));
    out += layer_floats(layer);
  }
  __syncthreads();
}

template <int group>
__device__ void layer_outputs(const float* in, const float* bias, const float* weight, int inputs, int width,
                              float* out) {
  float sum[group];
#pragma unroll
  for (int j = 0; j < group; ++j) sum[j] = bias[j];
  for (int k = 0; k < inputs; ++k) {
    const float x = in[k * kThreads];
#pragma unroll
    for (int j = 0; j < group; j += 4) {
      const float4 w = *reinterpret_cast<const float4*>(weight + k * width + j);
      sum[j] = multiply_add(x, w.x, sum[j]);
      sum[j + 1] = multiply_add(x, w.y, sum[j + 1]);
      sum[j + 2] = multiply_add(x, w.z, sum[j + 2]);
      sum[j + 3] = multiply_add(x, w.w, sum[j + 3]);
    }
  }
#pragma unroll
  for (int j = 0; j < group; ++j) out[j * kThreads] = sum[j];
}

// The loss of one row, by the thread that holds its column of activations: no barrier between layers.
__device__ double loss_of(const PersistentArguments& a, const Shared& s, std::int64_t row) {
  float* in = s.activations[0] + threadIdx.x;
  float* out = s.activations[1] + threadIdx.x;
  const float* x = a.examples.inputs + row * a.examples.features;
  for (int k = 0; k < a.examples.features; ++k) in[k * kThreads] = x[k];
  const float* bias = s.parameters;
  for (int l = 0; l < a.network.num_layers; ++l) {
    const LayerView layer = a.network.layers[l];
    const int width = padded(layer.outputs);
    const float* weight = bias + width;
    int j = 0;
    for (; j + kGroup <= width; j += kGroup)
      layer_outputs<kGroup>(in, bias + j, weight + j, layer.inputs, width, out + j * kThreads);
    for (; j < width; j += kPad) layer_outputs<kPad>(in, bias + j, weight + j, layer.inputs, width, out + j * kThreads);
    if (layer.activation != Activation::identity) {
#pragma unroll 1
      for (j = 0; j < layer.outputs; ++j) out[j * kThreads] = activate(layer.activation, out[j * kThreads]);
    }
    bias += layer_floats(layer);
    float* next = in;
    in = out;
    out = next;
  }
  RowLoss loss = a.examples.row_loss(row);
#pragma unroll 1
  for (int j = 0; j < a.examples.outputs; ++j) loss.add(j, in[j * kThreads]);
  return loss.value();
}

// Adds the losses of rows at the radius that was set: level by level, each thread its rows and then the block its
// threads, into s.losses; or for a proof the hardest rows first, until `limit` is passed. Returns the sum, and adds how
// many rows it read.
__device__ double sweep(const PersistentArguments& a, const Shared& s, int level, bool is_proof, double limit,
                        std::int64_t& num_read) {
  const int* order = is_proof ? a.hardest_first[level] : nullptr;
  double total = 0.0, mine = 0.0;
  std::int64_t first = 0;
  for (int l = is_proof ? level : 0; l <= level; ++l) {
    const std::int64_t end = a.levels[l];
    for (; first < end; first += kThreads) {
      const std::int64_t i = first + threadIdx.x;
      if (i < end) mine += loss_of(a, s, order != nullptr ? order[i] : i);
      if (!is_proof && first + kThreads < end) continue;
      total += block_sum(mine, s.scratch);
      mine = 0.0;
      if (is_proof && !(total <= limit)) {
        num_read += first + kThreads < end ? first + kThreads : end;
        return total;
      }
    }
    first = end;
    if (threadIdx.x == 0) s.losses[l] = total / (static_cast<double>(end) * a.examples.terms());
  }
  num_read += first;
  __syncthreads();
  return total;
}

// The next target to test, or the next step of the search.
__device__ Work next_work(const PersistentArguments& a, RaySearch& search, int& num_tested) {
  if (a.center_losses != nullptr) return {{0.0, a.num_levels - 1}, num_tested++ == 0 ? kCenter : kDone};
  while (a.negligible != nullptr && num_tested < a.plan.num_ordered) {
    const int t = a.plan.order[num_tested++];
    const double radius = search.is_running(t) ? search.test_radius(a.negligible[t]) : 0.0;
    if (radius > 0.0) return {{radius, a.plan.targets[t].level}, t};
  }
  Work work{{}, kSearch};
  if (!search.ask(work.probe)) work.target = kDone;
  return work;
}

__global__ void __launch_bounds__(kThreads) persistent_kernel(PersistentArguments a) {
  const Shared s = carve(a);
  const std::int64_t ray = blockIdx.x;
  const float* moves = a.center_losses != nullptr ? nullptr : a.moves + ray * a.stride;
  RaySearch search(a.plan, a.brackets + ray * a.plan.num_targets, a.progress[ray]);
  int num_tested = 0;  // of the targets in order
  while (true) {
    if (threadIdx.x == 0) *s.work = next_work(a, search, num_tested);
    __syncthreads();
    const Work work = *s.work;
    if (work.target == kDone) return;
    set_radius(a, s, moves, work.probe.radius);

    double count = 0.0, limit = 0.0, sum = 0.0;
    bool is_proof = work.target >= 0;
    if (is_proof) {
      const Target& target = a.plan.targets[work.target];
      count = static_cast<double>(a.levels[target.level]) * a.examples.terms();
      limit = target.cutoff * count * (1.0 + 1e-12);  // the sum in another order may differ in its last bits
    }
    std::int64_t num_read = 0;
    while (true) {
      sum = sweep(a, s, work.probe.level, is_proof, limit, num_read);
      if (!is_proof || !(sum <= limit)) break;
      is_proof = false;  // not outside by far: the loss itself decides, in the order of every other evaluation
    }
    if (threadIdx.x == 0) {
      if (work.target == kSearch) {
        search.tell(work.probe, s.losses);
      } else if (work.target >= 0) {
        const double mean = is_proof ? sum / count : s.losses[work.probe.level];
        search.settle(work.target, work.probe.radius, mean, !(mean <= a.plan.targets[work.target].cutoff), num_read);
      } else {
        for (int l = 0; l < a.num_levels; ++l) a.center_losses[l] = s.losses[l];
      }
    }
    __syncthreads();
  }
}

}  // namespace

std::size_t persistent_bytes(const std::vector<LayerView>& layers, int num_levels) {
  std::size_t floats = 0;
  int width = layers.front().inputs;
  for (const LayerView& layer : layers) {
    floats += static_cast<std::size_t>(layer_floats(layer));
    width = std::max(width, padded(layer.outputs));
  }
  floats += 2 * static_cast<std::size_t>(width) * kThreads;
  return header_bytes(num_levels) + floats * sizeof(float);
}

bool is_persistent(std::size_t bytes, std::size_t shared_limit) {
  // Two blocks on a multiprocessor, so that one computes while the other waits at a barrier. Reasoned, not measured.
  return bytes <= shared_limit / 2;
}

void solve_persistent(const PersistentArguments& a, std::size_t bytes, cudaStream_t stream) {
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(persistent_kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
  launch(persistent_kernel, "the kernel persistent", dim3(a.center_losses != nullptr ? 1 : a.num_rays), kThreads, bytes,
         stream, a);
}

}  // namespace cuda
}  // namespace basinvol
