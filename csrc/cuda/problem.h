// A perceptron, its examples and its directions on the device, for the life of an engine.
#pragma once

#include <cstdint>
#include <vector>

#include "boundary.h"
#include "cuda/network.h"
#include "cuda/product_arguments.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

class Problem {
 public:
  Problem(const std::vector<Layer>& layers, Loss loss, const Examples& examples, std::vector<std::int64_t> levels,
          const ParameterVector& parameters, Precision precision, cudaStream_t stream);

  const std::vector<LayerView>& layers() const { return layers_; }
  const std::vector<Segment>& segments() const { return segments_; }
  const std::vector<std::int64_t>& levels() const { return levels_; }
  const NetworkView& network() const { return network_; }
  const ExamplesView& examples() const { return examples_; }
  const std::int64_t* device_levels() const { return device_levels_.data(); }
  Precision precision() const { return precision_; }
  std::int64_t dim() const { return dim_; }
  std::int64_t move_stride() const { return (dim_ + 3) / 4 * 4; }  // floats from one ray's moves to the next
  std::int64_t rest_size() const { return rest_size_; }            // packed parameters without the first weight
  std::int64_t count() const { return levels_.back(); }

  // The inputs times the center's first weight [count, first width], once.
  const float* base() const { return base_.data(); }
  void compute_base(cudaStream_t stream);

  // By level, its rows in the order in which proofs take them; at first that of the data.
  const int* const* hardest_first() const { return order_of_level_.data(); }
  const int* hardest_first(int level) const { return order_of_level_host_[level]; }
  void arrange(const std::vector<double>& hardness, cudaStream_t stream);

  // The moves of rays first .. first + count - 1 [count, move_stride], and the norms into `progress` [count].
  void make_moves(const Rays& rays, std::size_t first, int count, float* moves, Progress* progress,
                  cudaStream_t stream) const;

 private:
  std::vector<LayerView> layers_;
  std::vector<Segment> segments_;
  std::vector<std::int64_t> levels_;
  Precision precision_;
  std::int64_t dim_ = 0, rest_size_ = 0, largest_tensor_ = 0;
  NetworkView network_{};
  ExamplesView examples_{};

  DeviceArray<LayerView> device_layers_;
  DeviceArray<Segment> device_segments_;
  DeviceArray<float> center_, inputs_, targets_, scale_, base_;
  DeviceArray<std::int64_t> labels_, device_levels_, sizes_, offsets_;
  DeviceArray<int> orders_;  // level after level
  std::vector<const int*> order_of_level_host_;
  DeviceArray<const int*> order_of_level_;
};

// The plan of a search, copied to the device.
class DevicePlan {
 public:
  DevicePlan(const std::vector<Target>& targets, const std::vector<int>& order, const SearchSettings& settings,
             cudaStream_t stream);
  const SearchPlan& plan() const { return plan_; }

 private:
  DeviceArray<Target> targets_;
  DeviceArray<int> order_;
  DeviceArray<double> grid_;
  SearchPlan plan_;
};

}  // namespace cuda
}  // namespace basinvol
