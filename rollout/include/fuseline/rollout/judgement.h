#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/rollout/evaluation.h"
#include "fuseline/rollout/sequential.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/rollout.pb.h"

namespace fuseline {

// An arm beside the first one, in one metric.
struct MetricComparison {
  MeanEstimate mean;       // Of the arm, a session.
  double difference = 0;   // From the first arm's.
  double half_width = 0;   // Of the difference's two-sided confidence sequence; infinite before min_users.
};

struct ArmJudgement {
  std::string name;
  std::uint64_t users = 0;
  std::uint64_t sessions = 0;
  std::array<MetricComparison, kMetrics> metrics;
};

// What a guardrail asks for. A rollback names the arm; a pause may be about the sample ratio, and then names none.
struct Alarm {
  v1::Guardrail::Action action = v1::Guardrail::PAUSE;
  std::string arm;
  std::string why;
};

struct Judgement {
  std::vector<ArmJudgement> arms;  // As the experiment lists them.
  double log_sample_ratio_e = 0;
  std::optional<Alarm> alarm;      // The gravest: a rollback before a pause.
};

// How an experiment stands, and whether a guardrail speaks. Whatever the number of looks, each guardrail, and the sample-ratio test, raises
// a false alarm with a probability of at most its alpha. A guardrail fails when the upper end of the one-sided confidence sequence of
//   mean(arm) - mean(first) + tolerance |mean(first)|
// lies below 0. A function of its arguments. `totals` may be null: nobody was seen. REQUIRES: ValidateExperiment(experiment).ok().
Judgement Judge(const v1::Experiment& experiment, const v1::ExperimentTotals* totals, const v1::Rollout& rule);

}  // namespace fuseline
