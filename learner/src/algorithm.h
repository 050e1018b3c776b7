#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/learner/rewards.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// One batch of transitions on the host, row-major float32; states are normalised. B transitions of up to L items.
struct TransitionBatch {
  std::size_t batch = 0, items = 0;
  std::vector<float> state, action, baseline, mask;           // [B, L, W], [B, L, D], [B, L, D], [B, L]
  std::vector<float> reward;                                  // [G, B, L]
  std::vector<float> next_state, next_baseline, next_mask;    // As above; zero where terminated.
  std::vector<float> terminated;                              // [B]
  std::vector<float> trains_actor;                            // [B]; 1 where the actor's loss counts the transition.
  std::vector<float> box, next_box;                           // [B, 2]: lower, upper.
};

struct StepFigures {
  double critic_loss = 0;
  double actor_loss = 0;    // Of the actor's transitions; 0 if there were none.
  double box_share = 0;     // Of transitions that trained the actor.
  bool actor_moved = false;
  bool undone = false;      // Something was not finite: parameters and moments are as before the step.
};

struct CriticValues {
  std::vector<float> mean;        // [G, n], over a group's members.
  std::vector<double> deviation;  // [G]; the members' standard deviation, mean over pairs.
};

struct OptimiserCounts {
  std::uint64_t critic_updates = 0, actor_updates = 0;
};

// What computes and where; part of the lineage.
struct ComputeFacts {
  std::string device;
  std::string blas;
  int threads = 1;
  double sgemm_gflops = 0;  // Measured at start; tells a reference BLAS from a real one.
};

// The port behind which an algorithm hides LibTorch: networks, targets and optimisers.
// Thread-compatible. A function of its parameters, the batch and the step number alone.
class Algorithm {
 public:
  virtual ~Algorithm() = default;

  // One update of the critics by one batch, of the actor by another (an empty one leaves it), and, when due, of the targets.
  // Errors: kInternal for an exception of the library.
  virtual Result<StepFigures> Step(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step) = 0;
  Result<StepFigures> Step(const TransitionBatch& both, std::uint64_t step) { return Step(both, both, step); }

  // Actions [n, D] of the current actor, or of one returned by actor_parameters() earlier; states [n, W] normalised.
  virtual Result<std::vector<float>> Act(std::span<const float> states) const = 0;
  virtual Result<std::vector<float>> ActAs(std::span<const float> actor, std::span<const float> states) const = 0;
  virtual std::vector<float> actor_parameters() const = 0;

  // What the critics say of n pairs.
  virtual Result<CriticValues> Values(std::span<const float> states, std::span<const float> actions) const = 0;

  virtual v1::NetworkShape actor_shape() const = 0;
  virtual TensorMap ActorTensors() const = 0;  // actor.<i>.weight [out, in], actor.<i>.bias [out].

  // Everything that a restart needs, exactly.
  virtual TensorMap Save() const = 0;
  virtual OptimiserCounts optimiser_counts() const = 0;
  virtual Status Restore(const TensorMap& tensors, const OptimiserCounts& counts) = 0;
  virtual std::string WeightsSha256() const = 0;  // Hex; over actor, critics and targets.

  virtual std::string description() const = 0;  // Of the networks' shapes.
  virtual const ComputeFacts& facts() const = 0;
};

struct NetworkSizes {
  std::vector<std::int64_t> hidden;
  std::int64_t critics_per_group = 0;
  std::int64_t batch = 0;
};
// The preset's sizes, and those that the settings name.
NetworkSizes SizesOf(const v1::Learner& settings);

// EnhancedRL (arXiv 2409.11678), or with learner.algorithm=integrated_rl UnifiedRL (arXiv 2404.17589): the same with one action
// for each request, from the shared columns alone. The networks keep their shape; the weights of the item columns are zero and
// stay so, because what is learned from is zero there. static_action [D]: where the actor starts.
// Errors: kInvalidInput for learner.device=cuda where there is none.
Result<std::unique_ptr<Algorithm>> CreateEnhancedRl(const v1::Config& config, std::size_t shared_width, std::size_t item_width,
                                                    std::span<const float> static_action);
bool IsPerRequest(const v1::Learner& settings);

}  // namespace fuseline
