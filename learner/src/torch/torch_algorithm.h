#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "algorithm.h"
#include "torch/catch_torch.h"
#include "torch/compute.h"
#include "torch/fixed_step.h"
#include "torch/networks.h"

namespace fuseline {

// Networks that are trained together, with their target and their optimiser's moments.
struct Trained {
  std::string name;
  DenseEnsemble net;
  at::Tensor flat;    // [P]
  at::Tensor target;  // [P]; undefined: none.
  FlatAdam adam;
  at::Tensor action_mean{}, action_scale{};  // [D]; undefined: actions go in as they are.
};

// What every algorithm on LibTorch shares: its networks as named parts, acting by a deterministic actor, all-or-nothing steps, exact
// Save and Restore, digests. An algorithm adds its parts when it is made, and holds the losses of one update.
class TorchAlgorithm : public Algorithm {
 public:
  using Algorithm::Step;
  Result<StepFigures> Step(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step) final;

  Result<std::vector<float>> Act(std::span<const float> states) const final { return ActWith(ServingParameters(), states); }
  Result<std::vector<float>> ActAs(std::span<const float> actor, std::span<const float> states) const final;
  std::vector<float> actor_parameters() const final { return ToHost(ServingParameters()).values; }
  Result<CriticValues> Values(std::span<const float> states, std::span<const float> actions) const final;

  void DescribePolicy(v1::PolicyManifest& manifest) const override;
  TensorMap PolicyTensors() const override;  // actor.<i>.weight [out, in], actor.<i>.bias [out].

  TensorMap Save() const final;
  Status Restore(const TensorMap& tensors) final;
  std::string WeightsSha256() const final;
  std::string description() const final;
  const ComputeFacts& facts() const final { return compute_.facts; }

  // From now on steps are FixedSteps. Errors: kInvalidInput without a runner, and for an algorithm whose steps are of no kinds.
  Status StepInFixedMemory(std::unique_ptr<StepRunner> runner);

 protected:
  TorchAlgorithm(const v1::Config& config, const Problem& problem, Compute compute);

  // One update; false when a loss or gradient is not finite: the caller then undoes it. `actor` may be empty (batch == 0).
  virtual bool Update(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step, StepFigures& figures) = 0;
  // Steps of a kind do the same operations, whatever their values, each part moved once at most. Absent: the algorithm's have no kinds.
  virtual std::optional<std::uint64_t> StepKind(const TransitionBatch& /*actor*/, std::uint64_t /*step*/) const { return std::nullopt; }
  // Q of all critics at n pairs, group by group: states [n, W], actions [n, D] → [M, n].
  virtual at::Tensor CriticsOf(const at::Tensor& states, const at::Tensor& actions) const = 0;
  virtual std::int64_t groups() const { return 1; }
  // What serves: one flat tensor, and the actions of a policy with these parameters: states [n, W] → [n, D].
  virtual at::Tensor ServingParameters() const { return actor_->flat; }
  virtual at::Tensor Serve(const at::Tensor& parameters, const at::Tensor& states) const;

  // Parts are added while the algorithm is made; the references stay. Nets have the preset's hidden widths and random weights.
  // An actor sees states, and starts near the static action for every one; with `outputs` > D the first D are actions before tanh. A
  // critic sees states and `more` columns. With traits.per_request neither ever sees an item's columns.
  enum class Target { kNone, kKept };
  Trained& AddActor(std::int64_t outputs, Target target);
  Trained& AddCritics(const std::string& name, std::int64_t members, std::int64_t more, Target target);
  Trained& AddNet(const std::string& name, std::int64_t members, std::int64_t inputs, std::int64_t outputs, Target target);
  Trained& AddVector(const std::string& name, const at::Tensor& initial) { return Add(name, DenseEnsemble(1, {}), initial, Target::kNone); }

  // Makes critics whose last inputs are the action say little at first, and see it scaled: AddCritics does.
  void StartSmall(Trained& critics, bool sees_action) const;
  // Makes a net that ends in tanh say about the static action, whatever it is asked: AddActor does. `flat` is written to.
  void StartAtStatic(const DenseEnsemble& net, const at::Tensor& flat) const;

  // One Adam step of `part` down `loss(parameters)`, the gradient scaled down to the largest norm; false, and nothing moved, when
  // loss or gradient is not finite. `figure` is the loss.
  bool Descend(Trained& part, double rate, const std::function<at::Tensor(const at::Tensor& parameters)>& loss, double* figure = nullptr);
  // The same for parts that share a loss.
  using Parameters = std::vector<at::Tensor>;
  bool Descend(const std::vector<Trained*>& parts, double rate, const std::function<at::Tensor(const Parameters&)>& loss,
               double* figure = nullptr);
  // Before their first update: puts critics (or values) at the worth of a state that earns `reward` [G] a request, by the batch's share
  // of ends; the second form of the weighted sum.
  void StartAtLevel(Trained& critics, const DeviceBatch& batch, const at::Tensor& reward, double gamma);
  void StartAtLevel(Trained& critics, const DeviceBatch& batch, double gamma);
  void Follow(Trained& part, double rate);  // The target's soft update.

