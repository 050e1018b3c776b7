#include "experiment_text.h"

#include <cmath>
#include <cstdio>
#include <sstream>

#include <nlohmann/json.hpp>

#include "fuseline/rollout/experiment.h"

namespace fuseline {
namespace {

constexpr const char* kMetricNames[kMetrics] = {"reward", "valid", "watch_s"};

template <typename... Values>
std::string Format(const char* format, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

std::string ServesText(const v1::Arm& arm) {
  const std::string explore = arm.explore() ? ", exploring" : "";
  if (arm.static_weights()) return "static weights" + explore;
  return (arm.alias().empty() ? "version " + std::to_string(arm.version()) : "alias " + arm.alias()) + explore;
}

std::string ComparisonText(const MetricComparison& metric, bool is_first) {
  std::string text = Format("%12.4f", metric.mean.mean);
  if (is_first) return text;
  if (std::isinf(metric.half_width)) return text + "  (too few users to judge)";
  return text + Format("  %+.4f [%+.4f, %+.4f]", metric.difference, metric.difference - metric.half_width,
                       metric.difference + metric.half_width);
}

nlohmann::ordered_json ArmJson(const ArmJudgement& arm, bool is_first) {
  nlohmann::ordered_json json = {{"arm", arm.name}, {"users", arm.users}, {"sessions", arm.sessions}};
  for (std::size_t i = 0; i < kMetrics; ++i) {
    const MetricComparison& metric = arm.metrics[i];
    nlohmann::ordered_json of_metric = {{"mean", metric.mean.mean}};
    if (!is_first && !std::isinf(metric.half_width)) {
      of_metric["difference"] = metric.difference;
      of_metric["lower"] = metric.difference - metric.half_width;
      of_metric["upper"] = metric.difference + metric.half_width;
    }
    json[kMetricNames[i]] = of_metric;
  }
  return json;
}

}  // namespace

std::string ExperimentText(const v1::Experiment& experiment, const v1::ExperimentTotals& totals, const Judgement& judgement,
                           const v1::Rollout& rule) {
  std::ostringstream text;
  text << "experiment " << experiment.name() << ": " << v1::Experiment::State_Name(experiment.state()) << " at "
       << Format("%.2f", experiment.coverage() / 100.0) << " %, revision " << experiment.revision() << '\n';
  for (int i = 0; i < experiment.arms_size(); ++i) {
    const ArmJudgement& arm = judgement.arms[static_cast<std::size_t>(i)];
    text << "  arm " << arm.name << " (" << Format("%.2f", experiment.arms(i).share() / 100.0) << " %, " << ServesText(experiment.arms(i))
         << "): " << arm.users << " users, " << arm.sessions << " sessions\n";
    for (std::size_t metric = 0; metric < kMetrics; ++metric)
      text << "    " << Format("%-8s", kMetricNames[metric]) << ComparisonText(arm.metrics[metric], i == 0) << '\n';
  }
  text << "  differences are from arm " << experiment.arms(0).name() << ", a session, with confidence sequences at "
       << Format("%.4g", 100 * (1 - rule.alpha())) << " % for any number of looks\n";
  text << "  sample ratio: e-value " << Format("%.4g", std::exp(judgement.log_sample_ratio_e)) << '\n';
  if (totals.crossed() > 0) text << "  " << totals.crossed() << " sessions of users who had been in another arm are left out\n";
  for (const v1::ShadowTotals& shadow : totals.shadows()) {
    const auto requests = static_cast<double>(shadow.requests());
    text << "  shadow version " << shadow.policy_version() << ": " << shadow.requests() << " requests, rank correlation "
         << Format("%.4f, top overlap %.4f, action difference %.4f", shadow.rank_correlation() / requests, shadow.top_overlap() / requests,
                   shadow.action_difference() / requests)
         << '\n';
  }
  if (judgement.alarm) text << "  ALARM " << v1::Guardrail::Action_Name(judgement.alarm->action) << ": " << judgement.alarm->why << '\n';
  for (const v1::ExperimentChange& change : experiment.history()) {
    text << "  " << change.revision() << "  " << v1::Experiment::State_Name(change.state()) << " at "
         << Format("%.2f", change.coverage() / 100.0) << " %  by " << change.who() << (change.why().empty() ? "" : ": ") << change.why() << '\n';
  }
  return text.str();
}

std::string ExperimentJson(const v1::Experiment& experiment, const v1::ExperimentTotals& totals, const Judgement& judgement,
                           std::uint64_t left_out) {
  nlohmann::ordered_json json = {{"experiment", experiment.name()},
                                 {"state", v1::Experiment::State_Name(experiment.state())},
                                 {"coverage", experiment.coverage()},
                                 {"revision", experiment.revision()},
                                 {"sample_ratio_log_e", judgement.log_sample_ratio_e},
                                 {"crossed", totals.crossed()},
                                 {"left_out_of_all", left_out},
                                 {"arms", nlohmann::ordered_json::array()},
                                 {"shadows", nlohmann::ordered_json::array()}};
  for (const ArmJudgement& arm : judgement.arms) json["arms"].push_back(ArmJson(arm, &arm == &judgement.arms[0]));
  for (const v1::ShadowTotals& shadow : totals.shadows()) {
    const auto requests = static_cast<double>(shadow.requests());
    json["shadows"].push_back({{"version", shadow.policy_version()},
                               {"requests", shadow.requests()},
                               {"rank_correlation", shadow.rank_correlation() / requests},
                               {"top_overlap", shadow.top_overlap() / requests},
                               {"action_difference", shadow.action_difference() / requests}});
  }
  if (judgement.alarm) json["alarm"] = judgement.alarm->why;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string PlacementText(const v1::Experiment& experiment, const std::string& user_id) {
  std::ostringstream text;
  text << "experiment " << experiment.name() << ": ";
  const auto chooser = ArmChooser::Create(experiment);
  if (!chooser) return text.str() + chooser.error().message;
  const std::string salt = experiment.salt().empty() ? experiment.name() : experiment.salt();
  text << "bucket " << chooser->Bucket(user_id) << " (salt " << salt << ", hash version " << (experiment.hash_version() == 1 ? 1 : 2) << "), ";
  if (!chooser->IsWithin(user_id)) {
    text << "in no arm: outside its part of namespace " << experiment.within().name();
  } else if (const int arm = chooser->Choose(user_id); arm == kNoArm) {
    text << "in no arm: its coverage of " << experiment.coverage() / 100.0 << " % does not reach this bucket";
  } else {
    const BucketRange& range = chooser->ranges()[static_cast<std::size_t>(arm)];
    text << "arm " << experiment.arms(arm).name() << " of buckets [" << range.begin << ", " << range.end << "), which serves "
         << ServesText(experiment.arms(arm));
  }
  if (!IsServing(experiment)) text << "; but it has ended (" << v1::Experiment::State_Name(experiment.state()) << "), so what is live serves";
  return text.str();
}

}  // namespace fuseline
