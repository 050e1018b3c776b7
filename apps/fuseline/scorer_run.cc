#include "scorer_run.h"

#include <chrono>
#include <queue>

#include <nlohmann/json.hpp>

#include "fuseline/core/clock.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/proto/schema.h"
#include "opening.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kManifest = "manifest.pb";
constexpr const char* kWeights = "weights.safetensors";
constexpr const char* kResult = "result.json";
constexpr const char* kCheckpoint = "checkpoint";
constexpr std::size_t kDigestBytes = 32;

Status WriteCheckpointFile(const std::filesystem::path& folder, const v1::ScorerCheckpoint& checkpoint) {
  std::string bytes = CanonicalBytes(checkpoint);
  bytes += Sha256Of(bytes);
  return WriteFileAtomically(folder / kCheckpoint, bytes);
}

Result<v1::ScorerCheckpoint> ReadCheckpointFile(const std::filesystem::path& folder) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string bytes, ReadFile(folder / kCheckpoint));
  const std::string_view all = bytes;
  v1::ScorerCheckpoint checkpoint;
  const std::size_t size = all.size() < kDigestBytes ? 0 : all.size() - kDigestBytes;
  const bool sound = size > 0 && Sha256Of(all.substr(0, size)) == all.substr(size) &&
                     checkpoint.ParseFromArray(all.data(), static_cast<int>(size));
  if (!sound) return Error(Code::kCorrupt, "checkpoint differs from its digest:", (folder / kCheckpoint).string());
  return checkpoint;
}

Json JsonOf(const TaskTable& table) {
  Json json = Json::object();
  for (const auto& [task, figures] : table) {
    json[task] = {{"auc", figures.auc},
                  {"log_loss", figures.log_loss},
                  {"session_log_loss", figures.session_log_loss},
                  {"positives", figures.positives}};
  }
  return json;
}

TaskTable TableOfJson(const Json& json) {
  TaskTable table;
  for (const auto& [task, figures] : json.items()) {
    table[task] = {figures.at("auc"), figures.at("log_loss"), figures.at("session_log_loss"), figures.at("positives")};
  }
  return table;
}

// Advances to the end, with checkpoints. Returns impressions a second.
Result<double> Train(const v1::Config& config, ScorerTraining& training, const std::filesystem::path& folder,
                     const ScorerProgressFunction& progress, const std::stop_token& stop) {
  const auto save = [&]() -> Status {
    v1::ScorerCheckpoint checkpoint = training.Save();
    checkpoint.set_build(BuildText());
    return WriteCheckpointFile(folder, checkpoint);
  };
  const auto every = static_cast<std::uint64_t>(config.scorer().checkpoint_every_steps());
  const SystemClock clock;
  const std::int64_t begin_us = clock.monotonic_us();
  for (std::uint64_t step = 1; !training.done(); ++step) {
    if (stop.stop_requested()) {
      FUSELINE_FAIL_IF_ERROR(save());
      return Error(Code::kUnavailable, "stopped; the same command goes on from the checkpoint in", folder.string());
    }
    FUSELINE_FAIL_IF_ERROR(training.Advance());
    if (step % every == 0) FUSELINE_FAIL_IF_ERROR(save());
    if (progress) progress(training, PhaseName(training.position().phase));
  }
  const double elapsed_s = static_cast<double>(clock.monotonic_us() - begin_us) / 1e6;
  return elapsed_s > 0 ? static_cast<double>(training.position().impressions) / elapsed_s : 0;
}

