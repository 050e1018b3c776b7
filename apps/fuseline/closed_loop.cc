#include "closed_loop.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/learner/learner.h"
#include "fuseline/serving_bridge/decision_maker.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/simulator/local_rankers.h"
#include "fuseline/simulator/simulation.h"

namespace fuseline {
namespace {

constexpr std::int64_t kStartMs = 1'704'067'200'000;  // 2024-01-01, so that a run can be repeated.
constexpr std::int64_t kSpreadMs = 6 * 3'600'000;     // Over which users begin.
constexpr std::int32_t kPartition = 0;
// Events between two looks at what sessions closed: an event-time minute or two of some hundred users. What is learned from and when
// it serves depends on it, so it is no setting.
constexpr std::uint64_t kEventsPerTurn = 1'000;
constexpr std::size_t kOutboxPage = 256;
constexpr double kJudgedDays = 5.0;
constexpr std::uint32_t kDescribedUsers = 200;
constexpr char kArm[] = "judged";

// Who trains and who judges.
struct Split {
  Visitors training, judged;
  explicit Split(const World& world) {
    const auto users = static_cast<std::uint32_t>(world.user_count());
    training = {.first_user = 0, .users = users - users / 4};
    judged = {.first_user = training.users, .users = users / 4};
  }
};

ReturnFigures FiguresOf(const ArmSummary& summary) {
  const double sessions = std::max<double>(1, static_cast<double>(summary.totals.sessions));
  return {.sessions = summary.totals.sessions,
          .mean_return = summary.totals.reward / sessions,
          .valid = static_cast<double>(summary.totals.valid) / sessions,
          .watch_s = summary.totals.watch_s / sessions,
          .requests = static_cast<double>(summary.totals.requests) / sessions};
}

// The live version and what it decides with.
class LoopRanker final : public RankService {
 public:
  static Result<std::unique_ptr<LoopRanker>> Open(const v1::Config& config, Metrics& metrics) {
    FUSELINE_ASSIGN_OR_FAIL(const RankerOptions options, RankerOptionsOf(config));
    FUSELINE_ASSIGN_OR_FAIL(DecisionMaker decisions, DecisionMaker::Create(options, metrics));
    return std::unique_ptr<LoopRanker>(new LoopRanker(std::move(decisions)));
  }

  Status Serve(const PolicyVersion& version) {
    FUSELINE_ASSIGN_OR_RETURN(const TensorMap tensors, DecodeWeights(version.weights));
    FUSELINE_ASSIGN_OR_RETURN(PolicyNetwork network, PolicyNetwork::Create(version.manifest, tensors));
    network_.emplace(std::move(network));
    const auto& box = version.manifest.box();
    policy_ = {&*network_, {box.lower(), box.upper()}, version.manifest.version()};
    return OkStatus();
  }

  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override {
    FUSELINE_RETURN_IF_ERROR(decisions_.Decide(request, policy_, workspace_, decision_));
    decisions_.FillExposure(request, decision_, exposure);
    return OkStatus();
  }

  const PolicyNetwork* network() const { return policy_.network; }  // Null: the static weights serve.
  std::uint64_t version() const { return policy_.version; }

 private:
  explicit LoopRanker(DecisionMaker decisions) : decisions_(std::move(decisions)) {}

  DecisionMaker decisions_;
  DecisionMaker::Workspace workspace_;
  Decision decision_;
  std::optional<PolicyNetwork> network_;
  ServingPolicy policy_;
};

// Events → sessions → learner → ranker.
class Loop final : public EventSink {
 public:
  static Result<std::unique_ptr<Loop>> Open(const LoopPlan& plan, LoopRanker& ranker, Instruments instruments) {
    auto& [log, metrics, clock] = instruments;
    FUSELINE_FAIL_IF_ERROR(MakeFolders(plan.folder));
    FUSELINE_ASSIGN_OR_FAIL(auto sessionizer, Sessionizer::Open(plan.folder / "sessions", plan.config.sessionizer(), clock, log, metrics));
    v1::Config config = plan.config;
    config.mutable_scorer()->set_learn(false);  // Scores are the world's.
    FUSELINE_ASSIGN_OR_FAIL(auto learner, Learner::Open(plan.folder / "learner", config, plan.build, log, metrics, clock));
    learner->ExpectPartitions(1);
    FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const auto begin, sessionizer->TakeOver(kPartition, std::nullopt, 0));
    return std::unique_ptr<Loop>(new Loop(std::move(sessionizer), std::move(learner), ranker));
  }

