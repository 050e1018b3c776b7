#include "verification.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "fuseline/core/digest.h"
#include "fuseline/core/stage.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "learning_input.h"
#include "opening.h"
#include "pipeline.h"
#include "starting_point.h"
#include "state_folder.h"
#include "trajectory_reader.h"
#include "version_text.h"
#include "warm_start.h"

namespace fuseline {
namespace {

constexpr std::int64_t kLookMs = 20;

Result<v1::PolicyManifest> ManifestOf(std::uint64_t version, const std::filesystem::path& folder) {
  DiskFileSystem files;
  const Archive archive = Archive::OpenReadOnly(folder, files);
  FUSELINE_ASSIGN_OR_FAIL(ArchivedVersion found, archive.Get(version));
  return std::move(found.version.manifest);
}

std::string KeysText(const Verification::Difference& difference) {
  std::string text;
  for (const auto& [key, values] : difference.keys)
    text += (text.empty() ? "" : ", ") + key + " " + values.first + " / " + values.second;
  return text;
}

// The settings in force here for what shapes no weights, the regime's own for what does.
Result<v1::Config> SettingsOfRegime(const v1::Config& here, const v1::Regime& regime) {
  v1::Config shaping;
  if (!shaping.ParseFromString(regime.settings()))
    return Error(Code::kCorrupt, "the settings of a regime cannot be read");
  v1::Config config = here;
  const v1::Fuseline process = here.fuseline();
  const v1::Config shaping_here = ShapingSettings(here);
  for (const v1::Config* shaped : {&shaping_here, &std::as_const(shaping)}) {
    std::vector<const google::protobuf::FieldDescriptor*> shapers;
    shaped->GetReflection()->ListFields(*shaped, &shapers);
    for (const auto* field : shapers)
      config.GetReflection()->ClearField(&config, field);  // Or lists would be merged.
  }
  config.MergeFrom(shaping);
  *config.mutable_fuseline() = process;
  config.mutable_fuseline()->set_seed(shaping.fuseline().seed());
  config.mutable_kafka()->clear_group_id();  // Nobody's offsets are moved.
  return config;
}

// What differs between then and here, said as soon as it is known.
class Comparison {
 public:
  explicit Comparison(Log& log) : log_(log) {}

  void Add(Verification::Difference difference) {
    if (difference.then == difference.here) return;
    log_.Warn("replay.verification_differs", "what", difference.what, "regime", difference.regime,
              "first_trajectory", difference.first_trajectory, "then", difference.then, "here",
              difference.here, "keys", KeysText(difference));
    differences_.push_back(std::move(difference));
  }

  // Every regime of the lineage against this program, under the regime's own settings, and against
  // the settings in force here.
  void AddRegimes(const std::vector<v1::Regime>& regimes, const v1::Config& here) {
    for (std::size_t i = 0; i < regimes.size(); ++i) {
      regime_ = regimes.size() == 1 ? 0 : i + 1;
      first_trajectory_ = regimes[i].first_trajectory();
      AddSettings(regimes[i], here);
      AddProgram(regimes[i], here);
    }
  }

  std::vector<Verification::Difference> Take() { return std::move(differences_); }

 private:
  void AddOfRegime(const char* what, const std::string& then, const std::string& here,
                   std::map<std::string, std::pair<std::string, std::string>> keys = {}) {
    Add({.what = what, .then = then, .here = here, .regime = regime_,
         .first_trajectory = first_trajectory_, .keys = std::move(keys)});
  }

  void AddSettings(const v1::Regime& then, const v1::Config& here) {
    v1::Config settings;
    settings.ParseFromString(then.settings());  // SettingsOfRegime has looked at its digest.
    const auto lines = SettingLines(ShapingSettings(here));
    std::map<std::string, std::pair<std::string, std::string>> keys;
    for (const auto& [key, value] : SettingLines(settings)) {
      const auto found = lines.find(key);
      const std::string now = found == lines.end() ? "" : found->second;
      if (value != now) keys[key] = {value, now};
    }
    AddOfRegime("settings", ToHex(then.settings_sha256()), ToHex(SettingsDigest(here)), keys);
    AddOfRegime("rewards", ToHex(RewardsDigest(settings.rewards())),
                ToHex(RewardsDigest(here.rewards())));
  }

