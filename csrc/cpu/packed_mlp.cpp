#include "cpu/packed_mlp.h"

#include <algorithm>
#include <utility>

namespace basinvol {
namespace cpu {

PackedMlp::PackedMlp(std::vector<Layer> layers, int panel) : layers_(std::move(layers)), panel_(panel) {
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

// Values [outputs, inputs] as panels: [inputs][panel width], zeros beyond the last output.
void PackedMlp::pack_weight(const float* values, const Layer& layer, float* packed) const {
  const int width = padded(layer.outputs), inputs = layer.inputs;
  if (values == nullptr) {
    std::fill_n(packed, static_cast<std::size_t>(width) * inputs, 0.0f);
    return;
  }
  for (int first = 0; first < width; first += panel_) {
    const int panel = std::min(panel_, width - first);
    float* out = packed + static_cast<std::size_t>(first) * inputs;
    for (int k0 = 0; k0 < inputs; k0 += 16) {  // 16 inputs x a panel of outputs stay in L1 while they are transposed
      const int k1 = std::min(k0 + 16, inputs);
      for (int j = 0; j < panel; ++j) {
        const float* row = values + static_cast<std::size_t>(first + j) * inputs;
        const bool is_real = first + j < layer.outputs;
        for (int k = k0; k < k1; ++k) out[static_cast<std::size_t>(k) * panel + j] = is_real ? row[k] : 0.0f;
      }
    }
  }
}

}  // namespace cpu
}  // namespace basinvol
