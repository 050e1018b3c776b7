#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/normaliser.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// Buffers of one caller, reused from request to request: no allocation once they have grown.
class ActorWorkspace {
 public:
  ActorWorkspace();
  ActorWorkspace(ActorWorkspace&&) noexcept;
  ActorWorkspace& operator=(ActorWorkspace&&) noexcept;
  ~ActorWorkspace();

 private:
  friend class PolicyNetwork;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What the candidates' layers are multiplied in. kBfloat16: weights and inputs of each layer rounded to 8 bits of mantissa, sums in float32; the
// shared columns' part stays float32, and so does a policy of the other form (best_of_generated). docs/ranker.md says how exact it is.
enum class Precision { kFloat32, kBfloat16 };
bool HasBfloat16();  // Whether this machine's processor multiplies it (AVX512-BF16).

// The actor mu of one version, without LibTorch: what ranker, gate, evaluation and simulator compute with.
//
// state → normalise → dense layers with ReLU → tanh → action in [-1, 1]^D. The first layer's shared part is computed once a
// request, the item part as one matrix product over the candidates.
// Tensors of a weights file: actor.<i>.weight [out, in], actor.<i>.bias [out], normaliser.mean and .scale [state_width].
// A manifest with best_of_generated has the other form, BatchRL-MTF's (policy.proto): one action a request, of the shared columns;
// tensors decoder.<i>, perturbation.<i> and critic.<i> (weight and bias), codes [K, Z], and the normaliser's.
// Immutable after Create; thread-safe, one workspace per thread. What it computes for a candidate depends on the request
// and that candidate alone, to the bit, whatever else is ranked beside it.
class PolicyNetwork {
 public:
  // Errors: kInvalidInput when manifest, schema and tensors do not fit together (one too many is refused too); kCorrupt
  // for non-finite weights. Where the machine has no bfloat16, kBfloat16 computes in float32.
  static Result<PolicyNetwork> Create(const v1::PolicyManifest& manifest, const TensorMap& tensors, Precision precision = Precision::kFloat32);
  PolicyNetwork(PolicyNetwork&&) noexcept;
  PolicyNetwork& operator=(PolicyNetwork&&) noexcept;
  ~PolicyNetwork();

  const FeatureEncoder& encoder() const;
  const ActionSpace& action_space() const;
  const v1::PolicyManifest& manifest() const;

  // Baseline actions of `candidates`: actions [n, D], normalised. Errors: kInvalidInput as FeatureEncoder; `actions` is
  // then unspecified. Cost: 2 n (item_width w_1 + sum of w_i w_i+1) flops, no allocation once the workspace has grown.
  Status Act(const FeatureView& user, const FeatureView& context, std::span<const CandidateView> candidates,
             ActorWorkspace& workspace, std::span<float> actions) const;

 private:
  struct Impl;
  explicit PolicyNetwork(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace fuseline