  void AddProgram(const v1::Regime& then, const v1::Config& config) {
    AddOfRegime("build", then.build(), BuildText());
    const auto settings = SettingsOfRegime(config, then);
    const auto here = settings ? RegimeHere(*settings, BuildText()) : tl::unexpected(settings.error());
    if (!here)  // No such device, or no such arithmetic: whoever opens a learner so will fail.
      return AddOfRegime("device", then.device() + ", " + then.blas(), here.error().message);
    AddOfRegime("blas", then.blas(), here->blas());
    AddOfRegime("threads", std::to_string(then.threads()), std::to_string(here->threads()));
    AddOfRegime("device", then.device(), here->device());
  }

  Log& log_;
  std::vector<Verification::Difference> differences_;
  std::size_t regime_ = 0;
  std::uint64_t first_trajectory_ = 0;
};

// The regimes of a version, each with its settings; one of an older release has one, as far as is
// known. Errors: kNotFound, kCorrupt for settings that are not there, or not those of their digest.
Result<std::vector<v1::Regime>> RegimesOf(const v1::PolicyManifest& manifest) {
  const v1::Lineage& lineage = manifest.lineage();
  if (lineage.settings().empty()) {
    return Error(Code::kNotFound, "version", manifest.version(),
                 "does not hold its settings: it was made by a release that kept only their "
                 "digest, and cannot be derived again");
  }
  std::vector<v1::Regime> regimes(lineage.regimes().begin(), lineage.regimes().end());
  v1::Regime& last = regimes.empty() ? regimes.emplace_back() : regimes.back();
  last.set_settings_sha256(lineage.settings_sha256());
  last.set_build(lineage.build());
  last.set_blas(lineage.blas());
  last.set_threads(lineage.threads());
  last.set_device(lineage.device());
  for (v1::Regime& regime : regimes) {
    if (regime.settings().empty() && regime.settings_sha256() == lineage.settings_sha256())
      regime.set_settings(lineage.settings());
    v1::Config settings;
    if (Sha256Of(regime.settings()) != regime.settings_sha256() ||
        !settings.ParseFromString(regime.settings()))
      return Error(Code::kCorrupt, "the settings of version", manifest.version(),
                   "differ from their digest");
  }
  return regimes;
}

// A derivation goes through under one set of settings, the version's own: what was learned under
// others must lie before its base.
Status CheckBase(const DerivationBase& base, const std::vector<v1::Regime>& regimes,
                 const v1::PolicyManifest& manifest) {
  for (std::size_t i = 0; i < regimes.size(); ++i) {
    const bool ends_before = i + 1 < regimes.size() && regimes[i + 1].first_trajectory() <= base.trajectories &&
                             regimes[i + 1].first_step() <= base.steps;
    if (ends_before || regimes[i].settings_sha256() == regimes.back().settings_sha256()) continue;
    const v1::Regime& last = regimes.back();
    return ErrorStatus(Code::kNotFound, "version", manifest.version(), "was learned under", regimes.size(),
                       "regimes, of which number", i + 1, "had other settings than the last, which began at trajectory",
                       last.first_trajectory(), "and step", last.first_step(),
                       "(it can be derived from a full checkpoint from there on alone, and there is none;",
                       "--state names the folder that keeps them)");
  }
  const v1::Regime& first = regimes.front();
  if (first.first_step() > base.steps || first.first_trajectory() > base.trajectories) {
    return ErrorStatus(Code::kNotFound, "version", manifest.version(),
                       "does not say under what its learner computed before trajectory",
                       first.first_trajectory(), "(and no full checkpoint from there on is kept)");
  }
  return OkStatus();
}

// One derivation in a folder of its own.
class Derivation {
 public:
  Derivation(const VerificationOptions& options, const v1::PolicyManifest& target,
             v1::Config config, StopSignal& stop, Instruments instruments)
      : options_(options),
        target_(target),
        config_(std::move(config)),
        stop_(stop),
        instruments_(instruments),
        folder_("") {
    config_.mutable_fuseline()->set_state_dir(folder_.path().string());
  }