// Scores each test row by what was known before it. Learns in steps of as many rows as scorer.progressive_batch
// says, in the order in which their outcomes came to be known.
Result<std::vector<float>> ScoreProgressively(ScorerTraining& training, const ScorerData& data, std::size_t batch,
                                              const ScorerProgressFunction& progress, const std::stop_token& stop) {
  using Due = std::pair<std::int64_t, std::size_t>;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> unknown;
  std::vector<std::size_t> known;
  std::vector<float> scores;
  std::size_t unscored = data.test_begin;
  const auto score_up_to = [&](std::size_t end) -> Status {
    if (unscored == end) return OkStatus();
    FUSELINE_ASSIGN_OR_RETURN(const auto some, training.Score(unscored, end));
    scores.insert(scores.end(), some.begin(), some.end());
    unscored = end;
    return OkStatus();
  };
  for (std::size_t row = data.test_begin; row < data.rows.size(); ++row) {
    for (; !unknown.empty() && unknown.top().first < data.rows.time_ms[row]; unknown.pop()) {
      known.push_back(unknown.top().second);
      if (known.size() < batch) continue;
      if (stop.stop_requested()) return Error(Code::kUnavailable, "stopped while judging");
      FUSELINE_FAIL_IF_ERROR(score_up_to(row));
      FUSELINE_FAIL_IF_ERROR(training.Learn(known));
      known.clear();
      if (progress) progress(training, "progressive validation");
    }
    unknown.emplace(data.rows.known_ms[row], row);
  }
  FUSELINE_FAIL_IF_ERROR(score_up_to(data.rows.size()));
  return scores;
}

// A result in `folder` that is of this very training.
bool IsResultOf(const ScorerResult& result, const v1::ScorerCheckpoint& now) {
  return result.settings_sha256 == ToHex(now.settings_sha256()) && result.input_sha256 == ToHex(now.input_sha256()) &&
         result.build == BuildText();
}

Status Restore(const std::filesystem::path& folder, ScorerTraining& training) {
  const auto checkpoint = ReadCheckpointFile(folder);
  if (!checkpoint) return checkpoint.error().code == Code::kNotFound ? OkStatus() : checkpoint.error();
  if (checkpoint->build() != BuildText())
    return ErrorStatus(Code::kConflict, "the checkpoint was made by another build:", folder.string(), checkpoint->build());
  const Status status = training.Restore(*checkpoint);
  return status.ok() ? status : ErrorStatus(status.code, status.message + ", in", folder.string());
}

}  // namespace

TaskTable TableOf(const std::vector<std::string>& tasks, const std::vector<TaskFigures>& figures) {
  TaskTable table;
  for (std::size_t k = 0; k < tasks.size(); ++k) table[tasks[k]] = figures[k];
  return table;
}

std::string ResultJson(const ScorerResult& result) {
  const Json json = {{"backbone", result.backbone},
                     {"weights", result.weights},
                     {"seed", result.seed},
                     {"settings_sha256", result.settings_sha256},
                     {"input_sha256", result.input_sha256},
                     {"weights_sha256", result.weights_sha256},
                     {"build", result.build},
                     {"steps", result.steps},
                     {"validation_loss", result.validation_loss},
                     {"impressions_per_s", result.impressions_per_s},
                     {"frozen", JsonOf(result.frozen)},
                     {"progressive", JsonOf(result.progressive)}};
  return json.dump(2) + '\n';
}

Result<ScorerResult> ReadResultJson(const std::string& file, const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  try {
    return ScorerResult{.backbone = json.at("backbone"),
                        .weights = json.at("weights"),
                        .seed = json.at("seed"),
                        .settings_sha256 = json.at("settings_sha256"),
                        .input_sha256 = json.at("input_sha256"),
                        .weights_sha256 = json.at("weights_sha256"),
                        .build = json.at("build"),
                        .steps = json.at("steps"),
                        .validation_loss = json.at("validation_loss"),
                        .impressions_per_s = json.at("impressions_per_s"),
                        .frozen = TableOfJson(json.at("frozen")),
                        .progressive = TableOfJson(json.at("progressive"))};
  } catch (const Json::exception& error) {
    return Error(Code::kCorrupt, file + " is no result of a scorer:", error.what());
  }
}

