// The rounding of the CUDA engine's products: whether the error of a sum follows its value, on tensor cores that round
// toward zero (fibers/cuda/tensor_core.h). What follows the value is a bias, which no number of rows averages away: it
// moves every loss, and with it every radius, in one direction.
#include <numeric>
#include <random>
#include <string>

#include "cuda/linear.h"
#include "cuda/runtime.h"
#include "problem.h"

using namespace basinvol;

namespace {

constexpr int kRows = cuda::kProductRows, kOutputs = 64;
constexpr double kMostBias = 5e-7;  // P = 1e6 of them move a log-volume by half a nat

// The slope of error against value over all sums, each of `depth` products of normal numbers.
double bias_of(cuda::Precision precision, int depth, bool is_positive) {
  std::mt19937 random(static_cast<unsigned>(depth));
  std::normal_distribution<float> normal;
  std::vector<float> inputs(static_cast<std::size_t>(kRows) * depth),
      weight(static_cast<std::size_t>(kOutputs) * depth);
  for (float& x : inputs) x = is_positive ? std::fabs(normal(random)) : normal(random);
  for (float& x : weight) x = is_positive ? std::fabs(normal(random)) : normal(random);

  const cuda::Stream stream;
  const cuda::DeviceArray<float> device_inputs(inputs, stream), device_weight(weight, stream);
  const cuda::DeviceArray<int> slots(std::vector<int>{0}, stream), count(std::vector<int>{1}, stream);
  const cuda::DeviceArray<cuda::RowBlock> blocks(std::vector<cuda::RowBlock>{{0, kRows, 0}}, stream);
  cuda::DeviceArray<float> device_sums(static_cast<std::size_t>(kRows) * kOutputs);
  const cuda::ProductInputs in{{device_inputs.data(), 0, 0, nullptr}, {}, nullptr, 0, Activation::identity};
  cuda::linear({{{slots.data(), count.data(), 1, nullptr},
                 {blocks.data(), 1},
                 in,
                 depth,
                 kOutputs,
                 device_weight.data(),
                 0,
                 nullptr,
                 0,
                 Activation::identity,
                 precision},
                device_sums.data(),
                0,
                0},
               stream);
  std::vector<float> sums(device_sums.size());
  device_sums.download(sums.data(), sums.size(), stream);

  double product = 0.0, square = 0.0;
  for (int row = 0; row < kRows; ++row) {
    for (int output = 0; output < kOutputs; ++output) {
      const float *x = &inputs[static_cast<std::size_t>(row) * depth],
                  *w = &weight[static_cast<std::size_t>(output) * depth];
      const double value = std::inner_product(x, x + depth, w, 0.0, std::plus<>(), std::multiplies<double>());
      product += (sums[static_cast<std::size_t>(row) * kOutputs + output] - value) * value;
      square += value * value;
    }
  }
  return product / square;
}

}  // namespace

int main() {
  for (const auto& [precision, name] :
       {std::pair{cuda::Precision::fp32, "fp32"}, {cuda::Precision::tf32x3, "tf32x3"}}) {
    for (const int depth : {784, 3072}) {
      for (const bool is_positive : {false, true}) {
        const double bias = bias_of(precision, depth, is_positive);
        std::printf("%s, depth %d, %s terms: bias %+.1e\n", name, depth, is_positive ? "positive" : "mixed", bias);
        expect(std::fabs(bias) < kMostBias, std::string(name) + ": the error of a product follows its value");
      }
    }
  }
  std::printf("%d checks passed\n", num_checks);
}
