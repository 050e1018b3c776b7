#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stop_token>

#include "fuseline/core/backoff.h"
#include "fuseline/ingest/event_source.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/v1/config.pb.h"
#include "pipeline_status.h"
#include "publication.h"
#include "tick_author.h"
#include "trajectory_sink.h"

namespace fuseline {

// Where to begin in a partition of which nobody knows anything.
struct KafkaReading {
  kafka::StartPosition from;
  bool group = false;       // Partitions from the consumer group; else all of them.
  bool until_end = false;   // A range, up to the ends seen at the start. Not with `group`.
  bool cold_start = false;  // Begin at `from` too where a partition's past cannot be known any more, instead of refusing.
};

// Events → durable sessions → trajectories in a sink: the part that `fuseline run` and `fuseline sessionize` share.
//
//   source → Process → Commit → Offer to the sink … durable there → Acknowledge → Commit → the group's offset
//
// Nothing here decides anything: a trajectory stays in the outbox until the sink has made it durable, an offset is committed to
// the group only when every trajectory named below it is, and all of it is said again, under the same names, after a crash
// at any moment. One thread runs it and makes every call but the constructor's; rebalances of a group happen inside the source's
// Next, on that thread, so a partition never changes hands in the middle of anything.
class SessionStage {
 public:
  SessionStage(const v1::Config& config, std::unique_ptr<Sessionizer> sessionizer, std::unique_ptr<TrajectorySink> sink,
               StatusBoard& status, Instruments instruments);
  ~SessionStage();

  // Takes a partition into this process, and says where its reading begins: by the local state, the group's word (offset and
  // metadata) and the oldest offset of the log.
  // Errors: kInvalidInput, naming --cold-start, if the metadata cannot be read, or what is needed is gone from the log or from the
  // sink; those of the disk.
  Result<kafka::StartPosition> TakeOver(std::int32_t partition, const std::optional<kafka::CommittedOffset>& word,
                                        std::int64_t log_start, const KafkaReading& reading);
  // Partitions leave: commits them, sends their outbox out and tells the group, as far as that goes within kafka.connect_timeout_ms,
  // and forgets them. `lost`: they belong to somebody else already; what is not committed is dropped.
  void GiveUp(std::span<const std::int32_t> partitions, bool lost);
  // A group's partition could not be taken over: Run returns it.
  void Fail(Status status);

  // What is read; its partitions were taken over before, or will be inside its Next. `progress` may be empty.
  void Read(std::unique_ptr<EventSource> source, std::function<InputProgress()> progress);
  const std::set<std::int32_t>& partitions() const { return owned_; }
  // From now on silent partitions are ticked, after sessionizer.idle_timeout_ms; 0: never. Only for a topic that is read as it grows.
  // Errors: kInvalidInput for connection settings.
  Status AuthorTicks();

  // Until the source has ended or a stop is asked for; then everything is committed and offered, and the sink is closed.
  // Errors: what makes going on impossible. What was committed until then is safe.
  Status Run(std::stop_token stop);

  // After Run: acknowledges what the sink has made durable since, waiting for it up to `patience_ms`, tells the group, and leaves it.
  Status Leave(std::int64_t patience_ms);

 private:
  Result<std::optional<std::int64_t>> WhereToGoOn(std::int32_t partition, const std::optional<kafka::CommittedOffset>& word,
                                                  std::int64_t log_start);
  Status HandOver(std::span<const std::int32_t> partitions, std::int64_t patience_ms);
  void Release(std::int32_t partition);
  Status HoldBack();
  Status TakeBatch(std::stop_token stop);
  Status ProcessTaken();
  Status CommitAndOffer();
  void PostponeCommit(const Status& reason);
  Status Commit();
  void TellGroup();
  void TakeAcknowledgements(std::int64_t wait_ms);
  void AppendTicks();
  Status OfferAll();
  Result<bool> Offer(std::int32_t partition);
  void Note(std::int32_t partition);
  void NoteOwned(std::int32_t partition, bool owned);

  const v1::Config config_;
  const std::unique_ptr<Sessionizer> sessionizer_;
  const std::unique_ptr<TrajectorySink> sink_;
  StatusBoard& status_;
  Instruments instruments_;
  std::function<InputProgress()> progress_;

  std::set<std::int32_t> owned_;
  std::set<std::int32_t> paused_;
  std::map<std::int32_t, v1::TrajectoryName> offered_;  // Last of each partition.
  std::map<std::int32_t, std::int64_t> marked_ms_;      // Stream time of the last mark of each partition.
  bool all_offered_ = true;
  std::deque<EventBatch> taken_;  // From the source, not processed: more than one only while the disk fails.
  bool commit_fails_ = false;  // The disk is full or failing: nothing is read until it is not.
  std::int64_t commit_again_us_ = 0;
  Backoff commit_backoff_, source_backoff_;
  Status failure_;
  std::unique_ptr<TickAuthor> ticks_;  // None: nobody ticks here.
  std::unique_ptr<EventSource> source_;  // Last: closing it gives partitions up.
};

}  // namespace fuseline
