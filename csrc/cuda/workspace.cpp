#include "cuda/workspace.h"

#include <algorithm>

#include "cuda/materialize.h"
#include "cuda/reduce.h"

namespace basinvol {
namespace cuda {

namespace {

bool first_weight_moves(const Problem& problem) { return problem.segments()[1].flat >= 0; }

std::int64_t shift_floats(const Problem& problem, std::int64_t rows) {
  return first_weight_moves(problem) ? rows * problem.layers().front().outputs : 0;
}

}  // namespace

// Layers between the first, which is computed on the way into the second, and the last, which the loss takes.
int Workspace::num_activations(const Problem& problem) {
  return std::clamp(static_cast<int>(problem.layers().size()) - 2, 0, 2);
}

std::int64_t Workspace::activation_floats(const Problem& problem, int num_blocks) {
  int width = 0;
  for (std::size_t l = 1; l + 1 < problem.layers().size(); ++l) width = std::max(width, problem.layers()[l].outputs);
  return std::int64_t{chunk_blocks(num_blocks)} * kProductRows * width;
}

std::int64_t Workspace::bytes_per_ray(const Problem& problem, int num_targets, std::int64_t shift_rows,
                                      int num_blocks) {
  const std::int64_t floats = problem.rest_size() + shift_floats(problem, shift_rows) +
                              num_activations(problem) * activation_floats(problem, num_blocks);
  const std::int64_t doubles = num_blocks + static_cast<std::int64_t>(problem.levels().size()) + 1;
  return Flight::bytes_per_ray(problem, num_targets) + floats * 4 + doubles * 8 + num_targets +
         static_cast<std::int64_t>(sizeof(Probe) + sizeof(int));
}

Workspace::Workspace(const Problem& problem, int num_targets, std::size_t capacity, std::int64_t shift_rows,
                     int num_blocks)
    : problem_(problem),
      num_targets_(num_targets),
      capacity_(capacity),
      flight_(problem, num_targets, capacity),
      shift_stride_(shift_floats(problem, shift_rows)),
      activation_stride_(activation_floats(problem, num_blocks)),
      partials_stride_(num_blocks),
      packed_(capacity * static_cast<std::size_t>(problem.rest_size())),
      shift_(capacity * static_cast<std::size_t>(shift_stride_)),
      partials_(capacity * static_cast<std::size_t>(num_blocks)),
      losses_(capacity * problem.levels().size()),
      totals_(capacity),
      survived_(capacity * static_cast<std::size_t>(num_targets)),
      probes_(capacity),
      slots_(capacity),
      active_(1) {
  for (int i = 0; i < num_activations(problem); ++i)
    activations_[i] = DeviceArray<float>(capacity * static_cast<std::size_t>(activation_stride_));
}

SearchState Workspace::state(const SearchPlan& plan) {
  return {plan, flight_.brackets(), flight_.progress(), probes_.data(), slots_.data(), active_.data()};
}

ActiveRays Workspace::active(int capacity) const {
  return {slots_.data(), &active_.data()->rays, capacity, probes_.data()};
}

ActiveRays Workspace::everyone(int capacity) const { return {slots_.data(), &active_.data()->rays, capacity, nullptr}; }

ActiveCount Workspace::read_active(cudaStream_t stream) const {
  ActiveCount count;
  active_.download(&count, 1, stream);
  return count;
}

void Workspace::forget_survivors(cudaStream_t stream) {
  check(cudaMemsetAsync(survived_.data(), 0, survived_.size(), stream), "cudaMemsetAsync");
}

void Workspace::recall_survivors(const std::int8_t* survived, int num_rays, cudaStream_t stream) {
  survived_.upload(survived, static_cast<std::size_t>(num_rays) * static_cast<std::size_t>(num_targets_), stream);
}

void Workspace::compute_shift(const RowSource& rows, int first_block, int num_blocks, int num_rays,
                              cudaStream_t stream) {
  if (!first_weight_moves(problem_)) return;
  const LayerView& first = problem_.layers().front();
  LinearArguments a{};
  a.product.rays = everyone(num_rays);
  a.product.rows = rows.table->part(first_block, num_blocks);
  a.product.in.values = {problem_.examples().inputs, 0, 0, rows.order};
  a.product.inputs = first.inputs;
  a.product.outputs = first.outputs;
  a.product.weight = flight_.moves() + problem_.segments()[1].flat;
  a.product.weight_stride = problem_.move_stride();
  a.product.precision = problem_.precision();
  a.out = shift_.data();
  a.out_stride = shift_stride_;
  a.out_origin = rows.shift_origin;
  linear(a, stream);
}

void Workspace::perturb(int num_rays, cudaStream_t stream) {
  std::int64_t largest = 0;
  for (const Segment& segment : problem_.segments())
    if (segment.packed < problem_.rest_size()) largest = std::max(largest, segment.size);
  cuda::perturb({problem_.network(), problem_.rest_size(), flight_.moves(), problem_.move_stride(), packed_.data(),
                 problem_.rest_size(), largest, active(num_rays)},
                stream);
}

void Workspace::compute_partials(const RowSource& rows, int first_block, int num_blocks, const ActiveRays& rays,
                                 double* row_losses, cudaStream_t stream) {
  const auto& layers = problem_.layers();
  const bool is_center = rays.probes == nullptr;
  const float* packed = is_center ? problem_.network().center : packed_.data();
  const std::int64_t stride = is_center ? 0 : problem_.rest_size();
  const LayerView& first = layers.front();

  for (int done = 0; done < num_blocks; done += kChunkBlocks) {
    const int begin = first_block + done, count = std::min(kChunkBlocks, num_blocks - done);
    ProductArguments p{};
    p.rays = rays;
    p.precision = problem_.precision();
    p.rows = rows.table->part(begin, count);
    p.in.values = {problem_.base(), 0, 0, rows.order};
    if (!is_center && first_weight_moves(problem_))
      p.in.shift = {shift_.data(), shift_stride_, rows.shift_origin, nullptr};
    p.in.bias = packed + first.bias;
    p.in.bias_stride = stride;
    p.in.activation = first.activation;
    for (std::size_t l = 1; l < layers.size(); ++l) {
      const LayerView& layer = layers[l];
      p.inputs = layer.inputs;
      p.outputs = layer.outputs;
      p.weight = packed + layer.weight;
      p.bias = packed + layer.bias;
      p.weight_stride = p.bias_stride = stride;
      p.activation = layer.activation;
      if (l + 1 == layers.size()) break;
      float* out = activations_[(l - 1) % 2].data();
      const std::int64_t origin = rows.table->first_row(begin);
      linear({p, out, activation_stride_, origin}, stream);
      p.in = {{out, activation_stride_, origin, nullptr}, {}, nullptr, 0, Activation::identity};
    }
    p.outputs = layers.back().outputs;
    loss_head({p, layers.size() == 1, problem_.examples(), rows.order, partials_.data() + done, partials_stride_,
               row_losses, problem_.count()},
              stream);
  }
}

void Workspace::reduce(const RowSource& rows, const ActiveRays& rays, cudaStream_t stream) {
  cuda::reduce({rays, partials_.data(), partials_stride_, rows.table->device_until(), problem_.device_levels(),
                static_cast<int>(problem_.levels().size()), problem_.examples().terms(), losses_.data()},
               stream);
}

}  // namespace cuda
}  // namespace basinvol
