#include "opening.h"

#include <link.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "checks.h"
#include "fuseline/core/backoff.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/stage.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/settings.h"
#include "stored_status.h"

namespace fuseline {
namespace {

constexpr std::int64_t kClaimPatienceMs = 30'000;

// What the group and the log say of a partition.
struct SaidOfPartition {
  std::optional<kafka::CommittedOffset> word;
  std::int64_t log_start = 0;
};

Result<SaidOfPartition> Ask(const v1::Config& config, kafka::Consumer& consumer, std::int32_t partition) {
  SaidOfPartition said;
  if (!config.kafka().group_id().empty()) {
    const std::int32_t one[] = {partition};
    FUSELINE_ASSIGN_OR_FAIL(auto committed, consumer.Committed(one));
    if (!committed.empty()) said.word = std::move(committed.begin()->second);
  }
  FUSELINE_ASSIGN_OR_FAIL(const kafka::Watermarks log, consumer.QueryWatermarks(partition));
  said.log_start = log.low;
  return said;
}

// Asks again while Kafka is busy: a group's coordinator is made, and moves, while everything else goes on.
Result<SaidOfPartition> AskPatiently(const v1::Config& config, kafka::Consumer& consumer, std::int32_t partition) {
  const SystemClock clock;
  const std::int64_t end_us = clock.monotonic_us() + config.kafka().connect_timeout_ms() * 1'000;
  Backoff backoff(10, 1'000, config.fuseline().seed());
  for (;;) {
    auto said = Ask(config, consumer, partition);
    if (said || said.error().code != Code::kUnavailable || clock.monotonic_us() >= end_us) return said;
    SleepFor({}, backoff.NextMs());
  }
}

// The GNU build id of this program in hex, a digest of what was linked; empty: it was linked without.
std::string BuildId() {
  std::string id;
  const auto look = [](dl_phdr_info* object, std::size_t, void* found) {
    for (int i = 0; i < object->dlpi_phnum; ++i) {
      const auto& segment = object->dlpi_phdr[i];
      if (segment.p_type != PT_NOTE) continue;
      std::string_view notes(reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr), segment.p_memsz);
      while (notes.size() >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) head;
        std::memcpy(&head, notes.data(), sizeof(head));
        const std::size_t name = sizeof(head), value = name + (head.n_namesz + 3U) / 4U * 4U, end = value + (head.n_descsz + 3U) / 4U * 4U;
        if (end > notes.size()) break;
        if (head.n_type == NT_GNU_BUILD_ID && notes.substr(name, head.n_namesz) == std::string_view("GNU", 4)) {
          *static_cast<std::string*>(found) = ToHex(notes.substr(value, head.n_descsz));
        }
        notes.remove_prefix(end);
      }
    }
    return 1;  // The first object is the program.
  };
  dl_iterate_phdr(look, &id);
  return id;
}

Status CheckInput(const std::filesystem::path& root, const std::string& input) {
  const std::filesystem::path file = root / "input";
  const auto known = ReadFile(file);
  if (!known && known.error().code == Code::kNotFound) return WriteFileAtomically(file, input);
  if (!known) return known.error();
  if (*known == input) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, "state folder", root.string(), "was made from", "[" + *known + "],", "not from",
                     "[" + input + "]; name another with fuseline.state_dir");
}

// A scorer that is learned from now on, where one was imported before: its numbers are taken.
Status BeginBehindImported(Learner& learner, const std::filesystem::path& scorers) {
  if (!std::filesystem::exists(scorers / "versions")) return OkStatus();
  DiskFileSystem files;
  const Archive archive = Archive::OpenReadOnly(scorers, files);
  FUSELINE_ASSIGN_OR_RETURN(const auto versions, archive.List());
  return BeginScorerBehind(learner, versions, [&](std::uint64_t version) { return archive.Get(version); });
}

}  // namespace

