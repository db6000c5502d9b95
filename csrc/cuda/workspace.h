// Device memory of a block of directions on the batched path, and the operations that make up one evaluation of it.
#pragma once

#include "cuda/flight.h"
#include "cuda/linear.h"
#include "cuda/loss_head.h"
#include "cuda/row_table.h"
#include "cuda/search_step.h"

namespace basinvol {
namespace cuda {

constexpr int kChunkBlocks = 64;  // row blocks whose activations are kept at a time: 8,192 rows fill any device

// Rows that are evaluated: how they are cut, where they lie, and where their first-layer products are.
struct RowSource {
  const RowTable* table;
  const int* order;           // nullptr: as the data
  std::int64_t shift_origin;  // row whose shift lies first
};

class Workspace {
 public:
  // `shift_rows`: rows whose first-layer products are kept for every ray.
  Workspace(const Problem& problem, int num_targets, std::size_t capacity, std::int64_t shift_rows, int num_blocks);
  static std::int64_t bytes_per_ray(const Problem& problem, int num_targets, std::int64_t shift_rows, int num_blocks);

  Flight& flight() { return flight_; }
  std::size_t capacity() const { return capacity_; }
  int num_targets() const { return num_targets_; }

  SearchState state(const SearchPlan& plan);
  ActiveRays active(int capacity) const;
  ActiveRays everyone(int capacity) const;  // of the active list, at all levels
  ActiveCount read_active(cudaStream_t stream) const;

  // Inputs x each active ray's first move for some row blocks, into the shift.
  void compute_shift(const RowSource& rows, int first_block, int num_blocks, int num_rays, cudaStream_t stream);

  // The active rays' parameters at their probes.
  void perturb(int num_rays, cudaStream_t stream);

  // The sums of the losses of `num_blocks` row blocks, into partials 0, 1, ..; at the center if the rays have no
  // probes. row_losses [capacity, rows] or nullptr.
  void compute_partials(const RowSource& rows, int first_block, int num_blocks, const ActiveRays& rays,
                        double* row_losses, cudaStream_t stream);

  // Mean losses of the levels from the partials.
  void reduce(const RowSource& rows, const ActiveRays& rays, cudaStream_t stream);

  const double* partials() const { return partials_.data(); }
  std::int64_t partials_stride() const { return partials_stride_; }
  const double* losses() const { return losses_.data(); }
  double* totals() { return totals_.data(); }
  std::int8_t* survived() { return survived_.data(); }
  DeviceArray<Probe>& probes() { return probes_; }
  const DeviceArray<double>& losses_array() const { return losses_; }
  const DeviceArray<std::int8_t>& survived_array() const { return survived_; }
  void forget_survivors(cudaStream_t stream);
  void recall_survivors(const std::int8_t* survived, int num_rays, cudaStream_t stream);

 private:
  static int chunk_blocks(int num_blocks) { return num_blocks < kChunkBlocks ? num_blocks : kChunkBlocks; }
  static std::int64_t activation_floats(const Problem& problem, int num_blocks);
  static int num_activations(const Problem& problem);

  const Problem& problem_;
  int num_targets_;
  std::size_t capacity_;
  Flight flight_;
  std::int64_t shift_stride_, activation_stride_, partials_stride_;
  DeviceArray<float> packed_;          // parameters at the probe [capacity, rest_size]
  DeviceArray<float> shift_;           // inputs x first move [capacity, shift_rows, first width]
  DeviceArray<float> activations_[2];  // of a chunk of rows
  DeviceArray<double> partials_, losses_, totals_;
  DeviceArray<std::int8_t> survived_;
  DeviceArray<Probe> probes_;
  DeviceArray<int> slots_;
  DeviceArray<ActiveCount> active_;
};

}  // namespace cuda
}  // namespace basinvol
