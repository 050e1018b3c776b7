#include "trajectory_topic.h"

#include <utility>

#include "fuseline/ingest/kafka_source.h"
#include "fuseline/proto/trajectory_record.h"

namespace fuseline {
namespace {

constexpr std::int64_t kBackoffFirstMs = 10;
constexpr std::int64_t kBackoffLongestMs = 5'000;
constexpr std::int64_t kEnvelopeBytesMax = 64 << 10;

}  // namespace

std::int64_t TrajectoryRecordBytesMax(const v1::Config& config) {
  return config.sessionizer().max_trajectory_bytes() + kEnvelopeBytesMax;
}

TrajectoryTopic::TrajectoryTopic(const v1::Config& config, Instruments instruments)
    : config_(config),
      instruments_(instruments),
      written_(instruments.metrics.GetCounter("fuseline_sessionizer_trajectories_delivered_total",
                                              "trajectories that the topic holds, repeats included")),
      failures_(instruments.metrics.GetCounter("fuseline_sessionizer_delivery_failures_total",
                                               "delivery errors, each of which sends the outbox out again")),
      backoff_(kBackoffFirstMs, kBackoffLongestMs, config.fuseline().seed()) {}

TrajectoryTopic::~TrajectoryTopic() = default;

Result<std::unique_ptr<TrajectoryTopic>> TrajectoryTopic::Open(const v1::Config& config, Instruments instruments) {
  std::unique_ptr<TrajectoryTopic> topic(new TrajectoryTopic(config, instruments));
  FUSELINE_FAIL_IF_ERROR(topic->OpenProducer());
  return topic;
}

Status TrajectoryTopic::OpenProducer() {
  kafka::ProducerOptions options;
  options.queue_messages = config_.learner().queue_trajectories();
  options.message_bytes = TrajectoryRecordBytesMax(config_);
  options.compression = "lz4";
  options.without_holes = true;
  FUSELINE_ASSIGN_OR_RETURN(producer_, kafka::Producer::Open(ConnectionOf(config_.kafka()), options,
                                                             [this](const kafka::DeliveryReport& report) { Delivered(report); }));
  return OkStatus();
}

TrajectorySink::Room TrajectoryTopic::RoomFor(std::int32_t) const {
  if (producer_ == nullptr || failure_) return Room::kLater;
  return producer_->undelivered() < static_cast<std::size_t>(config_.learner().queue_trajectories()) ? Room::kNow : Room::kLater;
}

Result<bool> TrajectoryTopic::Offer(const OutboxEntry& entry) {
  FUSELINE_ASSIGN_OR_FAIL(const TrajectoryRecordBytes record, RecordOfTrajectory(entry.bytes));
  return Produce(entry.name.partition(), record.user_id, record.value, {.name = entry.name});
}

Result<bool> TrajectoryTopic::Offer(const v1::ProgressMark& mark) {
  v1::TrajectoryRecord record;
  *record.mutable_progress() = mark;
  return Produce(mark.partition(), {}, record.SerializeAsString(), {});
}

Result<bool> TrajectoryTopic::Produce(std::int32_t partition, std::string_view key, std::string_view value, Sent sent) {
  if (producer_ == nullptr || failure_) return false;
  sent.id = next_id_++;
  kafka::OutgoingMessage message;
  message.topic = config_.kafka().trajectories_topic();
  message.key = key;
  message.value = value;
  message.partition = partition;
  message.id = sent.id;
  Status accepted = producer_->Produce(message);
  if (accepted.code == Code::kUnavailable) return false;
  // What was accepted before it may still arrive; what comes behind it must not, so this producer is done.
  if (!accepted.ok()) failure_ = std::move(accepted);
  if (failure_) return false;
  in_flight_[partition].push_back(std::move(sent));
  return true;
}

void TrajectoryTopic::Delivered(const kafka::DeliveryReport& report) {
  const auto found = in_flight_.find(report.partition);
  if (failure_ || found == in_flight_.end()) return;
  std::deque<Sent>& sent = found->second;
  if (sent.empty() || report.id < sent.front().id) return;  // Of a time before the partition was forgotten.
  if (!report.status.ok()) {
    failure_ = report.status;
  } else if (report.id != sent.front().id) {
    failure_ = ErrorStatus(Code::kInternal, "delivery reported out of order in partition", report.partition);
  } else {
    if (sent.front().name) {
      durable_[report.partition] = *sent.front().name;
      written_.Increment();
    }
    sent.pop_front();
  }
}

std::map<std::int32_t, v1::TrajectoryName> TrajectoryTopic::Durable(std::int64_t wait_ms) {
  if (producer_ != nullptr) producer_->Poll(wait_ms);
  if (producer_ != nullptr && failure_) {
    failures_.Increment();
    instruments_.log.Error("sessionizer.trajectories_undelivered", "topic", config_.kafka().trajectories_topic(), "reason",
                           failure_->message);
    producer_.reset();
    in_flight_.clear();
    open_again_us_ = instruments_.clock.monotonic_us() + backoff_.NextMs() * 1'000;
  }
  if (producer_ == nullptr && instruments_.clock.monotonic_us() >= open_again_us_) {
    failure_.reset();
    setback_ = OpenProducer().ok();
    if (!setback_) open_again_us_ = instruments_.clock.monotonic_us() + backoff_.NextMs() * 1'000;
  }
  if (!durable_.empty()) backoff_.Reset();
  return std::exchange(durable_, {});
}

bool TrajectoryTopic::TakeSetback() { return std::exchange(setback_, false); }

}  // namespace fuseline
