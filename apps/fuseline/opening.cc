#include "opening.h"

#include <map>
#include <optional>
#include <utility>

#include "checks.h"
#include "fuseline/kafka/admin.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/settings.h"
#include "stored_status.h"

namespace fuseline {
namespace {

constexpr std::int64_t kClaimPatienceMs = 30'000;

// A group offset without state here means that another state folder got further: going on from nothing would be silent loss.
Status RefuseForeignProgress(const v1::Config& config, const Sessionizer& sessionizer, kafka::Consumer& consumer, std::int32_t one) {
  const std::int32_t partitions[] = {one};
  FUSELINE_ASSIGN_OR_RETURN(const auto committed, consumer.Committed(partitions));
  for (const auto& [partition, offset] : committed) {
    if (offset.offset <= sessionizer.Position(partition).next_offset) continue;
    return ErrorStatus(Code::kInvalidInput, "group", config.kafka().group_id(), "has committed offset", offset.offset, "of partition",
                       partition, "but the state folder", config.fuseline().state_dir(),
                       "does not know it; name the folder that does (fuseline.state_dir), or begin again with --cold-start");
  }
  return OkStatus();
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

}  // namespace

Result<OpenState> OpenState::Open(const v1::Config& config, const std::string& input, Instruments instruments) {
  const std::filesystem::path root = config.fuseline().state_dir();
  FUSELINE_ASSIGN_OR_FAIL(FolderLock lock, FolderLock::Acquire(root));
  FUSELINE_FAIL_IF_ERROR(CheckInput(root, input));
  FUSELINE_ASSIGN_OR_FAIL(const std::int64_t free_bytes, FreeDiskBytes(root));
  if (free_bytes < config.fuseline().min_free_disk_bytes()) {
    return Error(Code::kUnavailable, "too little free disk:", free_bytes, "bytes, fuseline.min_free_disk_bytes is",
                 config.fuseline().min_free_disk_bytes());
  }
  StateFolders folders(root);
  auto& [log, metrics, clock] = instruments;
  FUSELINE_ASSIGN_OR_FAIL(auto sessionizer, Sessionizer::Open(folders.sessions, config.sessionizer(), clock, log, metrics));
  FUSELINE_ASSIGN_OR_FAIL(auto learner, Learner::Open(folders.learner, config, BuildText(), log, metrics, clock));
  // Only now: settings that the state refuses must not become those by which it is read.
  FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(root / kSettingsFile, PrintSettings(config, /*with_help=*/false)));
  return OpenState{std::move(lock), std::move(folders), std::move(sessionizer), std::move(learner)};
}

Result<std::string> DescribeKafkaInput(const v1::Config& config) {
  FUSELINE_ASSIGN_OR_FAIL(const auto admin, kafka::Admin::Open(ConnectionOf(config.kafka()), config.kafka().connect_timeout_ms()));
  FUSELINE_FAIL_IF_ERROR(admin->CheckReachable());
  FUSELINE_ASSIGN_OR_FAIL(const std::string cluster, admin->ClusterId());
  FUSELINE_ASSIGN_OR_FAIL(const std::int32_t partitions, admin->PartitionCount(config.kafka().events_topic()));
  return "topic " + config.kafka().events_topic() + ", " + std::to_string(partitions) + " partitions, cluster " + cluster;
}

Result<std::unique_ptr<KafkaSource>> OpenKafkaEvents(const v1::Config& config, const KafkaReading& reading,
                                                     const Sessionizer& sessionizer, DeadLetterSink* dead_letters) {
  KafkaSourceOptions options = KafkaSourceOptionsOf(config.kafka(), config.ingest());
  options.until_end = reading.until_end;
  const bool guarded = !reading.cold_start && !config.kafka().group_id().empty();
  options.start = [&config, &sessionizer, guarded, from = reading.from](kafka::Consumer& consumer,
                                                                        std::int32_t partition) -> Result<kafka::StartPosition> {
    if (guarded) FUSELINE_FAIL_IF_ERROR(RefuseForeignProgress(config, sessionizer, consumer, partition));
    const std::int64_t next_offset = sessionizer.Position(partition).next_offset;
    return next_offset > 0 ? kafka::StartPosition::Offset(next_offset) : from;
  };
  return KafkaSource::Open(std::move(options), dead_letters);
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
  options.folder = StateFolders(config.fuseline().state_dir()).versions.string();
  options.epoch = epoch;
  options.on_use = [&freshness](std::uint64_t version, std::int64_t wall_ms) { freshness.InUse(version, wall_ms); };
  return Publication::Open(std::move(options), instruments);
}

std::string BuildText() { return "fuseline " FUSELINE_VERSION ", g++ " __VERSION__ ", " FUSELINE_BUILD_TYPE; }

}  // namespace fuseline
