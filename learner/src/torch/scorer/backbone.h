#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "scorer/scorer_model.h"
#include "torch/scorer/network_set.h"

namespace fuseline {

// What a backbone sees of n impressions.
struct BackboneInput {
  at::Tensor embedded;  // [n, F, sets E]
  at::Tensor dense;     // [n, W]
};

// Scores as logarithms of p and of 1 - p, each exact where the other is near 1.
struct LogScores {
  at::Tensor hit, miss;  // [n, K]
};

// Leaves out a share of x and scales the rest up; what scoring and tests give leaves x alone.
using Dropout = std::function<at::Tensor(const at::Tensor& x)>;

// How tasks share networks: embeddings and dense values → K scores. Immutable; parameters are the caller's, one
// flat tensor that networks().Split has split. Any floating type; differentiable in all.
class Backbone {
 public:
  explicit Backbone(const DenseKernels* kernels) : networks_(kernels) {}
  virtual ~Backbone() = default;
  virtual LogScores Forward(const std::vector<at::Tensor>& parts, const BackboneInput& input, const Dropout& dropout) const = 0;
  const NetworkSet& networks() const { return networks_; }
  virtual std::int64_t embedding_sets() const { return 1; }  // One that tasks share, or one of each task.

 protected:
  NetworkSet networks_;
};

struct BackboneShape {
  std::int64_t fields = 0, dense = 0, tasks = 0;
  ScorerSizes sizes;
  std::int64_t input() const { return fields * sizes.embedding_width + dense; }
};

// single_task, shared_bottom, esmm (Ma et al., SIGIR 2018), mmoe (Ma et al., KDD 2018), ple (Tang et al., RecSys 2020).
std::vector<std::string> BackboneNames();
std::unique_ptr<Backbone> MakeBackbone(const std::string& name, const BackboneShape& shape, const DenseKernels* kernels);

// sum_k mean_n weight BCE; scores, labels, weights [n, K].
at::Tensor WeightedLoss(const LogScores& scores, const at::Tensor& labels, const at::Tensor& weights);
// Mean of each task, [K].
at::Tensor TaskLosses(const LogScores& scores, const at::Tensor& labels);

}  // namespace fuseline
