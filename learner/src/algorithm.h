#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/learner/rewards.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// What an algorithm has to solve. A state is W = shared + item columns, the shared ones first.
struct Problem {
  std::size_t shared_width = 0, item_width = 0;
  std::vector<float> static_action;  // [D], normalised: where every policy starts. With fixed biases D = k, else 2k.
  std::size_t tasks = static_action.size() / 2;  // k: of an action the powers come first, of a state the scores last.
  std::vector<float> lower, upper;  // [2k], powers and biases that -1 and 1 stand for; of a fixed bias both are it. Empty: nobody asks.
};
Problem ProblemOf(const FeatureEncoder& encoder, const ActionSpace& space);

// What the learner must know of an algorithm before it draws batches for it.
struct AlgorithmTraits {
  // One action for each request: its batches are lists of one item whose state is the shared columns (the item's are zero)
  // and whose reward is the list's sum.
  bool per_request = false;
  // The actor learns only from what was explored around the current baseline: its batches are drawn from these transitions. Of any
  // other algorithm the actor's batch is that of the critics.
  bool boxed = false;
  // Exploration goes on around the static action whatever version serves, so what was explored there never grows stale.
  bool around_static = false;
};

// One batch of transitions on the host, row-major float32; states are normalised. B transitions of up to L items.
struct TransitionBatch {
  std::size_t batch = 0, items = 0;
  std::vector<float> state, action, baseline, mask;           // [B, L, W], [B, L, D], [B, L, D], [B, L]
  std::vector<float> scores;                                  // [B, L, k], task scores as they are; empty where one action serves a request.
  std::vector<float> reward;                                  // [G, B, L]
  std::vector<float> next_state, next_baseline, next_mask;    // As above; zero where terminated.
  std::vector<float> terminated;                              // [B]
  std::vector<float> trains_actor;                            // [B]; 1 where the actor's loss counts the transition.
  std::vector<float> box, next_box;                           // [B, 2]: lower, upper.
  std::vector<float> weight;                                  // [B]; every loss multiplies by it. 1 unless prioritised or stale.
};

struct StepFigures {
  double critic_loss = 0;
  double actor_loss = 0;    // Of the actor's transitions; 0 if there were none.
  bool actor_moved = false;
  bool undone = false;      // Something was not finite: parameters and moments are as before the step.
  std::vector<float> td_error;  // [B] of the critics' batch, before the step: mean |TD error| over members; empty: it has none.
};

// What the critics say. G = kRewardGroups where the algorithm has critics of each, else 1: of the rewards' sum, weighted by omega.
struct CriticValues {
  std::vector<float> mean;        // [G, n], over a group's members.
  std::vector<double> deviation;  // [G]; the members' standard deviation, mean over pairs.
};

// What computes and where; part of the lineage.
struct ComputeFacts {
  std::string device = "cpu";
  std::string blas = "none";
  int threads = 1;
  double sgemm_gflops = 0;  // Measured at start; tells a reference BLAS from a real one. 0: it multiplies no matrices.
};

// The port behind which an algorithm hides its networks, targets and optimisers, and LibTorch where it needs that.
// Thread-compatible. A function of its parameters, the batches and the step number alone: what is drawn comes from
// Random(run seed, purpose, step).
class Algorithm {
 public:
  virtual ~Algorithm() = default;

  // One update of the critics by one batch, of the actor by another (an empty one leaves it), and, when due, of the targets. All
  // or nothing: what would not be finite leaves everything as it was.
  // Errors: kInternal for an exception of the library.
  virtual Result<StepFigures> Step(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step) = 0;
  Result<StepFigures> Step(const TransitionBatch& both, std::uint64_t step) { return Step(both, both, step); }

  // Actions [n, D] of the current policy, or of one returned by actor_parameters() earlier; states [n, W] normalised.
  virtual Result<std::vector<float>> Act(std::span<const float> states) const = 0;
  virtual Result<std::vector<float>> ActAs(std::span<const float> actor, std::span<const float> states) const = 0;
  virtual std::vector<float> actor_parameters() const = 0;

  // What the critics say of n pairs.
  virtual Result<CriticValues> Values(std::span<const float> states, std::span<const float> actions) const = 0;

  // The policy as fusion's PolicyNetwork serves it: its form (manifest.actor, or another that it knows), and its tensors.
  virtual void DescribePolicy(v1::PolicyManifest& manifest) const = 0;
  virtual TensorMap PolicyTensors() const = 0;

  // Everything that a restart needs, exactly. Errors of Restore: kCorrupt.
  virtual TensorMap Save() const = 0;
  virtual Status Restore(const TensorMap& tensors) = 0;
  virtual std::string WeightsSha256() const = 0;  // Hex; over all parameters and targets.

  virtual std::string description() const = 0;  // Of the networks' shapes.
  virtual const ComputeFacts& facts() const = 0;
};

// Algorithms by name. Adding one is adding a file to learner/src/algorithms (or learner/src/torch, for one that needs LibTorch) that
// ends in FUSELINE_ALGORITHM; docs/adding_an_algorithm.md shows one.
using AlgorithmFactory = Result<std::unique_ptr<Algorithm>> (*)(const v1::Config& config, const Problem& problem);

// Errors: kInvalidInput for a name that is not among AlgorithmNames() (which it lists), or settings that cannot be.
Result<std::unique_ptr<Algorithm>> CreateAlgorithm(const v1::Config& config, const Problem& problem);
Result<AlgorithmTraits> AlgorithmTraitsOf(const std::string& name);

class AlgorithmRegistrar {
 public:
  AlgorithmRegistrar(const std::string& name, AlgorithmTraits traits, AlgorithmFactory factory);
};
// At the end of the algorithm's file, in its anonymous namespace. A name that is taken stops the process at start.
#define FUSELINE_ALGORITHM(name, traits, factory) \
  [[maybe_unused]] const ::fuseline::AlgorithmRegistrar fuseline_algorithm_registrar(name, traits, factory)

struct NetworkSizes {
  std::vector<std::int64_t> hidden;
  std::int64_t critics_per_group = 0;
  std::int64_t batch = 0;
  std::int64_t replay_transitions = 0;
};
// The preset's sizes, and those that the settings name.
NetworkSizes SizesOf(const v1::Learner& settings);

}  // namespace fuseline
