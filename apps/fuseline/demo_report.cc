#include "demo_report.h"

#include <cstdio>
#include <sstream>

#include "fuseline/ingest/accounting.h"

namespace fuseline {
namespace {

template <typename... Values>
std::string Row(const char* format, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return std::string(text) + '\n';
}

std::string ArmRow(std::string_view arm, const ArmSummary& summary) {
  const auto sessions = static_cast<double>(summary.totals.sessions);
  return Row("  %-10.*s %7llu %9llu %12.3f %12.3f %14.1f %10llu", static_cast<int>(arm.size()), arm.data(),
             static_cast<unsigned long long>(summary.users), static_cast<unsigned long long>(summary.totals.sessions),
             summary.mean_session_reward, static_cast<double>(summary.totals.valid) / sessions, summary.totals.watch_s / sessions,
             static_cast<unsigned long long>(summary.totals.valid));
}

Result<std::string> Comparison(const std::string& title, const ArmStatistics& statistics) {
  const std::string_view live = "learning";
  const std::string_view fixed = "static";
  FUSELINE_ASSIGN_OR_FAIL(const ArmComparison comparison, statistics.Compare(live, fixed));
  return title + '\n' +
         Row("  %-10s %7s %9s %12s %12s %14s %10s", "arm", "users", "sessions", "reward/sess", "valid/sess", "watch s/sess", "valid") +
         ArmRow(live, comparison.a) + ArmRow(fixed, comparison.b) +
         Row("  difference of mean session reward %+.3f (%+.1f %%), 95 %% interval [%+.3f, %+.3f], Welch, unit: user",
             comparison.difference, 100 * comparison.relative, comparison.lower, comparison.upper);
}

std::string FreshnessRow(const char* name, const Freshness::Quantiles& quantiles) {
  return Row("  %-44s p50 %12.0f ms   p99 %12.0f ms", name, quantiles.p50_ms, quantiles.p99_ms);
}

double PercentAbove(double value, double base) { return 100 * (value / base - 1); }

std::string PoliciesText(const DemoFigures& figures) {
  const PolicyValues& values = figures.values;
  if (!values.fixed_by_scorer) {
    return Row("policies, same users and draws, no exploration: static %.2f, learned %.2f (%+.1f %%), best fixed powers %.2f (%+.1f %%)",
               values.fixed, values.learned, PercentAbove(values.learned, values.fixed), values.best_fixed,
               PercentAbove(values.best_fixed, values.fixed));
  }
  return Row("policies, same users and draws, no exploration, by the scorer's scores: static %.2f, learned %.2f (%+.1f %%)",
             *values.fixed_by_scorer, values.learned, PercentAbove(values.learned, *values.fixed_by_scorer)) +
         Row("  by the world's own predictions: static %.2f, best fixed powers %.2f (%+.1f %%)", values.fixed, values.best_fixed,
             PercentAbove(values.best_fixed, values.fixed));
}

}  // namespace

Result<std::string> DemoTable(const DemoFigures& figures) {
  const v1::Accounting accounting = figures.pipeline.accounting();
  const LearnerProgress& learner = figures.pipeline.learner;
  FUSELINE_ASSIGN_OR_FAIL(const std::string half, Comparison("Second half of the run (the first half taught)", figures.second_half));
  FUSELINE_ASSIGN_OR_FAIL(const std::string whole, Comparison("Whole run", figures.whole_run));
  std::ostringstream out;
  out << half << '\n' << whole << '\n';
  out << PoliciesText(figures);
  out << Row("versions      made %llu, accepted %llu, in use at the end: %llu",
             static_cast<unsigned long long>(learner.versions), static_cast<unsigned long long>(learner.versions_accepted),
             static_cast<unsigned long long>(figures.version_in_use));
  if (figures.scorer) out << DemoScorerText(*figures.scorer);
  out << Row("learned       %llu sessions, %llu requests, %llu update steps", static_cast<unsigned long long>(learner.trajectories),
             static_cast<unsigned long long>(learner.transitions), static_cast<unsigned long long>(learner.steps));
  out << Row("time          %.1f h of event time in %.1f s, %.0f events/s", figures.event_time_h, figures.wall_s,
             static_cast<double>(figures.produced) / figures.wall_s);
  out << "freshness, over sessions whose version a ranker took up (" << figures.freshness.sum.observations << ")\n";
  out << FreshnessRow("decision delay, event time (gap + lateness)", figures.freshness.decision);
  out << FreshnessRow("closed to trained, wall time", figures.freshness.trained);
  out << FreshnessRow("trained to published", figures.freshness.published);
  out << FreshnessRow("published to in use", figures.freshness.in_use);
  out << FreshnessRow("pipeline delay, wall time (all three)", figures.freshness.pipeline);
  out << FreshnessRow("sum", figures.freshness.sum);
  out << "events        produced " << figures.produced << ", read " << accounting.read()
      << (figures.produced == accounting.read() ? "  (all)" : "  (NOT ALL)") << '\n';
  out << "accounting    " << AccountingText(accounting) << (IsBalanced(accounting) ? "  (balanced)" : "  (NOT BALANCED)") << '\n';
  return out.str();
}

}  // namespace fuseline
