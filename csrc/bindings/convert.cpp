#include "bindings/convert.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>

using namespace pybind11::literals;

namespace basinvol {
namespace bindings {

Activation activation_named(const std::string& name) {
  if (name == "identity") return Activation::identity;
  if (name == "relu") return Activation::relu;
  if (name == "tanh") return Activation::tanh;
  if (name == "gelu") return Activation::gelu;
  throw std::invalid_argument("unknown activation " + name);
}

Loss loss_named(const std::string& name) {
  if (name == "cross_entropy") return Loss::cross_entropy;
  if (name == "bce_with_logits") return Loss::bce_with_logits;
  if (name == "mse") return Loss::mse;
  throw std::invalid_argument("unknown loss " + name);
}

Search search_named(const std::string& name) {
  if (name == "interpolate") return Search::interpolate;
  if (name == "bisect") return Search::bisect;
  if (name == "grid") return Search::grid;
  throw std::invalid_argument("unknown search " + name);
}

SearchSettings settings_from(const std::string& method, double radius_max, int max_steps, std::vector<double> grid) {
  return {search_named(method), radius_max, max_steps, std::move(grid)};
}

std::vector<Target> make_targets(const std::vector<int>& level, const std::vector<double>& cutoff,
                                 const std::vector<double>& center, const std::vector<double>& guess_radius,
                                 const std::vector<double>& guess_slope, const std::vector<double>& guess_spread,
                                 const std::vector<double>& rtol, const std::vector<int>& relative,
                                 const std::vector<bool>& is_wanted, const std::vector<std::int64_t>& examples) {
  std::vector<Target> targets;
  for (std::size_t t = 0; t < level.size(); ++t) {
    targets.push_back({level[t], cutoff[t], center[t], guess_radius[t], guess_slope[t], guess_spread[t], rtol[t],
                       relative[t], is_wanted[t], examples[t]});
  }
  return targets;
}

ReadLayers read_layers(const py::list& layers) {
  ReadLayers read;
  const auto keep = [&](const Values<float>& array) {
    read.arrays.push_back(array);
    return array.data();
  };
  for (const py::handle& item : layers) {
    const py::dict layer = py::cast<py::dict>(item);
    const auto weight = layer["weight"].cast<Values<float>>();
    Layer next{static_cast<int>(weight.shape(1)),
               static_cast<int>(weight.shape(0)),
               {},
               {},
               activation_named(layer["activation"].cast<std::string>())};
    next.weight = {keep(weight), layer["weight_offset"].cast<std::int64_t>()};
    if (!layer["bias"].is_none())
      next.bias = {keep(layer["bias"].cast<Values<float>>()), layer["bias_offset"].cast<std::int64_t>()};
    read.layers.push_back(next);
  }
  return read;
}

py::dict to_arrays(const std::vector<RayResult>& results, std::size_t num_targets) {
  const py::ssize_t t_count = num_targets, n = results.size();
  Array<double> lower({t_count, n}), upper({t_count, n}), value_lower({t_count, n}), value_upper({t_count, n}),
      slope({t_count, n});
  Array<std::int8_t> status({t_count, n});
  Array<std::int64_t> evaluations(n), examples(n);
  for (py::ssize_t i = 0; i < n; ++i) {
    evaluations.mutable_at(i) = results[i].num_evaluations;
    examples.mutable_at(i) = results[i].num_examples;
    for (py::ssize_t t = 0; t < t_count; ++t) {
      const Bracket& b = results[i].brackets[t];
      lower.mutable_at(t, i) = b.lower;
      upper.mutable_at(t, i) = b.upper;
      value_lower.mutable_at(t, i) = b.value_lower;
      value_upper.mutable_at(t, i) = b.value_upper;
      slope.mutable_at(t, i) = b.slope;
      status.mutable_at(t, i) = b.status;
    }
  }
  return py::dict("lower"_a = lower, "upper"_a = upper, "value_lower"_a = value_lower, "value_upper"_a = value_upper,
                  "slope"_a = slope, "status_code"_a = status, "num_evaluations"_a = evaluations,
                  "num_examples"_a = examples);
}

std::vector<std::vector<Bracket>> to_brackets(const py::dict& arrays) {
  const auto read = [&](const char* name) { return arrays[name].cast<Array<double>>(); };
  const auto lower = read("lower"), upper = read("upper"), value_lower = read("value_lower"),
             value_upper = read("value_upper"), slope = read("slope");
  const auto status = arrays["status_code"].cast<Array<std::int8_t>>();
  std::vector<std::vector<Bracket>> brackets(lower.shape(1), std::vector<Bracket>(lower.shape(0)));
  for (py::ssize_t i = 0; i < lower.shape(1); ++i) {
    for (py::ssize_t t = 0; t < lower.shape(0); ++t) {
      brackets[i][t] = {lower.at(t, i), upper.at(t, i), value_lower.at(t, i), value_upper.at(t, i), slope.at(t, i), 0,
                        status.at(t, i)};
    }
  }
  return brackets;
}

py::tuple to_table(const std::vector<RayResult>& results, std::size_t num_levels) {
  std::size_t count = 0;
  for (const RayResult& result : results) count += result.trace.values().size() / (1 + num_levels);
  Array<double> table({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(1 + num_levels)});
  Array<std::int64_t> ray(static_cast<py::ssize_t>(count));
  double* next = table.mutable_data();
  std::int64_t* next_ray = ray.mutable_data();
  for (std::size_t i = 0; i < results.size(); ++i) {
    const std::vector<double>& values = results[i].trace.values();
    next = std::copy(values.begin(), values.end(), next);
    next_ray = std::fill_n(next_ray, values.size() / (1 + num_levels), static_cast<std::int64_t>(i));
  }
  return py::make_tuple(ray, table);
}

}  // namespace bindings
}  // namespace basinvol