Status BeginScorerBehind(Learner& learner, const std::vector<std::uint64_t>& versions,
                         const std::function<Result<ArchivedVersion>(std::uint64_t)>& read) {
  if (versions.empty()) return OkStatus();
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    const auto found = read(*version);
    if (!found && found.error().code == Code::kNotFound) continue;  // Retention took it meanwhile.
    if (!found) return found.error();
    const v1::PolicyManifest& manifest = found->version.manifest;
    if (!manifest.has_gate() || manifest.gate().passed()) return learner.BeginScorerFrom(versions.back(), &found->version);
  }
  return learner.BeginScorerFrom(versions.back(), nullptr);
}

Result<OpenFolder> OpenFolder::Open(const v1::Config& config, const std::string& input) {
  const std::filesystem::path root = config.fuseline().state_dir();
  FUSELINE_ASSIGN_OR_FAIL(FolderLock lock, FolderLock::Acquire(root));
  FUSELINE_FAIL_IF_ERROR(CheckInput(root, input));
  FUSELINE_ASSIGN_OR_FAIL(const std::int64_t free_bytes, FreeDiskBytes(root));
  if (free_bytes < config.fuseline().min_free_disk_bytes()) {
    return Error(Code::kUnavailable, "too little free disk:", free_bytes, "bytes, fuseline.min_free_disk_bytes is",
                 config.fuseline().min_free_disk_bytes());
  }
  return OpenFolder{std::move(lock), StateFolders(root)};
}

Result<std::unique_ptr<Sessionizer>> OpenSessionizer(const v1::Config& config, const StateFolders& folders, Instruments instruments) {
  auto& [log, metrics, clock] = instruments;
  return Sessionizer::Open(folders.sessions, config.sessionizer(), clock, log, metrics);
}

Result<std::unique_ptr<Learner>> OpenLearner(const v1::Config& config, const StateFolders& folders, const LearnerInput& input,
                                             Instruments instruments) {
  auto& [log, metrics, clock] = instruments;
  FUSELINE_ASSIGN_OR_FAIL(auto learner, Learner::Open(folders.learner, config, BuildText(), log, metrics, clock));
  if (learner->scorer_is_new()) FUSELINE_FAIL_IF_ERROR(BeginBehindImported(*learner, folders.scorers));
  FUSELINE_FAIL_IF_ERROR(learner->BeginInput(input.words, input.from, input.history));
  return learner;
}

Status RememberSettings(const v1::Config& config, const StateFolders& folders) {
  return WriteFileAtomically(folders.root / kSettingsFile, PrintSettings(config, /*with_help=*/false));
}

Status ReadEventsTopic(const v1::Config& config, const KafkaReading& reading, DeadLetterSink* dead_letters, SessionStage& stage) {
  KafkaSourceOptions options = KafkaSourceOptionsOf(config.kafka(), config.ingest());
  options.group = reading.group;
  options.until_end = reading.until_end;
  options.start = [&config, &stage, reading](kafka::Consumer& consumer, std::int32_t partition) {
    // A member's consumer asks again itself, and reads its other partitions meanwhile.
    const auto said = reading.group ? Ask(config, consumer, partition) : AskPatiently(config, consumer, partition);
    const bool asks_again = !said && said.error().code == Code::kUnavailable;
    auto begin = said ? stage.TakeOver(partition, said->word, said->log_start, reading) : tl::unexpected(said.error());
    if (!begin && !asks_again) stage.Fail(begin.error());
    return begin;
  };
  options.revoked = [&stage](std::span<const std::int32_t> partitions, bool lost) { stage.GiveUp(partitions, lost); };
  FUSELINE_ASSIGN_OR_RETURN(auto source, KafkaSource::Open(std::move(options), dead_letters));
  std::function<InputProgress()> progress;
  if (reading.until_end) {
    progress = [source = source.get(), at_first = 0.0]() mutable {
      double lag = 0;
      for (const std::int32_t partition : source->partitions()) {
        lag += static_cast<double>(std::max<std::int64_t>(0, source->lag(partition)));
      }
      at_first = std::max(at_first, lag);
      return InputProgress{at_first - lag, at_first};
    };
  }
  stage.Read(std::move(source), std::move(progress));
  return OkStatus();
}

