#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/status.h"
#include "fuseline/proto/event_batch.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace rocksdb {
class Env;
}

namespace fuseline {

// Where a partition stands.
struct PartitionPosition {
  std::int64_t next_offset = 0;
  std::int64_t previous_offset = -1;  // Of the last record; -1: none.
  std::int64_t stream_time_ms = kBeforeTimeMs;
  v1::Accounting accounting;
  std::optional<v1::TrajectoryName> last_name;
  std::uint64_t open_sessions = 0;
  bool finished = false;    // Its input has ended, and what was open was flushed.
  bool rebuilding = false;  // Reads again what another owner had read, and says nothing.
  v1::SessionRules rules;   // In force; without format: nobody knows the partition yet.
};

// An offset that may be committed to Kafka: every trajectory named below it is acknowledged.
struct CommittableOffset {
  std::int64_t offset = 0;
  v1::OffsetMetadata metadata;
};

// One finished trajectory on its way out.
struct OutboxEntry {
  v1::TrajectoryName name;
  std::string bytes;  // A serialised v1::Trajectory.
};

// An open session, for somebody to look at.
struct ShownEvent {
  std::int64_t time_ms = 0;
  std::int64_t offset = 0;
  bool is_exposure = false;
  bool left_out = false;  // By max_events; then without a body.
  std::string id;
  std::string body;  // A serialised v1::Exposure or v1::Feedback.
};
struct ShownSession {
  std::int32_t partition = 0;
  std::int64_t first_ms = 0;
  std::int64_t last_ms = 0;
  std::vector<ShownEvent> events;  // By (time, id).
};

// Events → closed sessions with their rewards, durably: event batches in, named trajectories out, for any number of
// partitions, each by itself.
//
// Where: between ingest and learner. Every Commit() is one synced RocksDB batch of the accepted events (the journal), the new
// trajectories (the outbox), stream times, accounts and next offsets. So after a SIGKILL at any moment the state is that
// of a prefix of each partition's log, and reading on from Position().next_offset says the rest again, under the
// same names and with the same bytes. The state is a cache of the log: it may be deleted and built again.
//
//   TakeOver(partition) → Process(batch) … NeedsCommit() → Commit() → Outbox() → [learner or topic] → Acknowledge() → Committable()
//
// Thread-compatible: one thread owns it. Open sessions are held in memory up to three eighths of max_memory_bytes, the coldest beyond
// that in RocksDB. What shapes sessions is what the log says, or, before it says anything, what the settings said when the partition
// was begun. Cost: see bench/BENCHMARKS.md.
class Sessionizer {
 public:
  // Opens or makes the state in `folder`. `env` is for fault injection; null: RocksDB's own.
  // State that contradicts itself is set aside as `folder`.corrupt-N, with an alarm, and an empty one is begun: TakeOver then has the
  // partitions rebuilt from the log. Not all is read here: kCorrupt out of any of the methods below says the same of what is open.
  // It is of no use then; whoever opens the folder next begins as above.
  // Errors: kInvalidInput if the state is of another format; kUnavailable if the disk is full or failing, or the folder is in use.
  static Result<std::unique_ptr<Sessionizer>> Open(const std::filesystem::path& folder, const v1::Sessionizer& settings,
                                                   const Clock& clock, Log& log, Metrics& metrics,
                                                   rocksdb::Env* env = nullptr);
  // Only to look: writes nothing to the state, which must be there. REQUIRES: Commit is not called.
  static Result<std::unique_ptr<Sessionizer>> OpenReadOnly(const std::filesystem::path& folder, const v1::Sessionizer& settings,
                                                           const Clock& clock, Log& log, Metrics& metrics);
  // Whether the next Open of the folder will set its state aside, since kCorrupt came out of a Sessionizer that had it open.
  static bool FoundCorrupt(const std::filesystem::path& folder);
  ~Sessionizer();

  // Begins with a partition, or goes on with it, and says where reading begins. `committed` is the group's word: with C its offset
  // and L its low water, local state that has got to N goes on at N; below C nothing is said again. Without state, or where
  // it is older than L or than `log_start`, reading begins at L. nullopt: nobody knows the partition, begin anywhere.
  // Errors: kInvalidInput naming --cold-start if the log does not hold what is needed any more.
  Result<std::optional<std::int64_t>> TakeOver(std::int32_t partition, const std::optional<CommittableOffset>& committed,
                                               std::int64_t log_start);
  // Somebody else has it now: what was not committed is forgotten, what is stored stays.
  void Release(std::int32_t partition);
  // Forgets a partition, stored state and all: a cold start. Errors: as Commit.
  Status Drop(std::int32_t partition);

  // Takes a batch into memory. Records below the next offset were processed before and are skipped, uncounted. With
  // end_of_input, flushes the partition. Closings may be so many that they are committed on the way.
  // Errors: kInvalidInput if a flushed partition is given new records, or rules have an unknown format; those of Commit. After
  // kUnavailable the same batch may be given again.
  Status Process(EventBatch&& batch);

  // Closes what is open in a partition whose input has ended, by (user id, first event), named with its next offset.
  // Errors: as Process.
  Status Flush(std::int32_t partition);

  // Whether commit_records, commit_interval_ms or a share of memory is reached, or a partition was flushed. When to commit shapes no output.
  bool NeedsCommit() const;

  // Makes everything processed so far durable. Does nothing when there is nothing new.
  // Errors: kUnavailable for a full or failing disk: nothing is lost, call again. kCorrupt: as Open says.
  Status Commit();

  // Committed trajectories of a partition that are not acknowledged, in the order of their names, `max` at most,
  // from just behind `after` (nullopt: from the first).
  Result<std::vector<OutboxEntry>> Outbox(std::int32_t partition, const std::optional<v1::TrajectoryName>& after, std::size_t max);

  // The receiver has made everything up to this name durable. Removed with the next commits, some at a time; after a crash
  // before that they are offered again. An earlier name than acknowledged before changes nothing.
  void Acknowledge(const v1::TrajectoryName& name);

  // Unacknowledged trajectories of a partition, committed or not. At max_outbox its source should wait.
  std::uint64_t outbox_size(std::int32_t partition) const;
  bool outbox_full(std::int32_t partition) const;

  std::vector<std::int32_t> partitions() const;  // Ascending: those with any state.
  // As of the last commit. A partition never seen is at its beginning.
  PartitionPosition Position(std::int32_t partition) const;
  // As of the last Process. REQUIRES: it was taken over, or processed.
  PartitionPosition Processed(std::int32_t partition) const;

  // The open sessions of a user, in every partition that is stored here.
  Result<std::vector<ShownSession>> Show(std::string_view user_id);
  std::size_t memory_bytes() const;  // Of open sessions and outbox, the store's own buffers apart.

  // The largest committed offset below which everything is acknowledged; nullopt: nothing new to say since the last call that
  // answered. Its metadata is under 1 KiB.
  std::optional<CommittableOffset> Committable(std::int32_t partition);

  // "No trajectory after those committed has an earlier stream time." kEndOfTimeMs once the partition is finished. Send it
  // after the outbox.
  v1::ProgressMark ProgressMark(std::int32_t partition) const;

 private:
  struct Impl;
  explicit Sessionizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