  Status Append(v1::Event&& event) override {
    batch_.records.push_back({next_offset_++, RecordFate::kEvent, ViewOf(event, batch_.bytes)});
    return OkStatus();
  }

  // What was appended since the last turn is closed where it is due, learned from, and served.
  Status Turn() {
    batch_.partition = kPartition;
    batch_.next_offset = next_offset_;
    FUSELINE_RETURN_IF_ERROR(sessionizer_->Process(std::exchange(batch_, EventBatch())));
    FUSELINE_RETURN_IF_ERROR(sessionizer_->Commit());
    for (;;) {
      FUSELINE_ASSIGN_OR_RETURN(const auto entries, sessionizer_->Outbox(kPartition, last_, kOutboxPage));
      if (entries.empty()) return Learn();
      for (const OutboxEntry& entry : entries) FUSELINE_RETURN_IF_ERROR(Offer(entry));
      last_ = entries.back().name;
      sessionizer_->Acknowledge(*last_);  // Nobody comes back here after a crash: the run begins anew.
    }
  }

  const Learner& learner() const { return *learner_; }

 private:
  Loop(std::unique_ptr<Sessionizer> sessionizer, std::unique_ptr<Learner> learner, LoopRanker& ranker)
      : sessionizer_(std::move(sessionizer)), learner_(std::move(learner)), ranker_(ranker) {}

  Status Offer(const OutboxEntry& entry) {
    v1::TrajectoryRecord record;
    if (!record.mutable_trajectory()->ParseFromString(entry.bytes)) return ErrorStatus(Code::kCorrupt, "stored trajectory cannot be read");
    Status offered = learner_->Offer(record);
    if (offered.code != Code::kUnavailable) return offered;
    FUSELINE_RETURN_IF_ERROR(Learn());  // Its queue is full; learning makes room.
    return learner_->Offer(std::move(record));
  }

  Status Learn() {
    while (!learner_->idle()) {
      FUSELINE_ASSIGN_OR_RETURN(const auto version, learner_->Advance());
      if (!version) continue;
      if (version->manifest.gate().passed()) FUSELINE_RETURN_IF_ERROR(ranker_.Serve(*version));
      FUSELINE_RETURN_IF_ERROR(learner_->MarkStored(version->manifest.version()));
    }
    return OkStatus();
  }

  std::unique_ptr<Sessionizer> sessionizer_;
  std::unique_ptr<Learner> learner_;
  LoopRanker& ranker_;
  EventBatch batch_;
  std::int64_t next_offset_ = 0;
  std::optional<v1::TrajectoryName> last_;
};

class Curve {
 public:
  explicit Curve(const LoopPlan& plan) : plan_(plan) {}

  // Adds the points that are due.
  void Note(std::uint64_t sessions, const ArmStatistics& statistics, const LearnerProgress& learner) {
    const std::uint64_t due = plan_.sessions * (points_.size() + 1) / plan_.points;
    if (points_.size() == plan_.points || sessions < due) return;
    const UserTotals now = TotalsOf(statistics);
    ArmSummary window;
    window.totals = now;
    window.totals.Subtract(before_);
    before_ = now;
    const double made = std::max<double>(1, static_cast<double>(learner.versions));
    points_.push_back({.sessions = now.sessions,
                       .figures = FiguresOf(window),
                       .accepted_share = static_cast<double>(learner.versions_accepted) / made,
                       .versions = learner.versions});
  }

  std::vector<CurvePoint> points() && { return std::move(points_); }

 private:
  static UserTotals TotalsOf(const ArmStatistics& statistics) {
    UserTotals totals;
    for (const std::string& arm : statistics.arms()) totals.Add(statistics.Summarise(arm).totals);
    return totals;
  }

