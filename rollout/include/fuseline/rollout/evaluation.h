#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "fuseline/core/status.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/rollout.pb.h"

namespace fuseline {

inline constexpr std::size_t kMetrics = 3;  // As Guardrail.Metric: session reward, valid consumptions, watched seconds.

// One closed session of a user who was in an experiment when it began. Borrowed for the call.
struct ObservedSession {
  std::string_view experiment;
  std::string_view arm;
  std::string_view user_id;
  std::uint32_t coverage = 0;  // In 1/10,000: when the user was assigned; 0: not told.
  std::array<double, kMetrics> metrics = {};
};

// What the stream says of every experiment: sums by arm, with the user as the unit. Who judges reads them (judgement.h).
//
// Where: beside the learner, shown each trajectory in merge order; its state rides in the learner's checkpoint, so each session counts once.
// A function of the sessions in their order alone: it knows no experiment's definition, and no clock.
// Limits: `max_users` of all experiments together, kExperimentsMax of them, kEvaluatedArmsMax arms each, kEvaluatedShadowsMax
// versions. Who ended is never told here. So where there is no room, the experiment whose last session is the oldest is let go, with its
// users: for a new name, or for a user of an experiment that has no more users than that one. A session is left out, and counted,
// only where its experiment has more users than each of the others, or too many arms. Thread-compatible. Cost: a hash look-up a session; 40 bytes a user durable, some 80 in memory.
class ExperimentEvaluation {
 public:
  static constexpr std::size_t kExperimentsMax = 100;
  static constexpr int kEvaluatedArmsMax = 20;
  static constexpr int kEvaluatedShadowsMax = 100;
  static constexpr std::size_t kUserRowBytes = 40;

  explicit ExperimentEvaluation(std::size_t max_users) : max_users_(max_users) {}

  // What is told of each experiment that is let go, before it is: should it come again, its figures begin anew.
  void OnLetGo(std::function<void(const v1::ExperimentTotals&)> tell) { let_go_ = std::move(tell); }

  // Goes on from a state. Errors: kCorrupt if it contradicts itself; nothing is changed then.
  Status Restore(const v1::EvaluationState& state);
  v1::EvaluationState State() const;  // Equal states have equal canonical bytes.

  // A user's second arm leaves the session out, counted as crossed: assignment is sticky, so somebody changed a salt.
  void Observe(const ObservedSession& session);
  void ObserveShadow(std::string_view experiment, const v1::ShadowScore& score);

  // Null for one that was never seen. `users` of the message is empty here.
  const v1::ExperimentTotals* Find(std::string_view experiment) const;
  std::uint64_t left_out() const { return left_out_; }

 private:
  struct User {
    std::uint32_t arm = 0;
    std::uint32_t sessions = 0;
    std::array<double, kMetrics> sums = {};
  };
  struct Experiment {
    v1::ExperimentTotals totals;
    std::uint64_t last = 0;  // When its last session came, by order_.
    std::unordered_map<std::uint64_t, User> users;  // By the 64-bit FNV-1a of the id.
  };
  Experiment& FindOrAdd(std::string_view name);  // Now the latest.
  bool HasRoomFor(const Experiment& experiment);
  bool LetOldestGo(std::size_t at_least_users, const Experiment* but);

  std::size_t max_users_;
  std::size_t users_ = 0;
  std::uint64_t left_out_ = 0;
  std::uint64_t order_ = 0;  // Grows with each session; only its order is durable.
  std::function<void(const v1::ExperimentTotals&)> let_go_;
  std::map<std::string, Experiment, std::less<>> experiments_;
};

}  // namespace fuseline
