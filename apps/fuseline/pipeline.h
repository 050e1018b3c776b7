#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "freshness.h"
#include "fuseline/core/clock.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/ingest/event_source.h"
#include "fuseline/learner/learner.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "publication.h"

namespace fuseline {

// How far a finite input has been read, in any unit; total 0: unknown.
struct InputProgress {
  double done = 0;
  double total = 0;
};

// The folders of one state.
struct StateFolders {
  explicit StateFolders(std::filesystem::path root);
  std::filesystem::path root, sessions, learner, versions;
};

// One partition, as the sessionizer's last commit left it.
struct PartitionStatus {
  std::int64_t next_offset = 0;
  std::int64_t stream_time_ms = 0;
  std::uint64_t open_sessions = 0;
  v1::Accounting accounting;
};

PartitionStatus StatusOf(const PartitionPosition& position);

// The three numbers and what stands behind them.
struct PipelineStatus {
  std::map<std::int32_t, PartitionStatus> partitions;
  InputProgress input;
  std::uint64_t ingested = 0;      // Records that ingest has handed on, committed or not.
  bool idle = false;               // All that was read is learned from, as far as the merge order allows.
  bool offering = false;           // What was committed is on its way to the learner.
  std::set<std::int32_t> ahead;    // Partitions of which the learner takes no more until others catch up.
  std::set<std::int32_t> full;     // Partitions whose outbox is full: their source waits.
  LearnerProgress learner;
  std::map<std::int32_t, v1::TrajectoryName> learned_names;  // By the last checkpoint.
  std::string weights_sha256;      // Only after the run.
  PublicationStatus publication;

  v1::Accounting accounting() const;  // Over all partitions.
  // Closed sessions that the learner has neither merged nor holds until the merge order allows it.
  std::uint64_t learner_backlog() const;
  // How far each partition's stream time is behind the latest; none for one that never had an event, and where none had.
  std::map<std::int32_t, std::optional<std::int64_t>> stream_time_lags_ms() const;
  // The partition that holds the clock back: the one that is furthest behind, while closed sessions wait to be merged.
  std::optional<std::int32_t> waits_for_partition() const;
};

// Joins the rooms: ingest → sessionizer → learner → archive → Redis, a thread each, with bounded queues in between. The only file
// that knows every room.
//
// Nothing here decides anything: a trajectory stays in the sessionizer's outbox until a checkpoint of the learner covers it, and
// is offered again after a restart; a version stays pending until the archive has it. So this may be killed at any moment.
class Pipeline {
 public:
  struct Parts {
    std::unique_ptr<EventSource> source;
    std::vector<std::int32_t> partitions;             // All that the source will give.
    std::unique_ptr<Sessionizer> sessionizer;
    std::unique_ptr<Learner> learner;
    std::unique_ptr<Publication> publication;
    std::function<InputProgress()> input_progress;    // Asked on the source's thread; may be empty.
  };

  Pipeline(const v1::Config& config, Parts parts, Freshness& freshness, Instruments instruments);
  ~Pipeline();

  // Until the source has ended, or a stop is asked for; then everything is committed and checkpointed. One call.
  // Errors: the first of any stage. What was committed until then is safe.
  Status Run(std::stop_token stop);

  PipelineStatus status() const;  // Thread-safe.
  EventSource& source() { return *parts_.source; }

 private:
  struct Queues;
  Status Ingest(std::stop_token stop);
  Status HoldBack(std::set<std::int32_t>& paused);
  Status MakeSessions(std::stop_token stop);
  Status CommitSessions();
  Status OfferTrajectories(std::stop_token stop);
  Result<bool> OfferFrom(std::int32_t partition, std::stop_token stop);
  bool IsAhead(std::int32_t partition) const;
  bool IsHeldBack() const;
  void NotePartition(std::int32_t partition);
  Status Learn(std::stop_token stop);
  Status LearnFrom(v1::TrajectoryRecord record);
  Status LearnFromParked();
  Status AdvanceLearner();
  void NoteLearner();

  const v1::Config config_;
  Parts parts_;
  Freshness& freshness_;
  Instruments instruments_;
  std::unique_ptr<Queues> queues_;
  std::map<std::int32_t, v1::TrajectoryName> offered_;  // The sessionizer's thread: last of each partition.
  bool all_offered_ = true;                             // The same thread: nothing was left behind because its partition is ahead.
  // The learner's thread: what came of partitions that are ahead. No longer than the queue and a page: no more is offered of them.
  std::map<std::int32_t, std::deque<v1::TrajectoryRecord>> parked_;
  Guarded<PipelineStatus> status_;
};

}  // namespace fuseline
