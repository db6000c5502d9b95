#include "cuda/problem.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "cuda/linear.h"
#include "cuda/materialize.h"
#include "cuda/row_table.h"

namespace basinvol {
namespace cuda {

namespace {

// Starts at multiples of four, so that rows whose length is one can be read four floats at a time.
class Packing {
 public:
  std::int64_t add(const Parameter& parameter, std::int64_t size) {
    const std::int64_t at = size_;
    size_ += (size + 3) / 4 * 4;
    if (parameter.values != nullptr) parts_.push_back({parameter.values, at, size});
    return at;
  }
  std::int64_t size() const { return size_; }

  // The values, which lie in host or device memory, and zeros between them.
  DeviceArray<float> on_device(cudaStream_t stream) const {
    DeviceArray<float> packed(static_cast<std::size_t>(size_));
    check(cudaMemsetAsync(packed.data(), 0, packed.size() * sizeof(float), stream), "cudaMemsetAsync");
    for (const Part& part : parts_)
      check(cudaMemcpyAsync(packed.data() + part.at, part.values, static_cast<std::size_t>(part.size) * sizeof(float),
                            cudaMemcpyDefault, stream),
            "cudaMemcpyAsync");
    check(cudaStreamSynchronize(stream), "cudaMemcpyAsync");  // the caller's values may go away
    return packed;
  }

 private:
  struct Part {
    const float* values;
    std::int64_t at, size;
  };
  std::vector<Part> parts_;
  std::int64_t size_ = 0;
};

Segment segment_of(const Parameter& parameter, std::int64_t packed, std::int64_t size) {
  return {packed, parameter.values == nullptr ? -1 : parameter.offset, size};
}

}  // namespace

Problem::Problem(const std::vector<Layer>& layers, Loss loss, const Examples& examples,
                 std::vector<std::int64_t> levels, const ParameterVector& parameters, Precision precision,
                 cudaStream_t stream)
    : levels_(std::move(levels)), precision_(precision), dim_(parameters.dim) {
  Packing packing;
  int width = layers.front().inputs;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const Layer& layer = layers[l];
    const std::int64_t bias = packing.add(layer.bias, layer.outputs);
    const std::int64_t weight =
        l == 0 ? 0 : packing.add(layer.weight, static_cast<std::int64_t>(layer.inputs) * layer.outputs);
    layers_.push_back({layer.inputs, layer.outputs, weight, bias, layer.activation});
    width = std::max(width, layer.outputs);
  }
  rest_size_ = packing.size();
  const Layer& first = layers.front();
  layers_[0].weight = packing.add(first.weight, static_cast<std::int64_t>(first.inputs) * first.outputs);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const std::int64_t size = static_cast<std::int64_t>(layers[l].inputs) * layers[l].outputs;
    segments_.push_back(segment_of(layers[l].bias, layers_[l].bias, layers[l].outputs));
    segments_.push_back(segment_of(layers[l].weight, layers_[l].weight, size));
  }

  const std::int64_t count = levels_.back();
  const int features = first.inputs, outputs = layers.back().outputs;
  device_layers_ = DeviceArray<LayerView>(layers_, stream);
  device_segments_ = DeviceArray<Segment>(segments_, stream);
  center_ = packing.on_device(stream);
  inputs_ = DeviceArray<float>(static_cast<std::size_t>(count) * features);
  inputs_.upload(examples.inputs, inputs_.size(), stream);
  if (loss == Loss::cross_entropy) {
    labels_ = DeviceArray<std::int64_t>(static_cast<std::size_t>(count));
    labels_.upload(examples.labels, labels_.size(), stream);
  } else {
    targets_ = DeviceArray<float>(static_cast<std::size_t>(count) * outputs);
    targets_.upload(examples.targets, targets_.size(), stream);
  }
  scale_ = DeviceArray<float>(static_cast<std::size_t>(dim_));
  scale_.upload(parameters.scale, scale_.size(), stream);
  device_levels_ = DeviceArray<std::int64_t>(levels_, stream);

