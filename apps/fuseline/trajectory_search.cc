#include "trajectory_search.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <tuple>
#include <utility>

#include "fuseline/core/clock.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/ingest/file_source.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "pipeline_status.h"
#include "progress_line.h"
#include "state_folder.h"
#include "topic_reader.h"

namespace fuseline {
namespace {

constexpr std::size_t kOutboxPage = 256;
constexpr std::int64_t kPollMs = 100;
// A trajectory is appended after the record that closed it; brokers' clocks differ by less.
constexpr std::int64_t kClockSlackMs = 60'000;

// What opening a sessionizer needs and nobody here looks at.
struct Quiet {
  SystemClock clock;
  Log log{Severity::kError};
  Metrics metrics;
};

// The name just before every other of its record, and before `name`.
v1::TrajectoryName JustBefore(const v1::TrajectoryName& name) {
  v1::TrajectoryName before = name;
  before.set_ordinal(name.ordinal() > 0 ? name.ordinal() - 1 : UINT32_MAX);
  if (name.ordinal() == 0) before.set_offset(name.offset() - 1);
  return before;
}

Result<v1::Trajectory> Parse(const OutboxEntry& entry) {
  v1::Trajectory trajectory;
  if (trajectory.ParseFromString(entry.bytes)) return trajectory;
  return Error(Code::kCorrupt, "trajectory cannot be read:", NameText(entry.name));
}

Result<std::optional<v1::Trajectory>> TakeFromOutbox(Sessionizer& sessionizer, const v1::TrajectoryName& name) {
  std::optional<v1::TrajectoryName> after;
  if (name.offset() > 0 || name.ordinal() > 0) after = JustBefore(name);
  FUSELINE_ASSIGN_OR_FAIL(const auto page, sessionizer.Outbox(name.partition(), after, 1));
  if (page.empty() || CompareNames(page.front().name, name) != 0) return std::nullopt;
  return Parse(page.front());
}

// What the state folder knows: the trajectory, as long as nobody has acknowledged it, and the rules of its partition.
struct KeptState {
  std::optional<v1::Trajectory> trajectory;
  v1::SessionRules rules;  // Without format: it knows nothing of the partition.
};

Result<KeptState> LookIntoState(const v1::Config& config, const v1::TrajectoryName& name) {
  const std::filesystem::path sessions = StateFolders(config.fuseline().state_dir()).sessions;
  if (!std::filesystem::exists(sessions)) return KeptState();
  Quiet quiet;
  FUSELINE_ASSIGN_OR_FAIL(const auto sessionizer, Sessionizer::OpenReadOnly(sessions, config.sessionizer(),
                                                                            quiet.clock, quiet.log, quiet.metrics));
  KeptState kept;
  kept.rules = sessionizer->Position(name.partition()).rules;
  FUSELINE_ASSIGN_OR_FAIL(kept.trajectory, TakeFromOutbox(*sessionizer, name));
  return kept;
}

// The settings that the partition was begun with: those of the file may have been changed since, and a log without
// rules records does not say. Where it has some (a version), they take effect as they are read.
v1::Config BegunWith(const v1::SessionRules& rules, v1::Config config) {
  if (rules.format() == 0 || rules.version() > 0) return config;
  config.mutable_sessionizer()->set_gap_ms(rules.gap_ms());
  config.mutable_sessionizer()->set_lateness_ms(rules.lateness_ms());
  config.mutable_sessionizer()->set_cut_every_ms(rules.cut_every_ms());
  config.mutable_sessionizer()->set_max_events(rules.max_events());
  return config;
}

// --- the topic of trajectories ---

// When the record was appended that closed the session; absent when the log does not hold it any more.
std::optional<std::int64_t> ClosedAt(const v1::Config& config, const v1::TrajectoryName& name,
                                     const std::stop_token& stop) {
  std::optional<std::int64_t> time_ms;
  const TopicRange range{config.kafka().events_topic(), name.partition(),
                         kafka::StartPosition::Offset(name.offset())};
  const auto see = [&](const kafka::Message& message) -> Result<bool> {
    if (message.offset == name.offset() && message.timestamp_ms >= 0) time_ms = message.timestamp_ms;
    return false;
  };
  return ReadTopic(config.kafka(), range, stop, see).ok() ? time_ms : std::nullopt;
}

// Reads names from `from` on until this one or, if it is later than the first one seen, a later one.
Result<std::optional<FoundTrajectory>> ScanTopic(const v1::Config& config, const v1::TrajectoryName& name,
                                                 kafka::StartPosition from, const std::stop_token& stop) {
  std::optional<FoundTrajectory> found;
  const TopicRange range{config.kafka().trajectories_topic(), name.partition(), from};
  v1::TrajectoryRecord record;
  const auto see = [&](const kafka::Message& message) -> Result<bool> {
    if (!record.ParseFromArray(message.value.data(), static_cast<int>(message.value.size())) ||
        !record.has_trajectory())
      return true;
    const auto order = CompareNames(record.trajectory().name(), name);
    if (order == 0)
      found = {record.trajectory(), "topic " + range.topic + ", offset " + std::to_string(message.offset)};
    return order <
           0;  // Names only grow but for repeats of earlier ones, so a later one says that this one is not here.
  };
  FUSELINE_FAIL_IF_ERROR(ReadTopic(config.kafka(), range, stop, see));
  return found;
}

Result<std::optional<FoundTrajectory>> LookIntoTopic(const v1::Config& config, const v1::TrajectoryName& name,
                                                     const std::stop_token& stop) {
  if (const auto closed_ms = ClosedAt(config, name, stop)) {
    const auto from = kafka::StartPosition::Timestamp(std::max<std::int64_t>(0, *closed_ms - kClockSlackMs));
    FUSELINE_ASSIGN_OR_FAIL(auto found, ScanTopic(config, name, from, stop));
    if (found) return found;
  }
  return ScanTopic(config, name, kafka::StartPosition::Earliest(), stop);  // Its times may say nothing.
}

// --- the log ---

Result<std::unique_ptr<KafkaSource>> OpenPartition(const v1::Config& config, std::int32_t partition,
                                                   kafka::StartPosition from) {
  v1::Kafka kafka = config.kafka();
  kafka.clear_group_id();
  KafkaSourceOptions options = KafkaSourceOptionsOf(kafka, config.ingest());
  options.until_end = true;
  options.start = [=](kafka::Consumer&, std::int32_t one) -> Result<kafka::StartPosition> {
    return one == partition ? from : kafka::StartPosition::Latest();  // The others give nothing.
  };
  return KafkaSource::Open(std::move(options), /*dead_letters=*/nullptr);
}

// How far the log was read, on standard error.
class LogProgress {
 public:
  explicit LogProgress(std::int64_t end) : end_(end) {}
  void Show(std::int64_t next_offset) {
    if (first_ < 0) first_ = next_offset;
    if (!line_.due()) return;
    const double elapsed_s = static_cast<double>(clock_.monotonic_us() - begin_us_) / 1e6;
    const auto done = static_cast<double>(next_offset - first_);
    line_.Show("building sessions again  " + RateText(done / elapsed_s) + " records/s  offset " +
               std::to_string(next_offset) + " of " + std::to_string(end_) + "  ETA " +
               EtaText(done, static_cast<double>(end_ - first_), elapsed_s));
  }

