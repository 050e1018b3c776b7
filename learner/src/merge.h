#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/log.h"
#include "fuseline/core/status.h"
#include "fuseline/v1/checkpoint.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// Partitions → one order that is a function of the logs alone: (stream time at closing, partition, name), each trajectory
// exactly once by its name. The next is given only when no partition can still bring an earlier one.
// Pure but for the alarm's log line. Thread-compatible.
class Merge {
 public:
  Merge(std::size_t queue_max, Log& log) : queue_max_(queue_max), log_(log) {}

  void ExpectPartitions(int count);
  void Restore(const v1::PartitionPosition& position);

  void BeginAnywhere() { anywhere_ = true; }  // The first of a partition may have a predecessor that nobody took.

  void Restart() { partitions_.clear(), anywhere_ = false; }  // Of another input: nothing was taken. REQUIRES: waiting() == 0.

  // Errors: as Learner::Offer.
  Status Offer(v1::Trajectory trajectory);
  Status Offer(const v1::ProgressMark& mark);

  // The partition whose head comes next; absent while none may be taken. Cost: O(partitions).
  std::optional<std::int32_t> Ready() const;
  v1::Trajectory Take(std::int32_t partition);  // REQUIRES: partition is Ready().

  std::vector<v1::PartitionPosition> Positions() const;  // Of what was taken; partitions that gave nothing are absent.
  std::size_t waiting() const { return waiting_; }
  std::uint64_t repeats() const { return repeats_; }
  std::uint64_t repeats_differing() const { return repeats_differing_; }

 private:
  struct Seen {
    v1::TrajectoryName name;
    std::string digest;
  };
  struct Partition {
    std::deque<v1::Trajectory> queue;
    std::deque<Seen> seen;            // The newest names offered, kSeenMax at most: enough to compare repeats.
    std::int64_t promised_ms = -1;    // Nothing earlier will come.
    std::optional<v1::PartitionPosition> taken;
  };
  Status CheckRepeat(Partition& partition, const v1::Trajectory& trajectory);

  static constexpr std::size_t kSeenMax = 4096;
  std::size_t queue_max_;
  Log& log_;
  std::map<std::int32_t, Partition> partitions_;
  std::size_t waiting_ = 0;
  bool anywhere_ = false;
  std::uint64_t repeats_ = 0, repeats_differing_ = 0;
};

}  // namespace fuseline
