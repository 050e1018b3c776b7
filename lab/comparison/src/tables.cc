#include "fuseline/comparison/tables.h"

#include <cstdarg>
#include <cstdio>

namespace fuseline {
namespace {

[[gnu::format(printf, 1, 2)]] std::string Text(const char* format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

// "12.34 [11.90, 12.78]"; one seed has no interval, and says none.
std::string IntervalText(const SeedValues& measure, double unit = 1) {
  const MeanInterval& interval = measure.interval;
  if (measure.values.size() < 2) return Text("%.2f", interval.mean * unit);
  return Text("%.2f [%.2f, %.2f]", interval.mean * unit, interval.lower * unit, interval.upper * unit);
}

std::string EachSeed(const SeedValues& measure, double unit, const char* format = "%.0f") {
  std::string text;
  for (const double value : measure.values) {
    char number[32];
    std::snprintf(number, sizeof number, format, value * unit);
    text += (text.empty() ? "" : ", ") + std::string(number);
  }
  return text;
}

std::string ReferenceRow(const std::string& name, const ReferenceSummary& reference, const ReferenceSummary& best, double gap_percent) {
  return "| *" + name + "* | " + IntervalText(reference.mean_return) + " | " + IntervalText(reference.valid) + " | " +
         IntervalText(reference.watch_s) + " | " +
         Text("%.2f", best.mean_return.interval.mean - reference.mean_return.interval.mean) + " | " + Text("%.0f", gap_percent) + " | | | |\n";
}

// Row minus column, percentage points of the gap closed; bold where the paired interval does not hold 0.
std::string PairedTable(const std::vector<AlgorithmSummary>& algorithms) {
  std::string text = "| row - column |", rule = "|---|";
  for (const AlgorithmSummary& column : algorithms) {
    text += " " + column.algorithm + " |";
    rule += "---|";
  }
  text += "\n" + rule + "\n";
  for (const AlgorithmSummary& row : algorithms) {
    text += "| " + row.algorithm + " |";
    for (const AlgorithmSummary& column : algorithms) {
      const SeedValues difference = PairedDifference(row, column);
      if (&row == &column || difference.values.empty()) {
        text += " |";
        continue;
      }
      const bool clear = difference.values.size() > 1 && (difference.interval.lower > 0 || difference.interval.upper < 0);
      const std::string number = Text("%+.1f", 100 * difference.interval.mean);
      text += " " + (clear ? "**" + number + "**" : number) + " |";
    }
    text += "\n";
  }
  return text;
}

}  // namespace

std::string MarkdownOf(const ComparisonSummary& summary) {
  std::string text = "World `" + summary.world + "`, preset `" + summary.preset + "`, " + std::to_string(summary.sessions) +
                     " finished sessions a run. Judged without exploration on users and draws that training never saw. 95 % intervals "
                     "(Student's t) over the seeds.\n\n";
  text += "| algorithm | mean return | valid a session | watch s a session | regret | gap closed % | each seed % | versions made / accepted | "
          "wall s |\n|---|---|---|---|---|---|---|---|---|\n";
  text += ReferenceRow(summary.best_is_optimal ? "known optimum" : "best policy known", summary.best, summary.best, 100);
  for (const AlgorithmSummary& one : summary.algorithms) {
    text += "| " + one.algorithm + " | " + IntervalText(one.mean_return) + " | " + IntervalText(one.valid) + " | " +
            IntervalText(one.watch_s) + " | " + IntervalText(one.regret) + " | " + IntervalText(one.gap_closed, 100) + " | " +
            EachSeed(one.gap_closed, 100) + " | " + std::to_string(one.versions) + " / " + std::to_string(one.versions_accepted) + " | " +
            Text("%.0f", one.wall_s.interval.mean) + " |\n";
  }
  text += ReferenceRow("static weights", summary.fixed, summary.best, 0);
  if (summary.algorithms.size() < 2) return text;
  return text + "\nPaired differences of the gap closed over the seeds that both have, in percentage points; bold: the 95 % interval does "
                "not hold 0.\n\n" +
         PairedTable(summary.algorithms);
}

std::string RunsCsv(const std::vector<RunRecord>& runs) {
  std::string text =
      "algorithm,seed,mean_return,valid,watch_s,requests,judged_sessions,static_return,best_return,regret,gap_closed,versions,"
      "versions_accepted,transitions,steps,wall_s\n";
  for (const RunRecord& run : runs) {
    text += run.algorithm + "," + std::to_string(run.seed) + "," +
            Text("%.9g,%.9g,%.9g,%.9g,%llu,%.9g,%.9g,%.9g,%.9g,%llu,%llu,%llu,%llu,%.3f\n", run.learned.mean_return, run.learned.valid,
                 run.learned.watch_s, run.learned.requests, static_cast<unsigned long long>(run.learned.sessions), run.fixed.mean_return,
                 run.best.mean_return, run.regret(), run.gap_closed(), static_cast<unsigned long long>(run.versions),
                 static_cast<unsigned long long>(run.versions_accepted), static_cast<unsigned long long>(run.transitions),
                 static_cast<unsigned long long>(run.steps), run.wall_s);
  }
  return text;
}

std::string CurvesCsv(const std::vector<RunRecord>& runs) {
  std::string text = "algorithm,seed,sessions,mean_return,valid,watch_s,requests,versions,accepted_share\n";
  for (const RunRecord& run : runs) {
    for (const CurvePoint& point : run.curve) {
      text += run.algorithm + "," + std::to_string(run.seed) + "," +
              Text("%llu,%.9g,%.9g,%.9g,%.9g,%llu,%.9g\n", static_cast<unsigned long long>(point.sessions), point.figures.mean_return,
                   point.figures.valid, point.figures.watch_s, point.figures.requests, static_cast<unsigned long long>(point.versions),
                   point.accepted_share);
    }
  }
  return text;
}

}  // namespace fuseline
