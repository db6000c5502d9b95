// A perceptron's parameters as the kernels read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "boundary.h"
#include "cpu/buffer.h"
#include "cpu/kernels.h"

namespace basinvol {
namespace cpu {

// The first weight apart, because its products are kept; the rest, all biases and later weights, in one piece, so that
// center + radius x move is one pass.
class PackedMlp {
 public:
  PackedMlp(std::vector<Layer> layers, const Kernels& kernels);

  const std::vector<Layer>& layers() const { return layers_; }
  int width() const { return width_; }  // of the widest layer, padded
  int first_width() const { return padded(layers_.front().outputs); }
  int inputs() const { return layers_.front().inputs; }
  int outputs() const { return layers_.back().outputs; }
  const float* first() const { return first_.data(); }  // the center's
  const float* rest() const { return rest_.data(); }
  std::size_t first_size() const { return first_.size(); }
  std::size_t rest_size() const { return rest_size_; }
  const float* bias(std::size_t layer, const float* rest) const { return rest + bias_at_[layer]; }
  const float* weight(std::size_t layer, const float* rest) const { return rest + weight_at_[layer]; }

  // A flat vector of parameters, packed; zeros where a parameter is not in it.
  void pack(const float* flat, float* first, float* rest) const;

  // The same with the center's values where a parameter is not in it.
  void pack_point(const float* flat, float* first, float* rest) const;

  // out [first_width()] = row [inputs()] x a packed first weight.
  void multiply_row(const float* row, const float* first, float* out) const;

 private:
  template <typename ValuesOf>
  void pack_parts(ValuesOf values_of, float* first, float* rest) const;
  void pack_weight(const float* values, const Layer& layer, float* packed) const;

  std::vector<Layer> layers_;
  const Kernels& kernels_;
  int width_ = 0;
  std::vector<std::size_t> weight_at_, bias_at_;
  std::size_t rest_size_ = 0;
  Buffer first_, rest_;
};

}  // namespace cpu
}  // namespace basinvol