  // Returns what it begins with.
  Result<DerivationBase> Begin(const std::vector<v1::Regime>& regimes) {
    const std::filesystem::path from =
        options_.state.empty() ? std::filesystem::path() : StateFolders(options_.state).learner;
    FUSELINE_ASSIGN_OR_FAIL(const DerivationBase base,
                            PrepareToDeriveAgain(target_, from, folders().learner));
    FUSELINE_FAIL_IF_ERROR(CheckBase(base, regimes, target_));
    auto& [log, metrics, clock] = instruments_;
    FUSELINE_ASSIGN_OR_FAIL(const auto learner, Learner::Open(folders().learner, config_,
                                                              BuildText(), log, metrics, clock));
    if (learner->is_new() && target_.lineage().started_from() != 0) FUSELINE_FAIL_IF_ERROR(BeginFrom(*learner));
    if (learner->scorer_is_new()) FUSELINE_FAIL_IF_ERROR(BeginScorerFrom(*learner));
    first_input_ = std::max(0, learner->lineage().inputs_size() - 1);
    return base;
  }

  Status Run(Comparison& comparison) {
    if (target_.lineage().inputs().empty())
      return ErrorStatus(Code::kNotFound, "version", target_.version(),
                         "does not say what it learned from");
    for (int i = 0; i < target_.lineage().inputs_size() && !stop_.stopped(); ++i) {
      const v1::LearnedInput& input = target_.lineage().inputs(i);
      if (i < first_input_) continue;
      const bool last = i == target_.lineage().inputs_size() - 1;
      FUSELINE_RETURN_IF_ERROR(Learn(input, last, comparison));
    }
    if (stop_.stopped()) return ErrorStatus(Code::kUnavailable, "interrupted");
    return OkStatus();
  }

  Result<v1::PolicyManifest> Derived() const {
    auto derived = ManifestOf(target_.version(), folders().ArchiveOf(target_.policy()));
    if (derived || derived.error().code != Code::kNotFound) return derived;
    return Error(Code::kNotFound, "the log ends before version", target_.version(),
                 "can be made: what it learned from is not in it (any more)");
  }

 private:
  Status BeginFrom(Learner& learner) const {
    DiskFileSystem files;
    const bool of_scorer = target_.has_scorer();
    const std::filesystem::path policies =
        of_scorer && !options_.state.empty() ? StateFolders(options_.state).versions : std::filesystem::path(options_.archive);
    const auto found = Archive::OpenReadOnly(policies, files).Get(target_.lineage().started_from());
    if (found) return learner.BeginFrom(found->version);
    return ErrorStatus(Code::kNotFound, "version", target_.version(), "began with the actor of version",
                 target_.lineage().started_from(), "which the archive does not hold (any more):",
                 found.error().message);
  }

  Status BeginScorerFrom(Learner& learner) const {
    const auto& figures = target_.metrics();
    const auto newest = figures.find(kScorerStartedFrom), measure = figures.find(kScorerMeasuredFrom);
    if (!target_.has_scorer() || newest == figures.end()) return OkStatus();
    const auto number = static_cast<std::uint64_t>(newest->second);
    if (measure == figures.end()) return learner.BeginScorerFrom(number, nullptr);
    DiskFileSystem files;
    FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion found,
                              Archive::OpenReadOnly(options_.archive, files).Get(static_cast<std::uint64_t>(measure->second)));
    return learner.BeginScorerFrom(number, &found.version);
  }

  StateFolders folders() const { return StateFolders(folder_.path()); }

  Status Learn(const v1::LearnedInput& input, bool last, Comparison& comparison) {
    ReadInput read = ReadInputWords(input.input(), config_);
    read.input.history = input.history();
    if (read.kind == InputKind::kFiles) return LearnFromFiles(read.input, last, comparison);
    if (read.kind == InputKind::kUnknown) {
      return ErrorStatus(
          Code::kInvalidInput, "the version learned from", "[" + input.input() + "],",
          "which is neither kafka.events_topic nor kafka.trajectories_topic; name it with --set");
    }
    const std::string& topic = read.kind == InputKind::kEvents
                                   ? config_.kafka().events_topic()
                                   : config_.kafka().trajectories_topic();
    FUSELINE_ASSIGN_OR_RETURN(const std::string here, DescribeTopic(config_, topic));
    comparison.Add({.what = "input", .then = read.input.words, .here = here});
    return read.kind == InputKind::kEvents ? LearnFromEvents(read.input, topic)
                                           : LearnFromTrajectories(read.input);
  }

