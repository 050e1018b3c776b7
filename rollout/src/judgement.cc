#include "fuseline/rollout/judgement.h"

#include <cmath>
#include <limits>
#include <map>
#include <sstream>
#include <utility>

#include "fuseline/rollout/experiment.h"

namespace fuseline {
namespace {

UserSums SumsOf(const v1::ArmTotals& arm, int metric) {
  UserSums sums;
  sums.users = static_cast<double>(arm.users());
  sums.n = static_cast<double>(arm.sessions());
  sums.nn = arm.squared_sessions();
  sums.y = arm.metrics(metric).sum();
  sums.yy = arm.metrics(metric).squares();
  sums.yn = arm.metrics(metric).with_sessions();
  return sums;
}

const v1::ArmTotals* FindArm(const v1::ExperimentTotals* totals, const std::string& name) {
  if (totals == nullptr) return nullptr;
  for (const v1::ArmTotals& arm : totals->arms()) {
    if (arm.name() == name) return &arm;
  }
  return nullptr;
}

double LogSampleRatioOf(const v1::Experiment& experiment, const std::vector<const v1::ArmTotals*>& arms) {
  struct Stage {
    std::vector<double> expected;
    std::vector<std::uint64_t> users;
  };
  std::map<std::uint32_t, Stage> stages;
  for (std::size_t i = 0; i < arms.size(); ++i) {
    if (arms[i] == nullptr) continue;
    for (const v1::EntryCount& entry : arms[i]->entries()) {
      Stage& stage = stages[entry.coverage()];
      stage.users.resize(arms.size());
      stage.users[i] += entry.users();
    }
  }
  std::vector<EntryStage> entries;
  for (auto& [coverage, stage] : stages) {
    stage.expected = ExpectedShares(experiment, coverage);
    entries.push_back({stage.expected, stage.users});
  }
  return LogSampleRatioE(ExpectedShares(experiment, 0), entries);
}

// Why the arm fails the guardrail; empty: it does not.
std::string FailureOf(const v1::Guardrail& guardrail, const ArmJudgement& arm, const ArmJudgement& first, const v1::Rollout& rule) {
  const auto metric = static_cast<std::size_t>(guardrail.metric());
  const MeanEstimate& control = first.metrics[metric].mean;
  const double factor = control.mean < 0 ? 1 + guardrail.tolerance() : 1 - guardrail.tolerance();
  const MeanEstimate lost = Contrast(arm.metrics[metric].mean, factor, control);
  const double alpha = guardrail.alpha() > 0 ? guardrail.alpha() : rule.alpha();
  const double upper = lost.mean + ConfidenceSequence(alpha, static_cast<double>(rule.best_at_users())).OneSidedWidth(lost);
  if (!(upper < 0)) return "";
  std::ostringstream why;
  why << v1::Guardrail::Metric_Name(guardrail.metric()) << " of arm " << arm.name << " is " << arm.metrics[metric].mean.mean << " a session, "
      << first.name << "'s " << control.mean << "; with " << arm.users << " and " << first.users << " users, " << arm.sessions << " and "
      << first.sessions << " sessions, it is below " << factor << " of it at alpha " << alpha;
  return why.str();
}

bool IsJudged(const ArmJudgement& arm, const ArmJudgement& first, const v1::Rollout& rule) {
  const auto least = static_cast<std::uint64_t>(rule.min_users());
  return arm.users >= least && first.users >= least;
}

std::optional<Alarm> AlarmOf(const v1::Experiment& experiment, const Judgement& judgement, const v1::Rollout& rule) {
  std::optional<Alarm> pause;
  for (std::size_t i = 1; i < judgement.arms.size(); ++i) {
    const ArmJudgement& arm = judgement.arms[i];
    if (!IsJudged(arm, judgement.arms[0], rule)) continue;
    for (const v1::Guardrail& guardrail : experiment.guardrails()) {
      std::string why = FailureOf(guardrail, arm, judgement.arms[0], rule);
      if (why.empty()) continue;
      Alarm alarm{guardrail.action(), arm.name, std::move(why)};
      if (alarm.action == v1::Guardrail::ROLLBACK) return alarm;
      if (!pause) pause = std::move(alarm);
    }
  }
  const double alpha = experiment.sample_ratio_alpha() > 0 ? experiment.sample_ratio_alpha() : rule.sample_ratio_alpha();
  if (judgement.log_sample_ratio_e >= -std::log(alpha)) {
    std::ostringstream why;
    why << "users do not enter the arms in the expected shares: log e-value " << judgement.log_sample_ratio_e << " at alpha " << alpha
        << "; no figure of this experiment can be trusted";
    return Alarm{v1::Guardrail::PAUSE, "", why.str()};
  }
  return pause;
}

}  // namespace

Judgement Judge(const v1::Experiment& experiment, const v1::ExperimentTotals* totals, const v1::Rollout& rule) {
  const ConfidenceSequence sequence(rule.alpha(), static_cast<double>(rule.best_at_users()));
  Judgement judgement;
  std::vector<const v1::ArmTotals*> arms;
  for (const v1::Arm& defined : experiment.arms()) {
    const v1::ArmTotals* const seen = arms.emplace_back(FindArm(totals, defined.name()));
    ArmJudgement& arm = judgement.arms.emplace_back();
    arm.name = defined.name();
    if (seen == nullptr) continue;
    arm.users = seen->users();
    arm.sessions = seen->sessions();
    for (std::size_t i = 0; i < kMetrics; ++i) arm.metrics[i].mean = SessionMean(SumsOf(*seen, static_cast<int>(i)));
  }
  for (ArmJudgement& arm : judgement.arms) {
    const bool is_judged = &arm != &judgement.arms[0] && IsJudged(arm, judgement.arms[0], rule);
    for (std::size_t i = 0; i < kMetrics; ++i) {
      const MeanEstimate difference = Contrast(arm.metrics[i].mean, 1, judgement.arms[0].metrics[i].mean);
      arm.metrics[i].difference = difference.mean;
      arm.metrics[i].half_width = is_judged ? sequence.HalfWidth(difference) : std::numeric_limits<double>::infinity();
    }
  }
  judgement.log_sample_ratio_e = LogSampleRatioOf(experiment, arms);
  judgement.alarm = AlarmOf(experiment, judgement, rule);
  return judgement;
}

}  // namespace fuseline
