// The radius search of a multilayer perceptron on the CPU: what crosses the boundary, and the engine.
#pragma once

#include <cstdint>
#include <vector>

#include "loss_math.h"
#include "ray_search.h"

namespace basinvol {

// A weight or bias: its values, and where it lies in the flat vector of perturbed parameters.
struct Parameter {
  const float* values = nullptr;  // nullptr: the layer has no bias
  std::int64_t offset = -1;       // -1: not perturbed
};

struct Layer {
  int inputs, outputs;
  Parameter weight;  // [outputs, inputs], row-major as in torch
  Parameter bias;    // [outputs]
  Activation activation;
};

struct Examples {
  std::int64_t count;
  const float* inputs;         // [count, features]
  const std::int64_t* labels;  // [count], cross-entropy
  const float* targets;        // [count, outputs], the others
};

struct ParameterVector {
  const float* scale;               // [dim]
  std::vector<std::int64_t> sizes;  // of the tensors, in order
  std::int64_t dim;
};

struct RayResult {
  std::vector<Bracket> brackets;  // one per target
  int num_evaluations = 0;
};

class MlpRays {
 public:
  MlpRays(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
          ParameterVector parameters, int num_threads);

  // Mean loss of every level at the center.
  const std::vector<double>& center_losses() const { return center_losses_; }

  // Searches directions[i] for all i; `normals` [n, dim] replaces the generator if it is not nullptr.
  std::vector<RayResult> solve(std::uint64_t seed, const std::vector<std::uint32_t>& directions, const float* normals,
                               const std::vector<Target>& targets, const std::vector<int>& order,
                               const SearchSettings& settings, int num_threads) const;

 private:
  struct Ray;  // everything one thread needs for one direction

  void start(Ray& ray, std::uint64_t seed, std::uint32_t direction, const float* normals) const;
  void project(Ray& ray, std::int64_t rows) const;
  void perturb(Ray& ray, double radius) const;
  void evaluate(Ray& ray, double radius, int num_levels, double* losses) const;
  double block_loss(Ray& ray, float radius, std::int64_t first, int rows) const;

  std::vector<Layer> layers_;
  Loss loss_;
  Examples examples_;
  std::vector<std::int64_t> levels_;
  ParameterVector parameters_;
  int width_;                // of the widest layer, padded
  std::vector<float> base_;  // inputs x first weight at the center [count, padded outputs]
  std::vector<double> center_losses_;
};

}  // namespace basinvol
