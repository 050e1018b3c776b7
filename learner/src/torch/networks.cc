#include "torch/networks.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "fuseline/core/random.h"
#include "torch/cpu_ensemble.h"

namespace fuseline {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// CpuEnsemble as one node of the graph.
struct CpuEnsembleNode : public torch::autograd::Function<CpuEnsembleNode> {
  struct Ensemble : torch::CustomClassHolder {
    explicit Ensemble(std::shared_ptr<const CpuEnsemble> from) : ensemble(std::move(from)) {}
    std::shared_ptr<const CpuEnsemble> ensemble;
  };

  static Variable forward(AutogradContext* context, const Variable& parameters, const Variable& x, const Variable& more,
                          const std::shared_ptr<const CpuEnsemble>& ensemble) {
    CpuEnsemble::Tape tape;
    Variable y = ensemble->Forward(parameters, x, more, &tape);
    context->save_for_backward({parameters, tape.input, tape.hidden});
    context->saved_data["ensemble"] = c10::IValue::make_capsule(c10::make_intrusive<Ensemble>(ensemble));
    context->saved_data["split"] = x.size(1);
    context->saved_data["end"] = x.size(1) + more.size(1);
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& outputs) {
    const variable_list saved = context->get_saved_variables();
    const auto holder = context->saved_data["ensemble"].toCapsule();
    const std::int64_t split = context->saved_data["split"].toInt(), end = context->saved_data["end"].toInt();
    const bool by_x = context->needs_input_grad(1), by_more = end > split && context->needs_input_grad(2);
    const std::int64_t first = by_x ? 0 : split, last = by_more ? end : by_x ? split : first;
    auto gradients = static_cast<const Ensemble&>(*holder).ensemble->Backward(saved[0], {saved[1], saved[2]}, outputs[0],
                                                                              context->needs_input_grad(0), first, last);
    return {gradients.parameters, by_x ? gradients.input.narrow(1, 0, split) : Variable(),
            by_more ? gradients.input.narrow(1, split - first, end - split) : Variable(), Variable()};
  }
};

}  // namespace

DenseEnsemble::DenseEnsemble(std::int64_t members, std::vector<std::int64_t> widths, const DenseKernels* kernels)
    : members_(members), widths_(std::move(widths)) {
  for (std::size_t layer = 0; layer + 1 < widths_.size(); ++layer) {
    sizes_.push_back(members_ * widths_[layer + 1] * widths_[layer]);
    sizes_.push_back(members_ * widths_[layer + 1]);
  }
  for (const std::int64_t size : sizes_) parameters_ += size;
  if (layers() > 0 && kernels != nullptr) cpu_ = std::make_shared<const CpuEnsemble>(members_, widths_, kernels);
}

at::Tensor DenseEnsemble::Initial(std::uint64_t seed, const std::string& purpose) const {
  at::Tensor flat = at::empty({parameters_}, at::kFloat);
  float* next = flat.data_ptr<float>();
  Random random(seed, purpose, 0);
  for (std::size_t part = 0; part < sizes_.size(); ++part) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(widths_[part / 2]));
    for (std::int64_t i = 0; i < sizes_[part]; ++i) *next++ = static_cast<float>(random.NextUniform(-bound, bound));
  }
  return flat;
}

at::Tensor DenseEnsemble::Forward(const at::Tensor& parameters, const at::Tensor& x, const at::Tensor& more) const {
  if (!cpu_ || !x.is_cpu() || x.scalar_type() != at::kFloat) return ForwardAnywhere(parameters, more.defined() ? at::cat({x, more}, 1) : x);
  const bool followed = at::GradMode::is_enabled() && (parameters.requires_grad() || x.requires_grad() || (more.defined() && more.requires_grad()));
  if (!followed) return cpu_->Forward(parameters, x, more, nullptr);
  return CpuEnsembleNode::apply(parameters, x, more.defined() ? more : at::empty({x.size(0), 0}, x.options()), cpu_);  // A node takes no undefined tensor.
}

