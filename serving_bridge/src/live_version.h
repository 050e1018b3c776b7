#pragma once

#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/serving_bridge/ranker.h"

namespace fuseline {

// A version that may serve: everything about it has been checked. Immutable.
struct LiveVersion {
  PolicyNetwork network;
  ExplorationBox box;
  v1::AliasChange change;  // That brought it.
};

// The same of a scorer.
struct LiveScorer {
  ScorerNetwork network;
  std::uint64_t version = 0;
};

// Why a version may not serve. `reason` is the label under which it is counted.
struct Refusal {
  std::string_view reason;
  Status status;
};

// Of what policy and schema a version must be. Refuses by "policy", "schema".
class OriginDemands {
 public:
  OriginDemands(std::string policy, const v1::FeatureSchema& schema);
  tl::expected<void, Refusal> Check(const v1::PolicyManifest& manifest) const;

 private:
  std::string policy_, schema_digest_;
};

// What a ranker demands of every version.
class VersionDemands {
 public:
  explicit VersionDemands(const RankerOptions& options);

  // `version` has the digests that its manifest promises. Refuses by "policy", "schema", "ranges", "weights".
  tl::expected<LiveVersion, Refusal> Admit(const PolicyVersion& version, const v1::AliasChange& change) const;

 private:
  OriginDemands origin_;
  std::string ranges_bytes_;
  ExplorationBox box_;
  Precision precision_;
};

// And of every version of its policy's scorer. Refuses by "policy", "schema", "weights".
class ScorerDemands {
 public:
  explicit ScorerDemands(const RankerOptions& options);
  tl::expected<LiveScorer, Refusal> Admit(const PolicyVersion& version) const;

 private:
  OriginDemands origin_;
};

}  // namespace fuseline
