#include "serving.h"

#include <filesystem>
#include <iostream>

#include "fuseline/learner/scorer.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "starting_point.h"
#include "stored_status.h"

namespace fuseline {
namespace {

int DryRun(const v1::Config& config, Role role) {
  Status first;
  for (const CheckOutcome& check : CheckEverything(config, role)) {
    std::cout << (check.status.ok() ? "ok    " : "FAIL  ") << check.what << ": "
              << (check.status.ok() ? check.found : check.status.message) << '\n';
    for (const std::string& doubt : check.doubts) std::cout << "      but " << doubt << '\n';
    if (first.ok() && !check.status.ok()) first = check.status;
  }
  return first.ok() ? static_cast<int>(kExitOk) : Fail(first);
}

}  // namespace

void ServingOptions::AddTo(CLI::App& subcommand, bool reads_events) {
  settings.AddTo(subcommand);
  subcommand.add_flag("--dry-run", dry_run, "check settings, disk, Kafka, topics and what else is used, and change nothing");
  subcommand.add_option("--from", from, "where a partition that nobody knows begins: earliest, latest, offset:N, time:MS")
      ->capture_default_str();
  if (!reads_events) return;
  subcommand.add_flag("--cold-start", cold_start, "begin at --from too where a partition's past cannot be known any more");
}

int Serve(const ServingOptions& options, Role role, const ServingBody& body) {
  const auto config = options.settings.Load();
  if (!config) return FailUsage(config.error());
  if (options.dry_run) return DryRun(*config, role);
  if (const Status scorer = CheckScorerStream(*config); role != Role::kSessionize && !scorer.ok()) return FailUsage(scorer);
  const auto from = ParseStartingPoint(options.from);
  if (!from) return FailUsage(from.error());
  const auto severity = ParseSeverity(config->fuseline().log_level());
  if (!severity) return FailUsage(severity.error());

  StopSignal stop;  // Before any other thread is made.
  Log log(*severity);
  Metrics metrics;
  SystemClock clock;
  const auto serve = [&] { return body(*config, {.from = *from, .cold_start = options.cold_start}, stop, {log, metrics, clock}); };
  Status outcome = serve();
  // The session state is a cache of the log: opened again, it is set aside and rebuilt. What else is corrupt is not.
  const std::filesystem::path sessions = StateFolders(config->fuseline().state_dir()).sessions;
  while (outcome.code == Code::kCorrupt && !stop.stopped() && Sessionizer::FoundCorrupt(sessions)) outcome = serve();
  if (!outcome.ok()) return Fail(outcome);
  return stop.stopped() ? static_cast<int>(kExitInterrupted) : static_cast<int>(kExitOk);
}

}  // namespace fuseline
