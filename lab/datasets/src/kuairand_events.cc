#include "kuairand_events.h"

#include <algorithm>
#include <tuple>

#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr std::size_t kIdBytes = 16;  // Of a row's digest: 128 bits name it.

template <typename Add>
void ForEachKind(const KuaiRandRow& row, Add&& add) {
  add(v1::Feedback::WATCH);
  if (row.click) add(v1::Feedback::CLICK);
  if (row.duration_ms > 0 && row.play_ms >= row.duration_ms) add(v1::Feedback::COMPLETE);
  if (row.like) add(v1::Feedback::LIKE);
  if (row.forward) add(v1::Feedback::SHARE);
  if (row.comment) add(v1::Feedback::COMMENT);
  if (row.follow) add(v1::Feedback::FOLLOW);
  if (row.profile) add(v1::Feedback::PROFILE);
  if (row.hate) add(v1::Feedback::DISLIKE);
}

}  // namespace

std::vector<PlannedEvent> PlanEvents(const std::vector<KuaiRandRow>& rows) {
  std::vector<PlannedEvent> plan;
  plan.reserve(rows.size() * 3);
  for (std::uint32_t r = 0; r < rows.size(); ++r) {
    plan.push_back({rows[r].time_ms, r, 0});
    ForEachKind(rows[r], [&](v1::Feedback::Kind kind) {
      plan.push_back({rows[r].feedback_ms(), r, static_cast<std::uint8_t>(kind)});
    });
  }
  std::sort(plan.begin(), plan.end(), [](const auto& a, const auto& b) {
    return std::tie(a.time_ms, a.row, a.kind) < std::tie(b.time_ms, b.row, b.kind);
  });
  return plan;
}

std::string KindName(const PlannedEvent& planned) {
  return planned.kind == 0 ? "EXPOSURE" : v1::Feedback::Kind_Name(static_cast<v1::Feedback::Kind>(planned.kind));
}

EventMaker::EventMaker(FeatureTable users, FeatureTable videos, std::string schema_digest,
                       const v1::ActionRanges& ranges)
    : users_(std::move(users)), videos_(std::move(videos)) {
  common_.set_schema_digest(std::move(schema_digest));
  common_.set_arm("static");
  *common_item_.mutable_baseline_action() = ranges.static_action();
  *common_item_.mutable_executed_action() = ranges.static_action();
}

void EventMaker::MakeExposure(const KuaiRandRow& row, const KuaiRandScores& scores, v1::Exposure* exposure) const {
  *exposure = common_;
  exposure->set_surface("tab_" + std::to_string(row.tab));
  *exposure->mutable_context_features() = KuaiRandContext(row);
  // Without a row in its table a user or video keeps empty features: the schema's defaults stand in.
  if (const auto user = users_.find(row.user_id); user != users_.end()) {
    *exposure->mutable_user_features() = user->second;
  }
  auto& item = *exposure->add_items();
  item = common_item_;
  item.set_item_id(std::to_string(row.video_id));
  if (const auto video = videos_.find(row.video_id); video != videos_.end()) {
    *item.mutable_item_features() = video->second;
  }
  item.mutable_task_scores()->Add(scores.begin(), scores.end());
}

void EventMaker::Make(const PlannedEvent& planned, const KuaiRandRow& row, const KuaiRandScores& scores,
                      v1::Event* event) const {
  const std::string id = ToHex(std::string_view(row.digest).substr(0, kIdBytes));
  event->Clear();
  event->set_event_id(id + "-" + std::to_string(planned.kind));
  event->set_user_id(std::to_string(row.user_id));
  event->set_event_time_ms(planned.time_ms);
  if (planned.kind == 0) {
    MakeExposure(row, scores, event->mutable_exposure());
    event->mutable_exposure()->set_request_id(id);
    return;
  }
  auto& feedback = *event->mutable_feedback();
  feedback.set_request_id(id);
  feedback.set_item_id(std::to_string(row.video_id));
  feedback.set_kind(static_cast<v1::Feedback::Kind>(planned.kind));
  if (planned.kind == v1::Feedback::WATCH || planned.kind == v1::Feedback::COMPLETE) {
    feedback.set_watch_ms(row.play_ms);
    feedback.set_item_duration_ms(row.duration_ms);
  }
}

}  // namespace fuseline
