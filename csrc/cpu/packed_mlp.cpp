#include "cpu/packed_mlp.h"

#include <algorithm>
#include <utility>

namespace basinvol {
namespace cpu {

PackedMlp::PackedMlp(std::vector<Layer> layers, const Kernels& kernels)
    : layers_(std::move(layers)), kernels_(kernels) {
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const std::size_t width = padded(layers_[l].outputs);
    width_ = std::max(width_, static_cast<int>(width));
    bias_at_.push_back(rest_size_);
    rest_size_ += width;
    weight_at_.push_back(rest_size_);
    if (l > 0) rest_size_ += width * layers_[l].inputs;
  }
  first_ = Buffer(static_cast<std::size_t>(first_width()) * inputs());
  rest_ = Buffer(rest_size_);
  pack_parts([](const Parameter& parameter) { return parameter.values; }, first_.data(), rest_.data());
}

void PackedMlp::pack(const float* flat, float* first, float* rest) const {
  const auto in_flat = [flat](const Parameter& parameter) {
    return parameter.values == nullptr || parameter.offset < 0 ? nullptr : flat + parameter.offset;
  };
  pack_parts(in_flat, first, rest);
}

void PackedMlp::pack_point(const float* flat, float* first, float* rest) const {
  const auto at_point = [flat](const Parameter& parameter) {
    return parameter.values == nullptr || parameter.offset < 0 ? parameter.values : flat + parameter.offset;
  };
  pack_parts(at_point, first, rest);
}

template <typename ValuesOf>
void PackedMlp::pack_parts(ValuesOf values_of, float* first, float* rest) const {
  pack_weight(values_of(layers_.front().weight), layers_.front(), first);
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    float* bias = rest + bias_at_[l];
    std::fill_n(bias, padded(layers_[l].outputs), 0.0f);
    if (const float* values = values_of(layers_[l].bias)) std::copy_n(values, layers_[l].outputs, bias);
    if (l > 0) pack_weight(values_of(layers_[l].weight), layers_[l], rest + weight_at_[l]);
  }
}

void PackedMlp::pack_weight(const float* values, const Layer& layer, float* packed) const {
  if (values != nullptr)
    kernels_.pack(values, layer.outputs, layer.inputs, packed);
  else
    std::fill_n(packed, static_cast<std::size_t>(padded(layer.outputs)) * layer.inputs, 0.0f);
}

void PackedMlp::multiply_row(const float* row, const float* first, float* out) const {
  std::vector<float> tile(static_cast<std::size_t>(kTileRows) * inputs());
  for (int i = 0; i < kTileRows; ++i) std::copy_n(row, inputs(), tile.data() + static_cast<std::size_t>(i) * inputs());
  const std::vector<float> zeros(first_width(), 0.0f);
  Buffer products(static_cast<std::size_t>(kTileRows) * first_width());
  kernels_.layer(tile.data(), inputs(), kTileRows, inputs(), first, first_width(), zeros.data(), Activation::identity,
                 products.data(), {});
  std::copy_n(products.data(), first_width(), out);
}

}  // namespace cpu
}  // namespace basinvol