  Status LearnFromFiles(const LearnerInput& input, bool last, Comparison& comparison) {
    if (options_.files.empty())
      return ErrorStatus(Code::kInvalidInput, "the version learned from",
                         "[" + input.words + "]:", "name the files");
    comparison.Add({.what = "input", .then = input.words, .here = DescribeFiles(options_.files)});
    FUSELINE_ASSIGN_OR_RETURN(auto parts, OpenParts(input, last ? "sessions" : kWarmStartFolder));
    Pipeline pipeline(config_, std::move(parts), freshness_, instruments_);
    FUSELINE_RETURN_IF_ERROR(
        ReadFiles(config_, options_.files, /*dead_letters=*/nullptr, pipeline.sessions()));
    return RunUntilMade([&] { return pipeline.status(); },
                        [&](std::stop_token token) { return pipeline.Run(token); });
  }

  static Result<kafka::StartPosition> StartOf(const LearnerInput& input) {
    FUSELINE_ASSIGN_OR_FAIL(const kafka::StartPosition from,
                            ParseStartingPoint(input.from.empty() ? "earliest" : input.from));
    if (from.kind != kafka::StartPosition::Kind::kLatest) return from;
    return Error(Code::kNotFound, "the version's learner began at what was the end then of",
                 "[" + input.words + "]:", "nobody wrote down where that was");
  }

  Status LearnFromEvents(const LearnerInput& input, const std::string& topic) {
    FUSELINE_ASSIGN_OR_RETURN(const kafka::StartPosition from, StartOf(input));
    FUSELINE_ASSIGN_OR_RETURN(const bool whole, Reaches(topic, from));
    if (!whole) {
      return ErrorStatus(Code::kNotFound, "the beginning of topic", topic,
                         "is gone: sessions cannot be built again as they were");
    }
    FUSELINE_ASSIGN_OR_RETURN(auto parts, OpenParts(input, "sessions"));
    Pipeline pipeline(config_, std::move(parts), freshness_, instruments_);
    FUSELINE_RETURN_IF_ERROR(
        ReadEventsTopic(config_, {.from = from, .until_end = true}, nullptr, pipeline.sessions()));
    return RunUntilMade([&] { return pipeline.status(); },
                        [&](std::stop_token token) { return pipeline.Run(token); });
  }

  Status LearnFromTrajectories(const LearnerInput& input) {
    FUSELINE_ASSIGN_OR_RETURN(const kafka::StartPosition from, StartOf(input));
    FUSELINE_ASSIGN_OR_RETURN(auto parts, OpenParts(input, nullptr));
    if (!input.from.empty()) parts.learner->BeginAnywhere();
    const auto durable = parts.learner->DurableNames();
    StatusBoard status;
    TrajectoryQueue queue(static_cast<std::size_t>(config_.learner().queue_trajectories()));
    LearnStage learn(config_, std::move(parts.learner), std::move(parts.publication),
                     std::move(parts.scorers), queue, /*stops_partitions=*/false, freshness_, status, instruments_);
    FUSELINE_ASSIGN_OR_RETURN(
        const auto reader,
        TrajectoryReader::Open(config_, from, durable, queue, freshness_, status, instruments_));
    const StageBody bodies[] = {
        {"trajectories", [&](std::stop_token token) { return reader->Run(token); }},
        {"learner", [&](std::stop_token token) { return learn.Run(reader->partitions(), token); }}};
    status.With([](PipelineStatus& now) {  // Until the reader has seen the end of every partition.
      now.idle = false;
      now.offering = true;
    });
    return RunUntilMade([&] { return status.Copy(); },
                        [&](std::stop_token token) { return RunStages(token, bodies); },
                        /*ends_idle=*/true);
  }

