#include "fuseline/sessionizer/reward.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

void AddFeedback(const v1::Feedback& feedback, v1::RewardComponents* reward) {
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

bool IsUnknown(const v1::Feedback& feedback) {
  return feedback.kind() == v1::Feedback::UNSPECIFIED || !v1::Feedback::Kind_IsValid(feedback.kind());
}

// The requests of one session on their way into steps.
class StepBuilder {
 public:
  void AddExposure(std::int64_t time_ms, v1::Exposure* exposure, SessionOutcome* outcome) {
    const auto [place, is_new] = step_of_request_.try_emplace(exposure->request_id(), steps_.size());
    if (is_new) {
      v1::Step& step = steps_.emplace_back();
      step.set_event_time_ms(time_ms);
      step.mutable_exposure()->Swap(exposure);
      for (int i = 0; i < step.exposure().items_size(); ++i) AddItem(place->second, step.exposure().items(i).item_id(), i);
    } else {
      ++outcome->repeated_exposures;
      AddMissingItems(place->second, exposure);
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

  std::vector<v1::Step> Finish() && {
    std::stable_sort(steps_.begin(), steps_.end(), [](const v1::Step& a, const v1::Step& b) {
      return std::pair(a.event_time_ms(), std::string_view(a.exposure().request_id())) <
             std::pair(b.event_time_ms(), std::string_view(b.exposure().request_id()));
    });
    return std::move(steps_);
  }

 private:
  void AddItem(std::size_t step, const std::string& item_id, int index) {
    reward_of_item_.try_emplace({step, item_id}, index);
    steps_[step].add_rewards();
  }

  void AddMissingItems(std::size_t step, v1::Exposure* exposure) {
    for (v1::ExposedItem& item : *exposure->mutable_items()) {
      if (reward_of_item_.contains({step, item.item_id()})) continue;
      v1::ExposedItem* added = steps_[step].mutable_exposure()->add_items();
      added->Swap(&item);
      AddItem(step, added->item_id(), steps_[step].exposure().items_size() - 1);
    }
  }

  std::vector<v1::Step> steps_;
  std::map<std::string, std::size_t, std::less<>> step_of_request_;
  std::map<std::pair<std::size_t, std::string>, int> reward_of_item_;
};

void ParsePayload(const OpenEvent& event, v1::Event* message) {
  FUSELINE_CHECK(message->ParseFromString(event.payload));  // Serialised here, and checked when read from disk.
}

std::optional<v1::Step> NextStep(const SessionEvents& requests) {
  std::optional<v1::Step> next;
  v1::Event message;
  for (const OpenEvent& event : requests) {
    ParsePayload(event, &message);
    if (next && next->exposure().request_id() <= message.exposure().request_id()) continue;
    if (!next) next.emplace();
    next->set_event_time_ms(event.time_ms);
    next->mutable_exposure()->Swap(message.mutable_exposure());
  }
  return next;
}

void SetVersions(v1::Trajectory* trajectory) {
  const auto [oldest, newest] = std::minmax_element(
      trajectory->steps().begin(), trajectory->steps().end(), [](const v1::Step& a, const v1::Step& b) {
        return a.exposure().policy_version() < b.exposure().policy_version();
      });
  trajectory->set_oldest_policy_version(oldest->exposure().policy_version());
  trajectory->set_newest_policy_version(newest->exposure().policy_version());
}

void MakeStubIfTooLarge(std::int64_t max_bytes, v1::Trajectory* trajectory) {
  const auto bytes = static_cast<std::int64_t>(trajectory->ByteSizeLong());
  if (bytes <= max_bytes) return;
  trajectory->clear_steps();
  trajectory->clear_next_step();
  trajectory->set_stub_reason("trajectory of " + std::to_string(bytes) + " bytes exceeds max_trajectory_bytes " +
                              std::to_string(max_bytes));
}

}  // namespace

SessionOutcome BuildTrajectory(std::string_view user_id, const ClosedSession& session, std::int64_t max_bytes) {
  SessionOutcome outcome;
  StepBuilder builder;
  std::vector<v1::Feedback> feedback;  // Joined last: it may be older than its exposure.
  v1::Event message;
  for (const OpenEvent& event : session.events) {
    if (event.payload.empty()) {
      ++outcome.left_out;
      continue;
    }
    ParsePayload(event, &message);
    if (event.is_exposure) {
      builder.AddExposure(event.time_ms, message.mutable_exposure(), &outcome);
    } else {
      feedback.emplace_back().Swap(message.mutable_feedback());
    }
  }
  for (const v1::Feedback& each : feedback) {
    if (!builder.AddFeedbackToItem(each)) ++outcome.orphans;
    if (IsUnknown(each)) ++outcome.unknown_kinds;
  }

  std::vector<v1::Step> steps = std::move(builder).Finish();
  if (steps.empty()) return outcome;
  v1::Trajectory& trajectory = outcome.trajectory.emplace();
  trajectory.set_user_id(std::string(user_id));
  trajectory.set_first_ms(session.first_ms());
  trajectory.set_last_ms(session.last_ms());
  trajectory.set_events(static_cast<std::uint32_t>(session.events.size()));
  trajectory.set_end(session.end);
  trajectory.mutable_steps()->Reserve(static_cast<int>(steps.size()));
  for (v1::Step& step : steps) trajectory.add_steps()->Swap(&step);
  SetVersions(&trajectory);
  if (auto next = NextStep(session.next_requests)) trajectory.mutable_next_step()->Swap(&*next);
  MakeStubIfTooLarge(max_bytes, &trajectory);
  return outcome;
}

}  // namespace fuseline
