// The searches of all rays on the device: what they are told, what they ask, and which rays go on.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/rows.h"
#include "ray_search.h"

namespace basinvol {
namespace cuda {

// The active list and how far it reaches; the host reads it between two passes.
struct ActiveCount {
  int rays;
  int last_level;  // highest level of their probes
};

// By slot, except for the list of slots. Every step ends with the slots of the rays that go on, in order.
struct SearchState {
  SearchPlan plan;
  Bracket* brackets;   // [slots, targets]
  Progress* progress;  // [slots]
  Probe* probes;       // [slots]
  int* slots;
  ActiveCount* active;
};

// What a pass tells the graph that repeats it, if one does.
struct LoopCondition {
  bool is_set;
  unsigned long long handle;  // a cudaGraphConditionalHandle, where the runtime has them
};

// Tells every active ray its losses (`losses` [slots, num_levels]; nullptr: nothing yet) and asks where it wants to be
// evaluated next; rays that are finished leave.
struct SearchStepArguments {
  SearchState state;
  const double* losses;
  int num_levels;
  LoopCondition condition;  // whether any ray goes on
};
void search_step(const SearchStepArguments& arguments, cudaStream_t stream);

// Proofs that a ray ends below a radius under which it cannot matter, for one target at a time.
struct ProofArguments {
  SearchState state;
  int target;
  double negligible;      // its radius
  std::int8_t* survived;  // [slots, targets]: the rows did not prove it
  double* totals;         // [slots]: sum of losses so far
  // Of the rows that were evaluated last:
  const double* partials;  // by slot [row blocks]
  std::int64_t partials_stride;
  int num_blocks;
  double count;            // terms of the target's mean loss
  std::int64_t first_row;  // how many rows were evaluated before
};
// The rays among slots 0 .. num_slots - 1 that are to be tested, with the test's radius as their probe.
void begin_proof(const ProofArguments& arguments, int num_slots, cudaStream_t stream);
// Adds the partial sums in order; rays whose sum is above the cutoff are NEGLIGIBLE and leave.
void continue_proof(const ProofArguments& arguments, cudaStream_t stream);
// Marks the rays that are left: their losses must be evaluated in full.
void end_proof(const ProofArguments& arguments, cudaStream_t stream);

// The rays that survived the proof of one target, with the test's radius as their probe ...
void begin_settlement(const ProofArguments& arguments, int num_slots, cudaStream_t stream);
// ... and, when they have been evaluated in full, what that says. `losses` as above.
struct SettlementArguments {
  SearchState state;
  int target;
  const double* losses;
  int num_levels;
};
void settle(const SettlementArguments& arguments, cudaStream_t stream);

// Slots 0 .. num_slots - 1.
void activate_all(const SearchState& state, int num_slots, cudaStream_t stream);

}  // namespace cuda
}  // namespace basinvol