  // A log that goes on behind the version is not read further than that; `ends_idle`: one that
  // never ends by itself is given up at its end.
  Status RunUntilMade(const std::function<PipelineStatus()>& status,
                      const std::function<Status(std::stop_token)>& run, bool ends_idle = false) {
    std::stop_source enough;
    std::stop_callback on_stop(stop_.token(), [&] { enough.request_stop(); });
    Stage watch("verification", [&](std::stop_token token) {
      while (SleepFor(token, kLookMs)) {
        const PipelineStatus now = status();
        if (MadeUntil(now.learner) >= target_.version() || (ends_idle && now.idle))
          enough.request_stop();
      }
      return OkStatus();
    });
    Status outcome = run(enough.get_token());
    if (outcome.code == Code::kCorrupt)
      return ErrorStatus(
          Code::kCorrupt,
          "the log does not hold what the version learned from any more:", outcome.message);
    return outcome;
  }

  // Versions of the kind that is to be made.
  std::uint64_t MadeUntil(const LearnerProgress& progress) const {
    if (!target_.has_scorer()) return progress.versions;
    return progress.scorer ? progress.scorer->versions : 0;
  }

  // Archive and learner of this folder; `sessions`: where a sessionizer keeps its state, none
  // without one.
  Result<Pipeline::Parts> OpenParts(const LearnerInput& input, const char* sessions) {
    Pipeline::Parts parts;
    if (sessions != nullptr) {
      StateFolders with = folders();
      with.sessions = with.root / sessions;
      FUSELINE_ASSIGN_OR_FAIL(parts.sessionizer, OpenSessionizer(config_, with, instruments_));
    }
    FUSELINE_ASSIGN_OR_FAIL(parts.learner, OpenLearner(config_, folders(), input, instruments_));
    FUSELINE_ASSIGN_OR_FAIL(parts.publication,
                            OpenPublication(config_, /*epoch=*/0, freshness_, instruments_));
    FUSELINE_ASSIGN_OR_FAIL(parts.scorers,
                            OpenScorerPublication(config_, /*epoch=*/0, instruments_));
    return parts;
  }

  // Whether the log begins no later than where it was read from then. Of a time nobody can tell.
  Result<bool> Reaches(const std::string& topic, const kafka::StartPosition& from) {
    if (from.kind == kafka::StartPosition::Kind::kTimestamp) return true;
    kafka::ConsumerOptions consumer_options;
    consumer_options.topic = topic;
    consumer_options.request_timeout_ms = config_.kafka().connect_timeout_ms();
    FUSELINE_ASSIGN_OR_FAIL(const auto consumer,
                            kafka::Consumer::Open(ConnectionOf(config_.kafka()), consumer_options));
    FUSELINE_ASSIGN_OR_FAIL(const std::int32_t partitions, consumer->PartitionCount());
    for (std::int32_t partition = 0; partition < partitions; ++partition) {
      FUSELINE_ASSIGN_OR_FAIL(const kafka::Watermarks log, consumer->QueryWatermarks(partition));
      if (log.low > from.value) return false;
    }
    return true;
  }

  const VerificationOptions& options_;
  const v1::PolicyManifest& target_;
  v1::Config config_;
  StopSignal& stop_;
  Instruments instruments_;
  StateFolder folder_;
  Freshness freshness_{instruments_.metrics};
  int first_input_ = 0;
};

// A manifest without what says who made it, where and when.
v1::PolicyManifest WhatIsDerived(v1::PolicyManifest manifest) {
  manifest.clear_created_ms();
  manifest.clear_parts();
  v1::Lineage& lineage = *manifest.mutable_lineage();
  lineage.clear_root();
  lineage.clear_build();
  lineage.clear_blas();
  lineage.clear_threads();
  lineage.clear_device();
  lineage.clear_regimes();
  lineage.clear_epoch();
  return manifest;
}

std::string Alone(v1::PolicyManifest manifest, const google::protobuf::FieldDescriptor* field) {
  const auto* descriptor = manifest.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    if (descriptor->field(i) != field)
      manifest.GetReflection()->ClearField(&manifest, descriptor->field(i));
  }
  return CanonicalBytes(manifest);
}

