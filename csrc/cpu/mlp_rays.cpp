#include "mlp_rays.h"

#include <cmath>
#include <exception>
#include <stdexcept>
#include <utility>

#include "cpu/gemm.h"
#include "philox.h"

namespace basinvol {

namespace {

constexpr int kBlockRows = 240;  // a block's activations stay in a 1 MiB L2 cache; a multiple of the tile's rows

}  // namespace

struct MlpRays::Ray {
  std::vector<float> move;                 // scale x direction [dim]
  std::vector<float> shift;                // inputs x move of the first weight [count, padded outputs]
  std::int64_t rows_ready = 0;             // of `shift`
  std::vector<float> first_packed;         // move of the first weight, packed
  std::vector<std::vector<float>> packed;  // center + radius x move of the later layers
  std::vector<std::vector<float>> bias;    // center + radius x move, padded
  std::vector<float> current, next;        // activations of a block of rows
  double unit = 1.0;                       // norm of the Gaussian vector
};

MlpRays::MlpRays(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
                 ParameterVector parameters, int num_threads)
    : layers_(std::move(layers)),
      loss_(loss),
      examples_(examples),
      levels_(std::move(levels)),
      parameters_(std::move(parameters)),
      width_(0) {
  for (const Layer& layer : layers_) width_ = std::max(width_, padded(layer.outputs));

  const Layer& first = layers_.front();
  std::vector<float> packed(static_cast<std::size_t>(padded(first.outputs)) * first.inputs);
  pack_weight(first.weight.values, nullptr, 0.0f, first.outputs, first.inputs, packed.data());
  base_.resize(static_cast<std::size_t>(examples_.count) * padded(first.outputs));
#pragma omp parallel for schedule(static) num_threads(num_threads)
  for (std::int64_t row = 0; row < examples_.count; row += kBlockRows) {
    const int rows = static_cast<int>(std::min<std::int64_t>(kBlockRows, examples_.count - row));
    multiply(examples_.inputs + row * first.inputs, first.inputs, rows, first.inputs, packed.data(), first.outputs,
             base_.data() + row * padded(first.outputs));
  }

  Ray center;
  center_losses_.resize(levels_.size());
  evaluate(center, 0.0, static_cast<int>(levels_.size()), center_losses_.data());
}

std::vector<RayResult> MlpRays::solve(std::uint64_t seed, const std::vector<std::uint32_t>& directions,
                                      const float* normals, const std::vector<Target>& targets,
                                      const std::vector<int>& order, const SearchSettings& settings,
                                      int num_threads) const {
  const std::int64_t count = static_cast<std::int64_t>(directions.size());
  std::vector<RayResult> results(directions.size());
  std::exception_ptr failure;
#pragma omp parallel num_threads(num_threads)
  {
    Ray ray;  // its buffers serve all directions of this thread
    std::vector<double> losses(levels_.size());
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < count; ++i) {
      try {
        start(ray, seed, directions[i], normals == nullptr ? nullptr : normals + i * parameters_.dim);
        RaySearch search(targets, order, settings, ray.unit);
        Probe probe;
        while (search.ask(probe)) {
          evaluate(ray, probe.radius, probe.level + 1, losses.data());
          search.tell(probe, losses.data());
        }
        results[i] = {search.brackets(), search.num_evaluations()};
      } catch (...) {
#pragma omp critical
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
  return results;
}

void MlpRays::start(Ray& ray, std::uint64_t seed, std::uint32_t direction, const float* normals) const {
  ray.move.resize(parameters_.dim);
  if (normals != nullptr) {
    std::copy(normals, normals + parameters_.dim, ray.move.begin());
  } else {
    float* out = ray.move.data();
    for (std::size_t tensor = 0; tensor < parameters_.sizes.size(); ++tensor) {
      philox_normals(seed, direction, static_cast<std::uint32_t>(tensor), parameters_.sizes[tensor], out);
      out += parameters_.sizes[tensor];
    }
  }
  double square = 0.0;
  for (float z : ray.move) square += static_cast<double>(z) * z;
  ray.unit = std::sqrt(square);
  for (std::int64_t i = 0; i < parameters_.dim; ++i)
    ray.move[i] = static_cast<float>(ray.move[i] / ray.unit) * parameters_.scale[i];

  const Layer& first = layers_.front();
  ray.rows_ready = 0;
  ray.first_packed.resize(static_cast<std::size_t>(padded(first.outputs)) * first.inputs);
  const float* move = first.weight.offset < 0 ? nullptr : ray.move.data() + first.weight.offset;
  pack_weight(nullptr, move, 1.0f, first.outputs, first.inputs, ray.first_packed.data());
}

// Extends `shift` to the first `rows` examples; with it, a further radius costs the first layer an axpy.
void MlpRays::project(Ray& ray, std::int64_t rows) const {
  const Layer& first = layers_.front();
  const int width = padded(first.outputs);
  if (ray.shift.empty()) ray.shift.resize(static_cast<std::size_t>(examples_.count) * width);
  for (; ray.rows_ready < rows;) {
    const int block = static_cast<int>(std::min<std::int64_t>(kBlockRows, rows - ray.rows_ready));
    multiply(examples_.inputs + ray.rows_ready * first.inputs, first.inputs, block, first.inputs,
             ray.first_packed.data(), first.outputs, ray.shift.data() + ray.rows_ready * width);
    ray.rows_ready += block;
  }
}

// Biases of all layers and packed weights of all but the first, at center + radius x move.
void MlpRays::perturb(Ray& ray, double radius) const {
  const float r = static_cast<float>(radius);
  ray.packed.resize(layers_.size());
  ray.bias.resize(layers_.size());
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    const bool moves = radius != 0.0;
    ray.bias[l].assign(padded(layer.outputs), 0.0f);
    for (int j = 0; layer.bias.values != nullptr && j < layer.outputs; ++j) {
      ray.bias[l][j] = layer.bias.values[j];
      if (moves && layer.bias.offset >= 0) ray.bias[l][j] += r * ray.move[layer.bias.offset + j];
    }
    if (l == 0) continue;
    ray.packed[l].resize(static_cast<std::size_t>(padded(layer.outputs)) * layer.inputs);
    const float* move = moves && layer.weight.offset >= 0 ? ray.move.data() + layer.weight.offset : nullptr;
    pack_weight(layer.weight.values, move, r, layer.outputs, layer.inputs, ray.packed[l].data());
  }
}

// Mean losses of the first `num_levels` levels. Blocks never straddle a level, and their sums are added in data order.
void MlpRays::evaluate(Ray& ray, double radius, int num_levels, double* losses) const {
  ray.current.resize(static_cast<std::size_t>(kBlockRows) * width_);
  ray.next.resize(ray.current.size());
  if (radius != 0.0) project(ray, levels_[num_levels - 1]);
  perturb(ray, radius);
  const int terms = loss_ == Loss::cross_entropy ? 1 : layers_.back().outputs;
  double total = 0.0;
  std::int64_t first = 0;
  for (int level = 0; level < num_levels; ++level) {
    while (first < levels_[level]) {
      const int rows = static_cast<int>(std::min<std::int64_t>(kBlockRows, levels_[level] - first));
      total += block_loss(ray, static_cast<float>(radius), first, rows);
      first += rows;
    }
    losses[level] = total / (static_cast<double>(levels_[level]) * terms);
  }
}

// The summed loss of `rows` examples.
double MlpRays::block_loss(Ray& ray, float radius, std::int64_t first, int rows) const {
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    const int width = padded(layer.outputs);
    const float* bias = ray.bias[l].data();
    if (l == 0) {
      const float* base = base_.data() + first * width;
      const float* shift = radius != 0.0f ? ray.shift.data() + first * width : nullptr;
      for (std::int64_t i = 0; i < static_cast<std::int64_t>(rows) * width; ++i)
        ray.next[i] = shift != nullptr ? base[i] + radius * shift[i] : base[i];
    } else {
      multiply(ray.current.data(), padded(layer.inputs), rows, layer.inputs, ray.packed[l].data(), layer.outputs,
               ray.next.data());
    }
    for (int i = 0; i < rows; ++i) {
      float* row = ray.next.data() + static_cast<std::int64_t>(i) * width;
      for (int j = 0; j < width; ++j) row[j] = activate(layer.activation, row[j] + bias[j]);
    }
    std::swap(ray.current, ray.next);
  }

  const int outputs = layers_.back().outputs;
  const int width = padded(outputs);
  double sum = 0.0;
  for (int i = 0; i < rows; ++i) {
    const float* x = ray.current.data() + static_cast<std::int64_t>(i) * width;
    if (loss_ == Loss::cross_entropy) {
      sum += cross_entropy(x, outputs, examples_.labels[first + i]);
      continue;
    }
    const float* target = examples_.targets + (first + i) * outputs;
    for (int j = 0; j < outputs; ++j)
      sum += loss_ == Loss::mse ? squared_error(x[j], target[j]) : bce_with_logits(x[j], target[j]);
  }
  return sum;
}

}  // namespace basinvol
