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

// Where a partition stands, as of the last commit.
struct PartitionPosition {
  std::int64_t next_offset = 0;
  std::int64_t stream_time_ms = kBeforeTimeMs;
  v1::Accounting accounting;
  std::optional<v1::TrajectoryName> last_name;
  std::uint64_t open_sessions = 0;
  bool finished = false;  // Its input has ended, and what was open was flushed.
};

// An offset that may be committed to Kafka: every trajectory named below it is acknowledged.
struct CommittableOffset {
  std::int64_t offset = 0;
  v1::OffsetMetadata metadata;
};

// Events → closed sessions with their rewards, durably: event batches in, named trajectories out, for any number of
// partitions, each by itself.
//
// Where: between ingest and learner. Every Commit() is one synced RocksDB batch of the changed sessions, the new
// trajectories (the outbox), stream times, accounts and next offsets. So after a SIGKILL at any moment the state is that
// of a prefix of each partition's log, and reading on from Position().next_offset says the rest again, under the
// same names and with the same bytes. The state is a cache of the log: it may be deleted and built again.
//
//   Process(batch) … NeedsCommit() → Commit() → Outbox() → [learner or topic] → Acknowledge() → Committable()
//
// Thread-compatible: one thread owns it. Open sessions are held in memory. Cost: see bench/BENCHMARKS.md.
class Sessionizer {
 public:
  // Opens or makes the state in `folder`. `env` is for fault injection; null: RocksDB's own.
  // Errors: kInvalidInput if the state was made with another gap, lateness, cut distance or event limit, or by a newer
  //         format; kUnavailable if the disk is full or failing, or the folder is in use; kCorrupt if what is stored contradicts itself.
  static Result<std::unique_ptr<Sessionizer>> Open(const std::filesystem::path& folder, const v1::Sessionizer& settings,
                                                   const Clock& clock, Log& log, Metrics& metrics,
                                                   rocksdb::Env* env = nullptr);
  // Only to look: writes nothing to the state, which must be there. REQUIRES: Commit is not called.
  static Result<std::unique_ptr<Sessionizer>> OpenReadOnly(const std::filesystem::path& folder, const v1::Sessionizer& settings,
                                                           const Clock& clock, Log& log, Metrics& metrics);
  ~Sessionizer();

  // Takes a batch into memory. Records below the next offset were processed before and are skipped, uncounted. With
  // end_of_input, flushes the partition.
  // Errors: kInvalidInput if a flushed partition is given new records.
  Status Process(EventBatch&& batch);

  // Closes what is open in a partition whose input has ended, by (user id, first event), named with its next offset.
  void Flush(std::int32_t partition);

  // Whether commit_records or commit_interval_ms is reached, or a partition was flushed. When to commit shapes no output.
  bool NeedsCommit() const;

  // Makes everything processed so far durable. Does nothing when there is nothing new.
  // Errors: kUnavailable for a full or failing disk: nothing is lost, call again. kCorrupt: stop, and rebuild from the log.
  Status Commit();

  // Committed trajectories of a partition that are not acknowledged, in the order of their names, `max` at most,
  // from just behind `after` (nullopt: from the first).
  Result<std::vector<v1::Trajectory>> Outbox(std::int32_t partition, const std::optional<v1::TrajectoryName>& after,
                                             std::size_t max) const;

  // The receiver has made everything up to this name durable. Removed with the next commit; after a crash before it, they are
  // offered again. An earlier name than acknowledged before changes nothing.
  void Acknowledge(const v1::TrajectoryName& name);

  // Unacknowledged trajectories of a partition, committed or not. At max_outbox its source should wait.
  std::uint64_t outbox_size(std::int32_t partition) const;
  bool outbox_full(std::int32_t partition) const;

  std::vector<std::int32_t> partitions() const;  // Ascending: those with any state.
  PartitionPosition Position(std::int32_t partition) const;  // A partition never seen is at its beginning.

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