  // mu(s): states [n, W] → [n, D].
  at::Tensor Mu(const at::Tensor& parameters, const at::Tensor& states) const;
  // Q of all members of `critics`, which see an action as its distance from the middle of what exploration reached at first, in
  // half-widths of that: a state is normalised, and so is what is tried in it. states [B L, W], actions [B L, D] → [M, B, L].
  static at::Tensor Q(const Trained& critics, const at::Tensor& parameters, const at::Tensor& states, const at::Tensor& actions,
                      std::int64_t batch);
  // The same for pairs that stand alone: states [n, W], actions [n, D] → [M, n].
  static at::Tensor Pairs(const Trained& critics, const at::Tensor& parameters, const at::Tensor& states, const at::Tensor& actions);
  // One step of critics of the weighted sum towards `target` [B], with its figures. REQUIRES: lists of one item.
  bool DescendTd(Trained& critics, double rate, const DeviceBatch& batch, const at::Tensor& target, StepFigures& figures);

  // Tensors NAME.<i>.weight [out, in] and .bias [out] of the first member, of the last layer `outputs` rows (0: all).
  static void PutLayers(const DenseEnsemble& net, const at::Tensor& parameters, const std::string& name, TensorMap& tensors,
                        std::int64_t outputs = 0);

  // The rewards' sum over groups, weighted by omega: [G, B, L] → [1, B, L]; and over the list too: [B].
  at::Tensor WeightedSum(const at::Tensor& reward) const;
  at::Tensor Earned(const DeviceBatch& batch) const;
  DeviceBatch OnDevice(const TransitionBatch& batch) const {
    return fixed_ ? fixed_->Input(batch) : ToDevice(batch, width_, action_, compute_.device);
  }
  void Tell(const at::Tensor& values, std::vector<float>* to);  // Into the step's figures, when they are known.
  // Draws of (run seed, purpose, step): standard normal, or uniform in [-1, 1).
  at::Tensor Normals(at::IntArrayRef shape, const std::string& purpose, std::uint64_t step) const;
  at::Tensor Uniforms(at::IntArrayRef shape, const std::string& purpose, std::uint64_t step) const;

  const v1::Config config_;
  const v1::Learner& settings_;
  const bool levelled_;  // How networks begin: learner.start.
  const AlgorithmTraits traits_;
  const std::int64_t shared_, width_, action_, tasks_;  // S, W, D, k.
  const Compute compute_;
  const at::Tensor omega_;  // [kRewardGroups]

 private:
  StepFigures StepFixed(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step);
  bool DescendFixed(const std::vector<Trained*>& parts, double rate, const at::Tensor& value, const std::vector<at::Tensor>& gradients,
                    double* figure);
  Result<std::vector<float>> ActWith(const at::Tensor& parameters, std::span<const float> states) const;
  Trained& Add(std::string name, DenseEnsemble net, const at::Tensor& initial, Target target);
  std::vector<std::int64_t> Widths(std::int64_t inputs, std::int64_t outputs) const;
  void BlindToItems(const DenseEnsemble& net, const at::Tensor& initial) const;
  void ScaleActions(Trained& critics) const;
  std::vector<std::pair<std::string, at::Tensor>> Named() const;

  // Puts memory whose content is not defined behind the handle of a tensor that is about to move, and returns the tensor as it was: a
  // step writes beside what it changes, so that taking it back copies nothing, and a sound one neither.
  at::Tensor Renew(at::Tensor& handle);

  struct Change {
    at::Tensor* handle;
    at::Tensor before;
  };
  std::vector<float> static_action_;
  std::deque<Trained> parts_;
  std::vector<Change> changes_;      // Of the step under way, oldest first.
  std::vector<at::Tensor> spares_;  // Memory of tensors that were replaced.
  Trained* actor_ = nullptr;
  std::unique_ptr<FixedStep> fixed_;  // Null: ordinary steps.
};

// The factory of an algorithm on LibTorch, for FUSELINE_ALGORITHM.
template <typename Made>
Result<std::unique_ptr<Algorithm>> MakeOnTorch(const v1::Config& config, const Problem& problem) {
  return CatchTorch("learner cannot be made:", [&]() -> Result<std::unique_ptr<Algorithm>> {
    FUSELINE_ASSIGN_OR_FAIL(Compute compute, ChooseCompute(config.learner()));
    auto made = std::make_unique<Made>(config, problem, std::move(compute));
    if (config.learner().cuda_graph())
      FUSELINE_FAIL_IF_ERROR(made->StepInFixedMemory(made->facts().device == "cuda" ? MakeCudaGraphRunner() : nullptr));
    return std::unique_ptr<Algorithm>(std::move(made));
  });
}

}  // namespace fuseline
