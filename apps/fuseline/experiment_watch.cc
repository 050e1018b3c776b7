#include "experiment_watch.h"

#include <bit>

#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

ObservedSession SessionOf(const v1::Trajectory& trajectory, const RewardSpec& rewards) {
  const v1::Exposure& first = trajectory.steps(0).exposure();
  ObservedSession session{.experiment = first.experiment(), .arm = first.arm(), .user_id = trajectory.user_id(),
                          .coverage = first.experiment_coverage()};
  for (const double group : rewards.OfSession(trajectory)) session.metrics[v1::Guardrail::SESSION_REWARD] += group;
  for (const v1::Step& step : trajectory.steps()) {
    for (const v1::RewardComponents& item : step.rewards()) {
      session.metrics[v1::Guardrail::VALID] += rewards.Valid(ComponentsOf(item)) ? 1 : 0;
      session.metrics[v1::Guardrail::WATCH] += static_cast<double>(item.watch_ms()) / 1000;
    }
  }
  return session;
}

}  // namespace

ExperimentWatch::ExperimentWatch(const v1::Config& config, Learner& learner, Publication& publication, Instruments instruments)
    : rule_(config.rollout()),
      rewards_(config.rewards(), config.learner().reward_cap()),
      publication_(publication),
      instruments_(instruments),
      let_go_(instruments.metrics.GetCounter("fuseline_rollout_let_go_total", "experiments whose figures made room for those of others")),
      left_out_(instruments.metrics.GetGauge("fuseline_rollout_left_out_sessions", "sessions that no experiment's figures have, for want of room")),
      evaluation_(static_cast<std::size_t>(config.rollout().max_users())) {
  v1::EvaluationState state;
  const bool readable = state.ParseFromString(learner.beside());
  const Status restored = readable ? evaluation_.Restore(state) : ErrorStatus(Code::kCorrupt, "the state of experiments cannot be read");
  if (!restored.ok()) instruments.log.Error("rollout.evaluation_lost", "why", restored.message);
  left_out_.Set(static_cast<double>(evaluation_.left_out()));
  evaluation_.OnLetGo([this](const v1::ExperimentTotals& totals) { NoteLetGo(totals); });
  learner.RideAlong([this] { return CanonicalBytes(evaluation_.State()); });
  learner.OnMerged([this](const v1::Trajectory& trajectory) { See(trajectory); });
}

// A session counts for the arm of its first request: which one that is was decided before anything in it could matter.
void ExperimentWatch::See(const v1::Trajectory& trajectory) {
  for (const v1::Step& step : trajectory.steps()) {
    for (const v1::ShadowScore& score : step.exposure().shadows()) evaluation_.ObserveShadow(step.exposure().experiment(), score);
  }
  if (trajectory.steps().empty()) return;
  publication_.Served(trajectory.steps(0).exposure().policy_version());
  if (trajectory.steps(0).exposure().experiment().empty()) return;
  const ObservedSession session = SessionOf(trajectory, rewards_);
  const v1::ExperimentTotals* totals = evaluation_.Find(session.experiment);
  const std::uint64_t before = totals == nullptr ? 0 : totals->sessions(), left_out_before = evaluation_.left_out();
  evaluation_.Observe(session);
  if (evaluation_.left_out() != left_out_before) NoteLeftOut();
  totals = evaluation_.Find(session.experiment);
  if (totals == nullptr || totals->sessions() == before) return;
  if (totals->sessions() % static_cast<std::uint64_t>(rule_.look_every_sessions()) == 0) publication_.Look(*totals, evaluation_.left_out());
}

// A line for whatever may have been judged; of the others, as of sessions, the first, second, fourth, … has one.
void ExperimentWatch::NoteLetGo(const v1::ExperimentTotals& totals) {
  let_go_.Increment();
  const bool was_judged = totals.sessions() >= static_cast<std::uint64_t>(rule_.look_every_sessions());
  if (!was_judged && !std::has_single_bit(static_cast<std::uint64_t>(let_go_.value()))) return;
  instruments_.log.Error("rollout.evaluation_full", "let_go", totals.name(), "its_sessions", totals.sessions(), "left_out", evaluation_.left_out());
}

void ExperimentWatch::NoteLeftOut() {
  left_out_.Set(static_cast<double>(evaluation_.left_out()));
  if (!std::has_single_bit(evaluation_.left_out())) return;
  instruments_.log.Error("rollout.evaluation_full", "left_out", evaluation_.left_out());
}

}  // namespace fuseline
