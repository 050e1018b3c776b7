#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/kafka/consumer.h"

namespace fuseline::test {

// All that a topic of trajectories says, its repeats dropped.
class TrajectoryTopic {
 public:
  static Result<std::unique_ptr<TrajectoryTopic>> Open(const kafka::Connection& connection, const std::string& topic,
                                                       int partitions);

  // Reads what has come, waiting up to `timeout_ms` for the first of it.
  Status Poll(std::int64_t timeout_ms);

  using Name = std::pair<std::int64_t, std::uint32_t>;  // Offset, ordinal.
  // Per partition, what was said under each name: a SHA-256 of it.
  const std::vector<std::map<Name, std::string>>& said() const { return said_; }
  std::uint64_t trajectories() const { return trajectories_; }
  std::uint64_t repeats() const { return repeats_; }
  std::uint64_t contradictions() const { return contradictions_; }  // Repeats with other bytes.
  std::uint64_t gaps() const { return gaps_; }  // New names whose predecessor is not the one before.

 private:
  std::unique_ptr<kafka::Consumer> consumer_;
  std::vector<std::map<Name, std::string>> said_;
  std::uint64_t trajectories_ = 0, repeats_ = 0, contradictions_ = 0, gaps_ = 0;
};

}  // namespace fuseline::test
