#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/random.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/learner/learner.h"
#include "fuseline/learner/rewards.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// What one reward specification makes of the trajectories, and what is learned under it.
struct RewardOutcome {
  std::string rewards_sha256;                       // Hex.
  std::array<double, kRewardGroups> mean_reward{};  // Of a session, by group.
  std::string weights_sha256;                       // Hex; of all networks at the end.
  std::uint64_t version = 0;                        // The newest made; 0: none.
  bool accepted = false;
  std::vector<double> mean_action;  // Of that version, business units: k powers, then k biases. Empty: no version.
};

struct RewardReport {
  std::uint64_t sessions = 0;          // With steps: both specifications judged these.
  std::uint64_t sessions_changed = 0;  // Of these: worth something else under the other one.
  std::uint64_t stubs = 0;             // Without steps, and so without reward.
  std::uint64_t requests = 0;          // Behind mean_action.
  std::vector<std::string> tasks;
  std::vector<double> static_action;  // The hand-set one, business units.
  RewardOutcome in_force, proposed;
};

// A second learner beside the one of a replay: it is given every trajectory that the first one merges, in that order,
// and learns it under another reward specification. So both have seen the same, whatever was read and however far.
// Take runs on the first learner's thread, everything else before or after it.
class RewardComparison {
 public:
  // `folder` is the second learner's own. Errors: as Learner::Open.
  static Result<std::unique_ptr<RewardComparison>> Open(const v1::Config& config, const v1::Rewards& proposed,
                                                        const std::filesystem::path& folder, Log& log,
                                                        const Clock& clock);

  void ExpectPartitions(int count);
  // Errors: those of the learner. After one nothing more may be taken.
  Status Take(const v1::Trajectory& trajectory);
  // After the last Take: the second learner takes what it holds. `archive`: of the first one. Errors: those of
  // learner and archive.
  Result<RewardReport> Finish(const std::filesystem::path& archive, const std::string& weights_sha256);

 private:
  RewardComparison(const v1::Config& config, const v1::Rewards& proposed);
  void Tally(const v1::Trajectory& trajectory);
  void Sample(const v1::Trajectory& trajectory);
  Status Advance();
  Status DescribePolicy(const PolicyVersion& version, RewardOutcome* outcome) const;

  const v1::Config config_;
  const RewardSpec in_force_, proposed_;
  Metrics metrics_;  // Its own: those of the first learner say what that one does.
  std::unique_ptr<Learner> learner_;
  std::optional<PolicyVersion> newest_;
  int partitions_ = 1;
  Random random_;
  std::uint64_t requests_seen_ = 0;
  std::vector<v1::Exposure> sample_;  // Requests by which policies are described, drawn from all.
  RewardReport report_;               // Its rewards are sums until Finish.
};

// A table for people, or one JSON object.
std::string RewardReportText(const RewardReport& report);
std::string RewardReportJson(const RewardReport& report);

}  // namespace fuseline
