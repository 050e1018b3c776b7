#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "command.h"
#include "dead_letters_to_screen.h"
#include "fuseline/core/file.h"
#include "fuseline/ingest/file_source.h"
#include "fuseline/learner/learner.h"
#include "fuseline/learner/policy_evaluation.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "opening.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kIntervalKind =
    "normal approximation, sessions as units (mtf_gauc: users), ratios by the delta method; fqe without the fit's own error";

struct PolicyOptions {
  SettingsOptions settings;
  std::vector<std::string> files;
  std::vector<std::uint64_t> versions;
  bool held_back = false;
  bool json = false;
};

Json Figure(const std::optional<Estimate>& estimate) {
  if (!estimate) return nullptr;
  const auto interval = Interval95(*estimate);
  return {{"value", estimate->value}, {"interval", interval ? Json(*interval) : Json()}};
}

Json WithSample(const std::optional<Estimate>& estimate, double ess) {
  Json json = Figure(estimate);
  if (estimate) json["ess"] = ess;
  return json;
}

// Progressive validation, as the learner found it while it trained: the policy before a version on each session before it was learned
// from. Null: the static weights, or a version that had none.
Json ProgressiveOf(const std::vector<PolicyVersion>& versions, std::uint64_t number) {
  const auto version = std::ranges::find(versions, number, [](const PolicyVersion& one) { return one.manifest.version(); });
  if (version == versions.end()) return nullptr;
  const auto& metrics = version->manifest.metrics();
  if (!metrics.contains("progressive_sessions")) return nullptr;
  return {{"gauc", metrics.at("progressive_gauc")}, {"gauc_static", metrics.at("progressive_gauc_static")}, {"sessions", metrics.at("progressive_sessions")}};
}

std::string ReportJson(const PolicyEvaluationReport& report, const std::vector<PolicyVersion>& versions) {
  Json policies = Json::array();
  for (const PolicyReport& policy : report.policies) {
    Json gauc = Figure(policy.mtf_gauc.gauc);
    if (policy.mtf_gauc.gauc) {
      gauc["users_used"] = policy.mtf_gauc.users_used;
      gauc["users_skipped"] = policy.mtf_gauc.users_skipped;
    }
    Json ncis = WithSample(policy.ncis, policy.ncis_ess);
    if (policy.ncis) ncis["capped_share"] = policy.capped_share;
    policies.push_back({{"version", policy.version},
                        {"mtf_gauc", gauc},
                        {"ncis", ncis},
                        {"snips", WithSample(policy.snips, policy.snips_ess)},
                        {"clipped_ips", Figure(policy.clipped_ips)},
                        {"dr", Figure(policy.dr)},
                        {"sndr", Figure(policy.sndr)},
                        {"inside_box_share", policy.inside_box_share},
                        {"fqe", Figure(policy.fqe)},
                        {"conservative_fqe", Figure(policy.conservative_fqe)},
                        {"progressive", ProgressiveOf(versions, policy.version)}});
  }
  return Json{{"sessions", report.sessions},
              {"requests", report.requests},
              {"explored", report.explored},
              {"logged_reward", Figure(report.logged_reward)},
              {"policies", policies},
              {"intervals", {{"level", 0.95}, {"kind", kIntervalKind}}}}
      .dump();
}

std::string Cell(const std::optional<Estimate>& estimate) {
  if (!estimate) return "-";
  char text[64];
  const auto interval = Interval95(*estimate);
  if (interval) {
    std::snprintf(text, sizeof text, "%.4f [%.4f, %.4f]", estimate->value, (*interval)[0], (*interval)[1]);
  } else {
    std::snprintf(text, sizeof text, "%.4f", estimate->value);
  }
  return text;
}

std::string Line(const std::string& what, const std::string& figure, const std::string& more = "") {
  char text[200];
  std::snprintf(text, sizeof text, "  %-18s %-28s %s", what.c_str(), figure.c_str(), more.c_str());
  std::string line(text);
  line.erase(line.find_last_not_of(' ') + 1);
  return line + '\n';
}

std::string ReportText(const PolicyEvaluationReport& report, const std::vector<PolicyVersion>& versions) {
  std::string text = std::to_string(report.sessions) + " sessions, " + std::to_string(report.requests) + " requests, " +
                     std::to_string(report.explored) + " explored\n" + Line("logged reward", Cell(report.logged_reward), "of a request");
  for (const PolicyReport& policy : report.policies) {
    text += policy.version == 0 ? std::string("static weights\n") : "version " + std::to_string(policy.version) + '\n';
    const auto whole = [](double value) { return std::to_string(static_cast<std::int64_t>(value)); };
    text += Line("MTF-GAUC", Cell(policy.mtf_gauc.gauc),
                 std::to_string(policy.mtf_gauc.users_used) + " users, " + std::to_string(policy.mtf_gauc.users_skipped) + " skipped");
    text += Line("NCIS", Cell(policy.ncis), "of a request; effective sample " + whole(policy.ncis_ess));
    text += Line("SNIPS", Cell(policy.snips), "effective sample " + whole(policy.snips_ess));
    text += Line("clipped IPS", Cell(policy.clipped_ips));
    text += Line("DR", Cell(policy.dr));
    text += Line("SNDR", Cell(policy.sndr));
    text += Line("FQE", Cell(policy.fqe), "discounted, of a session");
    text += Line("conservative FQE", Cell(policy.conservative_fqe));
    text += Line("inside the box", std::to_string(policy.inside_box_share), "of the explored requests");
    if (const Json progressive = ProgressiveOf(versions, policy.version); !progressive.is_null()) {
      text += Line("progressive GAUC", std::to_string(progressive["gauc"].get<double>()),
                   "in training, of " + whole(progressive["sessions"].get<double>()) + " sessions; static " + std::to_string(progressive["gauc_static"].get<double>()));
    }
  }
  return text + "95 % intervals: " + kIntervalKind + '\n';
}

