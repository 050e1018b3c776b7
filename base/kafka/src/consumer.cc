#include "fuseline/kafka/consumer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <set>
#include <utility>

#include "client.h"
#include "fuseline/core/backoff.h"
#include "fuseline/core/check.h"
#include "fuseline/core/clock.h"

namespace fuseline::kafka {
namespace {

constexpr std::int64_t kAskAgainFirstMs = 20;
constexpr std::int64_t kAskAgainLongestMs = 2'000;

}  // namespace

struct MessageBatch::Impl {
  std::vector<rd_kafka_message_t*> raw;
  std::vector<Message> messages;
  std::map<std::int32_t, std::int64_t> ends;
  ~Impl() {
    for (rd_kafka_message_t* message : raw) rd_kafka_message_destroy(message);
  }
};

MessageBatch::MessageBatch() : impl_(std::make_unique<Impl>()) {}
MessageBatch::MessageBatch(MessageBatch&&) noexcept = default;
MessageBatch& MessageBatch::operator=(MessageBatch&&) noexcept = default;
MessageBatch::~MessageBatch() = default;
std::span<const Message> MessageBatch::messages() const { return impl_->messages; }
const std::map<std::int32_t, std::int64_t>& MessageBatch::ends() const { return impl_->ends; }

struct Consumer::State {
  ConsumerOptions options;
  GroupCallbacks callbacks;
  std::set<std::int32_t> assigned;
  // Given by the group, not read yet; the positions of some are known.
  std::map<std::int32_t, std::optional<StartPosition>> waiting;
  Backoff ask_again{kAskAgainFirstMs, kAskAgainLongestMs, /*seed=*/0};
  std::int64_t ask_again_us = 0;
  std::set<std::int32_t> revoked_in_call;  // During the Consume in progress.
  Status pending;                          // Found inside a callback or behind messages; the next Consume returns it.
  bool closed = false;
  Owned<rd_kafka_t> handle;
  Owned<rd_kafka_queue_t> queue;  // After handle: goes before it.

