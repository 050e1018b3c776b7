#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dead_letters.h"
#include "fuseline/core/status.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// What would be done with one letter, and why.
struct RequeuePlan {
  bool appends = false;
  std::string why_not;          // When it does not append.
  std::int32_t partition = -1;  // -1: that of the key.
  std::string key;              // User id; empty: none, since the bytes do not say whose they are.
};

// A letter of the events topic goes back to its partition, where its user's other events lie; any other (a file's) to
// that of its user, keyed by the user id, which is read from the bytes: a letter keeps no key. Not appended are
// letters whose bytes were cut, control records (they speak of their old place), and, unless `refused_too`, what
// would be refused again by these settings. `now_ms`: wall time that the broker would give it, to foresee another
// quarantine.
RequeuePlan PlanRequeue(const KeptLetter& kept, const v1::Config& config, std::int32_t partitions,
                        std::int64_t now_ms, bool refused_too);

// Appends letters to the events topic, and tells where they came to lie. One owner thread.
class Requeuer {
 public:
  struct Appended {
    std::int32_t from_partition = 0;
    std::int64_t from_offset = 0;
    std::int32_t partition = -1;
    std::int64_t offset = -1;
    Status status;
  };

  static Result<std::unique_ptr<Requeuer>> Open(const v1::Config& config);
  // Errors: kUnavailable when no room came in the producer's queue.
  Status Append(const RequeuePlan& plan, const DeadLetter& letter);
  // Waits until everything is durable. In the order of Append; what the broker has not answered has status
  // kUnavailable.
  std::vector<Appended> Finish();

 private:
  explicit Requeuer(const v1::Config& config)
      : topic_(config.kafka().events_topic()), patience_ms_(config.kafka().connect_timeout_ms()) {}
  const std::string topic_;
  const std::int64_t patience_ms_;
  std::vector<Appended> appended_;
  std::unique_ptr<kafka::Producer> producer_;  // Last: it reports into the members above.
};

}  // namespace fuseline
