#include "torch/networks.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

#include "fuseline/core/random.h"

namespace fuseline {

DenseEnsemble::DenseEnsemble(std::int64_t members, std::vector<std::int64_t> widths)
    : members_(members), widths_(std::move(widths)) {
  for (std::size_t layer = 0; layer + 1 < widths_.size(); ++layer) {
    sizes_.push_back(members_ * widths_[layer + 1] * widths_[layer]);
    sizes_.push_back(members_ * widths_[layer + 1]);
  }
  for (const std::int64_t size : sizes_) parameters_ += size;
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

at::Tensor DenseEnsemble::Forward(const at::Tensor& parameters, const at::Tensor& x) const {
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

void FlatAdam::Update(at::Tensor& parameters, const at::Tensor& gradient, double rate) {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
  ++updates;
  const double correction1 = 1.0 - std::pow(kBeta1, static_cast<double>(updates));
  const double correction2 = 1.0 - std::pow(kBeta2, static_cast<double>(updates));
  first.mul_(kBeta1).add_(gradient, 1.0 - kBeta1);
  second.mul_(kBeta2).addcmul_(gradient, gradient, 1.0 - kBeta2);
  parameters.addcdiv_(first, second.sqrt().div_(std::sqrt(correction2)).add_(kEpsilon), -rate / correction1);
}

}  // namespace fuseline
