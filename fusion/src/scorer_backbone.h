#pragma once

#include <cstddef>
#include <memory>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/v1/scorer.pb.h"

#include "dense_layer.h"
#include "member_net.h"

namespace fuseline {

// How a scorer's tasks share networks: the input x of a block's candidates → a logit of each task. The formula of each is the
// learner's (learner/src/torch/scorer/backbones.cc); a test holds the two together. Immutable.
class ScorerBackbone {
 public:
  virtual ~ScorerBackbone() = default;

  // How many embeddings an id has, and so inputs a candidate: one that tasks share, or one of each task.
  virtual std::size_t sets() const { return 1; }
  virtual std::size_t tensor_count() const = 0;

  // Once a request, of each set: the columns that its candidates have in common.
  virtual void TakeShared(std::size_t set, const float* shared, const Space& space) const = 0;
  // Of each block and set: the candidates' own columns. All sets before Logit.
  virtual void Forward(std::size_t set, BlockView own, const Space& space) const = 0;
  virtual BlockView Logit(std::size_t task, const Space& space) const = 0;  // [rows, 1]
};

// How many embedding sets the backbone of that form has. Errors: kInvalidInput for one that is not known.
Result<std::size_t> EmbeddingSetsOf(const v1::ScorerForm& form);

// `inputs`: width of x, which `split` divides. Errors: kInvalidInput, kCorrupt as FindTensor. REQUIRES: the form's sizes
// are within limits, EmbeddingSetsOf(form).
Result<std::unique_ptr<const ScorerBackbone>> MakeScorerBackbone(const v1::ScorerForm& form, std::uint32_t inputs, const InputSplit& split,
                                                                 const TensorMap& tensors, const DenseKernel& kernel, SpacePlan& plan);

}  // namespace fuseline
