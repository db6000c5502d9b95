// The arrays of a perceptron and its data, kept as long as an engine points into them.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bindings/convert.h"
#include "boundary.h"

namespace basinvol {
namespace bindings {

class MlpArrays {
 public:
  MlpArrays(const py::list& layers, Values<float> inputs, Values<std::int64_t> labels, Values<float> targets,
            Values<float> scale)
      : read_(read_layers(layers)),
        inputs_(std::move(inputs)),
        labels_(std::move(labels)),
        targets_(std::move(targets)),
        scale_(std::move(scale)) {}

  const std::vector<Layer>& layers() const { return read_.layers; }
  Examples examples() const { return {inputs_.data(), labels_.data(), targets_.data()}; }
  ParameterVector parameters(std::vector<std::int64_t> sizes) const {
    return {scale_.data(), std::move(sizes), scale_.size()};
  }

  void refuse_device() const {
    bool is_on_device =
        inputs_.is_on_device() || labels_.is_on_device() || targets_.is_on_device() || scale_.is_on_device();
    for (const Values<float>& values : read_.arrays) is_on_device |= values.is_on_device();
    if (is_on_device) throw std::invalid_argument("this engine reads arrays in host memory, got one on a device");
  }

 private:
  ReadLayers read_;
  Values<float> inputs_;
  Values<std::int64_t> labels_;
  Values<float> targets_, scale_;
};

}  // namespace bindings
}  // namespace basinvol