  void Keep(Status status) {
    if (pending.ok()) pending = std::move(status);
  }
  Owned<rd_kafka_topic_partition_list_t> ListOf(std::span<const std::int32_t> partitions) const;
  Result<Owned<rd_kafka_topic_partition_list_t>> Located(const std::map<std::int32_t, StartPosition>& starts) const;
  Status AskForStarts(std::map<std::int32_t, StartPosition>& starts);
  Status AssignWaiting(bool answers);
  void OnRebalance(rd_kafka_resp_err_t event, rd_kafka_topic_partition_list_t* list) noexcept;
  void OnError(rd_kafka_resp_err_t error, const char* reason) noexcept;
  void Sort(MessageBatch::Impl& batch);
};

namespace {

Status FromError(rd_kafka_error_t* raw, std::string_view doing) {
  const Owned<rd_kafka_error_t> error(raw);
  if (!error) return OkStatus();
  return ErrorStatus(CodeOf(rd_kafka_error_code(error.get())), doing, rd_kafka_error_string(error.get()));
}

std::vector<std::int32_t> PartitionsOf(const rd_kafka_topic_partition_list_t& list) {
  std::vector<std::int32_t> partitions;
  for (int i = 0; i < list.cnt; ++i) partitions.push_back(list.elems[i].partition);
  return partitions;
}

// Errors of single partitions, which a call that succeeded as a whole may hold.
Status FirstError(const rd_kafka_topic_partition_list_t& list, std::string_view doing) {
  for (int i = 0; i < list.cnt; ++i) {
    FUSELINE_RETURN_IF_ERROR(FromKafka(list.elems[i].err, doing, "partition", list.elems[i].partition));
  }
  return OkStatus();
}

}  // namespace

Owned<rd_kafka_topic_partition_list_t> Consumer::State::ListOf(std::span<const std::int32_t> partitions) const {
  Owned<rd_kafka_topic_partition_list_t> list(rd_kafka_topic_partition_list_new(static_cast<int>(partitions.size())));
  for (const std::int32_t partition : partitions) {
    rd_kafka_topic_partition_list_add(list.get(), options.topic.c_str(), partition);
  }
  return list;
}

Result<Owned<rd_kafka_topic_partition_list_t>> Consumer::State::Located(
    const std::map<std::int32_t, StartPosition>& starts) const {
  const Owned<rd_kafka_topic_partition_list_t> by_time(rd_kafka_topic_partition_list_new(1));
  for (const auto& [partition, start] : starts) {
    if (start.kind != StartPosition::Kind::kTimestamp) continue;
    rd_kafka_topic_partition_list_add(by_time.get(), options.topic.c_str(), partition)->offset = start.value;
  }
  if (by_time->cnt > 0) {
    FUSELINE_FAIL_IF_ERROR(FromKafka(
        rd_kafka_offsets_for_times(handle.get(), by_time.get(), TimeoutOf(options.request_timeout_ms)), "offsets by time:"));
    FUSELINE_FAIL_IF_ERROR(FirstError(*by_time, "offset by time,"));
  }
  Owned<rd_kafka_topic_partition_list_t> list(rd_kafka_topic_partition_list_new(static_cast<int>(starts.size())));
  for (const auto& [partition, start] : starts) {
    auto* const element = rd_kafka_topic_partition_list_add(list.get(), options.topic.c_str(), partition);
    switch (start.kind) {
      case StartPosition::Kind::kEarliest: element->offset = RD_KAFKA_OFFSET_BEGINNING; break;
      case StartPosition::Kind::kLatest: element->offset = RD_KAFKA_OFFSET_END; break;
      case StartPosition::Kind::kOffset: element->offset = start.value; break;
      case StartPosition::Kind::kTimestamp:
        element->offset =
            rd_kafka_topic_partition_list_find(by_time.get(), options.topic.c_str(), partition)->offset;
        break;
    }
  }
  return list;
}

// Of those that wait, up to the first that the owner cannot say. One that it never will waits no more.
Status Consumer::State::AskForStarts(std::map<std::int32_t, StartPosition>& starts) {
  for (auto each = waiting.begin(); each != waiting.end(); ++each) {
    auto& [partition, start] = *each;
    if (!start) {
      auto given = callbacks.assigned(partition);
      if (!given && given.error().code != Code::kUnavailable) waiting.erase(each);
      if (!given) return std::move(given).error();
      start = *given;
    }
    starts[partition] = *start;
  }
  return OkStatus();
}

// Begins to read what waits, as far as it is known where; the rest waits on. `answers`: the group waits for it, even if it is nothing.
Status Consumer::State::AssignWaiting(bool answers) {
  std::map<std::int32_t, StartPosition> starts;
  Status status = AskForStarts(starts);
  auto list = Located(starts);
  if (!list) {
    status = std::move(list).error();
    starts.clear();
    list = ListOf({});
  }
  if (!status.ok()) ask_again_us = SystemClock().monotonic_us() + ask_again.NextMs() * 1'000;
  if (status.ok()) ask_again.Reset();
  if (starts.empty() && !answers) return status;
  if (Status refused = FromError(rd_kafka_incremental_assign(handle.get(), list->get()), "assignment refused:"); !refused.ok()) {
    if (answers) (void)FromError(rd_kafka_incremental_assign(handle.get(), ListOf({}).get()), "");
    return refused;
  }
  for (const auto& [partition, start] : starts) {
    assigned.insert(partition);
    waiting.erase(partition);
  }
  return status;
}

// noexcept: an exception of the owner's callbacks ends the process rather than unwinding through C.
void Consumer::State::OnRebalance(rd_kafka_resp_err_t event, rd_kafka_topic_partition_list_t* list) noexcept {
  const std::vector<std::int32_t> partitions = PartitionsOf(*list);
  // The batch in progress ends here, so that all of its messages are known to be from before this change.
  rd_kafka_yield(handle.get());
  if (event == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
    for (const std::int32_t partition : partitions) waiting[partition] = std::nullopt;
    Keep(AssignWaiting(/*answers=*/true));
    return;
  }
  if (event != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) Keep(FromKafka(event, "rebalance failed:"));
  if (callbacks.revoked) callbacks.revoked(partitions, rd_kafka_assignment_lost(handle.get()) != 0);
  std::vector<std::int32_t> read;  // The client refuses to let go of what it was never told to read.
  std::ranges::copy_if(partitions, std::back_inserter(read), [&](std::int32_t p) { return assigned.contains(p); });
  for (const std::int32_t partition : partitions) {
    assigned.erase(partition);
    waiting.erase(partition);
  }
  revoked_in_call.insert(partitions.begin(), partitions.end());
  const bool cooperative = std::strcmp(rd_kafka_rebalance_protocol(handle.get()), "COOPERATIVE") == 0;
  if (!cooperative) {
    Keep(FromKafka(rd_kafka_assign(handle.get(), nullptr), "unassignment refused:"));
  } else {
    Keep(FromError(rd_kafka_incremental_unassign(handle.get(), ListOf(read).get()), "unassignment refused:"));
  }
}

void Consumer::State::OnError(rd_kafka_resp_err_t error, const char* reason) noexcept {
  if (error == RD_KAFKA_RESP_ERR__FATAL) {
    Keep(FatalError(handle.get()));
  } else if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || CodeOf(error) == Code::kInvalidInput) {
    // A single broker's trouble heals by itself and is not news.
    Keep(ErrorStatus(CodeOf(error), "Kafka consumer:", reason));
  }
}

