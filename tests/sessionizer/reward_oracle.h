#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/sessionizer/reward.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline::test {

// The rules of JoinRewards on whole messages, as plainly as they are said: what the fast way on bytes is compared with.

inline void AddFeedback(const v1::Feedback& feedback, v1::RewardComponents* reward) {
  const bool watched = feedback.kind() == v1::Feedback::WATCH || feedback.kind() == v1::Feedback::COMPLETE;
  if (watched) reward->set_watch_ms(std::max(reward->watch_ms(), feedback.watch_ms()));
  reward->set_item_duration_ms(std::max(reward->item_duration_ms(), feedback.item_duration_ms()));
  switch (feedback.kind()) {
    case v1::Feedback::CLICK: reward->set_clicks(reward->clicks() + 1); break;
    case v1::Feedback::COMPLETE: reward->set_completes(reward->completes() + 1); break;
    case v1::Feedback::LIKE: reward->set_likes(reward->likes() + 1); break;
    case v1::Feedback::SHARE: reward->set_shares(reward->shares() + 1); break;
    case v1::Feedback::COMMENT: reward->set_comments(reward->comments() + 1); break;
    case v1::Feedback::COLLECT: reward->set_collects(reward->collects() + 1); break;
    case v1::Feedback::FOLLOW: reward->set_follows(reward->follows() + 1); break;
    case v1::Feedback::PROFILE: reward->set_profiles(reward->profiles() + 1); break;
    case v1::Feedback::DISLIKE: reward->set_dislikes(reward->dislikes() + 1); break;
    default: break;  // WATCH, and kinds that this program does not know.
  }
}

inline bool IsUnknown(const v1::Feedback& feedback) {
  return feedback.kind() == v1::Feedback::UNSPECIFIED || !v1::Feedback::Kind_IsValid(feedback.kind());
}

template <typename Message>
inline void ParseBody(const JoinedEvent& event, Message* message) {
  FUSELINE_CHECK(message->ParseFromArray(event.body.data(), static_cast<int>(event.body.size())));
}

// The requests of one session on their way into the steps of its trajectory.
class StepBuilder {
 public:
  explicit StepBuilder(v1::Trajectory* trajectory) : steps_(*trajectory->mutable_steps()) {}

  void AddExposure(const JoinedEvent& event, SessionOutcome* outcome) {
    v1::Step& step = *steps_.Add();
    step.set_event_time_ms(event.time_ms);
    ParseBody(event, step.mutable_exposure());
    const auto [place, is_new] = step_of_request_.try_emplace(step.exposure().request_id(), steps_.size() - 1);
    if (is_new) {
      for (int i = 0; i < step.exposure().items_size(); ++i) AddItem(place->second, step.exposure().items(i).item_id(), i);
    } else {
      ++outcome->repeated_exposures;
      AddMissingItems(place->second, step.mutable_exposure());
      steps_.RemoveLast();
    }
  }

  // Returns whether the item was exposed.
  bool AddFeedbackToItem(const v1::Feedback& feedback) {
    const auto request = step_of_request_.find(feedback.request_id());
    if (request == step_of_request_.end()) return false;
    const auto item = reward_of_item_.find({request->second, feedback.item_id()});
    if (item == reward_of_item_.end()) return false;
    AddFeedback(feedback, steps_[request->second].mutable_rewards(item->second));
    return true;
  }

  // Behind it, nothing may be added.
  void Sort() {
    std::sort(steps_.pointer_begin(), steps_.pointer_end(), [](const v1::Step* a, const v1::Step* b) {
      return std::pair(a->event_time_ms(), std::string_view(a->exposure().request_id())) <
             std::pair(b->event_time_ms(), std::string_view(b->exposure().request_id()));
    });
  }

 private:
  void AddItem(int step, std::string_view item_id, int index) {
    reward_of_item_.try_emplace({step, item_id}, index);
    steps_[step].add_rewards();
  }

