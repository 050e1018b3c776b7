#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "torch/dense_kernels.h"

namespace fuseline {

class CpuEnsemble;

// Dense networks of the same shape, one beside the other: ReLU between layers, nothing at the end. Their parameters are ONE
// flat tensor [layer 0: weights [M, out, in], biases [M, out]; layer 1: …], so that optimiser, target update, undo and digest
// are one pass over memory; a layer of all M members is one matrix product.
// Immutable; it describes parameters and owns none.
class DenseEnsemble {
 public:
  // `kernels`: what multiplies on a CPU; null: LibTorch.
  DenseEnsemble(std::int64_t members, std::vector<std::int64_t> widths, const DenseKernels* kernels = ChooseDenseKernels());

  std::int64_t members() const { return members_; }
  std::int64_t parameters() const { return parameters_; }
  const std::vector<std::int64_t>& widths() const { return widths_; }
  std::int64_t layers() const { return static_cast<std::int64_t>(widths_.size()) - 1; }

  // U(-1/sqrt(in), 1/sqrt(in)) from (run seed, purpose): LibTorch's own initial distribution, our generator. [P], float32, CPU.
  at::Tensor Initial(std::uint64_t seed, const std::string& purpose) const;

  // x [N, in], or x and `more` side by side → [M, N, out]. Differentiable in all. In float32 on a CPU by CpuEnsemble, where this one has
  // its instructions; a column block that needs no gradient then costs none.
  at::Tensor Forward(const at::Tensor& parameters, const at::Tensor& x, const at::Tensor& more = {}) const;
  // The same by LibTorch's own operations: any device, any floating type. What the other is tested against.
  at::Tensor ForwardAnywhere(const at::Tensor& parameters, const at::Tensor& x) const;

  // One member's parameters, laid out as those of a DenseEnsemble of it alone.
  at::Tensor Member(const at::Tensor& parameters, std::int64_t member) const;

  // Views of layer i: weights [M, out, in] and biases [M, out].
  std::pair<at::Tensor, at::Tensor> Layer(const at::Tensor& parameters, std::int64_t layer) const;

 private:
  std::int64_t members_, parameters_ = 0;
  std::vector<std::int64_t> widths_, sizes_;
  std::shared_ptr<const CpuEnsemble> cpu_;  // Null where this CPU has no kernels. Shared by copies, and by graphs still to be followed back.
};

// Adam (Kingma, Ba 2015; beta 0.9 and 0.999, eps 1e-8) over one flat float32 tensor, in one pass.
struct FlatAdam {
  at::Tensor first, second;  // Moments [P].
  std::uint64_t updates = 0;

  explicit FlatAdam(const at::Tensor& parameters);

  // Writes new values into `parameters`, `first` and `second`, computed from those of `from` (which may be the same tensors) and the
  // gradient times `scale`. False when one of them is not finite.
  struct State {
    at::Tensor parameters, first, second;
  };
  bool Update(const State& from, const at::Tensor& gradient, double scale, double rate, const at::Tensor& parameters);

  // The same in place, without a look at a value: `count` is how many updates there are with this one, `updates` stays. Returns whether
  // all new values are finite; one value each, on the device.
  at::Tensor UpdateFixed(const at::Tensor& gradient, double rate, const at::Tensor& count, const at::Tensor& parameters);
};

}  // namespace fuseline