Consumer::Consumer(std::unique_ptr<State> state) : state_(std::move(state)) {}

Consumer::~Consumer() {
  if (state_) (void)Close(5'000);
}

Result<std::unique_ptr<Consumer>> Consumer::Open(const Connection& connection, const ConsumerOptions& options) {
  const bool in_group = !options.group_id.empty();
  FUSELINE_ASSIGN_OR_FAIL(
      auto conf, MakeConf(connection, {{"group.id", in_group ? options.group_id : "fuseline-no-group"},
                                       {"enable.auto.commit", "false"},
                                       {"enable.auto.offset.store", "false"},
                                       {"auto.offset.reset", "error"},
                                       {"check.crcs", "true"},
                                       {"enable.partition.eof", "true"},
                                       {"allow.auto.create.topics", "false"},
                                       {"partition.assignment.strategy", "cooperative-sticky"},
                                       {"session.timeout.ms", std::to_string(options.session_timeout_ms)},
                                       {"heartbeat.interval.ms", std::to_string(std::max<std::int64_t>(options.session_timeout_ms / 10, 50))},
                                       {"fetch.wait.max.ms", std::to_string(options.fetch_wait_max_ms)}}));
  auto state = std::make_unique<State>();
  state->options = options;
  rd_kafka_conf_set_opaque(conf.get(), state.get());
  rd_kafka_conf_set_rebalance_cb(
      conf.get(), [](rd_kafka_t*, rd_kafka_resp_err_t event, rd_kafka_topic_partition_list_t* list, void* opaque) {
        static_cast<State*>(opaque)->OnRebalance(event, list);
      });
  rd_kafka_conf_set_error_cb(conf.get(), [](rd_kafka_t*, int error, const char* reason, void* opaque) {
    static_cast<State*>(opaque)->OnError(static_cast<rd_kafka_resp_err_t>(error), reason);
  });
  FUSELINE_ASSIGN_OR_FAIL(state->handle, MakeHandle(RD_KAFKA_CONSUMER, std::move(conf)));
  FUSELINE_FAIL_IF_ERROR(FromKafka(rd_kafka_poll_set_consumer(state->handle.get()), "Kafka consumer:"));
  state->queue.reset(rd_kafka_queue_get_consumer(state->handle.get()));
  return std::unique_ptr<Consumer>(new Consumer(std::move(state)));
}

Status Consumer::Assign(const std::map<std::int32_t, StartPosition>& starts) {
  FUSELINE_ASSIGN_OR_RETURN(const auto list, state_->Located(starts));
  FUSELINE_RETURN_IF_ERROR(FromKafka(rd_kafka_assign(state_->handle.get(), list.get()), "assignment refused:"));
  state_->assigned.clear();
  for (const auto& [partition, start] : starts) state_->assigned.insert(partition);
  return OkStatus();
}

Status Consumer::Subscribe(GroupCallbacks callbacks) {
  if (state_->options.group_id.empty()) return ErrorStatus(Code::kInvalidInput, "a subscription needs a group id");
  FUSELINE_CHECK(callbacks.assigned != nullptr);
  state_->callbacks = std::move(callbacks);
  const std::int32_t any[] = {RD_KAFKA_PARTITION_UA};
  const auto list = state_->ListOf(any);
  return FromKafka(rd_kafka_subscribe(state_->handle.get(), list.get()), "subscription refused:");
}

// Splits what the client gave into messages, ends and the first error.
void Consumer::State::Sort(MessageBatch::Impl& batch) {
  batch.messages.reserve(batch.raw.size());
  for (const rd_kafka_message_t* raw : batch.raw) {
    if (raw->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      if (!revoked_in_call.contains(raw->partition)) batch.ends[raw->partition] = raw->offset;
      continue;
    }
    if (raw->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      Keep(ErrorStatus(CodeOf(raw->err), "Kafka consumer: topic", options.topic, "partition", raw->partition, "offset",
                       raw->offset, rd_kafka_message_errstr(raw)));
      continue;
    }
    if (revoked_in_call.contains(raw->partition)) continue;
    Message message;
    message.partition = raw->partition;
    message.offset = raw->offset;
    rd_kafka_timestamp_type_t type;
    message.timestamp_ms = rd_kafka_message_timestamp(raw, &type);
    message.key = {static_cast<const char*>(raw->key), raw->key_len};
    message.value = {static_cast<const char*>(raw->payload), raw->len};
    batch.ends.erase(raw->partition);
    batch.messages.push_back(message);
  }
}

Result<MessageBatch> Consumer::Consume(std::size_t max_messages, std::int64_t timeout_ms) {
  FUSELINE_CHECK(max_messages > 0 && !state_->closed);
  if (!state_->waiting.empty() && SystemClock().monotonic_us() >= state_->ask_again_us) {
    state_->Keep(state_->AssignWaiting(/*answers=*/false));
  }
  MessageBatch batch;
  auto& raw = batch.impl_->raw;
  if (state_->pending.ok()) {
    state_->revoked_in_call.clear();
    raw.resize(max_messages);
    // The client waits until a batch is full, so the wait is for the first message alone.
    const auto take = [&](std::size_t from, std::size_t most, int wait_ms) -> std::size_t {
      const ssize_t taken = rd_kafka_consume_batch_queue(state_->queue.get(), wait_ms, raw.data() + from, most);
      return taken < 0 ? 0 : static_cast<std::size_t>(taken);
    };
    std::size_t count = take(0, max_messages, 0);
    if (count == 0 && timeout_ms > 0 && state_->pending.ok()) {
      count = take(0, 1, TimeoutOf(timeout_ms));
      if (count == 1 && max_messages > 1) count += take(1, max_messages - 1, 0);
    }
    raw.resize(count);
    state_->Sort(*batch.impl_);
  }
  if (batch.impl_->messages.empty() && batch.impl_->ends.empty() && !state_->pending.ok()) {
    return tl::unexpected<Status>(std::exchange(state_->pending, OkStatus()));
  }
  return batch;
}

Status Consumer::Pause(std::span<const std::int32_t> partitions) {
  const auto list = state_->ListOf(partitions);
  FUSELINE_RETURN_IF_ERROR(FromKafka(rd_kafka_pause_partitions(state_->handle.get(), list.get()), "pause refused:"));
  return FirstError(*list, "pause refused:");
}

Status Consumer::Resume(std::span<const std::int32_t> partitions) {
  const auto list = state_->ListOf(partitions);
  FUSELINE_RETURN_IF_ERROR(FromKafka(rd_kafka_resume_partitions(state_->handle.get(), list.get()), "resume refused:"));
  return FirstError(*list, "resume refused:");
}

Status Consumer::Commit(const std::map<std::int32_t, CommittedOffset>& offsets) {
  if (state_->options.group_id.empty()) return ErrorStatus(Code::kInvalidInput, "a commit needs a group id");
  if (offsets.empty()) return OkStatus();
  const auto list = state_->ListOf({});
  for (const auto& [partition, committed] : offsets) {
    auto* const element = rd_kafka_topic_partition_list_add(list.get(), state_->options.topic.c_str(), partition);
    element->offset = committed.offset;
    const std::string& metadata = committed.metadata;
    if (metadata.empty()) continue;
    element->metadata = std::malloc(metadata.size());  // The list frees it.
    FUSELINE_CHECK(element->metadata != nullptr);
    std::memcpy(element->metadata, metadata.data(), metadata.size());
    element->metadata_size = metadata.size();
  }
  // Not rd_kafka_commit: that waits as long as the coordinator is away.
  const Owned<rd_kafka_queue_t> answers(rd_kafka_queue_new(state_->handle.get()));
  FUSELINE_RETURN_IF_ERROR(FromKafka(
      rd_kafka_commit_queue(state_->handle.get(), list.get(), answers.get(), nullptr, nullptr), "commit refused:"));
  const Owned<rd_kafka_event_t> answer(
      rd_kafka_queue_poll(answers.get(), TimeoutOf(state_->options.request_timeout_ms)));
  const std::int32_t first = offsets.begin()->first;
  if (!answer) return ErrorStatus(Code::kUnavailable, "commit not answered in time, first partition", first);
  FUSELINE_RETURN_IF_ERROR(FromKafka(rd_kafka_event_error(answer.get()), "commit failed, first partition", first));
  const auto* result = rd_kafka_event_topic_partition_list(answer.get());
  return result == nullptr ? OkStatus() : FirstError(*result, "commit failed,");
}

Result<std::map<std::int32_t, CommittedOffset>> Consumer::Committed(std::span<const std::int32_t> partitions) {
  if (state_->options.group_id.empty()) return Error(Code::kInvalidInput, "committed offsets need a group id");
  const auto list = state_->ListOf(partitions);
  FUSELINE_FAIL_IF_ERROR(FromKafka(
      rd_kafka_committed(state_->handle.get(), list.get(), TimeoutOf(state_->options.request_timeout_ms)),
      "committed offsets:"));
  FUSELINE_FAIL_IF_ERROR(FirstError(*list, "committed offset,"));
  std::map<std::int32_t, CommittedOffset> committed;
  for (int i = 0; i < list->cnt; ++i) {
    const auto& element = list->elems[i];
    if (element.offset < 0) continue;
    committed[element.partition] = {
        element.offset, element.metadata_size == 0
                            ? std::string()
                            : std::string(static_cast<const char*>(element.metadata), element.metadata_size)};
  }
  return committed;
}

Result<Watermarks> Consumer::QueryWatermarks(std::int32_t partition) {
  // The client's query waits without end for a leader that it knows but cannot reach; asking for metadata does not.
  FUSELINE_FAIL_IF_ERROR([&]() -> Status {
    FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const std::int32_t count, PartitionCount());
    return OkStatus();
  }());
  Watermarks marks;
  FUSELINE_FAIL_IF_ERROR(FromKafka(
      rd_kafka_query_watermark_offsets(state_->handle.get(), state_->options.topic.c_str(), partition, &marks.low,
                                       &marks.high, TimeoutOf(state_->options.request_timeout_ms)),
      "watermarks of partition", partition));
  return marks;
}

