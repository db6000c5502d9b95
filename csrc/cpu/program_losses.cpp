// The losses with which programs end.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu/executor_run.h"
#include "cpu/kernels.h"

namespace basinvol {
namespace cpu {

// outputs [terms, classes] for cross-entropy, [terms] for the others; targets [terms]; class weights [classes].
// sizes: which loss. numbers: ignored label, label smoothing; beta or delta.
void Executor::loss(const Instruction& i, const Run& state) const {
  const Operand &outputs = i.inputs[0], &targets = i.inputs[1], &by_class = i.inputs[2];
  const auto kind = static_cast<TermLoss>(i.sizes[0]);
  Workspace& workspace = state.workspace;
  const float* class_weights = state.read_if(by_class);
  for (int e = 0; e < state.count; ++e) {
    const float* x = state.read(outputs) + e * outputs.example_stride;
    const float* target = state.read(targets) + e * targets.example_stride;
    const std::int64_t terms = outputs.extents[0].size, step = targets.extents[0].stride;
    double total = 0.0;
    if (kind == TermLoss::cross_entropy) {
      const std::int64_t stride = outputs.extents[0].stride;
      const int classes = static_cast<int>(outputs.extents[1].size);
      const float ignored = i.numbers[0], smoothing = i.numbers[1];
      workspace.labels.resize(kBlockRows);
      workspace.row_losses.resize(kBlockRows);
      for (std::int64_t first = 0; first < terms; first += kBlockRows) {
        const int count = static_cast<int>(std::min<std::int64_t>(kBlockRows, terms - first));
        for (int t = 0; t < count; ++t) {
          const float label = target[(first + t) * step];
          workspace.labels[t] = label == ignored ? 0 : static_cast<std::int64_t>(label);
        }
        const float* rows = x + first * stride;
        kernels_.losses(Loss::cross_entropy,
                        {rows, count, static_cast<int>(stride), classes, workspace.labels.data(), nullptr},
                        workspace.row_losses.data());
        for (int t = 0; t < count; ++t) {
          if (target[(first + t) * step] == ignored) continue;
          const std::int64_t label = workspace.labels[t];
          double term = workspace.row_losses[t];
          if (smoothing > 0.0f) {
            const float* row = rows + t * stride;
            double spread = 0.0;
            for (int c = 0; c < classes; ++c) spread += static_cast<double>(row[label]) - row[c];
            term += smoothing * spread / classes;
          }
          total += class_weights == nullptr ? term : term * class_weights[label];
        }
      }
    } else {
      const std::int64_t stride = outputs.extents[0].stride;
      for (std::int64_t t = 0; t < terms; ++t) {
        const double value = x[t * stride], wanted = target[t * step], distance = std::fabs(value - wanted);
        if (kind == TermLoss::bce_with_logits)
          total += (value > 0.0 ? value : 0.0) - value * wanted + std::log1p(std::exp(-std::fabs(value)));
        else if (kind == TermLoss::mse)
          total += distance * distance;
        else if (kind == TermLoss::l1)
          total += distance;
        else  // quadratic up to numbers[0], times numbers[1]
          total += i.numbers[1] * (distance < i.numbers[0] ? 0.5 * distance * distance
                                                           : i.numbers[0] * (distance - 0.5 * i.numbers[0]));
      }
    }
    state.losses[e] = total;
  }
}

}  // namespace cpu
}  // namespace basinvol