Status AddSessions(const v1::Config& config, const PolicyOptions& options, PolicyEvaluation& evaluation) {
  DeadLettersToScreen dead_letters;
  FUSELINE_ASSIGN_OR_RETURN(auto source, FileSource::Open(FileSourceOptionsOf(config.ingest(), options.files), &dead_letters));
  PartitionSessions sessions(/*partition=*/0, ShapeOf(config.sessionizer()), config.sessionizer().max_trajectory_bytes());
  const auto add = [&](const std::vector<Closing>& closings) -> Status {
    for (const Closing& closing : closings) {
      v1::Trajectory trajectory;
      if (!closing.name || (options.held_back && !IsHeldBack(config, closing.user_id))) continue;
      if (!trajectory.ParseFromString(closing.trajectory)) return ErrorStatus(Code::kInternal, "a session cannot be read again");
      FUSELINE_RETURN_IF_ERROR(evaluation.Add(trajectory));
    }
    return OkStatus();
  };
  while (!source->finished()) {
    FUSELINE_ASSIGN_OR_RETURN(std::optional<EventBatch> batch, source->Next(/*timeout_ms=*/100));
    if (!batch) continue;
    for (Record& record : batch->records) {
      FUSELINE_ASSIGN_OR_RETURN(const auto processed, sessions.Process(record));
      FUSELINE_RETURN_IF_ERROR(add(processed.closings));
    }
    sessions.Forget();
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<Closing> flushed, sessions.Flush());
  dead_letters.SayHowMany();
  return add(flushed);
}

// The versions that were asked for; without any, the newest and the static weights. Errors: kNotFound also where none is in the archive and
// none was asked for: to judge the static weights alone, ask for 0.
Result<std::vector<PolicyVersion>> VersionsOf(const v1::Config& config, std::vector<std::uint64_t> numbers, bool* with_static) {
  const bool asked_for_none = numbers.empty();
  *with_static = asked_for_none || std::erase(numbers, 0U) > 0;
  DiskFileSystem files;
  const std::filesystem::path folder = StateFolders(config.fuseline().state_dir()).versions;
  const Archive archive = Archive::OpenReadOnly(folder, files);
  if (asked_for_none) {
    const auto newest = archive.Newest();
    if (!newest) return Error(newest.error().code, newest.error().message, "in", folder.string(), "(--version 0 judges the static weights alone)");
    numbers.push_back(*newest);
  }
  std::vector<PolicyVersion> versions;
  for (const std::uint64_t number : numbers) {
    FUSELINE_ASSIGN_OR_FAIL(ArchivedVersion found, archive.Get(number));
    versions.push_back(std::move(found.version));
  }
  return versions;
}

int Run(const PolicyOptions& options) {
  for (const std::string& file : options.files) {
    if (file == "-" || std::filesystem::exists(file)) continue;
    return FailUsage(ErrorStatus(Code::kNotFound, "no such file:", file));
  }
  const auto config = options.settings.LoadOfState();
  if (!config) return FailUsage(config.error());
  bool with_static = false;
  const auto versions = VersionsOf(*config, options.versions, &with_static);
  if (!versions) return versions.error().code == Code::kNotFound ? FailUsage(versions.error()) : Fail(versions.error());
  auto evaluation = PolicyEvaluation::Create(*config, *versions, with_static);
  if (!evaluation) return Fail(evaluation.error());
  if (const Status added = AddSessions(*config, options, **evaluation); !added.ok()) return Fail(added);
  const auto report = (*evaluation)->Finish();
  if (!report) return Fail(report.error());
  std::cout << (options.json ? ReportJson(*report, *versions) + '\n' : ReportText(*report, *versions));
  return kExitOk;
}

}  // namespace

void RegisterEvaluatePolicy(Program& program, CLI::App* evaluate) {
  auto options = std::make_shared<PolicyOptions>();
  CLI::App* policy = program.AddSubcommand(
      "policy",
      "What sessions in event files say about policies that did not make them: MTF-GAUC, NCIS, SNIPS, clipped IPS, DR, SNDR and FQE, with 95 % intervals",
      "fuseline evaluate policy next_week.jsonl.zst --state week --version 0 --version 7", evaluate);
  options->settings.AddTo(*policy);
  options->settings.AddStateTo(*policy);
  policy->add_option("files", options->files, "events: .jsonl or .pb, plain, .gz or .zst; - for standard input")->required()->type_name("FILE");
  policy->add_option("--version", options->versions, "of the state's archive; 0: the static weights. Without: these and the newest")
      ->allow_extra_args(false)
      ->take_all()
      ->type_name("N");
  policy->add_flag("--held-back", options->held_back, "only users who never train (learner.holdout_share)");
  policy->add_flag("--json", options->json, "one JSON object instead of the table");
  program.SetBody(policy, [options] { return Run(*options); });
}

}  // namespace fuseline
