#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"
#include "torch/networks.h"

namespace fuseline {

// Dense networks by name, whose parameters lie one after another in ONE flat tensor: one optimiser step, one
// digest. Filled once, then immutable; it describes parameters and owns none.
class NetworkSet {
 public:
  explicit NetworkSet(const DenseKernels* kernels) : kernels_(kernels) {}

  // Returns its number. Widths as DenseEnsemble: ReLU between layers, nothing at the end.
  std::size_t Add(const std::string& name, std::int64_t members, std::vector<std::int64_t> widths);

  std::int64_t parameters() const { return parameters_; }
  at::Tensor Initial(std::uint64_t seed, const std::string& purpose) const;  // [P], each network from a draw of its own.
  std::vector<at::Tensor> Split(const at::Tensor& flat) const;               // Views, by number.

  // x [N, in] → [members, N, out]. Differentiable.
  at::Tensor Forward(const std::vector<at::Tensor>& parts, std::size_t network, const at::Tensor& x) const {
    return networks_[network].Forward(parts[network], x);
  }
  const DenseEnsemble& network(std::size_t number) const { return networks_[number]; }

  // "NAME.i.weight" [members, out, in] and "NAME.i.bias" [members, out] of each layer i.
  void Export(const at::Tensor& flat, TensorMap* tensors) const;
  Status Import(const TensorMap& tensors, at::Tensor* flat) const;  // Errors: kCorrupt.

 private:
  const DenseKernels* kernels_;
  std::vector<std::string> names_;
  std::vector<DenseEnsemble> networks_;
  std::vector<std::int64_t> sizes_;
  std::int64_t parameters_ = 0;
};

}  // namespace fuseline
