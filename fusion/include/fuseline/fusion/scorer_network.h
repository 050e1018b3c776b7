#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// Buffers of one caller, reused from request to request: no allocation once they have grown.
class ScorerWorkspace {
 public:
  ScorerWorkspace();
  ScorerWorkspace(ScorerWorkspace&&) noexcept;
  ScorerWorkspace& operator=(ScorerWorkspace&&) noexcept;
  ~ScorerWorkspace();

 private:
  friend class ScorerNetwork;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The scorer of one version, without LibTorch: features and ids → task scores, as `learner/` trained it. What a ranker puts before a policy.
//
// An id's row holds its embedding (the rare ids' if it stood too seldom in what was learned from) and its past (scorer_inputs.h),
// normalised, both worked out by Create. Rows and the schema's normalised numbers are the input x of the backbone (scorer.proto: single_task,
// shared_bottom, esmm, mmoe, ple), whose first layers' part of user and context is computed once a request.
// docs/formats.md lists the tensors. Immutable after Create; thread-safe, one workspace per thread. What it computes for a
// candidate depends on the request and that candidate alone, to the bit, whatever else is scored beside it.
class ScorerNetwork {
 public:
  // Errors: kInvalidInput when manifest, schema and tensors do not fit together (one tensor too many is refused too), or the version is
  // a policy's; kCorrupt for values that cannot be: not finite, or a past with more outcomes than impressions.
  static Result<ScorerNetwork> Create(const v1::PolicyManifest& manifest, const TensorMap& tensors);
  ScorerNetwork(ScorerNetwork&&) noexcept;
  ScorerNetwork& operator=(ScorerNetwork&&) noexcept;
  ~ScorerNetwork();

  const v1::PolicyManifest& manifest() const;

  // scores [n, k] of the schema's k tasks, in their order and ranges; of a task that this scorer does not predict, the minimum. The
  // candidates' own task scores are not looked at. Not finite where products leave float32: the guard is the caller's.
  // REQUIRES: as many item ids as candidates. Errors: kInvalidInput when a number of values disagrees with the schema or a value is
  // not finite; `scores` is then unspecified. Cost: that of the backbone's layers over the candidates (bench/BENCHMARKS.md), a
  // row of the table for each id, no allocation once the workspace has grown.
  Status Score(const FeatureView& user, const FeatureView& context, std::string_view user_id, std::span<const CandidateView> candidates,
               std::span<const std::string_view> item_ids, ScorerWorkspace& workspace, std::span<float> scores) const;

 private:
  struct Impl;
  explicit ScorerNetwork(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace fuseline
