#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "algorithm.h"

namespace fuseline {

// One action for every state: what hand-set weights are, and what ES and CEM search. It serves as a one-layer actor whose weights
// are zero and whose bias is atanh(action). Its state is small named vectors of float32; the action is one of them.
class ConstantActor : public Algorithm {
 public:
  using Algorithm::Step;
  Result<StepFigures> Step(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step) final;

  Result<std::vector<float>> Act(std::span<const float> states) const final { return ActAs(action_, states); }
  Result<std::vector<float>> ActAs(std::span<const float> actor, std::span<const float> states) const final;
  std::vector<float> actor_parameters() const final { return action_; }
  Result<CriticValues> Values(std::span<const float> states, std::span<const float> actions) const final;  // Zero: it has no critics.

  void DescribePolicy(v1::PolicyManifest& manifest) const final;
  TensorMap PolicyTensors() const final;

  TensorMap Save() const final;
  Status Restore(const TensorMap& tensors) final;
  std::string WeightsSha256() const final;
  std::string description() const final;
  const ComputeFacts& facts() const final { return facts_; }

 protected:
  ConstantActor(const v1::Config& config, const Problem& problem);

  // One move of the state by a batch that is not empty. returns [B], all finite: what each list earned, the groups weighted by omega.
  // A state that is not finite afterwards is undone by the caller.
  virtual void Move(const TransitionBatch& batch, const std::vector<double>& returns, StepFigures& figures) = 0;
  // To be called while the algorithm is made: saved and restored under its name.
  void Keep(const std::string& name, std::vector<float>& values) { state_.emplace(name, &values); }

  const v1::Config config_;
  std::vector<float> action_;  // [D], in [-1, 1].

 private:
  std::vector<double> Returns(const TransitionBatch& batch) const;

  std::size_t width_;
  std::map<std::string, std::vector<float>*> state_;
  ComputeFacts facts_;
};

template <typename Made>
Result<std::unique_ptr<Algorithm>> MakeConstant(const v1::Config& config, const Problem& problem) {
  return std::make_unique<Made>(config, problem);
}

}  // namespace fuseline