  void AddMissingItems(int step, v1::Exposure* exposure) {
    for (v1::ExposedItem& item : *exposure->mutable_items()) {
      if (reward_of_item_.contains({step, item.item_id()})) continue;
      v1::ExposedItem* added = steps_[step].mutable_exposure()->add_items();
      added->Swap(&item);
      AddItem(step, added->item_id(), steps_[step].exposure().items_size() - 1);
    }
  }

  google::protobuf::RepeatedPtrField<v1::Step>& steps_;  // Never moves a step, nor do steps move their ids: keys are views of them.
  std::map<std::string_view, int> step_of_request_;
  std::map<std::pair<int, std::string_view>, int> reward_of_item_;
};

inline std::optional<v1::Step> NextStep(std::span<const JoinedEvent> requests) {
  std::optional<v1::Step> next;
  v1::Exposure exposure;
  for (const JoinedEvent& event : requests) {
    ParseBody(event, &exposure);
    if (next && next->exposure().request_id() <= exposure.request_id()) continue;
    if (!next) next.emplace();
    next->set_event_time_ms(event.time_ms);
    next->mutable_exposure()->Swap(&exposure);
  }
  return next;
}

inline void SetVersions(v1::Trajectory* trajectory) {
  const auto [oldest, newest] = std::minmax_element(
      trajectory->steps().begin(), trajectory->steps().end(), [](const v1::Step& a, const v1::Step& b) {
        return a.exposure().policy_version() < b.exposure().policy_version();
      });
  trajectory->set_oldest_policy_version(oldest->exposure().policy_version());
  trajectory->set_newest_policy_version(newest->exposure().policy_version());
}

// Returns whether it was.
inline bool MakeStubIfTooLarge(std::int64_t max_bytes, v1::Trajectory* trajectory) {
  const auto bytes = static_cast<std::int64_t>(trajectory->ByteSizeLong());
  if (bytes <= max_bytes) return false;
  trajectory->clear_steps();
  trajectory->clear_next_step();
  trajectory->set_stub_reason("trajectory of " + std::to_string(bytes) + " bytes exceeds max_trajectory_bytes " +
                              std::to_string(max_bytes));
  return true;
}

inline SessionOutcome BuildSteps(const SessionToJoin& session, v1::Trajectory* trajectory) {
  SessionOutcome outcome;
  outcome.left_out = session.events_total;
  StepBuilder builder(trajectory);
  for (const JoinedEvent& event : session.events) {
    if (event.body.empty()) continue;
    --outcome.left_out;
    if (event.is_exposure) builder.AddExposure(event, &outcome);
  }
  v1::Feedback feedback;  // Joined last: it may be older than its exposure.
  for (const JoinedEvent& event : session.events) {
    if (event.body.empty() || event.is_exposure) continue;
    ParseBody(event, &feedback);
    if (!builder.AddFeedbackToItem(feedback)) ++outcome.orphans;
    if (IsUnknown(feedback)) ++outcome.unknown_kinds;
  }
  builder.Sort();
  return outcome;
}

inline SessionOutcome JoinByMessages(const SessionToJoin& session, const TrajectoryHead* head, std::int64_t max_bytes,
                           std::string* bytes) {
  v1::Trajectory trajectory;
  SessionOutcome outcome = BuildSteps(session, &trajectory);
  if (trajectory.steps().empty()) return outcome;
  FUSELINE_CHECK(head != nullptr);
  *trajectory.mutable_name() = head->name;
  if (head->predecessor) *trajectory.mutable_predecessor() = *head->predecessor;
  trajectory.set_user_id(std::string(session.user_id));
  trajectory.set_stream_time_ms(head->stream_time_ms);
  trajectory.set_first_ms(session.events.front().time_ms);
  trajectory.set_last_ms(session.events.back().time_ms);
  trajectory.set_events(static_cast<std::uint32_t>(session.events_total));
  trajectory.set_end(session.end);
  SetVersions(&trajectory);
  if (auto next = NextStep(session.next_requests)) trajectory.mutable_next_step()->Swap(&*next);
  outcome.is_stub = MakeStubIfTooLarge(max_bytes, &trajectory);
  FUSELINE_CHECK(trajectory.AppendToString(bytes));
  return outcome;
}

}  // namespace fuseline::test