std::optional<Watermarks> Consumer::LastWatermarks(std::int32_t partition) const {
  Watermarks marks;
  const auto error = rd_kafka_get_watermark_offsets(state_->handle.get(), state_->options.topic.c_str(), partition,
                                                    &marks.low, &marks.high);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR || marks.high < 0) return std::nullopt;
  return marks;
}

Result<std::int32_t> Consumer::PartitionCount() {
  return PartitionCountOf(state_->handle.get(), state_->options.topic, state_->options.request_timeout_ms);
}

std::vector<std::int32_t> Consumer::assignment() const { return {state_->assigned.begin(), state_->assigned.end()}; }

Status Consumer::Close(std::int64_t deadline_ms) {
  if (!state_ || state_->closed) return OkStatus();
  state_->closed = true;
  const Deadline deadline(deadline_ms);
  Owned<rd_kafka_queue_t> farewell(rd_kafka_queue_new(state_->handle.get()));
  Status status = FromError(rd_kafka_consumer_close_queue(state_->handle.get(), farewell.get()), "close refused:");
  while (status.ok() && !rd_kafka_consumer_closed(state_->handle.get())) {
    if (deadline.passed()) {
      // Its threads may still call back into the state: both stay where they are.
      (void)farewell.release();
      (void)state_.release();
      return ErrorStatus(Code::kUnavailable, "consumer did not close in time, its handle is abandoned");
    }
    // Messages still come out between the callbacks; serving callbacks alone would abort at the first of them.
    MessageBatch::Impl unread;
    unread.raw.resize(100);
    const ssize_t count = rd_kafka_consume_batch_queue(farewell.get(), std::min(deadline.remaining_ms(), 20),
                                                       unread.raw.data(), unread.raw.size());
    unread.raw.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  }
  farewell.reset();
  state_->queue.reset();
  rd_kafka_destroy_flags(state_->handle.release(), RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
  return status;
}

}  // namespace fuseline::kafka
