#include "fuseline/ingest/kafka_source.h"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "fuseline/core/check.h"
#include "record_intake.h"

namespace fuseline {
namespace {

// While batches wait for their dead letters, so many times batch_records may be read before reading waits, too.
constexpr std::int64_t kReadsAhead = 32;
// So long more records are waited for before letters are asked for: many go in one request.
constexpr std::int64_t kPatienceMs = 20;

// How far one partition is read, and how far it was handed over.
struct Cursor {
  std::int64_t read_next = -1;    // -1: nothing seen yet.
  std::int64_t handed_next = -1;
  std::optional<std::int64_t> end;  // Of a range.
  bool done = false;                // The range's last batch is made.
  bool paused = false;
  bool at_end = false;              // The client reached the end, and nothing came since.
};

// Decoded, not handed over: of a paused partition, or before its dead letters are durable.
struct Ready {
  EventBatch batch;
  std::uint64_t letters = 0;  // So many of the intake's must be.
};

}  // namespace

kafka::Connection ConnectionOf(const v1::Kafka& settings) {
  kafka::Connection connection;
  connection.bootstrap_servers = settings.brokers();
  const auto set = [&](const char* name, const std::string& value) {
    if (!value.empty()) connection.settings[name] = value;
  };
  set("security.protocol", settings.security_protocol());
  set("sasl.mechanism", settings.sasl_mechanism());
  set("sasl.username", settings.sasl_username());
  set("sasl.password", settings.sasl_password());
  set("ssl.ca.location", settings.ssl_ca_location());
  return connection;
}

KafkaSourceOptions KafkaSourceOptionsOf(const v1::Kafka& kafka, const v1::Ingest& ingest) {
  KafkaSourceOptions options;
  options.connection = ConnectionOf(kafka);
  options.consumer.topic = kafka.events_topic();
  options.consumer.group_id = kafka.group_id();
  options.consumer.session_timeout_ms = kafka.session_timeout_ms();
  options.consumer.fetch_wait_max_ms = kafka.fetch_wait_max_ms();
  options.consumer.request_timeout_ms = kafka.connect_timeout_ms();
  options.batch_records = ingest.batch_records();
  options.max_future_ms = ingest.max_future_ms();
  options.limits = LimitsOf(ingest);
  return options;
}

struct KafkaSource::Impl {
  Impl(KafkaSourceOptions given, DeadLetterSink* dead_letters)
      : options(std::move(given)), intake(options.limits, options.max_future_ms, dead_letters) {}

  const KafkaSourceOptions options;
  RecordIntake intake;
  std::map<std::int32_t, Cursor> cursors;
  std::deque<Ready> ready;
  std::unique_ptr<kafka::Consumer> consumer;  // Last: its callbacks use the members above.

