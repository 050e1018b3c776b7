#include "guardrails.h"

#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/rollout/judgement.h"

namespace fuseline {
namespace {

struct Desk {
  RedisConnection& redis;
  const PolicyKeys& keys;
  std::uint64_t epoch;
  std::int64_t changes_kept;
  Instruments instruments;
};

// The alias that the arm serves goes back. An arm of a fixed version, or of the static weights, ends with its experiment.
Status MoveBack(Desk& desk, const v1::Arm& arm, const std::string& why) {
  if (arm.alias().empty()) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(const v1::AliasState aliases, ReadAliases(desk.redis, desk.keys));
  if (aliases.epoch() != desk.epoch) return ErrorStatus(Code::kConflict, "fenced: another writer has claimed the policy, epoch", aliases.epoch());
  const v1::AliasChange* const good = FindAlias(aliases, kLastGoodAlias);
  const v1::AliasChange* const now = FindAlias(aliases, arm.alias());
  if (good == nullptr) {
    desk.instruments.log.Error("rollout.last_good_missing", "alias", arm.alias(), "why", why);
    return OkStatus();  // Nobody is in the experiment any more; where its alias should go, somebody must say.
  }
  if (now != nullptr && now->to_version() == good->to_version()) return OkStatus();
  AliasMove move;
  if (arm.alias() == kLiveAlias) {
    FUSELINE_ASSIGN_OR_RETURN(move, PlanRollback(aliases, good->to_version()));  // As by hand: pinned, and followed by the learner.
  } else {
    move.alias = arm.alias();
    move.to_version = good->to_version();
    move.cause = v1::AliasChange::ROLLED_BACK;
  }
  move.who = kGuardrailAuthor;
  move.why = why;
  move.wall_ms = desk.instruments.clock.wall_ms();
  const auto moved = MoveAlias(desk.redis, desk.keys, aliases, move, desk.changes_kept);
  return moved ? OkStatus() : moved.error();
}

Status Act(Desk& desk, const v1::Experiment& experiment, const Alarm& alarm) {
  const bool ends = alarm.action == v1::Guardrail::ROLLBACK;
  const v1::Experiment::State state = ends ? v1::Experiment::ROLLED_BACK : v1::Experiment::PAUSED;
  if (experiment.state() == state) return OkStatus();
  for (const v1::Arm& arm : experiment.arms()) {
    if (ends && arm.name() == alarm.arm) FUSELINE_RETURN_IF_ERROR(MoveBack(desk, arm, "experiment " + experiment.name() + ": " + alarm.why));
  }
  FUSELINE_ASSIGN_OR_RETURN(const v1::Experiment next, Changed(experiment, state, experiment.coverage(), kGuardrailAuthor, alarm.why,
                                                               desk.instruments.clock.wall_ms()));
  FUSELINE_RETURN_IF_ERROR(WriteExperiment(desk.redis, desk.keys, desk.epoch, &experiment, next, desk.changes_kept));
  desk.instruments.metrics.GetCounter("fuseline_rollout_alarms_total", "guardrails that spoke",
                                      {{"experiment", experiment.name()}, {"action", v1::Guardrail::Action_Name(alarm.action)}}).Increment();
  desk.instruments.log.Error("rollout.guardrail_acted", "experiment", experiment.name(), "arm", alarm.arm, "state",
                             v1::Experiment::State_Name(state), "why", alarm.why);
  return OkStatus();
}

// What a dashboard draws of an experiment: as it stood at the last look.
void NoteFigures(const v1::Experiment& experiment, const Judgement& judgement, Metrics& metrics) {
  const auto set = [&](const std::string& name, const std::string& help, double value, MetricLabels labels) {
    labels["experiment"] = experiment.name();
    metrics.GetGauge("fuseline_rollout_" + name, help, labels).Set(value);
  };
  set("sample_ratio_log_e", "log of the sample ratio's e-value", judgement.log_sample_ratio_e, {});
  for (const ArmJudgement& arm : judgement.arms) {
    set("arm_users", "users of an arm whose sessions were judged", static_cast<double>(arm.users), {{"arm", arm.name}});
    set("arm_sessions", "sessions of an arm that were judged", static_cast<double>(arm.sessions), {{"arm", arm.name}});
    for (std::size_t i = 0; i < kMetrics; ++i) {
      const MetricComparison& metric = arm.metrics[i];
      const MetricLabels labels = {{"arm", arm.name}, {"metric", v1::Guardrail::Metric_Name(static_cast<v1::Guardrail::Metric>(i))}};
      set("arm_mean", "mean of a metric, a session", metric.mean.mean, labels);
      set("arm_difference_lower", "of the difference from the first arm: lower end of its confidence sequence", metric.difference - metric.half_width, labels);
      set("arm_difference_upper", "the same: upper end", metric.difference + metric.half_width, labels);
    }
  }
}

}  // namespace

Status LookAtExperiment(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, const v1::Config& config,
                        const v1::ExperimentTotals& totals, Instruments instruments) {
  FUSELINE_RETURN_IF_ERROR(WriteFigures(redis, keys, totals));
  FUSELINE_ASSIGN_OR_RETURN(const auto experiments, ReadExperiments(redis, keys));
  const auto found = experiments.find(totals.name());
  if (found == experiments.end() || !IsServing(found->second)) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(ValidateExperiment(found->second));
  const Judgement judgement = Judge(found->second, &totals, config.rollout());
  NoteFigures(found->second, judgement, instruments.metrics);
  if (!judgement.alarm) return OkStatus();
  Desk desk{redis, keys, epoch, config.policy_store().changes_kept(), instruments};
  return Act(desk, found->second, *judgement.alarm);
}

}  // namespace fuseline