std::vector<std::string> FieldsThatDiffer(const v1::PolicyManifest& archived,
                                          const v1::PolicyManifest& derived) {
  const v1::PolicyManifest a = WhatIsDerived(archived), b = WhatIsDerived(derived);
  std::vector<std::string> names;
  const auto* descriptor = a.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    if (Alone(a, field) != Alone(b, field)) names.emplace_back(field->name());
  }
  return names;
}

}  // namespace

Result<Verification> VerifyVersion(const VerificationOptions& options, const v1::Config& config,
                                   StopSignal& stop, Instruments instruments) {
  FUSELINE_ASSIGN_OR_FAIL(const v1::PolicyManifest archived,
                          ManifestOf(options.version, options.archive));
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<v1::Regime> regimes, RegimesOf(archived));
  Comparison comparison(instruments.log);
  comparison.AddRegimes(regimes, config);
  FUSELINE_ASSIGN_OR_FAIL(v1::Config derive_with, SettingsOfRegime(config, regimes.back()));
  Derivation derivation(options, archived, std::move(derive_with), stop, instruments);
  Verification verification{.version = options.version, .regimes = regimes.size()};
  FUSELINE_ASSIGN_OR_FAIL(const DerivationBase base, derivation.Begin(regimes));
  verification.base = base.version;
  verification.base_trajectories = base.trajectories;
  FUSELINE_FAIL_IF_ERROR(derivation.Run(comparison));
  FUSELINE_ASSIGN_OR_FAIL(const v1::PolicyManifest derived, derivation.Derived());
  verification.differences = comparison.Take();
  verification.archived_sha256 = ToHex(archived.weights_sha256());
  verification.derived_sha256 = ToHex(derived.weights_sha256());
  verification.manifest = FieldsThatDiffer(archived, derived);
  return verification;
}

std::string VerificationText(const Verification& verification) {
  std::string text =
      "version     " + std::to_string(verification.version) + ", derived again from " +
      (verification.base_trajectories == 0
           ? "the beginning"
           : "the checkpoint at trajectory " + std::to_string(verification.base_trajectories) +
                 ", behind version " + std::to_string(verification.base)) +
      (verification.regimes > 1 ? ", the last of " + std::to_string(verification.regimes) + " regimes\n" : "\n");
  for (const Verification::Difference& difference : verification.differences) {
    text += "differs     " + difference.what;
    if (difference.regime > 0)
      text += " of regime " + std::to_string(difference.regime) + ", from trajectory " +
              std::to_string(difference.first_trajectory) + " on";
    text += ": then " + difference.then + ", here " + difference.here + '\n';
    for (const auto& [key, values] : difference.keys)
      text += "              " + key + ": then " + values.first + ", here " + values.second + '\n';
  }
  text += "archived    sha256 " + verification.archived_sha256 + "\nderived     sha256 " +
          verification.derived_sha256 + '\n';
  for (const std::string& field : verification.manifest)
    text += "manifest    " + field + " differs\n";
  return text + (verification.equal() ? "equal\n" : "NOT equal\n");
}

std::string VerificationJson(const Verification& verification) {
  using Json = nlohmann::ordered_json;
  Json differences = Json::array();
  for (const Verification::Difference& difference : verification.differences) {
    Json said = {{"what", difference.what}, {"then", difference.then}, {"here", difference.here}};
    if (difference.regime > 0) {
      said["regime"] = difference.regime;
      said["first_trajectory"] = difference.first_trajectory;
    }
    for (const auto& [key, values] : difference.keys) said["keys"][key] = {values.first, values.second};
    differences.push_back(std::move(said));
  }
  return Json{{"version", verification.version},
              {"equal", verification.equal()},
              {"base", verification.base},
              {"base_trajectories", verification.base_trajectories},
              {"regimes", verification.regimes},
              {"differences", differences},
              {"archived_sha256", verification.archived_sha256},
              {"derived_sha256", verification.derived_sha256},
              {"manifest_differs", verification.manifest}}
      .dump();
}

}  // namespace fuseline
