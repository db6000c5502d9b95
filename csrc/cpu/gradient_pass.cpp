#include "cpu/gradient_pass.h"

#include <algorithm>

namespace basinvol {
namespace cpu {

namespace {

constexpr int kBlocksTogether = 3;  // whose inputs are multiplied at a time: they and a panel of weights stay in L2

int num_tiles(const Block& block) { return (block.rows + kTileRows - 1) / kTileRows; }

std::size_t gradient_size(const Layer& layer) {
  return static_cast<std::size_t>(padded(layer.outputs)) * rounded_up(layer.inputs);
}

bool is_perturbed(const Parameter& parameter) { return parameter.values != nullptr && parameter.offset >= 0; }

}  // namespace

std::size_t lowest_perturbed(const std::vector<Layer>& layers) {
  std::size_t l = 0;
  while (l + 1 < layers.size() && !is_perturbed(layers[l].weight) && !is_perturbed(layers[l].bias)) ++l;
  return l;
}

PackedPoint::PackedPoint(const PointProblem& problem)
    : problem_(problem),
      first_(problem.mlp.first_size()),
      rest_(problem.mlp.rest_size()),
      start_(problem.mlp.first_width()) {
  std::size_t size = 0;
  for (const Layer& layer : problem.mlp.layers()) {
    transposed_at_.push_back(size);
    if (transposed_at_.size() > 1) size += static_cast<std::size_t>(padded(layer.inputs)) * layer.outputs;
  }
  transposed_ = Buffer(size);
}

void PackedPoint::move_to(const float* center, const ParameterVector& parameters, const double* point,
                          bool with_gradient) {
  const PackedMlp& mlp = problem_.mlp;
  flat_.reserve(parameters.dim);
  problem_.gradient_kernels.place(center, parameters.scale, point, parameters.dim, flat_.data());
  mlp.pack_point(flat_.data(), first_.data(), rest_.data());
  if (problem_.rows.background().empty())
    std::fill_n(start_.data(), mlp.first_width(), 0.0f);
  else
    mlp.multiply_row(problem_.rows.background().data(), first_.data(), start_.data());
  if (!with_gradient) return;
  for (std::size_t l = lowest_perturbed(mlp.layers()) + 1; l < mlp.layers().size(); ++l) {
    const Layer& layer = mlp.layers()[l];
    const float* weight = layer.weight.offset < 0 ? layer.weight.values : flat_.data() + layer.weight.offset;
    problem_.gradient_kernels.pack_inputs(weight, layer.outputs, layer.inputs, transposed_.data() + transposed_at_[l]);
  }
}

void PackedPoint::move_in_plane(const float* center, const ParameterVector& parameters, const double* point,
                                const double* partner, double first, double second) {
  combined_.resize(static_cast<std::size_t>(parameters.dim));
  for (std::size_t i = 0; i < combined_.size(); ++i) combined_[i] = first * point[i] + second * partner[i];
  move_to(center, parameters, combined_.data(), false);
}

GradientPass::GradientPass(const PointProblem& problem)
    : problem_(problem), lowest_(lowest_perturbed(problem.mlp.layers())) {
  const PackedMlp& mlp = problem.mlp;
  constexpr std::size_t block_rows = kBlockRows, beyond = kTileRows;  // products read a tile beyond the last value
  const std::size_t width = mlp.width();
  std::size_t size = 0;
  for (std::size_t l = 0; l < mlp.layers().size(); ++l) {
    const Layer& layer = mlp.layers()[l];
    const std::size_t values = block_rows * padded(layer.outputs) + beyond;
    const bool has_inputs = keeps_input(layer.activation);
    values_.emplace_back(l > 0 || has_inputs ? values : 0);
    inputs_.emplace_back(l > 0 && has_inputs ? values : 0);
    bias_at_.push_back(size);
    size += padded(layer.outputs);
    weight_at_.push_back(size);
    if (l > 0) size += gradient_size(layer);
  }
  first_weight_at_ = weight_at_[0] = size;
  gradient_ = Buffer(size + gradient_size(mlp.layers().front()));
  front_ = Buffer(kPassBlocks * block_rows * mlp.first_width() + beyond);
  above_ = Buffer(block_rows * width);
  below_ = Buffer(block_rows * width);
  zeros_ = Buffer(width);
  std::fill_n(zeros_.data(), width, 0.0f);
}

double GradientPass::run(const PackedPoint& point, int first_block, int last_block, bool with_gradient,
                         double* row_losses) {
  const PackedMlp& mlp = problem_.mlp;
  const std::vector<Block>& blocks = problem_.rows.blocks();
  const std::int64_t first_slot = blocks[first_block].slot;
  const std::int64_t width = mlp.first_width();
  if (with_gradient) std::fill_n(gradient_.data(), first_weight_at_, 0.0f);
  double per_row[kBlockRows], sum = 0.0;
  int tiles_ready = 0, tiles = 0;
  for (int b = first_block; b < last_block; ++b) {
    const Block& block = blocks[b];
    float* front = front_.data() + (block.slot - first_slot) * width;
    if (tiles == tiles_ready) {
      for (int next = b; next < std::min(b + kBlocksTogether, last_block); ++next)
        tiles_ready += num_tiles(blocks[next]);
      multiply_inputs(point, block.slot, tiles_ready - tiles, front);
    }
    tiles += num_tiles(block);
    const int rows = num_tiles(block) * kTileRows;
    forward(point, rows, front);
    const Outputs outputs = problem_.targets.beside(values(mlp.layers().size() - 1, front), block);
    problem_.kernels.losses(problem_.loss, outputs, per_row);
    for (int i = 0; i < block.rows; ++i) {
      row_losses[problem_.rows.row(block.slot + i)] = per_row[i];
      sum += per_row[i];
    }
    if (with_gradient) backward(point, block, rows, front);
  }
  const Layer& first = mlp.layers().front();
  if (!with_gradient || !is_perturbed(first.weight)) return sum;
  const std::vector<float>& background = problem_.rows.background();
  const Tile* all = problem_.rows.tiles(first_slot);
  for (int t = 0; t < tiles; ++t) operations_ += std::int64_t{2} * kTileRows * all[t].num_columns * width;
  problem_.gradient_kernels.multiply_tiles_transposed(all, tiles, background.empty() ? nullptr : background.data(),
                                                      first.inputs, front_.data(), bias_gradient(0),
                                                      static_cast<int>(width), weight_gradient(0));
  return sum;
}

// The inputs of some tiles x the first weight.
void GradientPass::multiply_inputs(const PackedPoint& point, std::int64_t slot, int num_tiles, float* out) {
  const PackedMlp& mlp = problem_.mlp;
  const Tile* tiles = problem_.rows.tiles(slot);
  for (int t = 0; t < num_tiles; ++t)
    operations_ += std::int64_t{2} * kTileRows * tiles[t].num_columns * mlp.first_width();
  problem_.kernels.multiply_tiles(tiles, num_tiles, point.first(), mlp.inputs(), mlp.first_width(), point.start(), out);
}

// All layers of a block; `front` has the products of the first one, and is left with its activations or their inputs.
void GradientPass::forward(const PackedPoint& point, int rows, float* front) {
  const PackedMlp& mlp = problem_.mlp;
  for (std::size_t l = 0; l < mlp.layers().size(); ++l) {
    const Layer& layer = mlp.layers()[l];
    const int width = padded(layer.outputs);
    const bool has_inputs = keeps_input(layer.activation);
    const Activation activation = has_inputs ? Activation::identity : layer.activation;
    const float* bias = mlp.bias(l, point.rest());
    float* out = l == 0 ? front : has_inputs ? inputs_[l].data() : values_[l].data();
    if (l == 0) {
      problem_.kernels.first_layer(front, nullptr, 0.0f, bias, rows, width, activation, out);
    } else {
      problem_.kernels.layer(values(l - 1, front), padded(layer.inputs), rows, layer.inputs,
                             mlp.weight(l, point.rest()), width, bias, activation, out, {});
      operations_ += std::int64_t{2} * rows * layer.inputs * width;
    }
    if (has_inputs)
      problem_.gradient_kernels.activate(layer.activation, out, std::int64_t{rows} * width, values_[l].data());
  }
}

// The block's part of all gradients but that of the first weight, for which `front` is left with the derivatives by the
// first layer's products.
void GradientPass::backward(const PackedPoint& point, const Block& block, int rows, float* front) {
  const PackedMlp& mlp = problem_.mlp;
  const GradientKernels& kernels = problem_.gradient_kernels;
  const std::size_t last = mlp.layers().size() - 1;
  const Outputs outputs = problem_.targets.beside(values(last, front), block);
  kernels.loss_derivatives(problem_.loss, outputs, rows, above_.data());
  for (std::size_t l = last;; --l) {
    const Layer& layer = mlp.layers()[l];
    const int width = padded(layer.outputs), width_below = padded(layer.inputs);
    float* below = l == 0 ? front : below_.data();
    kernels.through_activation(layer.activation, derivative_of(l, front), above_.data(), std::int64_t{rows} * width,
                               below);
    kernels.add_rows(below, rows, width, bias_gradient(l));
    if (l > 0 && is_perturbed(layer.weight)) {
      kernels.add_products(values(l - 1, front), width_below, rows, layer.inputs, below, width, weight_gradient(l));
      operations_ += std::int64_t{2} * rows * layer.inputs * width;
    }
    if (l == lowest_) return;
    problem_.kernels.layer(below, width, rows, layer.outputs, point.transposed(l), width_below, zeros_.data(),
                           Activation::identity, above_.data(), {});
    operations_ += std::int64_t{2} * rows * layer.outputs * width_below;
  }
}

void GradientPass::add_gradient(const float* scale, double factor, double* out) const {
  const std::vector<Layer>& layers = problem_.mlp.layers();
  for (std::size_t l = lowest_; l < layers.size(); ++l) {
    const Layer& layer = layers[l];
    const std::int64_t weight = layer.weight.offset, bias = layer.bias.offset;
    if (is_perturbed(layer.weight))
      problem_.gradient_kernels.add_weight(gradient_.data() + weight_at_[l], scale + weight, factor, layer.outputs,
                                           layer.inputs, out + weight);
    if (is_perturbed(layer.bias))
      problem_.gradient_kernels.add_bias(gradient_.data() + bias_at_[l], scale + bias, factor, layer.outputs,
                                         out + bias);
  }
}

std::int64_t GradientPass::take_operations() {
  const std::int64_t found = operations_;
  operations_ = 0;
  return found;
}

// What a layer passes on.
const float* GradientPass::values(std::size_t layer, const float* front) const {
  return layer == 0 && !keeps_input(problem_.mlp.layers()[0].activation) ? front : values_[layer].data();
}

// What the derivative of a layer's activation is computed from.
const float* GradientPass::derivative_of(std::size_t layer, const float* front) const {
  if (layer == 0) return front;
  return keeps_input(problem_.mlp.layers()[layer].activation) ? inputs_[layer].data() : values_[layer].data();
}

}  // namespace cpu
}  // namespace basinvol
