#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/proto/event_batch.h"

namespace fuseline::bench {

enum class Draw {
  kZipf,    // Each event's user, by zipf(1.0).
  kEvenly,  // Each event's user, all with equal chances.
  kOnce,    // Each user in turn, so that all of them have an open session; then as kEvenly.
};

struct WorkloadOptions {
  std::int64_t events = 0;
  std::size_t users = 100'000;
  std::int32_t partitions = 8;
  double spacing_ms = 20;  // Of event time, between two events.
  Draw draw = Draw::kZipf;
};

struct GeneratedEvent {
  std::int32_t partition = 0;
  std::int64_t time_ms = 0;
  std::string user_id;
  std::string bytes;  // A serialised v1::Event.
};

// The events that the sessionizer is measured with, in order of event time and the same in every run: after a silence
// of the gap a user's request of three items, then with equal chances a request or, three times as often, feedback on
// one of the last request's items. Ids are padded so that an event has 212 bytes on average. Then, in each partition,
// one event far ahead, which closes every session before it: so each event goes through its whole life in any engine,
// whether it knows of an end or not.
class Workload {
 public:
  explicit Workload(const WorkloadOptions& options);

  bool Next(GeneratedEvent* event);  // False after the last.
  // Events altogether: the closing ones are beyond `options.events`.
  std::int64_t size() const { return options_.events + options_.partitions; }
  std::int32_t partitions() const { return options_.partitions; }

 private:
  struct User {
    std::int64_t request = -1;  // The last one.
    std::int64_t last_ms = 0;
  };

  std::size_t DrawUser();
  v1::Event EventOf(std::size_t number);
  void FillExposure(v1::Exposure* exposure) const;

  const WorkloadOptions options_;
  Random random_;
  std::int64_t next_ = 0;
  std::vector<double> cumulative_;  // Weights of the users by rank.
  std::vector<User> users_;
};

// Turns events into batches of one partition each, full ones only until Rest().
class Batcher {
 public:
  explicit Batcher(std::int32_t partitions);
  // Returns whether a batch of its partition is full: Take it.
  bool Add(const GeneratedEvent& event);
  EventBatch Take(std::int32_t partition);

 private:
  std::vector<EventBatch> filling_;
};

// The first `count` events of a workload as ingest hands them over.
std::vector<EventBatch> BatchesOf(Workload workload, std::int64_t count);

}  // namespace fuseline::bench