at::Tensor DenseEnsemble::ForwardAnywhere(const at::Tensor& parameters, const at::Tensor& x) const {
  // One split, so that the gradients of all layers come back as one concatenation.
  const auto parts = parameters.split_with_sizes(sizes_);
  // Every member sees the same input: the first layer is one product with all members' weights stacked.
  at::Tensor h = at::addmm(parts[1], x, parts[0].view({members_ * widths_[1], widths_[0]}).t());
  if (layers() > 1) h.relu_();
  h = h.view({x.size(0), members_, widths_[1]}).permute({1, 0, 2});
  for (std::size_t layer = 1; layer + 1 < widths_.size(); ++layer) {
    const at::Tensor weights = parts[2 * layer].view({members_, widths_[layer + 1], widths_[layer]});
    const at::Tensor biases = parts[2 * layer + 1].view({members_, 1, widths_[layer + 1]});
    h = at::baddbmm(biases, h, weights.transpose(1, 2));
    if (layer + 2 < widths_.size()) h.relu_();
  }
  return h;
}

at::Tensor DenseEnsemble::Member(const at::Tensor& parameters, std::int64_t member) const {
  std::vector<at::Tensor> parts;
  for (std::int64_t layer = 0; layer < layers(); ++layer) {
    const auto [weights, biases] = Layer(parameters, layer);
    parts.push_back(weights[member].flatten());
    parts.push_back(biases[member]);
  }
  return at::cat(parts);
}

std::pair<at::Tensor, at::Tensor> DenseEnsemble::Layer(const at::Tensor& parameters, std::int64_t layer) const {
  const auto parts = parameters.split_with_sizes(sizes_);
  const auto i = static_cast<std::size_t>(layer);
  return {parts[2 * i].view({members_, widths_[i + 1], widths_[i]}), parts[2 * i + 1].view({members_, widths_[i + 1]})};
}

FlatAdam::FlatAdam(const at::Tensor& parameters) : first(at::zeros_like(parameters)), second(at::zeros_like(parameters)) {}

namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;

}  // namespace

bool FlatAdam::Update(const State& from, const at::Tensor& gradient, double scale, double rate, const at::Tensor& parameters) {
  ++updates;
  const double correction1 = 1.0 - std::pow(kBeta1, static_cast<double>(updates));
  const double correction2 = 1.0 - std::pow(kBeta2, static_cast<double>(updates));
  const DenseKernels* const kernels = parameters.is_cpu() ? ChooseDenseKernels() : nullptr;
  if (kernels != nullptr) {
    const at::Tensor down = gradient.contiguous();
    return kernels->adam({.gradient = down.const_data_ptr<float>(),
                          .from_parameters = from.parameters.const_data_ptr<float>(),
                          .from_first = from.first.const_data_ptr<float>(),
                          .from_second = from.second.const_data_ptr<float>(),
                          .parameters = parameters.data_ptr<float>(),
                          .first = first.data_ptr<float>(),
                          .second = second.data_ptr<float>(),
                          .n = static_cast<std::size_t>(parameters.numel()),
                          .gradient_scale = static_cast<float>(scale),
                          .beta1 = static_cast<float>(kBeta1),
                          .beta2 = static_cast<float>(kBeta2),
                          .epsilon = static_cast<float>(kEpsilon),
                          .rate = static_cast<float>(rate / correction1),
                          .inverse_correction2 = static_cast<float>(1 / std::sqrt(correction2))});
  }
  const at::Tensor down = gradient * scale;
  first.copy_(from.first * kBeta1 + down * (1.0 - kBeta1));
  second.copy_(from.second * kBeta2 + down.square() * (1.0 - kBeta2));
  const at::Tensor size = second.sqrt().div_(std::sqrt(correction2)).add_(kEpsilon);
  parameters.copy_(from.parameters.addcdiv(first, size, -rate / correction1));
  return std::isfinite((parameters.norm() + first.norm() + second.norm()).item<double>());
}

at::Tensor FlatAdam::UpdateFixed(const at::Tensor& gradient, double rate, const at::Tensor& count, const at::Tensor& parameters) {
  const at::Tensor correction1 = 1.0 - at::pow(kBeta1, count), correction2 = 1.0 - at::pow(kBeta2, count);
  first.mul_(kBeta1).add_(gradient, 1.0 - kBeta1);
  second.mul_(kBeta2).add_(gradient.square(), 1.0 - kBeta2);
  const at::Tensor size = (second / correction2).sqrt_().add_(kEpsilon);
  parameters.sub_(first / size * (rate / correction1));
  return (parameters.norm() + first.norm() + second.norm()).isfinite();
}

}  // namespace fuseline