 private:
  const std::int64_t end_;
  std::int64_t first_ = -1;
  SystemClock clock_;
  const std::int64_t begin_us_ = clock_.monotonic_us();
  ProgressLine line_;
};

// Commits, and forgets trajectories before `name`.
Result<std::optional<v1::Trajectory>> CommitAndLook(Sessionizer& sessionizer, const v1::TrajectoryName& name) {
  FUSELINE_FAIL_IF_ERROR(sessionizer.Commit());
  std::optional<v1::TrajectoryName> after;
  for (;;) {
    FUSELINE_ASSIGN_OR_FAIL(const auto page, sessionizer.Outbox(name.partition(), after, kOutboxPage));
    for (const OutboxEntry& entry : page) {
      const auto order = CompareNames(entry.name, name);
      if (order == 0) return Parse(entry);
      if (order > 0) return std::nullopt;
      after = entry.name;
    }
    if (after) sessionizer.Acknowledge(*after);
    if (page.size() < kOutboxPage) return std::nullopt;
  }
}

Result<FoundTrajectory> BuildAgain(const v1::Config& config, EventSource& source, const v1::TrajectoryName& name,
                                   const std::stop_token& stop) {
  const StateFolder folder("");
  Quiet quiet;
  FUSELINE_ASSIGN_OR_FAIL(const auto sessionizer, Sessionizer::Open(folder.path() / "sessions", config.sessionizer(),
                                                                    quiet.clock, quiet.log, quiet.metrics));
  LogProgress progress(name.offset() + 1);
  std::int64_t first = -1, next = 0;
  while (next <= name.offset() && !source.finished()) {
    if (stop.stop_requested())
      return Error(Code::kUnavailable, "interrupted while sessions were built again, at offset", next);
    FUSELINE_ASSIGN_OR_FAIL(std::optional<EventBatch> batch, source.Next(kPollMs));
    if (!batch || batch->partition != name.partition()) continue;
    if (first < 0 && !batch->records.empty()) first = batch->records.front().offset;
    next = batch->next_offset;
    FUSELINE_FAIL_IF_ERROR(sessionizer->Process(std::move(*batch)));
    progress.Show(next);
    if (next <= name.offset() && !sessionizer->NeedsCommit()) continue;
    FUSELINE_ASSIGN_OR_FAIL(auto found, CommitAndLook(*sessionizer, name));
    const std::string where =
        "built again from offsets " + std::to_string(first) + " to " + std::to_string(next - 1) + " of the log";
    if (found) return FoundTrajectory{std::move(*found), where};
  }
  FUSELINE_ASSIGN_OR_FAIL(auto found, CommitAndLook(*sessionizer, name));
  if (found)
    return FoundTrajectory{std::move(*found), "built again from offsets " + std::to_string(first) +
                                                  " on, flushed at the end of the log"};
  return Error(
      Code::kNotFound, "no trajectory", NameText(name), "in outbox and topic, and none in the log from offset", first,
      "on; names depend on the settings in force and on a log that is read from before the session's first event");
}

// Shows every event of the log that may belong to the trajectory.
Status ReadLog(const v1::Config& config, const TrajectoryLog& log, const v1::Trajectory& trajectory,
               const std::stop_token& stop,
               const std::function<void(std::int64_t offset, const v1::Event& event)>& see) {
  const std::int64_t end = trajectory.name().offset();
  v1::Event event;
  if (!log.files.empty()) {
    FUSELINE_ASSIGN_OR_RETURN(const auto source,
                              FileSource::Open(FileSourceOptionsOf(config.ingest(), log.files), nullptr));
    while (!source->finished() && !stop.stop_requested()) {
      FUSELINE_ASSIGN_OR_RETURN(const std::optional<EventBatch> batch, source->Next(kPollMs));
      if (!batch) continue;
      for (const Record& record : batch->records) {
        if (record.offset > end || record.fate != RecordFate::kEvent || record.event.user_id != trajectory.user_id())
          continue;
        if (ParseEvent(record.event, &event).ok()) see(record.offset, event);
      }
      if (batch->next_offset > end) return OkStatus();
    }
    return OkStatus();
  }
  // A record older than this would have been quarantined, were it of this session.
  const std::int64_t from_ms = std::max<std::int64_t>(0, trajectory.first_ms() - config.ingest().max_future_ms());
  const TopicRange range{config.kafka().events_topic(), trajectory.name().partition(),
                         kafka::StartPosition::Timestamp(from_ms)};
  const EventLimits limits = LimitsOf(config.ingest());
  return ReadTopic(config.kafka(), range, stop, [&](const kafka::Message& message) -> Result<bool> {
    if (message.offset > end) return false;
    if (DecodeEvent(message.value, limits, &event).ok()) see(message.offset, event);
    return true;
  });
}

}  // namespace

Result<FoundTrajectory> FindTrajectory(const v1::Config& config, const TrajectoryLog& log,
                                       const v1::TrajectoryName& name, const std::stop_token& stop) {
  auto kept = LookIntoState(config, name);
  if (!kept) std::cerr << "fuseline: the state folder does not help: " << kept.error().message << '\n';
  if (kept && kept->trajectory) {
    return FoundTrajectory{std::move(*kept->trajectory), "outbox of " + config.fuseline().state_dir()};
  }
  const v1::Config begun = BegunWith(kept ? kept->rules : v1::SessionRules(), config);
  if (!log.files.empty()) {
    FUSELINE_ASSIGN_OR_FAIL(const auto source,
                            FileSource::Open(FileSourceOptionsOf(config.ingest(), log.files), nullptr));
    return BuildAgain(begun, *source, name, stop);
  }
  auto told = LookIntoTopic(config, name, stop);
  if (!told && told.error().code != Code::kNotFound)
    return tl::unexpected(told.error());  // kNotFound: no such topic.
  if (told && *told) return std::move(**told);
  FUSELINE_ASSIGN_OR_FAIL(const auto source, OpenPartition(config, name.partition(), log.from));
  return BuildAgain(begun, *source, name, stop);
}

Result<std::vector<LoggedEvent>> EventsOf(const v1::Config& config, const TrajectoryLog& log,
                                          const v1::Trajectory& trajectory, const std::stop_token& stop) {
  std::vector<LoggedEvent> events;
  FUSELINE_FAIL_IF_ERROR(ReadLog(config, log, trajectory, stop, [&](std::int64_t offset, const v1::Event& event) {
    const bool inside =
        event.event_time_ms() >= trajectory.first_ms() && event.event_time_ms() <= trajectory.last_ms();
    if (inside && event.user_id() == trajectory.user_id()) events.push_back({offset, event});
  }));
  std::ranges::stable_sort(events, {},
                           [](const LoggedEvent& one) { return std::tuple(one.event.event_time_ms(), one.offset); });
  return events;
}

Result<std::optional<LearnedBy>> FindLearner(const v1::Config& config, const v1::TrajectoryName& name) {
  const std::filesystem::path folder = StateFolders(config.fuseline().state_dir()).versions;
  if (!std::filesystem::exists(folder / "versions")) return std::nullopt;
  DiskFileSystem files;
  const Archive archive = Archive::OpenReadOnly(folder, files);
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> versions, archive.List());
  for (const std::uint64_t version : versions) {
    const auto stored = archive.Get(version);
    if (!stored && stored.error().code == Code::kNotFound) continue;  // Its owner has just pruned it.
    if (!stored) return tl::unexpected(stored.error());
    const v1::PolicyManifest& manifest = stored->version.manifest;
    const bool covers = std::ranges::any_of(manifest.lineage().names_taken(), [&](const v1::TrajectoryName& taken) {
      return taken.partition() == name.partition() && CompareNames(taken, name) >= 0;
    });
    if (!covers) continue;
    return LearnedBy{version, ToHex(manifest.lineage().rewards_sha256()), manifest.gate().passed(),
                     version == versions.front() && version > 1};
  }
  return std::nullopt;
}

}  // namespace fuseline
