#pragma once

#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// What a scorer's tasks predict of an exposed item, in the stream: labels from what its session says became of it. A task's name says
// which outcome that is, unless setting scorer.outcomes does:
//   click like share comment collect follow profile dislike complete   there was one
//   valid, valid_play   watched longer than rewards.valid_watch_ms
//   long_view           watched at least min(the item's duration, 18 s); of an unknown duration 18 s
//   watch, watch_time   seconds watched, as a share of the task's range
//   forward             share, by another name
// Immutable; thread-safe.
class Outcomes {
 public:
  // Errors: kInvalidInput for a task whose outcome nobody says, or an entry of scorer.outcomes that is none; it lists all outcomes.
  static Result<Outcomes> Create(const v1::Config& config, const ScorerFields& fields);

  // Appends the labels [K] of an item.
  void Append(const v1::RewardComponents& rewards, std::vector<float>* labels) const;

  const std::string& text() const { return text_; }  // "TASK=OUTCOME,…", every task's.

 private:
  Outcomes(ScorerFields fields, std::int64_t valid_watch_ms) : fields_(std::move(fields)), valid_watch_ms_(valid_watch_ms) {}
  float LabelOf(std::size_t task, const v1::RewardComponents& rewards) const;

  ScorerFields fields_;
  std::int64_t valid_watch_ms_;
  std::vector<std::size_t> outcomes_;  // Of each task, its number among the outcomes.
  std::string text_;
};

}  // namespace fuseline
