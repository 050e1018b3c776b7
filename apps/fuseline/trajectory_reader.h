#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>

#include "freshness.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/v1/config.pb.h"
#include "learner_queue.h"
#include "pipeline_status.h"
#include "publication.h"

namespace fuseline {

// The topic of trajectories, all of its partitions → the learner's queue. The learner itself drops what it has taken before; this
// only sees to it that everything that no checkpoint covers is read (again), and that partitions which are ahead wait.
//
// Where reading goes on is kept in STATE/trajectories_read, which follows the checkpoints and is never ahead of them. Without it,
// or with one of another checkpoint, the topic is read from its beginning, or, of a partition of which nothing was learned, from `from`. One thread runs it.
class TrajectoryReader {
 public:
  // `durable`: what the learner's checkpoint covers. The others are borrowed for its life.
  // Errors: kNotFound if there is no such topic; kUnavailable.
  static Result<std::unique_ptr<TrajectoryReader>> Open(const v1::Config& config, const kafka::StartPosition& from,
                                                        const std::map<std::int32_t, v1::TrajectoryName>& durable,
                                                        TrajectoryQueue& queue, Freshness& freshness, StatusBoard& status,
                                                        Instruments instruments);

  int partitions() const { return static_cast<int>(cursors_.size()); }

  // Until a stop is asked for; then the queue is closed. A record that cannot be read stops its partition with an alarm.
  // Errors: kCorrupt if a position is not in the topic any more; those of the disk.
  Status Run(std::stop_token stop);
  // After the last checkpoint. Errors: kUnavailable for the disk.
  Status SavePositions();

 private:
  struct Unlearned {
    v1::TrajectoryName name;
    std::int64_t offset = 0;
  };
  struct Cursor {
    std::int64_t next = -1;                  // Offset to read next; -1: nothing was read yet.
    std::int64_t mark = -1;                  // Of the newest progress mark: no checkpoint holds it, so it is read again.
    std::deque<Unlearned> unlearned;         // Read, not covered by a checkpoint; by name.
    std::optional<v1::TrajectoryName> durable;
    bool at_end = false;
  };
  TrajectoryReader(const v1::Config& config, TrajectoryQueue& queue, Freshness& freshness, StatusBoard& status, Instruments instruments);
  Status Take(const kafka::MessageBatch& batch, std::stop_token stop);
  void Remember(const v1::TrajectoryRecord& record, const kafka::Message& message, Cursor& cursor);
  Status HoldBack();
  Status WritePositions();
  void NoteEnds();

  const v1::Config config_;
  TrajectoryQueue& queue_;
  Freshness& freshness_;
  StatusBoard& status_;
  Instruments instruments_;
  const std::filesystem::path file_;
  std::map<std::int32_t, Cursor> cursors_;
  std::set<std::int32_t> paused_;
  std::string saved_;  // What the checkpoint covered when positions were written last.
  std::unique_ptr<kafka::Consumer> consumer_;
};

}  // namespace fuseline
