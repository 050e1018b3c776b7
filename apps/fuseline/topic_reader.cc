#include "topic_reader.h"

#include <algorithm>
#include <map>
#include <memory>

#include "fuseline/core/clock.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/admin.h"
#include "progress_line.h"

namespace fuseline {
namespace {

constexpr std::size_t kMessagesAtOnce = 1000;
constexpr std::int64_t kPollMs = 100;

// What is read so far of every partition, and what for.
class RangeProgress {
 public:
  explicit RangeProgress(std::string topic) : topic_(std::move(topic)) {}

  void Expect(std::int32_t partition, std::int64_t end) { ends_[partition] = end; }
  void Reached(std::int32_t partition, std::int64_t next_offset) {
    const auto found = ends_.find(partition);
    if (found != ends_.end() && next_offset >= found->second) ends_.erase(found);
  }
  bool Take(const kafka::Message& message) {
    const auto found = ends_.find(message.partition);
    if (found == ends_.end() || message.offset >= found->second) return false;
    const auto [next, is_first] = next_.try_emplace(message.partition, message.offset);
    if (is_first) total_ += static_cast<double>(found->second - message.offset);
    done_ += static_cast<double>(message.offset + 1 - next->second);
    next->second = message.offset + 1;
    return true;
  }
  bool finished() const { return ends_.empty(); }

  void Show() {
    if (!line_.due()) return;
    const double elapsed_s = static_cast<double>(clock_.monotonic_us() - begin_us_) / 1e6;
    line_.Show("topic " + topic_ + "  " + RateText(done_ / elapsed_s) + " records/s  " +
               std::to_string(static_cast<std::int64_t>(done_)) + " read  ETA " + EtaText(done_, total_, elapsed_s));
  }

 private:
  const std::string topic_;
  SystemClock clock_;
  const std::int64_t begin_us_ = clock_.monotonic_us();
  ProgressLine line_;
  std::map<std::int32_t, std::int64_t> ends_, next_;
  double done_ = 0, total_ = 0;
};

Result<std::unique_ptr<kafka::Consumer>> OpenReader(const v1::Kafka& settings, const TopicRange& range,
                                                    RangeProgress* progress) {
  kafka::ConsumerOptions options;
  options.topic = range.topic;
  options.fetch_wait_max_ms = settings.fetch_wait_max_ms();
  options.request_timeout_ms = settings.connect_timeout_ms();
  FUSELINE_ASSIGN_OR_FAIL(auto consumer, kafka::Consumer::Open(ConnectionOf(settings), options));
  FUSELINE_ASSIGN_OR_FAIL(const std::int32_t partitions, consumer->PartitionCount());
  if (range.partition && *range.partition >= partitions) {
    return Error(Code::kNotFound, "topic", range.topic, "has", partitions, "partitions, and no partition",
                 *range.partition);
  }
  std::map<std::int32_t, kafka::StartPosition> starts;
  for (std::int32_t partition = 0; partition < partitions; ++partition) {
    if (range.partition && partition != *range.partition) continue;
    FUSELINE_ASSIGN_OR_FAIL(const kafka::Watermarks marks, consumer->QueryWatermarks(partition));
    if (marks.low == marks.high) continue;
    starts[partition] = range.from;
    progress->Expect(partition, marks.high);
  }
  FUSELINE_FAIL_IF_ERROR(consumer->Assign(starts));
  return consumer;
}

}  // namespace

Status ReadTopic(const v1::Kafka& settings, const TopicRange& range, const std::stop_token& stop,
                 const std::function<Result<bool>(const kafka::Message& message)>& see) {
  FUSELINE_ASSIGN_OR_RETURN(const auto admin,
                            kafka::Admin::Open(ConnectionOf(settings), settings.connect_timeout_ms()));
  FUSELINE_RETURN_IF_ERROR(admin->CheckReachable());
  RangeProgress progress(range.topic);
  FUSELINE_ASSIGN_OR_RETURN(const auto consumer, OpenReader(settings, range, &progress));
  while (!progress.finished() && !stop.stop_requested()) {
    FUSELINE_ASSIGN_OR_RETURN(const kafka::MessageBatch batch, consumer->Consume(kMessagesAtOnce, kPollMs));
    for (const kafka::Message& message : batch.messages()) {
      if (!progress.Take(message)) continue;
      FUSELINE_ASSIGN_OR_RETURN(const bool goes_on, see(message));
      if (!goes_on) return OkStatus();
      progress.Reached(message.partition, message.offset + 1);
    }
    for (const auto& [partition, end] : batch.ends()) progress.Reached(partition, end);
    progress.Show();
  }
  return OkStatus();
}

}  // namespace fuseline
