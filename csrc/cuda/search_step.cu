#include "cuda/block.h"
#include "cuda/rows.h"
#include "cuda/runtime.h"
#include "cuda/search_step.h"

namespace basinvol {
namespace cuda {

namespace {

constexpr int kThreads = 256;

struct Shared {
  int before[2][kThreads];  // rays that go on, up to a thread
  int levels[kThreads];
};

// Calls goes_on(slot) for each of `count` rays, one thread a ray, and keeps those for which it is true in their order.
// One block: the list is compacted where it lies.
template <typename SlotOf, typename GoesOn>
__device__ void step(const SearchState& state, int count, SlotOf slot_of, GoesOn goes_on) {
  Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
  const int mine = static_cast<int>(threadIdx.x);
  int kept = 0, level = 0;
  for (int first = 0; first < count; first += kThreads) {
    const int slot = first + mine < count ? slot_of(first + mine) : -1;
    const bool stays = slot >= 0 && goes_on(slot);
    if (stays && state.probes[slot].level > level) level = state.probes[slot].level;
    int from = 0;
    shared.before[0][mine] = stays ? 1 : 0;
    __syncthreads();  // also: every slot of these has been read
    for (int distance = 1; distance < kThreads; distance *= 2, from = 1 - from) {
      const int other = mine >= distance ? shared.before[from][mine - distance] : 0;
      shared.before[1 - from][mine] = shared.before[from][mine] + other;
      __syncthreads();
    }
    if (stays) state.slots[kept + shared.before[from][mine] - 1] = slot;
    kept += shared.before[from][kThreads - 1];
    __syncthreads();
  }
  shared.levels[mine] = level;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (mine < half && shared.levels[mine + half] > shared.levels[mine])
      shared.levels[mine] = shared.levels[mine + half];
    __syncthreads();
  }
  if (mine == 0) *state.active = {kept, shared.levels[0]};
}

// The rays of the active list.
struct Listed {
  const int* slots;
  __device__ int operator()(int i) const { return slots[i]; }
};

// All rays.
struct Everyone {
  __device__ int operator()(int i) const { return i; }
};

__device__ RaySearch search_of(const SearchState& state, int slot) {
  return RaySearch(state.plan, state.brackets + static_cast<std::int64_t>(slot) * state.plan.num_targets,
                   state.progress[slot]);
}

__global__ void __launch_bounds__(kThreads) search_step_kernel(SearchStepArguments a) {
  step(a.state, a.state.active->rays, Listed{a.state.slots}, [&](int slot) {
    RaySearch search = search_of(a.state, slot);
    Probe& probe = a.state.probes[slot];
    if (a.losses != nullptr) search.tell(probe, a.losses + static_cast<std::int64_t>(slot) * a.num_levels);
    return search.ask(probe);
  });
#if CUDART_VERSION >= 12040
  if (threadIdx.x == 0 && a.condition.is_set) cudaGraphSetConditional(a.condition.handle, a.state.active->rays > 0);
#endif
}

struct BeginArguments {
  ProofArguments proof;
  int num_slots;
};

template <bool is_settlement>
__global__ void __launch_bounds__(kThreads) begin_proof_kernel(BeginArguments begin) {
  const ProofArguments& a = begin.proof;
  step(a.state, begin.num_slots, Everyone{}, [&](int slot) {
    const std::int64_t at = static_cast<std::int64_t>(slot) * a.state.plan.num_targets + a.target;
    if (is_settlement && a.survived[at] == 0) return false;
    const RaySearch search = search_of(a.state, slot);
    const double radius = search.is_running(a.target) ? search.test_radius(a.negligible) : 0.0;
    a.state.probes[slot] = {radius, a.state.plan.targets[a.target].level};
    if (!is_settlement) a.totals[slot] = 0.0;
    return radius > 0.0;
  });
}

__global__ void __launch_bounds__(kThreads) continue_proof_kernel(ProofArguments a) {
  // The sum in another order may differ in its last bits.
  const double limit = a.state.plan.targets[a.target].cutoff * a.count * (1.0 + 1e-12);
  step(a.state, a.state.active->rays, Listed{a.state.slots}, [&](int slot) {
    double total = a.totals[slot];
    for (int b = 0; b < a.num_blocks; ++b) {
      total += a.partials[slot * a.partials_stride + b];
      if (!(total <= limit)) {
        const std::int64_t whole = a.state.plan.targets[a.target].examples;
        const std::int64_t until = a.first_row + std::int64_t{kProductRows} * (b + 1);
        const std::int64_t num_read = until < whole ? until : whole;
        search_of(a.state, slot).settle(a.target, a.state.probes[slot].radius, total / a.count, true, num_read);
        return false;
      }
    }
    a.totals[slot] = total;
    return true;
  });
}

__global__ void __launch_bounds__(kThreads) end_proof_kernel(ProofArguments a) {
  for (int i = static_cast<int>(threadIdx.x); i < a.state.active->rays; i += kThreads) {
    const int slot = a.state.slots[i];
    a.survived[static_cast<std::int64_t>(slot) * a.state.plan.num_targets + a.target] = 1;
    a.state.progress[slot].num_examples += a.state.plan.targets[a.target].examples;
  }
}

__global__ void __launch_bounds__(kThreads) settle_kernel(SettlementArguments a) {
  const Target target = a.state.plan.targets[a.target];
  for (int i = static_cast<int>(threadIdx.x); i < a.state.active->rays; i += kThreads) {
    const int slot = a.state.slots[i];
    const double loss = a.losses[static_cast<std::int64_t>(slot) * a.num_levels + target.level];
    search_of(a.state, slot)
        .settle(a.target, a.state.probes[slot].radius, loss, !(loss <= target.cutoff), target.examples);
  }
}

struct ActivateArguments {
  SearchState state;
  int num_slots;
};

__global__ void __launch_bounds__(kThreads) activate_all_kernel(ActivateArguments a) {
  for (int i = static_cast<int>(threadIdx.x); i < a.num_slots; i += kThreads) a.state.slots[i] = i;
  if (threadIdx.x == 0) *a.state.active = {a.num_slots, 0};
}

template <typename Arguments>
void launch_step(void (*kernel)(Arguments), const char* name, const Arguments& arguments, cudaStream_t stream) {
  launch(kernel, name, dim3(1), kThreads, sizeof(Shared), stream, arguments);
}

}  // namespace

void search_step(const SearchStepArguments& a, cudaStream_t stream) {
  launch_step(search_step_kernel, "the kernel search_step", a, stream);
}

void begin_proof(const ProofArguments& a, int num_slots, cudaStream_t stream) {
  launch_step(begin_proof_kernel<false>, "the kernel begin_proof", BeginArguments{a, num_slots}, stream);
}

void continue_proof(const ProofArguments& a, cudaStream_t stream) {
  launch_step(continue_proof_kernel, "the kernel continue_proof", a, stream);
}

void end_proof(const ProofArguments& a, cudaStream_t stream) {
  launch_step(end_proof_kernel, "the kernel end_proof", a, stream);
}

void begin_settlement(const ProofArguments& a, int num_slots, cudaStream_t stream) {
  launch_step(begin_proof_kernel<true>, "the kernel begin_settlement", BeginArguments{a, num_slots}, stream);
}

void settle(const SettlementArguments& a, cudaStream_t stream) {
  launch_step(settle_kernel, "the kernel settle", a, stream);
}

void activate_all(const SearchState& state, int num_slots, cudaStream_t stream) {
  launch_step(activate_all_kernel, "the kernel activate_all", ActivateArguments{state, num_slots}, stream);
}

}  // namespace cuda
}  // namespace basinvol