Result<std::unique_ptr<DeadLetterSink>> OpenDeadLetters(const v1::Config& config, bool without_kafka) {
  const std::string& file = config.ingest().dead_letters_file();
  if (!file.empty()) return OpenDeadLetterFile(file);
  if (!without_kafka) {
    FUSELINE_FAIL_IF_ERROR(MakeTopicUnlessThere(config, config.kafka().dead_letters_topic()));
    return OpenDeadLetterTopic(ConnectionOf(config.kafka()), config.kafka().dead_letters_topic());
  }
  return OpenDeadLetterFile((std::filesystem::path(config.fuseline().state_dir()) / "dead_letters.jsonl").string());
}

Result<std::uint64_t> ClaimEpoch(const v1::Config& config) {
  FUSELINE_FAIL_IF_ERROR(MakeTopicUnlessThere(config, config.kafka().claims_topic()));
  std::optional<kafka::DeliveryReport> report;
  FUSELINE_ASSIGN_OR_FAIL(auto producer, kafka::Producer::Open(ConnectionOf(config.kafka()), {},
                                                               [&](const kafka::DeliveryReport& r) { report = r; }));
  kafka::OutgoingMessage claim;
  claim.topic = config.kafka().claims_topic();
  claim.key = config.policy().name();
  claim.value = "claim";
  claim.partition = 0;  // One order of claims: the topic has one partition.
  FUSELINE_FAIL_IF_ERROR(producer->Produce(claim));
  FUSELINE_FAIL_IF_ERROR(producer->Flush(kClaimPatienceMs));
  if (!report) return Error(Code::kUnavailable, "no answer to the claim in topic", claim.topic);
  if (!report->status.ok()) return Error(report->status.code, "claim refused:", report->status.message);
  return static_cast<std::uint64_t>(report->offset) + 1;
}

Result<std::unique_ptr<Publication>> OpenPublication(const v1::Config& config, std::uint64_t epoch, Freshness& freshness,
                                                     Instruments instruments) {
  Publication::Options options;
  options.config = config;
  options.folder = StateFolders(config.fuseline().state_dir()).ArchiveOf(config.policy().name()).string();
  options.epoch = epoch;
  options.on_published = [&freshness, &clock = instruments.clock](std::uint64_t version, bool is_live) {
    freshness.Published(version, is_live, clock.wall_ms());
  };
  options.on_use = [&freshness](const std::string& ranker, std::uint64_t version, std::int64_t wall_ms) {
    freshness.InUse(ranker, version, wall_ms);
  };
  options.on_gone = [&freshness](const std::string& ranker) { freshness.Gone(ranker); };
  return Publication::Open(std::move(options), instruments);
}

Result<std::unique_ptr<Publication>> OpenScorerPublication(const v1::Config& config, std::uint64_t epoch, Instruments instruments) {
  const std::filesystem::path folder = StateFolders(config.fuseline().state_dir()).scorers;
  const bool imported = epoch > 0 && std::filesystem::exists(folder / "versions");
  if (!config.scorer().learn() && !imported) return std::unique_ptr<Publication>();
  Publication::Options options;
  options.config = config;
  options.config.mutable_policy()->set_name(ScorerPolicyOf(config.policy().name()));
  options.folder = folder.string();
  options.epoch = epoch;
  return Publication::Open(std::move(options), instruments);
}

std::string BuildText() {
  const std::string id = BuildId();
  return "fuseline " FUSELINE_VERSION ", g++ " __VERSION__ ", " FUSELINE_BUILD_TYPE + (id.empty() ? "" : ", build " + id.substr(0, 16));
}

}  // namespace fuseline
