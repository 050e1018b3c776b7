#include <iostream>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "command.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/admin.h"
#include "fuseline/sessionizer/session_window.h"
#include "session_rules.h"

namespace fuseline {
namespace {

struct ApplyOptions {
  SettingsOptions settings;
  bool execute = false;
  bool dry_run = false;  // The default, which may be said.
  std::uint64_t version = 0;  // 0: the one after that in force.
};

void PrintRules(const RulesInForce& rules) {
  for (const auto& [partition, in_force] : rules.of_partition) {
    std::cout << "partition " << partition << "  "
              << (in_force.version() > 0 ? RulesText(in_force) : "none in the log: each state keeps those that it began with") << '\n';
  }
}

// Everywhere, whatever is in force: where this version or a later one is, the record is void.
Result<RulesPlan> PlanOfVersion(const v1::Config& config, std::uint64_t version) {
  FUSELINE_ASSIGN_OR_FAIL(const auto admin, kafka::Admin::Open(ConnectionOf(config.kafka()), config.kafka().connect_timeout_ms()));
  FUSELINE_ASSIGN_OR_FAIL(const std::int32_t count, admin->PartitionCount(config.kafka().events_topic()));
  RulesPlan plan{version, std::vector<std::int32_t>(static_cast<std::size_t>(count))};
  std::iota(plan.lacking.begin(), plan.lacking.end(), 0);
  return plan;
}

Status AppendAndReport(const v1::Config& config, const v1::SessionRules& rules, const std::vector<std::int32_t>& partitions) {
  FUSELINE_ASSIGN_OR_RETURN(const auto appended, AppendRules(config, rules, partitions));
  Status outcome;
  for (const auto& [partition, record] : appended) {
    std::cout << "partition " << partition << "  ";
    if (record.status.ok()) {
      std::cout << "version " << rules.version() << " at offset " << record.offset << '\n';
      continue;
    }
    std::cout << "NOT APPENDED: " << record.status.message << '\n';
    outcome = ErrorStatus(record.status.code, "not every partition has version", rules.version(),
                          "yet; run the same command again to complete it");
  }
  return outcome;
}

// Somebody else may have applied rules at the same time: of two records of one version in a partition the first counts.
Status CheckInForce(const v1::Config& config, const RulesInForce& before, const v1::SessionRules& rules) {
  FUSELINE_ASSIGN_OR_RETURN(const RulesInForce now, ReadRules(config, before));
  if (PlanRules(now, rules).lacking.empty()) return OkStatus();
  PrintRules(now);
  return ErrorStatus(Code::kConflict, "other rules were applied at the same time; they are shown above");
}

Status Apply(const v1::Config& config, const ApplyOptions& options) {
  v1::SessionRules rules = RulesOf(/*version=*/0, ShapeOf(config.sessionizer()));
  RulesInForce in_force;
  RulesPlan plan;
  if (options.version > 0) {
    FUSELINE_ASSIGN_OR_RETURN(plan, PlanOfVersion(config, options.version));
  } else {
    FUSELINE_ASSIGN_OR_RETURN(in_force, ReadRules(config, RulesInForce()));
    PrintRules(in_force);
    plan = PlanRules(in_force, rules);
  }
  rules.set_version(plan.version);
  if (plan.lacking.empty()) {
    std::cout << "the settings' rules are in force in every partition\n";
    return OkStatus();
  }
  std::cout << (options.execute ? "appending  " : "to append  ") << RulesText(rules) << ", to " << plan.lacking.size() << " partitions\n";
  if (!options.execute) {
    std::cout << "nothing was changed; --execute appends it\n";
    return OkStatus();
  }
  FUSELINE_RETURN_IF_ERROR(AppendAndReport(config, rules, plan.lacking));
  return options.version > 0 ? OkStatus() : CheckInForce(config, in_force, rules);
}

int ApplyConfig(const ApplyOptions& options) {
  const auto config = options.settings.Load();
  if (!config) return FailUsage(config.error());
  const Status applied = Apply(*config, options);
  return applied.ok() ? static_cast<int>(kExitOk) : Fail(applied);
}

}  // namespace

void RegisterConfigApply(Program& program, CLI::App* config) {
  auto options = std::make_shared<ApplyOptions>();
  CLI::App* apply = program.AddSubcommand(
      "apply", "Put the settings that shape sessions in force: a record of them at the end of every partition of the events topic",
      "fuseline config apply --config fuseline.yaml && fuseline config apply --config fuseline.yaml --execute", config);
  options->settings.AddTo(*apply);
  CLI::Option* execute = apply->add_flag("--execute", options->execute, "append the records");
  apply->add_flag("--dry-run", options->dry_run, "show the rules in force and what would be appended, and change nothing: the default")->excludes(execute);
  apply->add_option("--version", options->version,
                    "this version, without reading the topic for the one in force; repeatable, void where it or a later one is in force")
      ->check(CLI::Range(std::uint64_t{1}, std::numeric_limits<std::uint64_t>::max()))
      ->type_name("N");
  program.SetBody(apply, [options] { return ApplyConfig(*options); });
}

}  // namespace fuseline