Result<ScorerResult> RunScorer(const v1::Config& config, const ScorerFields& fields, const ScorerData& data,
                               const std::string& input, const std::filesystem::path& folder,
                               const ScorerProgressFunction& progress, const std::stop_token& stop) {
  FUSELINE_FAIL_IF_ERROR(MakeFolders(folder));
  FUSELINE_ASSIGN_OR_FAIL(const auto training, ScorerTraining::Create(config, fields, data.rows, data.split));
  const v1::ScorerCheckpoint identity = training->Save();
  if (const auto text = ReadFile(folder / kResult); text) {
    FUSELINE_ASSIGN_OR_FAIL(ScorerResult result, ReadResultJson((folder / kResult).string(), *text));
    if (IsResultOf(result, identity)) return result;
    return Error(Code::kConflict,
                 "holds a scorer of other settings, impressions or build; take another folder, or remove it:", folder.string());
  }
  FUSELINE_FAIL_IF_ERROR(Restore(folder, *training));
  FUSELINE_ASSIGN_OR_FAIL(const double rate, Train(config, *training, folder, progress, stop));
  PolicyVersion version = training->MakeVersion();
  FUSELINE_ASSIGN_OR_FAIL(const auto frozen, training->Score(data.test_begin, data.rows.size()));
  const auto step = static_cast<std::size_t>(config.scorer().progressive_batch());
  const std::size_t learned_at_once = step > 0 ? step : training->position().batch_rows;
  FUSELINE_ASSIGN_OR_FAIL(const auto progressive, ScoreProgressively(*training, data, learned_at_once, progress, stop));
  const auto judged = [&](const std::vector<float>& scores) {
    return TableOf(fields.tasks(), JudgeScores(data.rows, data.test_begin, data.rows.size(), scores));
  };
  ScorerResult result{.backbone = config.scorer().backbone(),
                      .weights = config.scorer().weights(),
                      .seed = config.fuseline().seed(),
                      .settings_sha256 = ToHex(identity.settings_sha256()),
                      .input_sha256 = ToHex(identity.input_sha256()),
                      .weights_sha256 = ToHex(version.manifest.weights_sha256()),
                      .build = BuildText(),
                      .steps = version.manifest.scorer().lineage().steps(),
                      .validation_loss = training->validation_loss(),
                      .impressions_per_s = rate,
                      .frozen = judged(frozen),
                      .progressive = judged(progressive)};
  version.manifest.set_version(1);
  version.manifest.set_policy(ScorerPolicyOf(config.policy().name()));
  version.manifest.mutable_lineage()->set_build(result.build);
  version.manifest.mutable_lineage()->add_inputs()->set_input(input);
  for (const auto& [task, figures] : result.frozen) {
    (*version.manifest.mutable_metrics())["auc." + task] = figures.auc;
    (*version.manifest.mutable_metrics())["log_loss." + task] = figures.log_loss;
  }
  version.manifest.set_created_ms(SystemClock().wall_ms());
  SealManifest(version.manifest, version.weights, kPartBytesMax);
  FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(folder / kWeights, version.weights));
  FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(folder / kManifest, CanonicalBytes(version.manifest)));
  FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(folder / kResult, ResultJson(result)));
  std::error_code ignored;  // A leftover is read by nobody: the result stands before it.
  std::filesystem::remove(folder / kCheckpoint, ignored);
  return result;
}

Result<PolicyVersion> ReadScorer(const std::filesystem::path& folder) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string manifest, ReadFile(folder / kManifest));
  PolicyVersion stored;
  if (!stored.manifest.ParseFromString(manifest) || !stored.manifest.has_scorer())
    return Error(Code::kCorrupt, "no manifest of a scorer:", (folder / kManifest).string());
  FUSELINE_ASSIGN_OR_FAIL(stored.weights, ReadFile(folder / kWeights));
  return stored;
}

}  // namespace fuseline
