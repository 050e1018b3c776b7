#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/metrics.h"
#include "fuseline/core/status.h"
#include "fuseline/v1/policy.pb.h"

#include "serving_state.h"

namespace fuseline {

// Definitions and aliases, as Redis holds them → the experiments that this ranker serves. An experiment serves once every one of its versions
// is here: no user is counted in an arm and served something else. When a version cannot be taken, the arm keeps the last good one, as
// `live` does. An experiment ends by a definition that says so, and by nothing else: one that is absent, that cannot be read, or that stands as it
// was at an earlier time goes on as it was last seen, for Redis lost something and will be repaired. One thread: the pick-up's.
class RunningExperiments {
 public:
  // Fetches and checks a version; the change names it, and its digest if an alias does.
  using Fetch = std::function<Result<std::shared_ptr<const LiveVersion>>(const v1::AliasChange&)>;
  // Told of what was refused, and why.
  using Refuse = std::function<void(const Status&)>;

  RunningExperiments(const std::vector<v1::Experiment>& built_in, Metrics& metrics) : built_in_(built_in), metrics_(metrics) {}

  // Those of Redis (name → bytes) win over those built in. `aliases`: alias → bytes of an AliasChange.
  // Errors: kUnavailable from `fetch`: what serves may serve on, call again; all else goes to `refuse`.
  Result<std::vector<RunningExperiment>> Build(const std::map<std::string, std::string>& defined,
                                               const std::map<std::string, std::string>& aliases, const Fetch& fetch, const Refuse& refuse);

  bool knows_any() const { return !built_in_.empty() || !seen_.empty(); }

 private:
  using Held = std::map<std::string, std::shared_ptr<const LiveVersion>>;  // By arm: the last good one.
  struct HeldVersions {
    Held arms, shadows;
  };

  std::map<std::string, v1::Experiment> Definitions(const std::map<std::string, std::string>& defined, const Refuse& refuse);
  Result<RunningExperiment> Begin(const v1::Experiment& definition, const std::map<std::string, std::string>& aliases, const Fetch& fetch,
                                  const Refuse& refuse);
  Result<ServedArm> Serve(const std::string& experiment, const v1::Arm& arm, const std::map<std::string, std::string>& aliases,
                          const Fetch& fetch, const Refuse& refuse, Held& held_versions);

  const std::vector<v1::Experiment> built_in_;
  Metrics& metrics_;
  std::map<std::string, v1::AliasChange> followed_;  // By alias: the last one taken.
  std::map<std::string, v1::Experiment> seen_;        // By name: as far as each was seen to go in Redis.
  std::map<std::string, HeldVersions> versions_;      // By name, of those that serve.
};

}  // namespace fuseline
