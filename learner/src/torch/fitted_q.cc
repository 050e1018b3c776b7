#include "fitted_q.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <utility>

#include "algorithm.h"
#include "fuseline/core/random.h"
#include "torch/baselines.h"
#include "torch/catch_torch.h"
#include "torch/compute.h"
#include "torch/networks.h"

namespace fuseline {
namespace {

struct Shape {
  std::int64_t items, state, action;
};

DenseEnsemble NetworkOf(const v1::Learner& settings, const Shape& shape) {
  std::vector<std::int64_t> widths{shape.state + shape.action};
  for (const std::int64_t width : SizesOf(settings).hidden) widths.push_back(width);
  widths.push_back(1);
  return DenseEnsemble(1, std::move(widths));
}

// Lists on the device: pairs [n, L, W + D] and mask [n, L].
struct Pairs {
  at::Tensor inputs, mask;

  Pairs Of(const at::Tensor& index) const { return {inputs.index_select(0, index), mask.index_select(0, index)}; }
};

Pairs OnDevice(const Shape& shape, const std::vector<float>& state, const std::vector<float>& action, const std::vector<float>& mask,
               at::Device device) {
  const std::int64_t n = Size(mask.size()) / shape.items;
  return {at::cat({FromHost(state, {n, shape.items, shape.state}, device), FromHost(action, {n, shape.items, shape.action}, device)}, -1),
          FromHost(mask, {n, shape.items}, device)};
}

at::Tensor ListValues(const DenseEnsemble& net, const at::Tensor& parameters, const Pairs& pairs) {
  const at::Tensor q = net.Forward(parameters, pairs.inputs.flatten(0, 1)).view(pairs.mask.sizes());
  return (q * pairs.mask).sum(-1);
}

class TorchFittedQ final : public FittedQ {
 public:
  TorchFittedQ(DenseEnsemble net, Shape shape, at::Device device, at::Tensor parameters)
      : net_(std::move(net)), shape_(shape), device_(device), parameters_(std::move(parameters)) {}

  Result<std::vector<double>> Values(const ActedLists& lists) const override {
    return CatchTorch("fitted Q:", [&]() -> Result<std::vector<double>> {
      const at::NoGradGuard no_gradient;
      if (lists.mask.empty()) return std::vector<double>();
      const std::vector<float> values =
          ToHost(ListValues(net_, parameters_, OnDevice(shape_, lists.state, lists.action, lists.mask, device_))).values;
      return std::vector<double>(values.begin(), values.end());
    });
  }

 private:
  const DenseEnsemble net_;
  const Shape shape_;
  const at::Device device_;
  const at::Tensor parameters_;
};

// One update of `parameters` by a batch; false when it is not finite.
bool Descend(at::Tensor& parameters, FlatAdam& adam, double rate, const std::function<at::Tensor(const at::Tensor&)>& loss) {
  const at::Tensor moved = parameters.detach().requires_grad_();
  const at::Tensor value = loss(moved);
  if (!std::isfinite(value.item<double>())) return false;
  const at::Tensor gradient = torch::autograd::grad({value}, {moved})[0];
  if (!std::isfinite(gradient.norm().item<double>())) return false;
  return adam.Update({parameters, adam.first, adam.second}, gradient, /*scale=*/1, rate, parameters);
}

Result<std::unique_ptr<FittedQ>> FitOnTorch(const v1::Config& config, const EvaluationTransitions& t, const FitOptions& options) {
  FUSELINE_ASSIGN_OR_FAIL(const Compute compute, ChooseCompute(config.learner()));
  const v1::Evaluation& settings = config.evaluation();
  const Shape shape{Size(t.items), Size(t.state_width), Size(t.action_width)};
  DenseEnsemble net = NetworkOf(config.learner(), shape);
  const Pairs logged = OnDevice(shape, t.logged.state, t.logged.action, t.logged.mask, compute.device);
  const Pairs judged = OnDevice(shape, t.logged.state, t.judged_action, t.logged.mask, compute.device);
  const Pairs next = OnDevice(shape, t.next.state, t.next.action, t.next.mask, compute.device);
  const at::Tensor reward = FromHost(t.reward, {Size(t.count)}, compute.device);

  const std::uint64_t seed = config.fuseline().seed();
  at::Tensor parameters = net.Initial(seed, options.purpose).to(compute.device), target = parameters.clone();
  FlatAdam adam(parameters);
  std::vector<std::int64_t> drawn(static_cast<std::size_t>(settings.fqe_batch()));
  for (std::int64_t step = 0; step < settings.fqe_steps(); ++step) {
    Random random(seed, options.purpose + " batch", static_cast<std::uint64_t>(step));
    for (std::int64_t& index : drawn) index = Size(random.NextBelow(t.count));
    const at::Tensor index = at::from_blob(drawn.data(), {Size(drawn.size())}, at::kLong).to(compute.device);
    at::Tensor goal = reward.index_select(0, index);
    if (options.gamma > 0) {
      const at::NoGradGuard no_gradient;
      goal = goal + options.gamma * ListValues(net, target, next.Of(index));
    }
    const auto loss = [&](const at::Tensor& moved) {
      const at::Tensor done = ListValues(net, moved, logged.Of(index));
      const double alpha = options.conservative_weight;
      return FittedQLoss(done, alpha > 0 ? ListValues(net, moved, judged.Of(index)) : at::Tensor(), goal, alpha);
    };
    if (!Descend(parameters, adam, settings.fqe_rate(), loss))
      return Error(Code::kInternal, "a fitted Q is not finite at step", step);
    target.lerp_(parameters, settings.fqe_soft_update());
  }
  return std::make_unique<TorchFittedQ>(std::move(net), shape, compute.device, parameters);
}

}  // namespace

Result<std::unique_ptr<FittedQ>> FittedQ::Fit(const v1::Config& config, const EvaluationTransitions& transitions,
                                              const FitOptions& options) {
  if (transitions.count == 0) return Error(Code::kInvalidInput, "there is no transition to fit a value to");
  return CatchTorch("fitted Q:", [&] { return FitOnTorch(config, transitions, options); });
}

}  // namespace fuseline
