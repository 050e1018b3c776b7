#include "session_ways.h"

#include <cstring>
#include <filesystem>
#include <utility>

#include <rocksdb/db.h>

#include "fuseline/core/check.h"
#include "fuseline/ingest/accounting.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/settings.h"

namespace fuseline::bench {
namespace {

constexpr std::int64_t kPatienceMs = 60'000;

void Check(const rocksdb::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

}  // namespace

Result<std::unique_ptr<EventTopic>> EventTopic::Fill(Workload workload) {
  FUSELINE_ASSIGN_OR_FAIL(auto broker, test::KafkaProcess::Start());
  // The events are old by the broker's clock.
  Must(broker->CreateTopic(kName, workload.partitions(), {{"retention.ms", "-1"}}));
  Must(broker->CreateTopic(kTrajectories, workload.partitions()));
  std::unique_ptr<EventTopic> topic(new EventTopic(std::move(broker)));
  topic->events_ = workload.size();
  const auto producer = Must(kafka::Producer::Open(topic->connection(), {}, nullptr));
  for (GeneratedEvent event; workload.Next(&event);) {
    kafka::OutgoingMessage message;
    message.topic = kName;
    message.key = event.user_id;
    message.partition = event.partition;
    message.timestamp_ms = event.time_ms;
    message.value = event.bytes;
    Must(producer->ProduceOrWait(message, kPatienceMs));
  }
  Must(producer->Flush(kPatienceMs));
  return topic;
}

void EventTopic::ReadAll(const std::function<void(EventBatch&&)>& take) const {
  KafkaSourceOptions options;
  options.connection = connection();
  options.consumer.topic = kName;
  const auto source = Must(KafkaSource::Open(std::move(options), nullptr));
  for (std::int64_t read = 0; read < events_;) {
    auto batch = Must(source->Next(100));
    if (!batch) continue;
    read += std::ssize(batch->records);
    take(std::move(*batch));
  }
  Must(source->Close(10'000));
}

v1::Sessionizer SessionSettings() {
  v1::Sessionizer settings = DefaultSettings().sessionizer();
  settings.set_gap_ms(1'800'000);
  settings.set_lateness_ms(60'000);
  settings.set_cut_every_ms(0);
  return settings;
}

Sessions::Sessions(const v1::Sessionizer& settings, Receive receive, std::function<void()> flush)
    : receive_(std::move(receive)),
      flush_(std::move(flush)),
      log_(Severity::kError),
      sessionizer_(Must(Sessionizer::Open(folder_.path(), settings, clock_, log_, metrics_))) {}

void Sessions::Take(EventBatch&& batch) {
  Must(sessionizer_->Process(std::move(batch)));
  if (sessionizer_->NeedsCommit()) Commit();
}

void Sessions::Finish() {
  Commit();
  Commit();  // What was acknowledged behind the first is dropped by the second.
}

v1::Accounting Sessions::Account() const {
  v1::Accounting sum;
  for (const std::int32_t partition : sessionizer_->partitions())
    AddAccounting(sessionizer_->Position(partition).accounting, &sum);
  return sum;
}

std::uint64_t Sessions::OpenSessions() const {
  std::uint64_t sum = 0;
  for (const std::int32_t partition : sessionizer_->partitions())
    sum += sessionizer_->Position(partition).open_sessions;
  return sum;
}

double Sessions::HeldMib() const { return static_cast<double>(sessionizer_->memory_bytes()) / (1 << 20); }

double Sessions::DiskMib() const {
  double bytes = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder_.path())) {
    if (file.is_regular_file()) bytes += static_cast<double>(file.file_size());
  }
  return bytes / (1 << 20);
}

void Sessions::Commit() {
  Must(sessionizer_->Commit());
  for (const std::int32_t partition : sessionizer_->partitions()) Deliver(partition);
}

void Sessions::Deliver(std::int32_t partition) {
  std::optional<v1::TrajectoryName> last;
  for (;;) {
    const auto entries = Must(sessionizer_->Outbox(partition, last, 1000));
    if (entries.empty()) break;
    for (const OutboxEntry& entry : entries) {
      if (receive_) receive_(entry);
    }
    last = entries.back().name;
  }
  if (!last) return;
  if (flush_) flush_();
  sessionizer_->Acknowledge(*last);
}

NaiveSessions::NaiveSessions() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.write_buffer_size = 128 << 20;
  options.max_write_buffer_number = 3;
  options.compression = rocksdb::kLZ4Compression;
  rocksdb::DB* db = nullptr;
  Check(rocksdb::DB::Open(options, folder_.path(), &db));
  db_.reset(db);
  synced_us_ = clock_.monotonic_us();
}

NaiveSessions::~NaiveSessions() = default;

void NaiveSessions::Take(EventBatch&& batch) {
  for (const Record& record : batch.records) Add(record.event);
  if (clock_.monotonic_us() - synced_us_ >= settings_.commit_interval_ms() * 1000) Sync();
}

void NaiveSessions::Sync() {
  Check(db_->SyncWAL());
  synced_us_ = clock_.monotonic_us();
}

void NaiveSessions::Add(const EventView& event) {
  const rocksdb::Slice user(event.user_id.data(), event.user_id.size());
  const rocksdb::Status found = db_->Get(rocksdb::ReadOptions(), user, &window_);
  std::int64_t last_ms = 0;
  if (found.ok()) std::memcpy(&last_ms, window_.data(), sizeof(last_ms));
  if (!found.ok() || event.event_time_ms - last_ms > settings_.gap_ms()) window_.assign(sizeof(last_ms), '\0');
  last_ms = event.event_time_ms;
  std::memcpy(window_.data(), &last_ms, sizeof(last_ms));
  window_.append(event.event_id).append(event.body);
  Check(db_->Put(rocksdb::WriteOptions(), user, window_));
}

}  // namespace fuseline::bench
