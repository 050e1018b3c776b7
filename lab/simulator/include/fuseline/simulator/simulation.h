#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <stop_token>

#include "fuseline/core/status.h"
#include "fuseline/simulator/arm_statistics.h"
#include "fuseline/simulator/rank_service.h"
#include "fuseline/simulator/world.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// Where events go: serving_bridge's event log (bridge.h), a vector, nowhere. `Append` may wait (back-pressure).
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual Status Append(v1::Event&& event) = 0;
};

struct SimulationLimits {
  std::int64_t until_ms = std::numeric_limits<std::int64_t>::max();     // Event time; actions due later stay queued.
  std::uint64_t max_events = std::numeric_limits<std::uint64_t>::max();  // Events appended by this call, at least; a
                                                                        // request's own step is never cut.
};

// Who acts, and from which of their draws on: users [first_user, first_user + users), cut at the world's end, each beginning with its
// `first_request`-th request. Training and judging on other users, or on the same users beyond the requests that training can reach,
// keeps judging apart from what was learned.
struct Visitors {
  std::uint32_t first_user = 0;
  std::uint32_t users = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t first_request = 0;
};

// Whose task scores a request brings: the world's predictions, or none, for a ranker that has a scorer of its own.
enum class ScoresOf : std::uint8_t { kWorld, kRanker };

// The users of a world acting in event time: a queue of what is due next (a request, a piece of feedback), taken in order of
// (time, sequence). They ask `ranker`, look at what it exposes, and tell `sink`, and nothing else.
//
// Whether a user stays, and when it comes back, is the world's; within a session the next request follows the watching of the last. Feedback comes when it happens: a watch at its end, a like or a share some seconds after, a few
// shares after the session, some never (feedback_missing). Events leave in order of event time; ids are
// "<seed>-<user>-<n>", so the same decisions give the same events, byte for byte.
// Thread-compatible: one thread steps it. Keeps no wall clock: a caller that wants accelerated time paces its calls.
// Cost: O(log queue) an event, plus candidates x (scores and ranker) a request.
class Simulation {
 public:
  // Borrows all three for its life. Users begin over the first `spread_ms` after `start_ms`. REQUIRES: visitors.first_user < users.
  Simulation(const World& world, RankService& ranker, EventSink& sink, std::int64_t start_ms,
             std::int64_t spread_ms = 6 * 3'600'000, const Visitors& visitors = {}, ScoresOf scores_of = ScoresOf::kWorld);
  ~Simulation();

  // Does the next thing that is due. Errors: of ranker or sink (the simulation must not be stepped on after one), or
  // kInvalidInput when the ranker exposes what was not offered.
  Status Step();

  // Steps until a limit or a stop. Returns the number of events appended.
  Result<std::uint64_t> RunUntil(const SimulationLimits& limits, std::stop_token stop = {});

  // Appends what feedback is still to come and starts no request; the end of a finite run.
  Status Drain();

  std::int64_t now_ms() const;                   // Event time of the last step.
  std::uint64_t events() const;                  // Appended so far.
  std::uint64_t sessions() const;                // Finished so far.
  const ArmStatistics& statistics() const;       // Of finished sessions; a copy is a mark to subtract later.

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
