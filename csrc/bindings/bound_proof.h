// In which order proofs read batches of units, for the engine whose losses torch computes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "bindings/convert.h"
#include "cpu/proof_order.h"

namespace basinvol {
namespace bindings {

// Batches of the units 0 .. num_units - 1, and the order of them.
class BoundProofOrder {
 public:
  // `found`: losses of at least so many units on some rays [rays, units]; `classes` [units], or none of them.
  BoundProofOrder(const Array<double>& found, std::vector<int> classes, int num_classes, std::int64_t num_units,
                  std::int64_t batch_size) {
    std::vector<std::vector<double>> of_ray;
    for (py::ssize_t ray = 0; ray < found.shape(0); ++ray)
      of_ray.emplace_back(found.data(ray), found.data(ray) + num_units);
    cpu::Hardness hardness{cpu::expected_losses(of_ray, static_cast<std::size_t>(num_units)), std::move(classes),
                           num_classes};
    if (!cpu::are_by_class(hardness, num_units, batch_size)) hardness = {std::move(hardness.losses), {}, 0};
    std::vector<std::int64_t> units;
    for (const auto& run : cpu::hardest_first(hardness, 0, num_units, batch_size))
      units.insert(units.end(), run.begin(), run.end());
    order_ = cpu::ProofOrder(hardness.num_classes);
    const auto size = static_cast<std::size_t>(batch_size);
    for (std::size_t first = 0; first < units.size(); first += size) {
      const auto begin = units.begin() + static_cast<std::ptrdiff_t>(first);
      const auto count = static_cast<std::ptrdiff_t>(std::min(size, units.size() - first));
      batches_.emplace_back(begin, begin + count);
      order_.add(static_cast<int>(batches_.size()) - 1, 0, batches_.back(), hardness);
    }
    order_.sort();
  }

  const std::vector<std::vector<std::int64_t>>& batches() const { return batches_; }
  cpu::Proof proof() const { return {order_, 0}; }

 private:
  cpu::ProofOrder order_;
  std::vector<std::vector<std::int64_t>> batches_;
};

}  // namespace bindings
}  // namespace basinvol
