#pragma once

#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/serving_bridge/ranker.h"

namespace fuseline {

// A version that may serve: everything about it has been checked. Immutable.
struct LiveVersion {
  PolicyNetwork network;
  ExplorationBox box;
  v1::AliasChange change;  // That brought it.
};

// Why a version may not serve. `reason` is the label under which it is counted.
struct Refusal {
  std::string_view reason;
  Status status;
};

// What a ranker demands of every version.
class VersionDemands {
 public:
  explicit VersionDemands(const RankerOptions& options);

  // `version` has the digests that its manifest promises. Refuses by "policy", "schema", "ranges", "weights".
  tl::expected<LiveVersion, Refusal> Admit(const PolicyVersion& version, const v1::AliasChange& change) const;

 private:
  std::string policy_, schema_digest_, ranges_bytes_;
  ExplorationBox box_;
  Precision precision_;
};

}  // namespace fuseline
