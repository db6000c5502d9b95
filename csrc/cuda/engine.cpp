#include "cuda/engine.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "cuda/batched.h"
#include "cuda/flight.h"
#include "cuda/persistent.h"
#include "cuda/problem.h"
#include "cuda/runtime.h"

namespace basinvol {
namespace cuda {

namespace {

Precision precision_named(const std::string& name) {
  if (name == "fp32") return Precision::fp32;
  if (name == "tf32x3") return Precision::tf32x3;
  throw std::invalid_argument("`precision` must be 'fp32' or 'tf32x3', got '" + name +
                              "': less cannot certify a bracket");
}

}  // namespace

class Engine::Impl {
 public:
  Impl(const std::vector<Layer>& layers, Loss loss, const Examples& examples, std::vector<std::int64_t> levels,
       const ParameterVector& parameters, const CudaResources& resources)
      : device_(resources.device),
        problem_(layers, loss, examples, std::move(levels), parameters, precision_named(resources.precision), stream_),
        memory_{resources.memory_budget},
        batched_(problem_, memory_, resources.graph_operations, stream_) {
    const int num_levels = static_cast<int>(problem_.levels().size());
    int shared_limit = 0;
    check(cudaDeviceGetAttribute(&shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device_),
          "cudaDeviceGetAttribute");
    persistent_bytes_ = persistent_bytes(problem_.layers(), num_levels);
    is_persistent_ = is_persistent(persistent_bytes_, static_cast<std::size_t>(shared_limit));
    center_losses_ = is_persistent_ ? persistent_center_losses() : batched_.center_losses();
  }

  int device() const { return device_; }
  std::string path() const {
    if (is_persistent_) return "one block per ray";
    return problem_.precision() == Precision::fp32 ? "batched layers in fp32" : "batched layers in tf32x3";
  }
  const std::vector<double>& center_losses() const { return center_losses_; }

  std::vector<RayResult> solve(const Rays& rays, const std::vector<Target>& targets, const std::vector<int>& order,
                               const SearchSettings& settings, const Prior& prior) {
    const SearchPlan host_plan = plan_of(targets, order, settings);
    const DevicePlan plan(targets, order, settings, stream_);
    if (!is_persistent_) return batched_.solve(rays, host_plan, plan.plan(), prior);
    return solve_persistently(rays, host_plan, plan.plan(), prior);
  }

  void learn_order(const Rays& rays, const std::vector<double>& radii) {
    const std::vector<std::vector<double>> found = batched_.row_losses(rays, radii);
    std::vector<double> hardness(static_cast<std::size_t>(problem_.levels().back()), 0.0);
    for (const auto& losses : found)
      for (std::size_t row = 0; row < losses.size(); ++row)
        hardness[row] += std::isfinite(losses[row]) ? losses[row] : std::numeric_limits<float>::max();
    problem_.arrange(hardness, stream_);
  }

 private:
  PersistentArguments arguments() const {
    PersistentArguments a{};
    a.network = problem_.network();
    a.examples = problem_.examples();
    a.levels = problem_.device_levels();
    a.num_levels = static_cast<int>(problem_.levels().size());
    return a;
  }

  std::vector<double> persistent_center_losses() const {
    std::vector<double> losses(problem_.levels().size());
    DeviceArray<double> on_device(losses.size());
    DeviceArray<Progress> progress(1);
    PersistentArguments a = arguments();
    a.progress = progress.data();
    a.center_losses = on_device.data();
    cuda::solve_persistent(a, persistent_bytes_, stream_);
    on_device.download(losses.data(), losses.size(), stream_);
    return losses;
  }

  std::vector<RayResult> solve_persistently(const Rays& rays, const SearchPlan& host_plan, const SearchPlan& plan,
                                            const Prior& prior) const {
    const DeviceArray<double> negligible(prior.negligible, stream_);
    std::vector<RayResult> results;
    const std::size_t block =
        memory_.rays_that_fit(Flight::bytes_per_ray(problem_, plan.num_targets), rays.indices.size());
    Flight flight(problem_, plan.num_targets, block);
    for (std::size_t first = 0; first < rays.indices.size(); first += block) {
      const int count = static_cast<int>(std::min(block, rays.indices.size() - first));
      flight.begin(rays, first, count, host_plan, prior, stream_);
      PersistentArguments a = arguments();
      a.plan = plan;
      a.moves = flight.moves();
      a.stride = problem_.move_stride();
      a.num_rays = count;
      a.brackets = flight.brackets();
      a.progress = flight.progress();
      a.negligible = prior.negligible.empty() ? nullptr : negligible.data();
      a.hardest_first = problem_.hardest_first();
      cuda::solve_persistent(a, persistent_bytes_, stream_);
      flight.finish(results, stream_);
    }
    return results;
  }

  int device_;
  Stream stream_;
  Problem problem_;
  MemoryPlan memory_;
  BatchedRays batched_;
  std::size_t persistent_bytes_ = 0;
  bool is_persistent_ = false;
  std::vector<double> center_losses_;
};

Engine::Engine(std::vector<Layer> layers, Loss loss, Examples examples, std::vector<std::int64_t> levels,
               ParameterVector parameters, const CudaResources& resources) {
  const DeviceScope scope(resources.device);
  impl_ = std::make_unique<Impl>(layers, loss, examples, std::move(levels), parameters, resources);
}

Engine::~Engine() = default;

const std::vector<double>& Engine::center_losses() const { return impl_->center_losses(); }

std::vector<RayResult> Engine::solve(const Rays& rays, const std::vector<Target>& targets,
                                     const std::vector<int>& order, const SearchSettings& settings,
                                     const Prior& prior) const {
  const DeviceScope scope(impl_->device());
  return impl_->solve(rays, targets, order, settings, prior);
}

void Engine::learn_order(const Rays& rays, const std::vector<double>& radii) {
  const DeviceScope scope(impl_->device());
  impl_->learn_order(rays, radii);
}

std::string Engine::description() const {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, impl_->device()), "cudaGetDeviceProperties");
  return std::string(properties.name) + ", " + impl_->path();
}

}  // namespace cuda
}  // namespace basinvol