  const LoopPlan& plan_;
  std::vector<CurvePoint> points_;
  UserTotals before_;
};

Result<ReturnFigures> Judge(const World& world, RankService& ranker, const Visitors& users) {
  FUSELINE_ASSIGN_OR_FAIL(const ArmStatistics statistics, Evaluate(world, ranker, kJudgedDays, users));
  return FiguresOf(statistics.Summarise(kArm));
}

// Mean and deviation of the actions at the first request of some judged users.
Status DescribeActions(const World& world, const PolicyNetwork& network, const Visitors& users, RunRecord& record) {
  const ActionSpace& space = network.action_space();
  std::vector<double> sum(space.width()), squares(space.width());
  std::vector<std::uint32_t> items;
  RequestContext context;
  std::vector<float> scores, actions;
  ActorWorkspace workspace;
  double count = 0;
  for (std::uint32_t user = users.first_user; user < users.first_user + std::min(users.users, kDescribedUsers); ++user) {
    world.Candidates(user, 0, &items);
    scores.resize(items.size() * space.task_count());
    world.Scores(user, items, scores);
    world.ContextFeatures(user, kStartMs, world.FirstMood(user), &context);
    std::vector<CandidateView> candidates;
    for (std::size_t i = 0; i < items.size(); ++i) {
      candidates.push_back({world.ItemFeatures(items[i]), std::span(scores).subspan(i * space.task_count(), space.task_count())});
    }
    actions.resize(items.size() * space.width());
    FUSELINE_RETURN_IF_ERROR(network.Act(world.UserFeatures(user), context.view(), candidates, workspace, actions));
    for (std::size_t i = 0; i < actions.size(); ++i) {
      const double value = space.ToBusiness(i % space.width(), actions[i]);
      sum[i % space.width()] += value;
      squares[i % space.width()] += value * value;
    }
    count += static_cast<double>(items.size());
  }
  for (std::size_t d = 0; d < space.width(); ++d) {
    const double mean = sum[d] / count;
    record.action_mean.push_back(mean);
    record.action_deviation.push_back(std::sqrt(std::max(0.0, squares[d] / count - mean * mean)));
  }
  return OkStatus();
}

Status JudgeAll(const World& world, const PolicyNetwork* learned, const Visitors& users, RunRecord& record) {
  FUSELINE_ASSIGN_OR_RETURN(record.fixed, Judge(world, *world.StaticPolicy(kArm), users));
  FUSELINE_ASSIGN_OR_RETURN(record.best, Judge(world, *world.BestPolicy(kArm), users));
  record.best_is_optimal = world.best_is_optimal();
  record.learned = record.fixed;
  if (learned == nullptr) return OkStatus();
  NetworkRanker ranker(world, *learned, kArm);
  FUSELINE_ASSIGN_OR_RETURN(record.learned, Judge(world, ranker, users));
  return DescribeActions(world, *learned, users, record);
}

}  // namespace

Result<RunRecord> RunClosedLoop(const World& world, const LoopPlan& plan, Instruments instruments, std::stop_token stop) {
  const Split split(world);
  const std::int64_t begin_us = instruments.clock.monotonic_us();
  FUSELINE_ASSIGN_OR_FAIL(const auto ranker, LoopRanker::Open(plan.config, instruments.metrics));
  FUSELINE_ASSIGN_OR_FAIL(const auto loop, Loop::Open(plan, *ranker, instruments));
  Simulation simulation(world, *ranker, *loop, kStartMs, kSpreadMs, split.training);
  Curve curve(plan);
  for (std::uint64_t sessions = 0; sessions < plan.sessions;) {
    FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const auto made, simulation.RunUntil({.max_events = kEventsPerTurn}, stop));
    if (stop.stop_requested()) return Error(Code::kUnavailable, "interrupted");
    FUSELINE_FAIL_IF_ERROR(loop->Turn());
    sessions = simulation.sessions();
    curve.Note(sessions, simulation.statistics(), loop->learner().progress());
    if (plan.progress) plan.progress(sessions);
  }
  const LearnerProgress learned = loop->learner().progress();
  RunRecord record;
  record.algorithm = plan.config.learner().algorithm();
  record.preset = plan.config.learner().preset();
  record.seed = plan.config.fuseline().seed();
  record.sessions = plan.sessions;
  record.curve = std::move(curve).points();
  record.versions = learned.versions;
  record.versions_accepted = learned.versions_accepted;
  record.live_version = ranker->version();
  record.transitions = learned.transitions;
  record.steps = learned.steps;
  record.weights_sha256 = loop->learner().WeightsSha256();
  record.wall_s = static_cast<double>(instruments.clock.monotonic_us() - begin_us) / 1e6;
  FUSELINE_FAIL_IF_ERROR(JudgeAll(world, ranker->network(), split.judged, record));
  return record;
}

}  // namespace fuseline