  std::vector<std::int64_t> offsets(parameters.sizes.size(), 0);
  for (std::size_t i = 1; i < offsets.size(); ++i) offsets[i] = offsets[i - 1] + parameters.sizes[i - 1];
  sizes_ = DeviceArray<std::int64_t>(parameters.sizes, stream);
  offsets_ = DeviceArray<std::int64_t>(offsets, stream);
  largest_tensor_ = *std::max_element(parameters.sizes.begin(), parameters.sizes.end());

  network_ = {device_layers_.data(), static_cast<int>(layers_.size()), width,
              center_.data(),        device_segments_.data(),          static_cast<int>(segments_.size())};
  examples_ = {inputs_.data(), labels_.data(), targets_.data(), features, outputs, loss};
  arrange(std::vector<double>(static_cast<std::size_t>(count), 0.0), stream);
}

void Problem::arrange(const std::vector<double>& hardness, cudaStream_t stream) {
  std::vector<int> rows(hardness.size()), orders;
  std::iota(rows.begin(), rows.end(), 0);
  std::stable_sort(rows.begin(), rows.end(), [&](int a, int b) { return hardness[a] > hardness[b]; });
  for (std::int64_t level : levels_)
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(orders), [&](int row) { return row < level; });
  orders_ = DeviceArray<int>(orders, stream);
  order_of_level_host_.clear();
  const int* next = orders_.data();
  for (std::int64_t level : levels_) {
    order_of_level_host_.push_back(next);
    next += level;
  }
  order_of_level_ = DeviceArray<const int*>(order_of_level_host_, stream);
}

void Problem::compute_base(cudaStream_t stream) {
  if (base_.size() > 0) return;
  const LayerView& first = layers_.front();
  base_ = DeviceArray<float>(static_cast<std::size_t>(count()) * first.outputs);
  const RowTable rows(levels_, 0, stream);
  const DeviceArray<int> slots(std::vector<int>{0}, stream), num_slots(std::vector<int>{1}, stream);
  LinearArguments a{};
  a.product.rays = {slots.data(), num_slots.data(), 1, nullptr};
  a.product.rows = rows.part(0, rows.size());
  a.product.in.values = {inputs_.data(), 0, 0, nullptr};
  a.product.inputs = first.inputs;
  a.product.outputs = first.outputs;
  a.product.weight = center_.data() + first.weight;
  a.product.precision = precision_;
  a.out = base_.data();
  linear(a, stream);
  check(cudaStreamSynchronize(stream), "the kernel linear");  // the row table goes away
}

void Problem::make_moves(const Rays& rays, std::size_t first, int count, float* moves, Progress* progress,
                         cudaStream_t stream) const {
  DeviceArray<std::uint32_t> directions;
  if (rays.normals == nullptr) {
    directions = DeviceArray<std::uint32_t>(static_cast<std::size_t>(count));
    directions.upload(rays.indices.data() + first, static_cast<std::size_t>(count), stream);
    make_normals({rays.seed, directions.data(), count, sizes_.data(), offsets_.data(), static_cast<int>(sizes_.size()),
                  largest_tensor_, moves, move_stride()},
                 stream);
  } else {
    check(cudaMemcpy2DAsync(moves, static_cast<std::size_t>(move_stride()) * sizeof(float),
                            rays.normals + static_cast<std::int64_t>(first) * dim_,
                            static_cast<std::size_t>(dim_) * sizeof(float),
                            static_cast<std::size_t>(dim_) * sizeof(float), static_cast<std::size_t>(count),
                            cudaMemcpyDefault, stream),
          "cudaMemcpy2DAsync");
  }
  normals_to_moves({moves, move_stride(), scale_.data(), dim_, count, progress}, stream);
  check(cudaStreamSynchronize(stream), "make_moves");  // `directions` and the caller's normals may go away
}

DevicePlan::DevicePlan(const std::vector<Target>& targets, const std::vector<int>& order,
                       const SearchSettings& settings, cudaStream_t stream)
    : targets_(targets, stream), order_(order, stream), grid_(settings.grid, stream) {
  plan_ = plan_of(targets, order, settings);
  plan_.targets = targets_.data();
  plan_.order = order_.data();
  plan_.grid = grid_.data();
}

}  // namespace cuda
}  // namespace basinvol
