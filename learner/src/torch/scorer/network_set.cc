#include "torch/scorer/network_set.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include "torch/compute.h"

namespace fuseline {
namespace {

std::string NameOf(const std::string& network, std::int64_t layer, const char* what) {
  return network + '.' + std::to_string(layer) + '.' + what;
}

}  // namespace

std::size_t NetworkSet::Add(const std::string& name, std::int64_t members, std::vector<std::int64_t> widths) {
  names_.push_back(name);
  networks_.emplace_back(members, std::move(widths), kernels_);
  sizes_.push_back(networks_.back().parameters());
  parameters_ += sizes_.back();
  return networks_.size() - 1;
}

at::Tensor NetworkSet::Initial(std::uint64_t seed, const std::string& purpose) const {
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < networks_.size(); ++i) parts.push_back(networks_[i].Initial(seed, purpose + '.' + names_[i]));
  return at::cat(parts);
}

std::vector<at::Tensor> NetworkSet::Split(const at::Tensor& flat) const { return flat.split_with_sizes(sizes_); }

void NetworkSet::Export(const at::Tensor& flat, TensorMap* tensors) const {
  const auto parts = Split(flat);
  for (std::size_t i = 0; i < networks_.size(); ++i) {
    for (std::int64_t layer = 0; layer < networks_[i].layers(); ++layer) {
      const auto [weights, biases] = networks_[i].Layer(parts[i], layer);
      (*tensors)[NameOf(names_[i], layer, "weight")] = ToHost(weights);
      (*tensors)[NameOf(names_[i], layer, "bias")] = ToHost(biases);
    }
  }
}

Status NetworkSet::Import(const TensorMap& tensors, at::Tensor* flat) const {
  const at::NoGradGuard no_gradient;
  at::Tensor result = at::empty({parameters_}, at::kFloat);
  const auto parts = Split(result);
  for (std::size_t i = 0; i < networks_.size(); ++i) {
    for (std::int64_t layer = 0; layer < networks_[i].layers(); ++layer) {
      const auto views = networks_[i].Layer(parts[i], layer);
      for (const auto& [view, what] : {std::pair{views.first, "weight"}, std::pair{views.second, "bias"}}) {
        const std::string name = NameOf(names_[i], layer, what);
        const auto found = tensors.find(name);
        if (found == tensors.end() || Size(found->second.values.size()) != view.numel())
          return ErrorStatus(Code::kCorrupt, "weights lack a tensor, or it has another size:", name);
        view.copy_(FromHost(found->second.values, view.sizes(), at::kCPU));
      }
    }
  }
  *flat = result;
  return OkStatus();
}

}  // namespace fuseline