  Status Start();
  Result<kafka::StartPosition> Own(std::int32_t partition);
  void Disown(std::span<const std::int32_t> partitions, bool lost);
  Status Decode(const kafka::MessageBatch& batch);
  Status EndRanges(const kafka::MessageBatch& batch, std::map<std::int32_t, EventBatch>& batches);
  std::optional<EventBatch> TakeReady();
  std::int64_t RecordsWaiting() const;
  Status Mark(std::span<const std::int32_t> partitions, bool paused);
};

Status KafkaSource::Impl::Start() {
  FUSELINE_ASSIGN_OR_RETURN(consumer, kafka::Consumer::Open(options.connection, options.consumer));
  if (options.group) {
    if (options.until_end) return ErrorStatus(Code::kInvalidInput, "a group member cannot read a range");
    kafka::GroupCallbacks callbacks;
    callbacks.assigned = [this](std::int32_t partition) { return Own(partition); };
    callbacks.revoked = [this](std::span<const std::int32_t> partitions, bool lost) { Disown(partitions, lost); };
    return consumer->Subscribe(std::move(callbacks));
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::int32_t count, consumer->PartitionCount());
  std::map<std::int32_t, kafka::StartPosition> starts;
  for (std::int32_t partition = 0; partition < count; ++partition) {
    FUSELINE_ASSIGN_OR_RETURN(starts[partition], Own(partition));
    if (!options.until_end) continue;
    FUSELINE_ASSIGN_OR_RETURN(const kafka::Watermarks marks, consumer->QueryWatermarks(partition));
    cursors[partition].end = marks.high;
  }
  return consumer->Assign(starts);
}

Result<kafka::StartPosition> KafkaSource::Impl::Own(std::int32_t partition) {
  kafka::StartPosition position;
  if (options.start) {
    FUSELINE_ASSIGN_OR_FAIL(position, options.start(*consumer, partition));
  }
  cursors[partition] = Cursor();
  return position;
}

void KafkaSource::Impl::Disown(std::span<const std::int32_t> partitions, bool lost) {
  for (const std::int32_t partition : partitions) {
    cursors.erase(partition);
    std::erase_if(ready, [&](const Ready& each) { return each.batch.partition == partition; });
  }
  if (options.revoked) options.revoked(partitions, lost);
}

Status KafkaSource::Impl::Decode(const kafka::MessageBatch& batch) {
  std::map<std::int32_t, EventBatch> batches;
  auto owned = cursors.end();     // They come many of one partition after the other.
  EventBatch* filling = nullptr;  // Of that partition.
  for (const kafka::Message& message : batch.messages()) {
    if (owned == cursors.end() || owned->first != message.partition) {
      owned = cursors.find(message.partition);
      filling = nullptr;
    }
    if (owned == cursors.end()) continue;
    Cursor& cursor = owned->second;
    cursor.at_end = false;
    // After a pause the client may fetch again what it had already given.
    if (cursor.done || message.offset < cursor.read_next) continue;
    if (cursor.end && message.offset >= *cursor.end) continue;  // EndRanges sees that it was passed.
    RecordIntake::Origin origin;
    origin.source = options.consumer.topic;
    origin.partition = message.partition;
    origin.offset = message.offset;
    if (message.timestamp_ms >= 0) origin.record_time_ms = message.timestamp_ms;
    if (filling == nullptr) filling = &batches[message.partition];
    filling->records.push_back(intake.Take(message.value, origin, filling->bytes));
    cursor.read_next = message.offset + 1;
    filling->next_offset = cursor.read_next;
  }
  for (const auto& [partition, offset] : batch.ends()) {
    if (const auto found = cursors.find(partition); found != cursors.end()) {
      found->second.at_end = true;
      found->second.read_next = std::max(found->second.read_next, offset);
    }
  }
  Status status = options.until_end ? EndRanges(batch, batches) : OkStatus();
  for (auto& [partition, events] : batches) {
    events.partition = partition;
    ready.push_back({.batch = std::move(events), .letters = intake.letters()});
  }
  return status;
}

// A range is over when the client passed its end: by a record at or behind it, or by the end of the log (the records just
// before the range's end may have been compacted away).
Status KafkaSource::Impl::EndRanges(const kafka::MessageBatch& batch, std::map<std::int32_t, EventBatch>& batches) {
  std::vector<std::int32_t> over;
  const auto reached = [&](std::int32_t partition, std::int64_t offset) {
    const auto found = cursors.find(partition);
    if (found == cursors.end() || found->second.done || offset < *found->second.end) return;
    found->second.done = true;
    EventBatch& events = batches[partition];
    events.next_offset = *found->second.end;
    events.end_of_input = true;
    over.push_back(partition);
  };
  for (const kafka::Message& message : batch.messages()) reached(message.partition, message.offset + 1);
  for (const auto& [partition, offset] : batch.ends()) reached(partition, offset);
  return over.empty() ? OkStatus() : consumer->Pause(over);
}

// The oldest whose letters are durable, and so the oldest of its partition.
std::optional<EventBatch> KafkaSource::Impl::TakeReady() {
  if (ready.empty()) return std::nullopt;
  const std::uint64_t settled = intake.SettledLetters();
  const auto found = std::find_if(ready.begin(), ready.end(), [&](const Ready& each) {
    return each.letters <= settled && !cursors.at(each.batch.partition).paused;
  });
  if (found == ready.end()) return std::nullopt;
  EventBatch batch = std::move(found->batch);
  ready.erase(found);
  cursors.at(batch.partition).handed_next = batch.next_offset;
  return batch;
}

// Of batches that would be handed over but for their letters; one that is empty counts as well.
std::int64_t KafkaSource::Impl::RecordsWaiting() const {
  std::int64_t records = 0;
  for (const Ready& each : ready) {
    if (!cursors.at(each.batch.partition).paused) records += std::max<std::int64_t>(std::ssize(each.batch.records), 1);
  }
  return records;
}

Status KafkaSource::Impl::Mark(std::span<const std::int32_t> partitions, bool paused) {
  std::vector<std::int32_t> changed;
  for (const std::int32_t partition : partitions) {
    const auto found = cursors.find(partition);
    if (found == cursors.end() || found->second.paused == paused) continue;
    found->second.paused = paused;
    if (!found->second.done) changed.push_back(partition);  // A finished range stays paused in the client.
  }
  if (changed.empty()) return OkStatus();
  return paused ? consumer->Pause(changed) : consumer->Resume(changed);
}

KafkaSource::KafkaSource(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KafkaSource::~KafkaSource() = default;

Result<std::unique_ptr<KafkaSource>> KafkaSource::Open(KafkaSourceOptions options, DeadLetterSink* dead_letters) {
  auto impl = std::make_unique<Impl>(std::move(options), dead_letters);
  FUSELINE_FAIL_IF_ERROR(impl->Start());
  return std::unique_ptr<KafkaSource>(new KafkaSource(std::move(impl)));
}

// While letters are on their way, reading goes on: waiting for each batch's would leave the thread idle for a round trip at
// every batch that has one.
Result<std::optional<EventBatch>> KafkaSource::Next(std::int64_t timeout_ms) {
  const KafkaSourceOptions& options = impl_->options;
  for (;;) {
    if (auto batch = impl_->TakeReady()) return batch;
    const std::int64_t waiting = impl_->RecordsWaiting();
    bool reads_on = waiting < kReadsAhead * options.batch_records;
    if (reads_on) {
      FUSELINE_ASSIGN_OR_FAIL(const kafka::MessageBatch messages,
                              impl_->consumer->Consume(static_cast<std::size_t>(options.batch_records),
                                                       waiting == 0 ? timeout_ms : std::min(timeout_ms, kPatienceMs)));
      FUSELINE_FAIL_IF_ERROR(impl_->Decode(messages));
      if (auto batch = impl_->TakeReady()) return batch;
      if (impl_->RecordsWaiting() == 0) return std::nullopt;
      reads_on = !messages.messages().empty();
    }
    if (!reads_on) FUSELINE_FAIL_IF_ERROR(impl_->intake.Settle(options.consumer.request_timeout_ms));
  }
}

Status KafkaSource::Pause(std::span<const std::int32_t> partitions) { return impl_->Mark(partitions, true); }
Status KafkaSource::Resume(std::span<const std::int32_t> partitions) { return impl_->Mark(partitions, false); }

Status KafkaSource::Commit(const std::map<std::int32_t, kafka::CommittedOffset>& offsets) {
  return impl_->consumer->Commit(offsets);
}

bool KafkaSource::finished() const {
  return impl_->options.until_end && impl_->ready.empty() &&
         std::all_of(impl_->cursors.begin(), impl_->cursors.end(), [](const auto& entry) { return entry.second.done; });
}

std::vector<std::int32_t> KafkaSource::partitions() const {
  std::vector<std::int32_t> partitions;
  for (const auto& [partition, cursor] : impl_->cursors) partitions.push_back(partition);
  return partitions;
}

std::int64_t KafkaSource::lag(std::int32_t partition) const {
  const auto found = impl_->cursors.find(partition);
  if (found == impl_->cursors.end()) return -1;
  const auto marks = impl_->consumer->LastWatermarks(partition);
  // Before the first batch, a partition at its end is known to hold nothing for us.
  const std::int64_t next = found->second.handed_next >= 0 ? found->second.handed_next : caught_up(partition) ? found->second.read_next : -1;
  if (!marks || next < 0) return -1;
  return std::max<std::int64_t>(marks->high - next, 0);
}

bool KafkaSource::caught_up(std::int32_t partition) const {
  const auto found = impl_->cursors.find(partition);
  if (found == impl_->cursors.end() || !found->second.at_end) return false;
  return std::none_of(impl_->ready.begin(), impl_->ready.end(),
                      [&](const Ready& each) { return each.batch.partition == partition; });
}

Status KafkaSource::Close(std::int64_t deadline_ms) { return impl_->consumer->Close(deadline_ms); }

}  // namespace fuseline
