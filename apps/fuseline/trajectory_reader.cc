#include "trajectory_reader.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "fuseline/core/backoff.h"
#include "fuseline/core/file.h"
#include "fuseline/core/stage.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/proto/trajectory_record.h"
#include "learn_stage.h"

namespace fuseline {
namespace {

constexpr char kPositionsFile[] = "trajectories_read";
constexpr std::size_t kBatchRecords = 256;

// What STATE/trajectories_read says of a partition: from `offset` on is everything that a learner needs which has taken `covered`.
struct SavedPosition {
  std::int64_t offset = 0;
  std::optional<v1::TrajectoryName> covered;
};

// Lines "PARTITION OFFSET NAME", NAME "-" for none. Anything else says nothing: the topic is then read from its beginning.
std::map<std::int32_t, SavedPosition> ReadPositions(const std::string& text) {
  std::map<std::int32_t, SavedPosition> positions;
  std::istringstream lines(text);
  std::int32_t partition = 0;
  SavedPosition position;
  std::string name;
  while (lines >> partition >> position.offset >> name) {
    const auto covered = ParseName(name);
    position.covered = covered ? std::optional(*covered) : std::nullopt;
    positions[partition] = position;
  }
  return positions;
}

bool Covers(const std::optional<v1::TrajectoryName>& durable, const std::optional<v1::TrajectoryName>& covered) {
  return !covered || (durable && CompareNames(*durable, *covered) >= 0);
}

}  // namespace

TrajectoryReader::TrajectoryReader(const v1::Config& config, TrajectoryQueue& queue, Freshness& freshness, StatusBoard& status,
                                   Instruments instruments)
    : config_(config),
      queue_(queue),
      freshness_(freshness),
      status_(status),
      instruments_(instruments),
      file_(std::filesystem::path(config.fuseline().state_dir()) / kPositionsFile) {}

Result<std::unique_ptr<TrajectoryReader>> TrajectoryReader::Open(const v1::Config& config, const kafka::StartPosition& from,
                                                                 const std::map<std::int32_t, v1::TrajectoryName>& durable,
                                                                 TrajectoryQueue& queue, Freshness& freshness, StatusBoard& status,
                                                                 Instruments instruments) {
  std::unique_ptr<TrajectoryReader> reader(new TrajectoryReader(config, queue, freshness, status, instruments));
  kafka::ConsumerOptions options;
  options.topic = config.kafka().trajectories_topic();
  options.fetch_wait_max_ms = config.kafka().fetch_wait_max_ms();
  options.request_timeout_ms = config.kafka().connect_timeout_ms();
  FUSELINE_ASSIGN_OR_FAIL(reader->consumer_, kafka::Consumer::Open(ConnectionOf(config.kafka()), options));
  FUSELINE_ASSIGN_OR_FAIL(const std::int32_t count, reader->consumer_->PartitionCount());
  auto text = ReadFile(reader->file_);
  if (!text && text.error().code != Code::kNotFound) return tl::unexpected(std::move(text).error());
  const auto saved = ReadPositions(text.value_or(""));
  std::map<std::int32_t, kafka::StartPosition> starts;
  for (std::int32_t partition = 0; partition < count; ++partition) {
    Cursor& cursor = reader->cursors_[partition];
    if (const auto name = durable.find(partition); name != durable.end()) cursor.durable = name->second;
    const auto position = saved.find(partition);
    const bool goes_on = position != saved.end() && Covers(cursor.durable, position->second.covered);
    if (goes_on) cursor.next = position->second.offset;
    if (!goes_on && !cursor.durable && from.kind == kafka::StartPosition::Kind::kLatest) {
      // Today's end, for good: a death before the first checkpoint must not skip what came meanwhile.
      FUSELINE_ASSIGN_OR_FAIL(const kafka::Watermarks log, reader->consumer_->QueryWatermarks(partition));
      cursor.next = log.high;
    }
    starts[partition] = cursor.next >= 0   ? kafka::StartPosition::Offset(cursor.next)
                        : cursor.durable ? kafka::StartPosition::Earliest()
                                         : from;
  }
  FUSELINE_FAIL_IF_ERROR(reader->WritePositions());
  FUSELINE_FAIL_IF_ERROR(reader->consumer_->Assign(starts));
  return reader;
}

Status TrajectoryReader::Run(std::stop_token stop) {
  Backoff backoff(10, 5'000, config_.fuseline().seed());
  while (!stop.stop_requested()) {
    FUSELINE_RETURN_IF_ERROR(HoldBack());
    FUSELINE_RETURN_IF_ERROR(SavePositions());
    auto batch = consumer_->Consume(kBatchRecords, config_.ingest().poll_timeout_ms());
    if (!batch && batch.error().code == Code::kUnavailable) {
      instruments_.log.Warn("ingest.source_unavailable", "reason", batch.error().message);
      SleepFor(stop, backoff.NextMs());
      continue;
    }
    if (!batch) return std::move(batch).error();
    backoff.Reset();
    FUSELINE_RETURN_IF_ERROR(Take(*batch, stop));
    NoteEnds();
  }
  queue_.Close();
  return OkStatus();
}

// Waits while the queue is full: nobody evicts a reader that is in no group.
Status TrajectoryReader::Take(const kafka::MessageBatch& batch, std::stop_token stop) {
  if (!batch.messages().empty()) status_.With([](PipelineStatus& status) { status.offering = true; });
  for (const kafka::Message& message : batch.messages()) {
    Cursor& cursor = cursors_.at(message.partition);
    cursor.at_end = false;
    const bool stopped = status_.With([&](const PipelineStatus& status) { return status.stopped.contains(message.partition); });
    if (stopped || message.offset < cursor.next) continue;  // After a pause the client may fetch again what it had already given.
    auto record = DecodeTrajectoryRecord(message.value, message.partition);
    if (!record) {
      StopPartition(message.partition, "offset " + std::to_string(message.offset) + ": " + record.error().message, status_, instruments_);
      continue;
    }
    Remember(*record, message, cursor);
    while (!queue_.TryPush(*record)) {
      if (!SleepFor(stop, 1)) return OkStatus();
    }
  }
  for (const auto& [partition, offset] : batch.ends()) cursors_.at(partition).at_end = true;
  return OkStatus();
}

void TrajectoryReader::Remember(const v1::TrajectoryRecord& record, const kafka::Message& message, Cursor& cursor) {
  cursor.next = message.offset + 1;
  if (record.has_progress()) {
    cursor.mark = message.offset;
    return;
  }
  const v1::TrajectoryName& name = record.trajectory().name();
  const v1::TrajectoryName* last = cursor.unlearned.empty() ? (cursor.durable ? &*cursor.durable : nullptr) : &cursor.unlearned.back().name;
  if (last != nullptr && CompareNames(name, *last) <= 0) return;  // A repeat.
  cursor.unlearned.push_back({name, message.offset});
  freshness_.Closed(record.trajectory(), message.timestamp_ms);
}

// Partitions of which the learner takes no more for now, or never again, are not read.
Status TrajectoryReader::HoldBack() {
  std::set<std::int32_t> wanted = status_.With([](const PipelineStatus& status) {
    std::set<std::int32_t> partitions = status.ahead;
    for (const auto& [partition, reason] : status.stopped) partitions.insert(partition);
    return partitions;
  });
  if (wanted == paused_) return OkStatus();
  std::vector<std::int32_t> begin, end;
  std::ranges::set_difference(wanted, paused_, std::back_inserter(begin));
  std::ranges::set_difference(paused_, wanted, std::back_inserter(end));
  paused_ = std::move(wanted);
  if (!begin.empty()) FUSELINE_RETURN_IF_ERROR(consumer_->Pause(begin));
  return end.empty() ? OkStatus() : consumer_->Resume(end);
}

void TrajectoryReader::NoteEnds() {
  const bool reading = std::ranges::any_of(
      cursors_, [&](const auto& entry) { return !entry.second.at_end && !paused_.contains(entry.first); });
  status_.With([&](PipelineStatus& status) { status.offering = reading; });
}

// Written when a checkpoint has moved on: never before it, so that what lies behind a position is always learned.
Status TrajectoryReader::SavePositions() {
  const auto durable = status_.With([](const PipelineStatus& status) { return status.learned_names; });
  for (auto& [partition, cursor] : cursors_) {
    if (const auto name = durable.find(partition); name != durable.end()) cursor.durable = name->second;
    while (!cursor.unlearned.empty() && Covers(cursor.durable, cursor.unlearned.front().name)) cursor.unlearned.pop_front();
  }
  return WritePositions();
}

Status TrajectoryReader::WritePositions() {
  std::string covered, text;
  for (const auto& [partition, cursor] : cursors_) {
    if (cursor.next < 0) continue;
    std::int64_t offset = cursor.unlearned.empty() ? cursor.next : cursor.unlearned.front().offset;
    if (cursor.mark >= 0) offset = std::min(offset, cursor.mark);
    const std::string name = cursor.durable ? NameText(*cursor.durable) : "-";
    covered += name + '\n';
    text += std::to_string(partition) + ' ' + std::to_string(offset) + ' ' + name + '\n';
  }
  if (covered == saved_) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(file_, text));
  saved_ = std::move(covered);
  return OkStatus();
}

}  // namespace fuseline
