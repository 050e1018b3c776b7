#include "reward_comparison.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <nlohmann/json.hpp>

#include "fuseline/core/digest.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "opening.h"

namespace fuseline {
namespace {

constexpr std::uint64_t kSampleRequests = 500;
// A partition's trajectories of one instant wait until the next instant is seen.
constexpr std::int64_t kQueueTrajectories = 1'000'000;

std::string Cell(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

std::string Row(const std::string& what, const std::string& in_force, const std::string& proposed,
                const std::string& other = "") {
  char text[160];
  std::snprintf(text, sizeof text, "%-28s %-18s %-18s %s", what.c_str(), in_force.c_str(), proposed.c_str(),
                other.c_str());
  std::string row(text);
  row.erase(row.find_last_not_of(' ') + 1);
  return row + '\n';
}

std::string VersionText(const RewardOutcome& outcome) {
  if (outcome.version == 0) return "none";
  return std::to_string(outcome.version) + (outcome.accepted ? ", accepted" : ", refused");
}

std::string DimensionName(const RewardReport& report, std::size_t d) {
  const std::size_t k = report.tasks.size();
  return std::string(d < k ? "power " : "bias ") + report.tasks[d % k];
}

}  // namespace

RewardComparison::RewardComparison(const v1::Config& config, const v1::Rewards& proposed)
    : config_(config),
      in_force_(config.rewards(), config.learner().reward_cap()),
      proposed_(proposed, config.learner().reward_cap()),
      random_(config.fuseline().seed(), "reward comparison", 0) {
  report_.in_force.rewards_sha256 = ToHex(RewardsDigest(config.rewards()));
  report_.proposed.rewards_sha256 = ToHex(RewardsDigest(proposed));
}

Result<std::unique_ptr<RewardComparison>> RewardComparison::Open(const v1::Config& config,
                                                                 const v1::Rewards& proposed,
                                                                 const std::filesystem::path& folder, Log& log,
                                                                 const Clock& clock) {
  auto comparison = std::unique_ptr<RewardComparison>(new RewardComparison(config, proposed));
  v1::Config other = config;
  *other.mutable_rewards() = proposed;
  other.mutable_learner()->set_queue_trajectories(kQueueTrajectories);
  other.mutable_scorer()->set_learn(false);
  FUSELINE_ASSIGN_OR_FAIL(comparison->learner_,
                          Learner::Open(folder, other, BuildText(), log, comparison->metrics_, clock));
  return comparison;
}

void RewardComparison::ExpectPartitions(int count) {
  partitions_ = count;
  learner_->ExpectPartitions(count);
}

Status RewardComparison::Take(const v1::Trajectory& trajectory) {
  if (trajectory.stub_reason().empty()) {
    Tally(trajectory);
    Sample(trajectory);
  } else {
    ++report_.stubs;
  }
  v1::TrajectoryRecord record;
  *record.mutable_trajectory() = trajectory;
  FUSELINE_RETURN_IF_ERROR(learner_->Offer(std::move(record)));
  // Merged is merged: nothing earlier comes from anywhere.
  for (std::int32_t partition = 0; partition < partitions_; ++partition) {
    v1::TrajectoryRecord mark;
    mark.mutable_progress()->set_partition(partition);
    mark.mutable_progress()->set_stream_time_ms(trajectory.stream_time_ms());
    FUSELINE_RETURN_IF_ERROR(learner_->Offer(std::move(mark)));
  }
  return Advance();
}

void RewardComparison::Tally(const v1::Trajectory& trajectory) {
  const auto now = in_force_.OfSession(trajectory);
  const auto then = proposed_.OfSession(trajectory);
  ++report_.sessions;
  report_.sessions_changed += now != then ? 1 : 0;
  for (std::size_t group = 0; group < kRewardGroups; ++group) {
    report_.in_force.mean_reward[group] += now[group];
    report_.proposed.mean_reward[group] += then[group];
  }
}

// Each request of the log is as likely in the sample as any other (Vitter's algorithm R).
void RewardComparison::Sample(const v1::Trajectory& trajectory) {
  for (const v1::Step& step : trajectory.steps()) {
    const std::uint64_t at =
        requests_seen_ < kSampleRequests ? requests_seen_ : random_.NextBelow(requests_seen_ + 1);
    ++requests_seen_;
    if (at >= kSampleRequests) continue;
    if (at == sample_.size()) sample_.emplace_back();
    sample_[at] = step.exposure();
  }
}

Status RewardComparison::Advance() {
  while (!learner_->idle()) {
    FUSELINE_ASSIGN_OR_RETURN(auto version, learner_->Advance());
    if (!version) continue;
    FUSELINE_RETURN_IF_ERROR(learner_->MarkStored(version->manifest.version()));
    newest_ = std::move(version);
  }
  return OkStatus();
}

Result<RewardReport> RewardComparison::Finish(const std::filesystem::path& archive,
                                              const std::string& weights_sha256) {
  for (std::int32_t partition = 0; partition < partitions_; ++partition) {
    v1::TrajectoryRecord mark;
    mark.mutable_progress()->set_partition(partition);
    mark.mutable_progress()->set_stream_time_ms(kEndOfTimeMs);
    FUSELINE_FAIL_IF_ERROR(learner_->Offer(std::move(mark)));
  }
  FUSELINE_FAIL_IF_ERROR(Advance());

  const v1::FeatureSchema schema = SchemaOf(config_);
  FUSELINE_ASSIGN_OR_FAIL(const v1::ActionRanges ranges, ActionRangesOf(config_.policy(), schema));
  FUSELINE_ASSIGN_OR_FAIL(const ActionSpace space, ActionSpace::Create(ranges));
  for (const v1::Task& task : schema.tasks()) report_.tasks.push_back(task.name());
  for (std::size_t d = 0; d < space.width(); ++d)
    report_.static_action.push_back(space.ToBusiness(d, space.static_action()[d]));
  report_.requests = sample_.size();
  for (RewardOutcome* outcome : {&report_.in_force, &report_.proposed}) {
    for (double& reward : outcome->mean_reward)
      reward /= static_cast<double>(std::max<std::uint64_t>(1, report_.sessions));
  }
  report_.in_force.weights_sha256 = weights_sha256;
  report_.proposed.weights_sha256 = learner_->WeightsSha256();
  if (newest_) FUSELINE_FAIL_IF_ERROR(DescribePolicy(*newest_, &report_.proposed));
  DiskFileSystem files;
  const Archive versions = Archive::OpenReadOnly(archive, files);
  const auto newest = versions.Newest();
  if (!newest && newest.error().code != Code::kNotFound) return tl::unexpected(newest.error());
  if (newest) {
    FUSELINE_ASSIGN_OR_FAIL(const ArchivedVersion found, versions.Get(*newest));
    FUSELINE_FAIL_IF_ERROR(DescribePolicy(found.version, &report_.in_force));
  }
  return report_;
}

// The mean over all items of the sampled requests; requests that the policy cannot encode are left out, as from
// learning.
Status RewardComparison::DescribePolicy(const PolicyVersion& version, RewardOutcome* outcome) const {
  outcome->version = version.manifest.version();
  outcome->accepted = version.manifest.gate().passed();
  FUSELINE_ASSIGN_OR_RETURN(const TensorMap tensors, DecodeWeights(version.weights));
  FUSELINE_ASSIGN_OR_RETURN(const PolicyNetwork network, PolicyNetwork::Create(version.manifest, tensors));
  const ActionSpace& space = network.action_space();
  std::vector<double> sum(space.width());
  double items = 0;
  ActorWorkspace workspace;
  for (const v1::Exposure& request : sample_) {
    std::vector<CandidateView> candidates;
    for (const v1::ExposedItem& item : request.items()) candidates.push_back(ViewOf(item));
    std::vector<float> actions(candidates.size() * space.width());
    if (!network
             .Act(ViewOf(request.user_features()), ViewOf(request.context_features()), candidates, workspace, actions)
             .ok())
      continue;
    for (std::size_t i = 0; i < actions.size(); ++i)
      sum[i % space.width()] += space.ToBusiness(i % space.width(), actions[i]);
    items += static_cast<double>(candidates.size());
  }
  for (double& value : sum) value /= items > 0 ? items : 1;
  if (items > 0) outcome->mean_action = std::move(sum);
  return OkStatus();
}

std::string RewardReportText(const RewardReport& report) {
  const RewardOutcome &a = report.in_force, &b = report.proposed;
  std::string text = Row("rewards", "in force", "proposed");
  text += Row("specification sha256", a.rewards_sha256.substr(0, 16), b.rewards_sha256.substr(0, 16));
  for (std::size_t group = 0; group < kRewardGroups; ++group) {
    text += Row(std::string("mean session ") + kRewardGroupNames[group], Cell(a.mean_reward[group]),
                Cell(b.mean_reward[group]), "difference " + Cell(b.mean_reward[group] - a.mean_reward[group]));
  }
  text += Row("weights sha256", a.weights_sha256.substr(0, 16), b.weights_sha256.substr(0, 16));
  text += Row("newest version", VersionText(a), VersionText(b), "hand-set");
  for (std::size_t d = 0; d < report.static_action.size(); ++d) {
    const auto cell = [&](const RewardOutcome& outcome) {
      return outcome.mean_action.empty() ? "-" : Cell(outcome.mean_action[d]);
    };
    text += Row(DimensionName(report, d), cell(a), cell(b), Cell(report.static_action[d]));
  }
  return text + std::to_string(report.sessions) + " sessions, of these " + std::to_string(report.sessions_changed) +
         " with another reward; " + std::to_string(report.stubs) +
         " too large to judge; powers and biases are means over " + std::to_string(report.requests) + " requests\n";
}

std::string RewardReportJson(const RewardReport& report) {
  using Json = nlohmann::ordered_json;
  const auto outcome = [&](const RewardOutcome& o) {
    Json rewards = Json::object(), action = Json::object();
    for (std::size_t group = 0; group < kRewardGroups; ++group)
      rewards[kRewardGroupNames[group]] = o.mean_reward[group];
    for (std::size_t d = 0; d < o.mean_action.size(); ++d) action[DimensionName(report, d)] = o.mean_action[d];
    return Json{{"rewards_sha256", o.rewards_sha256},
                {"mean_session_reward", rewards},
                {"weights_sha256", o.weights_sha256},
                {"version", o.version},
                {"accepted", o.accepted},
                {"mean_action", action}};
  };
  return Json{{"sessions", report.sessions},
              {"sessions_changed", report.sessions_changed},
              {"stubs", report.stubs},
              {"requests", report.requests},
              {"in_force", outcome(report.in_force)},
              {"proposed", outcome(report.proposed)}}
      .dump();
}

}  // namespace fuseline
