#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>

#include "fuseline/core/clock.h"
#include "fuseline/ingest/dead_letter.h"
#include "fuseline/kafka/producer.h"

namespace fuseline {
namespace {

constexpr std::size_t kFileBufferBytes = 64 << 20;  // A batch of the largest records flushes in between.

class FileSink final : public DeadLetterSink {
 public:
  FileSink(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  ~FileSink() override { ::close(descriptor_); }

  Status Write(DeadLetter&& letter) override {
    if (unwritten_.size() > kFileBufferBytes) return ErrorStatus(Code::kUnavailable, "dead letters wait for", path_);
    unwritten_.append(EncodeDeadLetterJson(letter)).push_back('\n');
    return OkStatus();
  }

  Status Flush(std::int64_t) override {
    while (!unwritten_.empty()) {
      const ssize_t written = ::write(descriptor_, unwritten_.data(), unwritten_.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Failed();
      unwritten_.erase(0, static_cast<std::size_t>(written));
      unsynced_ = true;
    }
    if (unsynced_ && ::fsync(descriptor_) != 0 && errno != EINVAL) return Failed();  // EINVAL: a pipe or a terminal.
    unsynced_ = false;
    return OkStatus();
  }

 private:
  Status Failed() const {
    return ErrorStatus(Code::kUnavailable, "dead letters not written:", path_, std::strerror(errno));
  }

  const int descriptor_;
  const std::string path_;
  std::string unwritten_;
  bool unsynced_ = false;
};

class TopicSink final : public DeadLetterSink {
 public:
  TopicSink(std::string topic, std::int64_t queue_letters)
      : topic_(std::move(topic)), queue_letters_(static_cast<std::size_t>(queue_letters)) {}

  Status Open(const kafka::Connection& connection) {
    kafka::ProducerOptions options;
    options.queue_messages = static_cast<std::int64_t>(queue_letters_);
    options.linger_ms = kLingerMs;
    FUSELINE_ASSIGN_OR_RETURN(producer_, kafka::Producer::Open(connection, options, [this](const auto& report) {
                                OnReport(report);
                              }));
    return OkStatus();
  }

  Status Write(DeadLetter&& letter) override {
    producer_->Poll(0);
    if (held_.size() >= queue_letters_) return ErrorStatus(Code::kUnavailable, "dead letters wait for topic", topic_);
    held_.push_back({.letter = std::move(letter)});
    Send(first_id_ + held_.size() - 1);
    return OkStatus();
  }

  Status Flush(std::int64_t deadline_ms) override {
    const SystemClock clock;
    const std::int64_t end_us = clock.monotonic_us() + deadline_ms * 1000;
    while (!held_.empty()) {
      for (const std::uint64_t id : std::exchange(refused_, {})) Send(id);
      const std::int64_t left_ms = (end_us - clock.monotonic_us()) / 1000;
      // In steps, so that what was refused in between goes out again.
      if (producer_->Flush(std::clamp<std::int64_t>(left_ms, 0, kStepMs)).ok() && !refused_.empty() && left_ms > 0) {
        producer_->Poll(std::min<std::int64_t>(left_ms, kStepMs));
      }
      if (left_ms <= 0 && !held_.empty()) {
        return ErrorStatus(Code::kUnavailable, "dead letters not delivered to topic", topic_, held_.size(), last_trouble_);
      }
    }
    return OkStatus();
  }

  std::uint64_t Waiting() override {
    producer_->Poll(0);
    return held_.size();
  }

 private:
  static constexpr std::int64_t kStepMs = 100;
  static constexpr std::int64_t kLingerMs = 50;  // Few large requests; a Flush, and so who has nothing else to do, cuts it short.

  struct Held {
    DeadLetter letter;
    bool is_durable = false;
  };
  Held& Of(std::uint64_t id) { return held_[id - first_id_]; }

  void Send(std::uint64_t id) {
    const DeadLetter& letter = Of(id).letter;
    const std::string value = EncodeDeadLetterJson(letter);
    const std::string key = std::to_string(letter.partition) + '-' + std::to_string(letter.offset);
    kafka::OutgoingMessage message;
    message.topic = topic_;
    message.key = key;
    message.value = value;
    message.id = id;
    if (const Status status = producer_->Produce(message); !status.ok()) Refuse(id, status);
  }

  void OnReport(const kafka::DeliveryReport& report) {
    if (!report.status.ok()) return Refuse(report.id, report.status);
    Of(report.id).is_durable = true;
    for (; !held_.empty() && held_.front().is_durable; ++first_id_) held_.pop_front();
  }

  // A letter larger than the topic takes is cut in halves until it fits: position, reason and size always arrive.
  void Refuse(std::uint64_t id, const Status& status) {
    DeadLetter& letter = Of(id).letter;
    if (status.code == Code::kInvalidInput) letter.bytes.resize(letter.bytes.size() / 2);
    last_trouble_ = status.message;
    refused_.push_back(id);
  }

  const std::string topic_;
  const std::size_t queue_letters_;
  std::deque<Held> held_;              // From the oldest that is not durable on, numbered from first_id_.
  std::uint64_t first_id_ = 0;
  std::deque<std::uint64_t> refused_;  // Of those, to be produced again.
  std::string last_trouble_;
  std::unique_ptr<kafka::Producer> producer_;  // Last: it reports into the members above.
};

}  // namespace

Result<std::unique_ptr<DeadLetterSink>> OpenDeadLetterFile(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor < 0) return Error(Code::kUnavailable, "dead letter file:", path, std::strerror(errno));
  auto sink = std::make_unique<FileSink>(descriptor, path);
  char last = '\n';
  const off_t size = ::lseek(descriptor, 0, SEEK_END);
  if (size > 0 && ::pread(descriptor, &last, 1, size - 1) == 1 && last != '\n' && ::write(descriptor, "\n", 1) != 1) {
    return Error(Code::kUnavailable, "dead letter file:", path, std::strerror(errno));
  }
  return sink;
}

Result<std::unique_ptr<DeadLetterSink>> OpenDeadLetterTopic(const kafka::Connection& connection,
                                                            const std::string& topic, std::int64_t queue_letters) {
  auto sink = std::make_unique<TopicSink>(topic, queue_letters);
  FUSELINE_FAIL_IF_ERROR(sink->Open(connection));
  return sink;
}

}  // namespace fuseline
