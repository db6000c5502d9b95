// The losses along one ray: products of the first layer that are kept, and blocks of rows through all other layers.
#include <algorithm>
#include <utility>

#include "cpu/along_ray.h"
#include "cpu/engine.h"
#include "cpu/ray.h"

namespace basinvol {
namespace cpu {

namespace {

// Blocks multiplied together: their inputs and a panel of the first weight stay in L2.
constexpr int kBlocksTogether = 3;

int num_tiles(const Block& block) { return (block.rows + kTileRows - 1) / kTileRows; }

}  // namespace

void Engine::compute_base() {
  const int inputs = mlp_.inputs();
  start_.reserve(mlp_.first_width());
  std::fill_n(start_.data(), mlp_.first_width(), 0.0f);
  if (!rows_.background().empty()) mlp_.multiply_row(rows_.background().data(), mlp_.first(), start_.data());
  base_.reserve(static_cast<std::size_t>(kept_slots_) * mlp_.first_width());
  const std::int64_t num_tiles = kept_slots_ / kTileRows;
#pragma omp parallel for schedule(static) num_threads(num_threads_)
  for (std::int64_t t = 0; t < num_tiles; t += kBlocksTogether) {
    const int tiles = static_cast<int>(std::min<std::int64_t>(kBlocksTogether, num_tiles - t));
    kernels_.multiply_tiles(rows_.tiles(t * kTileRows), tiles, mlp_.first(), inputs, mlp_.first_width(), start_.data(),
                            base_.data() + t * kTileRows * mlp_.first_width());
  }
}

void Engine::begin(Ray& ray, const Rays& rays, std::size_t i) const {
  ray.move.reserve(parameters_.dim);
  ray.first_move.reserve(mlp_.first_size());
  ray.packed_move.reserve(mlp_.rest_size());
  ray.packed.reserve(mlp_.rest_size());
  ray.start.reserve(mlp_.first_width());
  ray.shift.reserve(static_cast<std::size_t>(kept_slots_) * mlp_.first_width());
  ray.has_shift.assign(rows_.blocks().size(), 0);

  ray.unit = aim(kernels_, parameters_, rays, i, ray.move.data());
  mlp_.pack(ray.move.data(), ray.first_move.data(), ray.packed_move.data());
  const Layer& first = mlp_.layers().front();
  std::fill_n(ray.start.data(), mlp_.first_width(), 0.0f);
  if (rows_.background().empty() || first.weight.offset < 0) return;
  const float* move = ray.move.data() + first.weight.offset;
  for (int j = 0; j < first.outputs; ++j) {
    const float* row = move + static_cast<std::size_t>(j) * first.inputs;
    double sum = 0.0;
    for (int k = 0; k < first.inputs; ++k) sum += static_cast<double>(rows_.background()[k]) * row[k];
    ray.start.data()[j] = static_cast<float>(sum);
  }
}

void Engine::set_radius(Ray& ray, double radius) const {
  ray.radius = radius;
  ray.packed.reserve(mlp_.rest_size());
  ray.current.reserve(static_cast<std::size_t>(kBlockRows) * mlp_.width());
  ray.next.reserve(static_cast<std::size_t>(kBlockRows) * mlp_.width());
  if (radius != 0.0)
    kernels_.perturb(mlp_.rest(), ray.packed_move.data(), static_cast<float>(radius),
                     static_cast<std::int64_t>(mlp_.rest_size()), ray.packed.data());
}

bool Engine::is_kept(const Block& block) const { return block.slot + num_tiles(block) * kTileRows <= kept_slots_; }

const float* Engine::base(Ray& ray, const Block& block) const {
  const int tiles = num_tiles(block);
  if (is_kept(block)) return base_.data() + block.slot * mlp_.first_width();
  ray.base_scratch.reserve(static_cast<std::size_t>(kBlockRows) * mlp_.first_width());
  multiply_inputs(ray, block.slot, tiles, mlp_.first(), start_.data(), ray.base_scratch.data());
  return ray.base_scratch.data();
}

// The inputs of some tiles x a packed first weight.
void Engine::multiply_inputs(Ray& ray, std::int64_t slot, int num_tiles, const float* packed, const float* start,
                             float* out) const {
  const Tile* tiles = rows_.tiles(slot);
  for (int t = 0; t < num_tiles; ++t)
    ray.operations += std::int64_t{2} * kTileRows * tiles[t].num_columns * mlp_.first_width();
  kernels_.multiply_tiles(tiles, num_tiles, packed, mlp_.inputs(), mlp_.first_width(), start, out);
}

// Makes the shifts of blocks first .. last - 1 that are kept ready, and returns that of `first`, kept or not.
const float* Engine::shift(Ray& ray, int first_block, int last_block) const {
  const auto& blocks = rows_.blocks();
  const auto multiply = [&](int b, int tiles, float* out) {
    multiply_inputs(ray, blocks[b].slot, tiles, ray.first_move.data(), ray.start.data(), out);
  };
  for (int b = first_block; b < last_block && is_kept(blocks[b]);) {
    int end = b, tiles = 0;
    while (end < last_block && end < b + kBlocksTogether && is_kept(blocks[end]) && !ray.has_shift[end]) {
      tiles += num_tiles(blocks[end]);
      ray.has_shift[end++] = 1;
    }
    if (end > b) multiply(b, tiles, ray.shift.data() + blocks[b].slot * mlp_.first_width());
    b = std::max(end, b + 1);
  }
  if (is_kept(blocks[first_block])) return ray.shift.data() + blocks[first_block].slot * mlp_.first_width();
  ray.shift_scratch.reserve(static_cast<std::size_t>(kBlockRows) * mlp_.first_width());
  multiply(first_block, num_tiles(blocks[first_block]), ray.shift_scratch.data());
  return ray.shift_scratch.data();
}

// What the block after `b` will read from memory, if its first-layer products are ready.
Ahead Engine::after(const Ray& ray, int b) const {
  const auto& blocks = rows_.blocks();
  const std::size_t next = static_cast<std::size_t>(b) + 1;
  if (ray.radius == 0.0 || next >= blocks.size() || !is_kept(blocks[next]) || !ray.has_shift[next]) return {};
  const std::int64_t at = blocks[next].slot * mlp_.first_width();
  return {base_.data() + at, ray.shift.data() + at, std::int64_t{blocks[next].rows} * mlp_.first_width()};
}

// The summed loss of one block at the ray's radius; per_row [kBlockRows].
double Engine::block_loss(Ray& ray, int b, double* per_row) const {
  const Block& block = rows_.blocks()[b];
  const int rows = num_tiles(block) * kTileRows;
  const bool moves = ray.radius != 0.0;
  const float* first = base(ray, block);
  const float* x = outputs(ray, first, moves ? shift(ray, b, b + 1) : nullptr, rows, after(ray, b));
  return kernels_.losses(loss_, targets_.beside(x, block), per_row);
}

// The network's outputs [rows, padded width] from the products of its first layer.
const float* Engine::outputs(Ray& ray, const float* base, const float* shift, int rows, const Ahead& ahead) const {
  const float* parameters = ray.radius != 0.0 ? ray.packed.data() : mlp_.rest();
  kernels_.first_layer(base, shift, static_cast<float>(ray.radius), mlp_.bias(0, parameters), rows, mlp_.first_width(),
                       mlp_.layers()[0].activation, ray.current.data());
  for (std::size_t l = 1; l < mlp_.layers().size(); ++l) {
    const Layer& layer = mlp_.layers()[l];
    kernels_.layer(ray.current.data(), padded(layer.inputs), rows, layer.inputs, mlp_.weight(l, parameters),
                   padded(layer.outputs), mlp_.bias(l, parameters), layer.activation, ray.next.data(),
                   l == 1 ? ahead : Ahead{});
    ray.operations += std::int64_t{2} * rows * layer.inputs * padded(layer.outputs);
    std::swap(ray.current, ray.next);
  }
  return ray.current.data();
}

// Mean losses of the first `num_levels` levels.
void Engine::evaluate(Ray& ray, double radius, int num_levels, double* losses) const {
  set_radius(ray, radius);
  const int num_blocks = rows_.num_blocks(num_levels);
  ray.row_losses.resize(static_cast<std::size_t>(levels_[num_levels - 1]));
  double per_row[kBlockRows];
  for (int b = 0; b < num_blocks; ++b) {
    const Block& block = rows_.blocks()[b];
    if (radius != 0.0 && b % kBlocksTogether == 0 && is_kept(block))
      shift(ray, b, std::min(b + kBlocksTogether, num_blocks));
    block_loss(ray, b, per_row);
    keep(ray, block, per_row);
  }
  average(ray, num_levels, losses);
}

void Engine::keep(Ray& ray, const Block& block, const double* per_row) const {
  for (int j = 0; j < block.rows; ++j) ray.row_losses[rows_.row(block.slot + j)] = per_row[j];
}

// The means of the losses that were kept. Rows are added in the order of the data, however they are arranged.
void Engine::average(const Ray& ray, int num_levels, double* losses) const {
  const int terms = loss_ == Loss::cross_entropy ? 1 : mlp_.outputs();
  std::vector<double> weight;
  for (std::int64_t level : levels_) weight.push_back(static_cast<double>(level) * terms);
  level_means(ray.row_losses.data(), levels_, weight.data(), num_levels, losses);
}

// Whether the target's loss at `radius` is above its cutoff. Losses are not negative, so a partial sum above it is a
// proof; `mean` is the mean loss if the answer is no, and a lower bound of it otherwise. `num_read` counts rows: all of
// them if the losses of the level are known, as after an evaluation.
bool Engine::is_outside(Ray& ray, double radius, const Target& target, double& mean, std::int64_t& num_read) const {
  set_radius(ray, radius);
  const int terms = loss_ == Loss::cross_entropy ? 1 : mlp_.outputs();
  const double count = static_cast<double>(levels_[target.level]) * terms;
  ray.row_losses.resize(static_cast<std::size_t>(levels_[target.level]));
  double per_row[kBlockRows], total = 0.0;
  Proof proof(proof_order_, target.level);
  for (int b; (b = proof.next()) >= 0;) {
    const double found = block_loss(ray, b, per_row);
    keep(ray, rows_.blocks()[b], per_row);
    proof.tell(found);
    total += found;
    num_read += rows_.blocks()[b].rows;
    // Not `total / count > cutoff` alone: the sum in another order may differ in its last bits.
    if (!(total <= target.cutoff * count * (1.0 + 1e-12))) {
      mean = total / count;
      return true;
    }
  }
  std::vector<double> losses(target.level + 1);
  average(ray, target.level + 1, losses.data());  // in the order of every other evaluation
  mean = losses[target.level];
  return !(mean <= target.cutoff);
}

// Writes the products of one slot's inputs with the first weights of the center and of the ray. Where they were not
// kept, those of its whole tile are computed; a row's do not depend on its neighbours.
void Engine::gather(Ray& ray, std::int64_t slot, float* base, float* shift) const {
  const std::int64_t width = mlp_.first_width(), tile = slot / kTileRows * kTileRows;
  if (tile + kTileRows <= kept_slots_) {
    std::copy_n(base_.data() + slot * width, width, base);
    std::copy_n(ray.shift.data() + slot * width, width, shift);
    return;
  }
  ray.base_scratch.reserve(static_cast<std::size_t>(kBlockRows) * width);
  multiply_inputs(ray, tile, 1, mlp_.first(), start_.data(), ray.base_scratch.data());
  std::copy_n(ray.base_scratch.data() + (slot - tile) * width, width, base);
  multiply_inputs(ray, tile, 1, ray.first_move.data(), ray.start.data(), ray.base_scratch.data());
  std::copy_n(ray.base_scratch.data() + (slot - tile) * width, width, shift);
}

// The mean loss of a level at a radius near that of the ray's last evaluation, estimated from a sample of its rows.
double Engine::sample(Ray& ray, double radius, int level, std::int64_t& num_read) const {
  const std::int64_t width = mlp_.first_width();
  const RowSample sample = sample_rows(ray.row_losses, levels_[level]);
  const std::size_t count = sample.rows.size();
  if (count == 0) return kNan;
  set_radius(ray, radius);
  ray.sampled_base.reserve(static_cast<std::size_t>(kBlockRows) * width);
  ray.sampled_shift.reserve(static_cast<std::size_t>(kBlockRows) * width);
  ray.sampled_targets.reserve(kBlockRows, loss_, mlp_.outputs());
  std::vector<double> found(count + kBlockRows);
  for (std::size_t first = 0; first < count; first += kBlockRows) {
    const int rows = static_cast<int>(std::min<std::size_t>(kBlockRows, count - first));
    for (int j = 0; j < rows; ++j) {
      const std::int64_t row = sample.rows[first + j];
      gather(ray, rows_.slot(row), ray.sampled_base.data() + j * width, ray.sampled_shift.data() + j * width);
      ray.sampled_targets.take(j, examples_, row);
    }
    const int whole = static_cast<int>(rounded_up(rows));
    const float* x = outputs(ray, ray.sampled_base.data(), ray.sampled_shift.data(), whole, {});
    kernels_.losses(loss_, ray.sampled_targets.beside(x, {0, rows, level}), found.data() + first);
  }
  num_read = static_cast<std::int64_t>(count);
  const int terms = loss_ == Loss::cross_entropy ? 1 : mlp_.outputs();
  double before = 0.0;
  for (std::int64_t row = 0; row < levels_[level]; ++row) before += ray.row_losses[row];
  return (before + summed_change(sample, center_row_losses_, ray.row_losses, levels_[level], found)) /
         (static_cast<double>(levels_[level]) * terms);
}

}  // namespace cpu
}  // namespace basinvol
